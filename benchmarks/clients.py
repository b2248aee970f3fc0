"""The clients: how each asks for one answer, and notes what it hears.

Each is written as its users write it. Its stamp is taken where its user's code first
sees the chunk; chatstream tells the arrival itself. All ask for the same, usage included.
"""

# ruff: noqa: PLC0415 each client imports its own library, and nobody else's

from __future__ import annotations

import codecs
import functools
import importlib.util
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.works import (
    ALL,
    BYTES,
    GATE_OPEN,
    HTTPX,
    ON_UVLOOP,
    OPENAI,
    OPENAI_AIOHTTP,
    ORJSON,
    OURS,
    PARTS,
    STAMPED_BYTES,
    VLLM,
)

now = time.perf_counter_ns


@dataclass(slots=True)
class Heard:
    """What came of one answer."""

    pieces: list[str] = field(default_factory=list)
    text: str = ""
    events: int = 0
    """Chunks with a choice."""
    usage: bool = False
    arrived: list[int] = field(default_factory=list)
    """The client's stamp of each chunk with text."""
    sent: list[int] = field(default_factory=list)
    """The server's stamp of the same chunks, if it sends one."""
    coalesced: int | None = None
    gate: float | None = None
    source: str | None = None
    kept: Any = None
    """What the client makes of the whole stream, which its user would keep."""


After = Callable[[Heard], Awaitable[bool]]
"""Awaited after each event, if there is one; true leaves the stream."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question; ``truth`` asks to note the server's stamps."""

    prompt: str
    truth: bool = False
    after: After | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation."""
        return [{"role": "user", "content": self.prompt}]

    @property
    def body(self) -> dict[str, Any]:
        """The whole request."""
        return {
            "model": "simulated",
            "messages": self.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


Hear = Callable[[Ask, Heard], Coroutine[Any, Any, None]]
"""Asks, and notes what it hears until the end of the answer."""

Tls = ssl.SSLContext | None


# --- chatstream --------------------------------------------------------------


@asynccontextmanager
async def _gate_open(url: str, tls: Tls) -> AsyncIterator[Hear]:
    from chatstream import phases

    phases.Gate = functools.partial(phases.Gate, 1_000_000)  # type: ignore[assignment,misc]
    async with _chatstream(url, tls) as hear:
        yield hear


@asynccontextmanager
async def _chatstream(url: str, tls: Tls) -> AsyncIterator[Hear]:
    from chatstream import ChatSession

    async with ChatSession(url, tls=tls) as session:

        async def hear(ask: Ask, heard: Heard) -> None:
            truth, after = ask.truth, ask.after
            async with session.stream(model="simulated", messages=ask.messages) as stream:
                async for event in stream:
                    heard.events += 1
                    if truth and event.content:
                        heard.arrived.append(event.arrived_ns)
                        heard.sent.append(event.chunk.extra["sent_ns"])
                        if event.coalesced:
                            heard.coalesced = (heard.coalesced or 0) + 1
                    if after is not None and await after(heard):
                        break
            completion, report = stream.completion, stream.report
            heard.text = completion.text
            heard.usage = completion.usage is not None
            heard.gate = report.phases.gate
            heard.source = report.source
            heard.coalesced = heard.coalesced or 0
            heard.kept = completion, report

        yield hear


# --- On aiohttp --------------------------------------------------------------


@asynccontextmanager
async def _aiohttp(tls: Tls) -> AsyncIterator[Any]:
    import aiohttp

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls or True),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as http:
        yield http


@asynccontextmanager
async def _stamped_bytes(url: str, _tls: Tls) -> AsyncIterator[Hear]:
    import aiohttp

    from chatstream import stamping_session_options

    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(**stamping_session_options(), timeout=timeout) as http,
        _bytes_of(http, url) as hear,
    ):
        yield hear


@asynccontextmanager
async def _bytes_only(url: str, tls: Tls) -> AsyncIterator[Hear]:
    async with _aiohttp(tls) as http, _bytes_of(http, url) as hear:
        yield hear


@asynccontextmanager
async def _bytes_of(http: Any, url: str) -> AsyncIterator[Hear]:
    async def hear(ask: Ask, heard: Heard) -> None:
        after = ask.after
        heard.kept = parts = []
        async with http.post(f"{url}/chat/completions", json=ask.body) as response:
            response.raise_for_status()
            async for data in response.content.iter_any():
                parts.append(data)
                if after is not None:
                    heard.events += data.count(b"\n\n")
                    if await after(heard):
                        break

    yield hear


def read_bytes(heard: Heard) -> None:
    """Fill in what bytes alone don't tell; done after the measurement."""
    heard.events = 0
    for event in b"".join(heard.kept).split(b"\n\n"):
        if event and event != b"data: [DONE]":
            chunk = json.loads(event.removeprefix(b"data: "))
            heard.usage = heard.usage or bool(chunk.get("usage"))
            for choice in chunk["choices"]:
                heard.events += 1
                heard.pieces.append(choice["delta"].get("content") or "")
    heard.text = "".join(heard.pieces)


