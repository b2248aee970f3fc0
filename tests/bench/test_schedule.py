"""chatstream.bench.schedule."""

import math
from itertools import chain, islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from chatstream import RequestError
from chatstream.bench.plan import Load
from chatstream.bench.schedule import (
    arrivals,
    arrivals_of,
    numbers_of,
    planned,
    read_schedule,
    slot_starts,
    slots_of,
    worker_of,
)

rates = st.floats(0.5, 500)
bursts = st.floats(0.1, 50) | st.just(math.inf)


def gaps(moments):
    return [after - before for before, after in pairwise(moments)]


# --- Open loads --------------------------------------------------------------


def test_a_constant_rate_begins_at_once_and_keeps_its_gap():
    """
    Nobody wants to wait for nothing, and a first gap without a request before it is none.
    """
    load = Load(request_rate=4, burstiness=math.inf, num_prompts=5)

    assert [0.0, 0.25, 0.5, 0.75, 1.0] == list(arrivals(load, 0))


def test_a_duration_of_seconds_has_rate_times_seconds_requests():
    """
    The request that is due when time is up isn't made any more.
    """
    load = Load(request_rate=10, burstiness=math.inf, duration=2)

    assert 20 == len(list(arrivals(load, 0)))


def test_a_load_ends_with_whichever_end_comes_first():
    few = Load(request_rate=10, burstiness=math.inf, duration=2, num_prompts=3)
    short = Load(request_rate=10, burstiness=math.inf, duration=2, num_prompts=300)

    assert 3 == len(list(arrivals(few, 0)))
    assert 20 == len(list(arrivals(short, 0)))


def test_a_duration_alone_is_drawn_as_it_is_needed():
    """
    A day's load must not be drawn before its first request.
    """
    load = Load(request_rate=1e9, duration=86_400)

    assert 3 == len(list(islice(arrivals(load, 0), 3)))


@pytest.mark.parametrize(("burstiness", "rate"), [(0.25, 3), (1, 20), (4, 100)])
def test_gaps_are_gamma_distributed(burstiness, rate):
    """
    Shape is the burstiness and the mean is 1 / rate, as for ``--burstiness`` of vLLM.
    """
    found = gaps(arrivals(Load(request_rate=rate, burstiness=burstiness, num_prompts=20_001), 7))
    wanted = stats.gamma(burstiness, scale=1 / (rate * burstiness))

    assert wanted.mean() == pytest.approx(1 / rate)
    assert 0.001 < stats.kstest(found, wanted.cdf).pvalue


@settings(max_examples=20)
@given(rate=rates, seed=st.integers())
def test_the_mean_rate_is_the_one_asked_for(rate, seed):
    """
    Of 10,000 gaps the mean is off by 1 % (one sigma), whatever the seed.
    """
    last = max(arrivals(Load(request_rate=rate, num_prompts=10_001), seed))

    assert pytest.approx(10_000 / rate, rel=0.06) == last


@given(rate=rates, burstiness=bursts, ramp=st.just(0) | st.floats(0.01, 60), seed=st.integers())
def test_requests_are_due_in_order_from_zero_on(rate, burstiness, ramp, seed):
    load = Load(request_rate=rate, burstiness=burstiness, ramp=ramp, num_prompts=300)
    found = list(arrivals(load, seed))

    assert 0 == found[0]
    assert sorted(found) == found


@given(rate=rates, burstiness=bursts, ramp=st.floats(0.01, 60), seed=st.integers())
def test_a_ramp_moves_each_request_to_where_its_rate_has_come_to(rate, burstiness, ramp, seed):
    """
    The integral of the rate up to each moment is the sum of the gaps before it at rate 1.
    """
    plain = arrivals(Load(request_rate=1, burstiness=burstiness, num_prompts=300), seed)
    load = Load(request_rate=rate, burstiness=burstiness, ramp=ramp, num_prompts=300)

    def integral(moment):
        rising = min(moment, ramp)
        return rate * rising**2 / (2 * ramp) + rate * (moment - rising)

    assert pytest.approx(list(plain), rel=1e-9, abs=1e-12) == [
        integral(moment) for moment in arrivals(load, seed)
    ]


def test_a_ramp_brings_half_as_many_requests_as_its_seconds_would():
    load = Load(request_rate=100, burstiness=math.inf, ramp=10, duration=10)

    assert 500 == len(list(arrivals(load, 0)))


