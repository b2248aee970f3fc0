"""A chat server that runs in your event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl as tls
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from chatstream.testing.backend import Backend, RecordedRequest
from chatstream.testing.connection import Connection
from chatstream.testing.profile import Profile
from chatstream.testing.traffic import Traffic

_BACKLOG = 4096


class SimulatedServer:
    """An OpenAI-compatible chat server on this host, at a free port if none is given.

    ``async with`` starts and closes it; so do ``start`` and ``aclose``. It
    can run once.

    ``api_key``, if given, is asked of each request. With ``truth`` each chunk
    ends in a field ``sent_ns``: ``clock()`` just before the write that sends
    it; a response has a header ``x-simulate-received-ns``: ``clock()`` when
    the request was whole.

    A request's header ``x-simulate-status: 429`` gets that status, with
    ``x-simulate-retry-after: 2`` as its ``retry-after``. The model
    ``no-such-model`` isn't there; every other is.
    """

    def __init__(
        self,
        profile: Profile | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: tls.SSLContext | None = None,
        api_key: str | None = None,
        truth: bool = False,
        models: tuple[str, ...] = ("simulated",),
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._backend = Backend(
            Profile() if profile is None else profile,
            api_key=api_key,
            truth=truth,
            models=models,
            clock=clock,
        )
        self._traffic = Traffic()
        self._host = host
        self._port = port
        self._ssl = ssl
        self._server: asyncio.Server | None = None

    async def start(self) -> Self:
        """Listen. ``OSError`` if the port is taken."""
        if self._server is not None or self._traffic.closed:
            msg = "a simulated server runs once"
            raise RuntimeError(msg)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._backend, self._traffic, loop),
            self._host,
            self._port,
            ssl=self._ssl,
            backlog=_BACKLOG,
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def aclose(self) -> None:
        """Stop listening, cut every connection, return when all are gone."""
        server, self._server = self._server, None
        if server is None:
            return
        self._traffic.closed = True
        # What was accepted a moment ago becomes a connection in the next turns
        # of the loop, and asyncio fails on it if its server is closed by then.
        loop = asyncio.get_running_loop()
        for listener in server.sockets:
            with contextlib.suppress(NotImplementedError):
                loop.remove_reader(listener.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        if sys.version_info >= (3, 13) and isinstance(server, asyncio.Server):
            server.abort_clients()  # also those in the middle of a TLS handshake
        for connection in tuple(self._traffic.open):
            connection.abort()
        while self._traffic.open:
            await self._traffic.change()
        await asyncio.sleep(0)  # a socket is closed after its protocol

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        return self._port

    @property
    def origin(self) -> str:
        """Scheme, host and port, as in ``http://127.0.0.1:8000``."""
        anywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104, only compared
        host = anywhere.get(self._host, self._host)
        scheme = "http" if self._ssl is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"{self.origin}/v1"

    @property
    def profile(self) -> Profile:
        """How it behaves; set it at any time, for the requests from then on."""
        return self._backend.profile

    @profile.setter
    def profile(self, profile: Profile) -> None:
        self._backend.profile = profile

    @property
    def requests(self) -> list[RecordedRequest]:
        """The newest 10,000 requests (or 64 MiB of bodies), oldest first."""
        return self._backend.recorded()

    def forget_requests(self) -> None:
        """Start ``requests`` anew."""
        self._backend.forget()

    @property
    def connections(self) -> int:
        """Connections made so far."""
        return self._traffic.connections

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        return len(self._traffic.open)

    @property
    def open_streams(self) -> int:
        """Answers under way now, streamed or not."""
        return self._traffic.answering

    @property
    def abandoned_streams(self) -> int:
        """Answers so far whose client left before the end."""
        return self._traffic.abandoned

    async def until(self, condition: Callable[[SimulatedServer], bool]) -> None:
        """Return when *condition* of this server is true.

        It is asked again when a connection or an answer begins or ends::

            await server.until(lambda s: s.open_streams == 0)
        """
        while not condition(self):
            await self._traffic.change()


def print_line(text: str) -> None:
    """Write a line to standard output at once, even if that is a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def serve(
    profile: Profile | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    ssl: tls.SSLContext | None = None,
    api_key: str | None = None,
    truth: bool = False,
    models: tuple[str, ...] = ("simulated",),
    announce: Callable[[str], None] = print_line,
) -> None:
    """Run a ``SimulatedServer`` until SIGINT or SIGTERM.

    *announce* gets its base URL once it listens. By default a line on standard
    output tells it.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    server = SimulatedServer(
        profile, host=host, port=port, ssl=ssl, api_key=api_key, truth=truth, models=models
    )
    with _on_signal(loop, stopped.set):
        async with server:
            announce(server.base_url)
            await stopped.wait()


@contextlib.contextmanager
def _on_signal(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> Iterator[None]:
    signals = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in signals:
            loop.add_signal_handler(number, act)
    except NotImplementedError:  # pragma: no cover; Windows: Ctrl-C cancels, by asyncio.run
        yield
        return
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
