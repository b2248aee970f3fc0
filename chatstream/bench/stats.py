"""Figures of a metric: percentiles, and how sure they are.

Requests that follow one another find the server in much the same state, and the gaps of
one stream even more so: taken as independent, ten million gaps would look far surer than
they are. So what is drawn again is requests, each with all its values, and of those
blocks of consecutive ones (Künsch 1989; Carlstein 1986). The blocks are as long as the
requests' own correlation asks for, see :func:`block_length`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from attrs import frozen
from numpy.lib.stride_tricks import sliding_window_view

from chatstream.bench.log import Bools, Floats, Ints
from chatstream.bench.metrics import Series

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
"""The share of values that each is above, linear between neighbours as numpy's default."""

_TAILS = (0.025, 0.975)
"""The ends of an interval: what it holds has a confidence of 95 %."""
_Z = 1.959963984540054
"""The same end of the normal distribution."""

_DOUBT = 0.01
"""What is left of it where MLPerf is confident."""

_REPLICATES = 1000
_MOST_BLOCKS = 128
"""More would cost time and hardly change an interval."""
_FEWEST_BLOCKS = 16
"""Fewer say little about how much blocks vary, however long they ought to be."""
_SILENT_LAGS = 5
"""So many correlations in a row that can't be told from noise end the search for more."""
_EVENTS_IN_SLICE = 2
_MOST_SLICES = 256
_CELLS = 512
"""The steps in which a distribution of many values is kept."""


# --- Figures ------------------------------------------------------------------


def figure(series: Series, seed: int = 0) -> dict[str, Any]:
    """Return the figures of a metric; without a value ``n`` is 0 and they are ``None``.

    ``n`` counts values; ``unsure`` are the percentiles for which too few *requests* gave
    some, see :func:`requests_needed`. ``ci`` is ``None`` if only one did.
    """
    values = series.values
    if not len(values):
        points = dict.fromkeys(("mean", "min", "max", *PERCENTILES))
        return {"unit": series.unit, "n": 0, **points, "ci": None, "unsure": []}
    requests = len(_requests(series))
    quantiles = np.quantile(values, list(PERCENTILES.values()))
    return {
        "unit": series.unit,
        "n": len(values),
        "mean": float(values.mean()),
        "min": float(values.min()),
        "max": float(values.max()),
        **dict(zip(PERCENTILES, quantiles.tolist(), strict=True)),
        "ci": replicates(series, seed).intervals() if requests > 1 else None,
        "unsure": [
            name for name, share in PERCENTILES.items() if requests < requests_needed(share)
        ],
    }


def spread(values: Floats) -> dict[str, Any] | None:
    """Return a distribution in short, ``None`` without a value."""
    if not len(values):
        return None
    p50, p99 = np.quantile(values, [0.5, 0.99]).tolist()
    return {"n": len(values), "p50": p50, "p99": p99, "max": float(values.max())}


def nearest_rank(values: Floats, share: float) -> float:
    """Return the percentile that is one of the values: ``sorted[int(n * share)]``.

    As MLPerf's LoadGen has it (``loadgen/results.cc``), one rank above the textbook's
    where ``n * share`` is whole.
    """
    place = int(len(values) * share)
    return float(np.partition(values, place)[place])


def requests_needed(share: float) -> int:
    """Return the smallest n from which on a percentile can be told.

    MLPerf's early stopping (``loadgen/early_stopping.cc``) gives an estimate if one value
    may lie above it and still, with 99 % confidence, no more than ``1 - share`` of all
    values do: if Binomial(n, 1 - share) is 1 or less in at most 1 % of cases.
    """

    def is_enough(n: int) -> bool:
        return share**n + n * (1 - share) * share ** (n - 1) <= _DOUBT

    return bisect_left(range(10**9), x=True, key=is_enough)


# --- Replicates ---------------------------------------------------------------


@frozen(eq=False)
class Replicates:
    """What the figures of a metric might have been, had other blocks of requests come."""

    figures: Mapping[str, Floats]
    """The mean and each percentile in every replicate."""

    def intervals(self) -> dict[str, list[float]]:
        """Return the 95 % confidence interval of each figure."""
        return {name: interval(values) for name, values in self.figures.items()}


def interval(values: Floats) -> list[float]:
    """Return what 95 % of the replicates of a figure, or of a change, are between."""
    found: list[float] = np.nanquantile(values, _TAILS).tolist()
    return found


def replicates(series: Series, seed: int = 0) -> Replicates:
    """Return replicates of a metric that has values.

    Two runs are independent: give them two seeds, or they are drawn alike.
    """
    requests = _requests(series)
    blocks = _blocks(requests, block_length(_means(series)))
    return _replicates(series, blocks, _draws(len(blocks), seed))


