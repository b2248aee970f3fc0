"""Watches what making a load costs its own process."""

from __future__ import annotations

import asyncio
import time
from array import array
from types import TracebackType
from typing import Self

from chatstream.marks import NS, percentile

INTERVAL = 0.01
"""Seconds between two looks at the loop."""

_TIMER = 0.001
"""Seconds by which asyncio's timers may be late on an idle loop."""


class Watch:
    """How late the loop ran, and how much of a core it took, while ``with`` lasts.

    The lag is how long something that was due had to wait for its turn: a look that was
    due at a time, then for the loop to come around once more.
    """

    def __init__(self) -> None:
        self._lags = array("d")
        self._handle: asyncio.Handle | None = None
        self._due = 0.0
        self._late = 0.0
        self._began_ns = self._cpu_ns = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._began_ns, self._cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        self._again()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._began_ns = time.perf_counter_ns() - self._began_ns
        self._cpu_ns = time.process_time_ns() - self._cpu_ns
        if self._handle is not None:
            self._handle.cancel()

    def _again(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._handle = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._late = max(0.0, self._loop.time() - self._due - _TIMER)
        self._turned = time.perf_counter_ns()
        self._handle = self._loop.call_soon(self._come_around)

    def _come_around(self) -> None:
        self._lags.append(self._late + (time.perf_counter_ns() - self._turned) / NS)
        self._again()

    def figures(self) -> dict[str, object]:
        """Return ``cpu``, the share of a core that was used, and ``loop_lag`` in seconds."""
        lags = self._lags
        return {
            "cpu": self._cpu_ns / self._began_ns if self._began_ns else None,
            "loop_lag": {
                "n": len(lags),
                "p50": percentile(lags, 0.5),
                "p99": percentile(lags, 0.99),
                "max": max(lags, default=None),
            },
        }
