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
is so slow that aiohttp stops reading, bytes wait in the kernel. And it holds for the
last event of a read that goes on after it, with the start of what comes next.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from chatstream.marks import NS, ConnectionMarks
from chatstream.report import ArrivalSource
from chatstream.sockets import READ_BYTES, stamped_socket_of

FULL_READ = READ_BYTES
"""A read of this many bytes may have left some behind in the kernel."""

FEW_UNREAD = 1024
"""While so few bytes are unread, aiohttp hasn't stopped reading."""

MUCH_UNREAD = 65536
"""Well before so many are unread that aiohttp stops, they must be taken."""

_DONE = b"[DONE]"


class Read(NamedTuple):
    """Bytes of the body that came together.

    ``merged`` says that they may have come at several times, of which
    ``arrived_ns`` is the last.
    """

    data: bytes
    arrived_ns: int
    merged: bool = False


_EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r", b"\r\r\n")
"""How a read ends that ends with an event: a blank line, and the line end of an HTTP chunk.

Else there was more: maybe the size of the next HTTP chunk, which no parser tells us of.
"""
_EVENT_END_BYTES = 4
"""An event's end and more take more bytes than these."""

# A tenth of the time of Read(…), whose constructor is a function in Python.
_read = cast("Callable[[tuple[bytes, int, bool]], Read]", partial(tuple.__new__, Read))


class Arriving(Protocol):
    """What comes in reads: whoever reads takes what is there, and waits when nothing is."""

    def wait(self) -> Awaitable[None] | None:
        """Return what to wait for before :meth:`take`, ``None`` if nothing."""

    def take(self) -> list[Read]:
        """Return what has come since; an empty list is the end."""


class Arrivals(Arriving, Protocol):
    """The body of a response as reads with their arrival times.

    :meth:`take` raises what ``aiohttp.StreamReader.readany`` raises.
    """

    @property
    def source(self) -> ArrivalSource:
        """Who told the arrivals; the worst so far."""

    @property
    def paused(self) -> float:
        """Seconds in which reading had stopped because nobody took the bytes."""

    @property
    def unasked(self) -> bool:
        """Whether the headers had come before anyone waited for them."""

    def complete(self, marks: ConnectionMarks) -> None:
        """Fill in what the socket knows better than aiohttp's tracing."""

    def linger(self, seconds: float) -> Awaitable[None] | None:
        """Return the wait while bytes gather, for about *seconds*, ``None`` if it's over.

        It ends early with the body, and where more unread would stop the reading.
        """

    def detach(self) -> None:
        """Take the stamping off the connection; who waits need wait no longer."""


