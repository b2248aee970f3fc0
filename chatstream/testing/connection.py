"""One connection to a simulated server: its requests, answered in their order."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from chatstream.testing import payloads
from chatstream.testing.backend import Backend, RecordedRequest
from chatstream.testing.pacing import DelayedReply, PacedStream, Reply
from chatstream.testing.payloads import Script
from chatstream.testing.refusals import Refusal
from chatstream.testing.traffic import Traffic
from chatstream.testing.wire import Head, Request, RequestReader, WireError, render_head

_MOST_PIPELINED_BYTES = 256 * 1024

_COMMON = {
    "server": "chatstream-simulated",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "30ms",
}
_JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Connection(asyncio.Protocol):
    """HTTP/1.1 between a transport and a backend."""

    def __init__(self, backend: Backend, traffic: Traffic, loop: asyncio.AbstractEventLoop) -> None:
        self._backend = backend
        self._traffic = traffic
        self._loop = loop
        self._reader = RequestReader()
        self._reply: Reply | None = None
        self._write_paused = False
        self._read_paused = False
        self._closing = False
        self._going_on = False
        self._number = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio``."""
        self._transport = cast("asyncio.Transport", transport)
        # See pacing.py. Not 0: over TLS, asyncio pauses at this mark, not
        # above it, and would never resume.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._number = self._traffic.connected(self)
        if self._traffic.closed:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, asyncio's
        """See ``asyncio``."""
        self._closing = True
        if self._reply is not None:
            self._reply.cancel()
            self._reply = None
            self._traffic.ended(abandoned=True)
        self._traffic.disconnected(self)

    def eof_received(self) -> None:
        """Treat a half-closed connection as closed.

        Its client might read on, but no chat client does, and for one that
        has left there is nothing to write.
        """
        if self._reply is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """See ``asyncio``."""
        self._write_paused = True
        if self._reply is not None:
            self._reply.pause()

    def resume_writing(self) -> None:
        """See ``asyncio``."""
        self._write_paused = False
        if self._reply is not None:
            self._reply.resume()

    def data_received(self, data: bytes) -> None:
        """See ``asyncio``."""
        self._reader.feed(data)
        if self._reply is None:
            self._go_on()
        elif self._reader.buffered > _MOST_PIPELINED_BYTES and not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._transport.abort()

    def _go_on(self) -> None:
        """Answer what is whole, until an answer takes its time."""
        if self._going_on:  # an answer ended at once, below
            return
        self._going_on = True
        while self._reply is None and not self._closing:
            try:
                request = self._reader.take()
            except WireError as exc:
                self._write_whole(exc.status, {}, Refusal(exc.status, exc.message).body())
                self._finish(keep=False)
                break
            if request is None:
                if self._reader.wants_continue():
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if self._read_paused:
                    self._read_paused = False
                    self._transport.resume_reading()
                break
            self._answer(request)
        self._going_on = False

    def _answer(self, request: Request) -> None:
        head = request.head
        record = self._backend.record(request, self._number)
        try:
            answer = self._backend.answer(record)
        except Refusal as refusal:
            headers = {**self._headers(record, head), **refusal.headers}
            self._write_whole(refusal.status, headers, refusal.body(), head)
            self._finish(keep=head.keep_alive)
            return
        if isinstance(answer, bytes):
            self._write_whole(200, self._headers(record, head), answer, head)
            self._finish(keep=head.keep_alive)
            return
        self._traffic.began()
        reply: Reply
        if answer.opening:
            reply = self._stream(answer, head, record)
        else:
            reply = self._delay(answer, head, record)
        self._reply = reply
        if self._write_paused:
            reply.pause()
        reply.start()

    def _stream(self, script: Script, head: Head, record: RecordedRequest) -> PacedStream:
        backend = self._backend
        profile = backend.profile
        chunked = profile.framing != "close" and not head.old
        keep = chunked and head.keep_alive
        return PacedStream(
            script,
            profile,
            loop=self._loop,
            started=self._loop.time(),
            number=record.number,
            envelope=_envelope(script, "chat.completion.chunk", record),
            head=partial(self._stream_head, record, head, chunked=chunked),
            chunked=chunked,
            clock=partial(_noted, backend.clock, record.sent_ns) if backend.truth else None,
            write=self._transport.write,
            done=partial(self._replied, keep=keep),
        )

    def _stream_head(self, record: RecordedRequest, head: Head, *, chunked: bool) -> bytes:
        headers = _EVENTS | self._headers(record, head)
        headers |= {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
        return render_head(200, headers)

    def _delay(self, script: Script, head: Head, record: RecordedRequest) -> DelayedReply:
        profile = self._backend.profile
        wait = profile.time_to_first_token + script.slots[-1] * profile.gap
        return DelayedReply(
            loop=self._loop,
            due=self._loop.time() + wait,
            send=partial(self._write_completion, script, head, record),
            done=partial(self._replied, keep=head.keep_alive),
        )

    def _write_completion(self, script: Script, head: Head, record: RecordedRequest) -> None:
        body = _envelope(script, "chat.completion", record) + script.parts[0]
        headers = self._headers(record, head)
        if self._backend.truth:
            body += payloads.stamp(_noted(self._backend.clock, record.sent_ns))
        self._write_whole(200, headers, body + b"}", head)

    def _headers(self, record: RecordedRequest, head: Head) -> dict[str, str]:
        backend = self._backend
        headers = {
            **_COMMON,
            "x-request-id": f"req_{record.number:016x}",
            "openai-processing-ms": str((backend.clock() - record.received_ns) // 1_000_000),
        }
        if backend.truth:
            headers["x-simulate-received-ns"] = str(record.received_ns)
        if not head.keep_alive:
            headers["connection"] = "close"
        elif head.old:
            headers["connection"] = "keep-alive"
        return headers

    def _write_whole(
        self, status: int, headers: Mapping[str, str], body: bytes, head: Head | None = None
    ) -> None:
        """Write a response with a length; without *head*, the last one."""
        fields = {**_JSON, **headers, "content-length": str(len(body))}
        if head is None:
            fields["connection"] = "close"
        elif head.method == "HEAD":
            body = b""
        self._transport.write(render_head(status, fields) + body)

    def _replied(self, *, keep: bool) -> None:
        self._reply = None
        self._traffic.ended(abandoned=False)
        self._finish(keep=keep)

    def _finish(self, *, keep: bool) -> None:
        if keep:
            self._go_on()
        else:
            self._closing = True
            self._transport.close()


def _noted(clock: Callable[[], int], moments: array[int]) -> int:
    """Read the clock, and note what it says."""
    now = clock()
    moments.append(now)
    return now


def _envelope(script: Script, kind: str, record: RecordedRequest) -> bytes:
    return payloads.envelope(script, kind, f"chatcmpl-sim{record.number:012d}", int(time.time()))
