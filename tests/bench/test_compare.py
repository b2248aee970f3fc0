"""chatstream.bench.compare: what changed, how sure that is, and whether it may."""

import json
import math

import attrs
import numpy as np
import pytest
from scipy.stats import binomtest

from chatstream.bench.allowance import parse_allowance
from chatstream.bench.comparable import Pairs
from chatstream.bench.compare import (
    Change,
    Estimate,
    Side,
    _apart,
    _Drawing,
    _metric,
    compare,
)
from chatstream.bench.log import Log
from chatstream.bench.metrics import Series
from chatstream.bench.saved import SavedRun
from chatstream.errors import RequestError
from tests.bench.compared import GOALS, LOAD, answers, plan, run_of, skewed, summary
from tests.bench.records import record

NAN = math.nan
HARDER = GOALS | {"goals": {"time_to_first_token": 0.01}}


def change(absolute, *ci, of=1.0, figure="time_to_first_token.p50", unit="s", limit=None):
    """A change by so much, within such an interval; relative to *of*, unless it is of a share."""
    relative = None
    if of and unit != "share":
        relative = Estimate(absolute / of, tuple(end / of for end in ci) or None)
    return Change(
        figure=figure,
        unit=unit,
        a=Side(of, 100),
        b=Side(of + absolute, 100),
        absolute=Estimate(absolute, ci or None),
        relative=relative,
        allowance=None if limit is None else parse_allowance(figure, limit),
    )


# --- Verdicts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("worse", change(0.05, 0.02, 0.08)),
        ("better", change(-0.05, -0.08, -0.02)),
        ("unclear", change(0.05, -0.01, 0.11)),
        ("unclear", change(0.05)),  # no interval
        ("same", change(0.0, -0.01, 0.01)),  # within 1 %
        ("same", change(0.005, 0.002, 0.008)),  # surely more, and surely little
        ("worse", change(0.008, 0.002, 0.014)),
        ("unclear", change(0.0, -0.02, 0.02)),
        ("same", change(5e-6, 1e-6, 9e-6, of=1e-5)),  # 10 µs is nothing, whatever share it is
        ("worse", change(9e-6, 5e-6, 2e-5, of=1e-5)),
        ("same", change(0.0, 0.0, 0.0, of=0.0)),
        ("worse", change(0.01, 0.005, 0.02, of=0.0)),
        ("better", change(0.05, 0.02, 0.08, figure="requests_per_second", unit="1/s")),
        ("worse", change(-0.05, -0.08, -0.02, figure="output_tokens_per_second", unit="1/s")),
        ("better", change(0.05, 0.02, 0.08, figure="goodput", unit="share")),
        ("worse", change(0.05, 0.02, 0.08, figure="failed", unit="share")),
        ("worse", change(0.005, 0.002, 0.008, figure="failed", unit="share")),
        ("same", change(0.0005, 0.0002, 0.001, figure="failed", unit="share")),
    ],
)
def test_a_verdict_is_what_the_whole_interval_says(expected, given):
    assert expected == given.verdict


