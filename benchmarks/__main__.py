"""``python -m benchmarks``: speed and truth of chatstream beside other clients."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import standing, table
from benchmarks.document import about_run, caption, document
from benchmarks.measure import Outcome, run_standing, run_work, show_progress
from benchmarks.picture import svg
from benchmarks.server import allow_many_files
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
    about = about_run(_PACKAGES, runs, quick=options.quick)
    print(caption(about), end="\n\n", flush=True)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            started = time.monotonic()
            if name in server_works:
                work = server_works[name]
                if options.clients:
                    parts = (p for p in PARTS if p in clients and p not in work.clients)
                    work = replace(work, clients=(*work.clients, *parts))
                outcome = run_work(
                    work, clients, runs, Path(folder), show_progress, quick=options.quick
                )
            else:
                row = next(row for row in _STANDING if row.name == name)
                outcome = run_standing(row, runs, show_progress)
            show_progress("")
            outcomes.append(outcome)
            took = f"  ({time.monotonic() - started:.0f} s)"
            print("\n".join(table.lines(outcome)), took, sep="\n", end="\n\n", flush=True)
    print(f"{time.monotonic() - began:.0f} s in all")
    if options.json:
        options.json.write_text(json.dumps(document(about, outcomes), indent=1) + "\n")
    if options.svg:
        options.svg.write_text(svg(outcomes, caption(about)), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, help="of each client and row (5, quick: 1)")
    parser.add_argument("--quick", action="store_true", help="smaller works, one run")
    parser.add_argument("--only", metavar="ROW,…", help="these rows only")
    parser.add_argument("--clients", metavar="NAME;…", help="these clients only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw a picture there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
