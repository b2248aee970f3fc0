"""``python -m benchmarks.bench_truth``: what benchmarks report, beside what the server did.

For each number of streams a truth server answers ``chatstream bench``, and aiperf if it is
there, in turn. It writes down when it had each request and when it wrote each chunk; what
the tools say of the same requests is held against that.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks import bench_tools, table
from benchmarks.bench_tools import MS, NS, Heard, Level, Report, ToolError
from benchmarks.document import about_run, caption, document
from benchmarks.measure import Outcome, show_progress
from benchmarks.server import allow_many_files, serving_truth
from benchmarks.trial import percentile
from benchmarks.works import OURS, Column, Goal, Row

FIRST_TOKEN = 0.05
MANY_STREAMS = 500

AIPERF = "aiperf"
SENT = {OURS: f"{OURS}, from sent", AIPERF: f"{AIPERF}, http_req_waiting"}
"""Each tool's other figure for the same: what the server took since it was asked."""

_COLUMNS = (
    Column("told_p50", "told p50", 1),
    Column("true_p50", "true", 1),
    Column("told_p99", "told p99", 1),
    Column("true_p99", "true", 1),
    Column("off_mean", "off mean", 3),
    Column("off_p99", "off p99", 3),
    Column("off_max", "off max", 3),
    Column("late_p50", "late p50", 3),
    Column("late_p99", "late p99", 3),
    Column("gap_p99", "gap p99", 3),
    Column("gap_max", "gap max", 3),
    Column("beyond", "beyond s", 1),
)
_NOTE = (
    "told, true: time to first token in ms. off: their difference, request by request. "
    "late: the token's stamp after its write.\n"
    "  gap: error of the gaps. beyond: what the tool took besides its load"
)
_GOALS = (Goal("late_p99", 1.0, unit="ms"), Goal("gap_p99", 0.1, unit="ms"))

Tool = Callable[[str, Level, Path], Report]


@dataclass(frozen=True)
class Served:
    """What the server did with one request; ``perf_counter_ns``."""

    received_ns: int
    sent_ns: list[int]
    """Each write: the head with the role, each chunk with text, the rest."""


