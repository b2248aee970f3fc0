"""``python -m benchmarks.relay``: a service that hands streams on to many, some of whom leave.

Round after round, 500 clients in a process of their own ask a service at once, which asks a
simulated server. A third of them leave after a few events. What is told after each round:
how the service's streams ended, whether any is still open upstream, how long a chunk took
through the service (the median of all streams' medians, and the 99th percentile of their
99th), and how much memory it has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
from aiohttp import web

from benchmarks.server import allow_many_files, pin, serving_truth
from chatstream import ChatSession, RetryPolicy, user
from chatstream.marks import percentile
from chatstream.relay import Relayed
from chatstream.relay.web import respond

PROFILE = {"time_to_first_token": 0.05, "gap": 0.2}
PROMPT = "Count to 20"
SETTLED = 10.0
"""Seconds after which every stream upstream must have ended."""


def main() -> None:
    """Be the service, or with ``--url`` the clients."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay", description=__doc__)
    parser.add_argument("--clients", type=int, default=500, metavar="N")
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    allow_many_files()
    if options.url:
        print(json.dumps(asyncio.run(_ask_all(options.url, options.clients))))
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "served.jsonl"
        with serving_truth(PROFILE, log) as upstream:
            good = asyncio.run(_serve(upstream, options.clients, options.rounds))
    sys.exit(0 if good else "a stream was left open upstream, or an answer was cut")


async def _serve(upstream: str, clients: int, rounds: int) -> bool:
    relayed: list[Relayed] = []
    open_now: set[object] = set()
    good = True
    async with ChatSession(upstream, "none", retry=RetryPolicy(1)) as session:

        async def chat(request: web.Request) -> web.StreamResponse:
            stream = session.stream(model="simulated", messages=[user(PROMPT)])
            open_now.add(stream)
            try:
                return await respond(request, stream, relayed=relayed.append)
            finally:
                open_now.discard(stream)

        app = web.Application()
        app.add_routes([web.post("/chat", chat)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/chat"
        print("round  whole  left  still open  ms through p50    p99     MB")
        for number in range(1, rounds + 1):
            relayed.clear()
            told = await _clients(url, clients)
            until = time.monotonic() + SETTLED
            while open_now and time.monotonic() < until:  # noqa: ASYNC110 no event tells
                await asyncio.sleep(0.05)
            verdicts = Counter(one.report.verdict.value for one in relayed)
            whole, left = verdicts["finished"], verdicts["closed"]
            lags = [one.lag for one in relayed if one.lag and not one.client_gone]
            p50 = (percentile([lag.p50 for lag in lags], 0.5) or 0) * 1e3
            p99 = (percentile([lag.p99 for lag in lags], 0.99) or 0) * 1e3
            print(
                f"{number:5}  {whole:5}  {left:4}  {len(open_now):10}"
                f"  {p50:14.2f}  {p99:5.1f}  {_memory():5.1f}",
                flush=True,
            )
            # Who leaves at the very end may have had the whole answer.
            good = good and not open_now and "cut" not in told and whole + left == clients
        await runner.cleanup()
    return good


async def _clients(url: str, clients: int) -> dict[str, int]:
    """Run the clients in a process of their own; return what became of them."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.relay", "--url", url, "--clients", str(clients)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    found: dict[str, int] = json.loads(output)
    return found


async def _ask_all(url: str, clients: int) -> dict[str, int]:
    pin(0)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        found = Counter(
            await asyncio.gather(*(_ask(http, url, leaves=n % 3 == 0) for n in range(clients)))
        )
    return dict(found)


async def _ask(http: aiohttp.ClientSession, url: str, *, leaves: bool) -> str:
    """Read an answer to its end, or leave on the way."""
    stays = random.randrange(20) if leaves else None
    body = b""
    async with http.post(url) as response:
        seen = 0
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async for data in response.content.iter_any():
                body += data
                seen += 1
                if stays in (seen, 0):
                    response.close()
                    return "left"
    return "whole" if body.endswith(b"data: [DONE]\n\n") else "cut"


def _memory() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
