"""Whether two runs can be compared: what differs between them, and what speaks against one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from attrs import frozen

from chatstream.bench.log import Ints, Log
from chatstream.bench.saved import SavedRun
from chatstream.bench.summary import lost_workers
from chatstream.errors import one_line

ASKED = ("seed", "workload", "params", "extra_body")
"""The parts of a plan that decide what is asked."""

PLANNED = ("workload", "params", "extra_body", "timeouts", "attempts")
"""The parts of a plan that must be alike, besides the load and the models."""

COMMON = 0.9
"""The share of the requests of either run that both must have made, to be paired: a run
that is ended by its time makes some more or less."""


@frozen(eq=False)
class Pairs:
    """The requests of two runs, numbered alike: the same number, the same question."""

    a: Ints
    """The number of each request in the first log."""
    b: Ints
    common: int
    """How many were made in both."""


def pairs(a: SavedRun, b: SavedRun) -> Pairs | str:
    """Return which requests of two runs are the same, or why they can't be paired."""
    if a.plan is None or b.plan is None:
        return "without summaries nobody knows whether both asked the same"
    for part in ASKED:
        if a.plan.get(part) != b.plan.get(part):
            return f"their {part.replace('_', ' ')} differs"
    first, second = a.counted(), b.counted()
    together = np.concatenate((_places_in_plan(first), _places_in_plan(second)))
    numbers = np.unique(together, axis=0, return_inverse=True)[1].reshape(-1)
    found = Pairs(numbers[: len(first)], numbers[len(first) :], 0)
    common = len(np.intersect1d(found.a, found.b))
    total = len(np.union1d(found.a, found.b))
    if common < COMMON * total:
        return f"of {total:,} requests both made only {common:,}"
    return Pairs(found.a, found.b, common)


def _places_in_plan(log: Log) -> Ints:
    """Return what tells a request from others: conversation and turn, and which target's."""
    _, target = np.unique(log.target, return_inverse=True)
    return np.column_stack((log.number, log.turn, target))


def doubts(a: SavedRun, b: SavedRun) -> list[str]:
    """Return what speaks against comparing two runs, one sentence each."""
    return [*_doubts_about("A", a), *_doubts_about("B", b), *differences(a, b)]


def _doubts_about(name: str, run: SavedRun) -> Iterator[str]:
    if run.log.cut:
        yield f"{name}'s log ends in the middle of a line: the run was killed"
    if run.summary is None:
        yield f"{name} has no summary: its plan and the state of its client aren't known"
        return
    client = run.summary["client"]
    if client["verdict"] != "ok":
        reasons = "; ".join(map(str, client["reasons"]))
        yield one_line(f"{name}'s client was {client['verdict']}: {reasons}")
    if run.summary["interrupted"]:
        yield f"{name} was interrupted"
    lost, workers = lost_workers(run.summary)
    if lost:
        yield f"{name} lost {lost} of its {workers} workers"


def differences(a: SavedRun, b: SavedRun) -> list[str]:
    """Return how the plans of two runs differ; the servers they asked may."""
    if a.plan is None or b.plan is None:
        return []
    found = list(_differences("load", a.load, b.load))
    for part in PLANNED:
        found += _differences(part, a.plan.get(part), b.plan.get(part))
    if a.source != b.source:  # else it is the models that are compared
        found += _differences("models", a.models, b.models)
    return found


def _differences(name: str, a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted(a.keys() | b.keys()):
            yield from _differences(f"{name}.{key}", a.get(key), b.get(key))
    elif a != b:
        yield f"plans differ in {one_line(name, 80)}: A {_shown(a)}, B {_shown(b)}"


def _shown(value: Any) -> str:
    return one_line("nothing" if value is None else repr(value), 60)
