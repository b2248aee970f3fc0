"""What the page draws, against the log it is made of."""

import math
from array import array

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bench.log import Log
from chatstream.bench.metrics import inter_chunk_latencies, series
from chatstream.bench.output import page
from chatstream.bench.output.page import FLOOR, LEVELS, PER_DECADE, level, page_data
from chatstream.bench.record import TOKENS, RequestRecord
from tests.bench.runs import MS, S, SimulatedRun, summary_of

NO_WINDOWS = {"stages": [], "targets": [], "steady_state": None}


def request(number=0, *, at=0.0, arrivals=(), **changes):
    """One that was called at a moment and whose tokens came so many ms after it."""
    created = int(at * S)
    last = max(arrivals, default=0)
    known = {
        "scheduled_ns": created,
        "created_ns": created,
        "end_ns": created + int(last * MS),
        "arrivals_ns": array("q", (created + int(each * MS) for each in arrivals)),
        "kinds": "c" * len(arrivals),
        "verdict": "finished",
    }
    return RequestRecord(number=number, **(known | changes))


def data_of(*records, **summary):
    return page_data(Log.of(records), NO_WINDOWS | summary)


def gaps_of(data):
    """The counts of gaps by level, of all groups and slices."""
    found = np.zeros(LEVELS, int)
    for group in data["groups"]:
        np.add.at(found, np.asarray(group["cells"]) % LEVELS, group["counts"])
    return found


# --- Requests --------------------------------------------------------------------


def test_moments_are_seconds_from_the_call():
    record = request(
        7,
        at=2.0,
        scheduled_ns=int(1.9 * S),
        sent_ns=2 * S + 1 * MS,
        arrivals=(50, 60, 80),
        kinds="rcc",
        end_ns=2 * S + 90 * MS,
    )
    requests = data_of(record)["requests"]
    expected = {
        "number": 7,
        "created": 2.0,
        "scheduled": -0.1,
        "sent": 0.001,
        "first_token": 0.05,
        "first_output": 0.06,
        "last_token": 0.08,
        "end": 0.09,
        "gap": 0.02,
        "gap_end": 0.08,
        "chunks": 3,
    }

    assert expected == {name: requests[name][0] for name in expected}


def test_what_was_not_observed_is_nan():
    requests = data_of(request(verdict="connect_error"))["requests"]
    unknown = ("sent", "headers", "first_token", "first_output", "last_token", "tpot", "gap")

    assert all(math.isnan(requests[name][0]) for name in unknown)


def test_latencies_are_those_of_the_figures(a_log, a_summary):
    requests = page_data(a_log, a_summary)["requests"]
    good = a_log.good
    names = {
        "time_to_first_token": "first_token",
        "duration": "last_token",
        "time_per_output_token": "tpot",
    }
    for name, column in names.items():
        values = requests[column][good]
        np.testing.assert_allclose(series(a_log)[name].values, values, atol=1e-6)


def test_outcomes_and_errors_are_places_in_lists():
    data = data_of(
        request(0, verdict="timeout", error="IdleTimeoutError", detail="no token for 3 s"),
        request(1, at=1),
        request(2, at=2),
    )
    requests = data["requests"]

    assert [
        {"name": "finished", "good": True},
        {"name": "timeout", "good": False},
    ] == data["outcomes"]
    assert [1, 0, 0] == requests["outcome"].tolist()
    assert ["", "IdleTimeoutError"] == requests["errors"]
    assert [1, 0, 0] == requests["error"].tolist()
    assert "no token for 3 s" == requests["details"][requests["detail"][0]]


def test_of_many_different_errors_the_frequent_are_told(monkeypatch):
    """
    A server whose every error holds an id must not make the page large.
    """
    monkeypatch.setattr(page, "_MOST_DETAILS", 2)
    records = [
        request(place, at=place, verdict="timeout", detail=detail)
        for place, detail in enumerate(["a", "b", "b", "c", "c"])
    ]
    requests = data_of(*records)["requests"]

    assert ["b", "c"] == requests["details"]
    assert [-1, 0, 0, 1, 1] == requests["detail"].tolist()


def test_texts_are_on_printable_lines():
    """
    Some characters turn text around or break lines where none should be.
    """
    data = data_of(
        request(verdict="timeout", error="A\u202eB", detail="C\nD\u2028E"),
        plan={"model\n": ["x\ud800", 1, None]},
    )

    assert ["A B"] == data["requests"]["errors"]
    assert ["C D E"] == data["requests"]["details"]
    assert {"model": ["x", 1, None]} == data["summary"]["plan"]


