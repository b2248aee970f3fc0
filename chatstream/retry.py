"""What to try again, and when."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import field, frozen

from chatstream.errors import ChatStreamError, ConnectError, RequestError, StatusError

T = TypeVar("T")

# stamina logs each retry as a warning. Where logging isn't set up, Python would
# print the bare word "stamina.retry_scheduled" on stderr.
logging.getLogger("stamina").addHandler(logging.NullHandler())


def _at_least(minimum: int) -> Callable[[object, object, float], None]:
    def check(_: object, attribute: object, value: float) -> None:
        if not (isinstance(value, int | float) and value >= minimum):
            name = getattr(attribute, "name", "")
            raise RequestError(f"retry.{name}", repr(value), f"a number from {minimum} on")

    return check


@frozen
class RetryPolicy:
    """How often to try, and how long to wait in between at most (seconds).

    What can help is tried again: no connection, 408, 409, 429 and 5xx, an error
    or an end inside the stream, silence; all of them until the first token, and
    never after. The wait is what the server asked for (``Retry-After``), else
    it doubles from half a second, with jitter; ``max_wait`` is its ceiling. There
    is none after a reused connection turned out to be closed.

    With *idempotency_header*, ``"Idempotency-Key"`` mostly, all attempts of a call
    carry the same unique value in that header, for a server that knows it.
    """

    attempts: int = field(default=3, validator=_at_least(1))
    max_wait: float = field(default=60, validator=_at_least(0))
    idempotency_header: str | None = None

    async def again(
        self, failure: ChatStreamError, attempt: Callable[[], Awaitable[T]], *, made: int = 1
    ) -> T:
        """Wait and call *attempt*, as often as is allowed after *made* attempts.

        Raises *failure*, which ended the last of those, if none is allowed, or
        the error of the last one.
        """
        try:
            import stamina  # noqa: PLC0415 a tenth of our import, for the few that fail
        except OSError:  # pragma: no cover  in a process of its own, no descriptor is left
            raise failure from None

        made = max(1, made)  # also one that was broken off before it was counted
        last: ChatStreamError | None = failure
        tries = stamina.retry_context(
            on=self._wait,
            attempts=max(1, self.attempts - made + 1),
            timeout=None,
            wait_initial=min(0.5 * 2 ** min(made - 1, 4), self.max_wait),
            wait_max=min(8.0, self.max_wait),
            wait_jitter=min(0.5, self.max_wait),
        )
        async for one in tries:
            with one:
                if last is not None:
                    # Let stamina see the failure: it decides and waits.
                    seen, last = last, None
                    raise seen
                return await attempt()
        raise failure  # pragma: no cover  stamina raises what ended the last try

    def _wait(self, error: Exception) -> bool | float:
        """Tell stamina whether to try again, or how long to wait before."""
        if not isinstance(error, ChatStreamError) or not error.retryable:
            return False
        if isinstance(error, ConnectError) and error.reused:
            return 0.0
        wait = error.retry_after if isinstance(error, StatusError) else None
        return True if wait is None else min(wait, self.max_wait)
