"""What can go wrong, one class per thing a caller would do differently.

::

    ChatStreamError
    ├── RequestError (ValueError)       fix the call: nothing was sent
    ├── ConnectError                    no connection: refused, DNS, TLS, proxy
    ├── StreamTimeoutError (TimeoutError)
    │   ├── ConnectTimeoutError         no connection in time
    │   ├── FirstTokenTimeoutError      connected, but no token in time
    │   ├── IdleTimeoutError            tokens came, then none for too long
    │   └── TotalTimeoutError           the whole answer took too long
    ├── StatusError                     the server said no
    │   ├── BadRequestError             400, 413, 422: shorten or fix the request
    │   ├── AuthenticationError         401: fix the key
    │   ├── PermissionDeniedError       403
    │   ├── NotFoundError               404: fix the model or the URL
    │   ├── RateLimitError              429: wait ``retry_after`` seconds
    │   ├── ServerError                 5xx: try later
    │   └── RedirectError               3xx: not followed; fix the base URL
    ├── ProtocolError                   the server doesn't speak as it should
    │   ├── NotAnEventStreamError       a 200 that is a page, JSON, or nothing
    │   ├── EventTooLargeError          an event without an end
    │   ├── ResponseTooLargeError       more than was allowed
    │   └── DecodeError                 an event that can't be read; ``path``
    ├── InterruptedStreamError          cut in transit
    └── UpstreamError                   an error object inside the stream

An error keeps facts as attributes and builds its sentence from them when asked.
No sentence holds the API key, the prompt or the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from chatstream.completion import ChatCompletion
    from chatstream.report import Attempt, StreamReport
    from chatstream.response import ResponseInfo
    from chatstream.sse import ServerSentEvent


def one_line(text: str, limit: int = 300) -> str:
    """*text* as one printable line of at most *limit* characters.

    What a server sent may hold control sequences for a terminal or a log.
    """
    start = text[: limit * 4]
    clean = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    if len(clean) <= limit and len(start) == len(text):
        return clean
    return clean[: limit - 1] + "…"


class ChatStreamError(Exception):
    """Anything chatstream raises on purpose, except misuse (``RuntimeError``).

    ``partial`` is what had arrived of the answer, ``report`` its latencies,
    ``request_id`` the server's name for the request, ``attempts`` every try, and
    ``tail`` the last bytes of the body as they came, at most a KiB.
    They are filled in when the error leaves a stream, and are empty before.
    """

    partial: ChatCompletion | None = None
    report: StreamReport | None = None
    request_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    tail: bytes = b""
    retryable: bool = False
    """Whether the same request may succeed when it is sent again."""


class RequestError(ChatStreamError, ValueError):
    """The request is wrong; nothing was sent.

    ``parameter`` is its path (``messages[0].content``), ``seen`` a short
    description of the value, ``allowed`` what it should have been.
    """

    def __init__(self, parameter: str, seen: str, allowed: str) -> None:
        super().__init__(parameter, seen, allowed)
        self.parameter = parameter
        self.seen = seen
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.parameter}: expected {self.allowed}, got {self.seen}"


ConnectFailure = Literal["refused", "unreachable", "dns", "tls", "proxy", "disconnected"]


class ConnectError(ChatStreamError):
    """No answer began: the connection failed, or was closed before a byte came.

    ``reason`` says in which of the ways, ``retryable`` whether trying again
    can help (it can't for a certificate that isn't trusted). ``reused`` says that
    the connection had served before: the server's end of it may have been on its
    way when the request was, which is no reason to wait before the next try.
    """

    reused: bool = False

    def __init__(self, reason: ConnectFailure, host: str, detail: str = "") -> None:
        super().__init__(reason, host, detail)
        self.reason = reason
        self.host = host
        self.detail = one_line(detail)
        self.retryable = reason != "tls"

    def __str__(self) -> str:
        what = {
            "refused": "connection refused by",
            "unreachable": "can't reach",
            "dns": "can't find the address of",
            "tls": "no trusted TLS connection to",
            "proxy": "the proxy gave no connection to",
            "disconnected": "connection closed before an answer by",
        }[self.reason]
        return f"{what} {self.host}" + (f": {self.detail}" if self.detail else "")


class StreamTimeoutError(ChatStreamError, TimeoutError):
    """A clock of ``Timeouts`` ran out; ``limit`` is its setting in seconds."""

    retryable = True
    _what = "no answer"

    def __init__(self, limit: float) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"{self._what} within {self.limit:g} s"


class ConnectTimeoutError(StreamTimeoutError):
    """No connection within ``Timeouts.connect``."""

    _what = "no connection"


class FirstTokenTimeoutError(StreamTimeoutError):
    """No token-bearing event within ``Timeouts.first_token`` of sending."""

    _what = "no first token"


class IdleTimeoutError(StreamTimeoutError):
    """No token-bearing event within ``Timeouts.idle`` after the one before."""

    _what = "no further token"


class TotalTimeoutError(StreamTimeoutError):
    """The answer wasn't finished within ``Timeouts.total``."""

    retryable = False
    _what = "the answer wasn't finished"


