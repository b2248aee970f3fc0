"""chatstream.bench.windows: steady parts and silences of runs whose truth is known."""

import heapq
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bench.log import Log
from chatstream.bench.plan import Load
from chatstream.bench.windows import concurrency, in_flight, stalls, steady_state, unsettled
from tests.bench.records import log, record

# --- Requests in flight ------------------------------------------------------


def test_requests_in_flight_go_up_when_one_is_made_and_down_when_it_ends():
    times, counts = in_flight(
        log(
            record(created=0.0, end=2.0), record(created=1.0, end=4.0), record(created=5.0, end=6.0)
        )
    )

    assert [0.0, 1.0, 2.0, 4.0, 5.0, 6.0] == times.tolist()
    assert [1, 2, 1, 0, 1, 0] == counts.tolist()


def test_a_slot_that_asks_again_at_once_is_one_request():
    """
    The end and the next beginning at the same moment are neither two nor none.
    """
    steps = in_flight(log(record(created=0.0, end=1.0), record(created=1.0, end=2.0)))

    assert [0.0, 1.0, 2.0] == steps.times.tolist()
    assert [1, 1, 0] == steps.counts.tolist()


def test_requests_in_flight_can_be_asked_for_at_any_moment():
    steps = in_flight(log(record(created=1.0, end=2.0), record(created=1.5, end=3.0)))

    assert [0, 1, 1, 2, 1, 0] == steps.at(np.array([0.0, 1.0, 1.2, 1.5, 2.0, 9.0])).tolist()


requests = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), min_size=1, max_size=12)


@given(requests=requests)
def test_as_many_are_in_flight_as_have_begun_and_not_ended(requests):
    found = log(*(record(created=start, end=start + length) for start, length in requests))
    moments = np.arange(0.5, 45)
    expected = [
        sum(start < moment < start + length for start, length in requests) for moment in moments
    ]

    assert expected == in_flight(found).at(moments).tolist()


def test_concurrency_is_the_mean_over_time_and_the_peak():
    found = log(record(created=0.0, end=4.0), record(created=1.0, end=2.0))

    assert (1.25, 2) == concurrency(found, 0.0, 4.0)
    assert (1.0, 1) == concurrency(found, 2.0, 4.0)
    assert (0.5, 1) == concurrency(found, 3.0, 5.0)
    assert (0.0, 0) == concurrency(found, 5.0, 6.0)


def test_a_request_that_spans_the_whole_window_is_in_flight():
    assert (1.0, 1) == concurrency(log(record(created=0.0, end=9.0)), 4.0, 5.0)


def test_who_begins_as_the_window_ends_is_not_in_it():
    found = log(record(created=0.0, end=2.0), record(created=1.0, end=2.0))

    assert (1.0, 1) == concurrency(found, 0.0, 1.0)


def test_a_window_without_length_has_no_mean():
    assert (None, 1) == concurrency(log(record(created=0.0, end=9.0)), 4.0, 4.0)


def test_nothing_was_in_flight():
    assert (0.0, 0) == concurrency(log(), 0.0, 1.0)


# --- Servers that are made up ------------------------------------------------


class Server:
    """Answers *capacity* requests at a time, others queue; *frozen* from some seconds to others."""

    def __init__(self, capacity=1000, *, wait=0.1, tokens=20, gap=0.02, frozen=(), slowing=0):
        self._free = [0.0] * capacity
        self._wait, self._tokens, self._gap = wait, tokens, gap
        self._frozen = frozen
        self._slowing = slowing
        self._random = random.Random(1)

    def answer(self, created, scheduled=None, **facts):
        begins = max(created, heapq.heappop(self._free))
        wait = self._wait * (1 + self._slowing * created) * self._random.uniform(0.9, 1.1)
        pace = self._gap * self._random.uniform(0.9, 1.1)
        arrivals = [self._thawed(begins + wait + place * pace) for place in range(self._tokens)]
        end = arrivals[-1] + 0.001
        heapq.heappush(self._free, end)
        return record(*arrivals, created=created, end=end, scheduled=scheduled, **facts)

    def _thawed(self, moment):
        for freezes, thaws in self._frozen:
            if freezes <= moment < thaws:
                return thaws + (moment - freezes) / 1000
        return moment