# --- The gate ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (None, change(0.5, 0.4, 0.6)),
        ("broken", change(0.1, 0.06, 0.14, limit="5%")),
        ("possible", change(0.1, 0.04, 0.16, limit="5%")),
        ("kept", change(0.04, -0.02, 0.10, limit="5%")),
        ("kept", change(0.05, 0.05, 0.05, limit="5%")),  # not beyond
        ("kept", change(-0.5, -0.6, -0.4, limit="0%")),
        ("broken", change(0.02, 0.01, 0.03, limit="0%")),
        ("broken", change(0.03, 0.021, 0.04, of=9.0, limit="20ms")),
        ("possible", change(0.03, 0.02, 0.04, of=9.0, limit="20ms")),
        ("kept", change(0.02, 0.019, 0.04, of=9.0, limit="20ms")),
        ("possible", change(0.1, limit="5%")),  # no interval: never sure
        ("kept", change(0.01, limit="5%")),
        ("broken", change(0.04, 0.02, 0.06, of=0.0, limit="5%")),  # 5 % of nothing
        ("kept", change(0.0, 0.0, 0.0, of=0.0, limit="5%")),
    ],
)
def test_an_allowance_is_broken_if_the_whole_interval_lies_beyond(expected, given):
    assert expected == given.gate


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("broken", change(-0.1, -0.14, -0.06, figure="requests_per_second", limit="5%")),
        ("possible", change(-0.1, -0.16, -0.04, figure="requests_per_second", limit="5%")),
        ("possible", change(-0.1, figure="requests_per_second", limit="5%")),
        ("kept", change(0.1, 0.06, 0.14, figure="requests_per_second", limit="5%")),
        ("broken", change(-0.1, -0.14, -0.06, figure="goodput", unit="share", limit="5%")),
        ("kept", change(0.1, 0.06, 0.14, figure="goodput", unit="share", limit="5%")),
        ("broken", change(0.1, 0.06, 0.14, figure="failed", unit="share", limit="5%")),
        # Points, not a twentieth of them: from 1 % to 5 % is within 5 %.
        ("kept", change(0.04, 0.02, 0.06, of=0.01, figure="failed", unit="share", limit="5%")),
    ],
)
def test_more_throughput_is_no_regression(expected, given):
    assert expected == given.gate


def test_a_relative_allowance_is_held_against_the_ratio():
    """
    Its interval knows that A's figure is uncertain, too.
    """
    surer = change(0.1, 0.06, 0.14, limit="5%")
    unsure = attrs.evolve(surer, relative=Estimate(0.1, (0.04, 0.16)))

    assert ("broken", "possible") == (surer.gate, unsure.gate)


def test_what_is_beyond_a_narrow_allowance_isnt_the_same():
    broken = change(0.006, 0.004, 0.008, limit="0.2%")

    assert ("broken", "worse") == (broken.gate, broken.verdict)


# --- Intervals ---------------------------------------------------------------


def test_an_interval_of_shares_is_newcombes():
    """
    56 of 70 and 48 of 80, his first example (1998, table II): method 10 gives 0.0524 to 0.3339.
    """
    fewer, more = (
        (hits / n, tuple(binomtest(hits, n).proportion_ci(method="wilson")))
        for hits, n in ((48, 80), (56, 70))
    )

    assert pytest.approx((0.0524, 0.3339), abs=5e-5) == _apart(*fewer, *more)


def test_rates_are_compared_by_their_ratio():
    """
    By hand: 10 (8 … 12.5) and 20 (16 … 25) have factors of 1.25 around; errors in a ratio
    add up as ln(1.25) * sqrt(2) = 0.3156, a factor of 1.371.
    """
    a = run_of(skewed(2000))
    found = compare(a, a).change("requests_per_second")
    low, high = found.a.ci
    reach = [math.log(found.a.value / low), math.log(high / found.a.value)]

    assert 0.0 == found.relative.value
    assert found.relative.ci == pytest.approx(
        (math.exp(-math.hypot(*reach)) - 1, math.exp(math.hypot(*reach)) - 1)
    )


def test_latencies_have_the_changes_of_their_figures():
    """
    Against figures worked out by numpy.
    """
    before, after = skewed(400, 1), skewed(400, 2, scale=0.15)
    found = compare(run_of(before), run_of(after, told=None))

    for name, figure in (("mean", np.mean), ("p50", np.median)):
        seen = found.change(f"time_to_first_token.{name}")
        assert pytest.approx((figure(before), figure(after))) == (seen.a.value, seen.b.value)
        assert pytest.approx(figure(after) - figure(before)) == seen.absolute.value
        assert pytest.approx(figure(after) / figure(before) - 1) == seen.relative.value
        low, high = seen.relative.ci
        assert 0.3 < low < 0.5 < high < 0.7
        assert (400, 400, "worse") == (seen.a.n, seen.b.n, seen.verdict)
    seen = found.change("inter_chunk_latency.mean")
    assert (1200, 1200, "same") == (seen.a.n, seen.b.n, seen.verdict)


def test_the_same_run_twice_is_the_same():
    run = run_of(skewed(150))
    found = compare(run, run)

    assert {(0.0, (0.0, 0.0))} == {
        (each.absolute.value, each.absolute.ci)
        for each in found.changes
        if each.metric in ("time_to_first_token", "duration") and not each.figure.endswith("p999")
    }


