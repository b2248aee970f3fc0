"""One request over HTTP, and what aiohttp says of it in our own errors.

aiohttp's exceptions end here: some of them hold the request's headers, the key
among them, so none is chained to ours but those of a connection that never was.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError, PayloadEncodingError
from attrs import field, frozen
from multidict import CIMultiDict
from yarl import URL

from chatstream import codec
from chatstream.arrival import Read, arrivals_of, read
from chatstream.auth import ApiKey, auth_headers, key_of, redact, secrets_in, without
from chatstream.errors import (
    BadRequestError,
    ChatStreamError,
    ConnectError,
    ConnectFailure,
    ConnectTimeoutError,
    InterruptedStreamError,
    ProtocolError,
    RequestError,
    one_line,
)
from chatstream.marks import ConnectionMarks
from chatstream.report import ArrivalSource
from chatstream.response import MAX_DOCUMENT, ResponseInfo, status_error

DRAIN_TIMEOUT = 0.1
"""Seconds to wait after ``[DONE]`` for the end of the body, to reuse the connection."""

OPENAI_HOST = "api.openai.com"

PROXY_REFUSES = 407

_LARGE = 1024 * 1024


@frozen(kw_only=True)
class Endpoint:
    """Where requests go, and with what."""

    base_url: URL
    api_key: ApiKey | None = field(repr=False)
    api_version: str | None
    proxy: URL | None = field(repr=False)
    """Its user and password are in it."""
    may_use_proxy: bool
    """Whether requests may go through a proxy: ours, the environment's, or of a session."""
    tls: ssl.SSLContext | None
    user_agent: str
    clock: Callable[[], int]
    http: Callable[[], aiohttp.ClientSession]
    """Gives the HTTP session of the running loop."""
    slots: Callable[[], asyncio.Semaphore | None]
    """Gives what bounds the requests in flight, if anything does."""

    _openai_url: URL = field(init=False)

    @_openai_url.default
    def _make_openai_url(self) -> URL:
        return self.base_url / "chat" / "completions"

    def url(self, model: str) -> URL:
        """Return where requests for *model* go."""
        url = self.base_url
        if self.api_version is None:
            return self._openai_url
        if not url.path.strip("/"):  # Azure: one path for each deployment
            if "/" in model or model in {".", ".."}:
                raise RequestError("model", "a path", "the name of a deployment")
            url = url / "openai" / "deployments" / model
        return (url / "chat" / "completions").with_query({"api-version": self.api_version})

    async def key(self, headers: Mapping[str, str]) -> str | None:
        """Return the key for a request; raise ``RequestError`` if there must be one."""
        key = await key_of(self.api_key)
        named = {name.lower() for name in headers}
        if not key and self.base_url.host == OPENAI_HOST and "authorization" not in named:
            raise RequestError("api_key", "nothing", "a key, or OPENAI_API_KEY in the environment")
        return key


