"""A summary as text for a terminal, or for whatever reads a command's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatstream.bench.output.rows import (
    SHARES,
    SHOWN,
    HeadlineRow,
    headline_rows,
    milliseconds,
    number,
    outcome,
    percent,
)
from chatstream.completion import Verdict

_GOOD = frozenset(verdict.value for verdict in Verdict if verdict.good)
_STYLES = {"ok": "green", "suspect": "yellow", "limiting": "red"}
_MOST_ERRORS = 5


def show_summary(
    summary: Mapping[str, Any], console: Console, clean: Callable[[str], str] = str
) -> None:
    """Print a run's main figures; *clean* makes foreign text harmless."""

    def say(text: str, style: str = "") -> None:
        console.print(Text(clean(text), style), soft_wrap=True)

    for place, target in enumerate(summary["targets"]):
        if len(summary["targets"]) > 1:
            say(f"\n{target['name'] or f'target {place}'}", "bold")
        rows = headline_rows({**target, "plan": summary["plan"]})
        if rows:
            console.print(_latencies(rows))
        if any(row.unsure for row in rows):
            say("? is from too few requests to be sure", "dim")
        for line in _told(target):
            say(line)
        for error in target["errors"][:_MOST_ERRORS]:
            say(f"  {error['count']:,} × {error['error']}: {error['detail']}", "red")
    if summary["interrupted"]:
        say("the run was interrupted: these are the figures up to then", "yellow")
    if summary["stages"]:
        say(f"\nThese are the figures of {_shown(summary)} The loads of the sweep:")
        console.print(_stages(summary))
    for tool, view in summary["definitions"].items():
        say(f"\nBy the definitions of {tool} ({view['source']}):")
        for line in _view(view):
            say(line)
    for line in _server(summary["server"]):
        say(line)
    client = summary["client"]
    style = _STYLES[client["verdict"]]
    say(f"client: {client['verdict']}  ({'; '.join(_of_client(client))})", style)
    for reason in client["reasons"]:
        say(f"  {reason}", style)


def _latencies(rows: list[HeadlineRow]) -> Table:
    table = _table("milliseconds", "n", *(SHARES[name] for name in SHOWN), "p99, 95 % interval")
    for row in rows:
        table.add_row(*row.cells, row.intervals.get("p99", ""))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _told(part: Mapping[str, Any]) -> Iterator[str]:
    """Yield what there is to say of a target, a line each."""
    counts = part["outcomes"]
    total = sum(counts.values())
    failed = {name: count for name, count in counts.items() if name not in _GOOD}
    line = f"{total:,} requests"
    if failed:
        line += f", of which {', '.join(f'{n:,} {outcome(name)}' for name, n in failed.items())}"
    throughput = part["throughput"]
    rates = (
        ("requests/s", throughput["requests_per_second"]),
        ("output tokens/s", throughput["output_tokens_per_second"]),
    )
    for unit, rate in rates:
        if rate is not None:
            line += f"; {number(rate['value'])} {unit}"
    if throughput["mean_concurrency"] is not None:
        line += f"; {number(throughput['mean_concurrency'])} at a time on average"
    yield line
    goodput = part["goodput"]
    if goodput is not None:
        kept = ", ".join(
            f"{name.replace('_', ' ')} ≤ {milliseconds(limit)} ms"
            f" by {percent(goodput['by_goal'][name])}"
            for name, limit in goodput["goals"].items()
        )
        met = "met" if goodput["met"] else "not met"
        yield (
            f"goals {met}: {percent(goodput['attainment'])} of requests kept all,"
            f" {percent(goodput['wanted'])} were wanted ({kept})"
        )
    steady = part["steady_state"]
    if steady is not None:
        word = "stable" if steady["stable"] else "not stable"
        yield (
            f"steady state from {steady['start']:.1f} to {steady['end']:.1f} s, {word}"
            f" ({steady['why']}): time to first token"
            f" p99 {_point(steady, 'time_to_first_token', 'p99')} ms"
        )
    for stall in part["stalls"]:
        yield (
            f"the server stalled for {stall['seconds']:.2f} s at {stall['start']:.2f} s,"
            f" with {stall['open_streams']:,} streams open"
        )


