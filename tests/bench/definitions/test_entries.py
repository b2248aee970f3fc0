"""chatstream.bench.definitions.entries: numbers with their formula."""

import math

import numpy as np

from chatstream.bench.definitions.entries import Formula, finite, per_second, seen, told

FORMULA = Formula("s", "a − b", "file.py#function", "Surprising.")


def test_many_values_get_their_statistics():
    """
    Of 0.1, 0.2, 0.3, 0.4 the mean is 0.25, the variance 0.0125, p50 half-way between 0.2 and
    0.3, and p90 at place 2.7 of 0 to 3: 0.3 + 0.7 · 0.1.
    """
    found = FORMULA.spread(np.array([0.4, 0.1, 0.3, 0.2]), "", "Odd.", percentiles={"p90": 90.0})

    assert ["unit", "n", "mean", "std", "min", "max", "p90", "formula", "source", "note"] == [
        *found
    ]
    assert ("s", 4, 0.1, 0.4) == (found["unit"], found["n"], found["min"], found["max"])
    assert math.isclose(0.25, found["mean"])
    assert math.isclose(math.sqrt(0.0125), found["std"])
    assert math.isclose(0.37, found["p90"])
    assert ("a − b", "file.py#function") == (found["formula"], found["source"])
    assert "Surprising. Odd." == found["note"]


def test_without_a_value_there_is_no_statistic():
    """
    None, and not 0, which would be a latency.
    """
    found = Formula("s", "a − b", "file.py#function").spread(np.array([]))

    assert 0 == found["n"]
    assert {None} == {found[name] for name in ("mean", "std", "min", "max", "p50", "p999", "note")}


def test_one_value_is_as_json_can_hold_it():
    found = FORMULA.value(math.nan, 3)

    assert (3, None) == (found["n"], found["value"])
    assert 0.5 == FORMULA.value(0.5, 3)["value"]
    assert [None, None, None, 2.0] == [finite(each) for each in (None, math.inf, math.nan, 2.0)]


def test_a_rate_needs_time():
    assert 4.0 == per_second(2, 0.5)
    assert math.isnan(per_second(2, 0.0))
    assert math.isnan(per_second(2, math.nan))


def test_a_note_counts_requests_if_there_are_any():
    assert "1 of 2 requests slept." == told(np.array([True, False]), "slept.")
    assert "" == told(np.array([False, False]), "slept.")


def test_what_was_not_seen_is_left_out():
    assert [1.0, 0.0] == seen(np.array([1.0, np.nan, 0.0])).tolist()
