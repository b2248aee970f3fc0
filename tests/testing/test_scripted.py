"""chatstream.testing.scripted."""

import asyncio

import pytest

from chatstream.arrival import Read, read
from chatstream.errors import ConnectError, InterruptedStreamError
from chatstream.marks import ConnectionMarks
from chatstream.report import ArrivalSource
from chatstream.testing.clock import FakeClock
from chatstream.testing.scripted import Scripted, scripted


async def opened(source):
    marks = ConnectionMarks(0)
    return marks, await source.open(marks)


async def test_reads_come_at_their_moments():
    """
    Each read moves the clock by its wait, and bears the time after it.
    """
    clock = FakeClock()
    _, body = await opened(scripted(clock, (0.25, b"a"), (0.05, b"b")))

    assert [Read(b"a", 250_000_000)] == await read(body)
    assert [Read(b"b", 300_000_000)] == await read(body)
    assert [] == await read(body)
    assert 300_000_000 == clock()
    assert ArrivalSource.TRANSPORT == body.source


async def test_reads_may_be_given_as_they_are():
    """
    For several at once, and for merged ones.
    """
    reads = [Read(b"a", 1), Read(b"b", 2, merged=True)]
    _, body = await opened(scripted(FakeClock(), (1.0, reads)))

    assert reads == await read(body)


async def test_an_error_ends_a_body():
    """
    As a reset connection does.
    """
    _, body = await opened(scripted(FakeClock(), (0.0, InterruptedStreamError(0, "reset"))))

    with pytest.raises(InterruptedStreamError, match="reset"):
        await read(body)


async def test_each_attempt_has_its_script():
    """
    An error in place of one is what opening it raises.
    """
    source = Scripted(
        FakeClock(start_ns=9), ConnectError("refused", "h"), (), choices=2, headers={"X-Id": "i"}
    )

    with pytest.raises(ConnectError):
        await source.open(ConnectionMarks(0))
    marks, body = await opened(source)

    assert [body] == source.bodies
    assert (9, 9, 9) == (marks.acquired_ns, marks.sent_ns, marks.headers_ns)
    assert (200, "i") == (body.info.status, body.info.headers["x-id"])
    assert "text/event-stream" == body.info.content_type
    assert 2 == source.choices


async def test_a_closed_body_has_no_more_reads():
    """
    Closed stays closed: it isn't given back for reuse afterwards.
    """
    _, body = await opened(scripted(FakeClock(), (0.0, b"a")))
    body.abort()

    assert [] == await read(body)
    await body.release()
    assert (True, False) == (body.aborted, body.released)


async def test_a_released_body_is_not_closed():
    """
    Its connection serves others by then.
    """
    _, body = await opened(scripted(FakeClock()))
    await body.release()
    body.abort()

    assert (False, True) == (body.aborted, body.released)


async def test_a_timer_may_close_a_body_while_time_passes():
    """
    What would have come after that never does.
    """
    clock = FakeClock()
    _, body = await opened(scripted(clock, (5.0, b"late")))
    clock.call_later(1.0, body.abort)

    assert [] == await read(body)


async def test_a_body_may_fall_silent():
    """
    The read then waits until somebody closes the connection.
    """
    _, body = await opened(scripted(FakeClock(), (0.0, None)))
    task = asyncio.create_task(read(body))
    await asyncio.sleep(0)
    assert not task.done()

    body.abort()
    assert [] == await task


async def test_turns_of_the_loop_are_taken_where_a_socket_would_wait():
    """
    So that a test can interrupt there.
    """
    source = Scripted(FakeClock(), ((0.0, b"a"),), turns=3)
    turns = 0

    async def whole():
        _, body = await opened(source)
        await read(body)
        await body.release()
        return body

    task = asyncio.create_task(whole())
    while not task.done():
        await asyncio.sleep(0)
        turns += 1

    assert 9 <= turns
    assert task.result().released


async def test_a_release_that_is_cancelled_closes():
    """
    Nobody knows what else comes on that connection.
    """
    _, body = await opened(Scripted(FakeClock(), (), turns=1))
    task = asyncio.create_task(body.release())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert body.aborted
