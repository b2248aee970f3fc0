"""What a response says besides its stream: headers, and errors in its body."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

from attrs import field, frozen

from chatstream import codec
from chatstream.errors import (
    ChatStreamError,
    DecodeError,
    NotAnEventStreamError,
    RedirectError,
    StatusError,
    UpstreamError,
    one_line,
)

MAX_DOCUMENT = 64 * 1024
"""Bytes read of a body that isn't a stream."""

_REQUEST_ID_HEADERS = (
    "x-request-id",
    "apim-request-id",  # Azure
    "x-ms-request-id",
    "request-id",
    "x-generation-id",  # OpenRouter
    "cf-ray",
)


@frozen
class RateLimit:
    """What is left of a budget, as ``x-ratelimit-*-requests`` or ``-tokens`` say.

    ``reset`` is the server's own text (``6m0s``, a number, a date).
    """

    limit: int | None = None
    remaining: int | None = None
    reset: str | None = None


@frozen
class ResponseInfo:
    """The head of a response. ``headers`` is case-insensitive."""

    status: int
    headers: Mapping[str, str] = field(repr=False)

    @property
    def request_id(self) -> str | None:
        """The server's name for this request, for a support ticket."""
        found = (self.headers[name] for name in _REQUEST_ID_HEADERS if name in self.headers)
        # It ends up in logs and on terminals, and aiohttp lets control characters through.
        return next((one_line(text) for text in found), None)

    @property
    def content_type(self) -> str | None:
        """The content type as it was sent, parameters included."""
        return self.headers.get("content-type")

    @property
    def request_limit(self) -> RateLimit:
        """The budget of requests."""
        return self._limit("requests")

    @property
    def token_limit(self) -> RateLimit:
        """The budget of tokens."""
        return self._limit("tokens")

    def _limit(self, what: str) -> RateLimit:
        def number(name: str) -> int | None:
            text = self.headers.get(name, "")
            return int(text) if text.isdecimal() and text.isascii() else None

        return RateLimit(
            number(f"x-ratelimit-limit-{what}"),
            number(f"x-ratelimit-remaining-{what}"),
            self.headers.get(f"x-ratelimit-reset-{what}"),
        )

    def retry_after(self, now: float | None = None) -> float | None:
        """Return the seconds the server wants us to wait, ``None`` if it doesn't say.

        ``retry-after-ms``, else ``Retry-After`` in seconds or as a date
        (RFC 9110, 10.2.3). Nonsense is ignored; the past is 0. *now* is Unix time.
        """
        for text, unit in (
            (self.headers.get("retry-after-ms"), 0.001),
            (self.headers.get("retry-after"), 1.0),
        ):
            if text is None:
                continue
            try:
                wait = float(text) * unit
            except ValueError:
                continue
            if 0 <= wait < float("inf"):
                return wait
        try:
            date = email.utils.parsedate_to_datetime(self.headers.get("retry-after", ""))
            moment = date.timestamp()
        except (ValueError, TypeError, OverflowError):
            return None
        return max(0.0, moment - (time.time() if now is None else now))


def status_error(info: ResponseInfo, body: bytes) -> StatusError:
    """Return the error a response with an error status means."""
    location = info.headers.get("location")
    kind = StatusError.of(info.status)
    if kind is RedirectError:
        return RedirectError(info.status, f"redirect to {_origin(location)} not followed")
    text = body.decode("utf-8", "replace")
    code = type_ = param = None
    try:
        raw = codec.load_document(body)
    except DecodeError:
        message = text
    else:
        found = codec.read_error(raw, is_error=True) or UpstreamError("")
        message, code, type_ = found.message or text, found.code, found.type
        inner = raw.get("error")
        if isinstance(inner, dict) and isinstance(inner.get("param"), str):
            param = inner["param"]
    error = kind(
        info.status,
        message,
        code=code,
        type=type_,
        param=param,
        retry_after=info.retry_after(),
    )
    match info.headers.get("x-should-retry", "").lower():
        case "true":
            error.retryable = True
        case "false":
            error.retryable = False
    error.response = info
    error.request_id = info.request_id
    return error


def _origin(location: str | None) -> str:
    """Return scheme and host of a URL: the rest may hold what isn't ours to show."""
    if not location:
        return "nowhere"
    scheme, found, rest = location.partition("://")
    if not found or not scheme.isalpha():
        return "another path"
    host = re.split(r"[/?#\\]", rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}://{host}"


def looks_like_document(head: bytes | bytearray) -> bool:
    """Whether a body that begins with *head* is JSON or a page, not an event stream.

    No line of an event stream begins with these.
    """
    return head.lstrip()[:1] in (b"{", b"[", b"<")


def document_error(info: ResponseInfo, body: bytes) -> ChatStreamError:
    """Return the error that a successful answer means which isn't a stream."""
    try:
        raw = codec.load_document(body)
    except DecodeError:
        pass
    else:
        if (error := codec.read_error(raw)) is not None:
            return error
        if "choices" in raw:  # not ours to show
            whole = f"a whole answer of {len(body)} bytes that isn't streamed"
            return NotAnEventStreamError(info.content_type, whole)
    return NotAnEventStreamError(info.content_type, body[:2048].decode("utf-8", "replace"))
