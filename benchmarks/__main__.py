"""``python -m benchmarks``: speed and truth of chatstream beside other clients."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import standing, table
from benchmarks.measure import Outcome, run_standing, run_work
from benchmarks.picture import svg
from benchmarks.server import CORES, allow_many_files
from benchmarks.works import ALL, ON_UVLOOP, PARTS, works

_STANDING = (standing.IMPORT, standing.REASSEMBLY, standing.SIZE)
_PACKAGES = ("chatstream-sdk", "aiohttp", "orjson", "httpx", "httpx-sse", "openai", "uvloop")


def main() -> None:
    """Run what was asked for, and print each table when it is done."""
    options = _options()
    allow_many_files()
    server_works = works(quick=options.quick)
    rows = [*server_works, *(row.name for row in _STANDING)]
    wanted = options.only.split(",") if options.only else rows
    if unknown := set(wanted) - set(rows):
        sys.exit(f"no row {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    clients = options.clients.split(";") if options.clients else (*ALL, ON_UVLOOP)
    if unknown := set(clients) - {*ALL, *PARTS}:
        known = "; ".join((*ALL, *PARTS))
        sys.exit(f"no client {', '.join(sorted(unknown))}; there are {known}")
    runs = options.runs or (1 if options.quick else 5)

    began = time.monotonic()
    about = _about(options.quick, runs)
    print(_caption(about), end="\n\n", flush=True)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            started = time.monotonic()
            if name in server_works:
                work = server_works[name]
                if options.clients:
                    parts = (p for p in PARTS if p in clients and p not in work.clients)
                    work = replace(work, clients=(*work.clients, *parts))
                outcome = run_work(work, clients, runs, Path(folder), _say, quick=options.quick)
            else:
                row = next(row for row in _STANDING if row.name == name)
                outcome = run_standing(row, runs, _say)
            _say("")
            outcomes.append(outcome)
            took = f"  ({time.monotonic() - started:.0f} s)"
            print("\n".join(table.lines(outcome)), took, sep="\n", end="\n\n", flush=True)
    print(f"{time.monotonic() - began:.0f} s in all")
    if options.json:
        options.json.write_text(json.dumps(_document(about, outcomes), indent=1) + "\n")
    if options.svg:
        options.svg.write_text(svg(outcomes, _caption(about)), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, help="of each client and row (5, quick: 1)")
    parser.add_argument("--quick", action="store_true", help="smaller works, one run")
    parser.add_argument("--only", metavar="ROW,…", help="these rows only")
    parser.add_argument("--clients", metavar="NAME;…", help="these clients only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw a picture there")
    return parser.parse_args()


def _say(text: str) -> None:
    """Show what goes on, if somebody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _about(quick: bool, runs: int) -> dict[str, Any]:  # noqa: FBT001
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "machine": f"{_processor()}, {len(CORES) or os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "pinned": len(CORES) > 1,
        "quick": quick,
        "runs": runs,
        "load": os.getloadavg()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _caption(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in about["packages"].items() if found)
    kind = "quick run, " if about["quick"] else ""
    return (
        f"{about['date']}, {kind}Python {about['python']}, {about['machine']}, "
        f"{about['system']}; {versions}"
    )


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


def _document(about: dict[str, Any], outcomes: list[Outcome]) -> dict[str, Any]:
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


if __name__ == "__main__":
    main()