def test_answers_are_shown_only_if_they_were_kept():
    assert data_of(request())["requests"]["text"] is None
    assert ["one\ntwo\ufffd", None] == data_of(request(text="one\ntwo\u202e"), request(1, at=1))[
        "requests"
    ]["text"]


def test_long_answers_are_cut(monkeypatch):
    monkeypatch.setattr(page, "_TEXT", 4)
    monkeypatch.setattr(page, "_ALL_TEXTS", 6)
    records = [request(place, at=place, text="123456789") for place in range(3)]

    assert ["1234…", "1234…", None] == data_of(*records)["requests"]["text"]


# --- The steady state --------------------------------------------------------------


def test_requests_made_in_the_steady_state_are_marked():
    records = [request(place, at=place, warmup=place == 1) for place in range(5)]
    data = data_of(*records, steady_state={"start": 1.0, "end": 3.0})

    assert [0, 0, 1, 1, 0] == data["requests"]["steady"].tolist()


@pytest.mark.parametrize(("of", "name"), [("stages", "stage"), ("targets", "target")])
def test_stages_and_targets_have_windows_of_their_own(of, name):
    records = [request(place, at=place, **{name: place % 2}) for place in range(4)]
    windows = [{"steady_state": {"start": 0.0, "end": 1.0}}, {"steady_state": None}]
    data = data_of(*records, **{of: windows})

    assert [1, 0, 0, 0] == data["requests"]["steady"].tolist()


# --- Gaps ------------------------------------------------------------------------


def test_gaps_are_counted_by_length_and_time():
    data = data_of(request(arrivals=(0, 10, 20, 1020), end_ns=2 * S))
    (group,) = data["groups"]
    slices, levels = np.divmod(group["cells"], LEVELS)

    assert {"start": 0.0, "width": 0.02, "count": 100} == data["slices"]
    assert [0, 1, 51] == slices.tolist()
    assert level(np.array([0.01, 0.01, 1.0])).tolist() == levels.tolist()
    assert [1, 1, 1] == list(group["counts"])


def test_no_gap_is_lost(a_log, a_summary):
    data = page_data(a_log, a_summary)
    expected = inter_chunk_latencies(a_log, np.ones(len(a_log), bool)).values

    assert np.array_equal(np.bincount(level(expected), minlength=LEVELS), gaps_of(data))


def test_a_level_is_narrow():
    """
    A percentile out of counts is wrong by no more than that.
    """
    values = np.geomspace(FLOOR, 99.0, 500)
    levels = level(values)
    starts = FLOOR * 10 ** ((levels - 1) / PER_DECADE)

    assert np.all(values >= starts * (1 - 1e-9))
    assert np.all(values <= starts * 10 ** (1 / PER_DECADE) * (1 + 1e-9))


def test_gaps_beyond_all_levels_are_counted_in_the_last():
    assert [0, 0, 1, LEVELS - 1] == level(np.array([0.0, FLOOR / 2, FLOOR * 1.01, 1e6])).tolist()


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("cr-"), st.integers(0, 2)), max_size=6), max_size=5)
)
def test_gaps_are_those_of_the_metric(streams):
    """
    Also if several choices take turns.
    """
    records = [
        request(
            place,
            at=place,
            arrivals=[10 * each**2 for each in range(len(events))],
            kinds="".join(kind for kind, _ in events),
            choices=[choice for _, choice in events],
        )
        for place, events in enumerate(streams)
    ]
    log = Log.of(records)
    expected = inter_chunk_latencies(log, np.ones(len(log), bool))
    gaps, ends, owners = page.gaps_and_ends(log, log.of_kinds(TOKENS), 0, len(log))

    assert expected.values.tolist() == gaps.tolist()
    assert expected.owners.tolist() == owners.tolist()
    assert np.all(ends > log.created[owners])


def test_the_first_of_equally_long_gaps_is_told():
    requests = data_of(request(arrivals=(10, 20, 25, 35)))["requests"]

    assert (0.01, 0.02) == (requests["gap"][0], requests["gap_end"][0])


# --- Groups and tokens ---------------------------------------------------------------


def test_groups_are_what_filters_can_tell_apart():
    data = data_of(
        request(0, arrivals=(1, 2)),
        request(1, at=1, target=1, arrivals=(1, 2, 3)),
        request(2, at=2, stage=1, verdict="timeout", arrivals=(1, 2, 3, 4)),
        request(3, at=3, warmup=True, arrivals=(1, 2, 3, 4, 5)),
    )
    names = ("target", "stage", "outcome", "steady", "warmup")
    found = {
        tuple(group[name] for name in names): int(np.sum(group["counts"]))
        for group in data["groups"]
    }

    assert {(0, 0, 0, 0, 0): 1, (1, 0, 0, 0, 0): 2, (0, 1, 1, 0, 0): 3, (0, 0, 0, 0, 1): 4} == found


