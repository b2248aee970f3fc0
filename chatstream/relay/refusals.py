"""What a service tells its own clients of an upstream's error: a status, and words.

Nothing here quotes what names the service's own account: keys, hosts, organisations
and quotas are for its log. What a client can mend (a parameter, a prompt that is too long)
is passed on.
"""

from __future__ import annotations

import math
from typing import Any

from attrs import frozen

from chatstream.errors import (
    BadRequestError,
    ChatStreamError,
    RateLimitError,
    RequestError,
    StatusError,
    StreamTimeoutError,
)

BAD_REQUEST, TOO_MANY, BAD_GATEWAY, UNAVAILABLE, GATEWAY_TIMEOUT = 400, 429, 502, 503, 504


@frozen(kw_only=True)
class Refusal:
    """An error, as a client may see it."""

    status: int
    message: str
    type: str
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None
    """Seconds."""

    @property
    def body(self) -> dict[str, Any]:
        """The error object, as OpenAI's API has it."""
        told = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": told}

    @property
    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds (RFC 9110, 10.2.3), if it is known."""
        wait = self.retry_after
        return {} if wait is None else {"Retry-After": str(math.ceil(wait))}


def refusal_of(error: ChatStreamError) -> Refusal:
    """Return what may be told of *error*."""
    match error:
        case RequestError():
            return Refusal(
                status=BAD_REQUEST,
                message=str(error),
                type="invalid_request_error",
                param=error.parameter,
            )
        case BadRequestError():
            return Refusal(
                status=error.status,
                message=error.message,
                type="invalid_request_error",
                param=error.param,
                code=error.code,
            )
        case RateLimitError():
            return Refusal(
                status=TOO_MANY,
                message="too many requests at the moment",
                type="rate_limit_error",
                retry_after=error.retry_after,
            )
        case StreamTimeoutError():
            return Refusal(
                status=GATEWAY_TIMEOUT, message="the model took too long", type="timeout"
            )
        case StatusError(status=503):
            return Refusal(
                status=UNAVAILABLE,
                message="the model isn't available at the moment",
                type="server_error",
                retry_after=error.retry_after,
            )
        case _:
            return Refusal(
                status=BAD_GATEWAY,
                message="the model can't be reached or broke off",
                type="server_error",
            )
