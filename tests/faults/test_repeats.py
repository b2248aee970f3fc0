"""A thousand times, and nothing hangs or grows: row W37 of the faults, and others."""

import asyncio
import gc

import pytest

from chatstream import (
    ChatSession,
    ChatStreamError,
    ConnectError,
    DecodeError,
    IdleTimeoutError,
    InterruptedStreamError,
    RetryPolicy,
    Timeouts,
    Verdict,
)
from tests.faults.acts import ASK, ONCE, acquired, descriptors, resident
from tests.waiting import GIVEN_UP

TIMES = 1000
GROWTH = 5 * 1024 * 1024
"""Bytes that a process may grow by while a fault is repeated."""


# --- W37: the server hangs up on an idle connection -------------------------------------------


class Racing:
    """Closes each connection after its first answer, a few turns of the loop later.

    The next request may already be on its way; some are even heard, and not
    answered. Whether the model had begun on it, only the server knows.
    """

    def __init__(self, wire):
        self._answer = wire.response(wire.WHOLE)
        self.answered = 0
        self.unanswered = 0

    async def __call__(self, connection):
        number = connection.server.connections
        await connection.request()
        self.answered += 1
        await connection.send(self._answer)
        way = number % 8
        if way == 7:  # it hears one more
            self.unanswered += await connection.request() is not None
        for _ in range(way):
            await asyncio.sleep(0)
        if number % 3 == 0:
            connection.reset()
        else:
            connection.writer.close()


@pytest.mark.thorough
async def test_a_connection_that_is_closed_as_it_is_used_again(faulty, wire):
    """
    W37: the next attempt follows at once, and the report tells of both.
    """
    racing = Racing(wire)
    server = await faulty(racing)
    attempts = 0
    async with ChatSession(server.base_url, retry=RetryPolicy(3)) as session:
        for number in range(TIMES):
            async with asyncio.timeout(GIVEN_UP), session.stream(ASK) as stream:
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                await stream.collect()
            assert Verdict.FINISHED is stream.verdict
            assert wire.OUTPUT == stream.completion.text
            assert 2 >= len(stream.attempts)
            assert 1 > stream.attempts[-1].waited
            attempts += len(stream.attempts)
    await server.left()

    assert TIMES == racing.answered
    assert 100 < racing.unanswered
    # An attempt may never be heard; but what was heard was told of.
    assert TIMES + racing.unanswered == len(server.requests) <= attempts


async def test_a_connection_that_is_closed_as_it_is_used_again_without_retries(faulty, wire):
    """
    W37: who wants one generation at most gets one or an error that says what happened.
    """
    racing = Racing(wire)
    server = await faulty(racing)
    errors = []
    async with ChatSession(server.base_url, retry=ONCE) as session:
        for _ in range(TIMES):
            try:
                async with asyncio.timeout(GIVEN_UP), session.stream(ASK) as stream:
                    await stream.collect()
            except ConnectError as error:
                errors.append(error)
    await server.left()

    assert TIMES == racing.answered + len(errors)
    assert TIMES >= len(server.requests)
    assert errors
    assert {("disconnected", True, True, 1)} == {
        (error.reason, error.reused, error.retryable, len(error.attempts)) for error in errors
    }


# --- A thousand times ----------------------------------------------------------------------------


@pytest.fixture
async def broken(faulty, wire):
    """Give a function that starts a server with a fault, and tells its error and what it needs."""

    async def reset(connection):
        await connection.request()
        await connection.send(wire.BEGUN + b"99\r\ndata: {")
        await asyncio.sleep(0)
        connection.reset()

    async def stall(connection):
        await connection.request()
        await connection.send(wire.BEGUN)
        await connection.gone()

    async def broken(name):
        match name:
            case "reset":
                return await faulty(reset), (InterruptedStreamError, ConnectError), {}
            case "stall":
                timeouts = Timeouts(idle=0.001)
                return await faulty(stall), IdleTimeoutError, {"timeouts": timeouts}
            case "malformed":
                answer = wire.response(wire.ONE + b"data: {nope\n\n", connection="close")
                return await faulty(answer), DecodeError, {}
            case "refused":
                server = await faulty(b"")
                await server.raw.aclose()
                return server, ConnectError, {}

    return broken


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["reset", "stall", "malformed", "refused"])
async def test_a_fault_repeated(broken, name):
    """
    No task, no descriptor, no memory is left, however often it happens.
    """
    server, kind, options = await broken(name)
    tasks = asyncio.all_tasks()
    caught = []

    async def fail(session):
        try:
            async with session.stream(ASK) as stream:
                async for _ in stream:
                    pass
        except ChatStreamError as error:
            caught.append(error)

    async def repeat(times):
        async with ChatSession(server.base_url, "k", retry=ONCE, **options) as session:
            for _ in range(times // 20):
                await asyncio.gather(*(fail(session) for _ in range(20)))
                assert all(isinstance(error, kind) for error in caught), caught
                done.append(len(caught))
                caught.clear()
            assert not acquired(session)
        server.requests.clear()
        await server.left()
        for _ in range(50):  # until the last of them are closed
            await asyncio.sleep(0)

    done = []
    await repeat(TIMES // 5)  # until all that is kept for good is there
    before, grown = descriptors(), [GROWTH]
    # A process of hundreds of megabytes may grow by some of them all the same; a leak does so
    # each time.
    while grown[-1] >= GROWTH and len(grown) <= 3:
        size = settled()
        await repeat(TIMES)
        grown.append(settled() - size)

    assert TIMES * (len(grown) - 1) + TIMES // 5 == sum(done)
    assert before == descriptors()
    assert tasks == asyncio.all_tasks()
    assert GROWTH > grown[-1]


def settled():
    """Return the bytes of memory that this process has, garbage apart."""
    gc.collect()
    return resident()
