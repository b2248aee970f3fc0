"""Logs a line for each stream that ends."""

from __future__ import annotations

import logging

from chatstream.completion import Verdict
from chatstream.report import StreamReport


class LogObserver:
    """An observer that logs to *logger*: good ends at *level*, bad ones as warnings.

    A line holds latencies, counts and the request id; never text or keys.
    """

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self._logger = logger or logging.getLogger("chatstream.streams")
        self._level = level

    def stream_ended(self, report: StreamReport) -> None:
        """Log one line."""
        bad = report.verdict not in _GOOD
        gaps = report.inter_chunk_latencies
        self._logger.log(
            logging.WARNING if bad else self._level,
            "stream %s model=%s verdict=%s ttft=%s duration=%s chunks=%d worst_gap=%s "
            "tokens=%s attempts=%d request_id=%s",
            report.stream_id,
            report.model,
            report.verdict,
            _seconds(report.time_to_first_token),
            _seconds(report.duration),
            report.token_events,
            _seconds(max(gaps, default=None)),
            report.completion_tokens,
            len(report.attempts),
            report.request_id,
            extra={"chatstream_report": report},
        )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}s"


_GOOD = frozenset(
    {Verdict.FINISHED, Verdict.LENGTH, Verdict.CONTENT_FILTER, Verdict.CLOSED, Verdict.CANCELLED}
)
