"""``chatstream bench``: latency figures of a server under load."""

from __future__ import annotations

import os
from typing import Annotated

from attrs import evolve
from cyclopts import Parameter

from chatstream.bench.plan import Plan, Target
from chatstream.cli.chat import DEFAULT_MODEL
from chatstream.cli.exits import UsageError, needing
from chatstream.cli.load import (
    AskedParameters,
    AskedServer,
    ClientOptions,
    GoalOptions,
    LoadOptions,
    RunOutputOptions,
    WorkOptions,
)
from chatstream.cli.options import host_of
from chatstream.cli.simulation import Pace, simulated


def bench(
    *,
    model: Annotated[tuple[str, ...], Parameter(name=["--model", "-m"], metavar="NAME")] = (),
    against: Annotated[tuple[str, ...], Parameter(metavar="URL")] = (),
    simulate: bool = False,
    seed: Annotated[int, Parameter(show_default=True)] = 0,
    load: LoadOptions = LoadOptions(),  # noqa: B008 frozen, as those below
    work: WorkOptions = WorkOptions(),  # noqa: B008
    goals: GoalOptions = GoalOptions(),  # noqa: B008
    output: RunOutputOptions = RunOutputOptions(),  # noqa: B008
    client: ClientOptions = ClientOptions(),  # noqa: B008
    parameters: AskedParameters = AskedParameters(),  # noqa: B008
    connection: AskedServer = AskedServer(),  # noqa: B008
    pace: Pace = Pace(),  # noqa: B008
) -> int:
    """Measure a server's latencies under load, and how far the figures can be trusted.

    The client first measures itself against a server that tells when it sent what, and
    watches itself while the load runs; the summary says whether it was good enough.
    Ctrl-C (or SIGTERM) ends a run with what was measured until then.

    ```
    chatstream bench --simulate
    chatstream bench --base-url http://127.0.0.1:8000/v1 -m llama -c 32 -n 1000 --out run1
    chatstream bench --base-url … -m llama -r 8 --duration 60 --goodput ttft:200 tpot:50
    chatstream bench --base-url … -m llama --sweep rate=1:32 --duration 30 --goodput ttft:200
    chatstream compare run1 run2 --allow ttft.p99:5%
    ```

    The exit status is 0 if there are figures, 1 if no request got its answer (or, with
    --strict, the client wasn't good enough), 2 for wrong usage, and 130 after Ctrl-C.

    Parameters
    ----------
    model
        Which model to ask; several are asked side by side. [default: $OPENAI_MODEL, or
        gpt-4o-mini]
    against
        A further server, which is asked the same at the same time, with the same key.
        Repeatable.
    simulate
        Measure a simulated server, in a process of its own: no network, no key.
    seed
        Decides when requests are due, and synthetic prompts.
    """
    profile = simulated(pace, connection, simulate=simulate, seed=seed)
    if profile is not None and against:
        msg = "--against and --simulate don't go together"
        raise UsageError(msg)
    params = parameters.to_request()
    with needing("bench"):  # numpy and others, which --help and other commands don't need
        from chatstream.cli.measurement import measure  # noqa: PLC0415

        return measure(
            Plan(
                targets=_simulated(model) if simulate else _targets(model, against, connection),
                load=load.load(),
                workload=work.workload(),
                extra_body=params.pop("extra_body", {}),
                params=params,
                validate=not parameters.no_validate,
                goals=goals.goals(),
                timeouts=connection.timeouts(),
                attempts=connection.retry().attempts,
                seed=seed,
                keep_text=output.save_text,
            ),
            profile=profile,
            sweep=load.to_sweep(),
            crew=client.crew(),
            output=output,
            calibrate=not client.no_calibration,
            metrics_url=client.metrics_url,
            strict=client.strict,
        )


def _simulated(models: tuple[str, ...]) -> tuple[Target, ...]:
    """Return what to ask of the simulated server, which has its port when it runs."""
    return tuple(
        Target(base_url="http://127.0.0.1", model=name, name=name, api_key="simulated")
        for name in models or ("simulated",)
    )


def _targets(
    models: tuple[str, ...], against: tuple[str, ...], connection: AskedServer
) -> tuple[Target, ...]:
    """Return the servers and models to ask, each model on each server."""
    names = models or (os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL,)
    first = connection.target(names[0])
    urls = (first.base_url, *against)
    return tuple(
        evolve(first, base_url=url, model=name, name=_name(url, name, len(urls), len(names)))
        for url in urls
        for name in names
    )


def _name(url: str, model: str, urls: int, models: int) -> str:
    """Return what tells a target from the others."""
    if urls == 1:
        return model
    return host_of(url) if models == 1 else f"{model} at {host_of(url)}"