def _shown(summary: Mapping[str, Any]) -> str:
    """Say which load of a sweep is shown, and why."""
    sweep = summary["sweep"]
    value = f"{summary['stages'][summary['shown']]['value']:g} {_OVER[sweep['over']]}"
    if sweep["best"] is not None:
        return f"the best load that meets the goals, {value}."
    return f"the last load, {value}: none is known to meet goals."


_OVER = {"request_rate": "requests/s", "max_concurrency": "at a time"}
"""What a sweep varies, as a unit."""


def _stages(summary: Mapping[str, Any]) -> Table:
    sweep = summary["sweep"]
    table = _table(
        _OVER[sweep["over"]],
        "requests",
        "requests/s",
        "tokens/s",
        "TTFT p50",
        "TTFT p99",
        "ICL p99",
        "goals",
        "",
    )
    for place, stage in enumerate(summary["stages"]):
        marks = [mark for mark in ("knee", "best") if sweep[mark] == place]
        steady = stage["steady_state"]
        if steady is not None and not steady["stable"]:
            marks.append("not stable")
        goodput, throughput = stage["goodput"], stage["throughput"]
        table.add_row(
            f"{stage['value']:g}",
            f"{stage['requests']['good']:,}",
            *(
                "–" if throughput[name] is None else number(throughput[name]["value"])
                for name in ("requests_per_second", "output_tokens_per_second")
            ),
            _point(stage, "time_to_first_token", "p50"),
            _point(stage, "time_to_first_token", "p99"),
            _point(stage, "inter_chunk_latency", "p99"),
            "–" if goodput is None else percent(goodput["attainment"]),
            ", ".join(marks),
        )
    return table


def _point(part: Mapping[str, Any], metric: str, point: str) -> str:
    return milliseconds(part["metrics"][metric][point])


def _view(view: Mapping[str, Any]) -> Iterator[str]:
    """Yield the figures of a tool's view, each with its formula below."""
    for name, entry in view["metrics"].items():
        points = ("value", "mean", "p50", "p90", "p99")
        figures = [
            f"{'' if point == 'value' else point + ' '}{entry[point]:.4g}"
            for point in points
            if entry.get(point) is not None
        ]
        yield f"  {name}: {', '.join(figures) or 'none'} {entry['unit']}"
        yield f"      = {entry['formula']}"


def _server(server: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what the server said of itself."""
    if server is None:
        return
    yield f"the server's own figures, of {server['url']}:"
    for name, figure in server["metrics"].items():
        if figure is not None and figure.get("mean") is not None:
            mean, p50, p99 = (milliseconds(figure[point]) for point in ("mean", "p50", "p99"))
            yield (
                f"  {name.replace('_', ' ')}: mean {mean} ms, p50 {p50}, p99 {p99}"
                f" (n {figure['n']:,.0f})"
            )
    for note in server["notes"]:
        yield f"  {note}"


def _of_client(client: Mapping[str, Any]) -> Iterator[str]:
    calibration = client["calibration"]
    if calibration is None:
        yield "not calibrated"
    else:
        for name, what in (
            ("time_to_first_token_error", "time to first token"),
            ("inter_chunk_latency_error", "gaps"),
        ):
            error = calibration[name]
            if error is not None:
                yield f"{what} off by {milliseconds(error['p99'])} ms at p99 in calibration"
    if client["cpu"] is not None:
        yield f"{percent(client['cpu'])} of a core used"
    if client["loop_lag"] is not None:
        yield f"loop lag p99 {milliseconds(client['loop_lag']['p99'])} ms"
    if client["dispatch_delay"] is not None:
        yield f"requests late by {milliseconds(client['dispatch_delay']['p99'])} ms at p99"