def closed_run(server, slots, requests, ramp=0.0, **facts):
    """Slots that ask again as soon as they have an answer, begun over *ramp* seconds."""
    free = [ramp * place / slots for place in range(slots)]
    records = []
    for number in range(requests):
        created = heapq.heappop(free) + 0.0002
        records.append(server.answer(created, number=number, **facts))
        heapq.heappush(free, records[-1].end_ns / 1e9)
    return Log.of(records), Load(max_concurrency=slots, num_prompts=requests, ramp=ramp)


def open_run(server, rate, requests, *, ceiling=None, ramp=0.0, seed=0):
    """Requests due at random; with a *ceiling* some wait until others end."""
    source = random.Random(seed)
    due, ends, records = 0.0, [], []
    for number in range(requests):
        due += source.expovariate(rate * min(1.0, (due + 0.1) / ramp) if ramp else rate)
        created = due
        if ceiling is not None and len(ends) == ceiling:
            created = max(due, heapq.heappop(ends))
        records.append(server.answer(created, due, number=number))
        heapq.heappush(ends, records[-1].end_ns / 1e9)
    load = Load(request_rate=rate, num_prompts=requests, max_concurrency=ceiling, ramp=ramp)
    return Log.of(records), load


# --- Steady state ------------------------------------------------------------


def test_a_closed_load_is_steady_from_its_second_round_to_when_slots_run_dry():
    """
    An answer takes 0.43 to 0.53 s, so that all 8 slots have asked again by then. Twelve
    rounds end at about 5.8 s, and slots become free for good during the last of them.
    """
    run, load = closed_run(Server(), 8, 96)
    window = steady_state(run, load)
    dry = np.sort(run.end)[-8]

    assert 0.45 <= window.start <= 0.55
    assert dry == window.end
    assert window.stable
    assert unsettled(run, load) is None


def test_a_ramp_is_not_steady():
    """
    Slots begin over 2 s: 95 % of 40 are busy when 38 have begun, at 1.85 s.
    """
    window = steady_state(*closed_run(Server(), 40, 600, ramp=2.0))

    assert 1.85 + 0.45 <= window.start <= 1.85 + 0.55


def test_one_slow_answer_does_not_make_the_end_steady():
    """
    The last answer hangs for a minute, alone.
    """
    run, load = closed_run(Server(), 8, 96)
    straggler = record(60.0, created=3.0, end=66.0, number=99)
    others = zip(run.created, run.end, strict=True)
    slow = Log.of([*(record(created=start, end=end) for start, end in others), straggler])
    window = steady_state(slow, load)

    assert window.end < 6.5


def test_dips_between_two_requests_of_a_slot_do_not_end_it():
    """
    With 4 slots, 95 % are all of them: one is always about to ask again.
    """
    run, load = closed_run(Server(), 4, 80)
    window = steady_state(run, load)
    counts = in_flight(run).counts

    assert np.count_nonzero(counts == 3) > 50
    assert window.end - window.start > 0.8 * run.created.max()


def test_an_open_load_is_steady_from_one_answer_after_its_ramp_until_the_last_was_due():
    run, load = open_run(Server(), 20, 400, ramp=3.0)
    window = steady_state(run, load)
    first_due = run.scheduled[0]

    assert first_due + 3.4 <= window.start <= first_due + 3.6
    assert run.scheduled[-1] == window.end
    assert window.stable


@pytest.mark.parametrize("seed", range(3))
def test_a_queue_that_grows_without_end_is_not_stable(seed):
    """
    10 at a time with half a second each is 20 a second, and 26 come: whatever is
    measured depends on how long the run was.
    """
    run, load = open_run(Server(10), 26, 500, seed=seed)
    window = steady_state(run, load)

    assert not window.stable
    assert "requests in flight grew: median" in window.why
    assert "seconds to the first token grew: median" in window.why


def test_a_queue_in_front_of_a_ceiling_is_not_stable():
    """
    The server has as many as ever and answers as fast; requests wait to be made.
    """
    run, load = open_run(Server(), 30, 500, ceiling=10)
    window = steady_state(run, load)

    assert not window.stable
    assert "requests in flight stayed: median 10 in the first third, 10 in the last" in window.why
    assert "seconds to the first token grew" in window.why


