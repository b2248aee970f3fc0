"""Waiting for something to happen, but not for ever, on any clock."""

from __future__ import annotations

import asyncio

from chatstream.timeouts import CallLater

EARLY = 0.8
"""What passes by itself is renewed after this share of its time."""


class Signal:
    """Something that may happen while somebody waits for it."""

    def __init__(self, call_later: CallLater) -> None:
        self._call_later = call_later
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake who waits, or who will be the next to."""
        self._event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it happens, at most *seconds*; false if it didn't."""
        happened = True

        def expire() -> None:
            nonlocal happened
            if not self._event.is_set():
                happened = False
                self._event.set()

        timer = None if seconds is None else self._call_later(seconds, expire)
        try:
            await self._event.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._event.clear()
        return happened
