"""chatstream.timeouts: each clock by itself; what a stream makes of them is in test_stream.py."""

import pytest

from chatstream.errors import (
    FirstTokenTimeoutError,
    IdleTimeoutError,
    RequestError,
    TotalTimeoutError,
)
from chatstream.marks import NS
from chatstream.testing.clock import FakeClock
from chatstream.timeouts import Timeouts, Watchdog

OFF = {"connect": None, "first_token": None, "idle": None, "total": None}


class Watched:
    """A stream as the watchdog knows it: it waits, and tokens come."""

    def __init__(self, **limits):
        self.clock = FakeClock(start_ns=17)
        self.expired = []
        """Each error with the seconds since the start."""
        self.timers = 0
        self.dog = Watchdog(Timeouts(**{**OFF, **limits}), self.clock, self._call_later, self._note)
        self.dog.start(self.clock())
        self.dog.waiting = True

    def _call_later(self, delay, callback):
        self.timers += 1
        return self.clock.call_later(delay, callback)

    def _note(self, error):
        self.expired.append((type(error), error.limit, (self.clock() - 17) / NS))

    def token(self):
        self.dog.last_token_ns = self.clock()


@pytest.mark.parametrize("name", ["connect", "first_token", "idle", "total"])
@pytest.mark.parametrize("value", [0, 0.0, -1, float("nan")])
def test_a_limit_is_above_zero(name, value):
    """
    0 would mean for ever to some and not at all to others; None says the former.
    """
    with pytest.raises(RequestError) as caught:
        Timeouts(**{name: value})

    assert (f"timeouts.{name}", str(value)) == (caught.value.parameter, caught.value.seen)


def test_the_defaults_are_those_of_the_readme():
    """
    A model that reasons unseen needs two minutes; an answer may take all day.
    """
    assert Timeouts(connect=10, first_token=120, idle=60, total=None) == Timeouts()
    assert Timeouts(None, None, None, None) == Timeouts(**OFF)


def test_without_limits_nothing_is_watched():
    """
    None waits for ever, and costs no timer.
    """
    watched = Watched()
    watched.clock.advance(1e6)

    assert [] == watched.expired
    assert 0 == watched.timers


def test_the_first_token_is_waited_for_so_long():
    """
    To the nanosecond: neither before nor after.
    """
    watched = Watched(first_token=120)

    watched.clock.advance(119.999_999_999)
    assert [] == watched.expired

    watched.clock.advance(0.000_000_001)
    assert [(FirstTokenTimeoutError, 120, 120.0)] == watched.expired


def test_the_first_token_stops_its_clock():
    """
    From there on it's the idle clock's affair, or nobody's.
    """
    watched = Watched(first_token=120)
    watched.clock.advance(119)
    watched.token()
    watched.clock.advance(1000)

    assert [] == watched.expired


@pytest.mark.parametrize("first_token", [None, 120, 5, 1.5])
def test_idle_runs_from_each_token(first_token):
    """
    Whatever the other clock is set to, and also when it is off.
    """
    watched = Watched(first_token=first_token, idle=10)
    watched.clock.advance(1)
    watched.token()
    watched.clock.advance(9.5)
    watched.token()
    watched.clock.advance(9.999_999_999)
    assert [] == watched.expired

    watched.clock.advance(0.000_000_001)
    assert [(IdleTimeoutError, 10, 20.5)] == watched.expired


def test_idle_does_not_run_before_the_first_token():
    """
    A model may think for a minute, and then never pause for ten seconds.
    """
    watched = Watched(first_token=120, idle=10)
    watched.clock.advance(119)
    watched.token()
    watched.clock.advance(9)

    assert [] == watched.expired


def test_tokens_do_not_move_the_timer():
    """
    A timer for each token would cost more than the token.
    """
    watched = Watched(idle=10)
    for _ in range(1000):
        watched.clock.advance(0.01)
        watched.token()

    assert [] == watched.expired
    assert 3 > watched.timers


def test_a_slow_caller_is_no_silent_server():
    """
    The clocks of the server count while the stream waits for it.
    """
    watched = Watched(first_token=5, idle=10)
    watched.dog.waiting = False
    watched.clock.advance(100)
    assert [] == watched.expired  # it hasn't even asked for the first token

    watched.dog.waiting = True
    watched.token()
    watched.dog.waiting = False
    watched.clock.advance(100)
    assert [] == watched.expired


