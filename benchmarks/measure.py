"""Runs every client of a work in turn, again and again, and keeps all figures."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import standing
from benchmarks.clients import missing
from benchmarks.server import serving
from benchmarks.works import ON_UVLOOP, OURS, Goal, Row, Work

SECONDS_PER_TRIAL = 120

Say = Callable[[str], None]


def show_progress(text: str) -> None:
    """Show what goes on, if somebody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


@dataclass
class Outcome:
    """The figures of one row: a list of runs for each client."""

    row: Row
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    """Why a client has no figures."""

    def values(self, client: str, key: str) -> list[float]:
        """Return one figure of each run."""
        runs = self.runs.get(client, ())
        return [run[key] for run in runs if run.get(key) is not None]

    def median(self, client: str, key: str) -> float | None:
        """Return the middle of the runs."""
        values = self.values(client, key)
        return statistics.median(values) if values else None

    def ratio(self, client: str, key: str, against: str) -> float | None:
        """Return the median of the ratios within each round.

        Rounds are minutes apart; what else the machine did meanwhile cancels out.
        """
        pairs = zip(self.values(client, key), self.values(against, key), strict=False)
        ratios = [mine / other for mine, other in pairs if other]
        return statistics.median(ratios) if ratios else None

    def reached(self, goal: Goal) -> float | None:
        """Return chatstream's figure for a goal, ``None`` if it wasn't measured."""
        client = standing.BASE if self.row is standing.SIZE else OURS
        if goal.key == "mb_bench":
            return self.median(standing.BENCH, "mb")
        if goal.source == "transport":
            client = ON_UVLOOP
        if goal.source is not None:
            sources = {run.get("source") for run in self.runs.get(client, ())}
            if goal.source not in sources:
                return None
        if goal.against is None:
            return self.median(client, goal.key)
        return self.ratio(client, goal.key, goal.against)


def run_work(
    work: Work, clients: Iterable[str], runs: int, folder: Path, say: Say, *, quick: bool
) -> Outcome:
    """Prove each client on *work*, then measure those that are right."""
    outcome = Outcome(work)
    able = []
    for client in work.clients:
        if client not in clients:
            continue
        if (module := missing(client)) is not None:
            outcome.notes[client] = f"skipped: {module} isn't installed"
        else:
            able.append(client)
    with serving(work, folder) as (url, cafile):

        def trial(client: str, *, prove: bool) -> dict[str, Any]:
            told = {
                "work": work.name,
                "quick": quick,
                "client": client,
                "url": url,
                "cafile": cafile,
                "prove": prove,
            }
            return _run("benchmarks.trial", json.dumps(told))

        say(f"{work.name}: proving")
        with ThreadPoolExecutor() as pool:
            proofs = list(pool.map(lambda client: trial(client, prove=True), able))
        for client, proof in zip(tuple(able), proofs, strict=True):
            if "wrong" in proof:
                outcome.notes[client] = f"wrong: {proof['wrong']}"
                able.remove(client)
        for number in range(runs):
            for client in tuple(able):
                say(f"{work.name}: run {number + 1} of {runs}: {client}")
                figures = trial(client, prove=False)
                if "wrong" in figures:
                    outcome.notes[client] = f"wrong: {figures['wrong']}"
                    able.remove(client)
                    outcome.runs.pop(client, None)
                else:
                    outcome.runs.setdefault(client, []).append(figures)
    return outcome


def _run(module: str, argument: str) -> dict[str, Any]:
    try:
        done = subprocess.run(  # noqa: S603 our own
            [sys.executable, "-m", module, argument],
            capture_output=True,
            text=True,
            timeout=SECONDS_PER_TRIAL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"wrong": f"not done after {SECONDS_PER_TRIAL} s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no word"]
        return {"wrong": last[0]}
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def run_standing(row: Row, runs: int, say: Say) -> Outcome:
    """Measure one of the rows that need no server."""
    outcome = Outcome(row)
    if row is standing.SIZE:
        say("size")
        for client, size in standing.sizes():
            if isinstance(size, str):
                outcome.notes[client] = f"skipped: {size}"
            else:
                outcome.runs[client] = [size]
        return outcome
    for number in range(-1, runs):  # once more, so that all is compiled and in the cache
        for client in row.clients:
            say(f"{row.name}: run {number + 1} of {runs}: {client}")
            if row is standing.REASSEMBLY:
                figures = standing.reassembly_time() if number >= 0 else {}
            elif missing_module(client):
                outcome.notes[client] = "skipped: not installed"
                continue
            else:
                figures = standing.import_time(client)
            if number >= 0:
                outcome.runs.setdefault(client, []).append(figures)
    return outcome


def missing_module(name: str) -> bool:
    """Return whether a module isn't there to be imported."""
    return importlib.util.find_spec(name) is None
