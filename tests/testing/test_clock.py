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
