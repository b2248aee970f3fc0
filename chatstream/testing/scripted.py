"""A response body in memory, its reads at moments of a fake clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from multidict import CIMultiDict

from chatstream.arrival import Read
from chatstream.errors import ChatStreamError
from chatstream.marks import ConnectionMarks
from chatstream.report import ArrivalSource
from chatstream.response import ResponseInfo
from chatstream.testing.clock import FakeClock

Step = tuple[float, bytes | ChatStreamError]
"""Seconds to wait, then bytes that arrive together, or an error that ends the body."""


class ScriptedBody:
    """The body of one attempt; each read moves the clock."""

    source = ArrivalSource.TRANSPORT
    paused = 0.0

    def __init__(self, clock: FakeClock, steps: tuple[Step, ...], info: ResponseInfo) -> None:
        self.info = info
        self._clock = clock
        self._steps = deque(steps)
        self.released = False
        """Whether the connection was given back for reuse."""
        self.aborted = False
        """Whether the connection was closed."""

    async def read(self) -> list[Read]:
        """Move the clock to the next read and return it; an empty list at the end."""
        if self._closed() or not self._steps:
            return []
        wait, what = self._steps.popleft()
        self._clock.advance(wait)
        if self._closed():  # by a timer, while the clock moved
            return []
        if isinstance(what, ChatStreamError):
            raise what
        return [Read(what, self._clock())]

    def _closed(self) -> bool:
        return self.aborted

    async def release(self) -> None:
        """Note that the connection is free, unless it was closed."""
        self.released = not self.aborted

    def abort(self) -> None:
        """Note that the connection is closed."""
        if not self.released:
            self.aborted = True


class Scripted:
    """Gives a stream one scripted body for each attempt.

    ``attempts`` holds the steps of each, or an error that an attempt fails with.
    """

    model = "scripted"
    host = "memory"

    def __init__(
        self,
        clock: FakeClock,
        *attempts: tuple[Step, ...] | ChatStreamError,
        choices: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.choices = choices
        self.bodies: list[ScriptedBody] = []
        """The bodies given so far."""
        self._clock = clock
        self._attempts = deque(attempts)
        self._info = ResponseInfo(
            200, CIMultiDict({"content-type": "text/event-stream", **(headers or {})})
        )

    async def open(self, marks: ConnectionMarks) -> ScriptedBody:
        """Return the next attempt's body, or raise its error."""
        attempt = self._attempts.popleft()
        if isinstance(attempt, ChatStreamError):
            raise attempt
        marks.acquired_ns = marks.sent_ns = marks.headers_ns = self._clock()
        self.bodies.append(ScriptedBody(self._clock, attempt, self._info))
        return self.bodies[-1]


def scripted(clock: FakeClock, *steps: Step, choices: int = 1) -> Scripted:
    """Return the source of one answer, its reads at moments of *clock*.

    Each step is a wait in seconds and the bytes that come then.
    """
    return Scripted(clock, steps, choices=choices)
