"""When the next write to a platform is due.

Platforms tell what they bear only by refusing. So the interval between writes is the
one that is known to do, doubles with each refusal, and comes back while none follows.
Time is an argument: seconds on whatever clock.
"""

from __future__ import annotations

import math

from chatstream.errors import RequestError

LONGEST_INTERVAL = 60.0
"""Seconds that the interval grows to at most."""

RECOVERY = 60.0
"""Seconds in which half of what a refusal added to the interval is gone."""

LONGEST_BACKOFF = 30.0
"""Seconds between tries to reach a platform, at most."""

PATIENCE = 3
"""Intervals after which also a text that is too short to be worth a write is written."""


class Pace:
    """The rhythm of the writes to one chat.

    *interval* is the least seconds from one write to the next, *minimum* how many new
    characters are worth a write; fewer wait, but for at most three intervals.
    Raises ``RequestError`` for a negative one.
    """

    def __init__(self, interval: float, *, minimum: int = 24) -> None:
        for name, value in (("interval", interval), ("minimum", minimum)):
            if not value >= 0:
                raise RequestError(name, str(value), "0 or more")
        self._interval = interval
        self._minimum = minimum
        self._added = 0.0  # by refusals, when the last one's wait was over
        self._quiet_since = 0.0
        self._failures = 0
        self._wrote = float("-inf")
        self._not_before = float("-inf")

    def interval(self, now: float) -> float:
        """Seconds from one write to the next, as of *now*."""
        quiet = max(0.0, now - self._quiet_since)
        return self._interval + self._added * math.exp2(-quiet / RECOVERY)

    def due(self, now: float, new: int | None, since: float) -> float:
        """Return when the next write may be made, which may be past.

        *new* is the number of characters that it would add, the first of which came at
        *since*; ``None`` if it is worth a write whatever its length.
        """
        interval = self.interval(now)
        due = max(self._wrote + interval, self._not_before)
        if new is not None and new < self._minimum:
            due = max(due, since + interval, self._wrote + interval * PATIENCE)
        return due

    def began(self, now: float) -> None:
        """Note that a write begins; before it ends, so that others keep their distance."""
        self._wrote = now

    def accepted(self) -> None:
        """Note that the platform took a write."""
        self._failures = 0

    def flooded(self, now: float, retry_after: float | None) -> None:
        """Note that a write was one too many; the platform wants a rest.

        Without a *retry_after* it is as long as the interval from then on.
        """
        interval = self.interval(now)
        wider = min(max(2 * interval, 1.0), max(LONGEST_INTERVAL, self._interval))
        rest = wider if retry_after is None else max(0.0, retry_after)
        self._added = wider - self._interval
        self._not_before = self._quiet_since = now + rest

    def failed(self, now: float) -> None:
        """Note that the platform couldn't be reached: 1 s of rest, then 2, then 4."""
        self._not_before = now + min(2.0 ** min(self._failures, 10), LONGEST_BACKOFF)
        self._failures += 1
