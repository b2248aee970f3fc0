"""How far this machine's figures are off, measured before they are needed.

A truth server, in a process of its own, stamps each chunk as it sends it, on the same
clock; the same workers that will make the load listen to it first.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs

from chatstream.bench.plan import Load, Plan, Target
from chatstream.bench.workload import Synthetic
from chatstream.testing import Profile, SimulatedServer
from chatstream.testing.server import print_line
from chatstream.timeouts import Timeouts

SECONDS = 1.5
"""How long new streams are opened to calibrate."""

STREAM = 0.6
"""Seconds that one of them takes, about."""

MOST_AT_ONCE = 2000
"""A larger load is calibrated as one of so many streams."""


PATIENCE = 5
"""Seconds in which a process of ours must end when it is to."""


class StartError(RuntimeError):
    """A process of ours doesn't start; the text says why."""


@asynccontextmanager
async def served(profile: Profile) -> AsyncIterator[str]:
    """Run a truth server that behaves so in a process of its own; gives its base URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chatstream.bench.truth",
        json.dumps(attrs.asdict(profile)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C isn't for it
    )
    assert process.stdout is not None  # noqa: S101 it is a pipe
    try:
        url = (await process.stdout.readline()).decode().strip()
        if not url:
            msg = "the built-in server didn't start"
            raise StartError(msg)
        yield url
    finally:
        await ended(process)


async def ended(process: asyncio.subprocess.Process) -> None:
    """Let a process end with its input, and see to it that it does."""
    assert process.stdin is not None  # noqa: S101 it is a pipe
    process.stdin.close()
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def truth_profile(concurrency: int) -> Profile:
    """Return the pace at which a truth server answers so many streams."""
    return Profile(time_to_first_token=0.05, gap=gap_for(concurrency))


def gap_for(concurrency: int) -> float:
    """Return the seconds between chunks that suit so many streams: 10 to 50 ms."""
    return min(0.05, max(0.01, concurrency / 10_000))


def calibration_plan(plan: Plan, base_url: str) -> Plan:
    """Return the plan of a short load on the truth server, as large as *plan*'s."""
    concurrency = concurrency_of(plan)
    if plan.load.closed:
        load = Load(max_concurrency=concurrency, duration=SECONDS)
    else:
        load = Load(request_rate=concurrency / STREAM, duration=SECONDS)
    tokens = max(4, round(STREAM / gap_for(concurrency)))
    return Plan(
        targets=(Target(base_url=base_url, model="truth", api_key="none"),),
        load=load,
        workload=Synthetic(input_tokens=8, output_tokens=tokens),
        timeouts=Timeouts(total=30),
        seed=plan.seed,
    )


def concurrency_of(plan: Plan) -> int:
    """Return how many streams a plan keeps open at a time, as far as it says.

    How long answers will take is not known: of an open load, it is as many as are due in the
    time that one of the truth server's takes.
    """
    load = plan.load
    limits: list[float | None] = [load.max_concurrency, load.num_prompts]
    if load.request_rate is not None:
        limits.append(load.request_rate * STREAM)
    if load.schedule is not None:
        seconds = max([1.0, *load.schedule[-1:]])
        limits.append(len(load.schedule) / seconds * STREAM)
    at_once = min(limit for limit in limits if limit is not None) * len(plan.targets)
    return max(1, round(min(at_once, MOST_AT_ONCE)))


async def _serve(profile: Profile) -> None:
    """Serve until standard input ends, so that no server outlives who started it."""
    async with SimulatedServer(profile, truth=True) as server:
        print_line(server.base_url)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(_serve(Profile(**json.loads(sys.argv[1]))))