def main() -> None:
    """Run each level, and print its table when it is done."""
    options = _options()
    allow_many_files()
    tools: dict[str, Tool] = {OURS: bench_tools.chatstream}
    if (program := options.aiperf or shutil.which("aiperf")) is not None:
        tools[AIPERF] = bench_tools.aiperf(Path(program))
    runs = options.runs or (1 if options.quick else 3)
    about = about_run(("chatstream-sdk", "aiohttp"), runs, quick=options.quick)
    print(caption(about), end="\n\n", flush=True)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for streams in options.streams:
            began = time.monotonic()
            level = level_of(streams, options.gap, quick=options.quick)
            outcomes.append(outcome := _run(level, tools, runs, Path(folder)))
            took = f"  ({time.monotonic() - began:.0f} s)"
            print("\n".join(table.lines(outcome)), took, sep="\n", end="\n\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(document(about, outcomes), indent=1) + "\n")
    if not any(outcome.runs for outcome in outcomes):
        sys.exit("no tool has figures")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_truth", description=__doc__)
    parser.add_argument("--aiperf", metavar="PROGRAM", help="aiperf, if it isn't on the path")
    parser.add_argument(
        "--streams",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[1, 50, 200, 1000],
        metavar="N,…",
        help="so many streams at a time (1,50,200,1000)",
    )
    parser.add_argument(
        "--gap", type=float, metavar="SECONDS", help="between tokens (0.01 to 0.05, by streams)"
    )
    parser.add_argument("--runs", type=int, help="of each tool and number (3, quick: 1)")
    parser.add_argument("--quick", action="store_true", help="fewer requests, one run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    return parser.parse_args()


def level_of(streams: int, gap: float | None = None, *, quick: bool) -> Level:
    """Return the load of so many streams: gaps of 10 to 50 ms, 5 to 40 s of requests.

    Two cores can serve and hear some 20,000 chunks a second, and little besides. So many
    streams that it comes to that have longer answers, which don't all begin and end at once.
    """
    many = streams >= MANY_STREAMS
    rounds = 2 if quick else 3 if many else max(5, min(20, 5000 // streams))
    return Level(
        streams=streams,
        gap=gap or min(0.05, max(0.01, streams / 2500)),
        count_to=100 if many else 10,
        requests=max(20 if quick else 100, streams * rounds),
        ramp=10.0 if many else 0.0,
        workers=2 if many else 1,
    )


def _run(level: Level, tools: dict[str, Tool], runs: int, folder: Path) -> Outcome:
    """Let each tool in turn do the work of a level, so many times."""
    title = (
        f"{level.streams} streams, {level.requests} requests: first token after "
        f"{FIRST_TOKEN * MS:.0f} ms, then one every {level.gap * MS:.0f} ms"
    )
    row = Row(
        name=f"bench_{level.streams}",
        title=title,
        columns=_COLUMNS,
        goals=_GOALS,
        note=_NOTE,
        clients=tuple(name for tool in tools for name in (tool, SENT[tool])),
    )
    outcome = Outcome(row)
    if AIPERF not in tools:
        outcome.notes[AIPERF] = "skipped: not on the path, and no --aiperf"
    profile = {"time_to_first_token": FIRST_TOKEN, "gap": level.gap}
    for number in range(runs):
        for name, tool in tools.items():
            show_progress(f"{level.streams} streams: run {number + 1} of {runs}: {name}")
            place = folder / f"{level.streams} {number} {name}"
            place.mkdir()
            log = place / "served.jsonl"
            try:
                with serving_truth(profile, log) as url:
                    report = tool(url, level, place)
                _judge(outcome, name, report, read_log(log), level)
            except ToolError as error:
                outcome.notes[name] = f"failed: {error}"
    show_progress("")
    return outcome


def read_log(log: Path) -> dict[str, Served]:
    """Return what the server did, under its own name for each request and the client's."""
    served = {}
    for line in log.read_text("ascii").splitlines():
        told = json.loads(line)
        served[told["id"]] = served[told["asked_as"] or told["id"]] = Served(
            told["received_ns"], told["sent_ns"]
        )
    return served


def _judge(
    outcome: Outcome, name: str, report: Report, served: dict[str, Served], level: Level
) -> None:
    """Add a run's figures, in ms, and those of the tool's other figure for the first token."""
    pairs = []
    for heard in report.heard:
        did = served.get(heard.key)
        # The tokens, and what goes before them and after: else it is another answer.
        if did and len(did.sent_ns) == level.tokens + 2 and len(heard.gaps) == level.tokens - 1:
            pairs.append((heard, did))
    if len(pairs) != level.requests:
        outcome.notes[name] = f"{level.requests - len(pairs)} of {level.requests} requests are lost"
    if not pairs:
        return
    gaps = [gap for heard, did in pairs for gap in _gap_errors(heard, did)]
    late = [abs(heard.late(did.sent_ns[1])) for heard, did in pairs]
    outcome.runs.setdefault(name, []).append(
        _first(report.first, [(heard.first, _seconds(did, 1)) for heard, did in pairs])
        | {
            "late_p50": percentile(late, 50) * MS,
            "late_p99": percentile(late, 99) * MS,
            "gap_p50": percentile(gaps, 50) * MS,
            "gap_p99": percentile(gaps, 99) * MS,
            "gap_max": max(gaps) * MS,
            "beyond": report.beyond,
            "requests": len(pairs),
        }
    )
    # aiperf counts to the first byte there, which comes with the role.
    write = 0 if name == AIPERF else 1
    waited = [(h.waited, _seconds(did, write)) for h, did in pairs if h.waited is not None]
    outcome.runs.setdefault(SENT[name], []).append(_first(report.waited, waited))


def _first(told: dict[str, float], pairs: Iterable[tuple[float, float]]) -> dict[str, float]:
    """Compare what was told of first tokens with what was true."""
    heard, true = zip(*pairs, strict=True)
    off = [h - t for h, t in zip(heard, true, strict=True)]
    size = [abs(one) for one in off]
    return {
        **{f"told_{name}": value * MS for name, value in told.items()},
        "true_mean": statistics.fmean(true) * MS,
        "true_p50": percentile(true, 50) * MS,
        "true_p99": percentile(true, 99) * MS,
        "off_mean": statistics.fmean(off) * MS,
        "off_p50": percentile(size, 50) * MS,
        "off_p99": percentile(size, 99) * MS,
        "off_max": max(size) * MS,
    }


def _seconds(did: Served, write: int) -> float:
    """Return how long the server took from having the request until a write."""
    return (did.sent_ns[write] - did.received_ns) / NS


def _gap_errors(heard: Heard, did: Served) -> Iterable[float]:
    true = (b - a for a, b in pairwise(did.sent_ns[1:-1]))
    return (abs(gap - ns / NS) for gap, ns in zip(heard.gaps, true, strict=True))


if __name__ == "__main__":
    main()
