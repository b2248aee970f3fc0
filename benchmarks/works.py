"""What is measured: each work, the columns of its table, and the goals of DESIGN.md."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

BYTES = "aiohttp, bytes only"
ORJSON = "aiohttp + orjson"
VLLM = "vLLM-shaped"
HTTPX = "httpx-sse"
OPENAI = "openai"
OPENAI_AIOHTTP = "openai (aiohttp)"
OURS = "chatstream"

ALL = (OURS, BYTES, ORJSON, VLLM, HTTPX, OPENAI_AIOHTTP, OPENAI)
STAMPING = tuple(name for name in ALL if name != BYTES)

STAMPED_BYTES = "stamped bytes"
GATE_OPEN = "gate open"
ON_UVLOOP = "chatstream, uvloop"
PARTS = (STAMPED_BYTES, GATE_OPEN, ON_UVLOOP)
"""chatstream with parts left out or exchanged, to see what they cost; run when asked for."""


@dataclass(frozen=True)
class Column:
    """One figure of a trial; its key in the trial's result, and its heading."""

    key: str
    heading: str
    digits: int = 2


@dataclass(frozen=True)
class Goal:
    """What chatstream should reach: a figure, or its ratio to a peer's."""

    key: str
    limit: float
    against: str | None = None
    """The peer, ``None`` for the figure itself."""
    unit: str = ""
    source: str | None = None
    """Holds only for this source of arrival times."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One work with its goals, which becomes one table."""

    name: str
    title: str
    columns: tuple[Column, ...]
    goals: tuple[Goal, ...]
    note: str = ""
    ratios: tuple[str, ...] = ()
    """The first column is also told as multiples of these peers' figures."""
    clients: tuple[str, ...] = ALL


@dataclass(frozen=True, kw_only=True)
class Work(Row):
    """A row that needs a server."""

    profile: dict[str, Any] = field(default_factory=dict)
    truth: bool = False
    tls: bool = False
    holds: bool = False
    """The server stops after the last token, and never ends its answer."""

    count_to: int
    """The prompt asks for it; the answer has ``2 * count_to - 1`` tokens."""
    streams: int = 1
    spread: float = 0.0
    """Seconds over which the streams are opened."""
    pause: float = 0.0
    """Seconds the consumer takes for each event."""
    window: tuple[float, float] | None = None
    """From when, and for how long, CPU time is measured; ``None``: all of it."""

    @property
    def prompt(self) -> str:
        """What the server is asked."""
        return f"Count to {self.count_to}"

    @property
    def text(self) -> str:
        """What it answers."""
        return ", ".join(map(str, range(1, self.count_to + 1)))

    @property
    def tokens(self) -> int:
        """Chunks with text, in one answer."""
        return 2 * self.count_to - 1

    @property
    def events(self) -> int:
        """Chunks with a choice, in one answer: the role, the text, the finish."""
        return self.tokens + (1 if self.holds else 2)

    @property
    def chunks(self) -> int:
        """All chunks of one answer: the usage as well."""
        return self.events + (0 if self.holds else 1)


_CPU = Column("cpu", "µs/chunk", 1)
_WALL = Column("wall", "wall s")
_WAITED = Column("waited", "core wait ms", 0)
_GAP_P99 = Column("gap_p99", "gap p99", 3)
_ERRORS = (
    _GAP_P99,
    Column("gap_max", "gap max", 3),
    Column("first_p50", "first p50", 3),
    Column("first_p99", "first p99", 3),
)
_ERRORS_NOTE = "gap, first: how far the client's stamps are off the server's, in ms"

_TRUTH = Work(
    name="truth",
    title="Truth: 100 streams × 50 chunks/s, each chunk with the server's stamp",
    columns=(*_ERRORS, _CPU, _WAITED),
    note=_ERRORS_NOTE,
    goals=(Goal("gap_p99", 0.1, unit="ms"),),
    clients=STAMPING,
    truth=True,
    profile={"time_to_first_token": 0.05, "gap": 0.02},
    count_to=67,
    streams=100,
    # Not a multiple of the gap: the streams' chunks don't fall together.
    spread=0.47,
    window=(1.1, 1.4),
)

_BURST = Work(
    name="burst",
    title="Burst: one stream, 20,000 chunks as fast as they come",
    columns=(Column("cpu", "µs/chunk"),),
    goals=(Goal("cpu", 1.8, ORJSON), Goal("cpu", 1 / 15, OPENAI)),
    ratios=(BYTES, ORJSON, OPENAI),
    profile={"time_to_first_token": 0.0, "gap": 0.0},
    count_to=10_000,
)

