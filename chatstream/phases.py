"""When a connection was looked up, opened, reused, and written to.

aiohttp's tracing calls these for each request; the moments land in the
:class:`~chatstream.marks.ConnectionMarks` given as ``trace_request_ctx``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import aiohttp

from chatstream.marks import ConnectionMarks

GATE_WIDTH = 2
"""Requests that may begin to send in one turn of the loop; see :class:`Gate`."""

SECONDS_EACH = 0.002
"""A turn that took longer lets one more pass for each of these."""


class Gate:
    """Lets few requests at a time be in the act of sending.

    A loop that has a thousand requests ready to send sends them all before it
    reads again; meanwhile the answers to the first ones wait in the kernel, which
    merges them, and only the newest of merged bytes has a true arrival. Here a
    few requests go in each turn of the loop, and between two turns it reads.

    Nothing is held, so nothing can be forgotten: who has passed has passed. An
    idle loop turns in microseconds, and the gate stands open. A busy one, or one
    that has to share its core, may turn twenty times a second: two requests a turn
    would then be fewer than come, and who waits here runs out of time. So the longer
    a turn took anyway, the more may pass in the next.
    """

    def __init__(self, width: int = GATE_WIDTH) -> None:
        self._width = width
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False
        self._turned = 0.0

    async def enter(self) -> None:
        """Wait until it is our turn."""
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            self._turned = loop.time()
            loop.call_soon(self._turn, loop)
        if self._passed < self._width and not self._waiting:
            self._passed += 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        width = max(self._width, int((now - self._turned) / SECONDS_EACH))
        self._turned = now
        self._passed = 0
        while self._waiting and self._passed < width:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                self._passed += 1
        self._turning = self._passed > 0
        if self._turning:
            loop.call_soon(self._turn, loop)


let_out: ContextVar[bool] = ContextVar("let_out", default=False)
"""Whether the caller lets requests out by a gate of its own, before the call: a load
generator, for which a wait inside the call would be the server's."""


def phase_trace(clock: Callable[[], int] = time.perf_counter_ns) -> aiohttp.TraceConfig:
    """Return a trace that fills in the marks of each request that carries some."""
    gate = Gate()

    def at(name: str) -> Callable[[Any, Any, Any], Awaitable[None]]:
        async def mark(_session: Any, context: Any, _params: Any) -> None:
            marks = context.trace_request_ctx
            if isinstance(marks, ConnectionMarks):
                setattr(marks, name, clock())

        return mark

    async def created(_session: Any, context: Any, _params: Any) -> None:
        marks = context.trace_request_ctx
        if isinstance(marks, ConnectionMarks):
            marks.connect_end_ns = marks.acquired_ns = clock()
            marks.reused = False

    async def reused(_session: Any, context: Any, _params: Any) -> None:
        marks = context.trace_request_ctx
        if isinstance(marks, ConnectionMarks):
            marks.acquired_ns = clock()
            marks.reused = True

    async def headers_ready(_session: Any, context: Any, _params: Any) -> None:
        marks = context.trace_request_ctx
        if isinstance(marks, ConnectionMarks):
            if not let_out.get():
                await gate.enter()
            marks.gate_passed_ns = clock()

    trace = aiohttp.TraceConfig()
    trace.on_dns_resolvehost_start.append(at("dns_start_ns"))
    trace.on_dns_resolvehost_end.append(at("dns_end_ns"))
    trace.on_connection_create_start.append(at("connect_start_ns"))
    trace.on_connection_create_end.append(created)
    trace.on_connection_reuseconn.append(reused)
    # Despite its name this fires before anything is written.
    trace.on_request_headers_sent.append(headers_ready)
    # So does this; the last one counts, if the socket doesn't know better.
    trace.on_request_chunk_sent.append(at("sent_ns"))
    return trace