def test_tokens_are_spread_over_chunks():
    """
    A chunk may hold several; which ones, only some servers tell.
    """
    data = data_of(request(arrivals=(0, 500, 900), completion_tokens=6, end_ns=S))
    tokens = data["groups"][0]["tokens"]

    assert 0.01 == data["slices"]["width"]
    assert {0: 2.0, 50: 2.0, 90: 2.0} == {place: tokens[place] for place in np.flatnonzero(tokens)}


def test_a_chunk_is_a_token_where_nobody_counted():
    (group,) = data_of(request(verdict="truncated", arrivals=(0, 1, 2)))["groups"]

    assert 3.0 == np.sum(group["tokens"])


@pytest.mark.parametrize("at_once", [1, 50, 700])
def test_a_log_in_parts_is_the_same(a_log, a_summary, monkeypatch, at_once):
    """
    All ten million events of a large log at a time would take gigabytes.
    """
    whole = page_data(a_log, a_summary)
    monkeypatch.setattr(page, "_EVENTS_AT_ONCE", at_once)
    parts = page_data(a_log, a_summary)

    np.testing.assert_equal(parts["requests"], whole["requests"])
    for expected, found in zip(whole["groups"], parts["groups"], strict=True):
        np.testing.assert_equal(found, expected)


# --- Time ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "width", "count"),
    [(0.001, 1e-5, 100), (1.0, 0.01, 100), (11.9, 0.1, 119), (12.1, 0.2, 61), (3000.0, 50.0, 60)],
)
def test_slices_are_a_round_number_of_seconds(end, width, count):
    slices = data_of(request(end_ns=int(end * S)))["slices"]

    assert (width, count) == (slices["width"], slices["count"])


def test_a_sweep_has_more_slices():
    """
    Each of its loads is a short part of the run.
    """
    records = [request(0, end_ns=6 * S), request(1, at=6, stage=1, end_ns=12 * S)]

    assert (0.02, 600) == tuple(data_of(*records)["slices"][name] for name in ("width", "count"))


def test_a_log_without_requests_can_be_drawn():
    data = data_of()

    assert [] == data["groups"]
    assert {"start": 0.0, "width": 1.0, "count": 1} == data["slices"]
    assert 0 == data["requests"]["all"] == len(data["requests"]["number"])


def test_a_log_without_any_time_can_be_drawn():
    assert 1 == data_of(request())["slices"]["count"]


# --- Samples -----------------------------------------------------------------------


@pytest.fixture
def sampled(monkeypatch):
    """A log of which a third fits into a page."""
    monkeypatch.setattr(page, "MOST_REQUESTS", 400)
    log = Log.of(SimulatedRun(requests=1200, faults=0.3).records)
    return log, page_data(log, summary_of(log))["requests"]


def test_a_sample_stands_for_all(sampled):
    log, requests = sampled
    failed = ~log.good[requests["number"]]

    assert (1200, 400) == (requests["all"], len(requests["number"]))
    assert pytest.approx(1200) == requests["weight"].sum()
    assert pytest.approx(np.sum(~log.good)) == requests["weight"][failed].sum()


def test_a_sample_has_the_longest(sampled):
    log, requests = sampled
    ends = log.end - log.created

    assert ends.max() == pytest.approx(requests["end"].max())
    longest = set(np.argsort(-ends)[:8].tolist())
    assert longest <= set(requests["number"][requests["weight"] == 1].tolist())


def test_a_median_of_a_sample_is_near_to_that_of_all(sampled):
    log, requests = sampled
    order = np.argsort(requests["end"])
    shares = np.cumsum(requests["weight"][order]) / 1200
    median = requests["end"][order][np.searchsorted(shares, 0.5)]

    assert pytest.approx(np.median(log.end - log.created), rel=0.05) == median


@pytest.mark.parametrize("faults", [0.0, 1.0])
def test_a_sample_of_one_kind_fills_the_page(monkeypatch, faults):
    monkeypatch.setattr(page, "MOST_REQUESTS", 100)
    log = Log.of(SimulatedRun(requests=300, faults=faults, warmup=0).records)
    requests = page_data(log, NO_WINDOWS)["requests"]

    assert 100 == len(requests["number"])
    assert pytest.approx(300) == requests["weight"].sum()


def test_all_are_told_of_if_there_is_room(a_log, a_summary):
    requests = page_data(a_log, a_summary)["requests"]

    assert requests["weight"] is None
    assert len(a_log) == len(requests["number"]) == requests["all"]


def test_a_log_that_was_cut_says_so(a_log, a_summary):
    assert page_data(attrs.evolve(a_log, cut=True), a_summary)["cut"]