class Tap(asyncio.Protocol):
    """Stands between a transport and aiohttp's protocol, and notes each read.

    ``offsets`` holds, for each read that brought bytes of the body, where in the
    body they end, when they came, and whether they may have come at several times.
    It wakes up its reader itself: aiohttp's own way takes two coroutines more.
    """

    __slots__ = (
        "_clock",
        "_content",
        "_detached",
        "_early",
        "_inner",
        "_lingering",
        "_passed_bytes",
        "_paused_at",
        "_rest",
        "_socket",
        "_socket_base",
        "_taken",
        "_transport",
        "_waiter",
        "behind",
        "connected_ns",
        "headers_ns",
        "newest_ns",
        "offsets",
        "paused_ns",
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
        self._taken = 0
        self._rest = b""  # what was still unread when the connection broke
        self._waiter: asyncio.Future[None] | None = None
        self._lingering = False
        self._detached = False
        self._early: list[tuple[int, bytes, bool]] = []
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
        # A list, because an empty deque takes 600 bytes of each stream.
        self.offsets: list[tuple[int, int, bool]] = []
        transport.set_protocol(self)

    def body_is(self, content: aiohttp.StreamReader) -> None:
        """Note the body, once the headers have been read.

        The bytes of it that came with the headers bear the newest stamp so far,
        and are flagged if several reads may have brought them.
        """
        self._content = content
        if self._early:
            at, end, inside = self._early[-1]
            self.headers_ns = at
            # An empty body doesn't know whether it is compressed.
            several = len(self._early) > 1 or inside
            merged = several or (content.total_bytes > 0 and _goes_on(end, content))
        else:  # bytes that came before we stood here have no stamp at all
            at, merged = self._clock(), True
        if content.total_bytes:
            self.offsets.append((content.total_bytes, at, merged))
        self._early.clear()

    def detach(self) -> None:
        """Give the transport back to aiohttp, if nobody else stands there by now."""
        self._detached = True
        # A TLS transport of asyncio that was closed twice has forgotten its protocol.
        with contextlib.suppress(AttributeError):
            if self._transport.get_protocol() is self:
                self._transport.set_protocol(self._inner)
        self._wake()

    # --- What the transport calls --------------------------------------------

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
        if not stamped:
            self.source = ArrivalSource.TRANSPORT
        content = self._content
        if content is None:
            if self.sent_ns is None and socket is not None:
                self.sent_ns = socket.sent_ns
            inside = socket is not None and socket.inside_record
            self._early.append((self.newest_ns, data[-_EVENT_END_BYTES - 1 :], inside))
            self._inner.data_received(data)
            return
        before = content.total_bytes
        self._inner.data_received(data)
        total = content.total_bytes
        if total != before:
            paused = total - self._taken > FEW_UNREAD and not self._transport.is_reading()
            merged = (
                self.behind
                or paused  # of a read that fills the buffer, aiohttp's parser keeps the rest
                or (socket is not None and socket.inside_record)
                or _goes_on(data, content)
            )
            self.offsets.append((total, self.newest_ns, merged))
            self.behind = self.behind and len(data) >= FULL_READ
            if paused and self._paused_at is None:
                self._paused_at = self._clock()
            waiter = self._waiter
            if waiter is not None and not (
                self._lingering
                and total - self._taken < MUCH_UNREAD
                and _DONE not in data
                and not _over(content)
            ):  # as _wake() does
                self._waiter = None
                if not waiter.done():
                    waiter.set_result(None)
        elif _over(content):
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and see to it that whoever waits for the body hears of it."""
        content = self._content
        if content is not None and not _over(content):
            # Once it has an error, aiohttp's reader drops what nobody has read yet. Its
            # parser, where it was paused, goes on with what it kept as that is read;
            # compressed, that may be a bomb.
            while content.exception() is None and (data := content.read_nowait()):
                self._rest += data
                if content.total_compressed_bytes is not None:
                    break
        if self._paused_at is not None:  # a closed transport never reads again
            self.paused_ns += self._clock() - self._paused_at
            self._paused_at, self.behind = None, True
        closed_here = getattr(self._inner, "transport", self) is None  # as aiohttp's close() does
        self._inner.connection_lost(exc)
        # aiohttp 3.14 closes the connection at a chunk that is none, but never
        # says so to who reads the body.
        if content is not None and not _over(content):
            content.set_exception(
                aiohttp.ClientConnectionError("Connection closed")
                if closed_here
                else HttpProcessingError(message="the body can't be parsed")
            )
        self._wake()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    # --- What the reader of the body calls -----------------------------------

    @property
    def paused(self) -> float:
        """Seconds in which reading had stopped because nobody took the bytes."""
        return self.paused_ns / NS

    @property
    def unasked(self) -> bool:
        """Whether the headers had come before anyone waited for them."""
        return self.headers_ns is None

    def complete(self, marks: ConnectionMarks) -> None:
        """Fill in what the socket knows better than aiohttp's tracing."""
        if self.headers_ns is not None:
            marks.headers_ns = self.headers_ns
        if self.sent_ns is not None and self.sent_ns >= marks.started_ns:
            # A quick answer may be here before the clock was read after sending.
            marks.sent_ns = min(self.sent_ns, marks.headers_ns or self.sent_ns)
        if marks.reused is False:
            marks.tcp_connected_ns = self.connected_ns
            marks.secure = self.secure

    def wait(self) -> asyncio.Future[None] | None:
        """Return what is done when there is something to take, see :class:`Arrivals`."""
        content = self._content
        assert content is not None  # noqa: S101 the headers were read
        self._wake()  # of two who wait, the first has nothing to wait for any more
        if content.total_bytes > self._taken or self._detached or _over(content):
            return None
        waiter: asyncio.Future[None] = asyncio.Future()
        self._waiter = waiter
        return waiter

    def linger(self, seconds: float) -> Awaitable[None] | None:
        """Return the wait while bytes gather, see :class:`Arrivals`."""
        content = self._content
        assert content is not None  # noqa: S101 the headers were read
        unread = content.total_bytes - self._taken
        if self._detached or _over(content) or unread >= MUCH_UNREAD:
            return None
        return self._linger(seconds)

    async def _linger(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        self._lingering = True
        # Give or take half: streams that began together, or that a busy loop held up, would
        # else be looked at together from then on, and between them nothing would be read.
        timer = loop.call_later(seconds * random.uniform(0.5, 1.5), self._wake)  # noqa: S311
        try:
            await waiter
        finally:
            timer.cancel()
            self._lingering = False

    def take(self) -> list[Read]:
        """Return what has come since, see :class:`Arrivals`."""
        content = self._content
        assert content is not None  # noqa: S101 the headers were read
        if self._rest:
            data, self._rest = self._rest, b""
        elif content.total_bytes > self._taken:
            data = content.read_nowait()
        elif content.is_eof():
            return []
        else:
            raise content.exception() or aiohttp.ClientConnectionError
        if self._paused_at is not None:
            self._look_at_pause(self._paused_at)
        start, offsets = self._taken, self.offsets
        self._taken = end = start + len(data)
        if len(offsets) == 1 and offsets[0][0] == end:  # the usual case
            _, at, merged = offsets.pop()
            return [_read((data, at, merged))]
        return self._cut(data, start)

    def _look_at_pause(self, since_ns: int) -> None:
        """Note whether reading goes on again after a pause."""
        if self._transport.is_reading():
            self.paused_ns += self._clock() - since_ns
            self._paused_at = None
            self.behind = True

    def _cut(self, data: bytes, start: int) -> list[Read]:
        """Cut *data* where the reads ended that brought it."""
        offsets, end = self.offsets, self._taken
        reads = []
        cut = used = 0
        for offset, at, merged in offsets:
            if offset > end:
                break
            used += 1
            stop = offset - start
            if stop > cut:
                reads.append(Read(data[cut:stop], at, merged))
                cut = stop
        del offsets[:used]
        if cut < len(data):
            # aiohttp held bytes back and let go of them later, as when its
            # parser was paused: they came with the newest read at the latest.
            reads.append(Read(data[cut:], self.newest_ns, merged=True))
        return reads


class Untapped:
    """The body of a response of somebody's own session, which tells no arrivals."""

    source = ArrivalSource.READER
    paused = 0.0
    unasked = False

    def __init__(self, content: aiohttp.StreamReader, clock: Callable[[], int]) -> None:
        self._content = content
        self._clock = clock
        self._reads: list[Read] = []
        self._failure: Exception | None = None

    def complete(self, marks: ConnectionMarks) -> None:
        """Nothing more is known."""

    def wait(self) -> Awaitable[None] | None:
        """Return what to wait for before :meth:`take`, see :class:`Arrivals`."""
        return self._next()

    async def _next(self) -> None:
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError) as error:
            self._failure = error
        else:
            self._reads = [Read(data, self._clock(), merged=True)] if data else []

    def linger(self, seconds: float) -> None:
        """Don't: who has no stamps must look at once."""

    def take(self) -> list[Read]:
        """Return what was waited for, see :class:`Arrivals`."""
        if self._failure is not None:
            raise self._failure
        reads, self._reads = self._reads, []
        return reads

    def detach(self) -> None:
        """Nothing is attached."""


def _over(content: aiohttp.StreamReader) -> bool:
    """Whether no more bytes will come."""
    return content.is_eof() or content.exception() is not None


def _goes_on(data: bytes, content: aiohttp.StreamReader) -> bool:
    """Whether a read holds more after the end of its last event."""
    return (
        len(data) > _EVENT_END_BYTES
        and not data.endswith(_EVENT_ENDS)
        and content.total_compressed_bytes is None
    )


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


def arrivals_of(response: aiohttp.ClientResponse, clock: Callable[[], int]) -> Arrivals:
    """Return the body of a response, with the best stamps there are."""
    tap = response.tap if isinstance(response, StampedResponse) else None
    return Untapped(response.content, clock) if tap is None else tap


async def read(body: Arriving) -> list[Read]:
    """Wait until there is something to take, and return it."""
    if (waiter := body.wait()) is not None:
        await waiter
    return body.take()
