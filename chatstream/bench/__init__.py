"""Latency figures of a server under load, and how far they can be trusted.

::

    from chatstream.bench import Load, Plan, Synthetic, Target, run

    plan = Plan(
        targets=(Target(base_url="http://127.0.0.1:8000/v1", model="m"),),
        load=Load(max_concurrency=8, num_prompts=200),
        workload=Synthetic(input_tokens=256, output_tokens=128),
    )
    result = await run(plan)
    result.figure("time_to_first_token")["p99"]  # seconds

What computes figures needs numpy (the extra ``bench``), and is imported when asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chatstream.bench.plan import Goals, Load, Plan, Target
from chatstream.bench.workload import (
    Conversation,
    Prompts,
    Synthetic,
    Turn,
    read_jsonl,
    read_sharegpt,
)

if TYPE_CHECKING:
    from chatstream.bench.benchmark import Result, Run, run
    from chatstream.bench.log import Log

_NEED_NUMPY = {
    "Log": "chatstream.bench.log",
    "Result": "chatstream.bench.benchmark",
    "Run": "chatstream.bench.benchmark",
    "run": "chatstream.bench.benchmark",
}

__all__ = [
    "Conversation",
    "Goals",
    "Load",
    "Log",
    "Plan",
    "Prompts",
    "Result",
    "Run",
    "Synthetic",
    "Target",
    "Turn",
    "read_jsonl",
    "read_sharegpt",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import what needs numpy."""
    module = _NEED_NUMPY.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(module), name)
