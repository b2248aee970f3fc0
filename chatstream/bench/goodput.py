"""Which requests kept the goals, and what share of all that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chatstream.bench.log import Bools, Floats, Log
from chatstream.bench.metrics import LATENCIES, SHORT, first, last, time_per_output_token
from chatstream.bench.plan import Goals
from chatstream.bench.record import OUTPUT, TOKENS
from chatstream.bench.stats import share_interval
from chatstream.errors import RequestError

GOALS = ("ttft", "ttfo", "tpot", "e2el")
"""What there are goals for; ``vllm bench serve --goodput`` has all but ``ttfo``."""

PRESETS = {
    "llama2-70b": (2000, 200),
    "llama2-70b-interactive": (450, 40),
    "llama3.1-405b": (6000, 175),
    "llama3.1-405b-interactive": (4500, 80),
    "llama3.1-8b": (2000, 100),
    "llama3.1-8b-interactive": (500, 30),
    "deepseek-r1": (2000, 80),
    "deepseek-r1-interactive": (1500, 15),
    "gpt-oss-120b": (3000, 80),
    "gpt-oss-120b-interactive": (2000, 15),
}
"""MLPerf Inference's limits of the 99th percentiles (``mlperf.conf``): milliseconds to the
first token, and per output token."""


def goals_from(texts: Sequence[str], attainment: float = 0.99) -> Goals:
    """Return goals given as ``ttft:200``, in milliseconds, or by a preset's name.

    Raises ``RequestError``.
    """
    limits: dict[str, float] = {}
    for text in texts:
        for metric, limit in _goals_in(text).items():
            if metric in limits:
                raise RequestError("goodput", f"two goals for {metric}", "one of each")
            limits[metric] = limit
    if not limits:
        raise RequestError("goodput", "no goal", _ALLOWED)
    return Goals(**limits, attainment=attainment)


_ALLOWED = (
    f"{', '.join(f'{name}:MILLISECONDS' for name in GOALS)}, or a preset: {', '.join(PRESETS)}"
)


def _goals_in(text: str) -> dict[str, float]:
    """Return the goals in one text, in seconds."""
    if text in PRESETS:
        limits = (limit / 1000 for limit in PRESETS[text])
        return dict(zip(("time_to_first_token", "time_per_output_token"), limits, strict=True))
    name, _, milliseconds = text.partition(":")
    metric = SHORT.get(name, name)
    if metric not in (SHORT[goal] for goal in GOALS):
        raise RequestError("goodput", repr(text), _ALLOWED)
    try:
        limit = float(milliseconds)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise RequestError("goodput", repr(text), f"{name}: and milliseconds above 0")
    return {metric: limit / 1000}


def metric_named(name: str) -> str:
    """Return a latency's whole name: ``ttft`` is short for one. Raises ``RequestError``."""
    metric = SHORT.get(name, name)
    if metric not in LATENCIES:
        allowed = f"a latency: {', '.join(SHORT)}, or a whole name"
        raise RequestError("metric", repr(name), allowed)
    return metric


def goodput(
    log: Log, goals: Goals, window_seconds: float, *, not_attempted: int = 0
) -> dict[str, Any]:
    """Return how many requests were good, and their share of all that were to be made.

    See :func:`kept` for what is good. A goal is not met if no request has such a latency:
    its share is ``None``, as is what a window without length has per second.
    """
    by_goal = _kept_each(log, goals)
    good = np.append(kept(log, goals), np.zeros(not_attempted, np.bool_))
    attempted = len(good)
    attainment = float(good.mean()) if attempted else None
    shares = {
        metric: None if found is None else int(np.count_nonzero(found)) / attempted
        for metric, found in by_goal.items()
    }
    return {
        "goals": goals.limits(),
        "attempted": attempted,
        "good": int(np.count_nonzero(good)),
        "attainment": attainment,
        "ci": share_interval(good),
        "requests_per_second": (
            int(np.count_nonzero(good)) / window_seconds if window_seconds > 0 else None
        ),
        "by_goal": shares,
        "wanted": goals.attainment,
        "met": attainment is not None
        and attainment >= goals.attainment
        and None not in shares.values(),
    }


def kept(log: Log, goals: Goals) -> Bools:
    """Return whether each request ended well and kept all goals.

    An answer without the token that a goal waits for didn't: it never came. But one of a
    single token has no time per output token, and keeps any, as in vLLM, where it is 0;
    so does one whose tokens the server didn't count.
    """
    good = log.good
    for found in _kept_each(log, goals).values():
        if found is not None:
            good &= found
    return good


def _kept_each(log: Log, goals: Goals) -> dict[str, Bools | None]:
    """Return which good requests kept each goal, ``None`` if none has such a latency."""
    found: dict[str, Bools | None] = {}
    for metric, limit in goals.limits().items():
        latencies = np.where(log.good, _latencies(log, metric), np.nan)
        unknown = np.isnan(latencies)
        within = latencies <= limit
        if metric == "time_per_output_token":
            within |= log.good & unknown
        found[metric] = None if unknown.all() else within
    return found


def _latencies(log: Log, metric: str) -> Floats:
    match metric:
        case "time_to_first_token":
            return first(log, log.of_kinds(TOKENS)) - log.created
        case "time_to_first_output":
            return first(log, log.of_kinds(OUTPUT)) - log.created
        case "duration":
            return last(log, log.of_kinds(TOKENS)) - log.created
        case _:
            return time_per_output_token(log)
