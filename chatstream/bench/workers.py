"""Who makes a load: this process, or several of their own that are told by their input.

A worker process reads a job a line on its standard input and writes a record a line on
its standard output; a line that begins otherwise than a record tells what the job cost,
or why it failed. It ends with its input, so it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import gc
import platform
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Protocol, Self

import orjson
from attrs import define

from chatstream.bench.plan import Plan, plan_from_json, plan_to_json
from chatstream.bench.runner import Job, Runner
from chatstream.bench.truth import StartError, ended, served
from chatstream.errors import RequestError
from chatstream.marks import NS
from chatstream.testing import Profile

Emit = Callable[[bytes], None]
"""Takes a record as its line."""

RECORD = b'{"v":'
"""How the line of a record begins."""

LEAD = 0.03
"""Seconds from telling the workers until the load begins."""

MOST_LINE_BYTES = 256 * 1024 * 1024


class CrewError(StartError):
    """The workers can't be brought up; the text says why."""


@define(kw_only=True)
class WorkerReport:
    """What became of one worker's part of a load."""

    worker: int
    stage: int = 0
    """The load's place in a sweep."""
    host: str = ""
    requests: int = 0
    lost: bool = False
    """Whether it went away before the end; what it had under way is lost with it."""
    error: str | None = None
    cpu: float | None = None
    """The share of a core that it used."""
    loop_lag: dict[str, Any] | None = None
    start_error: float | None = None
    """Seconds by which its moments may be late on the run's clock, if its own is another."""


class Crew(Protocol):
    """Some workers, which make one load after the other."""

    workers: int

    async def __aenter__(self) -> Self:
        """Bring the workers up."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let them go, whatever they are at."""

    def truth(self, profile: Profile) -> AbstractAsyncContextManager[str]:
        """Run a truth server where the workers are; gives its base URL."""

    async def run(self, plan: Plan, emit: Emit, *, began_ns: int, stage: int) -> list[WorkerReport]:
        """Make a load of the run that began at *began_ns*; return when it is over.

        Raises ``RequestError`` if it can't be asked.
        """

    def stop(self) -> None:
        """End the load under way: what came until now is kept."""


class Here:
    """A crew of one: this event loop."""

    workers = 1

    def __init__(self) -> None:
        self._runner: Runner | None = None

    async def __aenter__(self) -> Self:
        """Nothing has to be brought up."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is left."""

    def truth(self, profile: Profile) -> AbstractAsyncContextManager[str]:
        """Run a truth server on this host."""
        return served(profile)

    async def run(self, plan: Plan, emit: Emit, *, began_ns: int, stage: int) -> list[WorkerReport]:
        """Make a load, see :class:`Crew`."""
        report = WorkerReport(worker=0, host=platform.node())

        def keep(record: Any) -> None:
            report.requests += 1
            emit(record.to_line())

        now_ns = time.perf_counter_ns()
        job = Job(plan=plan, start_ns=now_ns, offset_ns=now_ns - began_ns, stage=stage)
        self._runner = Runner(job, keep)
        figures = await self._runner.run()
        report.cpu, report.loop_lag = figures["cpu"], figures["loop_lag"]  # type: ignore[assignment]
        return [report]

    def stop(self) -> None:
        """End the load under way."""
        if self._runner is not None:
            self._runner.stop()


