"""A comparison of two runs as rows of text, and as Markdown for a comment on a change.

Latencies are milliseconds. In Markdown, names of runs and warnings, which may quote what
isn't ours to word, stand as code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from attrs import frozen

from chatstream.bench.compare import Change, Comparison, Estimate
from chatstream.bench.output.markdown import code
from chatstream.bench.output.rows import LABELS, SHARES, milliseconds, number, percent

HEAD = ("A", "B", "change", "95 % interval", "verdict", "n", "allowed")

_LABELS = {
    **LABELS,
    "requests_per_second": "requests/s",
    "output_tokens_per_second": "output tokens/s",
    "goodput": "requests that met the goals",
    "failed": "requests that failed",
}

_FROM_SCHEDULE = ("time_to_first_token_from_schedule", "duration_from_schedule")
"""What else is shown of open loads."""

_EMPHASIS = {"worse": "**worse**", "better": "*better*"}


@frozen(kw_only=True)
class Row:
    """One figure in both runs, as text."""

    label: str
    cells: tuple[str, ...]
    """What stands under :data:`HEAD`."""
    verdict: str


def comparison_rows(comparison: Comparison, *, everything: bool = False) -> list[Row]:
    """Return the rows of the main metrics, and of those with an allowance; or of all."""
    metrics = {
        metric: list(changes)
        for metric, changes in groupby(comparison.changes, lambda change: change.metric)
    }
    main = [*_LABELS, *(_FROM_SCHEDULE if comparison.open_load else ())]
    if _values(metrics, "time_to_first_output") == _values(metrics, "time_to_first_token"):
        main.remove("time_to_first_output")  # nothing reasoned
    allowed = [name for name, changes in metrics.items() if any(c.allowance for c in changes)]
    shown = metrics if everything else dict.fromkeys((*main, *allowed))
    return [_row(change) for name in shown for change in metrics.get(name, ())]


def _values(metrics: Mapping[str, Sequence[Change]], name: str) -> list[float | None]:
    return [side.value for change in metrics.get(name, ()) for side in (change.a, change.b)]


def _row(change: Change) -> Row:
    by, interval = _amount(change)
    allowed = "" if change.allowance is None else f"{change.allowance.text}: {change.gate}"
    counts = f"{change.a.n:,}" if change.a.n == change.b.n else f"{change.a.n:,}, {change.b.n:,}"
    return Row(
        label=_label(change),
        cells=(
            _value(change, change.a.value),
            _value(change, change.b.value),
            by,
            interval,
            change.verdict,
            counts,
            allowed,
        ),
        verdict=change.verdict,
    )


def _label(change: Change) -> str:
    """Return a figure's name; with a question mark if it is of too few requests."""
    statistic = change.figure.partition(".")[2]
    metric = _LABELS.get(change.metric, change.metric.replace("_", " "))
    label = f"{metric} {SHARES.get(statistic, statistic)}".strip()
    return f"{label}?" if change.unsure else label


def _value(change: Change, value: float | None) -> str:
    show = {"s": milliseconds, "share": percent}.get(change.unit, number)
    return show(value)


def _amount(change: Change) -> tuple[str, str]:
    """Return by how much a figure changed, and the interval of that; – if unknown.

    Relative to A; in points of a share; in milliseconds where A is 0.
    """
    if change.absolute is None:
        return "–", "–"
    if change.relative is not None:
        return _with_unit(change.relative.times(100), "%", 1)
    if change.unit == "share":
        return _with_unit(change.absolute.times(100), "points", 2)
    return _with_unit(change.absolute.times(1000), "ms", 3)


def _with_unit(estimate: Estimate, unit: str, digits: int) -> tuple[str, str]:
    value = f"{estimate.value:+,.{digits}f} {unit}"
    if estimate.ci is None:
        return value, "–"
    return value, " … ".join(f"{end:+,.{digits}f}" for end in estimate.ci)


# --- Sentences -----------------------------------------------------------------------


def reasons(comparison: Comparison) -> Iterator[str]:
    """Tell why a comparison fails, one sentence each; nothing if it doesn't."""
    for change in comparison.changes:
        if change.gate == "broken" and change.undecided is not None:
            yield f"{_label(change)} counts as worse, {change.undecided}: {_told(change)}"
        elif change.gate == "broken":
            yield f"{_label(change)} got worse by more than is allowed: {_told(change)}"
        elif change.gate == "possible" and comparison.strict:
            yield f"{_label(change)} may have got worse by more than is allowed: {_told(change)}"
    if comparison.warnings and comparison.strict:
        yield f"these runs aren't comparable without doubt: {comparison.warnings[0]}"


def _told(change: Change) -> str:
    by, interval = _amount(change)
    limit = "nothing" if change.allowance is None else change.allowance.text
    a, b = _value(change, change.a.value), _value(change, change.b.value)
    return f"A {a}, B {b}, {by} ({interval}), allowed {limit}"


def title(comparison: Comparison) -> str:
    """Return what came of a comparison, in short."""
    gates = [change.gate for change in comparison.changes if change.gate is not None]
    if not gates:
        return "compared; nothing was held against an allowance"
    broken, possible = gates.count("broken"), gates.count("possible")
    if broken:
        return f"regression: {broken} of {len(gates)} allowances broken"
    if possible:
        return f"no regression for sure: {possible} of {len(gates)} allowances possibly broken"
    return f"no regression: {len(gates)} of {len(gates)} allowances kept"


# --- Markdown ------------------------------------------------------------------------


def comparison_markdown(comparison: Comparison, *, everything: bool = False) -> str:
    """Return a comparison as Markdown; *everything*: of every metric."""
    rows = comparison_rows(comparison, everything=everything)
    heading = title(comparison)
    parts = [
        f"### {heading[0].upper()}{heading[1:]}",
        f"A is {code(comparison.a)}, B is {code(comparison.b)}.",
        "\n".join(f"- **Warning**: {code(warning)}" for warning in comparison.warnings),
        "\n".join(
            f"| {' | '.join(line)} |"
            for line in (
                ("", *HEAD),
                ("---", *("---:" for _ in HEAD)),
                *((row.label, *(_EMPHASIS.get(cell, cell) for cell in row.cells)) for row in rows),
            )
        ),
        "\n".join(f"- {note}" for note in comparison.notes),
        "<sub>Latencies are milliseconds; ? marks percentiles of too few requests.</sub>",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