@pytest.mark.parametrize("seed", range(5))
def test_a_queue_that_comes_and_goes_is_stable(seed):
    """
    Seven tenths of what the server can do.
    """
    run, load = open_run(Server(10), 14, 500, seed=seed)

    assert steady_state(run, load).stable


def test_a_server_that_slows_down_is_not_stable():
    """
    In a closed load, the requests in flight don't tell.
    """
    run, load = closed_run(Server(slowing=0.2), 8, 160)
    window = steady_state(run, load)

    assert not window.stable
    assert "requests in flight stayed" in window.why
    assert "seconds to the first token grew" in window.why


def test_a_server_that_warms_up_is_not_stable_either():
    run, load = closed_run(Server(wait=0.4, slowing=-0.1), 8, 80)

    assert "seconds to the first token shrank" in steady_state(run, load).why


def test_a_difference_without_a_trend_is_told_and_no_drift():
    """
    By chance the first third was slow: high, low, high, low, with more highs at first.
    """
    waits = [0.1, 0.2, 0.2, 0.1, 0.2, 0.1, 0.1, 0.2, 0.1, 0.1]
    records = [
        record(at + waits[int(at * 10 / 60)], created=at, end=at + 1.0, number=number)
        for number, at in enumerate(np.arange(0.0, 60, 0.2))
    ]
    window = steady_state(Log.of(records), Load(request_rate=5, num_prompts=300))

    assert window.stable
    assert (
        "seconds to the first token varied without a trend: median 0.2 in the first third, "
        "0.1 in the last" in window.why
    )


def test_what_changed_before_the_steady_part_is_no_drift():
    """
    While the rate rises for 10 s, so does the wait; then both stay.
    """
    records = [
        record(at + 0.1 + min(at, 10.0) / 20, created=at, end=at + 1.0)
        for at in np.arange(0.0, 25.0, 0.1)
    ]
    window = steady_state(Log.of(records), Load(request_rate=10, num_prompts=250, ramp=10.0))

    assert window.stable
    assert "0.6 in the first third, 0.6 in the last" in window.why


def test_one_step_in_a_few_answers_time_is_not_yet_a_trend():
    """
    An answer takes 5 s and the window 30: it saw six times the server, no more.
    """
    records = [
        record(at + (0.1 if at < 17 else 0.15), created=at, end=at + 5.0)
        for at in np.arange(0.0, 35.0, 0.1)
    ]
    window = steady_state(Log.of(records), Load(request_rate=10, num_prompts=350))

    assert "seconds to the first token varied without a trend" in window.why
    assert window.stable


def test_answers_without_tokens_have_no_time_to_drift():
    run, load = closed_run(Server(), 8, 96, kinds="-" * 20)

    assert "seconds" not in steady_state(run, load).why


def short(requests=40, spacing=0.1, length=0.5, **facts):
    return Log.of(
        [record(at + 0.1, created=at, end=at + length, number=number, **facts)
         for number, at in enumerate(np.arange(requests) * spacing)]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "run", "load"),
    [
        ("no request ended well", short(verdict="timeout"), {"num_prompts": 40}),
        ("no request ended well", log(), {"num_prompts": 40}),
        (
            "the load was at its height for 3.9 s, and a request takes 5 s",
            short(length=5.0),
            {"num_prompts": 40},
        ),
        (
            "the load was at its height for 0 s, and a request takes 0.5 s",
            short(spacing=0.0),
            {"num_prompts": 40},
        ),
        (
            "19 requests were made while it was steady, and it takes 20",
            short(requests=24),
            {"num_prompts": 24},
        ),
        (None, short(requests=25), {"num_prompts": 25}),
        (
            "it was steady for 23% of the time, and it takes 25%",
            short(requests=100),
            {"num_prompts": 100, "ramp": 7.1},
        ),
    ],
)
def test_a_run_may_have_no_steady_part(expected, run, load):
    """
    Figures of a moment would look as if they were of a state.
    """
    found = Load(request_rate=10, **load)

    assert (steady_state(run, found) is None) is (expected is not None)
    assert expected == unsettled(run, found)


def test_failed_requests_do_not_say_what_is_typical():
    """
    Refused at once, they would let the steady part begin at once.
    """
    run, load = closed_run(Server(), 8, 96)
    refused = [
        record(created=at, end=at + 0.001, verdict="http_error") for at in np.arange(0, 2, 0.05)
    ]
    both = Log.of([
        *refused,
        *(record(created=a, end=b) for a, b in zip(run.created, run.end, strict=True)),
    ])  # fmt: skip

    assert steady_state(both, load).start >= 0.45


