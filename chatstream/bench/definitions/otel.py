"""OpenTelemetry's semantic conventions for clients of generative AI."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from chatstream.bench.definitions.chunks import chunks, gaps
from chatstream.bench.definitions.entries import PERCENTILES, Entries, Formula, seen
from chatstream.bench.log import Floats, Ints, Log
from chatstream.bench.metrics import first
from chatstream.bench.plan import Goals

BOUNDS: tuple[float, ...] = tuple(0.01 * 2**power for power in range(14))
"""The buckets' upper bounds that the conventions ask for: 0.01 to 81.92 s."""

_PAGE = "docs/gen-ai/gen-ai-metrics.md"

_FORMULAS = {
    "gen_ai.client.operation.duration": Formula(
        "s",
        "end of the stream − call, of all operations; those that failed bear error.type",
        f"{_PAGE}#metric-gen_aiclientoperationduration",
    ),
    "gen_ai.client.operation.time_to_first_chunk": Formula(
        "s",
        "first chunk of any kind − call",
        f"{_PAGE}#metric-gen_aiclientoperationtime_to_first_chunk",
        "A chunk with a role alone is one.",
    ),
    "gen_ai.client.operation.time_per_output_chunk": Formula(
        "s",
        "each gap between neighbouring chunks of any kind and choice",
        f"{_PAGE}#metric-gen_aiclientoperationtime_per_output_chunk",
        "Later chunks without choices, as the one with the usage, aren't in the log: their gaps "
        "are missing.",
    ),
}


def entries(log: Log, _: Goals | None) -> Entries:
    """Return the client's three histograms of time."""
    counted = chunks(log)
    # A first chunk without choices is no event of the log, but its moment is known.
    ahead = first(log, counted) - log.first_chunk
    values = {
        "gen_ai.client.operation.duration": log.end - log.created,
        "gen_ai.client.operation.time_to_first_chunk": seen(log.first_chunk - log.created),
        "gen_ai.client.operation.time_per_output_chunk": np.concatenate(
            (ahead[ahead > 0], gaps(log, counted).values)
        ),
    }
    found = {name: _FORMULAS[name].entry(_histogram(each)) for name, each in values.items()}
    errors = np.where(log.error == "", log.verdict, log.error)[~log.good]
    found["gen_ai.client.operation.duration"]["error.type"] = dict(Counter(errors.tolist()))
    return found


def _histogram(values: Floats) -> dict[str, Any]:
    """Return what a histogram with :data:`BOUNDS` keeps, and what can be read off it."""
    counts = np.bincount(np.searchsorted(BOUNDS, values), minlength=len(BOUNDS) + 1)
    found: dict[str, Any] = {
        "n": len(values),
        **dict.fromkeys(("mean", "min", "max", *PERCENTILES)),
    }
    if len(values):
        found |= {"mean": float(values.mean())}
        found |= {"min": float(values.min()), "max": float(values.max())}
        found |= {name: _read_off(counts, share / 100) for name, share in PERCENTILES.items()}
    return {**found, "buckets": {"bounds": list(BOUNDS), "counts": counts.tolist()}}


def _read_off(counts: Ints, share: float) -> float:
    """Return a quantile as Prometheus' ``promql/quantile.go#bucketQuantile`` does.

    Linear within its bucket; the highest bound if it lies beyond.
    """
    up_to = np.cumsum(counts)
    rank = share * float(up_to[-1])
    place = int(np.searchsorted(up_to[:-1], rank))
    if place == len(BOUNDS):
        return BOUNDS[-1]
    low, below = (BOUNDS[place - 1], int(up_to[place - 1])) if place else (0.0, 0)
    return low + (BOUNDS[place] - low) * (rank - below) / int(counts[place])
