"""chatstream.bots.waiting."""

import asyncio

import pytest

from chatstream.bots.waiting import Signal
from chatstream.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def signal(clock):
    return Signal(clock.call_later)


async def test_what_happened_is_known_to_the_next_who_waits(signal):
    """
    Once: who waits again waits for it to happen again.
    """
    signal.set()

    assert await signal.wait()

    task = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert not task.done()
    signal.set()
    assert await task


async def test_a_wait_ends_when_its_time_is_up(clock, signal):
    task = asyncio.create_task(signal.wait(3))
    await asyncio.sleep(0)
    clock.advance(2.9)
    await asyncio.sleep(0)

    assert not task.done()
    clock.advance(0.1)
    assert not await task


async def test_what_happens_at_the_last_moment_has_happened(clock, signal):
    """
    The timer comes before whoever waits gets to run.
    """
    task = asyncio.create_task(signal.wait(3))
    await asyncio.sleep(0)
    signal.set()
    clock.advance(3)

    assert await task


async def test_a_wait_that_is_cancelled_leaves_no_timer(clock, signal):
    task = asyncio.create_task(signal.wait(3))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    clock.advance(3)
    task = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert not task.done()
    signal.set()
    assert await task
