"""chatstream.testing.clock."""

import pytest

from chatstream.testing import FakeClock


def test_time_stands_still_until_moved():
    clock = FakeClock()

    assert 0 == clock() == clock()
    assert 250_000_000 == clock.advance(0.25)
    assert 250_000_000 == clock()


def test_small_steps_add_up_exactly():
    """
    A sum of floats wouldn't.
    """
    clock = FakeClock(start_ns=5)
    for _ in range(10):
        clock.advance(0.1)

    assert 1_000_000_005 == clock()
    assert "FakeClock(1000000005)" == repr(clock)


def test_time_never_goes_back():
    with pytest.raises(ValueError, match="can't go back"):
        FakeClock().advance(-1)


def test_calls_are_made_on_the_way_each_at_its_time():
    clock = FakeClock()
    seen = []
    clock.call_later(0.2, lambda: seen.append(("second", clock())))
    clock.call_later(0.1, lambda: seen.append(("first", clock())))
    clock.call_later(0.1, lambda: seen.append("never")).cancel()
    clock.advance(0.15)

    assert [("first", 100_000_000)] == seen
    assert 300_000_000 == clock.advance(0.15)
    assert ("second", 200_000_000) == seen[1]


def test_a_call_may_ask_for_another():
    clock = FakeClock()
    seen = []
    clock.call_later(0.1, lambda: clock.call_later(0.1, lambda: seen.append(clock())))
    clock.advance(1)

    assert [200_000_000] == seen


def test_calls_due_at_one_time_are_made_in_the_order_of_asking():
    """
    And none that isn't due yet.
    """
    clock = FakeClock()
    made = []
    for name, delay in [("c", 0.3), ("a", 0.1), ("b", 0.1), ("late", 0.6)]:
        clock.call_later(delay, lambda name=name: made.append((name, clock())))
    clock.advance(0.5)

    assert [("a", 100_000_000), ("b", 100_000_000), ("c", 300_000_000)] == made
    assert 500_000_000 == clock()


def test_a_call_may_make_another_on_the_way():
    """
    A watchdog looks again.
    """
    clock = FakeClock()
    made = []

    def look():
        made.append(clock())
        clock.call_later(0.2, look)

    look()
    clock.advance(0.5)

    assert [0, 200_000_000, 400_000_000] == made


def test_a_call_that_was_cancelled_is_not_made():
    clock = FakeClock()
    made = []
    clock.call_later(0.1, lambda: made.append(1)).cancel()
    clock.advance(1)

    assert [] == made


def test_a_call_may_move_the_clock_itself():
    """
    A slow callback; time doesn't go back after it.
    """
    clock = FakeClock()
    seen = []
    clock.call_later(0.1, lambda: clock.advance(0.5))
    clock.call_later(0.2, lambda: seen.append(clock()))
    clock.advance(0.3)

    assert [200_000_000] == seen
    assert 600_000_000 == clock()


def test_a_wait_below_a_nanosecond_ends():
    """
    Else a timer that looks again just before its time would spin.
    """
    clock = FakeClock()
    made = []
    clock.call_later(1e-10, lambda: made.append(clock()))
    clock.call_later(0, lambda: made.append(clock()))
    clock.advance(1e-9)

    assert [0, 1] == made