@asynccontextmanager
async def _orjson_loop(url: str, tls: Tls) -> AsyncIterator[Hear]:
    import orjson

    async with _aiohttp(tls) as http:

        async def hear(ask: Ask, heard: Heard) -> None:
            truth, after = ask.truth, ask.after
            buffer = b""
            async with http.post(f"{url}/chat/completions", json=ask.body) as response:
                response.raise_for_status()
                async for data in response.content.iter_any():
                    *events, buffer = (buffer + data).split(b"\n\n")
                    for event in events:
                        at = now()
                        if not event.startswith(b"data: ") or event == b"data: [DONE]":
                            continue
                        chunk = orjson.loads(event[6:])
                        if choices := chunk["choices"]:
                            heard.events += 1
                            if content := choices[0]["delta"].get("content"):
                                heard.pieces.append(content)
                                heard.arrived.append(at)
                                if truth:
                                    heard.sent.append(chunk["sent_ns"])
                            if after is not None and await after(heard):
                                heard.text = "".join(heard.pieces)
                                return
                        elif chunk.get("usage"):
                            heard.usage = True
            heard.text = "".join(heard.pieces)

        yield hear


class _Messages:
    """Cuts text into messages as vLLM's benchmark does.

    It cuts one message at a time off the front, and tries whether what is left is
    whole JSON already, which then is parsed again by its caller.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> Iterator[str]:
        self._rest += self._decoder.decode(data)
        while True:
            message, end, rest = self._rest.partition("\n\n")
            if not end:
                break
            self._rest = rest
            if message := message.strip():
                yield message
        tail = self._rest.strip().removeprefix("data: ")
        if tail and len(tail) != len(self._rest):
            try:
                whole = tail == "[DONE]" or json.loads(tail) is not None
            except ValueError:
                return
            if whole:
                self._rest = ""
                yield f"data: {tail}"


@asynccontextmanager
async def _vllm_shaped(url: str, tls: Tls) -> AsyncIterator[Hear]:
    async with _aiohttp(tls) as http:

        async def hear(ask: Ask, heard: Heard) -> None:
            truth, after = ask.truth, ask.after
            text = ""
            messages = _Messages()
            async with http.post(f"{url}/chat/completions", json=ask.body) as response:
                response.raise_for_status()
                async for data in response.content.iter_any():
                    # Line ends only: a blank may belong to a text cut here.
                    for message in messages.feed(data.strip(b"\n")):
                        if message.startswith(":") or message == "data: [DONE]":
                            continue
                        at = time.perf_counter()
                        chunk = json.loads(message.removeprefix("data: "))
                        if choices := chunk.get("choices"):
                            heard.events += 1
                            if content := choices[0]["delta"].get("content"):
                                text += content
                                heard.arrived.append(round(at * 1e9))
                                if truth:
                                    heard.sent.append(chunk["sent_ns"])
                            if after is not None and await after(heard):
                                heard.text = text
                                return
                        elif chunk.get("usage"):
                            heard.usage = True
            heard.text = text

        yield hear


# --- On httpx ----------------------------------------------------------------


@asynccontextmanager
async def _httpx_sse(url: str, tls: Tls) -> AsyncIterator[Hear]:
    import httpx
    from httpx_sse import aconnect_sse

    async with httpx.AsyncClient(
        limits=httpx.Limits(max_connections=None), timeout=httpx.Timeout(None), verify=tls or True
    ) as http:

        async def hear(ask: Ask, heard: Heard) -> None:
            truth, after = ask.truth, ask.after
            address = f"{url}/chat/completions"
            async with aconnect_sse(http, "POST", address, json=ask.body) as source:
                async for event in source.aiter_sse():
                    at = now()
                    if event.data == "[DONE]":
                        break
                    chunk = event.json()
                    if choices := chunk["choices"]:
                        heard.events += 1
                        if content := choices[0]["delta"].get("content"):
                            heard.pieces.append(content)
                            heard.arrived.append(at)
                            if truth:
                                heard.sent.append(chunk["sent_ns"])
                        if after is not None and await after(heard):
                            break
                    elif chunk.get("usage"):
                        heard.usage = True
            heard.text = "".join(heard.pieces)

        yield hear


@asynccontextmanager
async def _openai_with(http: Any, url: str) -> AsyncIterator[Hear]:
    import openai

    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=http
    ) as client:

        async def hear(ask: Ask, heard: Heard) -> None:
            truth, after = ask.truth, ask.after
            # `create` sets stream itself to tell its types apart.
            async with await client.chat.completions.create(**ask.body) as stream:
                async for chunk in stream:
                    at = now()
                    if chunk.choices:
                        heard.events += 1
                        if content := chunk.choices[0].delta.content:
                            heard.pieces.append(content)
                            heard.arrived.append(at)
                            if truth:
                                heard.sent.append(chunk.model_extra["sent_ns"])
                        if after is not None and await after(heard):
                            break
                    elif chunk.usage:
                        heard.usage = True
            heard.text = "".join(heard.pieces)

        yield hear


def _limits() -> Any:
    """Return limits of the httpx that openai uses that no work reaches.

    Not ``None``: on aiohttp, openai takes that for aiohttp's default of 100.
    """
    name = "httpx2" if importlib.util.find_spec("httpx2") else "httpx"
    return importlib.import_module(name).Limits(max_connections=100_000)


@asynccontextmanager
async def _openai(url: str, tls: Tls) -> AsyncIterator[Hear]:
    import openai

    http = openai.DefaultAsyncHttpxClient(limits=_limits(), verify=tls or True)
    async with _openai_with(http, url) as hear:
        yield hear


@asynccontextmanager
async def _openai_aiohttp(url: str, tls: Tls) -> AsyncIterator[Hear]:
    import openai

    http = openai.DefaultAioHttpClient(limits=_limits(), verify=tls or True)
    async with _openai_with(http, url) as hear:
        yield hear


# --- All of them -------------------------------------------------------------

CLIENTS = {
    OURS: _chatstream,
    BYTES: _bytes_only,
    ORJSON: _orjson_loop,
    VLLM: _vllm_shaped,
    HTTPX: _httpx_sse,
    OPENAI_AIOHTTP: _openai_aiohttp,
    OPENAI: _openai,
    STAMPED_BYTES: _stamped_bytes,
    GATE_OPEN: _gate_open,
    ON_UVLOOP: _chatstream,
}

_NEEDS = {
    ON_UVLOOP: ("uvloop",),
    HTTPX: ("httpx_sse", "httpx"),
    OPENAI: ("openai",),
    OPENAI_AIOHTTP: ("openai", "aiohttp"),
}


def missing(name: str) -> str | None:
    """Return a module that *name* needs and that isn't installed."""
    return next((m for m in _NEEDS.get(name, ()) if not importlib.util.find_spec(m)), None)


assert {*ALL, *PARTS} == set(CLIENTS)  # noqa: S101 two lists of one thing
