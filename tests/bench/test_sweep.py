"""chatstream.bench.sweep: what to try, against curves by hand and from queueing theory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bench.plan import Load
from chatstream.bench.sweep import Sweep, bend, best, knee, loads, next_load, parse_sweep
from chatstream.errors import RequestError

BASE = Load(max_concurrency=100, num_prompts=100, burstiness=math.inf)


def rates(*values, refine=2):
    return Sweep(over="request_rate", values=values, refine=refine)


def stage(value, achieved=None, *, met=None, stable=True, ci=None, over="request_rate", **facts):
    """One load's part of a summary, as far as a sweep looks at it."""
    speed = {"value": value if achieved is None else achieved, "ci": ci}
    return {
        "value": value,
        "load": {
            "request_rate": value if over == "request_rate" else facts.pop("rate", None),
            "ramp": facts.pop("ramp", 0.0),
        },
        "targets": 1,
        "requests": {"good": 100},
        "goodput": None if met is None else {"met": met},
        "throughput": {"requests_per_second": {"value": 0.0, "ci": None}},
        "steady_state": {"stable": stable, "throughput": {"requests_per_second": speed}},
    } | facts


def unsteady(rate, good, seconds, duration=5.0, ramp=0.0, **facts):
    """A load that was too short to be steady, and met the goals."""
    return stage(rate, met=True, ramp=ramp) | {
        "steady_state": None,
        "requests": {"good": good},
        "metrics": {"duration": {"p50": duration}},
        "throughput": {"seconds": seconds, "requests_per_second": None},
        **facts,
    }


def closed(value, achieved, **facts):
    return stage(value, achieved, over="max_concurrency", **facts)


# --- What is to be tried -----------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ((1, 2, 4, 8, 16, 32), "rate=1:32:6"),
        ((1, 3.16228, 10), "rate=1:10:3"),
        ((1, 2), "rate=1:2:2"),
        ((1, 2, 4, 8), "rate=1,2,4,8"),
        ((0.1, 0.2, 0.4, 0.8, 1), "request_rate=0.1:1"),
        ((1, 2, 4, 8, 16, 32, 64), "concurrency=1:64"),
        ((1, 2, 4, 8, 16, 20), "max-concurrency=1:20"),
        ((1, 2, 3, 4), "concurrency=1:4:6"),  # 1.3, 1.7, 2.3 and 3.0 as whole numbers
        ((3, 5), " concurrency = 3, 5"),
    ],
)
def test_a_sweep_is_a_name_and_its_loads(expected, text):
    sweep = parse_sweep(text)

    assert expected == sweep.values
    assert ("max_concurrency" if "conc" in text else "request_rate") == sweep.over


@pytest.mark.parametrize(
    ("seen", "allowed", "text"),
    [
        ("''", "rate=1:32 (doubled), rate=1:32:6 (6 loads), rate=1,2,4,8", ""),
        ("'rps=1:2'", "rate=1:32 (doubled)", "rps=1:2"),
        ("'rate=1:2:3:4'", "rate=1:32 (doubled)", "rate=1:2:3:4"),
        ("'' in 'rate='", "a number", "rate="),
        ("'x' in 'rate=1:2:x'", "a whole number", "rate=1:2:x"),
        ("'1.5' in 'concurrency=1.5,2'", "a whole number", "concurrency=1.5,2"),
        ("'2:1'", "a load above 0, and a higher one up to 1e+09", "rate=2:1"),
        ("'0:1'", "a load above 0, and a higher one", "rate=0:1"),
        ("'nan:2'", "a load above 0, and a higher one", "rate=nan:2"),
        ("'1:inf'", "a load above 0, and a higher one", "rate=1:inf"),
        ("inf", "loads above 0, up to 1e+09", "rate=1,inf"),
        ("0", "loads above 0", "concurrency=0,1"),
        ("nan", "loads above 0", "rate=nan,1"),
        ("1 loads", "2 to 100", "rate=1"),
        ("1 loads", "2 to 100", "rate=1:2:1"),
        ("101 loads", "2 to 100", "rate=1:2:101"),
        ("2 before 1", "ascending loads", "rate=2,1"),
        ("1 before 1", "ascending loads", "rate=1,1"),
    ],
)
def test_what_makes_no_sweep_is_named(seen, allowed, text):
    with pytest.raises(RequestError) as wrong:
        parse_sweep(text)

    assert ("sweep", seen) == (wrong.value.parameter, wrong.value.seen)
    assert wrong.value.allowed.startswith(allowed)


def test_a_concurrency_is_a_whole_number_from_python_too():
    with pytest.raises(RequestError, match="expected whole numbers for a concurrency"):
        Sweep(over="max_concurrency", values=(1.5, 2))


