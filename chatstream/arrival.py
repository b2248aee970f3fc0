"""When bytes reached this host.

A timestamp taken when a coroutine gets to run measures the client's own load.
Here bytes are stamped before anything of ours or of aiohttp's has looked at
them, and the stamps are matched to the bytes of the body later, by their offset
in it. Two public seams are used:

- :class:`StampedResponse`, given as ``response_class``, sees the connection before
  anything is read from it, and puts a thin protocol between the transport and
  aiohttp's own. It stamps as bytes leave the transport: on plain TCP, TLS,
  through a CONNECT proxy, on asyncio's loops and on uvloop.
- A :class:`~chatstream.sockets.StampedSocket`, made by the connector's
  ``socket_factory``, refines the stamp to the moment the kernel received the
  bytes. Whether it may is looked at for each read: bytes that didn't come
  through it are stamped by the transport.

Of the events in one read only the last ends with the read. The bytes of the
others may have come earlier and waited: their stamp is an upper bound, and they
are flagged as coalesced. The same holds for reads after a pause: when the caller
is so slow that aiohttp stops reading, bytes wait in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from chatstream.marks import NS, ConnectionMarks
from chatstream.report import ArrivalSource
from chatstream.sockets import stamped_socket_of

FULL_READ = 64 * 1024
"""A read of this many bytes may have left some behind in the kernel."""


class Read(NamedTuple):
    """Bytes of the body that came together.

    ``merged`` says that they may have come at several times, of which
    ``arrived_ns`` is the last.
    """

    data: bytes
    arrived_ns: int
    merged: bool = False


class Tap(asyncio.Protocol):
    """Stands between a transport and aiohttp's protocol, and notes each read.

    ``offsets`` holds, for each read that brought bytes of the body, where in the
    body they end, when they came, and whether they may have come at several times.
    """

    __slots__ = (
        "_clock",
        "_content",
        "_early",
        "_inner",
        "_passed_bytes",
        "_paused_at",
        "_socket",
        "_socket_base",
        "_transport",
        "behind",
        "connected_ns",
        "headers_ns",
        "newest_ns",
        "offsets",
        "paused_ns",
        "rest",
        "secure",
        "sent_ns",
        "source",
    )

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
        self._socket = stamped_socket_of(transport)
        self._socket_base = 0 if self._socket is None else self._socket.received_bytes
        self._passed_bytes = 0
        self._paused_at: int | None = None
        self.source = ArrivalSource.TRANSPORT if self._socket is None else ArrivalSource.KERNEL
        """Who told the arrivals; the worst so far."""
        self.newest_ns = 0
        """When the newest read came, whatever it brought."""
        self.headers_ns: int | None = None
        """When the read came that brought the last of the headers, or a later one."""
        self.sent_ns: int | None = None
        """When the kernel had the whole request, as far as the socket knows."""
        self.connected_ns = None if self._socket is None else self._socket.connected_ns
        """When the TCP connection was made, as far as the socket knows."""
        self.secure = transport.get_extra_info("sslcontext") is not None
        self.paused_ns = 0
        """How long reading had stopped because nobody took the bytes."""
        self.behind = False
        """Whether bytes may wait in the kernel, unread."""
        self.rest = b""
        """What was still unread when the connection broke."""
        self.offsets: deque[tuple[int, int, bool]] = deque()
        transport.set_protocol(self)

    def body_is(self, content: aiohttp.StreamReader) -> None:
        """Note the body, once the headers have been read.

        The bytes of it that came with the headers bear the newest stamp so far,
        and are flagged if several reads may have brought them.
        """
        self._content = content
        if self._early:
            self.headers_ns = self._early[-1]
        if content.total_bytes:
            # Bytes that came before we stood here have no stamp at all.
            at = self._early[-1] if self._early else self._clock()
            self.offsets.append((content.total_bytes, at, len(self._early) != 1))
        self._early.clear()

    def detach(self) -> None:
        """Give the transport back to aiohttp, if nobody else stands there by now."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._inner)

    def data_received(self, data: bytes) -> None:
        """Note the time, then pass the bytes on."""
        socket, stamped = self._socket, False
        if socket is not None:
            self._passed_bytes += len(data)
            if self._passed_bytes <= socket.received_bytes - self._socket_base:
                self.newest_ns, stamped = socket.received_ns, socket.stamped
            else:  # a loop that reads past the socket object
                self._socket = None
        if self._socket is None:
            self.newest_ns = self._clock()
        content = self._content
        if content is None:
            if self.sent_ns is None and socket is not None:
                self.sent_ns = socket.sent_ns
            self._early.append(self.newest_ns)
            before = 0
            self._inner.data_received(data)
        else:
            before = content.total_bytes
            self._inner.data_received(data)
            if content.total_bytes != before:
                self.offsets.append((content.total_bytes, self.newest_ns, self.behind))
                self.behind = self.behind and len(data) >= FULL_READ
        if not stamped:
            self.source = ArrivalSource.TRANSPORT
        if self._paused_at is None and not self._transport.is_reading():
            self._paused_at = self._clock()

    def look_at_pause(self) -> None:
        """Note whether reading goes on again after a pause."""
        if self._paused_at is not None and self._transport.is_reading():
            self.paused_ns += self._clock() - self._paused_at
            self._paused_at = None
            self.behind = True

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and see to it that whoever waits for the body hears of it."""
        content = self._content
        if content is not None and not content.is_eof() and content.exception() is None:
            # Once it has an error, aiohttp's reader drops what nobody has read yet.
            # It refuses if somebody waits, but then there is nothing.
            with contextlib.suppress(RuntimeError):
                self.rest = content.read_nowait()
        self._inner.connection_lost(exc)
        # aiohttp 3.14 closes the connection at a chunk that is none, but never
        # wakes up who reads the body.
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(HttpProcessingError(message="the body can't be parsed"))

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

    @property
    def source(self) -> ArrivalSource:
        """Who told the arrivals; the worst so far."""
        return ArrivalSource.READER if self._tap is None else self._tap.source

    @property
    def paused(self) -> float:
        """Seconds in which reading had stopped because nobody took the bytes."""
        return 0.0 if self._tap is None else self._tap.paused_ns / NS

    def complete(self, marks: ConnectionMarks) -> None:
        """Fill in what the socket knows better than aiohttp's tracing."""
        if self._tap is None:
            return
        if self._tap.headers_ns is not None:
            marks.headers_ns = self._tap.headers_ns
        if self._tap.sent_ns is not None and self._tap.sent_ns >= marks.started_ns:
            marks.sent_ns = self._tap.sent_ns
        if marks.reused is False:
            marks.tcp_connected_ns = self._tap.connected_ns
            marks.secure = self._tap.secure

    async def read(self) -> list[Read]:
        """Return what has come since, waiting until something has; empty at the end.

        Raises what ``aiohttp.StreamReader.readany`` raises.
        """
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, HttpProcessingError, OSError):
            if self._tap is None or not self._tap.rest:
                raise
            data, self._tap.rest = self._tap.rest, b""
        if not data:
            return []
        if self._tap is None:
            return [Read(data, self._clock(), merged=True)]
        self._tap.look_at_pause()
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
