"""The figures as an SVG: bars on any background, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.measure import Outcome
from benchmarks.works import OURS

_PANELS = (
    ("burst", "cpu", "CPU per chunk, burst", "µs"),
    ("paced", "cpu", "CPU per chunk, 100 paced streams", "µs"),
    ("short", "cpu", "CPU per request, 1,000 short answers", "µs"),
    ("memory", "memory", "Memory per open stream", "KB"),
    ("truth", "gap_p99", "Error of the gap between chunks, p99", "ms"),
    ("opening", "first_p50", "Error of the first token, many streams at once, p50", "ms"),
    ("slow", "moved", "Figures off, slow consumer", "ms"),
    ("import", "ms", "Import", "ms"),
)
_WIDTH, _BAR, _STEP, _HEAD, _LABEL, _VALUE = 420, 13, 20, 34, 130, 70

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .small { font-size: 11px; fill: #57606a }
.end { text-anchor: end } .ours { font-weight: 600 }
rect { fill: #8c959f } rect.ours { fill: #0969da }
line { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 }
  rect { fill: #656c76 } rect.ours { fill: #4493f8 } line { stroke: #f85149 }
}"""


@dataclass(frozen=True)
class _Panel:
    title: str
    unit: str
    bars: tuple[tuple[str, float], ...]
    goal: float | None

    @property
    def height(self) -> int:
        return _HEAD + _STEP * len(self.bars)


def svg(outcomes: Sequence[Outcome], caption: str) -> str:
    """Return the picture; the dashed line is chatstream's goal."""
    panels = [panel for spec in _PANELS if (panel := _panel(outcomes, *spec)) is not None]
    parts: list[str] = []
    top = 8
    for left, right in zip(panels[::2], [*panels[1::2], None], strict=False):
        for place, panel in enumerate((left, right)):
            if panel is not None:
                parts += _drawn(panel, place * _WIDTH, top)
        top += max(left.height, right.height if right else 0)
    for line in caption.split("; "):
        top += 16
        parts.append(f'<text class="small" x="8" y="{top}">{escape(line)}</text>')
    box = f'viewBox="0 0 {2 * _WIDTH} {top + 10}" width="{2 * _WIDTH}" height="{top + 10}"'
    label = "<title>chatstream and other clients: CPU, memory and truth</title>"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">{label}\n'
        f"<style>{_STYLE}\n</style>\n{body}\n</svg>\n"
    )


def _panel(
    outcomes: Sequence[Outcome], name: str, key: str, title: str, unit: str
) -> _Panel | None:
    outcome = next((o for o in outcomes if o.row.name == name), None)
    if outcome is None:
        return None
    medians = ((client, outcome.median(client, key)) for client in outcome.row.clients)
    bars = tuple((client, value) for client, value in medians if value is not None)
    if not bars:
        return None
    limit = None
    for goal in outcome.row.goals:
        if goal.key == key and outcome.reached(goal) is not None:
            base = 1.0 if goal.against is None else outcome.median(goal.against, key)
            found = goal.limit * (base or 0.0)
            limit = found if limit is None else min(limit, found)
    return _Panel(title, unit, bars, limit)


def _drawn(panel: _Panel, x: int, y: int) -> list[str]:
    most = max(value for _, value in panel.bars)
    scale = (_WIDTH - _LABEL - _VALUE) / most
    start = x + _LABEL
    parts = [f'<text class="title" x="{x + 8}" y="{y + 16}">{escape(panel.title)}</text>']
    for number, (client, value) in enumerate(panel.bars):
        top = y + _HEAD - 8 + number * _STEP
        ours = ' class="ours"' if client == OURS else ""
        width = max(value * scale, 1)
        told = f"{_short(value)} {panel.unit}"
        kind = "end ours" if ours else "end"
        parts += [
            f'<text class="{kind}" x="{start - 6}" y="{top + 11}">{escape(client)}</text>',
            f'<rect{ours} x="{start}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
            f'<text{ours} x="{start + width + 5:.1f}" y="{top + 11}">{told}</text>',
        ]
    if panel.goal is not None and panel.goal <= most:
        at = start + panel.goal * scale
        top = y + _HEAD - 11
        parts.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{top + _BAR + 6}"/>')
    return parts


def _short(value: float) -> str:
    """Return three digits of *value*."""
    if value >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.3g}"
