"""The main figures as text."""

import pytest

from chatstream.bench.output.rows import (
    HEADLINE_COLUMNS,
    OUTCOMES,
    headline_rows,
    milliseconds,
    number,
    outcome,
    percent,
)
from chatstream.bench.record import NOT_ATTEMPTED
from chatstream.completion import Verdict

FIGURE = {
    "n": 1234,
    "p50": 0.0523,
    "p90": 0.06,
    "p95": 0.07,
    "p99": 0.0881,
    "p999": 1.234,
    "ci": {"p50": [0.051, 0.053], "p99": [0.08, 0.0971], "p999": None, "mean": [1, 2]},
    "unsure": ["p999"],
}
CLOSED = {"request_rate": None, "schedule": None}


def summary_with(**metrics):
    return {"metrics": metrics, "plan": {"load": CLOSED}}


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("–", None), ("0.00", 0.0), ("<0.001", 0.0004), ("0.001", 0.001), ("0.042", 0.042),
        ("0.10", 0.0999), ("0.90", 0.9), ("5.23", 5.234), ("10.0", 9.999), ("52.3", 52.34),
        ("100", 99.96), ("523", 523.4), ("1,234", 1234.4), ("-5.00", -5.0),
    ],
)  # fmt: skip
def test_numbers_have_about_three_digits(expected, value):
    assert expected == number(value)


def test_seconds_are_shown_as_milliseconds():
    assert ("52.3", "–") == (milliseconds(0.0523), milliseconds(None))


@pytest.mark.parametrize(
    ("expected", "share"), [("–", None), ("0 %", 0.0), ("99.2 %", 0.9921), ("100 %", 1.0)]
)
def test_shares_are_shown_as_percentages(expected, share):
    assert expected == percent(share)


def test_every_outcome_has_words():
    assert {*Verdict, NOT_ATTEMPTED} == set(OUTCOMES)
    assert "cut in transit" == outcome("truncated")
    assert "something new" == outcome("something new")


def test_a_row_has_percentiles_in_milliseconds():
    (row,) = headline_rows(summary_with(time_to_first_token=FIGURE))
    expected = ("time to first token", "1,234", "52.3", "60.0", "88.1", "1,234?")

    assert expected == row.cells
    assert len(HEADLINE_COLUMNS) == len(row.cells)
    assert {"p50": "51.0–53.0", "p99": "80.0–97.1"} == row.intervals


@pytest.mark.parametrize(("expected", "unsure"), [(False, []), (False, ["p95"]), (True, ["p99"])])
def test_a_row_says_if_a_figure_is_unsure(expected, unsure):
    (row,) = headline_rows(summary_with(time_to_first_token=FIGURE | {"unsure": unsure}))

    assert expected == row.unsure


def test_one_request_has_no_intervals():
    (row,) = headline_rows(summary_with(time_to_first_token=FIGURE | {"ci": None}))

    assert {} == row.intervals


@pytest.mark.parametrize("nothing", [None, FIGURE | {"n": 0}])
def test_what_was_not_observed_has_no_row(nothing):
    rows = headline_rows(summary_with(time_to_first_token=FIGURE, duration=nothing))

    assert ["time_to_first_token"] == [row.metric for row in rows]


def test_the_first_output_has_a_row_if_something_reasoned():
    later = FIGURE | {"p50": 0.2}
    same = headline_rows(summary_with(time_to_first_token=FIGURE, time_to_first_output=FIGURE))
    other = headline_rows(summary_with(time_to_first_token=FIGURE, time_to_first_output=later))

    assert ["time to first token"] == [row.label for row in same]
    assert ["time to first token", "time to first output"] == [row.label for row in other]


@pytest.mark.parametrize(
    "load", [CLOSED | {"request_rate": 8.0}, CLOSED | {"schedule": [0.0, 1.0]}]
)
def test_an_open_load_has_latencies_from_its_schedule(load):
    """
    They hold the wait that a slow server imposes on those who come next.
    """
    metrics = dict.fromkeys(("duration", "duration_from_schedule"), FIGURE)
    summary = summary_with(time_to_first_token=None, **metrics)
    expected = ["duration", "duration, from schedule"]

    assert ["duration"] == [row.label for row in headline_rows(summary)]
    assert expected == [row.label for row in headline_rows(summary | {"plan": {"load": load}})]
    assert expected == [row.label for row in headline_rows(summary | {"load": load})]


def test_a_run_without_a_plan_has_rows():
    summary = summary_with(time_to_first_token=FIGURE) | {"plan": None}

    assert 1 == len(headline_rows(summary))
