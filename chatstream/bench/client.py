"""Whether the client was good enough for its figures, with the figures that say so."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chatstream.bench.log import Bools, Floats, Log
from chatstream.bench.metrics import series
from chatstream.bench.plan import Load
from chatstream.bench.record import TOKENS
from chatstream.bench.stats import spread
from chatstream.bench.windows import in_flight
from chatstream.bench.workers import WorkerReport
from chatstream.marks import NS


class ClientVerdict(enum.StrEnum):
    """What the client's own share in the figures was."""

    OK = "ok"
    SUSPECT = "suspect"
    """The figures may be off by more than they should."""
    LIMITING = "limiting"
    """The client held the load back, or its figures are its own."""


# Each figure is held against two limits: beyond the first the client is suspect, beyond
# the second it is limiting.
_CPU = (0.75, 0.92)
_LOOP_LAG = (0.010, 0.050)
_LATENESS = (0.010, 0.100)
_ERRORS = {
    "time_to_first_token": (0.001, 0.010),
    "inter_chunk_latency": (0.0005, 0.005),
}
_SMALL = 0.01
"""An error, or a lateness, that is a smaller share of what was measured does no harm."""
_COALESCED = 0.01
_ALIKE = 1.5
"""More streams than so many times those of the calibration are another load."""


def errors_of(log: Log) -> dict[str, Any] | None:
    """Return how far a truth server's stamps are from ours; ``None`` if it wasn't one."""
    told = log.of_kinds(TOKENS) & (log.truth_ns >= 0) & log.of_requests(log.good)
    places = np.flatnonzero(told)
    if not len(places):
        return None
    owners = log.owner[places]
    off = log.arrivals_ns[places] - log.truth_ns[places]
    first = np.diff(owners, prepend=-1) != 0
    gaps = np.diff(off)[~first[1:]]
    return {
        "time_to_first_token_error": spread(np.abs(off[first]) / NS),
        "inter_chunk_latency_error": spread(np.abs(gaps) / NS),
    }


def calibration(log: Log, reports: Sequence[WorkerReport], streams: int) -> dict[str, Any]:
    """Return what listening to the truth server showed."""
    return {
        "streams": streams,
        "requests": len(log),
        **(
            errors_of(log) or {"time_to_first_token_error": None, "inter_chunk_latency_error": None}
        ),
        "coalesced_share": _share(log.coalesced),
        "cpu": _worst(report.cpu for report in reports),
    }


def judged(
    log: Log,
    load: Load | None,
    reports: Sequence[WorkerReport],
    calibrated: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the summary's part on the client."""
    judge = _Judge()
    cpu = _worst(report.cpu for report in reports)
    lag = _worst_lag(reports)
    late: Floats = log.created - log.scheduled
    late = late[~np.isnan(late)]
    coalesced = _share(log.coalesced)
    metrics = series(log)

    judge.limit(cpu, _CPU, "a worker used {:.0%} of its core")
    if lag is not None:
        judge.limit(lag["p99"], _LOOP_LAG, "the loop came around {:.0f} ms late at p99", 1000)
    peak = int(in_flight(log).counts.max(initial=0))
    if (
        len(late)
        and load is not None
        and not load.closed
        and peak < (load.max_concurrency or math.inf)
    ):
        typical = _median(metrics["duration"].values)
        p99 = float(np.percentile(late, 99))
        if typical is None or p99 > _SMALL * typical:
            judge.limit(p99, _LATENESS, "requests went out {:.0f} ms late at p99", 1000)
    if calibrated is not None:
        streams = calibrated["streams"]
        if peak > _ALIKE * streams:
            judge.suspect(f"calibrated with {streams} streams, but up to {peak} were open")
        for name, limits in _ERRORS.items():
            error = calibrated[f"{name}_error"]
            typical = _median(metrics[name].values)
            if error is None:
                judge.suspect(f"calibration measured no {name.replace('_', ' ')}")
            elif typical is None or error["p99"] > _SMALL * typical:
                text = f"{name.replace('_', ' ')} was off by {{:.2f}} ms at p99 in calibration"
                judge.limit(error["p99"], limits, text, 1000)
    if (
        coalesced is not None
        and coalesced > _COALESCED
        and (lag or {}).get("p99", 0) > _LOOP_LAG[0]
    ):
        judge.suspect(f"{coalesced:.1%} of events were read late, together with later ones")
    paused = float(np.sum(log.paused))
    if paused:
        judge.suspect(f"reading stopped for {paused:.1f} s because the client was behind")
    sources = Counter(source for source in log.source.tolist() if source)
    if sources["reader"]:
        judge.suspect("arrivals were stamped where coroutines got to run")
    lost = [report for report in reports if report.lost]
    if lost:
        judge.suspect(f"{len(lost)} of {len(reports)} workers were lost")
    return {
        "verdict": judge.verdict.value,
        "reasons": judge.reasons,
        "cpu": cpu,
        "loop_lag": lag,
        "dispatch_delay": spread(late),
        "coalesced_share": coalesced,
        "paused": paused,
        "sources": dict(sources),
        "calibration": calibrated,
    }


class _Judge:
    """Collects what speaks against the client."""

    def __init__(self) -> None:
        self.verdict = ClientVerdict.OK
        self.reasons: list[str] = []

    def limit(
        self, value: float | None, limits: tuple[float, float], text: str, scale: float = 1
    ) -> None:
        """Hold a figure against its two limits."""
        if value is None or value <= limits[0]:
            return
        if value > limits[1]:
            self.verdict = ClientVerdict.LIMITING
        self.suspect(text.format(value * scale))

    def suspect(self, reason: str) -> None:
        """Note a reason to doubt."""
        if self.verdict is ClientVerdict.OK:
            self.verdict = ClientVerdict.SUSPECT
        self.reasons.append(reason)


def _share(chosen: Bools) -> float | None:
    return float(np.mean(chosen)) if len(chosen) else None


def _median(values: Floats) -> float | None:
    return float(np.median(values)) if len(values) else None


def _worst(values: Any) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _worst_lag(reports: Sequence[WorkerReport]) -> dict[str, Any] | None:
    lags = [lag for report in reports if (lag := report.loop_lag) and lag["n"]]
    return max(lags, key=lambda lag: lag["p99"], default=None)