def paired(before: Series, after: Series, seed: int = 0) -> tuple[Replicates, Replicates]:
    """Return replicates of a metric in two runs that asked the same.

    ``owners`` must give the same request the same number in both. Each replicate draws the
    same requests in both: what makes one slow wherever it is asked, such as a long prompt,
    cancels out of their difference.
    """
    requests = np.union1d(_requests(before), _requests(after))
    length = max(block_length(_means(before)), block_length(_means(after)))
    blocks = _blocks(requests, length)
    draws = _draws(len(blocks), seed)
    return _replicates(before, blocks, draws), _replicates(after, blocks, draws)


def block_length(values: Floats) -> int:
    """Return how many consecutive requests are drawn together; *values*: one of each.

    ``(n * (G / g)**2) ** (1/3)`` with ``g = sum(R(k))``, ``G = sum(abs(k) * R(k))`` and the
    autocovariances ``R``: what gives the variance of a mean best (Politis and White 2004,
    with the lag window there; for blocks that don't overlap, Lahiri 1999). It is 1 if
    requests are independent, and leaves at least 16 blocks. ``R`` is that of ranks, as
    latencies have long tails.
    """
    n = len(values)
    found = _autocovariances(_ranks(values))
    noise = 2 * math.sqrt(math.log10(n) / n) * found[0]
    silent = np.abs(found[1:]) <= noise
    ends = _runs(silent, _SILENT_LAGS)
    heard = int(ends[0]) if len(ends) else len(silent)
    if heard == 0:
        return 1
    lags = np.arange(1, min(2 * heard, len(silent)) + 1)
    weighted = np.minimum(1, 2 - lags / heard) * found[lags]
    g = found[0] + 2 * weighted.sum()
    wanted = math.inf if g <= 0 else (n * (2 * (lags * weighted).sum() / g) ** 2) ** (1 / 3)
    return max(1, math.ceil(min(wanted, n // _FEWEST_BLOCKS)))


def _ranks(values: Floats) -> Floats:
    """Return the values' ranks, those of equal ones alike, less their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - counts / 2)[places]
    return ranks - len(values) / 2


def _autocovariances(values: Floats) -> Floats:
    """Return those of the lags from 0 to a little beyond the square root of n."""
    n = len(values)
    spectrum = np.fft.rfft(values, 2 * n)
    most = min(n, math.isqrt(n) + 2 + _SILENT_LAGS)
    found: Floats = np.fft.irfft(np.abs(spectrum) ** 2)[:most] / n
    return found


def _runs(flags: Bools, length: int) -> Ints:
    """Return where so many in a row begin."""
    if len(flags) < length:
        return np.empty(0, np.intp)
    return np.flatnonzero(sliding_window_view(flags, length).all(axis=1))


def _requests(series: Series) -> Ints:
    """Return the requests that gave values."""
    return series.owners[np.flatnonzero(np.diff(series.owners, prepend=-1))]


def _means(series: Series) -> Floats:
    """Return the mean of each of these requests' values."""
    starts = np.flatnonzero(np.diff(series.owners, prepend=-1))
    counts = np.diff(starts, append=len(series.values))
    means: Floats = np.add.reduceat(series.values, starts) / counts
    return means


def _blocks(requests: Ints, length: int) -> Ints:
    """Return the first request of each block; they are as alike in length as can be."""
    n = len(requests)
    blocks = min(_MOST_BLOCKS, n // length)
    return requests[np.arange(blocks) * n // blocks]


@lru_cache(maxsize=4)
def _draws(blocks: int, seed: int) -> Floats:
    """Return how often each replicate has each block: one row for each replicate."""
    drawn = np.random.default_rng(seed).integers(blocks, size=(_REPLICATES, blocks))
    drawn += np.arange(_REPLICATES)[:, None] * blocks
    counts = np.bincount(drawn.ravel(), minlength=drawn.size)
    return counts.reshape(drawn.shape).astype(np.float64)


def _replicates(series: Series, blocks: Ints, draws: Floats) -> Replicates:
    """Return the figures of the blocks that were drawn.

    A replicate's values are never put together. How many of each block's are up to each
    of some steps of the distribution is counted once; what a replicate has is the sum of
    its blocks' counts, for all replicates one product of two matrices.
    """
    edges = np.append(np.searchsorted(series.owners, blocks), len(series.values))
    lows, highs = _cells(series.values)
    counts = np.zeros((len(blocks), 1 + len(highs)))
    sums = np.empty(len(blocks))
    for block, (start, end) in enumerate(pairwise(edges.tolist())):
        values = np.sort(series.values[start:end])
        counts[block, 1:] = np.searchsorted(values, highs, "right")
        sums[block] = values.sum()
    drawn = draws @ counts
    empty = drawn[:, -1] == 0  # of a pair of runs, one may have none of its values in a block
    drawn[empty, -1] = 1
    steps = _Steps(lows, highs, drawn)
    figures = {"mean": draws @ sums / steps.n}
    figures |= {name: steps.quantile(share) for name, share in PERCENTILES.items()}
    return Replicates({name: np.where(empty, np.nan, found) for name, found in figures.items()})


def _cells(values: Floats) -> tuple[Floats, Floats]:
    """Cut a distribution into cells; return the smallest and the largest value of each.

    Few values have a cell each. Of many, cells get smaller towards the upper tail, where the
    percentiles are: where a share p lies above, a cell has about ``3 / 512 * p ** (2/3)`` of all.
    That is less than the error of a percentile of 60,000 values, and inside of a cell they
    are taken to be evenly spread.
    """
    ordered = np.sort(values)
    places = np.arange(len(ordered))
    if len(ordered) > _CELLS:
        above = np.linspace(1, 0, _CELLS) ** 3
        places = np.round((len(ordered) - 1) * (1 - above)).astype(np.intp)
    highs = np.unique(ordered[places])
    next_ones = np.searchsorted(ordered, highs[:-1], "right")
    return ordered[np.append(0, next_ones)], highs


class _Steps:
    """The distributions of all replicates, as counts of the values up to each cell's end."""

    def __init__(self, lows: Floats, highs: Floats, counts: Floats) -> None:
        self.n = counts[:, -1].copy()
        self._lows = lows
        self._widths = highs - lows
        # One behind the other and each counted on from the one before, they are one
        # ascending row, which is searched for all replicates at once.
        self._starts = np.arange(len(counts)) * (self.n.max() + 1)
        counts += self._starts[:, None]
        self._counts = counts.ravel()
        self._rows = np.arange(len(counts)) * counts.shape[1]

    def quantile(self, share: float) -> Floats:
        """Return a quantile of each replicate, linear between neighbours."""
        place = share * (self.n - 1)
        below = np.floor(place)
        low = self._values(below)
        high = self._values(np.minimum(below + 1, self.n - 1))
        return low + (high - low) * (place - below)

    def _values(self, ranks: Floats) -> Floats:
        """Return the values of these ranks, from 0 on; those in a cell are evenly spread."""
        wanted = ranks + self._starts
        places = np.searchsorted(self._counts, wanted, "right")
        before = self._counts[places - 1]
        inside = (wanted - before + 0.5) / (self._counts[places] - before)
        cells = places - self._rows - 1
        values: Floats = self._lows[cells] + self._widths[cells] * inside
        return values


# --- Rates and shares ---------------------------------------------------------


def rate(
    events_at: Floats, weights: Floats | None, start: float, end: float, seed: int = 0
) -> dict[str, Any] | None:
    """Return how many events, or how much of their weight, came in a second of a window.

    The interval is that of the mean of slices of the window, drawn again in blocks as
    requests are. ``None`` for a window without length.
    """
    if end <= start:
        return None
    came = int(np.count_nonzero((events_at >= start) & (events_at <= end)))
    slices = min(_MOST_SLICES, came // _EVENTS_IN_SLICE)
    amounts, _ = np.histogram(events_at, max(1, slices), (start, end), weights=weights)
    per_second = amounts * len(amounts) / (end - start)
    ci = None
    if slices >= _FEWEST_BLOCKS:
        ci = replicates(Series.of(per_second), seed).intervals()["mean"]
    return {"value": float(per_second.mean()), "ci": ci}


def share_interval(good: Bools) -> list[float] | None:
    """Return the 95 % confidence interval of the share that is true, ``None`` of nothing.

    Wilson's (1927): it stays within 0 and 1, and says something where all are alike, from
    which no bootstrap could draw anything else. Neighbours that are alike count for
    less than n, by the design effect (Kish 1965): the variance of blocks of them over what it
    would be were they independent.
    """
    if not len(good):
        return None
    share = float(good.mean())
    n = len(good) / _design_effect(good.astype(np.float64))
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return [max(0.0, middle - reach), min(1.0, middle + reach)]


def _design_effect(values: Floats) -> float:
    """Return the variance of their mean over that of as many independent ones; at least 1."""
    n, variance = len(values), float(values.var())
    if variance == 0:
        return 1.0
    starts = _blocks(np.arange(n), block_length(values))
    blocks = np.add.reduceat(values - values.mean(), starts)
    return max(1.0, float(np.sum(blocks**2)) / (n * variance))
