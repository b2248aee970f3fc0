"""What to tell somebody in a chat when an answer didn't come to its end.

Nothing here quotes an error: what a server says about keys, quotas and hosts is for
its owner's log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from chatstream.completion import Verdict
from chatstream.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectError,
    InterruptedStreamError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestError,
    ServerError,
    StreamTimeoutError,
    UpstreamError,
)

Words: TypeAlias = Callable[[Exception | Verdict], str]
"""Puts an error, or how an answer ended, in words; ``""`` to say nothing."""

A_MINUTE = 90  # seconds up to which a wait is told in seconds


def english(ending: Exception | Verdict) -> str:
    """Short sentences for people who don't know what a server is."""
    match ending:
        case Verdict.CLOSED | Verdict.CANCELLED:
            return "(Stopped.)"
        case Verdict.LENGTH:
            return "(The answer was too long and ends here.)"
        case Verdict.CONTENT_FILTER:
            return "(The rest of the answer was held back by a content filter.)"
        case Verdict.EMPTY:
            return "There was no answer. Please ask again."
        case Verdict():
            return ""
        case RateLimitError(retry_after=float() | int() as wait) if wait > 0:
            return f"Too many questions at the moment. Please try again in {_duration(wait)}."
        case RateLimitError():
            return "Too many questions at the moment. Please try again later."
        case StreamTimeoutError():
            return "The answer took too long. Please try again."
        case BadRequestError() | RequestError():
            return "This question can't be answered. It may be too long."
        case AuthenticationError() | PermissionDeniedError() | NotFoundError():
            return "I'm not set up correctly. Please tell whoever runs me."
        case ConnectError() | ServerError():
            return "The model can't be reached at the moment. Please try again later."
        case InterruptedStreamError() | UpstreamError():
            return "The answer broke off. Please try again."
        case _:
            return "Something went wrong. Please try again."


def _duration(seconds: float) -> str:
    if seconds < A_MINUTE:
        whole = max(1, round(seconds))
        return f"{whole} second" + "s" * (whole != 1)
    return f"{round(seconds / 60)} minutes"
