"""Runs what ``chatstream bench`` was told, at a terminal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

from attrs import evolve
from rich.console import Console

from chatstream.bench.benchmark import Result, Run
from chatstream.bench.output.files import FILES, LOG, OutputError
from chatstream.bench.output.live import LiveView
from chatstream.bench.plan import Plan
from chatstream.bench.sweep import Sweep
from chatstream.bench.truth import StartError, served
from chatstream.bench.workers import Crew
from chatstream.cli.exits import DONE, FAILED, INTERRUPTED, complain
from chatstream.cli.load import RunOutputOptions, outputs_of
from chatstream.testing import Profile


def measure(
    plan: Plan,
    *,
    profile: Profile | None,
    sweep: Sweep | None,
    crew: Crew,
    output: RunOutputOptions,
    calibrate: bool,
    metrics_url: str | None,
    strict: bool,
) -> int:
    """Run a plan, show and write what came of it, and return the exit status.

    With a *profile* its targets are a simulated server that behaves so. Raises
    ``UsageError``, ``RequestError`` and ``ModuleNotFoundError`` before anything is sent.
    """
    if find_spec("numpy") is None:  # it is imported when the run begins
        raise ModuleNotFoundError(name="numpy")
    console = Console(stderr=True)
    view = LiveView(console, len(plan.targets))
    benchmark = Run(
        plan=plan,
        sweep=sweep,
        crew=crew,
        calibrate=calibrate,
        metrics_url=metrics_url,
        listener=view,
    )
    outputs = outputs_of(output, FILES)

    async def run() -> Result:
        async with AsyncExitStack() as stack:
            if profile is not None:
                base_url = await stack.enter_async_context(served(profile))
                targets = (evolve(target, base_url=base_url) for target in plan.targets)
                benchmark.plan = evolve(plan, targets=tuple(targets))
            if outputs is not None:
                log_file = outputs.log(LOG, private=plan.keep_text)
                benchmark.log_file = stack.enter_context(log_file)
            await stack.enter_async_context(view)
            await stack.enter_async_context(_stopped_by_ctrl_c(benchmark, console))
            return await benchmark.result()

    try:
        result = asyncio.run(run())
    except (OutputError, StartError) as error:
        complain(str(error))
        return FAILED
    from chatstream.cli.delivery import deliver  # noqa: PLC0415 numpy is there by now

    summary = result.summary
    written = deliver(result.log, summary, outputs, output)
    if summary["interrupted"]:
        return INTERRUPTED
    if not (result.log.good & ~result.log.warmup).any():
        complain("no request got its answer")
        return FAILED
    if strict and summary["client"]["verdict"] != "ok":
        complain(f"the client was {summary['client']['verdict']}, and --strict asks for more")
        return FAILED
    return DONE if written else FAILED


@asynccontextmanager
async def _stopped_by_ctrl_c(run: Run, console: Console) -> AsyncIterator[None]:
    """Let Ctrl-C, or SIGTERM, end *run* with what it has; a second one ends everything."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def listen_no_more() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def stop() -> None:
        listen_no_more()
        console.print("ending with what was measured; Ctrl-C again ends at once", style="dim")
        run.stop()

    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        listen_no_more()
