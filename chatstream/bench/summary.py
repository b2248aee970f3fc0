"""The summary of a run: what ``summary.json`` holds.

Times are seconds, what wasn't observed is ``null``. Requests that warmed up are in no
figure; streams that failed are counted, and in no latency.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from attrs import field, frozen

from chatstream.bench.client import errors_of, judged
from chatstream.bench.goodput import goodput
from chatstream.bench.log import Floats, Log
from chatstream.bench.metrics import series
from chatstream.bench.plan import Goals, Load, goals_from_json, load_from_json, load_to_json
from chatstream.bench.record import NOT_ATTEMPTED
from chatstream.bench.schedule import planned
from chatstream.bench.stats import figure, rate
from chatstream.bench.sweep import Over, best, knee
from chatstream.bench.windows import concurrency, stalls, steady_state
from chatstream.bench.workers import WorkerReport

SCHEMA = "chatstream.bench.summary/1"


@frozen(kw_only=True)
class Facts:
    """What is known of a run besides its log."""

    plan: Mapping[str, Any] | None = None
    """The plan as a report shows it; ``None`` where only the log is left."""
    loads: tuple[Load, ...] = ()
    """The load of each stage; empty if unknown."""
    goals: Goals | None = None
    over: Over | None = None
    """What a sweep varied; ``None`` if it wasn't one."""
    workers: Sequence[WorkerReport] = ()
    calibration: Mapping[str, Any] | None = None
    server: Mapping[str, Any] | None = None
    place: Mapping[str, Any] = field(factory=dict)
    """When and where it ran, and for how long: keys of the summary."""

    @property
    def seed(self) -> int:
        """What decided when requests were due."""
        return 0 if self.plan is None else int(self.plan["seed"])

    def load(self, stage: int) -> Load | None:
        """Return the load of a stage, ``None`` if it is unknown."""
        return self.loads[stage] if stage < len(self.loads) else None

    def was_stopped(self, stage: int) -> bool:
        """Whether who ran it ended that stage early: they didn't want the rest of it."""
        return bool(self.place.get("interrupted")) and stage == len(self.loads) - 1

    @classmethod
    def in_summary(cls, summary: Mapping[str, Any]) -> Facts:
        """Return the facts that a summary holds, so that another can be made."""
        plan, sweep = summary["plan"], summary["sweep"]
        loads = [stage["load"] for stage in summary["stages"]]
        if sweep is None and plan is not None:
            loads = [plan["load"]]
        goals = None if plan is None else plan["goals"]
        return cls(
            plan=plan,
            loads=tuple(load_from_json(load) for load in loads),
            goals=None if goals is None else goals_from_json(goals),
            over=None if sweep is None else sweep["over"],
            workers=[WorkerReport(**worker) for worker in summary["workers"]],
            calibration=summary["client"]["calibration"],
            server=summary["server"],
            place={name: summary[name] for name in PLACE},
        )


PLACE = (
    "chatstream",
    "started",
    "python",
    "platform",
    "cores",
    "load_seconds",
    "calibration_seconds",
    "interrupted",
)


