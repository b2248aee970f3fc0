"""The log of a run in columns: what all figures are computed from.

A run of 50,000 requests with 200 chunks each has ten million arrivals; as columns they
take 100 MB and are handled in milliseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
from attrs import field, frozen

from chatstream.bench.record import KINDS, VERSION, RequestRecord
from chatstream.completion import Verdict
from chatstream.marks import NS

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]
Letters: TypeAlias = npt.NDArray[np.uint8]
Texts: TypeAlias = npt.NDArray[np.object_]


class LogError(ValueError):
    """A log that can't be read: where, what was seen, what was expected."""

    def __init__(self, source: str, line: int, seen: str) -> None:
        super().__init__(source, line, seen)
        self.source = source
        self.line = line
        self.seen = seen

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: expected a request's record, got {self.seen}"


@frozen(eq=False, kw_only=True)
class Log:
    """The requests of a run, sorted by when they were created.

    One entry for each request; moments are seconds since the run began, NaN where not
    observed, and so are counts. The entries of ``arrivals_ns`` and of what stands beside
    it are events, in wire order: their arrivals never go back. Those of request *i* are
    ``offsets[i]`` to ``offsets[i + 1]``.
    """

    number: Ints
    turn: Ints
    turns_left: Ints
    target: Ints
    stage: Ints
    worker: Ints
    warmup: Bools
    scheduled: Floats
    created: Floats
    acquired: Floats
    gate_passed: Floats
    sent: Floats
    headers: Floats
    first_byte: Floats
    first_chunk: Floats
    end: Floats
    reused: Floats
    """1 or 0, NaN where unknown."""
    verdict: Texts
    error: Texts
    """The class of the error it ended with, empty if none."""
    detail: Texts
    status: Floats
    attempts: Ints
    prompt_tokens: Floats
    completion_tokens: Floats
    reasoning_tokens: Floats
    source: Texts
    paused: Floats
    text: Texts = field(repr=False)
    """The first choice's text, ``None`` where it wasn't kept."""

    offsets: Ints
    arrivals_ns: Ints
    kinds: Letters
    """Code points of the letters of :data:`~chatstream.bench.record.KINDS`."""
    choices: Ints
    coalesced: Bools
    tokens: Ints
    """The server's running count of completion tokens, -1 where it doesn't count along."""
    truth_ns: Ints
    """When a truth server sent it, -1 where it didn't say."""

    cut: bool = False
    """Whether the last line was unfinished, and left out."""

    def __len__(self) -> int:
        return len(self.number)

    @property
    def good(self) -> Bools:
        """Whether each request's stream ended well: only those have latencies."""
        return np.isin(self.verdict, [verdict.value for verdict in Verdict if verdict.good])

    @cached_property
    def owner(self) -> Ints:
        """The request that each event belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))

    def of_kinds(self, letters: str) -> Bools:
        """Whether each event is of one of these kinds."""
        wanted = np.zeros(256, np.bool_)
        wanted[list(letters.encode())] = True
        return wanted[self.kinds]

    def of_requests(self, chosen: Bools) -> Bools:
        """Whether each event belongs to one of the chosen requests."""
        return np.repeat(chosen, np.diff(self.offsets))

    def where(self, chosen: Bools) -> Log:
        """Return the log of the chosen requests alone."""
        if chosen.all():
            return self
        events = self.of_requests(chosen)
        columns: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _PER_REQUEST}
        columns |= {name: _chosen(getattr(self, name), events) for name in _PER_EVENT}
        return Log(**columns, offsets=_offsets(np.diff(self.offsets)[chosen]), cut=self.cut)

    @classmethod
    def of(cls, records: Iterable[RequestRecord]) -> Log:
        """Return the log of *records*."""
        return cls.of_lines(record.to_line() for record in records)

    @classmethod
    def of_lines(cls, lines: Iterable[bytes]) -> Log:
        """Return the log of records that are written down. Raises ``LogError``."""
        return _assembled(lines, "the records")

    @classmethod
    def read(cls, path: Path) -> Log:
        """Return the log in a file. Raises ``LogError`` and ``OSError``.

        A last line without its end, as a run leaves that was killed, is left out.
        """
        with path.open("rb") as file:
            return _assembled(file, str(path))


_REQUIRED = frozenset({"number", "scheduled_ns", "created_ns", "end_ns", "verdict"})
_INTS = {
    "number": 0,
    "turn": 0,
    "turns_left": 0,
    "target": 0,
    "stage": 0,
    "worker": 0,
    "attempts": 1,
}
_FLAGS = {"warmup": 0}
_MOMENTS = (
    "scheduled",
    "created",
    "acquired",
    "gate_passed",
    "sent",
    "headers",
    "first_byte",
    "first_chunk",
    "end",
)
_FLOATS = {
    "status": np.nan,
    "prompt_tokens": np.nan,
    "completion_tokens": np.nan,
    "reasoning_tokens": np.nan,
    "reused": np.nan,
    "paused": 0.0,
}
_NUMBERS = {**_INTS, **_FLAGS, **{f"{name}_ns": np.nan for name in _MOMENTS}, **_FLOATS}
"""The numbers of a line, and what each is where it is left out."""
_TEXTS = {"verdict": "", "error": "", "detail": "", "source": "", "text": None}
_PER_REQUEST = (*_INTS, *_FLAGS, *_MOMENTS, *_FLOATS, *_TEXTS)

_PLACES = ("turn", "turns_left", "target", "stage", "worker")
_MOST_PLACES = 100_000
"""So large are these at most; there is something for each of them."""
_VERDICTS = frozenset(verdict.value for verdict in Verdict)
_RARE = {"choices": ("h", 0), "tokens": ("q", -1), "truth_ns": ("q", -1)}
"""What most events don't have: the type of such a column, and what stands for nothing."""
_PER_EVENT = ("arrivals_ns", "kinds", "coalesced", *_RARE)
_LETTERS = frozenset(KINDS)


