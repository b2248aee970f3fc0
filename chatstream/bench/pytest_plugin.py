"""A pytest fixture that holds a server to latency goals.

In a ``conftest.py``::

    pytest_plugins = ["chatstream.bench.pytest_plugin"]

and in an asynchronous test (pytest-asyncio, or anyio on asyncio)::

    async def test_it_answers_in_time(chat_bench):
        await chat_bench(
            "http://127.0.0.1:8000/v1",
            "my-model",
            max_concurrency=16,
            num_prompts=400,
            goals={"ttft.p99": 0.2, "tpot.p50": 0.05},
        )
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import pytest

from chatstream.bench.benchmark import Result, Run
from chatstream.bench.goodput import metric_named
from chatstream.bench.plan import Load, Plan, Target
from chatstream.bench.workload import Synthetic, Workload
from chatstream.errors import RequestError

_POINTS = ("mean", "min", "max", "p50", "p90", "p95", "p99", "p999")


class ChatBench(Protocol):
    """Measures a server; see :func:`chat_bench`."""

    async def __call__(
        self,
        base_url: str,
        model: str,
        *,
        goals: Mapping[str, float],
        workload: Workload | None = None,
        max_failed: float = 0.0,
        api_key: str | None = None,
        params: Mapping[str, Any] | None = None,
        calibrate: bool = False,
        **load: Any,
    ) -> Result:
        """Make a load and return what came of it, if it keeps the *goals*; fail the test if not.

        A goal is a metric and a percentile (or ``mean``, ``max``), with the seconds it may
        be: ``ttft.p99``, ``inter_chunk_latency.p50``. *max_failed* is the share of requests
        that may fail. *load* are the arguments of :class:`~chatstream.bench.Load`.
        Raises ``RequestError`` for goals that there are none of.
        """


@pytest.fixture
def chat_bench() -> ChatBench:
    """Return what measures a server and fails the test if it misses a goal."""
    return _measure


async def _measure(
    base_url: str,
    model: str,
    *,
    goals: Mapping[str, float],
    workload: Workload | None = None,
    max_failed: float = 0.0,
    api_key: str | None = None,
    params: Mapping[str, Any] | None = None,
    calibrate: bool = False,
    **load: Any,
) -> Result:
    limits = {_parsed(name): limit for name, limit in goals.items()}
    plan = Plan(
        targets=(Target(base_url=base_url, model=model, api_key=api_key),),
        load=Load(**({"max_concurrency": 8} | load)),
        workload=workload or Synthetic(input_tokens=64, output_tokens=64),
        params=params or {},
    )
    result = await Run(plan=plan, calibrate=calibrate).result()
    problems = [*_failures(result, max_failed), *_missed(result, limits)]
    if problems:
        client = result.summary["client"]
        if client["verdict"] != "ok":
            problems.append(f"client: {client['verdict']} ({'; '.join(client['reasons'])})")
        pytest.fail("\n".join(problems), pytrace=False)
    return result


def _parsed(goal: str) -> tuple[str, str]:
    """Return the metric and the point of a goal. Raises ``RequestError``."""
    name, _, point = goal.partition(".")
    if point not in _POINTS:
        raise RequestError(f"goals[{goal!r}]", point or "no percentile", " ".join(_POINTS))
    return metric_named(name), point


def _failures(result: Result, max_failed: float) -> list[str]:
    counts = result.summary["outcomes"]
    total = sum(counts.values())
    if not total:
        return ["no request was made that counts"]
    failed = total - result.summary["requests"]["good"]
    if failed <= max_failed * total:
        return []
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return [f"{failed} of {total} requests failed ({outcomes})"]


def _missed(result: Result, limits: Mapping[tuple[str, str], float]) -> list[str]:
    problems = []
    for (metric, point), limit in limits.items():
        figure = result.figure(metric)
        value = figure[point]
        if value is None:
            problems.append(f"{metric}.{point}: nothing was measured, the goal is {limit:g} s")
        elif value > limit:
            told = f"n {figure['n']}"
            if (interval := (figure["ci"] or {}).get(point)) is not None:
                told += f", 95 % interval {interval[0]:.4g} to {interval[1]:.4g} s"
            problems.append(f"{metric}.{point}: {value:.4g} s, the goal is {limit:g} s ({told})")
    return problems
