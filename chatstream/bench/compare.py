"""Two runs compared: what changed from A to B, how sure that is, and whether it may.

Every change has a 95 % confidence interval. Those of latencies come from replicates of
both runs (:mod:`chatstream.bench.stats`): where both asked the same, the same requests are
drawn again in both, so that it doesn't matter that some are slow wherever they are asked.
Those of rates and shares come from the intervals that each run's own figure has.

Some hundred figures are compared, so a few will seem changed by chance: only those with an
allowance decide. Each of these errs on its own, one in forty times at most if nothing
changed and no change is allowed, and hardly ever if some is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
from attrs import frozen

from chatstream.bench.allowance import (
    HIGHER_IS_BETTER,
    RATES,
    STATISTICS,
    Allowance,
    parse_allowances,
)
from chatstream.bench.comparable import Pairs, doubts, pairs
from chatstream.bench.goodput import kept
from chatstream.bench.log import Bools, Floats, Ints, Log
from chatstream.bench.metrics import LATENCIES, Series, series
from chatstream.bench.plan import Goals
from chatstream.bench.saved import SavedRun
from chatstream.bench.stats import (
    PERCENTILES,
    Replicates,
    interval,
    paired,
    rate,
    replicates,
    requests_needed,
    share_interval,
)
from chatstream.errors import RequestError

SCHEMA = "chatstream.bench.comparison/1"

BAND = 0.01
"""A change that is surely smaller than this share of the value before counts as none."""
RESOLUTION = 1e-5
"""So does one of a latency that is surely smaller than this: in seconds, what a client can
tell apart."""
SHARE_BAND = 0.001
"""And one of a share that is surely smaller than this."""

FEWEST = 20
"""From fewer requests no interval is made; that of a percentile needs as many as let one
request be beyond it. With fewer it would be too short."""

SURVIVORS = 0.01
"""From this difference of the failed shares on, latencies are of other requests."""

_FEW = "it can't be told from so few"
_FAILURES = f"{_FEW}: surely more requests failed"

Interval: TypeAlias = tuple[float, float]
Verdict: TypeAlias = Literal["better", "worse", "same", "unclear"]
Gate: TypeAlias = Literal["kept", "possible", "broken"]


@frozen
class Side:
    """A figure in one of the runs."""

    value: float | None
    """``None`` if it wasn't observed."""
    n: int
    """How many values, or requests, it is of."""
    ci: Interval | None = None
    """What it is with 95 % confidence; ``None`` if too little is known."""


@frozen
class Estimate:
    """By how much a figure changed."""

    value: float
    ci: Interval | None
    """As of a :class:`Side`."""

    def is_within(self, limit: float) -> bool:
        """Whether it is surely no more than *limit*, up or down."""
        return self.ci is not None and -limit <= self.ci[0] and self.ci[1] <= limit

    def times(self, factor: float) -> Estimate:
        """Return it multiplied."""
        if self.ci is None:
            return Estimate(self.value * factor, None)
        low, high = sorted(end * factor for end in self.ci)
        return Estimate(self.value * factor, (low, high))


@frozen(kw_only=True)
class Change:
    """A figure in both runs, and what became of it."""

    figure: str
    """``metric.statistic``, or the name of a rate or a share."""
    unit: str
    a: Side
    b: Side
    absolute: Estimate | None = None
    """B - A; ``None`` if one wasn't observed."""
    relative: Estimate | None = None
    """B / A - 1; ``None`` for shares, and where A may be 0."""
    unsure: bool = False
    """Whether a run has too few requests to tell this figure."""
    undecided: str | None = None
    """Why B's requests can't show that a latency kept its allowance."""
    allowance: Allowance | None = None

    @property
    def metric(self) -> str:
        """The figure's name without its statistic."""
        return self.figure.partition(".")[0]

    @property
    def higher_is_better(self) -> bool:
        """Whether more of it is good."""
        return self.metric in HIGHER_IS_BETTER

    @property
    def verdict(self) -> Verdict:
        """What the interval says, whatever is allowed.

        ``same`` if all of it is too small to matter, ``better`` or ``worse`` if all of it
        is on one side of no change, else ``unclear``.
        """
        if self.absolute is None or self.absolute.ci is None:
            return "unclear"
        if self._is_negligible() and self.gate != "broken":
            return "same"
        low, high = self.absolute.ci
        if low <= 0 <= high:
            return "unclear"
        return "better" if (low > 0) == self.higher_is_better else "worse"

    def _is_negligible(self) -> bool:
        least = {"s": RESOLUTION, "share": SHARE_BAND}.get(self.unit, 0.0)
        return (self.absolute is not None and self.absolute.is_within(least)) or (
            self.relative is not None and self.relative.is_within(BAND)
        )

    @property
    def gate(self) -> Gate | None:
        """Whether the figure kept its allowance, ``None`` if it has none.

        ``broken`` if the whole interval lies beyond, ``possible`` if only the change itself
        does: it may be chance. What A has and B doesn't is broken, and so is what may be
        chance only because B has too few good requests to tell, or because so many more
        of B's failed that those left tell nothing, whatever they say.
        """
        if self.allowance is None:
            return None
        if self.absolute is None or self.undecided == _FAILURES:
            return "broken"
        change, limit = self.absolute, self.allowance.limit
        if self.allowance.relative and self.relative is not None:
            change = self.relative
        elif self.allowance.relative:
            limit *= abs(self.a.value or 0.0)
        worsening = change.times(-1) if self.higher_is_better else change
        if worsening.ci is not None and worsening.ci[0] > limit:
            return "broken"
        if worsening.value <= limit:
            return "kept"
        return "possible" if self.undecided is None else "broken"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            **attrs.asdict(self, value_serializer=_plain),
            "better": "higher" if self.higher_is_better else "lower",
            "verdict": self.verdict,
            "gate": self.gate,
        }


