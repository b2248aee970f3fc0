"""Keeps the reports of streams, and their percentiles by model."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from chatstream.completion import Verdict
from chatstream.marks import percentile
from chatstream.report import StreamReport


class MemoryRecorder:
    """An observer that remembers the newest *maxlen* reports.

    Latencies are those of streams that ended well; the others are counted in
    :attr:`outcomes`. A stream cut by the token limit ended well.
    """

    def __init__(self, maxlen: int | None = 10_000) -> None:
        self.reports: deque[StreamReport] = deque(maxlen=maxlen)
        self.outcomes: Counter[Verdict] = Counter()
        """How streams ended, of all that were seen."""

    def stream_ended(self, report: StreamReport) -> None:
        """Keep a report."""
        self.reports.append(report)
        self.outcomes[report.verdict] += 1

    @property
    def models(self) -> list[str]:
        """The models that reports are about."""
        return sorted({report.model for report in self.reports if report.model is not None})

    def times_to_first_token(self, model: str | None = None) -> list[float]:
        """Return the times to first token in seconds, of one model or of all."""
        times = (report.time_to_first_token for report in self._good(model))
        return [time for time in times if time is not None]

    def inter_chunk_latencies(self, model: str | None = None) -> list[float]:
        """Return the gaps between chunks in seconds, of one model or of all."""
        return [gap for report in self._good(model) for gap in report.inter_chunk_latencies]

    def percentiles(
        self, model: str | None = None, shares: Iterable[float] = (0.5, 0.9, 0.99)
    ) -> dict[str, dict[float, float | None]]:
        """Return percentiles in seconds: metric → share → value, ``None`` without data."""
        shares = tuple(shares)
        metrics = {
            "time_to_first_token": self.times_to_first_token(model),
            "inter_chunk_latency": self.inter_chunk_latencies(model),
            "duration": [r.duration for r in self._good(model) if r.duration is not None],
        }
        return {
            name: {share: percentile(values, share) for share in shares}
            for name, values in metrics.items()
        }

    def _good(self, model: str | None) -> Iterable[StreamReport]:
        for report in self.reports:
            if report.verdict.good and (model is None or report.model == model):
                yield report
