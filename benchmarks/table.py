"""The figures as text: one table for each row, its goals below."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import Outcome
from benchmarks.works import Column, Goal

_SHORT = {
    "aiohttp, bytes only": "bytes",
    "aiohttp + orjson": "orjson",
}


def lines(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of one table."""
    row = outcome.row
    columns = [c for c in row.columns if any(outcome.values(x, c.key) for x in row.clients)]
    ratios = [peer for peer in row.ratios if outcome.values(peer, row.columns[0].key)]
    counts = sorted({len(runs) for runs in outcome.runs.values()})
    yield f"{row.title} (n = {' to '.join(map(str, counts)) or 0})"
    if row.note:
        yield f"  {row.note}"
    header = ["", *(c.heading for c in columns), *(f"× {_SHORT.get(r, r)}" for r in ratios)]
    rows = [header]
    for client in row.clients:
        if client in outcome.runs:
            cells = [_cell(outcome, client, column) for column in columns]
            key = row.columns[0].key
            cells += [multiple(outcome.ratio(client, key, peer)) for peer in ratios]
            rows.append([client, *cells])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for cells in rows:
        first, *rest = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        yield f"  {'   '.join([first, *rest])}".rstrip()
    for client, note in outcome.notes.items():
        yield f"  {client.ljust(widths[0])}   {note}"
    for goal in row.goals:
        if (text := verdict(outcome, goal)) is not None:
            yield f"  → {text}"


def verdict(outcome: Outcome, goal: Goal) -> str | None:
    """Return what was wanted, what was reached, and ok or missed; ``None`` if not measured."""
    value = outcome.reached(goal)
    if value is None:
        return None
    heading = next((c.heading for c in outcome.row.columns if c.key == goal.key), "MB with bench")
    if goal.against is None:
        wanted, got = f"{goal.limit:g} {goal.unit}".rstrip(), f"{value:.3g}"
    else:
        wanted, got = f"{multiple(goal.limit)} × {goal.against}", multiple(value)
    source = f" ({goal.source} stamps)" if goal.source else ""
    if value <= goal.limit:
        return f"{heading} ≤ {wanted}{source}: {got}, ok"
    return f"{heading} ≤ {wanted}{source}: {got}, missed ({value / goal.limit:.2f} × the goal)"


def multiple(value: float | None) -> str:
    """Return a ratio; a small one as a fraction."""
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 0.1 else f"1/{1 / value:.1f}"  # noqa: PLR2004


def _cell(outcome: Outcome, client: str, column: Column) -> str:
    """Return the median, with half the distance from lowest to highest."""
    values = outcome.values(client, column.key)
    middle = outcome.median(client, column.key)
    if middle is None:
        return "–"
    text = f"{middle:,.{column.digits}f}"
    if len(values) > 1 and max(values) > min(values):
        text += f" ±{(max(values) - min(values)) / 2:,.{column.digits}f}"
    return text