class Exchange:
    """A request that can be sent, as often as it takes."""

    def __init__(
        self,
        endpoint: Endpoint,
        body: Mapping[str, Any],
        *,
        headers: Mapping[str, str],
        connect_timeout: float | None,
        usage_added: bool,
    ) -> None:
        self._endpoint = endpoint
        self._body = dict(body)
        self._headers = headers
        self._connect_timeout = connect_timeout
        self._usage_added = usage_added
        self._payload = codec.encode(body)
        self._key: str | None = None
        self._refusal = b""
        self._slots: asyncio.Semaphore | None = None
        self.model: str = body["model"]
        self.choices: int = body.get("n") or 1
        self.host = endpoint.base_url.host or ""

    def room(self) -> Awaitable[object] | None:
        """Return the wait for a place among the requests in flight, if there is one.

        Each :meth:`open` uses up one place; the end of its body gives it back.
        """
        self._slots = self._endpoint.slots()
        return None if self._slots is None else self._slots.acquire()

    async def open(self, marks: ConnectionMarks) -> HTTPBody:
        """Send the request and wait for the headers. Raises ``ChatStreamError``."""
        try:
            return await self._open(marks)
        except BadRequestError:
            refused = any(name in self._refusal for name in (b"stream_options", b"include_usage"))
            if not self._usage_added or not refused:
                raise
        # The server doesn't know an option that the caller didn't ask for.
        options = {k: v for k, v in self._body["stream_options"].items() if k != "include_usage"}
        self._body = {k: v for k, v in self._body.items() if k != "stream_options"}
        if options:
            self._body["stream_options"] = options
        self._payload = codec.encode(self._body)
        self._usage_added = False
        if (room := self.room()) is not None:
            await room
        return await self._open(marks)

    async def _open(self, marks: ConnectionMarks) -> HTTPBody:
        free = self._slots.release if self._slots is not None else _nothing
        try:
            response = await self._send(marks)
        except BaseException:
            free()
            raise
        marks.headers_ns = self._endpoint.clock()
        body = HTTPBody(response, self._endpoint.clock, free, self._secrets())
        body.complete(marks)
        if marks.reused and body.unasked:
            # aiohttp takes what a server sent on an idle connection for the answer
            # to the next request.
            body.abort()
            raise self._disconnected(marks)
        if 200 <= body.info.status < 300:  # noqa: PLR2004
            return body
        try:
            document = await body.document()
        except BaseException:
            body.abort()
            raise
        await body.release()
        proxy = self._endpoint.proxy
        if body.info.status == PROXY_REFUSES and proxy is not None:
            error: ChatStreamError = ConnectError("proxy", proxy.host or "", "status 407")
            error.retryable = False
        else:
            self._refusal = document
            error = status_error(body.info, document)
        del document  # some servers quote a key back, and tracebacks may show variables
        self.redact(error)
        raise error

    def redact(self, error: ChatStreamError) -> None:
        """Take keys out of an error, see :func:`chatstream.auth.redact`."""
        redact(error, self._secrets())

    def _secrets(self) -> list[str]:
        return [self._key or "", *secrets_in(self._headers)]

    async def _send(self, marks: ConnectionMarks) -> aiohttp.ClientResponse:
        endpoint = self._endpoint
        self._key = key = await endpoint.key(self._headers)
        headers = CIMultiDict(
            {
                # Compression would hold events back until a block is full.
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": endpoint.user_agent,
                **auth_headers(key, azure=endpoint.api_version is not None, given=self._headers),
            }
        )
        headers.update(self._headers)
        try:
            return await endpoint.http().post(
                endpoint.url(self.model),
                # aiohttp warns of bytes that are sent whole, from 1 MiB on.
                data=self._payload if len(self._payload) < _LARGE else io.BytesIO(self._payload),
                headers=headers,
                # A redirect would take the prompt and the key elsewhere.
                allow_redirects=False,
                timeout=_http_timeout(self._connect_timeout),
                proxy=endpoint.proxy,
                ssl=endpoint.tls if endpoint.tls is not None else True,
                raise_for_status=False,
                trace_request_ctx=marks,
            )
        except (aiohttp.ClientError, OSError) as error:
            failure = self._failure(error, marks)
            self.redact(failure)
            cause: BaseException | None = None
            if isinstance(error, aiohttp.ClientConnectorError):
                # What a connection that failed says holds no headers, but the
                # password of a proxy, if there may be one.
                cause = error.os_error if endpoint.may_use_proxy else error
        raise failure from cause

    def _failure(self, error: Exception, marks: ConnectionMarks) -> ChatStreamError:
        """Return our error for one that ended a request before its headers."""
        host = self.host
        match error:
            case aiohttp.ConnectionTimeoutError():
                return ConnectTimeoutError(self._connect_timeout or 0.0)
            case aiohttp.ClientProxyConnectionError():
                return ConnectError("proxy", error.host, error.os_error.strerror or "refused")
            case aiohttp.ClientHttpProxyError():
                return ConnectError("proxy", host, f"status {error.status}")
            case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
                return ConnectError("tls", host, _tls_detail(error))
            case aiohttp.ClientConnectorDNSError():
                proxied = self._endpoint.proxy is not None
                return (
                    ConnectError("proxy", error.host, "no address found")
                    if proxied
                    else (ConnectError("dns", host))
                )
            case aiohttp.ClientConnectorError():
                refused = isinstance(error.os_error, ConnectionRefusedError)
                reason: ConnectFailure = "refused" if refused else "unreachable"
                return ConnectError(reason, host, "" if refused else str(error.os_error))
            case aiohttp.ClientResponseError():
                # aiohttp's own words for an answer that isn't HTTP; its status
                # of 400 was never sent by anyone. From the second line on it
                # quotes what came.
                what = one_line(error.message.partition("\n")[0], 80).rstrip(":")
                return ProtocolError(f"the answer isn't HTTP: {what}")
            case aiohttp.InvalidURL():
                return RequestError("base_url", "what can't be requested", "an http or https URL")
            case _:
                proxy = self._endpoint.proxy
                if proxy and marks.connect_start_ns is not None and marks.acquired_ns is None:
                    return ConnectError("proxy", proxy.host or "", "connection closed")
                return self._disconnected(marks)

    def _disconnected(self, marks: ConnectionMarks) -> ConnectError:
        """Return the error for a connection that gave no answer to this request."""
        error = ConnectError("disconnected", self.host)
        error.reused = bool(marks.reused)
        return error