WORKS = (
    _BURST,
    replace(
        _BURST,
        name="varied",
        title="Burst of chunks that differ: each holds a stamp, which all but bytes only note",
        goals=(),
        truth=True,
    ),
    replace(
        _TRUTH,
        name="paced",
        title="Paced: 100 streams × 50 chunks/s, in the steady state",
        columns=(_CPU, _WAITED),
        note="",
        goals=(Goal("cpu", 1.25, BYTES),),
        ratios=(BYTES, ORJSON, OPENAI),
        clients=ALL,
        truth=False,
    ),
    Work(
        name="short",
        title="Short answers: 1,000 streams × 5 tokens at once",
        columns=(Column("cpu", "µs/request", 0), _WALL),
        goals=(Goal("cpu", 1.1, BYTES),),
        ratios=(BYTES, ORJSON, OPENAI),
        profile={"time_to_first_token": 0.0, "gap": 0.0},
        count_to=3,
        streams=1000,
    ),
    _TRUTH,
    replace(
        _TRUTH,
        name="tls",
        title="Truth over TLS",
        goals=(Goal("gap_p99", 0.5, unit="ms"),),
        clients=(OURS, ORJSON, VLLM, OPENAI),
        tls=True,
    ),
    Work(
        name="opening",
        title="Opening: 1,000 streams at once, first token after 50 ms, then one every 50 ms",
        columns=(
            *_ERRORS[2:],
            _GAP_P99,
            Column("coalesced", "coalesced %", 1),
            Column("gate_p99", "gate ms p99", 1),
            _WALL,
            _WAITED,
        ),
        note=_ERRORS_NOTE,
        goals=(
            Goal("first_p50", 0.05, unit="ms"),
            Goal("first_p99", 1.0, unit="ms"),
            Goal("wall", 1.15, BYTES),
        ),
        truth=True,
        profile={"time_to_first_token": 0.05, "gap": 0.05},
        count_to=8,
        streams=1000,
    ),
    Work(
        name="slow",
        title="Slow consumer: 20 streams × 50 chunks/s, 50 ms taken for each event",
        columns=(
            Column("moved", "worst of all ms", 3),
            Column("duration_off", "duration ms", 3),
            _GAP_P99,
        ),
        note="how far the client's figures are off the server's, in ms",
        goals=(
            Goal("moved", 0.5, unit="ms", source="kernel"),
            Goal("moved", 2.0, unit="ms", source="transport"),
        ),
        clients=(OURS, ON_UVLOOP, *STAMPING[1:]),
        truth=True,
        profile={"time_to_first_token": 0.05, "gap": 0.02},
        count_to=15,
        streams=20,
        spread=0.11,
        pause=0.05,
    ),
    Work(
        name="memory",
        title="Memory: 2,000 open streams of 12 chunks each, over an idle client",
        columns=(Column("memory", "KB/stream", 1),),
        goals=(Goal("memory", 1.5, BYTES),),
        ratios=(BYTES, ORJSON),
        clients=(OURS, BYTES, ORJSON, VLLM, HTTPX, OPENAI_AIOHTTP),
        holds=True,
        profile={"gap": 0.02},
        count_to=6,
        streams=2000,
    ),
)

_QUICK: dict[str, dict[str, Any]] = {
    "burst": {"title": "Burst: one stream, 4,000 chunks (quick)", "count_to": 2000},
    "paced": {"count_to": 50, "window": (1.0, 0.8)},
    "short": {"title": "Short answers: 300 streams × 5 tokens at once (quick)", "streams": 300},
    "varied": {"title": "Burst of 4,000 chunks that differ (quick)", "count_to": 2000},
    "truth": {"count_to": 50, "window": (1.0, 0.8)},
    "tls": {"count_to": 50, "window": (1.0, 0.8)},
    "opening": {"title": "Opening: 300 streams at once (quick)", "streams": 300},
    "memory": {"title": "Memory: 500 open streams of 12 chunks each (quick)", "streams": 500},
}


def works(*, quick: bool) -> dict[str, Work]:
    """Return all works by name; *quick* ones are smaller, and say so."""
    changed = _QUICK if quick else {}
    return {work.name: replace(work, **changed.get(work.name, {})) for work in WORKS}
