"""A run's log under the formulas of other tools, each number with its formula and source.

The formulas were read in the sources named here, at the versions named here; tools change
theirs. Where a log can't tell what a tool would have seen, the number's note says so.
Times are seconds whatever the tool prints, and requests that warmed up are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

import chatstream
from chatstream.bench.definitions import aiperf, mlperf, otel, ours, vllm
from chatstream.bench.definitions.entries import Entries
from chatstream.bench.log import Log
from chatstream.bench.plan import Goals
from chatstream.errors import RequestError


@frozen(kw_only=True)
class _Tool:
    """What of a tool was read, and what all its numbers have in common."""

    version: str
    source: str
    requests: str
    """Those that are in its figures."""
    percentiles: str
    entries: Callable[[Log, Goals | None], Entries]


_TOOLS = {
    "chatstream": _Tool(
        version=chatstream.__version__,
        source="chatstream",
        requests="those that came to an end of their own",
        percentiles="linear between neighbours",
        entries=ours.entries,
    ),
    "vllm": _Tool(
        version="0.33.0",
        source="vllm-project/vllm",
        requests="those with status 200 and a counted chunk whose transfer didn't break",
        percentiles="linear between neighbours (numpy); vLLM gives p99 unless told otherwise",
        entries=vllm.entries,
    ),
    "aiperf": _Tool(
        version="0.13.0",
        source="ai-dynamo/aiperf",
        requests="those with a content chunk whose transfer didn't break",
        percentiles="linear between neighbours",
        entries=aiperf.entries,
    ),
    "mlperf": _Tool(
        version="loadgen 6.0.17",
        source="mlcommons/inference",
        requests="all of them, as none may fail; here those that came to an end of their own",
        percentiles="the value at place ⌊n·p⌋ of those in order, from 0",
        entries=mlperf.entries,
    ),
    "otel": _Tool(
        version="004902b8cb70aa5ae6ca4ae07132b7daabcd3e10",
        source="open-telemetry/semantic-conventions-genai",
        requests="all of them, also those that failed",
        percentiles="read off the buckets as Prometheus' histogram_quantile does",
        entries=otel.entries,
    ),
}

TOOLS = tuple(_TOOLS)
"""The tools whose definitions are known."""


def view(log: Log, tool: str, *, goals: Goals | None = None) -> dict[str, Any]:
    """Return a run's figures as *tool* computes them, as plain JSON values.

    ``metrics`` has an entry under each of the tool's own names: ``unit``, ``n``, its
    statistics (or one ``value``), ``formula``, ``source``, and a ``note`` or ``None``.
    With *goals* there is the tool's goodput, too. Raises ``RequestError`` for a tool that
    isn't one of :data:`TOOLS`.
    """
    if tool not in _TOOLS:
        raise RequestError("definitions", repr(tool), f"one of {', '.join(TOOLS)}")
    known = _TOOLS[tool]
    return {
        "tool": tool,
        "version": known.version,
        "source": known.source,
        "requests": known.requests,
        "percentiles": known.percentiles,
        "metrics": known.entries(log.where(~log.warmup), goals),
    }
