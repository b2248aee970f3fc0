"""``python -m benchmarks.freeze``: a server that stops, and what ``chatstream bench`` tells of it.

Requests are due 50 times a second, whatever the server does, and after a while its process
is stopped for two seconds. What those waited who came meanwhile is worked out from the
server's own log and from when requests were due; the summary is held against that. It is
done with any number of requests open, and with a few at a time: then most of them wait
before they are made, and who counts from there sees nothing of it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.bench_tools import MS, NS, SECONDS_PER_RUN, ToolError
from benchmarks.bench_truth import Served, read_log
from benchmarks.document import about_run, caption, document
from benchmarks.measure import Outcome, show_progress
from benchmarks.server import truth_process
from benchmarks.works import OURS, Column, Goal, Row

RATE = 50
SECONDS = 12
STOPPED = 2.0
BEFORE = 3.0
"""Seconds of load before the server stops."""
CEILING = 5
"""Those are fewer than one request in a hundred: the naive p99 knows none that is stuck."""

_PROFILE = {"time_to_first_token": 0.02, "gap": 0.005}
_PROMPT = "Count to 3"
_WRITES = 7
"""Of one answer: the role, five tokens, the rest."""

FROM_CALL = f"{OURS}, from the call"

_COLUMNS = (
    Column("first_told", "TTFT told", 1),
    Column("first_true", "true", 1),
    Column("first_off", "TTFT off %", 2),
    Column("whole_told", "duration told", 1),
    Column("whole_true", "true", 1),
    Column("whole_off", "duration off %", 2),
    Column("stalls", "stalls", 0),
    Column("start_off", "start off", 1),
    Column("end_off", "end off", 1),
    Column("woke", "woke after", 1),
)
_NOTE = (
    "told, true: p99 in ms, from when requests were due. off: their difference; "
    "start, end: of the stall\n"
    "  that is told, in ms. woke after: until the server's first write, in ms"
)
_GOALS = (
    Goal("first_off", 5.0, unit="%"),
    Goal("whole_off", 5.0, unit="%"),
    Goal("start_off", 50.0, unit="ms"),
    Goal("end_off", 50.0, unit="ms"),
)


@dataclass(frozen=True)
class Freeze:
    """When a process stood still; ``perf_counter_ns``."""

    start_ns: int
    end_ns: int


def stop_process(pid: int, seconds: float) -> Freeze:
    """Let a child stand still for so long."""
    os.kill(pid, signal.SIGSTOP)
    try:
        os.waitpid(pid, os.WUNTRACED)  # a signal may take a while to arrive
        start_ns = time.perf_counter_ns()
        time.sleep(seconds)
    finally:
        end_ns = time.perf_counter_ns()
        os.kill(pid, signal.SIGCONT)
    return Freeze(start_ns, end_ns)


def schedule_start(served: Sequence[Served], rate: float) -> float:
    """Return when a schedule began at the latest, by the quickest of its requests."""
    return min(did.received_ns / NS - place / rate for place, did in enumerate(served))


def true_waits(
    served: Sequence[Served], rate: float, start: float
) -> tuple[list[float], list[float]]:
    """Return the seconds from when each request was due to its first token, and to its last.

    Requests are in the order of the schedule, which is evenly spaced and began at *start*.
    """
    due = [start + place / rate for place in range(len(served))]
    first = [did.sent_ns[1] / NS - at for did, at in zip(served, due, strict=True)]
    whole = [did.sent_ns[-2] / NS - at for did, at in zip(served, due, strict=True)]
    return first, whole


def p99(values: Sequence[float]) -> float:
    """Return the percentile as the summary has it: linear between neighbours."""
    return statistics.quantiles(values, n=100, method="inclusive")[-1]


def main() -> None:
    """Run both loads, and print their tables."""
    options = _options()
    about = about_run(("chatstream-sdk", "aiohttp"), options.runs, quick=False)
    print(caption(about), end="\n\n", flush=True)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for ceiling in (None, CEILING):
            began = time.monotonic()
            outcome, words = _run(ceiling, options.runs, Path(folder))
            outcomes.append(outcome)
            print("\n".join(table.lines(outcome)))
            print(*(f"  report.md: {line}" for line in words), sep="\n")
            print(f"  ({time.monotonic() - began:.0f} s)", end="\n\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(document(about, outcomes), indent=1) + "\n")
    if not all(outcome.runs for outcome in outcomes):
        sys.exit("there are no figures")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freeze", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each load (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    return parser.parse_args()


def _run(ceiling: int | None, runs: int, folder: Path) -> tuple[Outcome, list[str]]:
    """Do one load so many times; returns its figures, and what the last report says of it."""
    how = "any number open" if ceiling is None else f"at most {ceiling} open"
    row = Row(
        name="freeze" if ceiling is None else f"freeze_{ceiling}",
        title=f"A server that stops for {STOPPED:g} s: {RATE} requests a second, {how}",
        columns=_COLUMNS,
        goals=_GOALS,
        note=_NOTE,
        clients=(OURS, FROM_CALL),
    )
    outcome = Outcome(row)
    words: list[str] = []
    for number in range(runs):
        show_progress(f"{how}: run {number + 1} of {runs}")
        place = folder / f"{row.name} {number}"
        place.mkdir()
        try:
            with truth_process(_PROFILE, place / "served.jsonl") as (url, pid):
                freeze = _measure(url, pid, ceiling, place)
            _judge(outcome, place, freeze)
            words = list(_words(place))
        except ToolError as error:
            outcome.notes[OURS] = f"failed: {error}"
    show_progress("")
    return outcome, words


def _measure(url: str, pid: int, ceiling: int | None, place: Path) -> Freeze:
    """Run ``chatstream bench`` as from a shell, and stop the server meanwhile."""
    out = place / "out"
    command = [sys.executable, "-m", "chatstream", "bench", "--base-url", url]
    command += ["--model", "simulated", "--prompt", _PROMPT, "--out", str(out)]
    command += ["--request-rate", str(RATE), "--burstiness", "inf", "--duration", str(SECONDS)]
    if ceiling is not None:
        command += ["--max-concurrency", str(ceiling)]
    with (place / "output.txt").open("wb") as output:
        bench = subprocess.Popen(  # noqa: S603 our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OPENAI_API_KEY": "none"},
        )
        try:
            _wait_for_load(bench, out / "requests.jsonl.part")
            time.sleep(BEFORE)
            freeze = stop_process(pid, STOPPED)
            status = bench.wait(SECONDS_PER_RUN)
        finally:
            bench.kill()
            bench.wait()
    if status:
        msg = f"status {status}: {(place / 'output.txt').read_text('utf-8', 'replace')[-200:]}"
        raise ToolError(msg)
    return freeze


def _wait_for_load(bench: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the log has its first requests."""
    until = time.monotonic() + SECONDS_PER_RUN
    while not (log.exists() and log.stat().st_size):
        if bench.poll() is not None or time.monotonic() > until:
            msg = "the load didn't begin"
            raise ToolError(msg)
        time.sleep(0.02)