def test_the_seed_decides_what_is_drawn():
    a, b = run_of(skewed(20, 1)), run_of(skewed(20, 2))

    assert compare(a, b, seed=1).to_dict() == compare(a, b, seed=1).to_dict()
    assert compare(a, b, seed=1).to_dict() != compare(a, b, seed=2).to_dict()


def test_few_requests_have_no_interval():
    """
    It would be too short: 10 requests look surer than they are, and where no request is
    beyond a percentile, nothing says how far it may be.
    """

    def known(count):
        run = run_of(skewed(count))
        changes = compare(run, run).changes
        return [each.figure for each in changes if each.absolute.ci and "token." in each.figure]

    whole = [f"time_to_first_token.{name}" for name in ("mean", "p50", "p90", "p95")]
    few = [*whole, *(name.replace("first", "per_output").replace("_to_", "_") for name in whole)]

    assert [] == known(19)
    assert set(whole) == {name for name in known(20) if name in whole}
    assert len(few) == len(known(20))
    assert "time_to_first_token.p99" not in known(99)
    assert "time_to_first_token.p99" in known(100)


def test_percentiles_of_too_few_requests_are_marked():
    run = run_of(skewed(150))
    unsure = {each.figure for each in compare(run, run).changes if each.unsure}

    assert {"time_to_first_token.p99", "time_to_first_token.p999"} == {
        figure for figure in unsure if figure.startswith("time_to_first_token.")
    }


# --- Pairing -----------------------------------------------------------------


def test_the_same_requests_are_drawn_together():
    """
    Prompts make latencies differ tenfold; 3 % more of each is seen only if each is
    compared with itself.
    """
    prompts = skewed(300, width=0.7)
    slower = prompts * 1.03 * skewed(300, 5, scale=1, width=0.02)
    paired = compare(run_of(prompts), run_of(slower))
    other = summary(plan=plan(seed=1))
    independent = compare(run_of(prompts), run_of(slower, told=other))
    figure = "time_to_first_token.mean"

    assert (300, None) == (paired.paired, independent.paired)
    assert "worse" == paired.change(figure).verdict
    assert "unclear" == independent.change(figure).verdict
    assert paired.notes[0] == "paired: the 300 requests of both are drawn together"
    assert independent.notes[0] == "independent: their seed differs"


def test_pairs_are_found_by_number_not_by_place():
    """
    In a closed load, requests are made in another order each time.
    """
    latencies = skewed(100, width=0.7)
    a = run_of(latencies)
    shuffled = np.random.default_rng(0).permutation(100)
    records = answers(latencies[shuffled])
    for each, number in zip(records, shuffled.tolist(), strict=True):
        each.number = number
    b = attrs.evolve(a, log=Log.of(records))
    found = compare(a, b).change("time_to_first_token.mean")

    assert pytest.approx((0, 0), abs=1e-12) == found.absolute.ci


def test_failures_of_one_run_leave_the_others_values():
    before, after = skewed(200, 1), skewed(200, 1)
    after[::4] = NAN
    found = compare(run_of(before), run_of(after))
    seen = found.change("time_to_first_token.p50")

    assert (200, 200, 150) == (found.paired, seen.a.n, seen.b.n)
    assert pytest.approx(np.nanmedian(after)) == seen.b.value


# --- How often the gate errs ---------------------------------------------------


def broken(figures, sims, count, draw, *, limit, matched=True):
    """How often in so many comparisons each figure broke its allowance."""
    counts = dict.fromkeys(figures, 0)
    numbers = np.arange(count)
    pairs = Pairs(numbers, numbers, count) if matched else None
    for seed in range(sims):
        a, b = (Series.of(values) for values in draw(np.random.default_rng(seed), count))
        for each in _metric("x", {"x": a}, {"x": b}, _Drawing(pairs, seed)):
            statistic = each.figure.partition(".")[2]
            if statistic in counts:
                allowance = parse_allowance(f"ttft.{statistic}", limit)
                counts[statistic] += attrs.evolve(each, allowance=allowance).gate == "broken"
    return counts


