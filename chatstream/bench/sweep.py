"""A sweep: one load after another, to find how much a server can take.

A *stage* is one load's part of the summary. What is asked of it:

- an open load *keeps up* if its answers come as fast as its requests are due, within 5 %;
- a load is *stable* if it keeps up and latencies don't drift while it lasts;
- a load is *good* if it is stable and meets the goals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeAlias, cast

import attrs
from attrs import field, frozen

from chatstream.bench.plan import Load
from chatstream.errors import RequestError

Stage: TypeAlias = Mapping[str, Any]
Over: TypeAlias = Literal["request_rate", "max_concurrency"]

LAG = 0.05
"""The share of an open load's rate by which answers may fall behind."""

LOADS = range(2, 101)
"""How many a sweep may have."""

MOST = 1e9
"""A load above it is a slip of the keyboard."""

_NAMES: dict[str, Over] = {
    "rate": "request_rate",
    "request_rate": "request_rate",
    "concurrency": "max_concurrency",
    "max_concurrency": "max_concurrency",
}
_FORMS = "rate=1:32 (doubled), rate=1:32:6 (6 loads), rate=1,2,4,8, or concurrency in place of rate"


@frozen(kw_only=True)
class Sweep:
    """The loads to try, and how often to try between two of them."""

    over: Over
    values: tuple[float, ...] = field()
    """Ascending; whole numbers for a concurrency."""
    refine: int = 2
    """At most so many loads between the best that meets the goals and the next."""

    @values.validator
    def _check(self, _: object, values: tuple[float, ...]) -> None:
        _check_count(len(values))
        for value in values:
            if not 0 < value <= MOST:
                raise RequestError("sweep", f"{value:g}", f"loads above 0, up to {MOST:g}")
            if self.over == "max_concurrency" and not isinstance(value, int):
                raise RequestError("sweep", f"{value:g}", "whole numbers for a concurrency")
        for low, high in pairwise(values):
            if low >= high:
                raise RequestError("sweep", f"{low:g} before {high:g}", "ascending loads")

    def value_of(self, load: Load) -> float:
        """Return the rate or concurrency of one of its loads."""
        value: float = getattr(load, self.over)
        return value


def _check_count(count: int) -> None:
    if count not in LOADS:
        raise RequestError("sweep", f"{count} loads", f"{LOADS[0]} to {LOADS[-1]}")


def parse_sweep(text: str) -> Sweep:
    """Return the sweep that *text* describes. Raises ``RequestError``.

    ``rate=1:32`` doubles from 1 to 32, ``rate=1:32:6`` makes 6 loads at equal ratios,
    ``rate=1,2,4,8`` are these loads; ``concurrency`` the same.
    """
    name, _, loads = text.partition("=")
    over = _NAMES.get(name.strip().replace("-", "_"))
    if over is None:
        raise RequestError("sweep", repr(text), _FORMS)
    whole = over == "max_concurrency"
    if ":" not in loads:
        values = [_number(each, text, whole=whole) for each in loads.split(",")]
        return Sweep(over=over, values=tuple(values))
    low, high, *count = loads.split(":")
    bounds = _number(low, text, whole=whole), _number(high, text, whole=whole)
    if len(count) > 1:
        raise RequestError("sweep", repr(text), _FORMS)
    if not 0 < bounds[0] < bounds[1] <= MOST:
        allowed = f"a load above 0, and a higher one up to {MOST:g}"
        raise RequestError("sweep", repr(loads), allowed)
    inner = _inner(*bounds, _number(count[0], text, whole=True) if count else None)
    if whole:
        inner = [round(value) for value in inner]
    values = [bounds[0], *dict.fromkeys(v for v in inner if bounds[0] < v < bounds[1]), bounds[1]]
    return Sweep(over=over, values=tuple(values))


def _number(text: str, whole_text: str, *, whole: bool) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise RequestError("sweep", f"{text!r} in {whole_text!r}", kind) from None


def _inner(low: float, high: float, count: float | None) -> list[float]:
    """Return the loads between two, at equal ratios; without a count they double."""
    if count is None:
        doublings = math.ceil(math.log2(high / low))
        return [low * 2**power for power in range(1, doublings)]
    _check_count(int(count))
    steps = int(count) - 1
    return [_rounded(low * (high / low) ** (step / steps)) for step in range(1, steps)]


def _rounded(value: float) -> float:
    """Return a load as one would write it: 3.16228, and 4 instead of 4.000000000000001."""
    return float(f"{value:.6g}")


def loads(sweep: Sweep, base: Load) -> list[Load]:
    """Return the loads of a sweep: *base*, with each rate or concurrency."""
    return [_load(sweep, base, value) for value in sweep.values]


def _load(sweep: Sweep, base: Load, value: float) -> Load:
    change: dict[str, Any] = {sweep.over: value}
    return attrs.evolve(base, **change)