# --- Stalls ------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 3, 30])
@pytest.mark.parametrize("frozen", [(2.0, 4.0), (3.13, 5.13)])
def test_a_server_that_freezes_is_pointed_at(slots, frozen):
    """
    It ends to the millisecond; it begins with the last sign before, at most one gap earlier.
    """
    run, _ = closed_run(Server(wait=0.05, frozen=[frozen]), slots, 20 * slots)
    (stall,) = stalls(run)

    assert pytest.approx(frozen[0], abs=0.075 if slots == 1 else 0.025) == stall["start"]
    assert pytest.approx(frozen[1], abs=0.001) == stall["end"]
    assert stall["end"] - stall["start"] == stall["seconds"]
    assert slots == stall["open_streams"]


def test_under_load_a_freeze_is_known_to_the_millisecond():
    run, _ = closed_run(Server(frozen=[(2.0, 4.0)]), 100, 1500)
    (stall,) = stalls(run)

    assert pytest.approx(2.0, abs=0.002) == stall["start"]
    assert pytest.approx(2.0, abs=0.002) == stall["seconds"]
    assert 100 == stall["open_streams"]


def test_two_freezes_are_two_stalls():
    run, _ = closed_run(Server(frozen=[(2.0, 3.0), (4.0, 5.5)]), 10, 150)

    assert [1.0, 1.5] == [round(stall["seconds"], 1) for stall in stalls(run)]


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("wait", [0.05, 0.4, 3.0])
def test_the_usual_wait_for_a_first_token_is_no_stall(slots, wait):
    """
    However much longer it is than a gap: that is what a prompt takes.
    """
    assert [] == stalls(closed_run(Server(wait=wait), slots, 12 * slots)[0])


def test_prompts_of_different_lengths_are_no_stalls():
    server, records, at = Server(), [], 0.0
    for number in range(60):
        server._wait = 0.1 + 0.05 * (number % 20)
        records.append(server.answer(at))
        at = records[-1].end_ns / 1e9 + 0.001

    assert [] == stalls(Log.of(records))


def test_waiting_together_for_the_first_token_is_no_stall():
    """
    A burst of 50 prompts is worked on for 0.8 s before anything comes, again and again.
    """
    server = Server(wait=0.8)
    records = [
        server.answer(burst * 3.0 + place / 1000) for burst in range(6) for place in range(50)
    ]

    assert [] == stalls(Log.of(records))


def test_a_freeze_while_all_wait_for_their_first_token_is_a_stall():
    """
    Answers of one token, from a server that is busy with several prompts: 150 a second come.
    """
    run, _ = closed_run(Server(wait=0.3, tokens=1, frozen=[(2.0, 4.0)]), 45, 900)
    (stall,) = stalls(run)

    assert 1.9 <= stall["start"] <= 2.0
    assert pytest.approx(4.0, abs=0.001) == stall["end"]
    assert 45 == stall["open_streams"]


def test_a_slow_model_is_not_stalled():
    """
    A token in half a second is what it can do.
    """
    assert [] == stalls(closed_run(Server(gap=0.5), 1, 10)[0])


def test_time_without_streams_is_no_stall():
    """
    One request every five seconds: the silence is ours.
    """
    server = Server()

    assert [] == stalls(Log.of([server.answer(at * 5.0) for at in range(20)]))


def test_time_without_streams_does_not_say_what_is_usual():
    """
    One request every five seconds, and one of them is silent for two in its middle.
    """
    server = Server(frozen=[(50.3, 52.3)])
    (stall,) = stalls(Log.of([server.answer(at * 5.0) for at in range(20)]))

    assert pytest.approx(52.3) == stall["end"]


def test_short_answers_do_not_hide_a_freeze_between_tokens():
    """
    One stream of 20 tokens at a time: a twentieth of the silences are waits for a first token.
    """
    run, _ = closed_run(Server(wait=0.4, frozen=[(3.5, 4.3)]), 1, 40)
    (stall,) = stalls(run)

    assert pytest.approx(4.3, abs=0.001) == stall["end"]


