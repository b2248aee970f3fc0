"""When a connection was looked up, opened, reused, and written to.

aiohttp's tracing calls these for each request; the moments land in the
:class:`~chatstream.marks.ConnectionMarks` given as ``trace_request_ctx``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from chatstream.marks import ConnectionMarks


def phase_trace(clock: Callable[[], int] = time.perf_counter_ns) -> aiohttp.TraceConfig:
    """Return a trace that fills in the marks of each request that carries some."""

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

    trace = aiohttp.TraceConfig()
    trace.on_dns_resolvehost_start.append(at("dns_start_ns"))
    trace.on_dns_resolvehost_end.append(at("dns_end_ns"))
    trace.on_connection_create_start.append(at("connect_start_ns"))
    trace.on_connection_create_end.append(created)
    trace.on_connection_reuseconn.append(reused)
    # Fires just before the write of a piece of the body; the last one counts.
    trace.on_request_chunk_sent.append(at("sent_ns"))
    return trace