def next_load(sweep: Sweep, base: Load, stages: Sequence[Stage]) -> Load | None:
    """Return the load to make after *stages*, ``None`` if enough is known.

    First come the loads of the sweep. Then, where goals were given, the middle between the
    best load and the lowest above it that isn't good, by their ratio; at most ``refine``
    times. So the best load is known more sharply: of loads that double, within 19 %.
    """
    refined = len(stages) - len(sweep.values)
    if refined < 0:
        return _load(sweep, base, sweep.values[len(stages)])
    place = best(stages)
    if place is None or refined >= sweep.refine:
        return None
    low = stages[place]["value"]
    above = [stage["value"] for stage in stages if stage["value"] > low]
    if not above:  # the sweep ended before the server did
        return None
    middle = math.sqrt(low * min(above))
    value = _rounded(middle) if sweep.over == "request_rate" else round(middle)
    return _load(sweep, base, value) if low < value < min(above) else None


def best(stages: Sequence[Stage]) -> int | None:
    """Return the place of the highest load that is good, ``None`` if none is."""
    good = [place for place, stage in enumerate(stages) if _meets(stage) and _stable(stage)]
    return max(good, key=lambda place: cast(float, stages[place]["value"]), default=None)


def knee(stages: Sequence[Stage]) -> int | None:
    """Return the place of the load from which on more load brings no more answers.

    Of open loads: the last stable one before the first that isn't. Of closed loads, which
    always keep up: where the curve of throughput bends, see :func:`bend`. ``None`` if the
    sweep doesn't reach it, or begins beyond it. Throughput is that of the steady state, if
    there is one: a run's beginning and end have less.
    """
    order = sorted(range(len(stages)), key=lambda place: cast(float, stages[place]["value"]))
    if any(stages[place]["load"]["request_rate"] is not None for place in order):
        unstable = [rank for rank, place in enumerate(order) if not _stable(stages[place])]
        return order[unstable[0] - 1] if unstable and unstable[0] > 0 else None
    values = [stages[place]["value"] for place in order]
    throughputs = [
        _throughput(stages[place]["steady_state"] or stages[place])["value"] for place in order
    ]
    rank = bend(values, throughputs)
    return None if rank is None else order[rank]


def bend(values: Sequence[float], throughputs: Sequence[float]) -> int | None:
    """Return the place where a rising curve bends away from its straight beginning.

    Of load and throughput, both scaled to 0…1, the point farthest above the diagonal. It
    must lie higher above it than the mean distance of two loads, or the curve counts as
    straight: ``None``. This is Kneedle with sensitivity 1, offline, for a concave
    increasing curve (Satopää, Albrecht, Irwin, Raghavan: Finding a "Kneedle" in a
    Haystack, 2011). Loads are on a linear scale, as throughput is proportional to them
    while a server has room.
    """
    if len(values) < 3:  # noqa: PLR2004 two points have no bend between them
        return None
    width, height = values[-1] - values[0], max(throughputs) - throughputs[0]
    if height <= 0:
        return None
    above = [
        (throughput - throughputs[0]) / height - (value - values[0]) / width
        for value, throughput in zip(values, throughputs, strict=True)
    ]
    farthest = max(range(len(above)), key=above.__getitem__)
    return farthest if above[farthest] > 1 / (len(values) - 1) else None


def _meets(stage: Stage) -> bool:
    goodput = stage["goodput"]
    return goodput is not None and bool(goodput["met"])


def _stable(stage: Stage) -> bool:
    """Whether a load could go on for ever; what isn't known doesn't count against it.

    It is known of one without a good request that it couldn't.
    """
    steady = stage["steady_state"]
    drifts = steady is not None and steady["stable"] is False
    return bool(stage["requests"]["good"]) and not drifts and _keeps_up(stage)


def _keeps_up(stage: Stage) -> bool:
    """Whether answers come as fast as requests are due: it isn't ruled out that they do.

    That is told by the steady state. Where a run has none, three things are set aside: the
    time that a typical request takes, in which the last are answered; half the ramp, which
    is what a linear one costs; and twice the standard deviation that a count of as many
    independent arrivals has.
    """
    rate = stage["load"]["request_rate"]
    if rate is None or float(rate) == math.inf:
        return True
    offered = rate * stage["targets"]
    if stage["steady_state"] is not None:
        achieved = _throughput(stage["steady_state"])
        most = achieved["ci"][1] if achieved["ci"] is not None else achieved["value"]
        return bool(most >= offered * (1 - LAG))
    good, duration = stage["requests"]["good"], stage["metrics"]["duration"]["p50"]
    seconds = stage["throughput"]["seconds"] - (duration or 0) - stage["load"]["ramp"] / 2
    return bool(good + 2 * math.sqrt(good) >= offered * (1 - LAG) * seconds)


def _throughput(part: Stage) -> Mapping[str, Any]:
    """Return the requests per second."""
    rate: Mapping[str, Any] | None = part["throughput"]["requests_per_second"]
    return {"value": 0.0, "ci": None} if rate is None else rate