def drawn(slower=1.0):
    """Two runs of the same prompts, one of them slower."""

    def draw(rng, count):
        prompts = np.exp(0.5 * rng.standard_normal(count))
        return (prompts * np.exp(0.2 * rng.standard_normal(count)) * by for by in (1, slower))

    return draw


def independent(slower=1.0):
    def draw(rng, count):
        return (np.exp(0.4 * rng.standard_normal(count)) * by for by in (1, slower))

    return draw


@pytest.mark.thorough
@pytest.mark.parametrize(("draw", "matched"), [(drawn(), True), (independent(), False)])
def test_the_gate_rarely_fails_what_didnt_change(draw, matched):
    """
    With nothing allowed, a figure of which one side of the interval counts errs once in 40
    times; one in 20 is the promise.
    """
    sims = 100
    counts = broken(("mean", "p50", "p90", "p99"), sims, 100, draw, limit="0%", matched=matched)

    assert max(counts.values()) <= sims / 20, counts


@pytest.mark.parametrize(("draw", "matched"), [(drawn(1.2), True), (independent(1.2), False)])
def test_the_gate_finds_a_fifth_more(draw, matched):
    sims = 20
    counts = broken(("mean", "p50"), sims, 500, draw, limit="5%", matched=matched)

    assert min(counts.values()) >= sims * 0.9, counts


# --- Rates and shares ----------------------------------------------------------


def test_shares_count_all_requests():
    failing = [0.1] * 90 + [NAN] * 10
    slow = [0.1] * 80 + [0.3] * 20
    told = summary(goodput=GOALS)
    found = compare(run_of(failing, told=told), run_of(slow, told=told))

    assert (0.1, 0.0, 100) == (*_values(found, "failed"), found.change("failed").a.n)
    assert (0.9, 0.8) == _values(found, "goodput")
    assert found.change("failed").relative is None


def _values(comparison, figure):
    found = comparison.change(figure)
    return found.a.value, found.b.value


def test_no_failure_in_either_run_is_no_proof():
    """
    Of 50 requests each, one in twenty may fail and yet none did.
    """
    run = run_of([0.1] * 50)
    found = compare(run, run).change("failed")
    low, high = found.absolute.ci

    assert (0.0, "unclear") == (found.absolute.value, found.verdict)
    assert low == -high < -0.05


@pytest.mark.parametrize(
    ("note", "a", "b"),
    [
        ([], GOALS, GOALS),
        (["the goals are A's in both runs"], GOALS, HARDER),
        (["the goals are A's in both runs"], GOALS, None),
        (["the goals are B's in both runs"], None, GOALS),
    ],
)
def test_both_runs_are_held_to_the_same_goals(note, a, b):
    runs = (run_of([0.1] * 20, told=summary(goodput=goals)) for goals in (a, b))
    found = compare(*runs)

    assert (1.0, 1.0) == _values(found, "goodput")
    assert note == [each for each in found.notes if "goals" in each]


def test_without_goals_there_is_no_goodput():
    run = run_of([0.1] * 20)

    assert "goodput" not in {each.figure for each in compare(run, run).changes}


def test_tokens_that_arent_counted_have_no_rate():
    run = run_of([0.1] * 20)
    silent = run_of([0.1] * 20, completion_tokens=None)
    both = compare(silent, silent)
    one = compare(run, silent).change("output_tokens_per_second")

    assert "output_tokens_per_second" not in {each.figure for each in both.changes}
    assert (None, None, None) == (one.b.value, one.absolute, one.relative)
    assert one.a.value is not None


def test_a_rate_of_nothing_is_no_ratio():
    run, dead = run_of([0.1] * 20), run_of([NAN] * 20)

    assert -1.0 == compare(run, dead).change("requests_per_second").relative.value
    assert compare(dead, run).change("requests_per_second").relative is None


def test_a_run_without_length_has_no_rate():
    moment = SavedRun(name="run", log=Log.of([record()]), summary=summary())

    assert "requests_per_second" not in {each.figure for each in compare(moment, moment).changes}


# --- Comparisons ---------------------------------------------------------------


def gates(comparison):
    return {each.figure: each.gate for each in comparison.changes if each.gate is not None}