@given(
    low=st.floats(0.01, 100),
    ratio=st.floats(1.001, 1000),
    count=st.none() | st.integers(2, 40),
)
def test_loads_between_two_bounds_ascend_and_keep_the_bounds(low, ratio, count):
    high = low * ratio
    text = f"rate={low!r}:{high!r}" + (f":{count}" if count else "")
    values = parse_sweep(text).values

    assert (low, high) == (values[0], values[-1])
    assert list(values) == sorted(set(values))
    assert count is None or len(values) <= count


def test_each_load_is_the_base_with_another_rate_or_concurrency():
    sweep = rates(1, 2)
    found = loads(sweep, BASE)

    assert [(1, 100, math.inf), (2, 100, math.inf)] == [
        (load.request_rate, load.num_prompts, load.burstiness) for load in found
    ]
    assert [1, 2] == [sweep.value_of(load) for load in found]
    assert [4, 8] == [load.max_concurrency for load in loads(parse_sweep("concurrency=4,8"), BASE)]


# --- The best load -----------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "stages"),
    [
        (None, []),
        (None, [stage(1), stage(2)]),  # no goals
        (None, [stage(1, met=False)]),
        (1, [stage(1, met=True), stage(2, met=True), stage(4, met=False)]),
        (2, [stage(1, met=True), stage(4, met=False), stage(2, met=True)]),  # refined
        (0, [stage(1, met=True), stage(2, met=True, stable=False)]),
        (1, [stage(1, met=True), stage(2, met=True, stable=None)]),  # nobody knows
        (0, [stage(1, met=True), stage(2, 1.8, met=True)]),  # it falls behind
        (1, [stage(1, met=True), stage(2, 1.8, met=True, ci=[1.7, 1.91])]),  # maybe not
        (1, [stage(1, met=True), stage(2, 1.9, met=True)]),
        (1, [closed(1, 9, met=True), closed(2, 9, met=True)]),  # behind nothing
        (0, [closed(1, 9, met=True, rate="inf")]),
    ],
)
def test_the_best_is_the_highest_load_that_meets_the_goals_and_could_go_on(expected, stages):
    assert expected == best(stages)


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (0, unsteady(1, good=10, seconds=15)),  # 10 s, and 5 for the last
        (0, unsteady(32, good=960, seconds=37)),
        # Five a second, and a typical one waits for 80 s: 110 s are left, in which 3,344
        # were wanted.
        (None, unsteady(32, good=960, seconds=190, duration=80)),
        (None, unsteady(10, good=100, seconds=20, duration=5)),  # 120 of 142.5
        (0, unsteady(10, good=100, seconds=17.6, duration=5)),  # 120 of 119.7
        (None, unsteady(10, good=100, seconds=17.7, duration=5)),
        (None, unsteady(10, good=100, seconds=17.6, duration=5, targets=2)),
        (None, unsteady(1, good=0, seconds=1, duration=None)),
        (0, unsteady(1, good=10, seconds=10, duration=None)),  # no answer has a token
        # While the rate rises for 20 s, half as many are due: 10 s less, of each target.
        (0, unsteady(10, good=400, seconds=35, ramp=20, targets=2)),
        (None, unsteady(10, good=400, seconds=45, ramp=20, targets=2)),
        (0, unsteady(1, good=1, seconds=3, duration=3)),  # nobody knows
    ],
)
def test_without_a_steady_state_the_last_answers_time_is_set_aside(expected, given):
    assert expected == best([given])


def test_each_target_is_asked_at_the_rate():
    assert 0 == best([stage(2, 4, met=True, targets=2)])
    assert best([stage(2, 3, met=True, targets=2)]) is None


def test_a_load_without_a_good_request_isnt_stable():
    failed = {"requests": {"good": 0}, "steady_state": None}

    assert 0 == knee([stage(1), stage(2) | failed])
    assert best([closed(1, 1, met=True) | failed]) is None


def test_a_load_without_answers_has_no_throughput():
    silent = {"requests_per_second": None}
    stages = [closed(1, 1), closed(2, 2), closed(4, 2)]
    stages[0] |= {"steady_state": None, "throughput": silent}

    assert 1 == knee(stages)


# --- Loads between two -------------------------------------------------------


def test_the_loads_of_the_sweep_come_first():
    sweep = rates(1, 2)

    assert 1 == next_load(sweep, BASE, []).request_rate
    assert 2 == next_load(sweep, BASE, [stage(1, met=False)]).request_rate


