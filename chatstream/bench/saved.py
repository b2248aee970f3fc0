"""A run as it was saved, read back to be compared with another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import orjson
from attrs import field, frozen

from chatstream.bench.log import Log
from chatstream.bench.output.files import LOG, PART, SUMMARY
from chatstream.bench.plan import Goals
from chatstream.bench.summary import SCHEMA, Facts
from chatstream.errors import RequestError, one_line

_EXPECTED: dict[str, type | tuple[type, ...]] = {
    "plan": (dict, type(None)),
    "goodput": (dict, type(None)),
    "client": dict,
    "workers": list,
    "targets": list,
    "stages": list,
    "shown": int,
    "sweep": (dict, type(None)),
}
"""What is looked at of a summary, and what it must be."""


class SavedRunError(ValueError):
    """A run that can't be read: where, what was seen, what was expected."""

    def __init__(self, source: Path, seen: str, expected: str) -> None:
        super().__init__(source, seen, expected)
        self.source = source
        self.seen = seen
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.source}: expected {self.expected}, got {self.seen}"


@frozen(eq=False, kw_only=True)
class SavedRun:
    """The requests of a run, and what its summary tells."""

    name: str
    log: Log = field(repr=False)
    summary: Mapping[str, Any] | None = field(default=None, repr=False)
    """``None`` if there is none: what was planned, and how the client was, isn't known."""
    source: Path | None = None
    """The file of its log."""
    target: int | None = None
    """The only target that is looked at."""
    stage: int = 0
    """The only load that is looked at: of a sweep the one that its summary shows."""

    @property
    def plan(self) -> Mapping[str, Any] | None:
        """What was to be done, as its summary tells it."""
        plan: Mapping[str, Any] | None = None if self.summary is None else self.summary["plan"]
        return plan

    @property
    def load(self) -> Mapping[str, Any] | None:
        """The load, as its summary tells it."""
        if self.summary is not None and self.summary["stages"]:
            load: Mapping[str, Any] = self.summary["stages"][self.stage]["load"]
            return load
        return None if self.plan is None else self.plan["load"]

    @property
    def open_load(self) -> bool:
        """Whether requests were due at times of their own; not if nobody knows."""
        load = self.load
        return load is not None and (load["request_rate"], load["schedule"]) != (None, None)

    @property
    def models(self) -> list[str]:
        """The models that were asked."""
        targets = [] if self.summary is None else self.summary["targets"]
        chosen = targets if self.target is None else [targets[self.target]]
        return [target["model"] for target in chosen]

    @property
    def goals(self) -> Goals | None:
        """The goals that its summary holds requests against."""
        return None if self.summary is None else _goals(self.summary)

    def counted(self) -> Log:
        """Return the requests that are looked at: those of the target and the load, no warm-up."""
        log = self.log
        chosen = ~log.warmup & (log.stage == self.stage)
        if self.target is not None:
            chosen &= log.target == self.target
        return log.where(chosen)

    def of_target(self, name: str) -> SavedRun:
        """Return the run of one target alone. Raises ``RequestError``."""
        names = [] if self.summary is None else [each["name"] for each in self.summary["targets"]]
        if name not in names:
            known = f"one of {', '.join(map(repr, names))}" if names else "a run that names targets"
            raise RequestError("target", one_line(repr(name)), one_line(known))
        return attrs.evolve(self, target=names.index(name), name=f"{self.name}#{name}")


def read_run(place: str | Path) -> SavedRun:
    """Return the run in a folder, or the one whose log is this file.

    ``folder#name`` is one of its targets. Of a sweep, it is the load its summary shows. Of
    a run that was killed there is the part of its log that was written.
    Raises ``OSError``, ``LogError``, ``SavedRunError``, and ``RequestError`` for an unknown
    target.
    """
    path, name = _parted(str(place))
    source = _log_in(path) if path.is_dir() else path
    log = Log.read(source)
    if log.warmup.all():
        seen = f"only {len(log)} to warm up" if len(log) else "none"
        raise SavedRunError(source, seen, "requests that count")
    summary = None
    if source.name == LOG:
        summary = _summary(source.with_name(SUMMARY))
    stage = int(log.stage.max()) if summary is None else summary["shown"]
    run = SavedRun(name=str(path), log=log, summary=summary, source=source.resolve(), stage=stage)
    return run if name is None else run.of_target(name)


def _parted(place: str) -> tuple[Path, str | None]:
    """Return the path, and the target's name if there is one; both may have a #."""
    path, name = place, None
    while not Path(path).exists() and "#" in path:
        path, _, end = path.rpartition("#")
        name = end if name is None else f"{end}#{name}"
    return Path(path), name


def _log_in(folder: Path) -> Path:
    part = folder / (LOG + PART)
    return part if part.exists() and not (folder / LOG).exists() else folder / LOG


def _summary(source: Path) -> dict[str, Any] | None:
    """Return a summary, ``None`` if there is no such file."""
    try:
        summary: Any = orjson.loads(source.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError as error:
        raise SavedRunError(source, str(error), "JSON") from None
    schema = summary.get("schema") if isinstance(summary, dict) else type(summary).__name__
    if schema != SCHEMA:
        raise SavedRunError(source, one_line(repr(schema)), f"the schema {SCHEMA}")
    for key, kinds in _EXPECTED.items():
        value = summary.get(key, ...)
        if not isinstance(value, kinds):
            seen = "nothing" if value is ... else type(value).__name__
            raise SavedRunError(source, seen, f"an entry {key!r} as a run has it")
    _check(summary, source)
    return dict(summary)


def _check(summary: Mapping[str, Any], source: Path) -> None:
    """Raise ``SavedRunError`` if a part is missing that is looked at, or is something else."""
    try:
        Facts.in_summary(summary)
        for target in summary["targets"]:
            _ = target["name"], target["model"]
        if summary["stages"]:
            _ = summary["stages"][summary["shown"]]["value"]
        _goals(summary)
        _ = summary["client"]["verdict"], [*summary["client"]["reasons"]]
    except (AttributeError, LookupError, TypeError, ValueError, ExceptionGroup) as error:
        seen = one_line(f"{type(error).__name__}: {error}", 100)
        raise SavedRunError(source, seen, "a summary as a run has it") from error


def _goals(summary: Mapping[str, Any]) -> Goals | None:
    goodput = summary["goodput"]
    return None if goodput is None else Goals(**goodput["goals"], attainment=goodput["wanted"])
