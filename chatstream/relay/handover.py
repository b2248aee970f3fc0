"""Hands a stream on to a client: one write for each chunk, as fast as the client takes them.

::

    ChatStream ─→ chunk ─→ frame ─→ write, which waits while the client is behind
        ↑                              │
        └──── closed when the client has gone

Nothing is kept in between: who waits for a slow client doesn't read, so the upstream's
own connection fills, and its server stops. While nothing comes a comment goes out now and
then, or proxies between would take the connection for dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

import orjson
from attrs import define, field, frozen

from chatstream.errors import ChatStreamError
from chatstream.marks import NS
from chatstream.relay.frames import HEARTBEAT, Format
from chatstream.relay.refusals import Refusal, refusal_of
from chatstream.report import Distribution, StreamReport
from chatstream.stream import ChatStream

Head: TypeAlias = tuple[int, Mapping[str, str]]

STREAM_HEAD: Head = (
    200,
    {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",  # or nginx gathers frames before it sends any
    },
)


class ClientGoneError(Exception):
    """Whoever asked has hung up."""


class Client(Protocol):
    """Who asked, and gets the answer; what a web framework is to a relay."""

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head. Raises ``ClientGoneError``."""

    async def write(self, data: bytes) -> None:
        """Send a part of the body, and wait while too much is unsent. Raises likewise."""

    async def finish(self) -> None:
        """End the body. Raises likewise."""

    async def gone(self) -> None:
        """Wait until the client has hung up."""


@frozen(kw_only=True)
class Relayed:
    """How a stream was handed on."""

    status: int | None
    """What the client was told; ``None`` if it had gone before."""
    client_gone: bool
    """Whether it hung up before the end, or took nothing for too long."""
    report: StreamReport
    """The upstream's latencies; its verdict is ``closed`` if the client had gone."""
    first_write: float | None
    """Seconds from the call until the first chunk had been handed to the client's connection."""
    lag: Distribution | None
    """Seconds from each chunk's arrival here until it was handed over: our own work,
    and the wait for a client that is slow."""
    bytes_sent: int
    heartbeats: int


@define
class Handover:
    """One stream on its way to one client."""

    stream: ChatStream
    client: Client
    format: Format
    heartbeat: float = 15.0
    """Seconds of silence after which a comment is sent. So long an error may still
    become a status of its own; after that the head is out."""
    send_timeout: float | None = 60.0
    """Seconds in which a client may take nothing of what there is for it, and still counts
    as there; ``None`` for ever."""
    relayed: Callable[[Relayed], None] | None = None
    """Told how it went, however it ended; also by cancellation."""
    clock: Callable[[], int] = time.perf_counter_ns
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    _began_ns: int = field(init=False, default=0)
    _status: int | None = field(init=False, default=None)
    _gone: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)
    _written_ns: int = field(init=False, default=0)
    _first_write: float | None = field(init=False, default=None)
    _lags: list[float] = field(init=False, factory=list)
    _bytes: int = field(init=False, default=0)
    _heartbeats: int = field(init=False, default=0)
    _writing: asyncio.Lock = field(init=False, factory=asyncio.Lock)

    async def run(self) -> Relayed:
        """Hand the stream on to its end, or until the client has gone."""
        self._began_ns = self._written_ns = self.clock()
        try:
            await self._accompanied()
        finally:
            found = self._found()
            if self.relayed is not None:
                self.relayed(found)
        return found

    async def _accompanied(self) -> None:
        """Hand the stream on while somebody watches the client, and sends comments."""
        tasks = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._beat())]
        try:
            await self._hand_on()
        except ClientGoneError:
            await self._let_go()
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):  # of the framework, or of ours
                raise outcome

    def _found(self) -> Relayed:
        return Relayed(
            status=self._status,
            client_gone=self._gone,
            report=self.stream.report,
            first_write=self._first_write,
            lag=Distribution.of(self._lags),
            bytes_sent=self._bytes,
            heartbeats=self._heartbeats,
        )

    async def _hand_on(self) -> None:
        stream, refusal = self.stream, None
        try:
            async with contextlib.nullcontext() if stream.entered else stream:
                async for event in stream.chunks():
                    frame = self.format.chunk(event.chunk)
                    if not frame:
                        continue
                    async with self._writing:
                        await self._write(frame, STREAM_HEAD)
                    now_ns = self.clock()
                    self._lags.append((now_ns - event.arrived_ns) / NS)
                    if self._first_write is None:
                        self._first_write = (now_ns - self._began_ns) / NS
        except ChatStreamError as error:
            refusal = refusal_of(error)
        if self._gone:
            return
        if refusal is not None:
            await self._refuse(refusal)
        else:  # also if somebody else closed it, as a stop button does: what came is all there is
            await self._finish(self.format.end(stream.report))

    async def _refuse(self, refusal: Refusal) -> None:
        """Tell of an error: by a status, if none is out yet."""
        if self._status is None:
            headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
            head = refusal.status, headers | refusal.headers
            await self._finish(orjson.dumps(refusal.body), head)
        else:
            await self._finish(self.format.error(refusal))

    async def _finish(self, data: bytes, head: Head = STREAM_HEAD) -> None:
        """Send the last of it; no comment may follow."""
        async with self._writing:
            self._over = True
            await self._write(data, head, last=True)

    async def _write(self, data: bytes, head: Head, *, last: bool = False) -> None:
        """Send frames, after the head if none is out; no two at a time."""
        try:
            async with asyncio.timeout(self.send_timeout):
                if self._status is None:
                    self._status, headers = head
                    await self.client.start(self._status, headers)
                await self.client.write(data)
                if last:
                    await self.client.finish()
        except TimeoutError as error:
            raise ClientGoneError from error
        self._bytes += len(data)
        self._written_ns = self.clock()

    async def _beat(self) -> None:
        """Send a comment whenever nothing was sent for so long."""
        try:
            while True:
                silent = (self.clock() - self._written_ns) / NS
                if silent < self.heartbeat:
                    await self.sleep(self.heartbeat - silent)
                elif self._writing.locked():  # the client doesn't take what there is
                    await self.sleep(self.heartbeat)
                else:
                    await self._comment()
        except ClientGoneError:
            await self._let_go()

    async def _comment(self) -> None:
        async with self._writing:
            if self._over:  # the end stood before us in the queue
                return
            await self._write(HEARTBEAT, STREAM_HEAD)
            self._heartbeats += 1

    async def _watch(self) -> None:
        """Close the stream as soon as the client has gone."""
        await self.client.gone()
        await self._let_go()

    async def _let_go(self) -> None:
        """Nobody listens any more: upstream needn't go on."""
        self._gone = True
        await self.stream.aclose()