def test_without_an_allowance_nothing_fails():
    found = compare(run_of(skewed(20)), run_of(skewed(20) * 2))

    assert (False, {}, ()) == (found.failed, gates(found), found.warnings)


def test_a_broken_allowance_fails():
    a, b = run_of(skewed(50)), run_of(skewed(50) * 2)
    found = compare(a, b, allow={"ttft.p50": "5%", "icl.mean": "5%"})

    assert found.failed
    assert {"time_to_first_token.p50": "broken", "inter_chunk_latency.mean": "kept"} == gates(found)
    assert not compare(b, a, allow={"ttft.p50": "5%"}, strict=True).failed


def test_a_possibly_broken_allowance_fails_only_if_that_is_wanted():
    a, b = run_of(skewed(50, 1)), run_of(skewed(50, 2, scale=0.104), told=None)
    told = summary(plan=plan(seed=1))
    b = attrs.evolve(b, summary=told)
    allow = {"ttft.mean": "2%"}

    assert {"time_to_first_token.mean": "possible"} == gates(compare(a, b, allow=allow))
    assert not compare(a, b, allow=allow).failed
    assert compare(a, b, allow=allow, strict=True).failed


def test_a_warning_fails_only_if_that_is_wanted():
    a = run_of([0.1] * 20)
    b = run_of([0.1] * 20, told=summary(interrupted=True))

    assert ("B was interrupted",) == compare(a, b).warnings
    assert not compare(a, b).failed
    assert compare(a, b, strict=True).failed


FEW = "it can't be told from so few"


@pytest.mark.parametrize(
    ("expected", "why", "figure", "a", "b"),
    [
        ("broken", FEW, "p99", [0.05] * 90, [0.5] * 90),
        ("kept", FEW, "p99", [0.05] * 90, [0.05] * 90),
        ("broken", FEW, "mean", [0.05] * 90, [0.5] * 19),
        ("possible", None, "mean", [0.05] * 19, [0.5] * 90),  # that A is short isn't B's fault
        ("broken", f"{FEW}: surely more requests failed", "p50", [0.05] * 99, [0.05, NAN] * 50),
        ("kept", None, "p50", [0.05] * 99, [0.05] * 95 + [NAN] * 2),
    ],
)
def test_what_bs_requests_are_too_few_to_show_is_broken(expected, why, figure, a, b):
    allow = {f"ttft.{figure}": "5%"}
    found = compare(run_of(a), run_of(b), allow=allow).change(f"time_to_first_token.{figure}")

    assert (expected, why) == (found.gate, found.undecided)


def test_a_server_that_collapsed_fails():
    """
    Whether it answers nearly nothing, or nearly nothing in time.
    """
    survivors = [0.5] * 15 + [NAN] * 985

    assert compare(run_of([0.05] * 1000), run_of(survivors), allow={"ttft.mean": "5%"}).failed


def test_a_mean_of_too_few_requests_is_a_warning_if_it_decides():
    run = run_of(skewed(19))

    assert (
        "time_to_first_token.mean is of too few requests: a run needs 20 to tell it",
    ) == compare(run, run, allow={"ttft.mean": "5%"}).warnings
    assert () == compare(run_of(skewed(20)), run_of(skewed(20)), allow={"ttft.mean": "5%"}).warnings


def test_what_only_the_run_before_has_is_a_regression():
    """
    A server that answers nothing any more has no latency that could be worse.
    """
    found = compare(run_of([0.1] * 50), run_of([NAN] * 50), allow={"ttft.p50": "5%"})

    assert (True, "broken") == (found.failed, found.change("time_to_first_token.p50").gate)
    assert "unclear" == found.change("time_to_first_token.p50").verdict


@pytest.mark.parametrize("figure", ["ttft.p50", "goodput", "tps"])
def test_what_the_run_before_hasnt_cant_be_held_against_anything(figure):
    a = run_of([NAN] * 20)

    with pytest.raises(RequestError, match="a figure that A has"):
        compare(a, run_of([0.1] * 20), allow={figure: "5%"})


