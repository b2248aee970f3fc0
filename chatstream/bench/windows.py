"""When a run was steady, and when nothing came.

A run begins with a load that grows and ends with one that drains; between them lies what
the server does under the load that was asked for.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from attrs import frozen

from chatstream.bench.log import Bools, Floats, Ints, Log
from chatstream.bench.metrics import first
from chatstream.bench.plan import Load
from chatstream.bench.record import TOKENS
from chatstream.completion import Verdict
from chatstream.marks import NS

# --- Requests in flight -------------------------------------------------------


class InFlight(NamedTuple):
    """How many requests were under way: from ``times[i]`` on ``counts[i]``."""

    times: Floats
    counts: Ints

    def at(self, moments: Floats) -> Ints:
        """Return how many there were, from each of these moments on."""
        return np.append(0, self.counts)[np.searchsorted(self.times, moments, "right")]


def in_flight(log: Log) -> InFlight:
    """Return the requests in flight as a step function."""
    moments = np.concatenate([log.created, log.end])
    order = np.argsort(moments, kind="stable")
    counts = np.cumsum(np.repeat([1, -1], len(log))[order])
    moments = moments[order]
    last = np.diff(moments, append=np.inf) > 0  # of those at one moment
    return InFlight(moments[last], counts[last])


def concurrency(log: Log, start: float, end: float) -> tuple[float | None, int]:
    """Return the mean and the most requests in flight in a window.

    The mean is over time, ``None`` for a window without length.
    """
    steps = in_flight(log)
    inside = (steps.times > start) & (steps.times < end)
    peak = int(max([*steps.at(np.array([start])), *steps.counts[inside]]))
    if end <= start:
        return None, peak
    busy = np.clip(log.end, start, end) - np.clip(log.created, start, end)
    return float(busy.sum() / (end - start)), peak


# --- Steady state -------------------------------------------------------------

_BUSY = 0.95
"""The share of slots that have a request while a closed load is at its height."""
_FEWEST = 20
_SHORTEST = 0.25
"""A window with fewer requests, or a smaller share of the run, says little."""
_MOST_BATCHES = 20
_FEWEST_BATCHES = 6
"""With fewer, not even values that only go up are surely no chance."""
_SURE = 2.576
"""Standard deviations beyond which there is 1 % of a normal distribution."""
_DRIFT = 0.2
"""A change by a smaller share is none, however sure."""


@frozen
class Window:
    """The steady part of a run: the requests that were made from *start* to *end*."""

    start: float
    end: float
    stable: bool
    """Whether neither the requests in flight nor the time to first token went up or down."""
    why: str
    """The figures that say so."""


def steady_state(log: Log, load: Load) -> Window | None:
    """Return the steady part of a run, ``None`` if it has none, see :func:`unsettled`.

    A closed load is at its height while 95 % of its slots are busy, an open one from the
    end of its ramp until the last request was due. The steady part begins when the load has
    been at its height for as long as nine of ten requests take at first: by then those that
    began together have come apart, and an open load has filled the server.
    """
    span = _span(log, load)
    if isinstance(span, str):
        return None
    start, end = span
    inside = log.where((log.created >= start) & (log.created <= end))
    # From the schedule: where there is a ceiling, it isn't in the server that requests queue.
    waits = first(inside, inside.of_kinds(TOKENS)) - inside.scheduled
    batches = int((end - start) / _typical_duration(log))
    drifts = [
        _Drift.of("requests in flight", in_flight(log).at(inside.created), batches, 1.0),
        _Drift.of("seconds to the first token", waits[~np.isnan(waits)], batches, 0.001),
    ]
    stable = not any(drift is not None and drift.moved for drift in drifts)
    return Window(start, end, stable, "; ".join(str(drift) for drift in drifts if drift))


def unsettled(log: Log, load: Load) -> str | None:
    """Return why a run has no steady part, ``None`` if it has one."""
    span = _span(log, load)
    return span if isinstance(span, str) else None


def _span(log: Log, load: Load) -> tuple[float, float] | str:
    if not log.good.any():
        return "no request ended well"
    height, end = _height(log) if load.closed else _due(log, load)
    start = height + _typical_duration(log)
    if start >= end:
        return (
            f"the load was at its height for {end - height:.3g} s, "
            f"and a request takes {start - height:.3g} s"
        )
    requests = np.count_nonzero((log.created >= start) & (log.created <= end))
    if requests < _FEWEST:
        return f"{requests} requests were made while it was steady, and it takes {_FEWEST}"
    share = (end - start) / np.ptp(log.created)
    if share < _SHORTEST:
        return f"it was steady for {share:.0%} of the time, and it takes {_SHORTEST:.0%}"
    return start, end


def _typical_duration(log: Log) -> float:
    """Return what nine of ten requests take at most.

    It is that of the first tenth of them: where requests queue, later ones take ever longer.
    """
    durations = (log.end - log.created)[log.good]
    return float(np.quantile(durations[: max(_FEWEST, len(durations) // 10)], 0.9))


def _height(log: Log) -> tuple[float, float]:
    """Return from when to when a closed load had its slots busy, dips between aside."""
    steps = in_flight(log)
    busy = np.flatnonzero(steps.counts >= _BUSY * steps.counts.max())
    return float(steps.times[busy[0]]), float(steps.times[busy[-1] + 1])


def _due(log: Log, load: Load) -> tuple[float, float]:
    """Return from when to when an open load had requests due at its full rate."""
    return float(log.scheduled.min()) + load.ramp, float(log.scheduled.max())


@frozen
class _Drift:
    """How something changed from the first third of a window to its last."""

    what: str
    before: float
    after: float
    large: bool
    trend: bool

    @property
    def moved(self) -> bool:
        """Whether it went up or down, and not just to and fro."""
        return self.large and self.trend

    @classmethod
    def of(cls, what: str, values: Floats | Ints, batches: int, least: float) -> _Drift | None:
        """Compare the medians of the thirds; a change by less than *least* is none.

        Larger ones are a drift if the medians of *batches* have a trend, by the test of Mann
        (1945) and Kendall. A batch should last as long as a request: shorter ones would be
        alike because the same requests are in flight. ``None`` for few values.
        """
        if len(values) < _FEWEST:
            return None
        early, _, late = np.array_split(values, 3)
        before, after = float(np.median(early)), float(np.median(late))
        count = min(max(batches, _FEWEST_BATCHES), _MOST_BATCHES)
        medians = np.array([np.median(batch) for batch in np.array_split(values, count)])
        score = np.sum(np.sign(np.triu(medians[None, :] - medians[:, None])))
        deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
        return cls(
            what,
            before,
            after,
            large=abs(after - before) >= max(least, _DRIFT * before),
            trend=bool(abs(score) - 1 > _SURE * deviation),
        )

    def __str__(self) -> str:
        if self.moved:
            verb = "grew" if self.after > self.before else "shrank"
        else:
            verb = "varied without a trend" if self.large else "stayed"
        return (
            f"{self.what} {verb}: median {self.before:.3g} in the first third, "
            f"{self.after:.3g} in the last"
        )


# --- Stalls -------------------------------------------------------------------

_SHORTEST_STALL = 0.25
_TIMES_USUAL = 5
"""So many times the 99th percentile of silences between tokens is a stall."""
_TIMES_USUAL_WAIT = 2
"""So many times the 99th percentile of waits for the first token is one, too."""
_OURS = [Verdict.TIMEOUT.value, Verdict.CLOSED.value, Verdict.CANCELLED.value]
"""How streams end that we ended: it says nothing of the server."""


def stalls(log: Log) -> list[dict[str, Any]]:
    """Return when nothing came on any stream though some were open.

    Silences are the times between two signs of the server, on whatever stream, while one
    is open. One of a quarter of a second or more is a stall if it is out of line with the
    others: by its length if a stream was between its tokens. If all were waiting for
    their first one, as a single stream does again and again, a silence is what a prompt
    takes; then by how long a stream had waited at its end.
    """
    firsts = first(log, log.of_kinds(TOKENS))
    points = _points(log)
    silences = np.diff(points)
    between = _between_tokens(log, firsts, points)
    limit = _TIMES_USUAL * _usual(silences[between & (silences > 0)])
    places = np.flatnonzero(silences > _SHORTEST_STALL)
    starts, ends = points[places], points[places + 1]
    waited = _waited_long(log, firsts, ends)
    stalled = np.where(between[places], silences[places] > limit, waited)
    opened = _before(ends, log.created) - _before(ends, log.end)
    found = zip(starts[stalled], ends[stalled], opened[stalled], strict=True)
    return [
        {
            "start": float(start),
            "end": float(end),
            "seconds": float(end - start),
            "open_streams": int(streams),  # when it ended
        }
        for start, end, streams in found
    ]


def _points(log: Log) -> Floats:
    """Return the signs of the server, and when there began or ceased to be open streams."""
    steps = in_flight(log)
    theirs = ~np.isin(log.verdict, _OURS)
    before = np.append(0, steps.counts[:-1])
    moments = [
        log.arrivals_ns / NS,
        log.headers,
        log.first_byte,
        log.first_chunk,
        log.end[theirs],
        steps.times[(before == 0) | (steps.counts == 0)],
    ]
    points = np.concatenate(moments)
    points.sort()
    # NaN is last, and so would be what came to a stream after its end.
    return points[: np.searchsorted(points, np.max(log.end, initial=-np.inf), "right")]


def _usual(silences: Floats) -> float:
    """Return how long silences are if nothing is wrong: their 99th percentile.

    Of few, the longest three are set aside, so that those that are out of line don't say
    what is usual; but at least half are taken to be. It is infinite if there are none.
    """
    n = len(silences)
    if n == 0:
        return math.inf
    place = max(n // 2, min(int(0.99 * (n - 1)), n - 4))
    return float(np.partition(silences, place)[place])


def _between_tokens(log: Log, firsts: Floats, points: Floats) -> Bools:
    """Return whether from each point to the next a stream had its first token, and no end."""
    begun = ~np.isnan(firsts)
    changes = np.zeros(len(points), np.int32)
    np.add.at(changes, np.searchsorted(points, firsts[begun]), 1)
    np.subtract.at(changes, np.searchsorted(points, log.end[begun]), 1)
    return np.cumsum(changes)[:-1] > 0


def _waited_long(log: Log, firsts: Floats, moments: Floats) -> Bools:
    """Return whether the oldest stream open just before had waited for unusually long.

    Usual is what the other streams waited for their first token at most, but for 1 %;
    without others, nothing is unusual. Where no stream was open, none had waited.
    """
    oldest = np.searchsorted(np.maximum.accumulate(log.end), moments, "left")
    answered = ~np.isnan(firsts)
    waits = np.sort((firsts - log.created)[answered])
    waiting = _before(moments, log.created[answered]) - _before(moments, firsts[answered])
    places = 0.99 * (len(waits) - waiting - 1)  # these are taken to have waited longest
    usual = np.append(waits, np.inf)[np.where(places < 0, -1, places.astype(np.int64))]
    return moments - log.created[oldest] > _TIMES_USUAL_WAIT * usual


def _before(moments: Floats, events: Floats) -> Ints:
    """Return how many events came before each of these moments."""
    return np.searchsorted(np.sort(events), moments, "left")