def _offsets(counts: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def _chosen(column: Any, events: Bools) -> Any:
    # A column of nothing but one value is a view of it, without memory, and stays so.
    return column[: np.count_nonzero(events)] if column.strides == (0,) else column[events]


def _assembled(lines: Iterable[bytes], source: str) -> Log:
    columns = _Columns()
    cut = False
    for place, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            cut = True  # it can only be the last
        elif not line.isspace():
            try:
                columns.add(orjson.loads(line))
            except (ValueError, TypeError, OverflowError) as error:
                raise LogError(source, place, str(error)) from None
    return columns.log(cut=cut)


class _Columns:
    """The columns while lines come; arrays, as lists of numbers take four times as much."""

    def __init__(self) -> None:
        self._numbers = array("d")  # exact for nanoseconds of 104 days
        self._texts: dict[str, list[str | None]] = {name: [] for name in _TEXTS}
        self._counts = array("q")
        self._arrivals = array("q")
        self._kinds = bytearray()
        self._coalesced = array("q")
        self._rare = {name: array(typecode) for name, (typecode, _) in _RARE.items()}

    def add(self, line: Any) -> None:
        """Add one record. Raises ``ValueError``, ``TypeError`` and ``OverflowError``."""
        if not isinstance(line, dict):
            raise TypeError(f"a JSON {type(line).__name__}")
        if line.get("v") != VERSION:
            raise ValueError(f"version {line.get('v')!r}, and only {VERSION} is known")
        if lacking := sorted(_REQUIRED - line.keys()):
            raise ValueError(f"none with {', '.join(lacking)}")
        get = line.get
        for name in _PLACES:
            if not 0 <= get(name, 0) <= _MOST_PLACES:
                raise ValueError(f"{name} {get(name)!r}")
        if line["verdict"] not in _VERDICTS:
            raise ValueError(f"verdict {line['verdict']!r}")
        self._add_events(line)
        self._numbers.extend([get(name, missing) for name, missing in _NUMBERS.items()])
        for name, missing in _TEXTS.items():
            text = get(name, missing)
            self._texts[name].append(None if text is None else intern(text))

    def _add_events(self, line: dict[str, Any]) -> None:
        arrivals, kinds = line.get("arrivals_ns", []), line.get("kinds", "")
        start, count = len(self._arrivals), len(arrivals)
        if not isinstance(kinds, str) or len(kinds) != count or not _LETTERS.issuperset(kinds):
            raise ValueError(f"{count} arrivals and the kinds {kinds!r:.20}")
        for name, column in self._rare.items():
            if values := line.get(name):
                if len(values) != count:
                    raise ValueError(f"{count} arrivals and {len(values)} {name}")
                _fill(column, start, name)
                column.extend(array(column.typecode, values))
        for place in line.get("coalesced", []):
            if not 0 <= place < count:
                raise ValueError(f"{count} arrivals and a coalesced one at {place}")
            self._coalesced.append(start + place)
        self._arrivals.extend(array("q", arrivals))
        self._kinds += kinds.encode()
        self._counts.append(count)

    def log(self, *, cut: bool) -> Log:
        """Return the log, in the order of creation."""
        table = np.asarray(self._numbers).reshape(-1, len(_NUMBERS))
        order = np.argsort(table[:, list(_NUMBERS).index("created_ns")], kind="stable")
        counts = np.asarray(self._counts)
        return Log(
            **self._per_request(table, order),
            **self._per_event(_offsets(counts), order),
            offsets=_offsets(counts[order]),
            cut=cut,
        )

    def _per_request(self, table: Floats, order: Ints) -> dict[str, Any]:
        columns: dict[str, Any] = dict(zip(_NUMBERS, table[order].T.copy(), strict=True))
        columns |= {name: columns[name].astype(np.int64) for name in _INTS}
        columns |= {name: columns[name].astype(np.bool_) for name in _FLAGS}
        columns |= {name: columns.pop(f"{name}_ns") / NS for name in _MOMENTS}
        for name, texts in self._texts.items():
            columns[name] = np.asarray(texts, np.object_)[order]
        return columns

    def _per_event(self, offsets: Ints, order: Ints) -> dict[str, Any]:
        coalesced = np.zeros(offsets[-1], np.bool_)
        coalesced[self._coalesced] = True
        columns: dict[str, Any] = {
            "arrivals_ns": np.asarray(self._arrivals),
            "kinds": np.frombuffer(self._kinds, np.uint8),
            "coalesced": coalesced,
        }
        for name, values in self._rare.items():
            if values:
                _fill(values, len(coalesced), name)
                columns[name] = np.asarray(values)
        if np.any(np.diff(order) < 0):
            slices = [slice(*offsets[place : place + 2]) for place in order.tolist()]
            for name, column in columns.items():
                columns[name] = np.concatenate([column[each] for each in slices])
        for name, (typecode, nothing) in _RARE.items():
            if name not in columns:
                columns[name] = np.broadcast_to(np.array(nothing, typecode), len(coalesced))
        return columns


def _fill(column: array[Any], length: int, name: str) -> None:
    """Let a rare column be so long: what it lacks was nothing."""
    _, nothing = _RARE[name]
    column.extend(array(column.typecode, (nothing,)) * (length - len(column)))
