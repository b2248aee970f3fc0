"""What the page draws: a log as columns and counts that are small enough for a browser.

Of each request there are its moments and outcome; of its events, which may be ten million,
only counts: how many gaps of about such a length ended in such a slice of time. Those are
kept apart by what a reader can filter, and are added up again in the page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from chatstream.bench.log import Bools, Floats, Ints, Log, Texts
from chatstream.bench.metrics import count, first, last, time_per_output_token
from chatstream.bench.record import OUTPUT, TOKENS
from chatstream.completion import Verdict, whole_text
from chatstream.errors import one_line
from chatstream.marks import NS

MOST_REQUESTS = 50_000
"""More are sampled; the sample tells how many each stands for."""

SLICES, SLICES_OF_SWEEP = 120, 600
"""At most so many slices of time; their width is a round number of seconds."""

FLOOR = 1e-5
"""Gaps below it are counted as one kind: mostly those of events that came together."""

PER_DECADE = 100
"""Kinds of gap lengths between a length and ten times it: each is 2.3 % wide."""

LEVELS = 1 + 7 * PER_DECADE
"""Kinds of gap lengths: below the floor, and up to 100 seconds or more."""

_ROUNDING = 1e-9
_EVENTS_AT_ONCE = 1_000_000
"""Ten million of them at a time would need a gigabyte."""

_EXTREMES = 0.02
_MOST_DETAILS = 1000
_TEXT, _ALL_TEXTS = 2000, 1_000_000


def page_data(log: Log, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``assets/*.js`` finds in the page: values that JSON or numpy knows."""
    slices = _Slices.of(log)
    steady = _steady(log, summary)
    verdicts, outcome = _categories(log.verdict)
    groups = _Groups.of(log, outcome, steady)
    events = _Events(log, slices, groups)
    kept, weight = _kept(log, events)
    return {
        "summary": _shown(summary),
        "cut": log.cut,
        "outcomes": [{"name": name, "good": name in _GOOD} for name in verdicts],
        "slices": {"start": slices.start, "width": slices.width, "count": slices.count},
        "levels": {"floor": FLOOR, "per_decade": PER_DECADE, "count": LEVELS},
        "groups": groups.described(events),
        "requests": {
            "all": len(log),
            "weight": weight,
            "outcome": outcome[kept],
            "steady": steady[kept].astype(np.uint8),
            **_columns(log, events, kept),
        },
    }


_GOOD = frozenset(verdict.value for verdict in Verdict if verdict.good)


def _columns(log: Log, events: _Events, kept: Ints) -> dict[str, Any]:
    """Return what is told of each request; its moments are seconds from its call."""
    created = log.created
    moments = {
        "created": created,
        "scheduled": log.scheduled - created,
        "acquired": log.acquired - created,
        "gate_passed": log.gate_passed - created,
        "sent": log.sent - created,
        "headers": log.headers - created,
        "first_byte": log.first_byte - created,
        "first_token": events.first_token - created,
        "first_output": events.first_output - created,
        "last_token": events.last_token - created,
        "end": log.end - created,
        "tpot": time_per_output_token(log),
        "gap": events.gap,
        "gap_end": events.gap_end - created,
    }
    errors, error = _categories(log.error)
    details, detail = _categories(log.detail)
    return {
        **{name: np.round(column[kept], 6) for name, column in moments.items()},
        "number": log.number[kept],
        "turn": log.turn[kept],
        "target": log.target[kept],
        "stage": log.stage[kept],
        "worker": log.worker[kept],
        "warmup": log.warmup[kept].astype(np.uint8),
        "status": log.status[kept],
        "chunks": events.chunks[kept],
        "tokens": log.completion_tokens[kept],
        "error": error[kept],
        "errors": errors,
        "detail": detail[kept],
        "details": details,
        "text": _texts([log.text[place] for place in kept]),
    }


# --- Events ----------------------------------------------------------------------


@frozen
class _Slices:
    """The time of a run in slices of equal width."""

    start: float
    width: float
    count: int

    @classmethod
    def of(cls, log: Log) -> _Slices:
        if not len(log):
            return cls(0.0, 1.0, 1)
        start, end = float(min(0.0, log.created.min())), float(log.end.max())
        width = _round_above((end - start) / (SLICES_OF_SWEEP if np.any(log.stage) else SLICES))
        start = math.floor(start / width) * width
        return cls(start, width, max(1, math.ceil((end - start) / width - _ROUNDING)))

    def at(self, moments: Floats) -> Ints:
        """Return the slice of each moment."""
        places = ((moments - self.start) / self.width).astype(np.int64)
        return np.clip(places, 0, self.count - 1)


