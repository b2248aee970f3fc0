"""chatstream.bench.stats: figures against numpy, scipy and what is known of distributions."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bench import stats
from chatstream.bench.metrics import Series
from chatstream.bench.stats import (
    PERCENTILES,
    block_length,
    figure,
    interval,
    nearest_rank,
    paired,
    rate,
    replicates,
    requests_needed,
    share_interval,
    spread,
)

SHARES = list(PERCENTILES.values())


def series(values, owners=None):
    """A metric with one value for each request, or with these owners."""
    values = np.asarray(values, np.float64)
    return Series(values, np.arange(len(values)) if owners is None else np.asarray(owners))


def latencies(n, correlation=0.0, seed=0):
    """Lognormal times around 1, each as the one before by *correlation* (an AR(1) process)."""
    noise = np.random.default_rng(seed).normal(size=n)
    for place in range(1, n):
        noise[place] *= math.sqrt(1 - correlation**2)
        noise[place] += correlation * noise[place - 1]
    return np.exp(noise / 2)


TRUE_P90 = math.exp(scipy.stats.norm.ppf(0.9) / 2)


def drawn_whole(metric, blocks, draws):
    """What the replicates are, each from all its values put together."""
    edges = [*np.searchsorted(metric.owners, blocks), len(metric.values)]
    parts = [metric.values[a:b] for a, b in pairwise(edges)]
    found = {name: [] for name in ("mean", *PERCENTILES)}
    for counts in draws.astype(int):
        values = np.concatenate([np.tile(p, n) for p, n in zip(parts, counts, strict=True)])
        found["mean"].append(values.mean())
        for name, quantile in zip(PERCENTILES, np.quantile(values, SHARES), strict=True):
            found[name].append(quantile)
    return found


def blocks_and_draws(metric, replicates, seed=0):
    """What the module would draw for this metric, the first few replicates of it."""
    requests = np.unique(metric.owners)
    blocks = stats._blocks(requests, block_length(stats._means(metric)))
    return blocks, stats._draws(len(blocks), seed)[:replicates]


# --- Figures -----------------------------------------------------------------


@given(values=st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_figures_are_those_of_numpy(values):
    found = figure(series(values))

    assert np.quantile(values, SHARES).tolist() == [found[name] for name in PERCENTILES]
    assert (np.mean(values), min(values), max(values)) == (
        found["mean"],
        found["min"],
        found["max"],
    )
    assert len(values) == found["n"]


@given(values=st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=40))
def test_an_interval_is_within_the_values(values):
    found = figure(series(values))
    slack = 1e-9 * max(values)

    for low, high in found["ci"].values():
        assert found["min"] - slack <= low <= high <= found["max"] + slack


def test_nothing_has_no_figure():
    """
    0 would be the best latency there is.
    """
    found = figure(series([]))

    assert ("s", 0, []) == (found.pop("unit"), found.pop("n"), found.pop("unsure"))
    assert figure(series([1.0])).keys() - {"unit", "n", "unsure"} == found.keys()
    assert {None} == {*found.values()}
    assert spread(np.array([])) is None


def test_one_request_says_nothing_of_others():
    """
    However many gaps it has: they are all of one stream.
    """
    found = figure(series([0.1, 0.2, 0.3], owners=[4, 4, 4]))

    assert 3 == found["n"]
    assert found["ci"] is None
    assert list(PERCENTILES) == found["unsure"]


def test_figures_have_the_unit_of_their_metric():
    assert "tokens" == figure(Series.of(np.array([3.0]), "tokens"))["unit"]
    assert "s" == figure(series([3.0]))["unit"]


def test_a_spread_is_a_distribution_in_short():
    values = np.arange(101.0)

    assert {"n": 101, "p50": 50.0, "p99": 99.0, "max": 100.0} == spread(values)


@pytest.mark.parametrize(
    ("expected", "n", "share"),
    [(99.0, 100, 0.99), (98.0, 99, 0.99), (50.0, 100, 0.5), (0.0, 1, 0.99), (90.0, 100, 0.9)],
)
def test_the_nearest_rank_is_mlperfs(expected, n, share):
    """
    loadgen/results.cc: sample_latencies[sample_count * percentile], truncated.
    """
    values = np.random.default_rng(0).permutation(np.arange(float(n)))

    assert expected == nearest_rank(values, share)


# --- How many requests it takes ----------------------------------------------


@pytest.mark.parametrize(("expected", "share"), [(11, 0.5), (64, 0.9), (130, 0.95), (662, 0.99)])
def test_requests_needed_are_those_of_early_stopping(expected, share):
    """
    MLPerf gives no p99 below 662 requests, and no p90 below 64.
    """
    assert expected == requests_needed(share)


@pytest.mark.parametrize("share", SHARES)
def test_requests_needed_are_the_fewest_that_are_sure(share):
    """
    99 % sure that no more lie above, though one does.
    """
    n = requests_needed(share)

    assert scipy.stats.binom.cdf(1, n, 1 - share) <= 0.01
    assert scipy.stats.binom.cdf(1, n - 1, 1 - share) > 0.01


@pytest.mark.parametrize(
    ("expected", "requests"),
    [
        (["p50", "p90", "p95", "p99", "p999"], 10),
        (["p90", "p95", "p99", "p999"], 63),
        (["p95", "p99", "p999"], 64),
        (["p99", "p999"], 661),
        (["p999"], 662),
        ([], 6636),
    ],
)
def test_percentiles_of_too_few_requests_are_unsure(expected, requests):
    assert expected == figure(series(latencies(requests)))["unsure"]


def test_many_gaps_of_few_requests_are_unsure():
    """
    The gaps of a stream are alike; what counts is how many streams there were.
    """
    found = figure(series(latencies(10_000), owners=np.repeat(np.arange(20), 500)))

    assert 10_000 == found["n"]
    assert ["p90", "p95", "p99", "p999"] == found["unsure"]


# --- Replicates --------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_replicates_of_some_values_are_exact(correlation):
    """
    As if the blocks' values had been put together, and given to numpy.
    """
    metric = series(latencies(300, correlation))
    found = replicates(metric, seed=3).figures
    expected = drawn_whole(metric, *blocks_and_draws(metric, 100, seed=3))

    for name, values in expected.items():
        np.testing.assert_allclose(found[name][:100], values, rtol=1e-12)


def test_replicates_of_counts_are_exact():
    """
    Few different values, each of them often, have steps and nothing between.
    """
    values = np.random.default_rng(1).integers(1, 30, 5000)
    metric = series(values, owners=np.repeat(np.arange(500), 10))
    found = replicates(metric).figures
    expected = drawn_whole(metric, *blocks_and_draws(metric, 50))

    for name, exact in expected.items():
        np.testing.assert_allclose(found[name][:50], exact, rtol=1e-12)


def test_replicates_of_many_values_are_near_to_exact():
    """
    Their distribution is kept in steps: the error is small beside what they differ by.
    """
    rng = np.random.default_rng(2)
    owners = np.repeat(np.arange(2000), 30)
    values = rng.lognormal(size=len(owners)) * np.repeat(rng.lognormal(0, 0.1, 2000), 30)
    metric = series(values, owners)
    found = replicates(metric).figures
    expected = drawn_whole(metric, *blocks_and_draws(metric, 60))

    np.testing.assert_allclose(found["mean"][:60], expected["mean"], rtol=1e-12)
    for name in PERCENTILES:
        off = found[name][:60] - np.array(expected[name])
        assert np.sqrt(np.mean(off**2)) <= 0.15 * np.std(expected[name]), name
        assert abs(off.mean()) <= 0.04 * np.std(expected[name]), name


def test_intervals_are_those_of_scipys_bootstrap():
    """
    Percentile method, independent requests.
    """
    values = latencies(400, seed=5)
    found = replicates(series(values)).intervals()

    for name, statistic in (
        ("mean", np.mean),
        ("p50", np.median),
        ("p90", lambda v, axis: np.quantile(v, 0.9, axis=axis)),
    ):
        theirs = scipy.stats.bootstrap(
            (values,), statistic, n_resamples=4000, method="percentile", rng=1
        ).confidence_interval
        width = theirs.high - theirs.low
        assert pytest.approx([theirs.low, theirs.high], abs=0.12 * width) == found[name]


def test_the_same_seed_draws_the_same():
    metric = series(latencies(50))

    assert figure(metric, 4) == figure(metric, 4)
    assert figure(metric, 4)["ci"] != figure(metric, 5)["ci"]


def test_an_interval_leaves_out_a_fortieth_on_either_side():
    assert pytest.approx([2.5, 97.5]) == interval(np.arange(101.0))


def test_what_a_replicate_lacks_is_no_end_of_an_interval():
    assert pytest.approx([2.5, 97.5]) == interval(np.append(np.arange(101.0), [np.nan] * 5))


# --- Whether the intervals hold ----------------------------------------------


def coverage(n, correlation, trials, *, shuffled=False):
    """How often the interval has the true median, and the true p90."""
    hits = np.zeros(2)
    for seed in range(trials):
        values = latencies(n, correlation, seed)
        if shuffled:
            values = np.random.default_rng(seed).permutation(values)
        found = replicates(series(values), seed).intervals()
        for place, (name, truth) in enumerate((("p50", 1.0), ("p90", TRUE_P90))):
            low, high = found[name]
            hits[place] += low <= truth <= high
    return hits / trials


@pytest.mark.thorough
def test_intervals_of_independent_requests_hold_as_often_as_they_say():
    """
    95 % of them; by chance between 91 and 99 % of 200.
    """
    median, p90 = coverage(150, 0.0, 200)

    assert 0.91 <= median <= 0.99
    assert 0.91 <= p90 <= 0.99


@pytest.mark.thorough
def test_blocks_hold_where_neighbours_are_alike():
    """
    A server that is slow for a while makes many requests slow. Drawn one by one (here:
    shuffled, so that nothing shows that they were neighbours) they look far surer than they are.
    """
    blocked, one_by_one = coverage(1500, 0.9, 60), coverage(1500, 0.9, 60, shuffled=True)

    assert (blocked >= 0.83).all()
    assert (one_by_one <= 0.6).all()


def test_the_gaps_of_a_stream_are_not_taken_for_independent():
    """
    100 streams, each with a pace of its own: the error of the mean is that of 100 values.
    """
    pace = latencies(100, seed=9)
    of_streams = replicates(series(pace)).intervals()["mean"]
    of_gaps = replicates(series(np.repeat(pace, 50), np.repeat(np.arange(100), 50))).intervals()

    assert pytest.approx(of_streams) == of_gaps["mean"]


def test_blocks_are_one_request_where_requests_are_independent():
    lengths = [block_length(latencies(800, seed=seed)) for seed in range(20)]

    assert 1 == np.median(lengths)


@pytest.mark.parametrize("correlation", [0.4, 0.6, 0.8])
def test_blocks_are_as_long_as_requests_are_alike(correlation):
    """
    An AR(1) process has G / g = 2 c / (1 - c ** 2).
    """
    n = 4000
    best = (n * (2 * correlation / (1 - correlation**2)) ** 2) ** (1 / 3)
    lengths = [block_length(latencies(n, correlation, seed)) for seed in range(11)]

    assert pytest.approx(best, rel=0.2) == np.median(lengths)


@pytest.mark.parametrize(
    "values", [[1.0], [1.0, 2.0], [1.0, 2.0, 3.0], np.arange(31.0), np.ones(99)]
)
def test_blocks_are_one_request_where_nothing_is_known(values):
    """
    A handful of requests, or all alike.
    """
    assert 1 == block_length(np.asarray(values))


@pytest.mark.parametrize("values", [np.arange(320.0), np.tile([1.0, 2.0], 160)])
def test_there_are_enough_blocks_to_differ(values):
    """
    A latency that only grows, or goes to and fro, would want as few as there can be.
    """
    assert 20 == block_length(values)


def test_outliers_do_not_hide_how_alike_neighbours_are():
    """
    A few requests that hang have most of the variance.
    """
    values = latencies(2000, 0.9, seed=3)
    values[::97] *= 10_000

    assert block_length(values) >= 20


def test_equal_values_are_not_taken_for_a_trend():
    """
    Ranks of ties in the order in which they came would only grow.
    """
    values = np.random.default_rng(0).integers(0, 2, 2000).astype(np.float64)

    assert 1 == block_length(values)


# --- Two runs ----------------------------------------------------------------


def test_a_difference_of_pairs_is_surer_than_one_of_strangers():
    """
    Long prompts are slow in both runs; what they differ by is the server.
    """
    prompts = latencies(300, seed=1)
    noise = np.random.default_rng(2).normal(0, 0.01, (2, 300))
    before, after = series(prompts + noise[0]), series(prompts * 1.05 + noise[1])
    a, b = paired(before, after)
    alone = [replicates(each, seed) for seed, each in enumerate((before, after))]
    change = interval(b.figures["mean"] - a.figures["mean"])
    strange = interval(alone[1].figures["mean"] - alone[0].figures["mean"])

    assert 0 < change[0] < 0.05 * prompts.mean() < change[1]
    assert strange[0] < 0 < strange[1]
    assert np.ptp(change) < np.ptp(strange) / 5


def test_a_run_beside_itself_has_not_changed():
    a, b = paired(series(latencies(100)), series(latencies(100)))

    assert all(np.array_equal(a.figures[name], b.figures[name]) for name in a.figures)


def test_pairs_are_drawn_together_though_one_run_lacks_some():
    """
    The same requests by number, not by place; a replicate without values says nothing.
    """
    before = series([1.0, 2.0, 3.0, 4.0], owners=[0, 1, 2, 3])
    after = series([3.0], owners=[2])
    a, b = paired(before, after)
    draws = stats._draws(4, 0)
    drawn = draws[:, 2] > 0

    assert np.isnan(b.figures["p50"][~drawn]).all()
    assert np.isnan(b.figures["mean"][~drawn]).all()
    assert (b.figures["p50"][drawn] == 3.0).all()
    assert (b.figures["mean"][drawn] == 3.0).all()
    np.testing.assert_allclose(a.figures["mean"], draws @ [1.0, 2.0, 3.0, 4.0] / 4)
    assert [3.0, 3.0] == b.intervals()["p99"]


def test_pairs_have_the_blocks_of_the_run_that_wants_longer_ones():
    alike = series(latencies(2000, 0.9))
    a, _ = paired(alike, series(latencies(2000)))
    _, b = paired(series(latencies(2000)), alike)

    assert np.array_equal(a.figures["mean"], b.figures["mean"])
    assert np.array_equal(a.figures["mean"], replicates(alike).figures["mean"])


# --- Rates -------------------------------------------------------------------


def arrivals(n, seconds, seed=0):
    return np.sort(np.random.default_rng(seed).uniform(0, seconds, n))


def test_a_rate_is_what_came_over_the_window():
    """
    Both ends count, what came outside doesn't.
    """
    found = rate(np.array([0.5, 1.0, 2.0, 5.0, 5.5]), None, 1.0, 5.0)

    assert {"value": 3 / 4, "ci": None} == found


def test_a_rate_may_be_of_weights():
    found = rate(np.array([0.5, 1.0, 4.0]), np.array([100.0, 10.0, 30.0]), 1.0, 5.0)

    assert 10.0 == found["value"]


def test_nothing_came_so_the_rate_is_0():
    """
    That is observed; without any time nothing is.
    """
    assert {"value": 0.0, "ci": None} == rate(np.array([]), None, 0.0, 2.0)
    assert rate(np.array([1.0]), None, 1.0, 1.0) is None


@pytest.mark.thorough
def test_a_rates_interval_holds_as_often_as_it_says():
    """
    Arrivals at random: the number in 20 s is a Poisson variable.
    """
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(100):
        low, high = rate(arrivals(rng.poisson(400), 20.0, seed), None, 0.0, 20.0, seed)["ci"]
        hits += low <= 20 <= high

    assert 88 <= hits


def test_a_rate_that_comes_and_goes_is_less_sure():
    """
    Batches make neighbouring slices alike.
    """
    even = rate(arrivals(2000, 100.0), None, 0.0, 100.0)["ci"]
    batches = np.concatenate([arrivals(200, 5.0, seed) + start for seed, start in enumerate(
        (0, 12, 20, 31, 44, 50, 63, 71, 80, 92)
    )])  # fmt: skip
    found = rate(batches, None, 0.0, 100.0)

    assert 20.0 == found["value"]
    assert np.ptp(found["ci"]) > 3 * np.ptp(even)


# --- Shares ------------------------------------------------------------------


def test_a_share_has_wilsons_interval():
    good = np.random.default_rng(4).random(500) < 0.9
    theirs = scipy.stats.binomtest(int(good.sum()), 500).proportion_ci(method="wilson")

    assert pytest.approx([theirs.low, theirs.high]) == share_interval(good)


@pytest.mark.parametrize(("expected", "share"), [([0.0, 0.27753279], 0), ([0.72246721, 1.0], 1)])
def test_all_or_nothing_of_ten_is_not_certain(expected, share):
    """
    Within 0 and 1, and wider than a point: an eleventh may be otherwise.
    """
    assert pytest.approx(expected) == share_interval(np.full(10, share, np.bool_))


def test_nothing_has_no_share():
    assert share_interval(np.empty(0, np.bool_)) is None


def test_failures_in_a_row_count_for_less_than_as_many_alone():
    """
    One outage of 50 requests is one event.
    """
    spread_out, outage = np.ones(1000, np.bool_), np.ones(1000, np.bool_)
    spread_out[np.random.default_rng(0).choice(1000, 50, replace=False)] = False
    outage[400:450] = False

    assert np.ptp(share_interval(outage)) > 2 * np.ptp(share_interval(spread_out))
    assert np.ptp(share_interval(spread_out)) == pytest.approx(0.0275, abs=0.003)


def test_regular_failures_do_not_count_for_more():
    """
    Every tenth by a counter varies less than chance; that is no reason to be surer.
    """
    regular = np.arange(1000) % 10 > 0
    theirs = scipy.stats.binomtest(900, 1000).proportion_ci(method="wilson")

    assert pytest.approx([theirs.low, theirs.high]) == share_interval(regular)