def test_the_best_load_is_found_more_sharply():
    """
    M/M/1: a request is over within g with probability 1 - exp(-(mu - rate) g). With 10 a
    second served, 99 % are over within a second up to 10 - ln 100 = 5.39 a second.
    """
    sweep, stages = parse_sweep("rate=1:16"), []
    while (load := next_load(sweep, BASE, stages)) is not None:
        rate = load.request_rate
        attained = 1 - math.exp(-(10 - rate)) if rate < 10 else 0
        stages.append(stage(rate, min(rate, 10), met=attained >= 0.99, stable=rate < 10))

    assert [1, 2, 4, 8, 16, 5.65685, 4.75683] == [each["value"] for each in stages]
    assert 4.75683 == stages[best(stages)]["value"]


@pytest.mark.parametrize(
    ("expected", "stages", "refine"),
    [
        (None, [stage(1), stage(2)], 2),  # no goals
        (None, [stage(1, met=False), stage(2, met=False)], 2),
        (None, [stage(1, met=True), stage(2, met=True)], 2),  # nothing fails
        (None, [stage(1, met=True), stage(2, met=False)], 0),
        (1.41421, [stage(1, met=True), stage(2, met=False)], 1),
        (None, [stage(1, met=True), stage(2, met=False), stage(1.41421, met=True)], 1),
        (1.68179, [stage(1, met=True), stage(2, met=False), stage(1.41421, met=True)], 2),
    ],
)
def test_a_load_between_two_is_tried_only_where_that_tells_something(expected, stages, refine):
    load = next_load(rates(1, 2, refine=refine), BASE, stages)

    assert expected == (load and load.request_rate)


def test_between_neighbouring_concurrencies_there_is_none():
    stages = [closed(4, 4, met=True), closed(8, 5, met=False)]
    sweep = parse_sweep("concurrency=4,8")

    assert 6 == next_load(sweep, BASE, stages).max_concurrency
    assert 5 == next_load(sweep, BASE, [*stages, closed(6, 5, met=False)]).max_concurrency
    near = [closed(4, 4, met=True), closed(5, 5, met=False)]
    assert next_load(parse_sweep("concurrency=4,5"), BASE, near) is None


# --- The knee ----------------------------------------------------------------


def closed_queue(customers, service, think):
    """Throughput of a closed queue with one server, by exact mean value analysis."""
    waiting = throughput = 0.0
    for population in range(1, customers + 1):
        response = service * (1 + waiting)
        throughput = population / (response + think)
        waiting = throughput * response
    return throughput


def test_a_curve_bends_where_it_is_farthest_from_its_chord():
    """
    By hand: scaled to 0…1, the points lie 0, 0.5 - 0.25, 0.9 - 0.5 and 0 above the diagonal.
    """
    assert 2 == bend([0, 25, 50, 100], [10, 60, 100, 110])


def test_a_closed_queue_bends_where_its_server_is_busy():
    """
    Its asymptotes cross at (think + service) / service = 16 customers.
    """
    values = [1, 2, 4, 8, 16, 32, 64]
    stages = [closed(value, closed_queue(value, service=0.1, think=1.5)) for value in values]

    assert 16 == stages[knee(stages)]["value"]
    assert 16 == stages[::-1][knee(stages[::-1])]["value"]


@pytest.mark.parametrize(
    "throughputs",
    [
        [1, 2, 4, 8, 16],  # a straight line
        [1.02, 1.97, 4.1, 7.8, 16],  # with some noise
        [8, 8, 8, 8, 8],  # saturated from the start
        [8, 7, 6, 5, 4],
    ],
)
def test_what_doesnt_bend_has_no_knee(throughputs):
    assert bend([1, 2, 4, 8, 16], throughputs) is None


def test_a_bend_must_stand_out_from_the_distance_of_the_loads():
    """
    Of three loads, one in the middle may well lie a little above the diagonal.
    """
    assert bend([0, 50, 100], [0, 90, 100]) is None
    assert 1 == bend([0, 10, 100], [0, 90, 100])


def test_a_decline_after_the_peak_doesnt_move_the_knee():
    assert 3 == bend([1, 2, 4, 8, 16, 32], [1, 2, 4, 8, 7, 5])


def test_two_loads_have_no_bend():
    assert bend([1, 2], [1, 2]) is None


@pytest.mark.parametrize(
    ("expected", "stages"),
    [
        (None, [stage(1), stage(2), stage(4)]),  # never reached
        (1, [stage(1), stage(2), stage(4, 3.1), stage(8, 3.0)]),
        (1, [stage(1), stage(2), stage(4, stable=False)]),
        (2, [stage(1), stage(4, 3.1), stage(2)]),  # refined
        (None, [stage(1, 0.5), stage(2, 0.5)]),  # begins beyond it
        (None, []),
    ],
)
def test_open_loads_have_their_knee_before_the_first_that_falls_behind(expected, stages):
    assert expected == knee(stages)
