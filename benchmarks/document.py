"""What was measured, where and with what: a caption for people, a document for programs."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measure import Outcome
from benchmarks.server import CORES


def about_run(packages: Iterable[str], runs: int, *, quick: bool) -> dict[str, Any]:
    """Return when, where and with which versions it was measured."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "machine": f"{_processor()}, {len(CORES) or os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "pinned": len(CORES) > 1,
        "quick": quick,
        "runs": runs,
        "load": os.getloadavg()[0],
        "packages": {name: _version(name) for name in packages},
    }


def caption(about: dict[str, Any]) -> str:
    """Return it as a line."""
    versions = ", ".join(f"{name} {found}" for name, found in about["packages"].items() if found)
    kind = "quick run, " if about["quick"] else ""
    return (
        f"{about['date']}, {kind}Python {about['python']}, {about['machine']}, "
        f"{about['system']}; {versions}"
    )


def document(about: dict[str, Any], outcomes: list[Outcome]) -> dict[str, Any]:
    """Return all figures of all runs, so that others can make their own of them."""
    return {
        **about,
        "rows": [
            {
                "name": outcome.row.name,
                "title": outcome.row.title,
                "runs": outcome.runs,
                "notes": outcome.notes,
                "medians": {
                    client: {c.key: outcome.median(client, c.key) for c in outcome.row.columns}
                    for client in outcome.runs
                },
                "goals": [
                    {
                        "key": goal.key,
                        "limit": goal.limit,
                        "against": goal.against,
                        "source": goal.source,
                        "reached": reached,
                        "ok": reached <= goal.limit,
                    }
                    for goal in outcome.row.goals
                    if (reached := outcome.reached(goal)) is not None
                ],
            }
            for outcome in outcomes
        ],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
