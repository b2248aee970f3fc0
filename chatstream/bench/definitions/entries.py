"""Numbers as entries of a view: with their unit, formula, source, and what is to be known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from attrs import frozen

from chatstream.bench.log import Bools, Floats

Entry: TypeAlias = dict[str, Any]
Entries: TypeAlias = dict[str, Entry]

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
"""Those given where a tool lets its user choose."""


@frozen
class Formula:
    """How a tool computes a number."""

    unit: str
    formula: str
    """In words and symbols."""
    source: str
    """Where the tool does: a file of its repository, and the place in it."""
    note: str = ""
    """What isn't quite as the tool would have it, or surprises."""

    def entry(self, figures: Mapping[str, Any], *notes: str) -> Entry:
        """Return the entry of these figures; *notes* are on this log, empty ones left out."""
        return {
            "unit": self.unit,
            **figures,
            "formula": self.formula,
            "source": self.source,
            "note": " ".join(note for note in (self.note, *notes) if note) or None,
        }

    def value(self, value: float | None, n: int, *notes: str) -> Entry:
        """Return the entry of one number, made from *n* requests."""
        return self.entry({"n": n, "value": finite(value)}, *notes)

    def spread(
        self, values: Floats, *notes: str, percentiles: Mapping[str, float] = PERCENTILES
    ) -> Entry:
        """Return the entry of many values; percentiles are linear between neighbours."""
        names = ("mean", "std", "min", "max", *percentiles)
        figures: dict[str, Any] = {"n": len(values), **dict.fromkeys(names)}
        if len(values):
            found = np.percentile(values, list(percentiles.values()))
            moments = (values.mean(), values.std(), values.min(), values.max(), *found)
            figures |= {name: float(moment) for name, moment in zip(names, moments, strict=True)}
        return self.entry(figures, *notes)


def finite(value: float | None) -> float | None:
    """Return a number as JSON can hold it: ``None`` if there is none, or no end to it."""
    return value if value is not None and math.isfinite(value) else None


def seen(values: Floats) -> Floats:
    """Return those that aren't NaN."""
    return values[~np.isnan(values)]


def per_second(amount: float, seconds: float) -> float:
    """Return a rate, NaN if no time passed."""
    return amount / seconds if seconds > 0 else math.nan


def told(which: Bools, sentence: str) -> str:
    """Return a note on how many requests these are; empty if none."""
    count = int(which.sum())
    return f"{count} of {len(which)} requests {sentence}" if count else ""
