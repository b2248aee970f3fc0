"""A response body in memory, its reads at moments of a fake clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping

from multidict import CIMultiDict

from chatstream.arrival import Read
from chatstream.errors import ChatStreamError
from chatstream.marks import ConnectionMarks
from chatstream.report import ArrivalSource
from chatstream.response import ResponseInfo
from chatstream.testing.clock import FakeClock

Step = tuple[float, bytes | list[Read] | ChatStreamError | None]
"""Seconds to wait, then bytes that arrive together, or an error that ends the body.

A list is given as the reads it is. After ``None`` nothing comes any more: the
read waits until the connection is closed.
"""


class ScriptedBody:
    """The body of one attempt; each read moves the clock."""

    source = ArrivalSource.TRANSPORT
    paused = 0.0

    def __init__(
        self, clock: FakeClock, steps: tuple[Step, ...], info: ResponseInfo, turns: int = 0
    ) -> None:
        self.info = info
        self._clock = clock
        self._steps = deque(steps)
        self._turns = turns
        self._gone = asyncio.Event()
        self._reads: list[Read] = []
        self._error: ChatStreamError | None = None
        self.released = False
        """Whether the connection was given back for reuse."""
        self.aborted = False
        """Whether the connection was closed."""

    def wait(self) -> Awaitable[None]:
        """Return what moves the clock to the next read."""
        return self._next()

    def linger(self, seconds: float) -> None:
        """Don't: a script's clock moves with its reads."""

    def take(self) -> list[Read]:
        """Return what was waited for, or raise it; an empty list is the end."""
        if self._error is not None:
            raise self._error
        reads, self._reads = self._reads, []
        return reads

    async def _next(self) -> None:
        self._reads = []
        try:
            self._reads = await self._step()
        except ChatStreamError as error:
            self._error = error

    async def _step(self) -> list[Read]:
        await _pass(self._turns)
        if self._closed() or not self._steps:
            return []
        wait, what = self._steps.popleft()
        self._clock.advance(wait)
        if self._closed():  # by a timer, while the clock moved
            return []
        if isinstance(what, ChatStreamError):
            raise what
        if what is None:
            await self._gone.wait()
            return []
        return what if isinstance(what, list) else [Read(what, self._clock())]

    def _closed(self) -> bool:
        return self.aborted

    async def release(self) -> None:
        """Note that the connection is free, unless it was closed."""
        try:
            await _pass(self._turns)
            self.released = not self.aborted
        finally:
            self.abort()

    def abort(self) -> None:
        """Note that the connection is closed."""
        if not self.released:
            self.aborted = True
            self._gone.set()


class Scripted:
    """Gives a stream one scripted body for each attempt.

    ``attempts`` holds the steps of each, or an error that an attempt fails with.
    Opening, each read and releasing take as many *turns* of the event loop.
    """

    model = "scripted"
    host = "memory"

    def __init__(
        self,
        clock: FakeClock,
        *attempts: tuple[Step, ...] | ChatStreamError,
        choices: int = 1,
        headers: Mapping[str, str] | None = None,
        turns: int = 0,
    ) -> None:
        self.choices = choices
        self.bodies: list[ScriptedBody] = []
        """The bodies given so far."""
        self._clock = clock
        self._attempts = deque(attempts)
        self._turns = turns
        self._info = ResponseInfo(
            200, CIMultiDict({"content-type": "text/event-stream", **(headers or {})})
        )

    def room(self) -> None:
        """There is always room."""

    async def open(self, marks: ConnectionMarks) -> ScriptedBody:
        """Return the next attempt's body, or raise its error."""
        attempt = self._attempts.popleft()
        await _pass(self._turns)
        if isinstance(attempt, ChatStreamError):
            raise attempt
        marks.acquired_ns = marks.sent_ns = marks.headers_ns = self._clock()
        self.bodies.append(ScriptedBody(self._clock, attempt, self._info, self._turns))
        return self.bodies[-1]

    def redact(self, error: ChatStreamError) -> None:
        """Leave the error as it is: a script has no key."""


async def _pass(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def scripted(clock: FakeClock, *steps: Step, choices: int = 1) -> Scripted:
    """Return the source of one answer, its reads at moments of *clock*.

    Each step is a wait in seconds and the bytes that come then.
    """
    return Scripted(clock, steps, choices=choices)
