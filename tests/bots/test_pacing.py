"""chatstream.bots.pacing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import RequestError
from chatstream.bots import Pace
from chatstream.bots.pacing import LONGEST_BACKOFF, LONGEST_INTERVAL, RECOVERY

ENOUGH = 1000


def write(pace, now):
    pace.began(now)
    pace.accepted()


def test_the_first_write_is_due_at_once():
    assert Pace(2).due(100, ENOUGH, 100) <= 100


def test_writes_are_an_interval_apart():
    """
    From one's beginning to the next's: how long one takes doesn't count.
    """
    pace = Pace(2)
    write(pace, 100)

    assert (102, 102) == (pace.due(100.5, ENOUGH, 100.5), pace.due(101, None, 101))


def test_a_few_characters_wait_for_more():
    """
    For an interval at first, for three after a write; not for ever.
    """
    pace = Pace(2, minimum=10)

    assert 102 == pace.due(100, 9, 100)
    assert 100 >= pace.due(100, 10, 100)

    write(pace, 102)

    assert (108, 104) == (pace.due(103, 9, 103), pace.due(103, 10, 103))
    assert 122 == pace.due(120, 9, 120)


def test_what_is_worth_a_write_in_any_case_does_not():
    """
    The end of an answer, however short.
    """
    pace = Pace(2)
    write(pace, 100)

    assert 102 == pace.due(101, None, 101)


def test_a_flood_is_waited_out():
    pace = Pace(1)
    pace.began(100)
    pace.flooded(100.5, 30)

    assert 130.5 == pace.due(101, ENOUGH, 101)


@pytest.mark.parametrize(("interval", "rest"), [(1, 2), (3, 6), (0, 1), (0.1, 1)])
def test_a_flood_that_does_not_say_how_long_rests_for_the_interval(interval, rest):
    pace = Pace(interval)
    pace.flooded(100, None)

    assert 100 + rest == pace.due(100, ENOUGH, 100)


def test_a_flood_widens_the_interval():
    """
    The one that was kept was too short, whatever the rest before the next write.
    """
    pace = Pace(1)
    pace.flooded(100, 5)

    assert 2 == pace.interval(105)

    pace.flooded(105, 5)

    assert 4 == pace.interval(110)


def test_quiet_time_narrows_it_again():
    """
    Half of what was added is gone in a minute, and in the end all of it.
    """
    pace = Pace(1)
    pace.flooded(100, 20)

    assert (2, 1.5, 1.25) == tuple(pace.interval(120 + n * RECOVERY) for n in range(3))
    assert 1 == pytest.approx(pace.interval(100_000))


@given(
    interval=st.floats(0, 100),
    floods=st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(-10, 100)), max_size=40),
)
def test_the_interval_has_its_bounds(interval, floods):
    """
    However many floods there are, never below the platform's, nor out of reach.
    """
    pace, now = Pace(interval), 0.0
    for wait, retry_after in floods:
        now += wait
        pace.flooded(now, retry_after)

        assert interval <= pace.interval(now) <= max(interval, LONGEST_INTERVAL)
        assert now <= pace.due(now, ENOUGH, now) <= now + max(interval, LONGEST_INTERVAL, 100)


def test_a_platform_that_is_away_is_tried_ever_more_rarely():
    pace, waits = Pace(0), []
    for _ in range(7):
        pace.began(100)
        pace.failed(100)
        waits.append(pace.due(100, ENOUGH, 100) - 100)

    assert [1, 2, 4, 8, 16, LONGEST_BACKOFF, LONGEST_BACKOFF] == waits


def test_one_write_that_is_taken_ends_the_backoff():
    pace = Pace(0)
    pace.failed(100)
    pace.failed(101)
    write(pace, 103)
    pace.failed(104)

    assert 105 == pace.due(104, ENOUGH, 104)


@pytest.mark.parametrize("options", [{"interval": -1}, {"interval": 1, "minimum": -1}])
def test_nothing_is_less_than_nothing(options):
    with pytest.raises(RequestError, match="expected 0 or more, got -1"):
        Pace(**options)


def test_a_pace_is_a_number():
    with pytest.raises(RequestError, match="interval: expected 0 or more, got nan"):
        Pace(float("nan"))
