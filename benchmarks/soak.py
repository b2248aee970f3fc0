"""``python -m benchmarks.soak``: many streams for a long time, a share of which is made to fail.

Each stream must end as its fault says, with its text byte for byte; and files, tasks and
memory must be what they were.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults import FAULTS, LARGEST_EVENT, NO_FAULT, Plan
from benchmarks.server import allow_many_files
from chatstream import ChatSession, ChatStream, ChatStreamError, RetryPolicy, Timeouts, user
from chatstream.report import StreamReport

PATIENCE = 15.0
"""Seconds without a token; a healthy stream has gaps of a fiftieth of it, on an idle machine."""
SETTLED = 120.0
"""Seconds from which memory should stay as it is."""
MAY_GROW = 0.05
SHOWN = 20
"""Wrong streams that are told in full."""


@dataclass
class Outcome:
    """What is counted on the way; observers' reports are counted too."""

    streams: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    events: int = 0
    reports: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, MB."""
    files: tuple[int, int] = (0, 0)
    tasks: tuple[int, int] = (0, 0)

    def stream_ended(self, report: StreamReport) -> None:
        """Count it; see ``chatstream.Observer``."""
        self.events += report.events
        self.reports += 1

    def judge(self, plan: Plan, stream: ChatStream, error: BaseException | None, text: str) -> None:
        """Compare a stream with its plan."""
        fault = plan.fault
        wants: list[tuple[str, object, object]] = [
            ("error", error.__class__, fault.error or type(None)),
            ("verdict", stream.verdict, fault.verdict),
            ("text kept is heard", (stream.completion.text or "") == text, True),
        ]
        if fault.attempts is not None:
            wants.append(("attempts", len(stream.attempts), fault.attempts))
        if isinstance(error, ChatStreamError):
            kept = error.partial and (error.partial.text or "")
            wants.append(("partial is heard", kept == text, True))
        differs = [f"{what} {got!r}, not {want!r}" for what, got, want in wants if got != want]
        if text not in plan.texts:
            differs.append(f"{len(text)} characters are no text that was sent")
        self.streams[fault.name] += 1
        if differs:
            self.wrong[fault.name] += 1
            tried = [str(attempt.error) for attempt in stream.attempts]
            self.told.append(f"{fault.name}, stream {plan.number}: {'; '.join(differs)}; {tried}")

    def settled(self) -> tuple[float, float] | None:
        """Return the memory when it should have settled and at the end, in MB.

        Each is the median of five samples; ``None`` if it didn't run that long.
        """
        before = [mb for at, mb in self.memory if at <= SETTLED][-5:]
        after = [mb for at, mb in self.memory if at > SETTLED][-5:]
        if not before or len(after) < 5:  # noqa: PLR2004
            return None
        return statistics.median(before), statistics.median(after)

    def faults(self) -> list[str]:
        """Return what is off, nothing if all is well."""
        off = [f"{name}: {count} ended otherwise" for name, count in self.wrong.items()]
        if self.reports != (total := self.streams.total()):
            off.append(f"{self.reports} reports of {total} streams")
        for what, (before, after) in (("files", self.files), ("tasks", self.tasks)):
            if before != after:
                off.append(f"{after} {what} left, {before} at the start")
        memory = self.settled()
        if memory is not None and memory[1] > memory[0] * (1 + MAY_GROW):
            off.append(f"memory grew from {memory[0]:.1f} to {memory[1]:.1f} MB")
        return off


# --- One stream ------------------------------------------------------------------------


async def _hear(stream: ChatStream, heard: list[str], enough: int | None) -> None:
    """Take down the text of a stream, or the first *enough* pieces of it."""
    async with stream:
        async for event in stream:
            if event.content:
                heard.append(event.content)
                if len(heard) == enough:
                    break


async def _one(session: ChatSession, plan: Plan, outcome: Outcome) -> None:
    """Run one stream as planned, and judge it."""
    name = plan.fault.name
    total = max(plan.moment, 0.001) if name == "client's time is up" else None
    stream = session.stream(
        model="soak",
        messages=[user("Go on.")],
        extra_headers=plan.headers,
        timeouts=Timeouts(connect=30, first_token=PATIENCE, idle=PATIENCE, total=total),
    )
    heard: list[str] = []
    hearing = asyncio.ensure_future(
        _hear(stream, heard, plan.cut if name == "client breaks" else None)
    )
    if name in {"client cancels", "client closes elsewhere"}:
        await asyncio.sleep(plan.moment)
        if name == "client cancels":
            hearing.cancel()
        else:
            await stream.aclose()
    error: BaseException | None = None
    try:
        await hearing
    except asyncio.CancelledError:
        if name != "client cancels":
            raise
    except Exception as caught:  # noqa: BLE001 it is judged
        error = caught
    outcome.judge(plan, stream, error, "".join(heard))


# --- All of them -------------------------------------------------------------------------


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run the server in a process of its own; gives its base URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.faults"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stdout is not None  # noqa: S101 it is a pipe
        assert process.stdin is not None  # noqa: S101
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _files() -> int:
    """Count open files; 0 where there is no telling."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def _memory() -> float:
    """Return the resident memory in MB; 0 where there is no telling."""
    pages = Path("/proc/self/statm")
    size = int(pages.read_text().split()[1]) if pages.exists() else 0
    return size * os.sysconf("SC_PAGE_SIZE") / 1e6