class StatusError(ChatStreamError):
    """The server answered with an error status.

    ``code``, ``type``, ``param`` and ``message`` are those of its error object,
    where it sent one; else ``message`` is the start of the body, cleaned.
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 the field's name on the wire
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.message = one_line(message)
        super().__init__(status, self.message)
        self.code = code
        self.type = type
        self.param = param
        self.retry_after = retry_after
        self.response: ResponseInfo | None = None
        """Status and headers, rate limits among them."""
        self.retryable = status in {408, 409, 429} or status >= 500  # noqa: PLR2004

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.status, self.message), self.__dict__)

    def __str__(self) -> str:
        name = ", ".join(one_line(str(part), 80) for part in (self.type, self.code) if part)
        head = f"HTTP {self.status}" + (f" ({name})" if name else "")
        return f"{head}: {self.message}" if self.message else head

    @classmethod
    def of(cls, status: int) -> type[StatusError]:
        """Return the class for *status*: the one that says what to do."""
        if 300 <= status < 400:  # noqa: PLR2004
            return RedirectError
        if status >= 500:  # noqa: PLR2004
            return ServerError
        return {
            400: BadRequestError,
            401: AuthenticationError,
            403: PermissionDeniedError,
            404: NotFoundError,
            413: BadRequestError,
            422: BadRequestError,
            429: RateLimitError,
        }.get(status, StatusError)


class BadRequestError(StatusError):
    """The server can't take this request as it is (400, 413, 422)."""


class AuthenticationError(StatusError):
    """The key is missing or wrong (401)."""


class PermissionDeniedError(StatusError):
    """The key may not do this (403)."""


class NotFoundError(StatusError):
    """No such model, deployment or path (404)."""


class RateLimitError(StatusError):
    """Too many requests, or the quota is used up (429).

    ``retry_after`` is the wait in seconds the server asked for, or ``None``.
    """


class ServerError(StatusError):
    """The server failed (5xx)."""


class RedirectError(StatusError):
    """The server wants the request elsewhere (3xx); it isn't followed.

    A redirect would carry prompt and key to another place. ``message`` names
    the scheme and host it points at, nothing more.
    """


class ProtocolError(ChatStreamError):
    """The server broke the rules of HTTP or of event streams."""

    retryable = True


class NotAnEventStreamError(ProtocolError):
    """A successful answer that isn't an event stream.

    ``seen`` is the start of what came, cleaned, at most 512 characters.
    """

    retryable = False

    def __init__(self, content_type: str | None, seen: str) -> None:
        self.content_type = content_type
        self.seen = one_line(seen, 512)
        super().__init__(content_type, self.seen)

    def __str__(self) -> str:
        kind = one_line(self.content_type, 80) if self.content_type else "no content type"
        what = f"{kind}: {self.seen}" if self.seen else f"{kind}, and no event at all"
        return f"expected text/event-stream, got {what}"


class EventTooLargeError(ProtocolError):
    """The server sent more bytes without ending an event than we keep.

    ``events`` are those that came whole before it in the same read.
    """

    retryable = False

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit
        self.events: list[ServerSentEvent] = []

    def __str__(self) -> str:
        return f"event has {self.size} bytes and no end, limit is {self.limit}"


class ResponseTooLargeError(ProtocolError):
    """The server sent more than ``max_response_size`` bytes."""

    retryable = False

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"the response has more than {self.limit} bytes, which was the limit"


class DecodeError(ProtocolError):
    """An event or answer that can't be read.

    ``path`` says where in the JSON (``$.choices[0].index``; ``$`` when the
    whole isn't JSON), ``expected`` and ``seen`` what was wrong there.
    """

    def __init__(self, path: str, expected: str, seen: str) -> None:
        self.path = path
        self.expected = expected
        self.seen = one_line(seen, 120)
        super().__init__(path, expected, self.seen)

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.seen}"


class InterruptedStreamError(ChatStreamError):
    """The answer was cut in transit: reset, or ended before it was finished.

    ``events`` is the number of events that had come, ``detail`` how it ended.
    """

    retryable = True

    def __init__(self, events: int, detail: str = "") -> None:
        super().__init__(events, detail)
        self.detail = one_line(detail)
        self.after(events)

    def after(self, events: int) -> None:
        """Note how many events had come, which only the stream knows."""
        self.events = events
        self.args = (events, self.detail)

    def __str__(self) -> str:
        plural = "" if self.events == 1 else "s"
        how = self.detail or "stream ended without finish_reason or [DONE]"
        return f"{how}, after {self.events} event{plural}"


class UpstreamError(ChatStreamError):
    """The server reported an error inside the stream, after a good start."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 the field's name on the wire
    ) -> None:
        self.message = one_line(message)
        super().__init__(self.message)
        self.code = code
        self.type = type
        self.retryable = True

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.message,), self.__dict__)

    def __str__(self) -> str:
        name = ", ".join(one_line(part, 80) for part in (self.type, self.code) if part)
        what = self.message or "no message"
        return f"the server reported an error in the stream: {what}" + (
            f" ({name})" if name else ""
        )
