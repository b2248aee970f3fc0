"""The server: a process of its own, on a core of its own if there are two.

``python -m benchmarks.server '{…}'`` prints its base URL and runs until its input ends.
"""

# ruff: noqa: PLC0415 clients import this file too, for its cores, and shouldn't pay for more

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.works import Work

if TYPE_CHECKING:
    from chatstream.testing.backend import RecordedRequest

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(place: int) -> None:
    """Keep this process on one core, the first (0) or the last (-1), if there are two."""
    if len(CORES) > 1:
        os.sched_setaffinity(0, {CORES[place]})


def allow_many_files() -> None:
    """Raise the limit of open files as far as this user may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def serving(work: Work, folder: Path) -> Iterator[tuple[str, str | None]]:
    """Run the server of *work*; gives its base URL and the file of its CA, if it has one."""
    cafile = str(folder / "ca.pem") if work.tls else None
    told = {
        "profile": work.profile,
        "truth": work.truth,
        "cafile": cafile,
        "holds": work.tokens if work.holds else 0,
    }
    with _running(told) as (url, _):
        yield url, cafile


@contextlib.contextmanager
def serving_truth(profile: dict[str, Any], log: Path) -> Iterator[str]:
    """Run a server that writes down what it did; gives its base URL.

    When it has ended, *log* has a line of JSON for each of its newest 10,000 requests:
    its ``id`` (the server's), ``asked_as`` (the client's), ``received_ns``, and
    ``sent_ns``, a list of when each write was made. Moments are of ``perf_counter_ns``.
    """
    with truth_process(profile, log) as (url, _):
        yield url


@contextlib.contextmanager
def truth_process(profile: dict[str, Any], log: Path) -> Iterator[tuple[str, int]]:
    """Run the server of ``serving_truth``; gives its process's number, too, to stop it."""
    told = {"profile": profile, "truth": True, "cafile": None, "holds": 0, "log": str(log)}
    with _running(told) as (url, pid):
        yield url, pid


@contextlib.contextmanager
def _running(told: dict[str, Any]) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "benchmarks.server", json.dumps(told)]
    with subprocess.Popen(  # noqa: S603 our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 it is a pipe
        assert process.stdin is not None  # noqa: S101
        try:
            url = process.stdout.readline().strip()
            if not url:
                msg = "the server didn't start"
                raise RuntimeError(msg)
            yield url, process.pid
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


class Holding(asyncio.Protocol):
    """Sends so many chunks to whoever sends a request, and then no more.

    The simulated server always ends its answers; here the streams have to stay open,
    with no time limit, until the slowest client has opened all of them.
    """

    def __init__(self, tokens: int, gap: float) -> None:
        deltas: list[dict[str, str]] = [{"role": "assistant"}]
        deltas += [{"content": str(k // 2 + 1) if k % 2 == 0 else ", "} for k in range(tokens)]
        self._chunks = iter([_event(delta) for delta in deltas])
        self._gap = gap
        self._request = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio``."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Wait for the whole of the request: it ends with its body, an object."""
        self._request += data
        if b"\r\n\r\n{" in self._request and self._request.endswith(b"}"):
            self._request.clear()
            head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            self._transport.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            self._send()

    def _send(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is not None and not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            asyncio.get_running_loop().call_later(self._gap, self._send)


def _event(delta: dict[str, str]) -> bytes:
    chunk = {
        "id": "chatcmpl-sim000000000001",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "simulated",
        "system_fingerprint": "fp_simulated",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
        "usage": None,
    }
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()


async def _serve(told: dict[str, Any]) -> None:
    from chatstream.testing import Profile, SimulatedServer

    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        if told["holds"]:
            server = await loop.create_server(
                lambda: Holding(told["holds"], told["profile"]["gap"]), "127.0.0.1", backlog=4096
            )
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        else:
            simulated = SimulatedServer(
                Profile(**told["profile"]),
                truth=told["truth"],
                ssl=_tls(told["cafile"]) if told["cafile"] else None,
            )
            url = (await stack.enter_async_context(simulated)).base_url
        print(url, flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        if told.get("log"):
            _write_log(Path(told["log"]), simulated.requests)


def _write_log(log: Path, requests: list[RecordedRequest]) -> None:
    with log.open("w", encoding="ascii") as file:
        for request in requests:
            line = {
                "id": f"req_{request.number:016x}",  # as in the response's x-request-id
                "asked_as": request.headers.get("x-request-id"),
                "received_ns": request.received_ns,
                "sent_ns": request.sent_ns.tolist(),
            }
            file.write(f"{json.dumps(line)}\n")


def _tls(cafile: str) -> ssl.SSLContext:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(cafile)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


if __name__ == "__main__":
    pin(0)
    allow_many_files()
    asyncio.run(_serve(json.loads(sys.argv[1])))
