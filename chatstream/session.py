"""A session: connections to one server, on which streams are opened."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import ssl
import time
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from chatstream.arrival import StampedResponse
from chatstream.auth import ApiKey, Secret, is_secret
from chatstream.completion import ChatCompletion
from chatstream.errors import RequestError
from chatstream.exchange import Endpoint, Exchange
from chatstream.phases import phase_trace
from chatstream.report import Observer
from chatstream.request import ChatParams, ChatRequest, StreamOptions, wire
from chatstream.retry import RetryPolicy
from chatstream.rules import check, check_json
from chatstream.sockets import stamped_socket
from chatstream.sse import DEFAULT_MAX_EVENT_SIZE
from chatstream.stream import ChatStream
from chatstream.timeouts import Timeouts
from chatstream.whole import MAX_ANSWER, WholeAnswer

DEFAULT_BASE_URL = "https://api.openai.com/v1"
USER_AGENT = "chatstream"


class ChatSession:
    """Connections to one chat-completions server.

    Can be made at import time, outside a loop: connections open at first use.
    Close it with ``async with`` or :meth:`aclose`.

    ``base_url`` and ``api_key`` default to ``OPENAI_BASE_URL`` and
    ``OPENAI_API_KEY``; the key may be a callable, sync or async, that is asked
    before each attempt. ``http`` is the caller's own ``aiohttp.ClientSession``,
    never closed here; make it with :func:`stamping_session_options` for true
    arrival times. ``max_in_flight`` bounds the requests under way at a time.
    ``validate=False`` sends parameters unchecked, for servers with other ranges.
    ``api_version`` speaks to Azure: the key goes in the ``api-key`` header, and a
    base URL without a path is completed with the deployment named like the model.
    ``max_event_size`` bounds the bytes of one event, ``max_response_size`` those of
    a whole answer, after decompression; by default only time bounds the latter.
    ``proxy`` is a URL; with ``trust_env`` the environment's proxies and
    ``.netrc`` are used. ``tls`` is an ``ssl.SSLContext`` for own certificates.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: ApiKey | None = None,
        *,
        http: aiohttp.ClientSession | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 frozen
        observers: Sequence[Observer] = (),
        headers: Mapping[str, str] | None = None,
        max_in_flight: int | None = None,
        validate: bool = True,
        api_version: str | None = None,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        trust_env: bool = False,
        max_event_size: int = DEFAULT_MAX_EVENT_SIZE,
        max_response_size: int | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        if base_url is None:
            base_url = os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL
        if api_key is None:
            api_key = os.environ.get("OPENAI_API_KEY")
        if isinstance(api_key, str):
            api_key = Secret(api_key)
        for name, limit in (
            ("max_in_flight", max_in_flight),
            ("max_event_size", max_event_size),
            ("max_response_size", max_response_size),
        ):
            if limit is not None and limit < 1:
                raise RequestError(name, str(limit), "1 or more, or None")
        self._endpoint = Endpoint(
            base_url=_checked_url(base_url),
            api_key=api_key,
            api_version=api_version,
            proxy=None if proxy is None else _checked_proxy(proxy),
            may_use_proxy=proxy is not None or trust_env or http is not None,
            tls=tls,
            user_agent=USER_AGENT,
            clock=clock,
            http=self._http_of_loop,
            slots=self._slots_of_loop,
        )
        self._headers = _checked_headers("headers", headers)
        self._timeouts = timeouts
        self._retry = retry
        self._observers = tuple(observers)
        self._validate = validate
        self._trust_env = trust_env
        self._max_event_size = max_event_size
        self._max_response_size = max_response_size
        self._max_in_flight = max_in_flight
        self._clock = clock

        self._given_http = http
        self._http: aiohttp.ClientSession | None = None
        self._http_life: AsyncGenerator[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots: asyncio.Semaphore | None = None
        self._streams: weakref.WeakSet[ChatStream] = weakref.WeakSet()
        self._closed = False
        url = self._endpoint.base_url
        if api_key and url.scheme == "http" and not _is_loopback(url):
            message = f"the API key goes unencrypted to {url.host}"
            warnings.warn(message, UserWarning, stacklevel=2)

    def __repr__(self) -> str:
        return f"<ChatSession {self.base_url}>"

    @property
    def base_url(self) -> str:
        """The URL that paths are added to."""
        return str(self._endpoint.base_url)

    async def __aenter__(self) -> Self:
        """Nothing is opened yet; leaving closes what is open by then."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the session, see :meth:`aclose`."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; streams still running end with verdict ``closed``."""
        self._closed = True
        for stream in tuple(self._streams):
            if stream.entered:  # else it says so when it is
                await stream.aclose()
        self._http = None
        life, self._http_life = self._http_life, None
        if life is not None:
            await life.aclose()

    # --- Requests ------------------------------------------------------------

    def stream(
        self,
        request: ChatRequest | Mapping[str, Any] | None = None,
        *,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        observers: Sequence[Observer] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        validate: bool | None = None,
        scheduled_ns: int | None = None,
        **params: Unpack[ChatParams],
    ) -> ChatStream:
        """Return the stream of an answer; ``async with`` sends the request.

        *request* and keyword parameters are merged, the latter win. Provider
        parameters go into *extra_body*. *observers* are told besides the
        session's. *scheduled_ns* is when a load generator had planned the call,
        on the clock of ``time.perf_counter_ns``.

        Raises ``RequestError`` for a wrong request, ``RuntimeError`` if the
        session is closed; entering raises the other ``ChatStreamError``s.
        """
        began_ns = self._clock()
        chat = self._request(request, params, extra_body, validate)
        stream = ChatStream(
            self._exchange(chat, extra_headers, validate, timeouts, retry, stream=True),
            timeouts=timeouts or self._timeouts,
            retry=retry or self._retry,
            observers=self._observers + tuple(observers or ()),
            max_event_size=self._max_event_size,
            max_response_size=self._max_response_size,
            clock=self._clock,
            preparation_ns=self._clock() - began_ns,
            scheduled_ns=scheduled_ns,
        )
        self._streams.add(stream)
        return stream

    async def create(
        self,
        request: ChatRequest | Mapping[str, Any] | None = None,
        *,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        observers: Sequence[Observer] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        validate: bool | None = None,
        scheduled_ns: int | None = None,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion:
        """Return an answer that isn't streamed; same parameters as :meth:`stream`.

        Such an answer comes all at once, when its last token is made: the timeout
        ``first_token`` runs until it begins to come. Observers get a report
        without the latencies of a stream.
        """
        if params.get("stream_options") is not None and self._validates(validate):
            seen = "options of a stream"
            raise RequestError("stream_options", seen, "nothing where nothing is streamed")
        chat = self._request(request, params, extra_body, validate)
        answer = WholeAnswer(
            self._exchange(chat, extra_headers, validate, timeouts, retry, stream=False),
            timeouts=timeouts or self._timeouts,
            retry=retry or self._retry,
            observers=self._observers + tuple(observers or ()),
            max_size=self._max_response_size or MAX_ANSWER,
            clock=self._clock,
            scheduled_ns=scheduled_ns,
        )
        return await answer.get()

    def _request(
        self,
        request: ChatRequest | Mapping[str, Any] | None,
        params: Mapping[str, Any],
        extra_body: Mapping[str, Any] | None,
        validate: bool | None,  # noqa: FBT001 passed on
    ) -> ChatRequest:
        if self._closed:
            msg = "the session is closed"
            raise RuntimeError(msg)
        return ChatRequest.of(
            request, params, extra_body=extra_body, validate=self._validates(validate)
        )

    def _validates(self, validate: bool | None) -> bool:  # noqa: FBT001 passed on
        return self._validate if validate is None else validate

    def _exchange(
        self,
        chat: ChatRequest,
        extra_headers: Mapping[str, str] | None,
        validate: bool | None,  # noqa: FBT001 passed on
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
        *,
        stream: bool,
    ) -> Exchange:
        body = wire(chat, stream=stream)
        if self._validates(validate):
            check(body, stream=stream, stacklevel=4)
        else:
            check_json(body)
        headers = _merged(self._headers, _checked_headers("extra_headers", extra_headers))
        name = (retry or self._retry).idempotency_header
        if name is not None and name not in headers:
            unique = {name: os.urandom(16).hex()}
            headers = _merged(headers, _checked_headers("idempotency_header", unique))
        return Exchange(
            self._endpoint,
            body,
            headers=headers,
            connect_timeout=(timeouts or self._timeouts).connect,
            usage_added=stream and not _asks_for_usage(chat.stream_options),
        )

    def _enter_loop(self) -> None:
        """Make the running loop ours; raise ``RuntimeError`` if that can't be, or if closed."""
        if self._closed:
            msg = "the session is closed"
            raise RuntimeError(msg)
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            msg = "the session belongs to another event loop, which is still open"
            raise RuntimeError(msg)
        # What was open on a loop that is closed went with it.
        self._loop, self._http, self._slots = loop, None, None

    def _http_of_loop(self) -> aiohttp.ClientSession:
        """Return the HTTP session of the running loop."""
        self._enter_loop()
        if self._given_http is not None:
            return self._given_http
        if self._http is None:
            self._http = aiohttp.ClientSession(
                **stamping_session_options(),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
            )
            self._http_life = _life(self._http)
            with contextlib.suppress(StopIteration):
                self._http_life.__anext__().send(None)
        return self._http

    def _slots_of_loop(self) -> asyncio.Semaphore | None:
        """Return what bounds the requests in flight on the running loop."""
        self._enter_loop()
        if self._max_in_flight is not None and self._slots is None:
            self._slots = asyncio.Semaphore(self._max_in_flight)
        return self._slots


def _asks_for_usage(options: StreamOptions | Mapping[str, Any] | None) -> bool:
    """Whether the caller said that usage is wanted, or isn't."""
    if isinstance(options, StreamOptions):
        return options.include_usage is not None
    return options is not None and options.get("include_usage") is not None


async def _life(http: aiohttp.ClientSession) -> AsyncGenerator[None]:
    """Close *http* when told to, at the latest when its loop shuts down.

    A session made at import time outlives the loops of several ``asyncio.run``.
    What it leaves open can't be closed once the loop is; but at its end a loop
    closes the asynchronous generators that began on it.
    """
    try:
        yield
    finally:
        await http.close()


def stamping_session_options() -> dict[str, Any]:
    """Return the arguments that make an ``aiohttp.ClientSession`` tell arrival times.

    Call it in a running loop, as the connector belongs to one::

        http = aiohttp.ClientSession(**stamping_session_options())
        session = ChatSession(http=http)

    There is no ceiling on connections; aiohttp's default of 100 would make
    streams wait for each other.
    """
    return {
        "connector": aiohttp.TCPConnector(limit=0, socket_factory=stamped_socket),
        "response_class": StampedResponse,
        "trace_configs": [phase_trace()],
    }


def _checked_url(text: str) -> URL:
    """Return a base URL; raise ``RequestError`` if paths can't be added to it."""
    allowed = "an http or https URL with a host, without user, query or fragment"
    try:
        url = URL(text)
        good = url.scheme in {"http", "https"} and bool(url.host)
        port = url.port  # raises if it is none
    except (ValueError, TypeError):
        good, port = False, None
    if not good or port is None or not _HOST.fullmatch(url.raw_host or ""):
        raise RequestError("base_url", "something else", allowed)
    if url.user is not None or url.password is not None:
        raise RequestError("base_url", "a URL with a user in it", allowed)
    if url.query_string or url.fragment:
        raise RequestError("base_url", "a URL with a query or fragment", allowed)
    return URL(str(url).rstrip("/"))


def _checked_proxy(text: str) -> URL:
    """Return a proxy's URL, which may hold a user and password."""
    try:
        url = URL(text)
    except (ValueError, TypeError):
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise RequestError("proxy", "something else", "an http or https URL")
    return url


def _is_loopback(url: URL) -> bool:
    host = url.host or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


_HOST = re.compile(r"[\w.~:%\[\]-]+", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


def _checked_headers(parameter: str, headers: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return *headers*; raise ``RequestError``, which shows none of them, if one can't be sent."""
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise RequestError(parameter, "something else", "the names of headers")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise RequestError(f"{parameter}[{name!r}]", "something else", "str without line ends")
    given = (headers or {}).items()
    return CIMultiDict((name, Secret(value) if is_secret(name) else value) for name, value in given)


def _merged(headers: Mapping[str, str], others: Mapping[str, str]) -> Mapping[str, str]:
    """Return both; of headers that differ in case only, those of *others*."""
    if not others:
        return headers
    both = CIMultiDict(headers)
    both.update(others)
    return both