def test_the_same_seed_gives_the_same_arrivals():
    load = Load(request_rate=5, num_prompts=50)

    assert list(arrivals(load, 1)) == list(arrivals(load, 1))
    assert list(arrivals(load, 1)) != list(arrivals(load, 2))


def test_a_longer_load_begins_as_the_shorter_one():
    """
    No arrival depends on how many there are, as it would if the total were made to fit.
    """
    longer = arrivals(Load(request_rate=5, num_prompts=80), 1)

    assert list(islice(longer, 50)) == list(arrivals(Load(request_rate=5, num_prompts=50), 1))


def test_another_rate_is_the_same_pattern_at_another_speed():
    """
    Loads of a sweep differ by what is compared, not by chance.
    """
    slow = arrivals(Load(request_rate=5, num_prompts=50), 1)
    fast = arrivals(Load(request_rate=10, num_prompts=50), 1)

    assert pytest.approx([moment / 2 for moment in slow], rel=1e-12) == list(fast)


def test_an_infinite_rate_is_all_at_once():
    assert [0, 0, 0] == list(arrivals(Load(request_rate=math.inf, num_prompts=3), 0))


def test_an_infinite_rate_is_spread_over_the_ramp():
    """
    There is no rate to rise to: as many as there are rise evenly, as slots do.
    """
    load = Load(request_rate=math.inf, num_prompts=4, ramp=2)

    assert [0, 0.5, 1, 1.5] == list(arrivals(load, 0))


@pytest.mark.parametrize(
    ("expected", "ends"),
    [
        ([0, 0.5, 0.5, 3], {}),
        ([0, 0.5], {"num_prompts": 2}),
        ([0, 0.5, 0.5], {"duration": 3}),
    ],
)
def test_a_schedule_is_replayed_until_an_end(expected, ends):
    assert expected == list(arrivals(Load(schedule=(0, 0.5, 0.5, 3), **ends), 0))


def test_a_closed_load_has_no_arrivals():
    with pytest.raises(RequestError, match="load: expected one with a request_rate"):
        arrivals(Load(max_concurrency=2, num_prompts=3), 0)


# --- Closed loads ------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "ramp"), [([0, 0, 0, 0], 0), ([0, 0.5, 1, 1.5], 2)], ids=["at once", "ramp"]
)
def test_slots_begin_at_once_or_evenly_over_the_ramp(expected, ramp):
    assert expected == slot_starts(Load(max_concurrency=4, ramp=ramp, num_prompts=9))


@pytest.mark.parametrize(
    ("expected", "load"),
    [
        (9, Load(max_concurrency=2, num_prompts=9)),
        (None, Load(max_concurrency=2, duration=9)),
        (None, Load(max_concurrency=2, num_prompts=9, duration=9)),
        (9, Load(request_rate=3, num_prompts=9)),
        (None, Load(request_rate=3, duration=9)),
        (3, Load(schedule=(0, 1, 2))),
        (2, Load(schedule=(0, 1, 2), duration=2)),
    ],
)
def test_a_load_knows_how_many_it_plans_unless_the_server_or_chance_decides(expected, load):
    """
    What was planned and not made is counted: nothing else may be in that number.
    """
    assert expected == planned(load)


def test_no_seed_tells_what_the_server_decides():
    assert planned(Load(max_concurrency=2, duration=9), 0) is None


@pytest.mark.parametrize("ends", [{"duration": 5}, {"duration": 5, "num_prompts": 140}])
def test_with_the_seed_it_is_known_what_is_planned(ends):
    load = Load(request_rate=30, **ends)
    drawn = [len(list(arrivals(load, seed))) for seed in range(9)]

    assert 1 < len(set(drawn))
    assert drawn == [planned(load, seed) for seed in range(9)]


# --- Shared among workers ----------------------------------------------------

splits = st.integers(1, 7)
ceilings = st.none() | st.integers(1, 12)


@given(workers=splits, ceiling=ceilings, count=st.integers(1, 60), seed=st.integers())
def test_workers_together_make_every_arrival_once(workers, ceiling, count, seed):
    """
    However it is split, it is the same load.
    """
    load = Load(request_rate=9, max_concurrency=ceiling, num_prompts=count)
    parts = [list(arrivals_of(load, seed, worker, workers)) for worker in range(workers)]

    assert list(enumerate(arrivals(load, seed))) == sorted(chain(*parts))
    assert all(
        worker == worker_of(load, number, workers)
        for worker, part in enumerate(parts)
        for number, _ in part
    )