def _judge(outcome: Outcome, place: Path, freeze: Freeze) -> None:
    """Add a run's figures."""
    summary = json.loads((place / "out" / "summary.json").read_bytes())
    with (place / "out" / "requests.jsonl").open("rb") as lines:
        records = sorted(map(json.loads, lines), key=lambda record: record["number"])
    log = read_log(place / "served.jsonl")
    served = [log[record["request_id"]] for record in records if record["request_id"] in log]
    if len(served) != RATE * SECONDS or {len(did.sent_ns) for did in served} != {_WRITES}:
        msg = f"{len(served)} whole answers of {RATE * SECONDS}"
        raise ToolError(msg)
    first, whole = map(p99, true_waits(served, RATE, schedule_start(served, RATE)))
    metrics = summary["metrics"]
    stall = max(summary["stalls"], key=lambda one: float(one["seconds"]), default=None)
    writes = [at for did in served for at in did.sent_ns]
    # The first chunk's stamp, as the server made it and as the log has it.
    zero_ns = served[0].sent_ns[0] - records[0]["truth_ns"][0]
    outcome.runs.setdefault(OURS, []).append(
        _compared(metrics, "_from_schedule", first, whole)
        | {
            "stalls": len(summary["stalls"]),
            "start_off": _off(stall, "start", zero_ns, freeze.start_ns),
            "end_off": _off(stall, "end", zero_ns, freeze.end_ns),
            "woke": min(at - freeze.end_ns for at in writes if at > freeze.end_ns) / NS * MS,
        }
    )
    outcome.runs.setdefault(FROM_CALL, []).append(_compared(metrics, "", first, whole))


def _compared(metrics: dict[str, Any], origin: str, first: float, whole: float) -> dict[str, float]:
    """Return what the summary tells from *origin*, beside what is true from the schedule."""
    found: dict[str, float] = {}
    for name, metric, true in (
        ("first", "time_to_first_token", first),
        ("whole", "duration", whole),
    ):
        told = metrics[metric + origin]["p99"]
        found |= {f"{name}_told": told * MS, f"{name}_true": true * MS}
        found[f"{name}_off"] = abs(told / true - 1) * 100
    return found


def _off(stall: dict[str, float] | None, edge: str, zero_ns: int, true_ns: int) -> float:
    """Return by how many ms an edge of the stall is off; without a stall, by any number."""
    return math.inf if stall is None else abs(stall[edge] - (true_ns - zero_ns) / NS) * MS


def _words(place: Path) -> Iterator[str]:
    """Yield what the report says of the stall, as its reader finds it."""
    for line in (place / "out" / "report.md").read_text("utf-8").splitlines():
        if "stall" in line:
            yield line.removeprefix("- ")


if __name__ == "__main__":
    main()
