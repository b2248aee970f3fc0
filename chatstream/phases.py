"""When a connection was looked up, opened, reused, and written to.

aiohttp's tracing calls these for each request; the moments land in the
:class:`~chatstream.marks.ConnectionMarks` of the :class:`Passage` that a request
carries as its ``trace_request_ctx``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from chatstream.marks import ConnectionMarks

GATE_WIDTH = 2
"""Requests that may be in the act of sending at a time; see :class:`Gate`."""


class Gate:
    """Lets few requests at a time be in the act of sending.

    A loop that has a thousand requests ready to send sends them all before it
    reads again; meanwhile the answers to the first ones wait in the kernel, which
    merges them, and only the newest of merged bytes has a true arrival. With the
    gate the loop comes to read between the sends.

    A slot is held from the moment a connection is at hand until the request has
    been given to it: never while waiting for the network.
    """

    def __init__(self, width: int = GATE_WIDTH) -> None:
        self._slots = asyncio.Semaphore(width)

    async def enter(self) -> Callable[[], None]:
        """Wait for a slot; return what gives it back."""
        await self._slots.acquire()
        return self._slots.release


class Passage:
    """One request's way to its connection and through the gate."""

    __slots__ = ("_leave", "marks")

    def __init__(self, marks: ConnectionMarks) -> None:
        self.marks = marks
        self._leave: Callable[[], None] | None = None

    async def enter(self, gate: Gate) -> None:
        """Pass the gate."""
        if self._leave is None:
            self._leave = await gate.enter()

    def leave(self) -> None:
        """Give the slot back, if it is still held."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


def phase_trace(clock: Callable[[], int] = time.perf_counter_ns) -> aiohttp.TraceConfig:
    """Return a trace that fills in the marks of each request that carries some."""
    gate = Gate()

    def at(name: str) -> Callable[[Any, Any, Any], Awaitable[None]]:
        async def mark(_session: Any, context: Any, _params: Any) -> None:
            passage = context.trace_request_ctx
            if isinstance(passage, Passage):
                setattr(passage.marks, name, clock())

        return mark

    async def created(_session: Any, context: Any, _params: Any) -> None:
        passage = context.trace_request_ctx
        if isinstance(passage, Passage):
            passage.marks.connect_end_ns = passage.marks.acquired_ns = clock()
            passage.marks.reused = False

    async def reused(_session: Any, context: Any, _params: Any) -> None:
        passage = context.trace_request_ctx
        if isinstance(passage, Passage):
            passage.marks.acquired_ns = clock()
            passage.marks.reused = True

    async def headers_ready(_session: Any, context: Any, _params: Any) -> None:
        passage = context.trace_request_ctx
        if isinstance(passage, Passage):
            await passage.enter(gate)
            passage.marks.gate_passed_ns = clock()

    async def about_to_send(_session: Any, context: Any, _params: Any) -> None:
        passage = context.trace_request_ctx
        if isinstance(passage, Passage):
            passage.marks.sent_ns = clock()
            # The write comes right after this, without a wait in between.
            asyncio.get_running_loop().call_soon(passage.leave)

    trace = aiohttp.TraceConfig()
    trace.on_dns_resolvehost_start.append(at("dns_start_ns"))
    trace.on_dns_resolvehost_end.append(at("dns_end_ns"))
    trace.on_connection_create_start.append(at("connect_start_ns"))
    trace.on_connection_create_end.append(created)
    trace.on_connection_reuseconn.append(reused)
    # Despite its name this fires before anything is written.
    trace.on_request_headers_sent.append(headers_ready)
    trace.on_request_chunk_sent.append(about_to_send)
    return trace
