"""One client does one work in a process of its own: first proved right, then measured.

``python -m benchmarks.trial '{…}'`` prints the figures as one line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import math
import ssl
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.clients import CLIENTS, After, Ask, Hear, Heard, read_bytes
from benchmarks.server import allow_many_files, pin
from benchmarks.works import BYTES, ON_UVLOOP, STAMPED_BYTES, Work, works

MS = 1_000_000
BYTES_CLIENTS = {BYTES, STAMPED_BYTES}
LEAST_CPU = 0.3
"""CPU seconds of a measurement; less would hang on chance."""


class WrongError(Exception):
    """The client didn't hear what the server said."""


def check(work: Work, heard: Heard, client: str) -> None:
    """Raise ``WrongError`` unless *heard* is the whole answer."""
    if client in BYTES_CLIENTS:
        read_bytes(heard)
    found = heard.text, heard.events, heard.usage
    wanted = work.text, work.events, not work.holds
    if found != wanted:
        msg = (
            f"heard {found[0][-40:]!r} in {found[1:]}, expected {wanted[0][-40:]!r} in {wanted[1:]}"
        )
        raise WrongError(msg)
    if (
        work.truth
        and client not in BYTES_CLIENTS
        and not len(heard.sent) == len(heard.arrived) == work.tokens
    ):
        msg = f"{len(heard.sent)} and {len(heard.arrived)} stamps, expected {work.tokens}"
        raise WrongError(msg)


async def prove(work: Work, client: str, hear: Hear) -> dict[str, float]:
    """Hear one whole answer of the work, which must be right."""
    heard = Heard()
    await _all(work, hear, [heard])
    check(work, heard, client)
    return {}


async def measure(work: Work, client: str, hear: Hear) -> dict[str, Any]:
    """Return the figures of one run."""
    # Whatever is imported or set up at first use is.
    await hear(Ask("Count to 2", after=_leaver() if work.holds else None), Heard())
    gc.collect()
    if work.holds:
        return {"memory": await _memory(work, client, hear)}

    if work.streams == 1:
        return {"cpu": await _cpu_of_one(work, client, hear)}
    heards = [Heard() for _ in range(work.streams)]
    meter = asyncio.create_task(_cpu_in(work.window, heards)) if work.window else None
    waited = _core_wait()
    wall, cpu = time.perf_counter(), time.process_time()
    await _all(work, hear, heards)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    waited = _core_wait() - waited
    for heard in heards:
        check(work, heard, client)

    figures: dict[str, Any]
    if meter is not None:
        figures = {"cpu": await meter}
    else:
        figures = {"cpu": cpu / work.streams * 1e6, "wall": wall}
    if work.truth and client not in BYTES_CLIENTS:
        figures |= _truth(heards)
    figures["waited"] = waited
    figures["source"] = next((h.source for h in heards if h.source), None)
    return figures


async def _all(work: Work, hear: Hear, heards: Sequence[Heard]) -> None:
    """Hear all these answers at once, or as spread as the work wants."""
    streams = len(heards)

    async def one(number: int, heard: Heard) -> None:
        if work.spread:
            await asyncio.sleep(work.spread * number / streams)
        after: After | None = None
        if work.pause and streams > 1:
            after = _pauser(work.pause)
        elif work.holds:
            after = _leaver(work.events)
        await hear(Ask(work.prompt, truth=work.truth, after=after), heard)

    await asyncio.gather(*(one(number, heard) for number, heard in enumerate(heards)))


def _pauser(seconds: float) -> After:
    async def after(_: Heard) -> bool:
        await asyncio.sleep(seconds)
        return False

    return after


def _leaver(events: int = 1, hold: asyncio.Event | None = None) -> After:
    """Leave once there were so many events, and the hold is over."""

    async def after(heard: Heard) -> bool:
        if heard.events < events:
            return False
        if hold is not None:
            await hold.wait()
        return True

    return after


async def _cpu_of_one(work: Work, client: str, hear: Hear) -> float:
    """Return the CPU µs per chunk of one stream, heard again if it was over too soon."""
    used, streams = 0.0, 0
    while used < LEAST_CPU:
        cpu = time.process_time()
        heard = Heard()
        await _all(work, hear, [heard])
        used += time.process_time() - cpu
        streams += 1
        check(work, heard, client)
    return used / (streams * work.chunks) * 1e6


