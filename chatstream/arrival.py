"""When bytes reached this host.

A timestamp taken when a coroutine gets to run measures the client's own load.
Here bytes are stamped as they come off the transport, before anything of ours or
of aiohttp's has looked at them, and the stamps are matched to the bytes of the
body later, by their offset in it.

:class:`StampedResponse` is an :class:`aiohttp.ClientResponse` that does so: given
as ``response_class`` it sees the connection before anything is read from it, and
puts a thin protocol between the transport and aiohttp's own. That works the same
on plain TCP, TLS, through a CONNECT proxy, on asyncio's loops and on uvloop.

Of the events in one read only the last ends with the read. The bytes of the
others may have come earlier and waited: their stamp is an upper bound, and they
are flagged as coalesced.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import aiohttp

from chatstream.report import ArrivalSource


class Read(NamedTuple):
    """Bytes of the body that came together.

    ``merged`` says that several reads of the socket brought them, of which
    ``arrived_ns`` is the last.
    """

    data: bytes
    arrived_ns: int
    merged: bool = False


class Tap(asyncio.Protocol):
    """Stands between a transport and aiohttp's protocol, and notes each read.

    ``offsets`` holds, for each read that brought bytes of the body, where in the
    body they end and when they came.
    """

    __slots__ = ("_clock", "_content", "_early", "_inner", "_transport", "newest_ns", "offsets")

    def __init__(self, transport: asyncio.Transport, clock: Callable[[], int]) -> None:
        self._transport = transport
        self._clock = clock
        inner = transport.get_protocol()
        # An earlier response may not be detached yet.
        self._inner: asyncio.Protocol = (
            inner._inner if isinstance(inner, Tap) else cast("asyncio.Protocol", inner)  # noqa: SLF001 its own kind
        )
        self._content: aiohttp.StreamReader | None = None
        self._early: list[int] = []
        self.newest_ns = 0
        """When the newest read came, whatever it brought."""
        self.offsets: deque[tuple[int, int, bool]] = deque()
        transport.set_protocol(self)

    def body_is(self, content: aiohttp.StreamReader) -> None:
        """Note the body, once the headers have been read.

        The bytes of it that came with the headers bear the newest stamp so far,
        and are flagged if several reads may have brought them.
        """
        self._content = content
        if content.total_bytes and self._early:
            self.offsets.append((content.total_bytes, self._early[-1], len(self._early) > 1))
        self._early.clear()

    def detach(self) -> None:
        """Give the transport back to aiohttp, if nobody else stands there by now."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._inner)

    def data_received(self, data: bytes) -> None:
        """Note the time, then pass the bytes on."""
        self.newest_ns = now = self._clock()
        content = self._content
        if content is None:
            self._early.append(now)
            self._inner.data_received(data)
            return
        before = content.total_bytes
        self._inner.data_received(data)
        if content.total_bytes != before:
            self.offsets.append((content.total_bytes, now, False))

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()


class StampedResponse(aiohttp.ClientResponse):
    """A response that knows when the bytes of its body came."""

    tap: Tap | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Note the reads from here on, then read the headers."""
        transport = connection.transport
        if transport is not None:
            self.tap = Tap(transport, time.perf_counter_ns)
        await super().start(connection)
        if self.tap is not None:
            self.tap.body_is(self.content)
        return self


class Arrivals:
    """The body of a response as reads with their arrival times."""

    def __init__(self, response: aiohttp.ClientResponse, clock: Callable[[], int]) -> None:
        self._content = response.content
        self._clock = clock
        self._taken = 0
        self._tap = response.tap if isinstance(response, StampedResponse) else None
        self.source = ArrivalSource.TRANSPORT if self._tap is not None else ArrivalSource.READER

    async def read(self) -> list[Read]:
        """Return what has come since, waiting until something has; empty at the end.

        Raises what ``aiohttp.StreamReader.readany`` raises.
        """
        data = await self._content.readany()
        if not data:
            return []
        if self._tap is None:
            return [Read(data, self._clock(), merged=True)]
        return self._cut(data, self._tap)

    def _cut(self, data: bytes, tap: Tap) -> list[Read]:
        """Cut *data* where the reads ended that brought it."""
        start, offsets = self._taken, tap.offsets
        self._taken = end = start + len(data)
        if len(offsets) == 1 and offsets[0][0] == end:  # the usual case
            _, at, merged = offsets.popleft()
            return [Read(data, at, merged)]
        reads = []
        cut = 0
        while offsets and offsets[0][0] <= end:
            offset, at, merged = offsets.popleft()
            stop = offset - start
            if stop > cut:
                reads.append(Read(data[cut:stop], at, merged))
                cut = stop
        if cut < len(data):
            # aiohttp held bytes back and let go of them later, as when its
            # parser was paused: they came with the newest read at the latest.
            reads.append(Read(data[cut:], tap.newest_ns, merged=True))
        return reads

    def detach(self) -> None:
        """Take the stamping off the connection."""
        if self._tap is not None:
            self._tap.detach()
