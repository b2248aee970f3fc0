"""How much worse a figure may become: ``ttft.p99`` and ``5%``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen

from chatstream.bench.metrics import LATENCIES, SHORT
from chatstream.errors import RequestError

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "p999")
"""What is compared of a latency."""

RATES = ("requests_per_second", "output_tokens_per_second")
SHARES = ("goodput", "failed")
"""Of the requests that were made: those that kept the goals, and those that failed."""

HIGHER_IS_BETTER = frozenset({*RATES, "goodput"})

_SHORT = {**SHORT, "rps": "requests_per_second", "tps": "output_tokens_per_second"}
_UNITS = {"ms": 1e-3, "s": 1.0}
_LIMIT = re.compile(r"(\d+(?:\.\d+)?) ?(%|ms|s)")


@frozen
class Allowance:
    """How much worse a figure may become.

    *relative* is to its value before. Otherwise the limit has the figure's unit: seconds,
    or of a share the share, so that 1 % means from 98 % to 97 %.
    """

    figure: str
    limit: float
    relative: bool
    text: str
    """The limit as it was given."""


def parse_allowances(limits: Mapping[str, str]) -> dict[str, Allowance]:
    """Return the allowances by figure. Raises ``RequestError``."""
    found: dict[str, Allowance] = {}
    for name, limit in limits.items():
        allowance = parse_allowance(name, limit)
        if allowance.figure in found:
            raise RequestError("allow", f"{allowance.figure} twice", "one limit for each figure")
        found[allowance.figure] = allowance
    return found


def parse_allowance(name: str, limit: str) -> Allowance:
    """Return the allowance of *limit* for the figure *name*. Raises ``RequestError``.

    ``ttft.p99`` is short for ``time_to_first_token.p99``, ``rps`` for
    ``requests_per_second``. A limit is ``5%``, and for a latency ``20ms`` or ``0.02s``.
    """
    figure = figure_named(name)
    match = _LIMIT.fullmatch(limit.strip())
    timed = figure not in RATES and figure not in SHARES
    if match is None or not (timed or match[2] == "%"):
        allowed = "a limit such as 5%" + (", 20ms or 0.02s" if timed else "")
        raise RequestError("allow", f"{limit!r} for {name}", allowed)
    if match[2] == "%":
        relative = figure not in SHARES
        return Allowance(figure, float(match[1]) / 100, relative=relative, text=match[0])
    return Allowance(figure, float(match[1]) * _UNITS[match[2]], relative=False, text=match[0])


def figure_named(text: str) -> str:
    """Return a figure's whole name. Raises ``RequestError``."""
    short, dot, statistic = text.strip().partition(".")
    name = _whole_name(short)
    if name in RATES or name in SHARES:
        if dot:
            raise RequestError("allow", repr(text), f"{name}, which has no {statistic!r}")
        return name
    if name not in LATENCIES:
        known = ", ".join((*_SHORT, *SHARES))
        raise RequestError("allow", repr(text), f"a metric: {known}, or a whole name")
    statistic = {"p99.9": "p999"}.get(statistic, statistic)
    if statistic not in STATISTICS:
        allowed = ", ".join(f"{short}.{each}" for each in STATISTICS)
        raise RequestError("allow", repr(text), allowed)
    return f"{name}.{statistic}"


def _whole_name(short: str) -> str:
    """Return a metric's whole name: ``ttft_from_sent`` is ``time_to_first_token_from_sent``."""
    head, from_, origin = short.replace("-", "_").partition("_from_")
    return _SHORT.get(head, head) + from_ + origin
