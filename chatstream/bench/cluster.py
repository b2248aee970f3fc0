"""The same workers on a Ray cluster: each is an actor that makes its part of a load.

Nothing is made twice: what a lost worker had told until then is kept, and nobody takes
over from it. Records are asked for every moment, because Ray's streaming generators
don't go through ``ray://`` addresses.

Clocks aren't compared across hosts. A worker counts from its own start, which is when
the message to start reaches it; how long that took at most is known from its answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib import import_module
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from attrs import evolve

import chatstream
from chatstream.bench.plan import Plan
from chatstream.bench.runner import Job, Runner
from chatstream.bench.truth import served
from chatstream.bench.workers import LEAD, CrewError, Emit, WorkerReport, collect_seldom
from chatstream.errors import RequestError, one_line
from chatstream.marks import NS
from chatstream.testing import Profile

BATCH = 0.2
"""Seconds for which records wait with a worker at most; a lost one takes them along."""

PATIENCE = 60.0
"""Seconds in which a cluster must find room for the workers."""

OWN_TRUTH = "http://truth.invalid/v1"
"""Stands in a plan for the truth server that each worker has beside it."""

_T = TypeVar("_T")


class Cluster:
    """A crew on a Ray cluster, which exists already.

    *address* is ``ray://HOST:PORT``, or ``auto`` for the cluster of this host (or of
    ``RAY_ADDRESS``). Without *workers* there are as many as the cluster has CPUs.
    Keys and prompts reach the nodes as everything does that Ray sends.
    """

    def __init__(self, address: str, workers: int | None = None) -> None:
        if address != "auto" and not address.startswith("ray://"):
            raise RequestError("cluster", address, "ray://HOST:PORT or auto")
        self.address = address
        self.workers = workers or 1
        """If it was left open, it is known when the crew has been entered."""
        self._as_many_as_cpus = workers is None
        self._ray: Any = None
        self._hired: list[_Hired] = []
        self._stack = AsyncExitStack()
        self._at_work = asyncio.Lock()
        self._stopped = False

    async def __aenter__(self) -> Self:
        """Connect, and wait until all workers are ready.

        Raises ``CrewError`` if they can't be, and ``ModuleNotFoundError`` without Ray.
        """
        self._ray = await asyncio.to_thread(_ray)
        async with AsyncExitStack() as stack:
            hiring = asyncio.ensure_future(asyncio.to_thread(self._hire))
            stack.push_async_callback(self._leave, hiring)
            self._hired = await asyncio.shield(hiring)
            try:
                async with asyncio.timeout(PATIENCE):
                    for hired in self._hired:
                        await hired.introduced()
            except TimeoutError:
                raise CrewError(await asyncio.to_thread(self._no_room)) from None
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the workers go, and disconnect."""
        await self._stack.aclose()

    def _hire(self) -> list[_Hired]:
        """Connect and ask for the workers; blocks."""
        ray, address = self._ray, self.address
        if address == "auto":
            address = os.environ.get("RAY_ADDRESS") or "auto"
        try:
            if address != "auto":
                _reach(address)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            text = str(error)
            reason = _reason(error) if "Traceback" in text else one_line(text)
            msg = f"can't connect to the Ray cluster {address}: {reason}"
            raise CrewError(msg) from error
        if self._as_many_as_cpus:
            self.workers = max(1, int(ray.cluster_resources().get("CPU", 0)))
        actor = ray.remote(Worker).options(
            num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        return [_Hired(ray, actor.remote(place), place) for place in range(self.workers)]

    def _no_room(self) -> str:
        """Say what the cluster has; blocks."""
        all_, left = self._ray.cluster_resources(), self._ray.available_resources()
        has = f"it has {all_.get('CPU', 0):g} CPUs, of which {left.get('CPU', 0):g} are left"
        return f"the Ray cluster found no room for {self.workers} workers: {has}"

    async def _leave(self, hiring: asyncio.Future[list[_Hired]]) -> None:
        """Let the workers go, whatever they are at, and disconnect."""
        await asyncio.wait({hiring})
        for hired in self._hired:
            await hired.dismiss()
        async with self._at_work:  # the load under way ends with them
            await asyncio.to_thread(self._ray.shutdown)

    @asynccontextmanager
    async def truth(self, profile: Profile) -> AsyncIterator[str]:
        """Run a truth server beside each worker; gives what stands for it in a plan."""
        await _all(hired.call("serve", profile) for hired in self._hired)
        try:
            yield OWN_TRUTH
        finally:
            await _all(hired.call("serve", None) for hired in self._hired)

    async def run(self, plan: Plan, emit: Emit, *, began_ns: int, stage: int) -> list[WorkerReport]:
        """Make a load, see :class:`Crew`."""
        async with self._at_work:
            self._stopped = False
            shared = await asyncio.to_thread(self._ray.put, plan)
            parts = {"stage": stage, "workers": self.workers}
            await _all(hired.call("prepare", shared, parts) for hired in self._hired)
            if self._stopped:  # some may have heard it before they were prepared
                self.stop()
            start_ns = time.perf_counter_ns() + round(LEAD * NS)
            try:
                return await _all(hired.make(start_ns, began_ns, emit) for hired in self._hired)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the load under way."""
        self._stopped = True
        for hired in self._hired:
            hired.stop()

    @property
    def pids(self) -> list[int]:
        """The workers' processes, each on its own host."""
        return [hired.pid for hired in self._hired]


class _Hired:
    """One worker, seen from the one who asked for it."""

    def __init__(self, ray: Any, actor: Any, place: int) -> None:
        self.pid = 0
        self._ray = ray
        self._actor = actor
        self._place = place
        self._host = ""
        self._lost: str | None = None
        self._failures = (ray.exceptions.RayError, ConnectionError)
        self._introduction = actor.introduce.remote()

    async def introduced(self) -> None:
        """Wait until it is ready. Raises ``CrewError`` if it can't be."""
        needs = f"each node needs chatstream-sdk {chatstream.__version__}"
        try:
            version, self._host, self.pid = await self._introduction
        except self._failures as error:
            msg = f"worker {self._place} didn't start: {_reason(error)} ({needs})"
            raise CrewError(msg) from error
        if version != chatstream.__version__:
            msg = f"{self._host} has chatstream-sdk {version}, but {needs}"
            raise CrewError(msg)

    async def call(self, method: str, *arguments: Any) -> Any:
        """Return what it says to this; ``None`` if it is lost."""
        if self._lost is None:
            try:
                return await getattr(self._actor, method).remote(*arguments)
            except self._failures as error:
                self._lost = _reason(error)
                await self.dismiss()  # it may be there yet, only out of reach
        return None

    async def make(self, start_ns: int, began_ns: int, emit: Emit) -> WorkerReport:
        """Have its part of the load made."""
        report = WorkerReport(worker=self._place, host=self._host)
        sent_ns = time.perf_counter_ns()
        await self.call("go", start_ns - sent_ns, start_ns - began_ns)
        if self._lost is None:
            report.start_error = (time.perf_counter_ns() - sent_ns) / NS
        told = None
        while told is None and self._lost is None:
            lines, told = await self.call("take") or ((), None)
            report.requests += len(lines)
            for line in lines:
                emit(line)
        if told is None:
            report.lost, report.error = True, self._lost
        elif "refused" in told:
            raise RequestError(*told["refused"])
        else:
            report.cpu, report.loop_lag = told["cpu"], told["loop_lag"]
        return report

    def stop(self) -> None:
        """Have it end its load, if it is there."""
        with suppress(*self._failures):
            self._actor.stop.remote()

    async def dismiss(self) -> None:
        """End its process."""
        with suppress(*self._failures):
            await asyncio.to_thread(self._ray.kill, self._actor)


async def _all(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Return what all give; if one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _ray() -> Any:
    """Import Ray, so that it leaves standard output to the figures."""
    # It prints there what it has to say of lost workers; we tell of them ourselves.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    return import_module("ray")


def _reach(address: str) -> None:
    """See whether anyone listens there: Ray would try for long. Raises ``OSError``."""
    where = urlsplit(address if "://" in address else f"//{address}")
    socket.create_connection((where.hostname, where.port), timeout=10).close()


def _reason(error: BaseException) -> str:
    """Return the end of what Ray says, where it comes to the point."""
    return one_line(str(error).strip().rpartition("\n")[2], 200)


# --- Inside a worker's process -------------------------------------------------


def _run(making: Coroutine[Any, Any, _T]) -> _T:
    """Run this on asyncio's own loop: with uvloop installed, Ray makes that the usual one."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(making)


class Worker:
    """A worker's process on the cluster.

    Its methods run on Ray's event loop. The load has one of its own, in a thread of its
    own: Ray's may be uvloop's, through which the kernel doesn't tell when bytes arrived.
    """

    def __init__(self, place: int) -> None:
        collect_seldom()
        self._place = place
        self._lines: deque[bytes] = deque()
        self._truth = AsyncExitStack()
        self._truth_url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    async def introduce(self) -> tuple[str, str, int]:
        """Tell its version of chatstream, its host, and its number there."""
        return chatstream.__version__, platform.node(), os.getpid()

    async def serve(self, profile: Profile | None) -> None:
        """Run a truth server on this host, or no longer."""
        await self._truth.aclose()
        if profile is not None:
            self._truth_url = await self._truth.enter_async_context(served(profile))

    async def prepare(self, plan: Plan, parts: dict[str, int]) -> None:
        """Take over a plan, so that going takes no time."""
        targets = (
            evolve(target, base_url=self._truth_url) if target.base_url == OWN_TRUTH else target
            for target in plan.targets
        )
        self._plan = evolve(plan, targets=tuple(targets))
        self._parts = parts
        self._stopped = False

    async def go(self, lead_ns: int, offset_ns: int) -> None:
        """Begin the load in *lead_ns*, when the run will have gone on for *offset_ns*."""
        job = Job(
            start_ns=time.perf_counter_ns() + lead_ns,
            offset_ns=offset_ns,
            plan=self._plan,
            worker=self._place,
            **self._parts,
        )
        self._runner = Runner(job, lambda record: self._lines.append(record.to_line()))
        self._doing = asyncio.ensure_future(asyncio.to_thread(_run, self._make()))

    async def _make(self) -> dict[str, object]:
        """Make the load, in its own thread."""
        self._loop = asyncio.get_running_loop()
        if self._stopped:
            self._runner.stop()
        try:
            return await self._runner.run()
        except RequestError as error:
            return {"refused": [error.parameter, error.seen, error.allowed]}

    async def take(self) -> tuple[list[bytes], dict[str, object] | None]:
        """Return the records of the next moment; after the last, what the load cost."""
        await asyncio.wait({self._doing}, timeout=BATCH)
        over = self._doing.done()
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        return lines, (self._doing.result() if over and not lines else None)

    async def stop(self) -> None:
        """Make no more requests, and cancel those under way."""
        self._stopped = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the load is over, and its loop closed
                self._loop.call_soon_threadsafe(self._runner.stop)
