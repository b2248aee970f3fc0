"""The latencies of a log's requests, by the definitions of :mod:`chatstream.marks`.

A metric is a :class:`Series`: its values, and for each the request that it belongs to.
Those of time are seconds.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen

from chatstream.bench.log import Bools, Floats, Ints, Log
from chatstream.bench.record import OUTPUT, TOKENS
from chatstream.marks import NS


@frozen(eq=False)
class Series:
    """The values of one metric that were observed."""

    values: Floats
    owners: Ints
    """The place in the log of the request that each value belongs to."""
    unit: str = "s"

    @classmethod
    def of(cls, values: Floats, unit: str = "s") -> Series:
        """Return the series of a column with one value for each request, or NaN."""
        owners = np.flatnonzero(~np.isnan(values))
        return cls(values[owners], owners, unit)


ORIGINS = ("from_sent", "from_schedule")
"""What a latency may be counted from, besides the call."""

FROM_CALL = (
    "time_to_first_byte",
    "time_to_first_chunk",
    "time_to_first_token",
    "time_to_first_output",
    "duration",
)
"""The latencies that are also given from the other origins."""

LATENCIES = (
    *FROM_CALL,
    *(f"{name}_{origin}" for origin in ORIGINS for name in FROM_CALL),
    "inter_chunk_latency",
    "time_per_output_token",
    "stream_end",
    "dispatch_delay",
)
"""The metrics that are times."""

SHORT = {
    "ttfb": "time_to_first_byte",
    "ttfc": "time_to_first_chunk",
    "ttft": "time_to_first_token",
    "ttfo": "time_to_first_output",
    "icl": "inter_chunk_latency",
    "tpot": "time_per_output_token",
    "e2el": "duration",
}
"""What latencies are called for short."""


def series(log: Log) -> dict[str, Series]:
    """Return every metric of a log by name, those of its good requests alone."""
    good = log.good
    bearing = log.of_kinds(TOKENS)
    first_token, last_token = first(log, bearing), last(log, bearing)
    moments = {
        "time_to_first_byte": log.first_byte,
        "time_to_first_chunk": log.first_chunk,
        "time_to_first_token": first_token,
        "time_to_first_output": first(log, log.of_kinds(OUTPUT)),
        "duration": last_token,
    }
    columns = {name: moment - log.created for name, moment in moments.items()}
    for name, moment in moments.items():
        columns[f"{name}_from_sent"] = moment - log.sent
        columns[f"{name}_from_schedule"] = moment - log.scheduled
    columns["stream_end"] = log.end - log.created
    columns["time_per_output_token"] = time_per_output_token(log)
    found = {name: Series.of(np.where(good, column, np.nan)) for name, column in columns.items()}
    found["dispatch_delay"] = Series.of(log.created - log.scheduled)  # ours, whatever came of it
    found["inter_chunk_latency"] = inter_chunk_latencies(log, good)
    for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens"):
        counts: Floats = getattr(log, name)
        found[name] = Series.of(np.where(good, counts, np.nan), "tokens")
    return found


def first(log: Log, chosen: Bools) -> Floats:
    """Return when each request's first chosen event arrived; NaN without one."""
    places, starts, ends = _spans(log, chosen)
    return _arrivals(log, places, starts, ends > starts)


def last(log: Log, chosen: Bools) -> Floats:
    """Return when each request's last chosen event arrived; NaN without one."""
    places, starts, ends = _spans(log, chosen)
    return _arrivals(log, places, ends - 1, ends > starts)


def count(log: Log, chosen: Bools) -> Ints:
    """Return how many chosen events each request has."""
    _, starts, ends = _spans(log, chosen)
    return ends - starts


def _spans(log: Log, chosen: Bools) -> tuple[Ints, Ints, Ints]:
    """Return the chosen events, and where those of each request start and end among them."""
    places = np.flatnonzero(chosen)
    edges = np.searchsorted(places, log.offsets)
    return places, edges[:-1], edges[1:]


def _arrivals(log: Log, places: Ints, picked: Ints, seen: Bools) -> Floats:
    moments = np.full(len(log), np.nan)
    moments[seen] = log.arrivals_ns[places[picked[seen]]] / NS
    return moments


def inter_chunk_latencies(log: Log, chosen: Bools) -> Series:
    """Return the gaps between neighbouring tokens of one choice, of the chosen requests."""
    events = log.of_kinds(TOKENS) & log.of_requests(chosen)
    arrivals, owners = log.arrivals_ns[events], log.owner[events]
    same = owners[1:] == owners[:-1]
    choices = log.choices[events]
    if choices.any():  # bring each choice's events together, their order kept
        order = np.lexsort((choices, owners))
        arrivals, choices = arrivals[order], choices[order]
        same &= choices[1:] == choices[:-1]
    gaps = np.diff(arrivals)[same]
    return Series(gaps / NS, owners[1:][same])


def time_per_output_token(log: Log) -> Floats:
    """Return (last token − first token) / (tokens − tokens in the first event).

    By the server's count, less reasoning tokens where none were streamed. NaN without
    a count, with nothing after the first event, and for several choices.
    """
    bearing = log.of_kinds(TOKENS)
    reasoned = count(log, log.of_kinds("r")) > 0
    hidden = np.where(reasoned, 0.0, np.nan_to_num(log.reasoning_tokens))
    later = log.completion_tokens - hidden - first_event_tokens(log, bearing, hidden)
    span = last(log, bearing) - first(log, bearing)
    return span / np.where((later > 0) & ~_several_choices(log, bearing), later, np.nan)


def _several_choices(log: Log, bearing: Bools) -> Bools:
    """Return whether each request's tokens are of more than one choice."""
    if not log.choices.any():
        return np.zeros(len(log), np.bool_)
    places, starts, ends = _spans(log, bearing)
    choices = log.choices[places]
    seen = ends > starts
    others = choices != np.repeat(choices[starts[seen]], (ends - starts)[seen])
    numbers = np.append(0, np.cumsum(others))
    return numbers[ends] > numbers[starts]


def first_event_tokens(log: Log, bearing: Bools, hidden: Floats) -> Floats:
    """Return the tokens in each request's first event that bears some; 1 where unknown.

    The server's running count there, less the tokens that were *hidden* before.
    """
    places, starts, ends = _spans(log, bearing)
    found = np.ones(len(log))
    seen = ends > starts
    counts = log.tokens[places[starts[seen]]]
    found[seen] = np.where(counts > 0, np.maximum(1, counts - hidden[seen]), 1)
    return found
