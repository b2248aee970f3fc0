"""A run in a few tables, for a comment on a change.

What isn't ours to word (names of models, errors) stands as code: nothing in there is
markup, a link, or a mention of somebody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from chatstream.bench.output.rows import (
    HEADLINE_COLUMNS,
    SHOWN,
    HeadlineRow,
    headline_rows,
    milliseconds,
    number,
    outcome,
    percent,
)
from chatstream.bench.summary import lost_workers
from chatstream.completion import Verdict
from chatstream.errors import one_line

_MOST_ERRORS = 5
_GOOD = frozenset(verdict.value for verdict in Verdict if verdict.good)


def report_markdown(summary: Mapping[str, Any]) -> str:
    """Return a run as Markdown."""
    rows = headline_rows(summary)
    parts = [
        f"### Latency of {_models(summary)}",
        _sentence(summary),
        "\n".join(f"- {told}" for told in _findings(summary)),
        _latencies(rows),
        _targets(summary),
        _stages(summary),
        _goals(summary),
        _outcomes(summary),
        _errors(summary),
        _foot(summary, rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# --- Words ---------------------------------------------------------------------------


def code(text: str) -> str:
    """Return foreign text as code, on one line, for a table too."""
    text = one_line(text)
    if not re.search(r"[`|\\]", text):
        return f"`{text or ' '}`"
    inside = re.sub(r"[^\w /,=-]|_", lambda found: f"&#{ord(found[0])};", text)
    return f"<code>{inside}</code>"


def _models(summary: Mapping[str, Any]) -> str:
    models = dict.fromkeys(target["model"] for target in summary["targets"] if target["model"])
    return ", ".join(map(code, models)) or "a run"


def _sentence(summary: Mapping[str, Any]) -> str:
    throughput = summary["throughput"]
    rates = [
        f"{number(rate['value'])} {unit}{_interval(rate['ci'])}"
        for unit, rate in (
            ("output tokens/s", throughput["output_tokens_per_second"]),
            ("answers/s", throughput["requests_per_second"]),
        )
        if rate is not None
    ]
    requests = summary["requests"]
    counted = requests["made"] - requests["warmup"]
    parts = [
        f"{counted:,} requests in {throughput['seconds']:.1f} s",
        *rates,
        f"{number(throughput['mean_concurrency'])} in flight on average",
    ]
    return ", ".join(parts) + "."


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f" ({number(bounds[0])}–{number(bounds[1])})"


def _findings(summary: Mapping[str, Any]) -> Iterator[str]:
    """Tell what a reader must know before the figures."""
    yield _client(summary["client"])
    if summary["interrupted"]:
        yield "**The run was interrupted**: these are the figures up to then."
    lost, workers = lost_workers(summary)
    if lost:
        yield f"**{lost} of {workers} workers got lost**: what they had to do was never made."
    stalls = summary["stalls"]
    if stalls:
        longest = max(stalls, key=lambda stall: float(stall["seconds"]))
        times = "once" if len(stalls) == 1 else f"{len(stalls)} times"
        yield (
            f"**The server stalled {times}**, at most for {longest['seconds']:.2f} s"
            f" from {longest['start']:.2f} s on, while {longest['open_streams']:,} were open."
        )
    steady = summary["steady_state"]
    if steady is not None and steady["stable"] is False:
        yield f"**The steady state isn't steady**: {code(steady['why'])}"


def _client(client: Mapping[str, Any]) -> str:
    facts = [code(reason) for reason in client["reasons"]]
    calibration = client["calibration"]
    errors = [
        f"{milliseconds(calibration[name]['p99'])} ms in {what}"
        for name, what in (
            ("time_to_first_token_error", "the time to first token"),
            ("inter_chunk_latency_error", "gaps"),
        )
        if calibration is not None and calibration[name] is not None
    ]
    if errors:
        facts.append(f"calibrated: off by {' and '.join(errors)} at p99")
    else:
        facts.append("not calibrated")
    if client["cpu"] is not None:
        facts.append(f"{percent(client['cpu'])} of its core in use")
    return f"**Client: {client['verdict']}** ({'; '.join(facts)})"


# --- Tables --------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is text and whose others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _latencies(rows: Sequence[HeadlineRow]) -> str:
    if not rows:
        return "No request has a latency."
    return _table(
        HEADLINE_COLUMNS,
        ([row.label, row.n, *(_with_interval(row, name) for name in SHOWN)] for row in rows),
    )


def _with_interval(row: HeadlineRow, name: str) -> str:
    figure = row.figures[name]
    return f"{figure} ({row.intervals[name]})" if name in row.intervals else figure


def _targets(summary: Mapping[str, Any]) -> str:
    targets = summary["targets"]
    if len(targets) < 2:  # noqa: PLR2004
        return ""
    names = (target["name"] or target["model"] for target in targets)
    rows = ([code(name), *_short(target)] for name, target in zip(names, targets, strict=True))
    return _table(["target", *_SHORT], rows)


def _stages(summary: Mapping[str, Any]) -> str:
    sweep = summary["sweep"]
    if sweep is None:
        return ""
    marks: dict[int, list[str]] = {place: [] for place in range(len(summary["stages"]))}
    for mark in ("best", "knee"):
        if sweep[mark] is not None:
            marks[sweep[mark]].append(mark)
    unit = "requests/s" if sweep["over"] == "request_rate" else "at a time"
    rows = (
        [
            " ".join([f"{stage['value']:g}", *(f"**{mark}**" for mark in marks[place])]),
            *_short(stage),
        ]
        for place, stage in enumerate(summary["stages"])
    )
    return _table([unit, *_SHORT], rows)


_SHORT = ("ended well", "goals met", "TTFT p50", "TTFT p99", "ICL p50", "ICL p99", "tokens/s")


def _short(part: Mapping[str, Any]) -> list[str]:
    """Return the figures of a target or a stage that fit into a row."""
    requests, tokens = part["requests"], part["throughput"]["output_tokens_per_second"]
    figures = [part["metrics"][name] for name in ("time_to_first_token", "inter_chunk_latency")]
    return [
        f"{requests['good']:,} of {requests['made'] - requests['warmup']:,}",
        "–" if part["goodput"] is None else percent(part["goodput"]["attainment"]),
        *(
            "–" if figure is None else milliseconds(figure[share])
            for figure in figures
            for share in ("p50", "p99")
        ),
        "–" if tokens is None else number(tokens["value"]),
    ]


def _goals(summary: Mapping[str, Any]) -> str:
    goodput = summary["goodput"]
    if goodput is None:
        return ""
    rows = [
        [f"{name.replace('_', ' ')} ≤ {milliseconds(limit)} ms", percent(goodput["by_goal"][name])]
        for name, limit in goodput["goals"].items()
    ]
    bounds = goodput["ci"]
    interval = "" if bounds is None else f" ({percent(bounds[0])}–{percent(bounds[1])})"
    met = "met" if goodput["met"] else "not met"
    rows.append(
        [
            f"**all, by {percent(goodput['wanted'])}: {met}**",
            percent(goodput["attainment"]) + interval,
        ]
    )
    return _table(["goal", "kept by"], rows)


def _outcomes(summary: Mapping[str, Any]) -> str:
    counts = summary["outcomes"]
    total = sum(counts.values())
    if set(counts) <= _GOOD:
        return f"All {total:,} requests ended well."
    return _table(
        ["outcome", "n", "share"],
        ([outcome(name), f"{count:,}", percent(count / total)] for name, count in counts.items()),
    )


def _errors(summary: Mapping[str, Any]) -> str:
    errors = summary["errors"]
    rows = [
        [code(f"{error['error']}: {error['detail']}"), f"{error['count']:,}"]
        for error in errors[:_MOST_ERRORS]
    ]
    rest = sum(error["count"] for error in errors[_MOST_ERRORS:])
    if rest:
        rows.append(["others", f"{rest:,}"])
    return _table(["error", "n"], rows) if rows else ""


def _foot(summary: Mapping[str, Any], rows: Sequence[HeadlineRow]) -> str:
    told = ["Intervals are 95 %; latencies are of requests that ended well."]
    if any(row.unsure for row in rows):
        told.append("A figure with ? is from too few requests to be sure.")
    if summary["chatstream"] is not None:
        told.append(f"Measured with chatstream {summary['chatstream']}.")
    return f"<sub>{' '.join(told)}</sub>"
