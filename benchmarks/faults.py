"""A server that fails as it is told, and what a client should see of each fault.

``python -m benchmarks.faults`` prints its base URL and runs until its input ends. A request
names its fault and a number; all else follows from the number, on both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from benchmarks.server import allow_many_files
from chatstream import (
    AuthenticationError,
    ChatStreamError,
    DecodeError,
    EventTooLargeError,
    IdleTimeoutError,
    InterruptedStreamError,
    NotAnEventStreamError,
    ProtocolError,
    TotalTimeoutError,
    UpstreamError,
    Verdict,
)

LARGEST_EVENT = 64 * 1024
"""Bytes that the client keeps of one event."""


@dataclass(frozen=True)
class Fault:
    """How one kind of stream should end."""

    name: str
    error: type[ChatStreamError] | None
    verdict: Verdict
    text: str = "cut"
    """``whole``, ``cut`` exactly where the fault was, its ``start`` or ``none``."""
    attempts: int | None = 1
    """``None`` if it may be any number."""


NO_FAULT = Fault("no fault", None, Verdict.FINISHED, "whole")
FAULTS = (
    # After some tokens. A reset takes along what was still on its way.
    Fault("reset inside an event", InterruptedStreamError, Verdict.TRUNCATED, "start"),
    Fault("reset between events", InterruptedStreamError, Verdict.TRUNCATED, "start"),
    Fault("closed between events", InterruptedStreamError, Verdict.TRUNCATED),
    Fault("ended without finish or [DONE]", InterruptedStreamError, Verdict.TRUNCATED),
    Fault("gzip cut short", InterruptedStreamError, Verdict.TRUNCATED),
    Fault("stall", IdleTimeoutError, Verdict.TIMEOUT),
    Fault("endless comments", IdleTimeoutError, Verdict.TIMEOUT),
    Fault("malformed JSON", DecodeError, Verdict.MALFORMED),
    Fault("a number for content", DecodeError, Verdict.MALFORMED),
    Fault("error object", UpstreamError, Verdict.UPSTREAM_ERROR),
    Fault("oversized event", EventTooLargeError, Verdict.MALFORMED),
    # What came in one read with it is lost in aiohttp, and be it the whole answer so far.
    Fault("broken chunk size", ProtocolError, Verdict.MALFORMED, "start", None),
    # Before the first.
    Fault("HTML page", NotAnEventStreamError, Verdict.MALFORMED, "none"),
    Fault("empty body", NotAnEventStreamError, Verdict.EMPTY, "none"),
    Fault("401", AuthenticationError, Verdict.HTTP_ERROR, "none"),
    Fault("500, then whole", None, Verdict.FINISHED, "whole", 2),
    Fault("429, then whole", None, Verdict.FINISHED, "whole", 2),
    Fault("reset at once, then whole", None, Verdict.FINISHED, "whole", 2),
    Fault("slow headers, then whole", None, Verdict.FINISHED, "whole", 2),
    Fault("cut after the role, then whole", None, Verdict.FINISHED, "whole", 2),
    # The client's own doing.
    Fault("client cancels", None, Verdict.CANCELLED, "start", None),
    Fault("client breaks", None, Verdict.CLOSED, "cut"),
    Fault("client closes elsewhere", None, Verdict.CLOSED, "start", None),
    Fault("client's time is up", TotalTimeoutError, Verdict.TIMEOUT, "start", None),
)
BY_NAME = {fault.name: fault for fault in (NO_FAULT, *FAULTS)}


class Plan:
    """One stream: its tokens, the gaps before them, and how many come before the fault."""

    def __init__(self, number: int, fault: str, pace: float) -> None:
        chance = random.Random(number)
        self.number = number
        self.fault = BY_NAME[fault]
        self.pace = pace
        count = chance.randint(8, 40)
        self.tokens = ["".join(chance.choices(_LETTERS, k=3)) for _ in range(count)]
        self.gaps = [chance.uniform(0.5, 1.5) * pace for _ in range(count)]
        self.cut = chance.randrange(1, count)
        self.moment = chance.uniform(0, 0.5) * sum(self.gaps)
        """When the client loses its patience, if it does."""

    @property
    def headers(self) -> dict[str, str]:
        """What the server is told."""
        return {"x-plan": json.dumps([self.number, self.fault.name, self.pace])}

    @cached_property
    def texts(self) -> frozenset[str]:
        """What the client may have heard in the end."""
        starts = ["", *accumulate(self.tokens)]
        match self.fault.text:
            case "whole":
                return frozenset(starts[-1:])
            case "cut":
                return frozenset([starts[self.cut]])
            case "none":
                return frozenset([""])
            case _:
                return frozenset(starts)


_LETTERS = 'abcdefgh  ,.\n"\\{}[]:üßжλ日本語한국🎉👩\u200d\u2028\0'


# --- The server ------------------------------------------------------------------------

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
_PAGE = b"<!doctype html><title>Sign in</title>" + b"<p>Please sign in.</p>" * 50
_LAST = b"0\r\n\r\n"
_CLEAN = {"ended without finish or [DONE]", "gzip cut short"}
"""Ends that are none to HTTP: the connection can be used again."""


@dataclass
class Connection:
    """One connection: requests in, pieces of answers out."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    zipped: zlib._Compress | None = None

    async def plans(self) -> AsyncIterator[Plan]:
        """Yield what each request asks for."""
        while True:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            lines = (line.partition(": ") for line in head.split("\r\n"))
            fields = {name.lower(): value for name, _, value in lines}
            await self.reader.readexactly(int(fields["content-length"]))
            yield Plan(*json.loads(fields["x-plan"]))

    async def send(self, data: bytes) -> None:
        """Write, and wait until there is room for more."""
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """Write a chunk of a chunked body."""
        if self.zipped is not None:
            data = self.zipped.compress(data) + self.zipped.flush(zlib.Z_SYNC_FLUSH)
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def delta(self, finish_reason: str | None = None, **delta: str | int) -> None:
        """Write the event of one chunk with one choice."""
        await self.chunk(_event(finish_reason, **delta))

    async def document(self, status: str, body: bytes, *fields: bytes) -> None:
        """Write an answer that isn't a stream."""
        length = b"content-length: %d" % len(body)
        head = [b"HTTP/1.1 " + status.encode(), length, *fields]
        await self.send(b"\r\n".join([*head, b"", body]))

    def reset(self) -> None:
        """Close with a RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def silence(self) -> None:
        """Send nothing until the client has gone."""
        await self.reader.read()


def _event(finish_reason: str | None = None, **delta: str | int) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": "soak", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


async def _refused(to: Connection, plan: Plan, *, again: bool) -> bool:
    """Fail before there is a stream, if that's the plan; return whether it was."""
    match plan.fault.name:
        case "HTML page":
            await to.document("200 OK", _PAGE, b"content-type: text/html")
        case "empty body":
            await to.document("200 OK", b"", b"content-type: text/event-stream")
        case "401":
            await to.document("401 Unauthorized", b'{"error": {"message": "who are you?"}}')
        case "500, then whole" if not again:
            await to.document("500 Internal Server Error", b"out of memory")
        case "429, then whole" if not again:
            await to.document("429 Too Many Requests", b"", b"retry-after: 0.2")
        case "reset at once, then whole" if not again:
            to.reset()
        case "slow headers, then whole" if not again:
            for at in range(len(_HEAD)):
                await to.send(_HEAD[at : at + 1])
                await asyncio.sleep(0.5)
        case _:
            return False
    return True


