"""A run's main figures as text, the same for a terminal and for Markdown.

Latencies are milliseconds, about three digits of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from chatstream.completion import Verdict

SHARES = {"p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "p999": "p99.9"}
"""Percentiles by their name in a summary, as they are written."""

SHOWN = ("p50", "p90", "p99", "p999")
"""Those for which there is room."""

HEADLINE_COLUMNS = ("latency, ms", "n", *(SHARES[name] for name in SHOWN))
"""What the cells of a :class:`HeadlineRow` are."""

LABELS = {
    "time_to_first_token": "time to first token",
    "time_to_first_output": "time to first output",
    "inter_chunk_latency": "inter-chunk latency",
    "time_per_output_token": "time per output token",
    "duration": "duration",
}

OUTCOMES = {
    Verdict.FINISHED: "finished",
    Verdict.LENGTH: "cut by the token limit",
    Verdict.CONTENT_FILTER: "cut by a content filter",
    Verdict.CLOSED: "closed by the client",
    Verdict.CANCELLED: "cancelled",
    Verdict.TRUNCATED: "cut in transit",
    Verdict.EMPTY: "empty answer",
    Verdict.CONNECT_ERROR: "no connection",
    Verdict.HTTP_ERROR: "HTTP error",
    Verdict.TIMEOUT: "timeout",
    Verdict.UPSTREAM_ERROR: "error inside the stream",
    Verdict.MALFORMED: "unreadable",
    "not_attempted": "never made",
}
"""How a request ended, in words."""

_FROM_SCHEDULE = "_from_schedule"
_DUE = ("time_to_first_token", "duration")
"""The latencies that are also shown from the schedule, if there was one."""


@frozen(kw_only=True)
class HeadlineRow:
    """One latency, as text: ``n``, and percentiles in milliseconds."""

    metric: str
    label: str
    n: str
    figures: Mapping[str, str]
    """By the names of :data:`SHARES`; one for which there are too few requests has a ``?``."""
    intervals: Mapping[str, str]
    """The 95 % intervals of those that have one."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table with :data:`HEADLINE_COLUMNS`."""
        return self.label, self.n, *(self.figures[name] for name in SHOWN)

    @property
    def unsure(self) -> bool:
        """Whether for some of the figures shown there are too few requests."""
        return any(self.figures[name].endswith("?") for name in SHOWN)


def headline_rows(summary: Mapping[str, Any]) -> list[HeadlineRow]:
    """Return the main latencies of a run, or of a part of it, that were observed.

    The time to first output is left out where it is the time to first token: where nothing
    reasoned. What a user waits who comes when the schedule says is added for open loads.
    """
    metrics = summary["metrics"]
    return [
        _row(name, metrics[name])
        for name in _names(summary)
        if metrics.get(name) is not None and metrics[name]["n"]
    ]


def _names(summary: Mapping[str, Any]) -> Iterator[str]:
    metrics = summary["metrics"]
    for name in LABELS:
        if name != "time_to_first_output" or metrics.get(name) != metrics["time_to_first_token"]:
            yield name
    if _is_open(summary):
        yield from (name + _FROM_SCHEDULE for name in _DUE)


def _is_open(summary: Mapping[str, Any]) -> bool:
    load = summary.get("load") or (summary.get("plan") or {}).get("load")
    return load is not None and (load["request_rate"], load["schedule"]) != (None, None)


def _row(name: str, figure: Mapping[str, Any]) -> HeadlineRow:
    label = LABELS[name.removesuffix(_FROM_SCHEDULE)]
    if name.endswith(_FROM_SCHEDULE):
        label += ", from schedule"
    intervals = figure["ci"] or {}
    return HeadlineRow(
        metric=name,
        label=label,
        n=f"{figure['n']:,}",
        figures={
            share: milliseconds(figure[share]) + ("?" if share in figure["unsure"] else "")
            for share in SHARES
        },
        intervals={
            share: "–".join(milliseconds(bound) for bound in intervals[share])
            for share in SHARES
            if intervals.get(share) is not None
        },
    )


def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds: ``0.042``, ``5.23``, ``52.3``, ``1,234``; – if unknown."""
    return "–" if seconds is None else number(seconds * 1000)


def number(value: float | None) -> str:
    """Return a number with about three digits; – if unknown."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 99.95:  # noqa: PLR2004 where 1 digit after the point would round up to 100.0
        return f"{value:,.0f}"
    if size >= 9.995:  # noqa: PLR2004
        return f"{value:.1f}"
    if size >= 0.0995 or size == 0:  # noqa: PLR2004
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.001 else "<0.001"  # noqa: PLR2004


def percent(share: float | None) -> str:
    """Return a share as a percentage: ``99.2 %``, ``100 %``; – if unknown."""
    return "–" if share is None else f"{share * 100:.1f}".removesuffix(".0") + " %"


def outcome(name: str) -> str:
    """Return how a request ended, in words."""
    return OUTCOMES.get(name, name)