def _plain(_: object, __: object, value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@frozen(eq=False, kw_only=True)
class Comparison:
    """What changed from run A to run B."""

    a: str
    """The name of the run before."""
    b: str
    changes: tuple[Change, ...]
    paired: int | None
    """How many requests both made, if these were drawn together."""
    warnings: tuple[str, ...]
    """What speaks against comparing these runs."""
    notes: tuple[str, ...]
    """How the changes came about."""
    open_load: bool = False
    """Whether requests were due at times of their own, so that latencies count from then."""
    strict: bool = False
    """Whether doubts fail too, not only what is sure."""

    @property
    def failed(self) -> bool:
        """Whether B may not take A's place.

        That is so if it broke an allowance; if *strict* is wanted, also if it possibly did,
        or if there is a warning.
        """
        gates = {change.gate for change in self.changes}
        doubtful = "possible" in gates or bool(self.warnings)
        return "broken" in gates or (self.strict and doubtful)

    def change(self, figure: str) -> Change:
        """Return the change of a figure, by its whole name."""
        return next(change for change in self.changes if change.figure == figure)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values; times are seconds."""
        return {
            "schema": SCHEMA,
            "a": self.a,
            "b": self.b,
            "failed": self.failed,
            "strict": self.strict,
            "paired": self.paired,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "changes": [change.to_dict() for change in self.changes],
        }


def compare(
    a: SavedRun,
    b: SavedRun,
    *,
    allow: Mapping[str, str] | None = None,
    strict: bool = False,
    seed: int = 0,
) -> Comparison:
    """Compare run *b* with run *a*, which was before.

    *allow* says how much worse figures may become, as ``{"ttft.p99": "5%"}``; without it,
    nothing fails. Raises ``RequestError`` if one of these wasn't measured in *a*.
    """
    allowances = parse_allowances(allow or {})
    matched = pairs(a, b)
    before, after = a.counted(), b.counted()
    drawing = _Drawing(None if isinstance(matched, str) else matched, seed)
    metrics = series(before), series(after)
    goals = a.goals or b.goals
    changes = {
        change.figure: attrs.evolve(change, allowance=allowances.get(change.figure))
        for change in (
            *(each for name in LATENCIES for each in _metric(name, *metrics, drawing)),
            *_rates(before, after),
            *_shares(before, after, goals),
        )
    }
    if _failed_more(changes["failed"]):
        changes = {
            name: attrs.evolve(change, undecided=_FAILURES)
            if change.metric in LATENCIES
            else change
            for name, change in changes.items()
        }
    for figure, allowance in allowances.items():
        if figure not in changes or changes[figure].a.value is None:
            raise RequestError("allow", f"{figure}:{allowance.text}", "a figure that A has")
    return Comparison(
        a=a.name,
        b=b.name,
        changes=tuple(changes.values()),
        paired=None if isinstance(matched, str) else matched.common,
        warnings=(*doubts(a, b), *_warnings(changes)),
        notes=(
            *_notes(a, b, matched, len(changes)),
            *_note_on_answers(_metric("completion_tokens", *metrics, drawing)),
        ),
        open_load=a.open_load or b.open_load,
        strict=strict,
    )


# --- Changes ------------------------------------------------------------------


@frozen(eq=False)
class _Drawing:
    """How requests of two runs are drawn again."""

    pairs: Pairs | None
    """``None`` if the runs are independent."""
    seed: int

    def replicates(self, a: Series, b: Series) -> tuple[Replicates, Replicates]:
        """Return replicates of a metric in both runs."""
        if self.pairs is None:
            return replicates(a, self.seed), replicates(b, self.seed + 1)
        return paired(_renumbered(a, self.pairs.a), _renumbered(b, self.pairs.b), self.seed)


def _renumbered(found: Series, numbers: Ints) -> Series:
    """Return a series whose requests have other numbers, in the order of these."""
    owners = numbers[found.owners]
    order = np.argsort(owners, kind="stable")
    return Series(found.values[order], owners[order], found.unit)


def _metric(
    name: str, before: Mapping[str, Series], after: Mapping[str, Series], drawing: _Drawing
) -> Iterator[Change]:
    """Return the changes of one metric's figures; none if neither run has a value of it."""
    a, b = before[name], after[name]
    if not len(a.values) and not len(b.values):
        return
    left = _requests(b)
    requests = min(_requests(a), left)
    drawn = None if requests < FEWEST else drawing.replicates(a, b)
    old, new = _figures(a), _figures(b)
    for statistic in STATISTICS:
        share = PERCENTILES.get(statistic, 0.0)
        x = y = None
        if drawn is not None and _suffice(requests, share):
            x, y = (each.figures[statistic] for each in drawn)
        absolute, relative = _estimates(old[statistic], new[statistic], x, y)
        yield Change(
            figure=f"{name}.{statistic}",
            unit=a.unit,
            a=Side(old[statistic], len(a.values), None if x is None else _ends(x)),
            b=Side(new[statistic], len(b.values), None if y is None else _ends(y)),
            absolute=absolute,
            relative=relative,
            unsure=requests < _needed(statistic),
            undecided=None if _suffice(left, share) else _FEW,
        )


def _suffice(requests: int, share: float) -> bool:
    """Whether an interval can be made of a percentile; of the mean, for a share of 0."""
    return requests >= FEWEST and requests * (1 - share) >= 1


def _needed(statistic: str) -> int:
    """Return of how many requests a statistic has to be, to be told."""
    share = PERCENTILES.get(statistic)
    return FEWEST if share is None else requests_needed(share)


def _requests(found: Series) -> int:
    """Return how many requests gave values."""
    return int(np.count_nonzero(np.diff(found.owners, prepend=-1)))


def _figures(found: Series) -> dict[str, float | None]:
    if not len(found.values):
        return dict.fromkeys(STATISTICS)
    quantiles = np.quantile(found.values, list(PERCENTILES.values())).tolist()
    return {"mean": float(found.values.mean()), **dict(zip(PERCENTILES, quantiles, strict=True))}


def _estimates(
    a: float | None, b: float | None, drawn_a: Floats | None, drawn_b: Floats | None
) -> tuple[Estimate | None, Estimate | None]:
    """Return the absolute and the relative change of a figure, with replicates of it."""
    if a is None or b is None:
        return None, None
    absolute, relative = Estimate(b - a, None), None if a == 0 else Estimate(b / a - 1, None)
    if drawn_a is None or drawn_b is None:
        return absolute, relative
    absolute = Estimate(b - a, _ends(drawn_b - drawn_a))
    if np.any(drawn_a == 0):
        return absolute, None
    return absolute, Estimate(b / a - 1, _ends(drawn_b / drawn_a - 1))


def _ends(replicated: Floats) -> Interval:
    low, high = interval(replicated)
    return low, high


def _rates(a: Log, b: Log) -> Iterator[Change]:
    for name in RATES:
        before, after = _rate(a, name), _rate(b, name)
        if before.value is not None or after.value is not None:
            yield Change(
                figure=name,
                unit="1/s",
                a=before,
                b=after,
                absolute=_difference(before, after),
                relative=_quotient(before, after),
            )


def _rate(log: Log, name: str) -> Side:
    """Return what good requests amount to per second, of the whole run."""
    good = log.where(log.good)
    weights = None if name == "requests_per_second" else good.completion_tokens
    if not len(log) or (weights is not None and np.isnan(weights).all()):
        return Side(None, len(good))
    weights = None if weights is None else np.nan_to_num(weights)
    found = rate(good.end, weights, float(log.created.min()), float(log.end.max()))
    if found is None:
        return Side(None, len(good))
    return Side(found["value"], len(good), found["ci"] and tuple(found["ci"]))


def _shares(a: Log, b: Log, goals: Goals | None) -> Iterator[Change]:
    """Return the changes of the shares of requests that failed, and that kept the goals."""
    yield _share("failed", ~a.good, ~b.good)
    if goals is not None:
        yield _share("goodput", kept(a, goals), kept(b, goals))


def _share(name: str, a: Bools, b: Bools) -> Change:
    before, after = _share_of(a), _share_of(b)
    absolute = _difference(before, after)
    return Change(figure=name, unit="share", a=before, b=after, absolute=absolute)


def _share_of(chosen: Bools) -> Side:
    ci = share_interval(chosen)
    return Side(None, 0) if ci is None else Side(float(chosen.mean()), len(chosen), (ci[0], ci[1]))


def _difference(a: Side, b: Side) -> Estimate | None:
    """Return b - a of independent figures."""
    if a.value is None or b.value is None:
        return None
    ci = None if a.ci is None or b.ci is None else _apart(a.value, a.ci, b.value, b.ci)
    return Estimate(b.value - a.value, ci)


def _quotient(a: Side, b: Side) -> Estimate | None:
    """Return b / a - 1 of independent figures, by the difference of their logarithms."""
    if not a.value or b.value is None:
        return None
    ci = None
    if a.ci is not None and b.ci is not None and min(a.ci[0], b.ci[0]) > 0:
        low, high = _apart(math.log(a.value), _logs(a.ci), math.log(b.value), _logs(b.ci))
        ci = math.expm1(low), math.expm1(high)
    return Estimate(b.value / a.value - 1, ci)


def _logs(ci: Interval) -> Interval:
    return math.log(ci[0]), math.log(ci[1])


def _apart(a: float, a_ci: Interval, b: float, b_ci: Interval) -> Interval:
    """Return the interval of b - a, which are independent, from the interval of each.

    Each end is as far from the difference as the ends that it depends on are from a and b,
    put together as independent errors are (Zou and Donner 2008; with Wilson's intervals of
    shares, the tenth method of Newcombe 1998).
    """
    down = math.hypot(b - b_ci[0], a_ci[1] - a)
    up = math.hypot(b_ci[1] - b, a - a_ci[0])
    return b - a - down, b - a + up


# --- What else is to be said -----------------------------------------------------


def _warnings(changes: Mapping[str, Change]) -> Iterator[str]:
    failed = changes["failed"]
    if failed.absolute is not None and _differ(failed.absolute):
        yield (
            f"A failed {failed.a.value:.2%} of its requests, B {failed.b.value:.2%}: latencies "
            f"are of those that got an answer, and whoever fails faster looks better"
        )
    for change in changes.values():
        if change.allowance is not None and change.unsure:
            needed = _needed(change.figure.partition(".")[2])
            yield f"{change.figure} is of too few requests: a run needs {needed:,} to tell it"


def _failed_more(failed: Change) -> bool:
    """Whether in B surely so many more requests failed that it matters."""
    change = failed.absolute
    return change is not None and change.ci is not None and change.ci[0] > SURVIVORS


def _differ(failed: Estimate) -> bool:
    """Whether shares of failed requests surely differ, or by so much that it matters."""
    surely = failed.ci is not None and not failed.ci[0] <= 0 <= failed.ci[1]
    return surely or abs(failed.value) >= SURVIVORS


def _notes(a: SavedRun, b: SavedRun, matched: Pairs | str, figures: int) -> Iterator[str]:
    if isinstance(matched, str):
        yield f"independent: {matched}"
    else:
        yield f"paired: the {matched.common:,} requests of both are drawn together"
    for name, run in (("A", a), ("B", b)):
        if run.summary is not None and run.summary["sweep"] is not None:
            value = run.summary["stages"][run.stage]["value"]
            yield f"of the sweep {name}, the load {value:g} is compared"
    if a.goals != b.goals:
        yield f"the goals are {'A' if a.goals else 'B'}'s in both runs"
    yield (
        f"of {figures} figures, one in twenty looks changed by chance: "
        f"only those with an allowance decide"
    )


def _note_on_answers(changes: Iterator[Change]) -> Iterator[str]:
    """Tell if answers have another length: then durations are of other work."""
    mean = next(changes, None)
    if mean is not None and mean.relative is not None and mean.verdict in ("better", "worse"):
        how = "longer" if mean.relative.value > 0 else "shorter"
        yield (
            f"B's answers are {abs(mean.relative.value):.1%} {how}: "
            f"durations and token rates are of other work"
        )
