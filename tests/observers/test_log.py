"""chatstream.observers.log."""

import logging

import pytest

from chatstream.completion import Verdict
from chatstream.observers.log import LogObserver
from chatstream.report import Attempt, StreamReport


def report(verdict=Verdict.FINISHED, **figures):
    return StreamReport(verdict=verdict, created_ns=0, stream_id=7, model="gpt", **figures)


def test_a_line_holds_the_figures(caplog):
    """
    What one greps for when a service was slow.
    """
    known = report(
        time_to_first_token=0.25,
        duration=1.5,
        token_events=4,
        inter_chunk_latencies=(0.1, 0.3, 0.2),
        completion_tokens=9,
        attempts=(Attempt(number=1, started=0.0),),
        request_id="req-1",
    )
    with caplog.at_level(logging.INFO):
        LogObserver().stream_ended(known)

    expected = (
        "stream 7 model=gpt verdict=finished ttft=0.2500s duration=1.5000s chunks=4 "
        "worst_gap=0.3000s tokens=9 attempts=1 request_id=req-1"
    )
    (record,) = caplog.records
    assert ("chatstream.streams", logging.INFO) == (record.name, record.levelno)
    assert expected == record.getMessage()
    assert known is record.chatstream_report


def test_a_line_has_dashes_for_what_was_not_seen(caplog):
    """
    A 0 would look like a very fast server.
    """
    LogObserver().stream_ended(report(Verdict.CONNECT_ERROR))

    expected = (
        "stream 7 model=gpt verdict=connect_error ttft=- duration=- chunks=0 worst_gap=- "
        "tokens=None attempts=0 request_id=None"
    )
    assert [expected] == caplog.messages


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_bad_end_is_a_warning(caplog, verdict):
    """
    What a caller did (close, cancel) isn't one; an answer that is cut or missing is.
    """
    good = {"finished", "length", "content_filter", "closed", "cancelled"}

    with caplog.at_level(logging.DEBUG):
        LogObserver(level=logging.DEBUG).stream_ended(report(verdict))

    expected = logging.DEBUG if verdict in good else logging.WARNING
    assert [expected] == [record.levelno for record in caplog.records]


def test_a_service_logs_where_it_likes(caplog):
    """
    To its own logger, with its own name.
    """
    with caplog.at_level(logging.INFO):
        LogObserver(logging.getLogger("mine")).stream_ended(report())

    assert ["mine"] == [record.name for record in caplog.records]