class HTTPBody:
    """The body of a response, and what can be done with its connection."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        clock: Callable[[], int],
        freed: Callable[[], None],
        secrets: Sequence[str] = (),
    ) -> None:
        # A copy, as aiohttp's view can't be pickled.
        headers = without(secrets, CIMultiDict(response.headers))
        self.info = ResponseInfo(response.status, headers)
        self._response = response
        self._arrivals = arrivals_of(response, clock)
        self._freed: Callable[[], None] | None = freed

    @property
    def source(self) -> ArrivalSource:
        """Who tells when the bytes arrived."""
        return self._arrivals.source

    @property
    def paused(self) -> float:
        """Seconds in which reading had stopped because nobody took the bytes."""
        return self._arrivals.paused

    @property
    def unasked(self) -> bool:
        """Whether it was there before its request was."""
        return self._arrivals.unasked

    def complete(self, marks: ConnectionMarks) -> None:
        """Fill in the marks that the connection itself knows best."""
        self._arrivals.complete(marks)

    def take(self) -> list[Read]:
        """Return what has come since; an empty list is the end.

        Raises ``InterruptedStreamError`` or ``ProtocolError``.
        """
        try:
            return self._arrivals.take()
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            failure = _interruption(error)
            # aiohttp raises one and the same error whenever a body is closed under its
            # reader. Where it was raised each time, with all that is there, would pile up.
            error.__traceback__ = error.__context__ = None
        except RuntimeError:  # so aiohttp says that its session was closed meanwhile
            failure = InterruptedStreamError(0, "connection closed")
        raise failure

    def wait(self) -> Awaitable[None] | None:
        """Return what to wait for before :meth:`take`, ``None`` if nothing."""
        return self._arrivals.wait()

    def linger(self, seconds: float) -> Awaitable[None] | None:
        """Return the wait while bytes gather, ``None`` if they are to be taken at once."""
        return self._arrivals.linger(seconds)

    async def document(self) -> bytes:
        """Return the start of a body that is no stream, however it ends."""
        data = bytearray()
        try:
            async with asyncio.timeout(5):
                while len(data) < MAX_DOCUMENT and (reads := await read(self)):
                    for each in reads:
                        data += each.data
        except (ChatStreamError, TimeoutError):
            pass  # what came explains more than how it broke off
        return bytes(data[:MAX_DOCUMENT])

    async def release(self) -> None:
        """Give the connection back for reuse, if the body ends soon."""
        if self._freed is None:
            return
        try:
            content = self._response.content
            if not content.at_eof():
                async with asyncio.timeout(DRAIN_TIMEOUT):
                    await self.document()
            # After a 101 that nobody asked for, aiohttp keeps the connection.
            if content.at_eof() and self._response.closed:
                self._free()
        except TimeoutError:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the connection; who waits need wait no longer."""
        if self._freed is not None:
            self._response.close()
            self._free()

    def _free(self) -> None:
        freed, self._freed = self._freed, None
        self._arrivals.detach()
        if freed is not None:
            freed()


@cache
def _http_timeout(connect: float | None) -> aiohttp.ClientTimeout:
    # aiohttp's default ends every stream after five minutes.
    return aiohttp.ClientTimeout(total=None, connect=connect)


def _nothing() -> None:
    pass


def _tls_detail(error: Exception) -> str:
    """Say what was wrong with a certificate, or with the handshake."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    return getattr(cause, "verify_message", None) or str(cause or type(error).__name__)


def _interruption(error: Exception) -> ChatStreamError:
    """Return our error for one that ended a body."""
    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(cause, ContentEncodingError) for cause in causes):
        return ProtocolError("the body can't be decompressed")
    # A body that is cut short has a PayloadEncodingError for a cause.
    unreadable = (
        isinstance(cause, HttpProcessingError) and not isinstance(cause, PayloadEncodingError)
        for cause in causes
    )
    if any(unreadable):
        return ProtocolError("the body isn't in chunks as HTTP has them")
    if isinstance(error, ConnectionResetError | aiohttp.ClientOSError):
        return InterruptedStreamError(0, "connection reset")
    if isinstance(error, aiohttp.ClientPayloadError):
        return InterruptedStreamError(0, "connection closed in the middle of the body")
    return InterruptedStreamError(0, "connection closed")