async def _stream(to: Connection, plan: Plan, *, again: bool) -> bool:
    """Stream as planned; return whether the connection can be used again."""
    name = plan.fault.name
    broken = plan.fault.text in {"cut", "start"} and not name.startswith("client")
    if name == "gzip cut short":
        to.zipped = zlib.compressobj(wbits=31)
        await to.send(_HEAD + b"content-encoding: gzip\r\n\r\n")
    else:
        await to.send(_HEAD + b"\r\n")
    await to.delta(role="assistant", content="")
    if name == "cut after the role, then whole" and not again:
        return False
    planned = list(zip(plan.tokens, plan.gaps, strict=True))
    for token, gap in planned[: plan.cut if broken else None]:
        await asyncio.sleep(gap)
        await to.delta(content=token)
    if broken and name not in _CLEAN:
        await _break(to, name)
        return False
    if plan.fault.text == "start":  # however late the client is, the answer mustn't be whole
        await to.silence()
        return False
    if not broken:
        await to.delta("stop")
        await to.chunk(b"data: [DONE]\n\n")
    await to.send(_LAST)
    to.zipped = None
    return True


async def _break(to: Connection, name: str) -> None:
    """Do what the fault is called."""
    match name:
        case "reset inside an event":
            await to.chunk(_event(content="lost")[:-20])
            to.reset()
        case "reset between events":
            to.reset()
        case "closed between events":
            pass
        case "stall":
            await to.silence()
        case "endless comments":
            while True:
                await to.chunk(b": ping\n\n")
                await asyncio.sleep(0.1)
        case "malformed JSON":
            await to.chunk(_event(content="lost")[:-20] + b"\n\n")
        case "a number for content":
            await to.delta(content=1)
        case "error object":
            await to.chunk(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n')
        case "oversized event":
            await to.chunk(b"data: " + b"x" * (LARGEST_EVENT + 1))
            await to.silence()
        case "broken chunk size":
            await to.send(b"zz\r\n")
            await to.silence()
        case _:
            raise NotImplementedError(name)


async def serve() -> None:
    """Serve until the input ends."""
    failed_once: set[int] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = Connection(reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async for plan in to.plans():
                again = plan.number in failed_once
                if plan.fault.attempts == 2:  # noqa: PLR2004 a second one succeeds
                    failed_once.add(plan.number)
                if await _refused(to, plan, again=again):
                    continue
                if not await _stream(to, plan, again=again):
                    break
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    allow_many_files()
    asyncio.run(serve())