class Processes:
    """A crew of processes on this host, whose clocks agree."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._stack = AsyncExitStack()
        self._processes: list[_Process] = []
        self._stopped = False

    async def __aenter__(self) -> Self:
        """Start them and wait until all are ready. Raises ``CrewError`` if they can't be."""
        async with AsyncExitStack() as stack:
            for place in range(self.workers):
                process = await _Process.start(place)
                stack.push_async_callback(process.end)
                self._processes.append(process)
            await asyncio.gather(*(process.ready() for process in self._processes))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End them."""
        await self._stack.aclose()

    def truth(self, profile: Profile) -> AbstractAsyncContextManager[str]:
        """Run a truth server on this host."""
        return served(profile)

    async def run(self, plan: Plan, emit: Emit, *, began_ns: int, stage: int) -> list[WorkerReport]:
        """Make a load, see :class:`Crew`."""
        self._stopped = False
        parts = {"plan": plan_to_json(plan), "stage": stage, "workers": self.workers}
        line = orjson.dumps(parts, option=orjson.OPT_APPEND_NEWLINE)
        # A plan may hold a hundred thousand prompts; it is read before the clock starts.
        await asyncio.gather(*(process.prepared(line) for process in self._processes))
        start_ns = time.perf_counter_ns() + round(LEAD * NS)
        for process in self._processes:
            process.tell(
                {"start_ns": start_ns, "offset_ns": start_ns - began_ns, "worker": process.place}
            )
        if self._stopped:  # what is told before there is a load is forgotten
            self.stop()
        return list(await asyncio.gather(*(process.done(emit) for process in self._processes)))

    def stop(self) -> None:
        """End the load under way."""
        self._stopped = True
        for process in self._processes:
            process.tell({"stop": True})

    @property
    def pids(self) -> list[int]:
        """The processes, to look at or to kill."""
        return [process.pid for process in self._processes]


class _Process:
    """One worker's process, seen from the one that started it."""

    def __init__(self, place: int, process: asyncio.subprocess.Process) -> None:
        self.place = place
        self._process = process
        self._complaint = b""
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, place: int) -> _Process:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "chatstream.bench.workers",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MOST_LINE_BYTES,
                # Ctrl-C is for us: a worker is told to stop, and still has to tell.
                start_new_session=True,
            )
        except OSError as error:
            msg = f"worker {place} didn't start: {error.strerror}"
            raise CrewError(msg) from error
        return cls(place, process)

    async def _listen(self) -> None:
        """Keep the end of what it complains of, for when it is lost."""
        assert self._process.stderr is not None  # noqa: S101 it is a pipe
        while data := await self._process.stderr.read(65536):
            self._complaint = (self._complaint + data)[-4096:]

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def ready(self) -> None:
        """Wait until it takes jobs. Raises ``CrewError`` if it can't."""
        if not await self._line():
            msg = f"worker {self.place} didn't start: {await self._last_words()}"
            raise CrewError(msg)

    def tell(self, message: dict[str, Any]) -> None:
        """Send it a message, unless it has gone."""
        assert self._process.stdin is not None  # noqa: S101 it is a pipe
        with suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    async def prepared(self, plan: bytes) -> None:
        """Hand it a plan and wait until it has read it, or has gone."""
        assert self._process.stdin is not None  # noqa: S101 it is a pipe
        with suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(plan)
            await self._process.stdin.drain()
        await self._line()

    async def done(self, emit: Emit) -> WorkerReport:
        """Take the records of the job it was told, until it is done."""
        report = WorkerReport(worker=self.place, host=platform.node())
        while line := await self._line():
            if line.startswith(RECORD):
                report.requests += 1
                emit(line)
                continue
            told = orjson.loads(line)
            if "refused" in told:
                raise RequestError(*told["refused"])
            report.cpu, report.loop_lag = told["cpu"], told["loop_lag"]
            return report
        report.lost, report.error = True, await self._last_words()
        return report

    async def _line(self) -> bytes:
        """Return the next line, empty if there is none because it has gone."""
        assert self._process.stdout is not None  # noqa: S101 it is a pipe
        line = await self._process.stdout.readline()
        return line if line.endswith(b"\n") else b""

    async def _last_words(self) -> str:
        status = await self._process.wait()
        await self._listening
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how

    async def end(self) -> None:
        """Let it end."""
        await ended(self._process)
        await self._listening


# --- Inside a worker's process -------------------------------------------------


async def _serve() -> None:
    """Do the jobs that come on standard input until it ends."""
    loop = asyncio.get_running_loop()
    told = asyncio.StreamReader(limit=MOST_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    transport, _ = await loop.connect_write_pipe(asyncio.Protocol, sys.stdout)

    def say(message: dict[str, Any]) -> None:
        transport.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    say({"ready": True})
    parts: dict[str, Any] = {}
    message = await told.readline()
    while message:
        job = orjson.loads(message)
        if "plan" in job:
            parts = {**job, "plan": plan_from_json(job["plan"])}
            say({"prepared": True})
        if "start_ns" not in job:  # a plan, or to stop when there is nothing to be stopped
            message = await told.readline()
            continue
        runner = Runner(
            Job(**parts, **job),
            lambda record: transport.write(record.to_line()),
        )
        doing = asyncio.ensure_future(runner.run())
        hearing = asyncio.ensure_future(told.readline())
        await asyncio.wait((doing, hearing), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():  # told to stop, or nobody is there any more
            runner.stop()
        try:
            say(await doing)
        except RequestError as error:
            say({"refused": [error.parameter, error.seen, error.allowed]})
        message = await hearing
    transport.close()


def collect_seldom() -> None:
    """Collect garbage when there is much of it: a pause delays reads."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def main() -> None:
    """Be a worker."""
    collect_seldom()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve())


if __name__ == "__main__":
    main()
