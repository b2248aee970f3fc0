"""How a run goes, while it does: drawn anew at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from types import TracebackType
from typing import Any, Self

import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chatstream.bench.plan import Load
from chatstream.bench.record import TOKENS
from chatstream.completion import Verdict
from chatstream.marks import NS, percentile

_DRAWN = 0.25
_TOLD = 5.0
_NEWEST = 5_000
"""Percentiles so far are those of so many newest values."""


class LiveView:
    """Shows a run on *console*; a listener of :class:`~chatstream.bench.benchmark.Run`."""

    def __init__(self, console: Console, targets: int = 1) -> None:
        self._console = console
        self._targets = targets
        self._load: Load | None = None
        self._stage = 0
        self._calibrating = 0
        self._began = time.perf_counter()
        self._outcomes: Counter[str] = Counter()
        self._warmed_up = 0
        self._done = 0  # of those that were planned: a conversation counts with its first turn
        self._tokens = 0
        self._firsts: deque[float] = deque(maxlen=_NEWEST)
        self._gaps: deque[float] = deque(maxlen=_NEWEST)
        self._ticking: asyncio.Task[None] | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True)

    async def __aenter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._ticking is not None  # noqa: S101 it was entered
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)
        self._live.stop()

    # --- What it is told -----------------------------------------------------

    def calibrating(self, streams: int) -> None:
        """Show that the client measures itself."""
        self._calibrating = streams
        if self._console.is_terminal:
            self._draw()
        else:
            self._say(f"calibrating: {streams} streams of the built-in truth server")

    def loading(self, load: Load, stage: int) -> None:
        """Show a load that begins."""
        self._calibrating, self._load, self._stage = 0, load, stage
        self._began = time.perf_counter()
        self._outcomes.clear()
        self._firsts.clear()
        self._gaps.clear()
        self._tokens = self._warmed_up = self._done = 0
        if not self._console.is_terminal:
            self._say(f"load: {described(load)}")

    def requested(self, line: bytes) -> None:
        """Count a request that is over."""
        record: dict[str, Any] = orjson.loads(line)
        self._done += record["turn"] == 0
        if record.get("warmup"):
            self._warmed_up += 1
            return
        self._outcomes[record["verdict"]] += 1
        if not Verdict(record["verdict"]).good:
            return
        self._tokens += record.get("completion_tokens") or 0
        kinds, arrivals = record.get("kinds", ""), record.get("arrivals_ns", [])
        times = [at for at, kind in zip(arrivals, kinds, strict=True) if kind in TOKENS]
        if times:
            self._firsts.append((times[0] - record["created_ns"]) / NS)
            if "choices" not in record:
                gaps = zip(times[1:], times, strict=False)
                self._gaps.extend((late - early) / NS for late, early in gaps)

    # --- What it shows -------------------------------------------------------

    async def _tick(self) -> None:
        terminal = self._console.is_terminal
        while True:
            await asyncio.sleep(_DRAWN if terminal else _TOLD)
            if terminal:
                self._draw()
            elif self._load is not None:
                self._say(self._line())

    def _draw(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _line(self) -> str:
        """Return how it stands, in one line."""
        parts = [f"{time.perf_counter() - self._began:.0f} s", self._counted()]
        parts += [
            f"{label} p50 {_ms(values, 0.5)}, p99 {_ms(values, 0.99)}"
            for label, values in (("TTFT", self._firsts), ("gaps", self._gaps))
            if values
        ]
        return "; ".join(parts)

    def _counted(self) -> str:
        load, done = self._load, self._done
        planned = None if load is None else load.num_prompts
        text = f"{done:,} requests"
        if planned is not None:
            text = f"{done:,} of {planned * self._targets:,} requests"
        if self._warmed_up:
            text += f" ({self._warmed_up} to warm up)"
        return f"{text}, {self._failed():,} failed"

    def _failed(self) -> int:
        return sum(n for verdict, n in self._outcomes.items() if not Verdict(verdict).good)

    def _picture(self) -> Group:
        if self._load is None:
            what = f"measuring the client itself with {self._calibrating} streams"
            return Group(Text(f"Calibrating: {what} …" if self._calibrating else "Starting …"))
        seconds = time.perf_counter() - self._began
        table = Table.grid(padding=(0, 2))
        for _ in range(4):
            table.add_column(justify="right")
        table.add_row("", "p50", "p90", "p99", style="dim")
        for label, values in (
            ("time to first token", self._firsts),
            ("inter-chunk latency", self._gaps),
        ):
            table.add_row(label, *(_ms(values, share) for share in (0.5, 0.9, 0.99)))
        rate = f"{self._outcomes.total() / seconds:,.1f} requests/s" if seconds else ""
        tokens = f"{self._tokens / seconds:,.0f} tokens/s" if seconds else ""
        failures = ", ".join(
            f"{count} {verdict}"
            for verdict, count in self._outcomes.most_common()
            if not Verdict(verdict).good
        )
        bar = Table.grid()  # by itself a bar doesn't end its line
        bar.add_row(ProgressBar(total=1.0, completed=self._progress(seconds), width=48))
        stage = f"load {self._stage + 1}: " if self._stage else ""
        return Group(
            Text(f"{stage}{described(self._load)}", style="bold"),
            bar,
            Text(f"{seconds:.0f} s   {self._counted()}   {rate}   {tokens}"),
            table,
            Text(failures, style="red"),
        )

    def _progress(self, seconds: float) -> float:
        """Return the share that is done."""
        load = self._load
        assert load is not None  # noqa: S101 there is one to draw
        shares = [0.0]
        if load.num_prompts is not None:
            shares.append(self._done / (load.num_prompts * self._targets))
        if load.duration is not None:
            shares.append(seconds / load.duration)
        if load.schedule:
            shares.append(seconds / max(load.schedule[-1], 1.0))
        return min(1.0, max(shares))


def described(load: Load) -> str:
    """Return a load in words."""
    words = []
    if load.schedule is not None:
        words.append(f"{len(load.schedule):,} requests at recorded times")
    elif load.request_rate is None:
        words.append(f"{load.max_concurrency or 1} at a time")
    elif load.request_rate == math.inf:
        words.append("all at once")
    else:
        kind = {1.0: "Poisson", math.inf: "constant"}.get(load.burstiness)
        words.append(
            f"{load.request_rate:g} a second, {kind or f'gamma with shape {load.burstiness:g}'}"
        )
    if not load.closed and load.max_concurrency is not None:
        words.append(f"at most {load.max_concurrency} at a time")
    if load.ramp:
        words.append(f"ramp of {load.ramp:g} s")
    if load.num_prompts is not None:
        words.append(f"{load.num_prompts:,} requests")
    if load.duration is not None:
        words.append(f"for {load.duration:g} s")
    if load.warmup:
        words.append(f"the first {load.warmup} to warm up")
    return ", ".join(words)


def _ms(values: deque[float], share: float) -> str:
    value = percentile(values, share)
    return "–" if value is None else f"{value * 1000:,.1f} ms"