def test_a_server_that_stayed_silent_is_noticed_when_the_caller_is_back():
    """
    The caller was slow, but nothing had come in the meantime: within a second it is up.
    """
    watched = Watched(first_token=5)
    watched.dog.waiting = False
    watched.clock.advance(100.5)
    watched.dog.waiting = True
    watched.clock.advance(1)

    assert [(FirstTokenTimeoutError, 5)] == [found[:2] for found in watched.expired]


def test_the_total_goes_on_whoever_is_slow():
    """
    It is a promise to the caller's own caller.
    """
    watched = Watched(idle=10, total=30)
    watched.token()
    watched.dog.waiting = False
    watched.clock.advance(100)

    assert [(TotalTimeoutError, 30, 30.0)] == watched.expired


def test_the_total_comes_first_if_all_are_up():
    """
    It can't be tried again, so it mustn't hide behind one that can.
    """
    watched = Watched(first_token=30, total=30)
    watched.clock.advance(30)

    assert [(TotalTimeoutError, 30, 30.0)] == watched.expired


def test_between_two_attempts_only_the_total_runs():
    """
    The pause is ours, not the server's.
    """
    watched = Watched(first_token=5, idle=3, total=60)
    watched.clock.advance(4)
    watched.dog.rest()
    watched.clock.advance(50)
    assert [] == watched.expired

    watched.clock.advance(10)
    assert [(TotalTimeoutError, 60, 60.0)] == watched.expired


def test_each_attempt_has_its_own_clocks():
    """
    A token of an attempt that was thrown away doesn't count for the next.
    """
    watched = Watched(first_token=5, idle=100)
    watched.clock.advance(4)
    watched.token()
    watched.dog.rest()
    watched.clock.advance(10)
    watched.dog.attempt(watched.clock())
    watched.clock.advance(4.5)
    assert [] == watched.expired

    watched.clock.advance(1)
    assert [(FirstTokenTimeoutError, 5, 19.0)] == watched.expired


def test_a_call_that_took_its_time_before_it_began_has_less_left():
    """
    The clocks count from the call; one that is up already is up at once.
    """
    watched = Watched(total=5)
    watched.dog.start(watched.clock() - 6 * NS)
    watched.clock.advance(0)

    assert [(TotalTimeoutError, 5, 0.0)] == watched.expired


def test_what_was_stopped_stays_stopped():
    """
    An ended stream starts no timers, whatever is still on its way.
    """
    watched = Watched(first_token=5, idle=5, total=5)
    watched.dog.stop()
    watched.dog.stop()
    watched.dog.rest()
    watched.dog.attempt(watched.clock())
    watched.clock.advance(100)

    assert [] == watched.expired


def test_a_clock_runs_out_once():
    """
    Whoever was told doesn't need to be told again.
    """
    watched = Watched(idle=1, total=5)
    watched.token()
    watched.clock.advance(100)

    assert [(IdleTimeoutError, 1, 1.0)] == watched.expired


@pytest.mark.parametrize("limit", [1 / 3, 1e-9, 0.1 + 0.2, 1e-10])
def test_a_limit_need_not_be_whole_nanoseconds(limit):
    """
    The timer may be early by less than one; it must not spin there.
    """
    watched = Watched(first_token=limit)
    watched.clock.advance(1)

    assert [(FirstTokenTimeoutError, limit)] == [found[:2] for found in watched.expired]


def test_bytes_that_came_in_the_same_turn_of_the_loop_are_in_time():
    """
    A loop that was blocked runs its timers before the reader of what had come.
    """
    watched = Watched(idle=60)
    watched.token()

    def reader_runs(delay, callback):
        if delay == 0:
            watched.token()
        return watched.clock.call_later(delay, callback)

    watched.dog._call_later = reader_runs
    watched.clock.advance(60)
    assert [] == watched.expired

    watched.dog._call_later = watched._call_later
    watched.clock.advance(60)
    assert [(IdleTimeoutError, 60, 120)] == watched.expired


def test_a_caller_who_is_back_gets_a_while_for_what_waits_in_the_kernel():
    """
    Reading had stopped because of the caller; it has to start again first.
    """
    watched = Watched(idle=60)
    watched.token()
    watched.dog.waiting = False
    watched.clock.advance(60.5)
    watched.dog.waiting = True

    watched.clock.advance(1)
    assert [] == watched.expired

    watched.clock.advance(1)
    assert [(IdleTimeoutError, 60, 62)] == watched.expired


@pytest.mark.parametrize("value", ["5", b"5", [], object])
def test_a_limit_is_a_number(value):
    """
    A setting read from the environment is text.
    """
    with pytest.raises(RequestError) as caught:
        Timeouts(idle=value)

    assert repr(value) == caught.value.seen
