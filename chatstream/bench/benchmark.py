"""Runs a plan: calibrates, makes the load, and says what came of it.

What computes figures takes as long to import as a worker to start: numpy, mostly. So it is
imported in a thread meanwhile, and not at the top.
"""

# ruff: noqa: PLC0415 see above

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from attrs import define, field, frozen

import chatstream
from chatstream.bench.output.files import RunningLog
from chatstream.bench.plan import Load, Plan, plan_described
from chatstream.bench.runner import check
from chatstream.bench.server import ServerWatch
from chatstream.bench.sweep import Sweep, next_load
from chatstream.bench.sweep import loads as every_load
from chatstream.bench.truth import calibration_plan, concurrency_of, truth_profile
from chatstream.bench.workers import Crew, Here, WorkerReport
from chatstream.marks import NS

if TYPE_CHECKING:
    from chatstream.bench.log import Log
    from chatstream.bench.summary import Facts


def _import_figuring() -> None:
    for name in ("chatstream.bench.summary", "chatstream.bench.output.folder"):
        import_module(name)


class Listener(Protocol):
    """Who is told how a run goes, to show it."""

    def calibrating(self, streams: int) -> None:
        """Take note that the client measures itself with so many streams."""

    def loading(self, load: Load, stage: int) -> None:
        """Take note of a load that begins."""

    def requested(self, line: bytes) -> None:
        """Take the record of a request that is over, as its line; be quick."""


class _Nobody:
    def calibrating(self, streams: int) -> None:
        """Nobody looks."""

    def loading(self, load: Load, stage: int) -> None:
        """Nobody looks."""

    def requested(self, line: bytes) -> None:
        """Nobody looks."""


@frozen(eq=False, kw_only=True)
class Result:
    """What came of a run."""

    summary: dict[str, Any] = field(repr=False)
    """See :mod:`chatstream.bench.summary`; what ``summary.json`` holds."""
    log: Log = field(repr=False)
    """Every request."""

    def figure(self, metric: str) -> dict[str, Any]:
        """Return a metric's ``n``, ``mean``, percentiles and intervals, in its unit."""
        found: dict[str, Any] = self.summary["metrics"][metric]
        return found