@given(workers=splits, slots=st.integers(1, 12), count=st.integers(1, 60), ramp=st.floats(0, 9))
def test_workers_together_have_every_slot_and_every_number(workers, slots, count, ramp):
    load = Load(max_concurrency=slots, num_prompts=count, ramp=ramp)
    numbers = [list(numbers_of(load, worker, workers)) for worker in range(workers)]
    starts = [slots_of(load, worker, workers) for worker in range(workers)]

    assert list(range(count)) == sorted(chain(*numbers))
    assert slot_starts(load) == sorted(chain(*starts))
    assert all(starts[worker] for worker in range(workers) if numbers[worker])
    assert all(sorted(part) == part for part in numbers)


@pytest.mark.parametrize(
    ("expected", "load"),
    [
        ([60, 40], Load(max_concurrency=5, num_prompts=100)),  # 3 and 2 slots
        ([50, 50], Load(request_rate=9, num_prompts=100)),
    ],
)
def test_who_has_more_slots_has_more_requests(expected, load):
    """
    Else the worker with fewer would go on alone, at less than the concurrency asked for.
    """
    counts = [0, 0]
    for number in range(100):
        counts[worker_of(load, number, 2)] += 1

    assert expected == counts


def test_numbers_have_no_end_without_num_prompts():
    load = Load(max_concurrency=3, duration=1)

    assert [0, 2, 3, 5, 6] == list(islice(numbers_of(load, 0, 2), 5))


def test_a_worker_without_a_slot_has_no_numbers():
    """
    It must not look for its first one for ever.
    """
    assert [] == list(numbers_of(Load(max_concurrency=1, duration=1), 1, 2))


# --- A schedule from a file --------------------------------------------------


def written(path, text):
    path.write_bytes(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        b"0\n0.5\n2\n",
        b"7\r\n\r\n7.5\r\n9",
        b"\xef\xbb\xbf0.0\n.5\n2e0\n",
        b"2\n0.5\n0\n",
        b'{"timestamp": 0}\n{"timestamp": 500, "input_length": 9}\n{"timestamp": 2000.0}\n',
        b'{"timestamp": 1700000000500}\n{"timestamp": 1700000000000}\n{"timestamp": 1700000002000}',
    ],
    ids=["seconds", "later, CRLF", "BOM", "unordered", "trace", "a trace of a day"],
)
def test_a_schedule_is_read_in_order_and_from_its_first(text, tmp_path):
    """
    Traces are a little out of order, and begin when they were recorded.
    """
    found = read_schedule(written(tmp_path / "times.txt", text))

    assert pytest.approx((0, 0.5, 2), abs=1e-6) == found
    assert 0 == found[0]


@pytest.mark.parametrize(
    ("place", "text", "saw"),
    [
        (", line 2", b"0\nnever\n", "seconds from 0 on, or an object, got never"),
        (", line 1", b"-1\n", "seconds from 0 on, or an object, got -1"),
        (", line 1", b"nan\n", "seconds from 0 on, or an object, got nan"),
        (", line 3", b"0\n\ninf\n", "seconds from 0 on, or an object, got inf"),
        (", line 1", b"\xff\n", "seconds from 0 on, or an object, got \N{REPLACEMENT CHARACTER}"),
        (", line 1, timestamp", b'{"timestamp": -1}', "milliseconds from 0 on, got -1"),
        (", line 1, timestamp", b'{"timestamp": true}', "milliseconds from 0 on, got True"),
        (", line 1, timestamp", b'{"timestamp": "1"}', "milliseconds from 0 on, got a string"),
        (", line 1, timestamp", b'{"time": 1}', "milliseconds from 0 on, got None"),
        (", line 1", b'{"timestamp": 1', "JSON, got "),
        ("", b"\n", "an arrival time on each line, got no lines"),
    ],
)
def test_a_line_that_is_no_time_is_named(place, text, saw, tmp_path):
    path = written(tmp_path / "times.txt", text)

    with pytest.raises(RequestError) as caught:
        read_schedule(path)

    assert str(caught.value).startswith(f"{path}{place}: expected {saw}")