@pytest.mark.parametrize(
    ("expected", "failing"),
    [(0, 0), (0, 1), (1, 4)],
)
def test_a_share_of_failures_that_differs_is_a_warning(expected, failing):
    """
    Latencies are of those that got an answer.
    """
    latencies = np.full(400, 0.1)
    latencies[:failing] = NAN
    warnings = compare(run_of([0.1] * 400), run_of(latencies)).warnings

    assert expected == len(warnings)
    assert all("A failed 0.00% of its requests, B 1.00%" in warning for warning in warnings)


def test_a_small_share_of_failures_that_surely_differs_is_a_warning():
    latencies = np.full(2000, 0.1)
    latencies[::180] = NAN

    assert compare(run_of([0.1] * 2000), run_of(latencies)).warnings


def test_a_percentile_of_too_few_requests_is_a_warning_if_it_decides():
    run = run_of(skewed(150))
    found = compare(run, run, allow={"ttft.p99": "5%", "ttft.p95": "5%"})

    assert (
        "time_to_first_token.p99 is of too few requests: a run needs 662 to tell it",
    ) == found.warnings
    assert {"kept"} == set(gates(found).values())


def test_answers_of_another_length_are_noted():
    longer = run_of([0.1] * 50, completion_tokens=5)
    notes = compare(run_of([0.1] * 50), longer).notes

    assert "B's answers are 25.0% longer: durations and token rates are of other work" in notes
    assert any("20.0% shorter" in note for note in compare(longer, run_of([0.1] * 50)).notes)
    assert not any("answers" in note for note in compare(longer, longer).notes)


def test_the_load_of_a_sweep_is_noted():
    stages = [{"value": 4, "load": LOAD}]
    sweep = run_of([0.1] * 20, told=summary(stages=stages, shown=0, sweep={"over": "request_rate"}))
    notes = compare(sweep, run_of([0.1] * 20)).notes

    assert "of the sweep A, the load 4 is compared" in notes


def test_how_many_look_changed_by_chance_is_noted():
    run = run_of([0.1] * 20)
    found = compare(run, run)

    assert (
        f"of {len(found.changes)} figures, one in twenty looks changed by chance: "
        "only those with an allowance decide"
    ) in found.notes


def test_an_open_load_is_told():
    a = run_of([0.1] * 20)
    b = run_of([0.1] * 20, told=summary(plan=plan(load=LOAD | {"request_rate": 10.0})))

    assert [False, True, True] == [compare(*two).open_load for two in ((a, a), (a, b), (b, a))]


def test_two_targets_of_a_run_are_paired():
    prompts = skewed(200, width=0.7)
    records = [*answers(prompts), *answers(prompts * 1.05, target=1)]
    told = summary(targets=[{"name": name, "model": name} for name in "ab"])
    run = SavedRun(name="run", log=Log.of(records), summary=told)
    found = compare(run.of_target("a"), run.of_target("b"))

    assert ("run#a", "run#b", 200, ()) == (found.a, found.b, found.paired, found.warnings)
    assert "worse" == found.change("time_to_first_token.mean").verdict


def test_a_target_that_wasnt_asked_has_no_figures():
    told = summary(targets=[{"name": name, "model": name} for name in "ab"])
    run = run_of([0.1] * 20, told=told)
    found = compare(run.of_target("a"), run.of_target("b"), allow={"failed": "1%"})

    assert found.failed
    assert (0.0, None, 0) == (*_values(found, "failed"), found.change("failed").b.n)
    assert _values(found, "requests_per_second")[1] is None


def test_a_comparison_is_json():
    a, b = run_of(skewed(50)), run_of([NAN] * 50)
    document = compare(a, b, allow={"ttft.p50": "5%"}).to_dict()
    first = next(
        each for each in document["changes"] if each["figure"] == "time_to_first_token.p50"
    )

    assert document == json.loads(json.dumps(document, allow_nan=False))
    assert ("chatstream.bench.comparison/1", True, 50) == (
        document["schema"],
        document["failed"],
        document["paired"],
    )
    assert {"value": None, "n": 0, "ci": None} == first["b"]
    assert ("lower", "unclear", "broken") == (first["better"], first["verdict"], first["gate"])
    assert "5%" == first["allowance"]["text"]