def lost_workers(summary: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many workers got lost in any load, and how many there were."""
    workers = summary["workers"]
    lost = {worker["worker"] for worker in workers if worker["lost"]}
    return len(lost), len({worker["worker"] for worker in workers})


def summarised(
    log: Log, facts: Facts, stages: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the summary of a run; *stages* are those of a sweep, if they are known already.

    Of a sweep it tells the best load, or else the last.
    """
    if facts.over is None:
        stages = []
    elif stages is None:
        stages = [staged(log, facts, stage) for stage in range(len(facts.loads))]
    best_place = best(stages)
    shown = int(log.stage.max(initial=0)) if best_place is None else best_place
    targets = _targets(log, facts)
    log = log.where(log.stage == shown)
    whole = _part(log, facts, shown, len(targets))
    parts = [whole]
    if len(targets) > 1:
        parts = [
            _part(log.where(log.target == place), facts, shown) for place in range(len(targets))
        ]
    counted = log.where(~log.warmup)
    return {
        "schema": SCHEMA,
        **{name: facts.place.get(name) for name in PLACE},
        "plan": facts.plan,
        **whole,
        "client": judged(
            counted,
            facts.load(shown),
            [report for report in facts.workers if report.stage == shown],
            facts.calibration,
        ),
        "truth": errors_of(counted),
        "server": facts.server,
        "targets": [
            {name: target[name] for name in ("name", "base_url", "model")} | part
            for target, part in zip(targets, parts, strict=True)
        ],
        "shown": shown,
        "sweep": facts.over and {"over": facts.over, "knee": knee(stages), "best": best_place},
        "stages": list(stages),
        "workers": [attrs.asdict(worker) for worker in facts.workers],
        "definitions": {},
    }


def _targets(log: Log, facts: Facts) -> Sequence[Mapping[str, Any]]:
    """Return what was asked: by the plan, or as much as the log knows."""
    if facts.plan is not None:
        targets: Sequence[Mapping[str, Any]] = facts.plan["targets"]
        return targets
    count = 1 + int(log.target.max(initial=0))
    return [{"name": f"target {place}", "base_url": None, "model": None} for place in range(count)]


def staged(log: Log, facts: Facts, stage: int) -> dict[str, Any]:
    """Return the figures of one stage of a sweep."""
    load = facts.loads[stage]
    targets = len(_targets(log, facts))
    return {
        "value": getattr(load, str(facts.over)),
        "load": load_to_json(load),
        "targets": targets,
        **_part(log.where(log.stage == stage), facts, stage, targets),
    }


def _part(log: Log, facts: Facts, stage: int, targets: int = 1) -> dict[str, Any]:
    """Return the figures of a part of a run: of a stage, or of one of its targets."""
    counted = log.where(~log.warmup)
    load = facts.load(stage)
    wanted = None if load is None else planned(load, facts.seed)
    outcomes = Counter(counted.verdict.tolist())
    outcomes[NOT_ATTEMPTED] = int(np.sum(counted.turns_left))
    if load is not None and wanted is not None:
        begun = int(np.sum(counted.turn == 0))
        outcomes[NOT_ATTEMPTED] += max(0, (wanted - load.warmup) * targets - begun)
    missing = 0 if facts.was_stopped(stage) else outcomes[NOT_ATTEMPTED]
    return {
        "requests": {
            "planned": None if wanted is None else wanted * targets,
            "made": len(log),
            "good": int(np.sum(counted.good)),
            "warmup": int(np.sum(log.warmup)),
        },
        "outcomes": {outcome: count for outcome, count in outcomes.most_common() if count},
        "errors": _errors(counted),
        "metrics": _metrics(counted),
        "throughput": _throughput(counted),
        "goodput": _goodput(counted, facts.goals, missing),
        "steady_state": None if load is None or targets > 1 else _steady(counted, load),
        "stalls": stalls(log),
    }


def _metrics(log: Log) -> dict[str, Any]:
    return {name: figure(found) for name, found in series(log).items()}


_CHANGING = re.compile(r"\S*\d\S*")
"""What may differ where the same went wrong: times, counts, ports, names of requests."""


def _errors(log: Log) -> list[dict[str, Any]]:
    """List what went wrong, the most frequent first, each in the words of its first time."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for place in np.flatnonzero(log.error != ""):
        status = log.status[place]
        entry = {
            "outcome": log.verdict[place],
            "error": log.error[place],
            "detail": log.detail[place],
            "status": None if math.isnan(status) else int(status),
            "count": 0,
            "first": float(log.created[place]),
        }
        alike = _CHANGING.sub("#", entry["detail"])
        kind = entry["outcome"], entry["error"], entry["status"], alike
        found.setdefault(kind, entry)["count"] += 1
    return sorted(found.values(), key=lambda entry: -entry["count"])


def _span(log: Log) -> float:
    """Return the seconds from the first request made to the end of the last."""
    return float(log.end.max() - log.created.min()) if len(log) else 0.0


def _throughput(log: Log, start: float | None = None, end: float | None = None) -> dict[str, Any]:
    """Return what good requests amount to per second, from *start* to *end* of the run."""
    if not len(log):
        return {
            "seconds": 0.0,
            "requests_per_second": None,
            "output_tokens_per_second": None,
            "prompt_tokens_per_second": None,
            "mean_concurrency": None,
            "peak_concurrency": None,
        }
    start = float(log.created.min()) if start is None else start
    end = float(log.end.max()) if end is None else end
    good = log.where(log.good)
    mean, peak = concurrency(log, start, end)

    def per_second(weights: Floats | None) -> dict[str, Any] | None:
        if weights is not None and not np.any(~np.isnan(weights)):
            return None
        return rate(good.end, None if weights is None else np.nan_to_num(weights), start, end)

    return {
        "seconds": end - start,
        "requests_per_second": per_second(None),
        "output_tokens_per_second": per_second(good.completion_tokens),
        "prompt_tokens_per_second": per_second(good.prompt_tokens),
        "mean_concurrency": mean,
        "peak_concurrency": peak,
    }


def _goodput(log: Log, goals: Goals | None, missing: int) -> dict[str, Any] | None:
    if goals is None or not goals.limits():
        return None
    return goodput(log, goals, _span(log), not_attempted=missing)


def _steady(log: Log, load: Load) -> dict[str, Any] | None:
    window = steady_state(log, load)
    if window is None:
        return None
    inside = log.where((log.created >= window.start) & (log.created <= window.end))
    return {
        "start": window.start,
        "end": window.end,
        "requests": len(inside),
        "stable": window.stable,
        "why": window.why,
        "metrics": _metrics(inside),
        "throughput": _throughput(log, window.start, window.end),
    }
