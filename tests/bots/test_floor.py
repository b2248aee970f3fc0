"""Who speaks, and when."""

import asyncio
import contextlib

import pytest

from chatstream.bots.floor import Floor, SupersededError


async def speak(floor, name, log, until=None, *, answered=True):
    """Speak until told to end."""
    claim = floor.claim([name])
    error = None
    try:
        await claim.wait()
        log.append(f"{name} speaks")
        if until is not None:
            await until.wait()
    except asyncio.CancelledError as cancelled:
        error = cancelled
        raise
    finally:
        log.append(f"{name} ends")
        claim.end(error, answered=answered and error is None)


async def turns(count=5):
    """Let other tasks go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_speaks_at_a_time_in_the_order_of_asking():
    floor, log, end = Floor(newest_wins=False), [], asyncio.Event()
    tasks = [asyncio.create_task(speak(floor, name, log, end)) for name in "abc"]
    await turns()
    begun, waiting = [*log], len(floor.claims)
    end.set()
    await asyncio.gather(*tasks)

    assert ["a speaks"] == begun
    assert 3 == waiting
    assert [f"{name} {what}" for name in "abc" for what in ("speaks", "ends")] == log
    assert [] == floor.claims == floor.unanswered


async def test_who_is_cancelled_while_waiting_is_passed_over():
    floor, log, end = Floor(newest_wins=False), [], asyncio.Event()
    tasks = [asyncio.create_task(speak(floor, name, log, end)) for name in "abc"]
    await turns()
    tasks[1].cancel()
    await turns()
    end.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(None), asyncio.CancelledError, type(None)] == [type(each) for each in ends]
    assert ["a speaks", "b ends", "a ends", "c speaks", "c ends"] == log
    assert [] == floor.take_unanswered()


async def test_the_newest_breaks_off_the_others():
    """
    What they said is left in the order of asking, though those who wait end first.
    """
    floor, log, end = Floor(newest_wins=True), [], asyncio.Event()

    async def slow_to_end():
        claim = floor.claim(["a"])
        try:
            await claim.wait()
            try:
                await asyncio.Event().wait()
            finally:
                await turns()
        except asyncio.CancelledError as error:
            claim.end(error, answered=False)

    first = asyncio.create_task(slow_to_end())
    await turns()
    # Both come before the first has ended.
    second = asyncio.create_task(speak(floor, "b", log, end))
    await asyncio.sleep(0)
    third = asyncio.create_task(speak(floor, "c", log, end))
    await turns(20)
    left = floor.take_unanswered()
    end.set()
    ends = await asyncio.gather(first, second, third, return_exceptions=True)

    assert [SupersededError, SupersededError, type(None)] == [type(each) for each in ends]
    assert ["b ends", "c speaks", "c ends"] == log
    assert ["a", "b"] == left
    assert [] == floor.claims == floor.unanswered
    assert [0, 0] == [first.cancelling(), second.cancelling()]


async def test_a_cancellation_of_somebody_else_passes_through():
    """
    As that of a program that ends, be there a newer turn or not.
    """
    floor, log = Floor(newest_wins=True), []
    first = asyncio.create_task(speak(floor, "a", log, asyncio.Event()))
    await turns()
    second = asyncio.create_task(speak(floor, "b", log))
    await asyncio.sleep(0)
    first.cancel()
    ends = await asyncio.gather(first, second, return_exceptions=True)

    assert [asyncio.CancelledError, type(None)] == [type(each) for each in ends]


async def test_who_ended_well_all_the_same_is_not_told():
    """
    It went on although it was cancelled: then that is over.
    """
    floor = Floor(newest_wins=True)

    async def stubborn():
        claim = floor.claim(["a"])
        await claim.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        claim.end(None, answered=True)
        return asyncio.current_task().cancelling()

    first = asyncio.create_task(stubborn())
    await turns()
    await speak(floor, "b", [])

    assert 0 == await first
    assert [] == floor.take_unanswered()


async def test_a_task_does_not_wait_for_itself():
    floor = Floor(newest_wins=False)
    claim = floor.claim(["a"])
    await claim.wait()

    with pytest.raises(RuntimeError, match="has a turn"):
        floor.claim(["b"])
    claim.end(None, answered=True)