async def _sample(outcome: Outcome) -> None:
    """Note the memory each few seconds."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(2)
        outcome.memory.append((time.monotonic() - began, _memory()))
        _say(f"{outcome.memory[-1][0]:.0f} s: {outcome.streams.total()} streams")


async def soak(
    url: str, *, seconds: float, streams: int, share: float, seed: int, pace: float
) -> Outcome:
    """Keep *streams* open for *seconds*, then let them end."""
    outcome = Outcome()
    chance = random.Random(seed)
    numbers = itertools.count(seed * 10**9)
    end = time.monotonic() + seconds

    async def go_on(session: ChatSession) -> None:
        while time.monotonic() < end:
            fault = chance.choice(FAULTS) if chance.random() < share else NO_FAULT
            await _one(session, Plan(next(numbers), fault.name, pace), outcome)

    before = _files(), len(asyncio.all_tasks())
    async with ChatSession(
        url, "any", retry=RetryPolicy(2), observers=[outcome], max_event_size=LARGEST_EVENT
    ) as session:
        sampling = asyncio.create_task(_sample(outcome))
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(go_on(session))
        sampling.cancel()
        await asyncio.wait([sampling])
    gc.collect()
    await asyncio.sleep(0.1)  # what was closed a moment ago needs a few turns
    after = _files(), len(asyncio.all_tasks())
    outcome.files, outcome.tasks = zip(before, after, strict=True)
    return outcome


# --- What is told ------------------------------------------------------------------------


def lines(outcome: Outcome) -> Iterator[str]:
    """Yield a line for each fault, then the totals."""
    yield f"{'fault':32}{'streams':>9}{'as injected':>13}{'wrong':>7}"
    for fault in (NO_FAULT, *FAULTS):
        count, wrong = outcome.streams[fault.name], outcome.wrong[fault.name]
        yield f"{fault.name:32}{count:9,}{count - wrong:13,}{wrong:7,}"
    yield ""
    yield f"{outcome.streams.total():,} streams, {outcome.events:,} events"
    for what, (start, end) in (("open files", outcome.files), ("tasks", outcome.tasks)):
        yield f"{what}: {start} at the start, {end} at the end"
    memory = outcome.settled()
    if memory is not None:
        most = max(mb for _, mb in outcome.memory)
        settled, last = (f"{mb:.1f} MB" for mb in memory)
        yield f"memory: {settled} after 2 minutes, {last} in the end, {most:.1f} MB at most"
    yield from (f"wrong: {text}" for text in outcome.told[:SHOWN])
    off = outcome.faults()
    yield f"off: {'; '.join(off)}" if off else "all as it should be"


def main() -> None:
    """Soak as long as was asked for; exit with 1 if anything is off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--streams", type=int, default=1000, help="open at a time (1000)")
    parser.add_argument("--share", type=float, default=0.2, help="of streams that fail (0.2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pace", type=float, default=0.2, help="mean seconds between tokens (0.2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    allow_many_files()
    with serving() as url:
        outcome = asyncio.run(
            soak(
                url,
                seconds=options.minutes * 60,
                streams=options.streams,
                share=options.share,
                seed=options.seed,
                pace=options.pace,
            )
        )
    _say("")
    print("\n".join(lines(outcome)))
    if options.json:
        options.json.write_text(json.dumps(_document(outcome, options), indent=1) + "\n")
    sys.exit(1 if outcome.faults() else 0)


def _document(outcome: Outcome, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "minutes": options.minutes,
        "streams_at_a_time": options.streams,
        "share": options.share,
        "seed": options.seed,
        "pace": options.pace,
        "streams": dict(outcome.streams),
        "wrong": dict(outcome.wrong),
        "told": outcome.told,
        "events": outcome.events,
        "files": outcome.files,
        "tasks": outcome.tasks,
        "memory": outcome.memory,
        "off": outcome.faults(),
    }


def _say(text: str) -> None:
    """Show what goes on, if somebody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