async def _cpu_in(window: tuple[float, float], heards: Sequence[Heard]) -> float:
    """Return the CPU µs per chunk in a window of time."""

    def chunks() -> int:
        # Bytes alone aren't counted while they come.
        return sum(heard.events or _events_in(heard.kept) for heard in heards)

    await asyncio.sleep(window[0])
    before = chunks()
    cpu = time.process_time()
    await asyncio.sleep(window[1])
    cpu = time.process_time() - cpu
    return cpu / (chunks() - before) * 1e6


def _events_in(parts: list[bytes] | None) -> int:
    return sum(part.count(b"\n\n") for part in parts or ())


async def _memory(work: Work, client: str, hear: Hear) -> float:
    """Return the KB that each open stream takes."""
    heards = [Heard() for _ in range(work.streams)]
    hold = asyncio.Event()
    gc.collect()
    idle = _resident_kb()
    ask = Ask(work.prompt, after=_leaver(work.events, hold))
    tasks = [asyncio.create_task(hear(ask, heard)) for heard in heards]
    while any(heard.events < work.events for heard in heards):
        await asyncio.sleep(0.05)
        for task in tasks:
            if task.done():
                await task  # it failed
    gc.collect()
    taken = _resident_kb() - idle
    hold.set()
    await asyncio.gather(*tasks)
    for heard in heards:
        check(work, heard, client)
    return taken / work.streams


def _core_wait() -> float:
    """Return the ms this process was ready to run and others had its core."""
    try:
        return int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1]) / MS
    except (OSError, IndexError):
        return math.nan


def _resident_kb() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    return math.nan


# --- Truth -------------------------------------------------------------------


def _truth(heards: Sequence[Heard]) -> dict[str, float]:
    """Compare the client's stamps with the server's; in milliseconds."""
    gaps: list[float] = []
    firsts: list[float] = []
    durations: list[float] = []
    for heard in heards:
        arrived, sent = heard.arrived, heard.sent
        firsts.append(abs(arrived[0] - sent[0]) / MS)
        durations.append(abs((arrived[-1] - arrived[0]) - (sent[-1] - sent[0])) / MS)
        heard_gaps = (b - a for a, b in pairwise(arrived))
        true_gaps = (b - a for a, b in pairwise(sent))
        gaps += (abs(h - t) / MS for h, t in zip(heard_gaps, true_gaps, strict=True))
    figures = {
        "gap_p50": percentile(gaps, 50),
        "gap_p99": percentile(gaps, 99),
        "gap_max": max(gaps),
        "gaps": len(gaps),
        "first_p50": percentile(firsts, 50),
        "first_p99": percentile(firsts, 99),
        "first_max": max(firsts),
        "duration_off": max(durations),
        "moved": max(*gaps, *durations, *firsts),
    }
    coalesced = [heard.coalesced for heard in heards if heard.coalesced is not None]
    if coalesced:
        figures["coalesced"] = 100 * sum(coalesced) / sum(len(heard.sent) for heard in heards)
    gates = [heard.gate * 1e3 for heard in heards if heard.gate is not None]
    if gates:
        figures["gate_p99"] = percentile(gates, 99)
    return figures


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that *share* per cent are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]


async def _main(told: dict[str, Any]) -> dict[str, Any]:
    work = works(quick=told["quick"])[told["work"]]
    client = told["client"]
    cafile = told["cafile"]
    tls = ssl.create_default_context(cafile=cafile) if cafile else None
    async with CLIENTS[client](told["url"], tls) as hear:
        return await (prove if told["prove"] else measure)(work, client, hear)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    if not asked["prove"]:  # proofs of all clients run beside each other
        pin(-1)
    allow_many_files()
    try:
        run = importlib.import_module("uvloop").run if asked["client"] == ON_UVLOOP else asyncio.run
        result = run(_main(asked))
    except WrongError as error:
        result = {"wrong": str(error)}
    print(json.dumps(result), flush=True)