def test_a_stall_may_begin_with_the_run():
    """
    A server that has to wake up: there is no sign before.
    """
    (stall,) = stalls(closed_run(Server(frozen=[(0.05, 3.0)]), 5, 100)[0])

    assert 0.0002 == stall["start"]
    assert 5 == stall["open_streams"]


@pytest.mark.parametrize(("expected", "silence"), [(0, 0.48), (1, 0.52)])
def test_a_silence_between_tokens_is_a_stall_from_five_times_the_usual(expected, silence):
    usual = np.arange(0.0, 30.0, 0.1)

    assert expected == len(stalls(log(record(*usual, usual[-1] + silence))))


@pytest.mark.parametrize(("expected", "wait"), [(0, 1.98), (1, 2.02)])
def test_a_wait_for_the_first_token_is_a_stall_from_twice_the_usual(expected, wait):
    usual = [record(at + 1.0, *(at + 1.0 + np.arange(1, 180) / 100), created=at, end=at + 2.8)
             for at in np.arange(0.0, 90.0, 3.0)]  # fmt: skip

    assert expected == len(stalls(log(*usual, record(100.0 + wait, created=100.0))))


def test_a_stall_begins_no_earlier_than_the_stream():
    """
    After an idle minute a request is made, and for once it waits 3 s.
    """
    server = Server()
    records = [server.answer(at) for at in range(20)]
    server._wait = 3.0
    (stall,) = stalls(Log.of([*records, server.answer(80.0)]))

    assert 80.0 == stall["start"]
    assert pytest.approx(3.0, abs=0.31) == stall["seconds"]
    assert 1 == stall["open_streams"]


def test_that_we_give_up_is_no_sign_of_the_server():
    """
    Ten streams time out one by one while nothing comes, and their slots ask again.
    """
    records = [
        record(*np.arange(1.0, 2.0, 0.02), created=slot / 100, end=5.0 + slot / 10,
               verdict="timeout", number=slot)
        for slot in range(10)
    ]  # fmt: skip
    records += [
        record(8.0 + slot / 100, created=5.0 + slot / 10, end=8.2, number=10 + slot)
        for slot in range(10)
    ]
    (stall,) = stalls(Log.of(records))

    assert (pytest.approx(1.98), 8.0) == (stall["start"], stall["end"])
    assert 10 == stall["open_streams"]


def test_a_silence_that_nobody_outwaits_ends_with_the_last_stream():
    """
    All time out, the run is over: the server never came back.
    """
    records = [
        record(*np.arange(1.0, 2.0, 0.02), created=slot / 100, end=5.0, verdict="timeout")
        for slot in range(4)
    ]
    (stall,) = stalls(Log.of(records))

    assert (pytest.approx(1.98), 5.0, 4) == (stall["start"], stall["end"], stall["open_streams"])


def test_signs_without_tokens_break_a_silence():
    """
    Headers, a first byte, a role: the server is there.
    """
    usual = [record(*np.arange(1.0, 5.0, 0.02), created=0.98, end=5.0)]
    quiet = record(6.9, created=5.0, end=7.0)
    signs = record(5.4, 6.9, kinds="-c", created=5.0, headers=5.2, first_byte=5.3, first_chunk=5.4)

    assert [1.9] == [round(stall["seconds"], 6) for stall in stalls(Log.of([*usual, quiet]))]
    assert [1.5] == [round(stall["seconds"], 6) for stall in stalls(Log.of([*usual, signs]))]


def test_what_came_after_the_end_is_nothing():
    """
    It can't, but a log by another hand may say so.
    """
    smooth = np.arange(0.1, 2.0, 0.01)

    assert [] == stalls(log(record(*smooth, 9.0, end=2.0)))


def test_short_silences_are_no_stalls():
    """
    A quarter of a second, however smooth the stream was.
    """
    smooth = np.arange(0.1, 2.0, 0.001)
    pause = [*smooth, 2.24, *(smooth + 2.2)]
    longer = [*smooth, 2.26, *(smooth + 2.2)]

    assert [] == stalls(log(record(*pause)))
    assert 1 == len(stalls(log(record(*longer))))


@pytest.mark.parametrize("run", [log(), log(record()), log(record(0.5)), log(record(0.5, 9.0))])
def test_nothing_to_compare_with_is_no_stall(run):
    assert [] == stalls(run)
