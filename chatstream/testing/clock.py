"""Time as a value that a test moves."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class FakeClock:
    """A clock that stands still until told to move, in place of ``time.perf_counter_ns``.

    ::

        clock = FakeClock()
        clock.advance(0.25)
        assert 250_000_000 == clock()

    ``call_later`` takes the place of the event loop's: :meth:`advance` makes the
    calls that come due on its way, each at its own time.
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._timers: list[tuple[int, int, FakeTimer]] = []
        self._order = itertools.count()

    def __call__(self) -> int:
        """Nanoseconds now."""
        return self._now_ns

    def advance(self, seconds: float) -> int:
        """Move on by *seconds*; the new time in nanoseconds.

        Rounded to whole nanoseconds at each step, so 0.1 ten times is 1 s.
        """
        if seconds < 0:
            msg = f"a clock can't go back: {seconds} s"
            raise ValueError(msg)
        end_ns = self._now_ns + round(seconds * 1e9)
        while self._timers and self._timers[0][0] <= end_ns:
            due_ns, _, timer = heapq.heappop(self._timers)
            self._now_ns = max(self._now_ns, due_ns)
            timer.run()
        self._now_ns = max(self._now_ns, end_ns)  # a call may have moved it further
        return self._now_ns

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        """Make *callback* due in *delay* seconds."""
        timer = FakeTimer(callback)
        # A wait shorter than a nanosecond ends, too.
        due_ns = self._now_ns + max(round(delay * 1e9), delay > 0)
        heapq.heappush(self._timers, (due_ns, next(self._order), timer))
        return timer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._now_ns})"


class FakeTimer:
    """A call that a fake clock will make."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Don't make the call."""
        self._callback = None

    def run(self) -> None:
        """Make the call, unless it was cancelled."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