def _round_above(value: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten."""
    power = math.floor(math.log10(value)) if value > 0 else -3
    return next(found for m in (1, 2, 5, 10) if (found := float(f"{m}e{power}")) >= value)


@frozen(eq=False)
class _Groups:
    """Requests that all filters but the time's take or leave together."""

    keys: Ints
    """A row for each group: target, stage, outcome, steady, warm-up."""
    of_request: Ints

    @classmethod
    def of(cls, log: Log, outcome: Ints, steady: Bools) -> _Groups:
        columns = (log.target, log.stage, outcome, steady, log.warmup)
        table = np.stack([np.asarray(column, np.int64) for column in columns], axis=1)
        keys, of_request = np.unique(table, axis=0, return_inverse=True)
        return cls(keys, of_request.reshape(-1))

    def described(self, events: _Events) -> list[dict[str, Any]]:
        """Return each group with its counts."""
        names = ("target", "stage", "outcome", "steady", "warmup")
        size = events.tokens.shape[1] * LEVELS
        edges = np.searchsorted(events.cells, np.arange(len(self.keys) + 1) * size)
        return [
            {
                **dict(zip(names, key.tolist(), strict=True)),
                "cells": events.cells[start:end] - place * size,
                "counts": events.counts[start:end],
                "tokens": np.round(events.tokens[place], 3),
            }
            for place, (key, start, end) in enumerate(
                zip(self.keys, edges[:-1], edges[1:], strict=True)
            )
        ]


class _Events:
    """What is needed of events."""

    def __init__(self, log: Log, slices: _Slices, groups: _Groups) -> None:
        self._log = log
        self._bearing = log.of_kinds(TOKENS)
        self._slices = slices
        self._group = groups.of_request
        self.first_token = first(log, self._bearing)
        self.first_output = first(log, log.of_kinds(OUTPUT))
        self.last_token = last(log, self._bearing)
        self.chunks = count(log, self._bearing)
        self.gap, self.gap_end = np.full((2, len(log)), np.nan)
        """Each request's longest gap."""
        self.tokens = np.zeros((len(groups.keys), slices.count))
        """By group and slice."""
        parts = [self._counted(start, end) for start, end in _parts(log)]
        self.cells, self.counts = _added(parts)
        """How many gaps, by (group, slice, level) as one number, ascending."""

    def _counted(self, start: int, end: int) -> tuple[Ints, Ints]:
        """Count what is in the events of these requests; return the cells and their gaps."""
        self._add_tokens(start, end)
        gaps, ends, owners = gaps_and_ends(self._log, self._bearing, start, end)
        if len(gaps):
            starts = np.flatnonzero(np.diff(owners, prepend=-1))
            self.gap[owners[starts]] = np.maximum.reduceat(gaps, starts)
            longest = np.flatnonzero(gaps == self.gap[owners])[::-1]
            self.gap_end[owners[longest]] = ends[longest]  # the first of equals stays
        slices = self._group[owners] * self._slices.count + self._slices.at(ends)
        return np.unique(slices * LEVELS + level(gaps), return_counts=True)

    def _add_tokens(self, start: int, end: int) -> None:
        """Spread each stream's tokens over its chunks; one each if nobody counted."""
        log = self._log
        each = log.completion_tokens / np.maximum(1, self.chunks)
        each = np.where(np.isnan(each), 1.0, each)
        events = slice(log.offsets[start], log.offsets[end])
        bearing = self._bearing[events]
        owners = log.owner[events][bearing]
        slices = self._slices.at(log.arrivals_ns[events][bearing] / NS)
        cells = self._group[owners] * self._slices.count + slices
        self.tokens += np.bincount(cells, each[owners], self.tokens.size).reshape(self.tokens.shape)


def _parts(log: Log) -> Iterator[tuple[int, int]]:
    """Return where parts of the log start and end that have about so many events."""
    start = 0
    while start < len(log):
        wanted = log.offsets[start] + _EVENTS_AT_ONCE
        end = max(start + 1, int(np.searchsorted(log.offsets, wanted, "right")) - 1)
        yield start, end
        start = end


def _added(parts: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Return all cells of the parts, and the sum of their counts."""
    nothing = np.zeros(0, np.int64)
    cells = np.concatenate([nothing, *(cells for cells, _ in parts)])
    counts = np.concatenate([nothing, *(counts for _, counts in parts)])
    found, places = np.unique(cells, return_inverse=True)
    return found, np.bincount(places, counts, len(found)).astype(np.int64)


def gaps_and_ends(log: Log, bearing: Bools, start: int, end: int) -> tuple[Floats, Floats, Ints]:
    """Return the gaps between chunks, when each ended, and the request it is of.

    They are those of :func:`chatstream.bench.metrics.inter_chunk_latencies`, in the
    requests from *start* up to *end*.
    """
    first_event = log.offsets[start]
    events = first_event + np.flatnonzero(bearing[first_event : log.offsets[end]])
    owners, choices = log.owner[events], log.choices[events]
    if choices.any():  # bring each choice's events together, their order kept
        order = np.lexsort((choices, owners))
        events, owners, choices = events[order], owners[order], choices[order]
    same = (owners[1:] == owners[:-1]) & (choices[1:] == choices[:-1])
    moments = log.arrivals_ns[events]
    return np.diff(moments)[same] / NS, moments[1:][same] / NS, owners[1:][same]


def level(gaps: Floats) -> Ints:
    """Return the kind of each gap's length: 0 below the floor, then by its logarithm."""
    with np.errstate(divide="ignore"):
        logarithm = np.log10(gaps / FLOOR)
    levels: Ints = np.clip(np.floor(logarithm * PER_DECADE) + 1, 0, LEVELS - 1).astype(np.int64)
    return levels


# --- Requests --------------------------------------------------------------------


def _steady(log: Log, summary: Mapping[str, Any]) -> Bools:
    """Whether each request was made in the steady state of its load, or of its target."""
    inside = np.zeros(len(log), np.bool_)
    if summary["stages"]:
        parts, place = summary["stages"], log.stage
    elif len(summary["targets"]) > 1:
        parts, place = summary["targets"], log.target
    else:
        parts, place = [summary], np.zeros(len(log), np.int64)
    for number, part in enumerate(parts):
        window = part["steady_state"]
        if window is not None:
            within = (log.created >= window["start"]) & (log.created <= window["end"])
            inside |= (place == number) & within & ~log.warmup
    return inside


def _kept(log: Log, events: _Events) -> tuple[Ints, Floats | None]:
    """Return the requests that are told of, and how many each of them stands for.

    If there are too many: those with the longest times, for themselves, and evenly some of
    the others, those that failed with a quarter of the places. Figures that weigh the
    requests so are close to those of all.
    """
    if len(log) <= MOST_REQUESTS:
        return np.arange(len(log)), None
    chosen = np.zeros(len(log))
    some = int(MOST_REQUESTS * _EXTREMES)
    for column in (events.first_token - log.created, events.gap, log.end - log.created):
        chosen[np.argpartition(-np.nan_to_num(column), some)[:some]] = 1.0
    failed = np.flatnonzero(~log.good & (chosen == 0))
    ordinary = np.flatnonzero(log.good & (chosen == 0))
    room = MOST_REQUESTS - int(chosen.sum())
    few = min(len(failed), max(room // 4, room - len(ordinary)))
    for places, most in ((failed, few), (ordinary, min(len(ordinary), room - few))):
        evenly = places[np.linspace(0, len(places) - 1, most).astype(np.int64)]
        chosen[evenly] = len(places) / max(1, most)
    kept = np.flatnonzero(chosen)
    return kept, np.round(chosen[kept], 6)


def _categories(column: Texts) -> tuple[list[str], Ints]:
    """Return the texts of a column, the most frequent first, and each entry's place there.

    Those that are too many have the place -1.
    """
    texts = column.tolist()
    known = [text for text, _ in Counter(texts).most_common(_MOST_DETAILS)]
    places = {text: place for place, text in enumerate(known)}
    found = np.array([places.get(text, -1) for text in texts], np.int64)
    return [one_line(text) for text in known], found


def _texts(texts: Sequence[str | None]) -> list[str | None] | None:
    """Return the answers that the log kept, as far as there is room; ``None`` without any."""
    if not any(texts):
        return None
    shown: list[str | None] = []
    room = _ALL_TEXTS
    for text in texts:
        part = None if text is None or room <= 0 else _multi_line(text)
        shown.append(part)
        room -= len(part or "")
    return shown


def _multi_line(text: str) -> str:
    part = whole_text(text[:_TEXT]) + ("…" if len(text) > _TEXT else "")
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in part)


def _shown(value: Any) -> Any:
    """Return a value of the summary with all its texts on one printable line."""
    match value:
        case str():
            return one_line(value)
        case Mapping():
            return {one_line(str(name)): _shown(each) for name, each in value.items()}
        case list() | tuple():
            return [_shown(each) for each in value]
    return value
