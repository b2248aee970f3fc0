"""The log as other clients would have seen it: in chunks, and as transfers."""

from __future__ import annotations

import numpy as np

from chatstream.bench.definitions.entries import told
from chatstream.bench.log import Bools, Ints, Log
from chatstream.bench.metrics import Series
from chatstream.completion import Verdict
from chatstream.errors import InterruptedStreamError
from chatstream.marks import NS


def chunks(log: Log) -> Bools:
    """Whether each event is its chunk's first choice: the one that other clients look at.

    The log has an event for each choice of a chunk, with the same moment. Chunks of one
    read share theirs, too, but all except the last are marked as coalesced: a chunk with
    several choices that came so counts once for each.
    """
    owner = log.owner
    first = np.ones(len(owner), np.bool_)
    first[1:] = (
        (owner[1:] != owner[:-1])
        | (log.arrivals_ns[1:] != log.arrivals_ns[:-1])
        | (log.choices[1:] <= log.choices[:-1])
        | log.coalesced[:-1]
    )
    return first


def first_places(log: Log, chosen: Bools) -> Ints:
    """Return the place of each request's first chosen event; one past the end without one."""
    owner = log.owner
    places = np.flatnonzero(chosen)
    starts = places[np.diff(owner[places], prepend=-1) > 0]
    found = np.full(len(log), len(owner))
    found[owner[starts]] = starts
    return found


def gaps(log: Log, chosen: Bools) -> Series:
    """Return the gaps between neighbouring chosen events of a request, whatever their choice."""
    places = np.flatnonzero(chosen)
    owners = log.owner[places]
    same = owners[1:] == owners[:-1]
    return Series((np.diff(log.arrivals_ns[places]) / NS)[same], owners[1:][same])


_UNFINISHED = str(InterruptedStreamError(0)).partition(",")[0]
"""What the log says of a body that came to its end before the answer did."""


def came_whole(log: Log) -> Bools:
    """Whether each response's transfer came to its end, whatever it held.

    To a client that looks at no finish reason and at no error inside the stream, that is
    a success.
    """
    unbroken: Bools = np.array([detail.startswith(_UNFINISHED) for detail in log.detail], np.bool_)
    truncated = (log.verdict == Verdict.TRUNCATED.value) & (unbroken | (log.error == ""))
    ended: Bools = log.good | truncated | (log.verdict == Verdict.UPSTREAM_ERROR.value)
    return ended


def mistaken(log: Log, success: Bools) -> str:
    """Return a note on the successes that we don't count as such."""
    return told(
        success & ~log.good,
        "ended in an error inside the stream, or unfinished; that isn't looked at.",
    )