@define(eq=False, kw_only=True)
class Run:
    """A plan being run. :meth:`result` runs it, :meth:`stop` ends it early.

    Raises ``RequestError`` if the plan asks what can't be sent.
    """

    plan: Plan
    sweep: Sweep | None = None
    """Make several loads, which differ from the plan's in their size."""
    crew: Crew = field(factory=Here)
    calibrate: bool = True
    metrics_url: str | None = None
    """Where the server tells of itself, as Prometheus reads it."""
    log_file: RunningLog | None = None
    """Where the log grows while the run goes on; in memory otherwise."""
    listener: Listener = field(factory=_Nobody)
    _stopped: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        """Tell at once what would be told by the first request."""
        check(self.plan)

    def stop(self) -> None:
        """End the run: what came until now is its result."""
        self._stopped = True
        self.crew.stop()

    async def result(self) -> Result:
        """Run it to its end, or until :meth:`stop`.

        Raises ``StartError`` if there is nobody to make the load, ``OutputError`` if the log
        can't be written, and ``RequestError`` if a server wants a key and none is given.
        """
        lines: list[bytes] = []
        emit = lines.append if self.log_file is None else self.log_file.add
        server = ServerWatch(self.metrics_url) if self.metrics_url else None
        async with AsyncExitStack() as stack:
            figuring = asyncio.ensure_future(asyncio.to_thread(_import_figuring))
            # A thread can't be stopped, so it is waited for, also if nobody comes to work.
            stack.push_async_callback(asyncio.wait, {figuring})
            await stack.enter_async_context(self.crew)
            await figuring
            calibrated = calibration_seconds = None
            if self.calibrate and not self._stopped:
                calibrated, calibration_seconds = await self._calibrated()
            if server is not None:
                await server.look()
            started = datetime.now(UTC).isoformat(timespec="milliseconds")
            began_ns = time.perf_counter_ns()
            loads, workers, stages = await self._loads(emit, began_ns)
            seconds = (time.perf_counter_ns() - began_ns) / NS
            interrupted = self._stopped
            if server is not None:
                await server.look()
        from chatstream.bench.log import Log
        from chatstream.bench.summary import summarised

        kept = self.log_file
        log = Log.of_lines(lines) if kept is None else Log.read(kept.finish())
        place = {
            "chatstream": chatstream.__version__,
            "started": started,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "load_seconds": seconds,
            "calibration_seconds": calibration_seconds,
            "interrupted": interrupted,
        }
        facts = self._facts(
            loads,
            workers=workers,
            calibration=calibrated,
            server=None if server is None else server.figures(),
            place=place,
        )
        return Result(summary=summarised(log, facts, stages), log=log)

    def _facts(self, loads: Sequence[Load], **others: Any) -> Facts:
        from chatstream.bench.summary import Facts

        return Facts(
            plan=plan_described(self.plan),
            loads=tuple(loads),
            goals=self.plan.goals,
            over=None if self.sweep is None else self.sweep.over,
            **others,
        )

    async def _calibrated(self) -> tuple[dict[str, Any] | None, float | None]:
        """Listen to a truth server as the load will; return what that showed, and its seconds."""
        from chatstream.bench.client import calibration
        from chatstream.bench.log import Log

        began_ns = time.perf_counter_ns()
        load = self.plan.load if self.sweep is None else every_load(self.sweep, self.plan.load)[-1]
        plan = attrs.evolve(self.plan, load=load)
        streams = concurrency_of(plan)
        self.listener.calibrating(streams)
        lines: list[bytes] = []
        async with self.crew.truth(truth_profile(streams)) as base_url:
            if self._stopped:
                return None, None
            plan = calibration_plan(plan, base_url)
            reports = await self.crew.run(plan, lines.append, began_ns=began_ns, stage=0)
        found = calibration(Log.of_lines(lines), reports, streams)
        return found, (time.perf_counter_ns() - began_ns) / NS

    async def _loads(
        self, emit: Callable[[bytes], None], began_ns: int
    ) -> tuple[list[Load], list[WorkerReport], list[dict[str, Any]]]:
        """Make the plan's load, or those of the sweep; return them and what they came to."""
        if self.sweep is None:
            reports = await self._load(self.plan.load, 0, emit, began_ns)
            return [self.plan.load], reports, []
        from chatstream.bench.log import Log
        from chatstream.bench.summary import staged

        loads: list[Load] = []
        workers: list[WorkerReport] = []
        stages: list[dict[str, Any]] = []
        while not self._stopped and (load := next_load(self.sweep, self.plan.load, stages)):
            lines: list[bytes] = []

            def keep(line: bytes, lines: list[bytes] = lines) -> None:
                emit(line)
                lines.append(line)

            reports = await self._load(load, len(loads), keep, began_ns)
            workers += [attrs.evolve(report, stage=len(loads)) for report in reports]
            loads.append(load)
            facts = self._facts(loads, place={"interrupted": self._stopped})
            stages.append(staged(Log.of_lines(lines), facts, len(stages)))
        return loads, workers, stages

    async def _load(
        self, load: Load, stage: int, emit: Callable[[bytes], None], began_ns: int
    ) -> list[WorkerReport]:
        """Make a load, unless the run is to end."""
        if self._stopped:
            return []

        def keep(line: bytes) -> None:
            emit(line)
            self.listener.requested(line)

        self.listener.loading(load, stage)
        plan = attrs.evolve(self.plan, load=load)
        return await self.crew.run(plan, keep, began_ns=began_ns, stage=stage)


async def run(plan: Plan, **options: Any) -> Result:
    """Run a plan to its end; *options* are those of :class:`Run`."""
    return await Run(plan=plan, **options).result()
