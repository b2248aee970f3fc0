"""The clocks of a stream, each with its own error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import field, frozen

from chatstream.errors import (
    FirstTokenTimeoutError,
    IdleTimeoutError,
    RequestError,
    StreamTimeoutError,
    TotalTimeoutError,
)
from chatstream.marks import NS

BUSY_NS = NS
"""How long to wait for a busy caller before looking again."""


def _positive(_: object, attribute: object, value: float | None) -> None:
    name = getattr(attribute, "name", "timeout")
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise RequestError(f"timeouts.{name}", repr(value), "seconds above 0, or None")


@frozen
class Timeouts:
    """How long to wait for what, in seconds; ``None`` waits for ever.

    ``connect`` until there is a connection; ``first_token`` from the start of an
    attempt to its first token, long enough for models that reason unseen;
    ``idle`` from token to token; ``total`` from the call to the end. Comments
    and empty deltas satisfy none of them, and a slow caller sets none off but
    ``total``.
    """

    connect: float | None = field(default=10, validator=_positive)
    first_token: float | None = field(default=120, validator=_positive)
    idle: float | None = field(default=60, validator=_positive)
    total: float | None = field(default=None, validator=_positive)


class TimerHandle(Protocol):
    """What a timer gives, so that it can be stopped."""

    def cancel(self) -> None:
        """Stop the timer."""


CallLater = Callable[[float, Callable[[], None]], TimerHandle]


class Watchdog:
    """Watches the clocks of one stream with one timer.

    The timer isn't moved for each token, which would cost more than reading it:
    when it fires it looks at what has happened, and sleeps again if it may.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        clock: Callable[[], int],
        call_later: CallLater,
        expired: Callable[[StreamTimeoutError], None],
    ) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._call_later = call_later
        self._expired = expired
        self._timer: TimerHandle | None = None
        self._stopped = False
        self._sure = False
        self._grace_ns = 0
        self._began_ns = 0
        self._attempt_ns: int | None = None
        self.waiting = False
        """Whether the stream waits for bytes: a slow caller is no idle server."""
        self.last_token_ns: int | None = None
        """Arrival of the newest token of this attempt."""

    def start(self, created_ns: int) -> None:
        """Start the clocks of a stream."""
        self._began_ns = created_ns
        self.attempt(created_ns)

    def attempt(self, started_ns: int) -> None:
        """Start the clocks of an attempt."""
        self._attempt_ns = started_ns
        self.last_token_ns = None
        self.waiting = True
        self._arm()

    def rest(self) -> None:
        """Let all clocks but the total one rest, as between two attempts."""
        self._attempt_ns = None
        self._arm()

    def stop(self) -> None:
        """Stop all clocks, for good."""
        self._stopped = True
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Look again when a clock may have run out."""
        self._disarm()
        if self._stopped:
            return
        now = self._clock()
        # A clock that ran out on a busy caller counts once the stream waits again.
        ends = [
            at if at > now or self._counts(kind) else now + BUSY_NS
            for at, kind, _ in self._deadlines()
        ]
        if self._attempt_ns is not None and self._timeouts.idle is not None:
            # A token may have come by then, from which this clock runs.
            ends.append(now + self._timeouts.idle * NS)
        if ends:
            self._timer = self._call_later(max(0.0, (min(ends) - now) / NS), self._look)

    def _counts(self, kind: type[StreamTimeoutError]) -> bool:
        """Whether time that is up is up now: a slow caller is no silent server."""
        return self.waiting or kind is TotalTimeoutError

    def _deadlines(self) -> list[tuple[float, type[StreamTimeoutError], float]]:
        """Return when which clock runs out, with its limit in seconds."""
        limits = self._timeouts
        found: list[tuple[float, type[StreamTimeoutError], float]] = []
        if limits.total is not None:
            found.append((self._began_ns + limits.total * NS, TotalTimeoutError, limits.total))
        if self._attempt_ns is None:
            return found
        if self.last_token_ns is None:
            if limits.first_token is not None:
                at = self._attempt_ns + limits.first_token * NS
                found.append((at, FirstTokenTimeoutError, limits.first_token))
        elif limits.idle is not None:
            at = max(self.last_token_ns + limits.idle * NS, self._grace_ns)
            found.append((at, IdleTimeoutError, limits.idle))
        return found

    def _look(self) -> None:
        self._timer = None
        now = self._clock()
        for at, kind, limit in self._deadlines():
            if now < at:
                continue
            if not self._counts(kind):
                # When the caller comes back, what waits in the kernel needs a while.
                self._grace_ns = now + 2 * BUSY_NS
            elif self._sure:
                self._expired(kind(limit))
                return
            else:
                # Bytes may have come in this turn of the loop, or while it was
                # blocked, and their reader hasn't run: let it, then look again.
                self._sure = True
                self._timer = self._call_later(0.0, self._look)
                return
        self._sure = False
        self._arm()
