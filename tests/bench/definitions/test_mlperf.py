"""chatstream.bench.definitions.mlperf: by hand, after MLPerf's loadgen 6.0.17."""

import math

import numpy as np
import pytest
from scipy import stats

from chatstream.bench.definitions.mlperf import RANKS, early_stopping_estimate, entries
from chatstream.bench.plan import Goals
from tests.bench.definitions.logs import asked, log_of


def found(*records, goals=None):
    return entries(log_of(*records), goals)


def test_latencies_count_from_the_schedule():
    """
    ``loadgen.cc``: ``sched.delta(complete_begin_time)``. Due 10, made 40, tokens at 100, 130,
    160: TTFT 90, sample latency 150, TPOT (150 − 90) / (4 − 1) = 20.
    """
    view = found(asked("-90 c100 c130 c160 f170", at=40, due=10, completion_tokens=4))

    assert math.isclose(0.09, view["TTFT"]["mean"])
    assert math.isclose(0.15, view["sample_latency"]["mean"])
    assert math.isclose(0.02, view["TPOT"]["mean"])


def test_percentiles_are_nearest_ranks():
    """
    ``sample_latencies[sample_count * percentile]``: of 10, ⌊10 · 0.5⌋ = 5 is the sixth, and
    p90 the highest; all others are, too.
    """
    first = found(*(asked(f"c{10 * place}") for place in range(1, 11)))["TTFT"]

    assert [0.06, 0.1, 0.1, 0.1, 0.1, 0.1] == [first[name] for name in RANKS]
    assert [0.01, 0.1] == [first["min"], first["max"]]
    assert math.isclose(0.055, first["mean"])


@pytest.mark.parametrize("usage", [{}, {"completion_tokens": 1}])
def test_one_token_has_no_tpot(usage):
    """
    "Number of tokens need to be greater than 1"
    """
    view = found(asked("c100 c200", **usage), asked("c100 c200", completion_tokens=3))

    assert 1 == view["TPOT"]["n"]
    assert math.isclose(0.05, view["TPOT"]["mean"])
    assert "1 of 2 requests have one token, or no usage" in view["TPOT"]["note"]
    assert 2 == view["sample_latency"]["n"]


def test_reasoning_is_the_first_token():
    view = found(asked("r100 c300", completion_tokens=2))

    assert math.isclose(0.1, view["TTFT"]["mean"])
    assert math.isclose(0.2, view["TPOT"]["mean"])


def test_the_last_token_of_any_choice_completes_it():
    view = found(asked("c100:0 c150:1 c180:0 c200:1", completion_tokens=5))

    assert math.isclose(0.2, view["sample_latency"]["mean"])
    assert math.isclose(0.025, view["TPOT"]["mean"])


def test_failed_requests_are_left_out_and_told():
    view = found(asked("c100"), asked("c900", verdict="upstream_error"))

    assert 1 == view["TTFT"]["n"]
    assert "1 of 2 requests failed" in view["TTFT"]["note"]


def test_rates_end_with_the_query_issued_last():
    """
    ``(sample_count - 1) / final_query_all_samples_done_time``: due at 0 and 500, done at 2000
    and 1000. The later one ends 1 s after the start: 1 sample, 5 tokens a second.
    """
    view = found(
        asked("c100 c2000", completion_tokens=3),
        asked("c600 c1000", at=500, completion_tokens=2),
    )

    assert math.isclose(1.0, view["completed_samples_per_second"]["value"])
    assert math.isclose(5.0, view["completed_tokens_per_second"]["value"])


@pytest.mark.parametrize(("needed", "share"), [(64, 0.9), (662, 0.99)])
def test_an_estimate_needs_enough_values(needed, share):
    """
    ``find_min_passing(1, …) + 1`` queries; the estimate then is the highest of them.
    """
    values = np.arange(float(needed))

    assert early_stopping_estimate(values[1:], share) is None
    assert needed - 1.0 == early_stopping_estimate(values, share)


@pytest.mark.parametrize("n", [64, 100, 662, 1000, 5000, 50_000])
@pytest.mark.parametrize("share", [0.9, 0.99])
def test_an_estimate_discards_as_many_as_the_binomial_distribution_allows(n, share):
    """
    The greatest t with P(at most t of n over the percentile) < 1 %; loadgen then takes
    ``sample_latencies[queries_issued - t]``.
    """
    t = int(stats.binom.ppf(0.01, n, 1 - share))
    while stats.binom.cdf(t, n, 1 - share) >= 1 - 0.99:
        t -= 1
    expected = float(n - t) if t >= 1 else None

    assert expected == early_stopping_estimate(np.arange(float(n)), share)


def test_each_metric_has_its_estimates():
    """
    With 64 requests there is one for p90, the highest of them, and none for p99.
    """
    view = found(*(asked(f"c{place} c{place + 100}") for place in range(1, 65)))

    assert {"p90": 0.064, "p99": None} == view["TTFT"]["early_stopping"]
    assert {"p90": 0.164, "p99": None} == view["sample_latency"]["early_stopping"]
    assert {"p90": None, "p99": None} == view["TPOT"]["early_stopping"]


@pytest.mark.parametrize(
    ("expected", "fast", "slow"),
    [
        # None over the target takes 459 queries, one takes 662.
        ({"over": 0, "met": True, "early_stopping_met": False}, 458, 0),
        ({"over": 0, "met": True, "early_stopping_met": True}, 459, 0),
        ({"over": 1, "met": True, "early_stopping_met": False}, 660, 1),
        ({"over": 1, "met": True, "early_stopping_met": True}, 661, 1),
        ({"over": 20, "met": False, "early_stopping_met": False}, 80, 20),
    ],
)
def test_a_target_is_met_if_that_is_no_chance(expected, fast, slow):
    """
    ``PerfConstraintsMet`` wants p99 up to the target, ``EarlyStopping`` of the server
    scenario ``queries_issued >= h + t`` with t queries over it.
    """
    records = [asked("c100 c200", completion_tokens=2)] * fast + [asked("c300")] * slow
    view = found(*records, goals=Goals(time_to_first_token=0.1, time_per_output_token=0.1))

    assert {"seconds": 0.1, **expected} == view["TTFT"]["target"]
    assert 0 == view["TPOT"]["target"]["over"]
    assert "target" not in view["sample_latency"]


def test_without_a_goal_there_is_no_target():
    assert "target" not in found(asked("c100"))["TTFT"]
    assert "target" not in found(asked("c100"), goals=Goals(duration=1.0))["TTFT"]


@pytest.mark.parametrize("records", [[], [asked("c100", verdict="timeout")]])
def test_no_good_request_at_all(records):
    view = found(*records, goals=Goals(time_to_first_token=0.1))

    assert 0 == view["TTFT"]["n"]
    assert view["TTFT"]["p99"] is None
    assert not view["TTFT"]["target"]["met"]
    assert view["completed_samples_per_second"]["value"] is None
