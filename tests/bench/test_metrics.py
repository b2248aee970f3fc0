"""chatstream.bench.metrics: the log's latencies are those that a stream's own report has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bench.log import Log
from chatstream.bench.metrics import (
    FROM_CALL,
    LATENCIES,
    ORIGINS,
    SHORT,
    Series,
    count,
    first,
    first_event_tokens,
    inter_chunk_latencies,
    last,
    series,
    time_per_output_token,
)
from chatstream.bench.record import KINDS, OUTPUT, TOKENS, RequestRecord
from chatstream.completion import CompletionTokensDetails, Usage
from chatstream.marks import ConnectionMarks, Marks
from chatstream.report import report_of
from tests.bench.records import log, record

EVERYONE = np.array([True])


def values(found):
    return found.values.round(9).tolist()


# --- One stream by hand ------------------------------------------------------


def test_every_latency_of_one_stream():
    """
    From the call, from when it was sent, and from when it was due.
    """
    stream = record(
        1.5, 1.6, 1.8, 2.1, 2.2,
        kinds="-rccf", scheduled=0.9, created=1.0, sent=1.1, first_byte=1.4, first_chunk=1.5,
        end=2.5, prompt_tokens=7, completion_tokens=5, reasoning_tokens=2,
    )  # fmt: skip
    found = series(log(stream))
    expected = {
        "time_to_first_byte": 0.4,
        "time_to_first_chunk": 0.5,
        "time_to_first_token": 0.6,
        "time_to_first_output": 0.8,
        "duration": 1.1,
    }
    from_sent = {f"{name}_from_sent": value - 0.1 for name, value in expected.items()}
    from_schedule = {f"{name}_from_schedule": value + 0.1 for name, value in expected.items()}
    others = {
        "stream_end": 1.5,
        "dispatch_delay": 0.1,
        "time_per_output_token": 0.5 / 4,
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "reasoning_tokens": 2,
    }
    gaps = found.pop("inter_chunk_latency")

    assert [0.2, 0.3] == values(gaps)
    assert [0, 0] == gaps.owners.tolist()
    assert {
        name: pytest.approx([value])
        for name, value in (expected | from_sent | from_schedule | others).items()
    } == {name: each.values.tolist() for name, each in found.items()}


def test_metrics_are_named_and_have_units():
    found = series(log(record(0.1)))
    tokens = {"prompt_tokens", "completion_tokens", "reasoning_tokens"}

    assert {*LATENCIES, *tokens} == set(found)
    assert tokens == {name for name, each in found.items() if each.unit == "tokens"}
    assert {"s", "tokens"} == {each.unit for each in found.values()}
    assert set(SHORT.values()) <= set(LATENCIES)
    assert {f"{name}_{origin}" for name in FROM_CALL for origin in ORIGINS} <= set(LATENCIES)


def test_what_was_not_observed_has_no_value():
    """
    An empty series, not one of zeros.
    """
    found = series(log(record(0.1, 0.2, kinds="-f")))

    assert [0.0] == found["dispatch_delay"].values.tolist()
    assert [0.2] == values(found["stream_end"])
    assert {"dispatch_delay", "stream_end"} == {n for n, each in found.items() if len(each.values)}


def test_a_failed_stream_is_in_no_latency_but_its_own_lateness():
    """
    A server that gives up early must not look fast. How late the client was is the client's.
    """
    bad = record(
        0.2, 0.3, created=0.1, scheduled=0.05, sent=0.15, first_byte=0.2, first_chunk=0.2,
        verdict="truncated", prompt_tokens=5, completion_tokens=9, reasoning_tokens=1,
    )  # fmt: skip
    found = series(log(bad))

    assert [0.05] == values(found.pop("dispatch_delay"))
    assert [0] * len(found) == [len(each.values) for each in found.values()]


def test_values_know_whose_they_are():
    found = series(
        log(
            record(0.5, created=0.0, verdict="timeout"),
            record(1.1, 1.2, 1.4, created=1.0),
            record(created=2.0),
            record(3.5, 3.6, created=3.0),
        )
    )

    assert [1, 3] == found["time_to_first_token"].owners.tolist()
    assert [0.1, 0.5] == values(found["time_to_first_token"])
    assert [1, 1, 3] == found["inter_chunk_latency"].owners.tolist()
    assert [0.1, 0.2, 0.1] == values(found["inter_chunk_latency"])


def test_an_empty_log_has_every_metric_and_no_value():
    found = series(log())

    assert set(LATENCIES) < set(found)
    assert all(0 == len(each.values) == len(each.owners) for each in found.values())


def test_a_column_becomes_a_series_without_its_gaps():
    found = Series.of(np.array([np.nan, 2.0, np.nan, 0.0]), "tokens")

    assert [2.0, 0.0] == found.values.tolist()
    assert [1, 3] == found.owners.tolist()
    assert "tokens" == found.unit


# --- Parts -------------------------------------------------------------------


def test_first_last_and_number_of_chosen_events():
    found = log(
        record(0.1, 0.2, 0.3, 0.4, kinds="-ccf"), record(created=0.2), record(0.6, created=0.5)
    )
    chosen = found.of_kinds("c")

    np.testing.assert_equal(first(found, chosen), [0.2, np.nan, 0.6])
    np.testing.assert_equal(last(found, chosen), [0.3, np.nan, 0.6])
    assert [2, 0, 1] == count(found, chosen).tolist()


def test_gaps_are_within_a_choice():
    """
    The choices of a stream take turns; a gap between two of them means nothing.
    """
    stream = record(0.1, 0.11, 0.15, 0.19, 0.21, choices=[0, 1, 0, 1, 0])
    found = inter_chunk_latencies(log(stream), EVERYONE)

    assert [0.05, 0.06, 0.08] == values(found)


def test_gaps_of_many_choices_and_requests_are_in_the_order_of_requests():
    found = inter_chunk_latencies(
        log(
            record(0.1, 0.2, 0.4, 0.7, choices=[1, 0, 1, 0]),
            record(1.1, 1.3, created=1.0),
        ),
        np.array([True, True]),
    )

    assert [0, 0, 1] == found.owners.tolist()
    assert [0.5, 0.3, 0.2] == values(found)


def test_events_of_one_read_are_no_time_apart():
    assert [0.0] == values(inter_chunk_latencies(log(record(0.1, 0.1)), EVERYONE))


@pytest.mark.parametrize(
    ("expected", "facts"),
    [
        (0.1, {"completion_tokens": 5}),  # 0.4 s for the four after the first
        (0.4, {"completion_tokens": 2}),
        (np.nan, {}),  # the server didn't count
        (np.nan, {"completion_tokens": 1}),  # nothing after the first
        (np.nan, {"completion_tokens": 0}),
        (0.2, {"completion_tokens": 5, "tokens": [3, 4, 5]}),  # the first event held three
        (np.nan, {"completion_tokens": 3, "tokens": [3, 3, 3]}),
        (0.1, {"completion_tokens": 25, "reasoning_tokens": 20}),  # hidden: in none of the events
        (0.4 / 24, {"completion_tokens": 25, "reasoning_tokens": 20, "kinds": "rcc"}),
        (0.2, {"completion_tokens": 25, "reasoning_tokens": 20, "tokens": [23, 24, 25]}),
        (0.1, {"completion_tokens": 5, "tokens": [-1, 4, 5]}),
        (np.nan, {"completion_tokens": 5, "choices": [0, 1, 0]}),
        (0.1, {"completion_tokens": 5, "choices": [1, 1, 1]}),
        (0.05, {"completion_tokens": 5, "choices": [0, 0, 1], "kinds": "ccf"}),
        (np.nan, {"completion_tokens": 5, "kinds": "-f-"}),
    ],
)
def test_time_per_output_token_is_what_came_after_the_first_event(expected, facts):
    """
    (last - first) / (N - n1), without reasoning that nobody saw.
    """
    found = time_per_output_token(log(record(0.1, 0.3, 0.5, **facts)))

    np.testing.assert_allclose(found, [expected])


def test_only_answers_of_several_choices_lack_a_time_per_token():
    """
    They stand beside others, before and after.
    """
    facts = {"completion_tokens": 5, "choices": [0, 1, 0]}
    streams = log(
        *(
            record(at + 0.1, at + 0.3, at + 0.5, created=at, **(facts | changes))
            for at, changes in enumerate(({"choices": [2, 2, 2]}, {}, {"choices": []}, {}))
        )
    )

    np.testing.assert_allclose(time_per_output_token(streams), [0.1, np.nan, 0.1, np.nan])


def test_tokens_of_the_first_event_are_those_that_it_shows():
    """
    One where the server doesn't count along, and at least one where its count is odd.
    """
    found = log(
        record(0.1, 0.2, tokens=[4, 5], kinds="-c"),
        record(0.1, 0.2, created=0.1),
        record(created=0.2),
        record(0.4, created=0.3, tokens=[12]),
        record(0.5, created=0.4, tokens=[3]),
    )
    counts = first_event_tokens(found, found.of_kinds(TOKENS), np.array([0, 0, 0, 10.0, 10.0]))

    assert [5, 1, 1, 2, 1] == counts.tolist()


# --- Any stream --------------------------------------------------------------

events = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 2), st.sampled_from(sorted(KINDS))), max_size=12
)


@given(
    events=events,
    one_choice=st.booleans(),
    completion_tokens=st.none() | st.integers(0, 20),
    reasoning_tokens=st.none() | st.integers(0, 5),
)
def test_any_stream_has_the_latencies_of_its_report(
    events, one_choice, completion_tokens, reasoning_tokens
):
    """
    A service's metrics and a benchmark's figures of the same stream must not differ.
    """
    marks = Marks(created_ns=1000, connection=ConnectionMarks(started_ns=1000, first_byte_ns=1500))
    record = RequestRecord(
        number=0, scheduled_ns=900, created_ns=1000, sent_ns=1200, first_byte_ns=1500, end_ns=9000,
        verdict="finished", completion_tokens=completion_tokens, reasoning_tokens=reasoning_tokens,
    )  # fmt: skip
    marks.connection.sent_ns, marks.scheduled_ns, marks.end_ns = 1200, 900, 9000
    at_ns = 2000
    for gap, choice, kind in events:
        at_ns += gap
        index = 0 if one_choice else choice
        record.arrivals_ns.append(at_ns)
        record.choices.append(index)
        record.kinds += kind
        if marks.first_chunk_ns is None:
            marks.first_chunk_ns = record.first_chunk_ns = at_ns
        if kind in TOKENS:
            marks.token(index, at_ns, output=kind in OUTPUT)
    details = CompletionTokensDetails(reasoning_tokens=reasoning_tokens)
    usage = Usage(completion_tokens=completion_tokens, completion_tokens_details=details)
    report = report_of(marks, verdict="finished", usage=usage)
    found = series(Log.of([record]))

    for name in LATENCIES:
        if name != "inter_chunk_latency":
            expected = getattr(report, name)
            assert ([] if expected is None else [pytest.approx(expected, abs=1e-15)]) == (
                found[name].values.tolist()
            ), name
    assert report.inter_chunk_latencies == tuple(found["inter_chunk_latency"].values)
