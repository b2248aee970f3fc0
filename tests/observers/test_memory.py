"""chatstream.observers.memory."""

import pytest

from chatstream import ChatStream
from chatstream.completion import Verdict
from chatstream.observers.memory import MemoryRecorder
from chatstream.report import StreamReport
from chatstream.testing.clock import FakeClock
from chatstream.testing.scripted import scripted


def report(verdict=Verdict.FINISHED, model="a", first=None, gaps=(), duration=None):
    return StreamReport(
        verdict=verdict,
        created_ns=0,
        model=model,
        time_to_first_token=first,
        inter_chunk_latencies=gaps,
        duration=duration,
    )


def recorder(*reports, **options):
    recorder = MemoryRecorder(**options)
    for one in reports:
        recorder.stream_ended(one)
    return recorder


def test_latencies_are_those_of_streams_that_ended_well():
    """
    A stream that broke was short for another reason; cut by its limit, it ended well.
    """
    found = recorder(
        report(first=0.1, gaps=(0.01, 0.02), duration=0.13),
        report(Verdict.LENGTH, first=0.2, gaps=(0.03,), duration=0.23),
        report(Verdict.CONTENT_FILTER, first=0.3, duration=0.3),
        report(Verdict.TRUNCATED, first=9.0, gaps=(9.0,), duration=9.0),
        report(Verdict.CLOSED, first=9.0, gaps=(9.0,), duration=9.0),
        report(Verdict.CONNECT_ERROR),
    )

    assert [0.1, 0.2, 0.3] == found.times_to_first_token()
    assert [0.01, 0.02, 0.03] == found.inter_chunk_latencies()
    assert {
        "time_to_first_token": {0.5: 0.2},
        "inter_chunk_latency": {0.5: 0.02},
        "duration": {0.5: 0.23},
    } == found.percentiles(shares=(share for share in (0.5,)))


def test_failures_are_counted_beside_the_latencies():
    """
    Dropped, they would make the figures look better than the service.
    """
    found = recorder(report(), report(), report(Verdict.TIMEOUT))

    assert {Verdict.FINISHED: 2, Verdict.TIMEOUT: 1} == found.outcomes


def test_an_answer_without_tokens_has_no_latency():
    """
    It counts as an outcome and nothing else.
    """
    found = recorder(report())

    assert [] == found.times_to_first_token()
    assert {0.5: None, 0.9: None, 0.99: None} == found.percentiles()["duration"]


def test_models_are_told_apart():
    """
    A mean over two models describes neither.
    """
    found = recorder(
        report(model="b", first=0.2, gaps=(0.02,), duration=0.2),
        report(model="a", first=0.1, gaps=(0.01,), duration=0.1),
        report(model=None, first=0.3),
    )

    assert ["a", "b"] == found.models
    assert [0.1] == found.times_to_first_token("a")
    assert [0.02] == found.inter_chunk_latencies("b")
    assert pytest.approx(0.2) == found.percentiles("b")["duration"][0.99]
    assert [0.2, 0.1, 0.3] == found.times_to_first_token()
    assert [] == found.times_to_first_token("c")


def test_the_oldest_reports_make_room():
    """
    A service runs for months; what it counted is kept.
    """
    found = recorder(*(report(first=float(n)) for n in range(5)), maxlen=2)

    assert [3.0, 4.0] == found.times_to_first_token()
    assert 5 == found.outcomes.total()


async def test_a_stream_leaves_its_report():
    """
    The recorder is an observer like any other.
    """
    clock, found = FakeClock(), MemoryRecorder()
    answer = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'
    source = scripted(clock, (0.25, answer))

    async with ChatStream(source, clock=clock, observers=[found]) as stream:
        await stream.collect()

    assert [stream.report] == list(found.reports)
    assert [0.25] == found.times_to_first_token("scripted")
