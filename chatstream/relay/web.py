"""Hands a stream on from a handler of aiohttp.web."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from chatstream.relay.frames import OPENAI, Format
from chatstream.relay.handover import ClientGoneError, Handover, Relayed
from chatstream.stream import ChatStream

_LOOK = 0.25
"""Seconds between two looks at whether the client is there: aiohttp tells nobody who isn't
writing that a connection was lost."""


async def respond(
    request: web.BaseRequest,
    stream: ChatStream,
    *,
    format: Format = OPENAI,  # noqa: A002 what it is
    heartbeat: float = 15.0,
    send_timeout: float | None = 60.0,
    headers: Mapping[str, str] | None = None,
    relayed: Callable[[Relayed], None] | None = None,
) -> web.StreamResponse:
    """Answer *request* with *stream* until it ends, and return the response.

    *stream* is what ``session.stream(…)`` returns; it is closed as soon as the client has
    gone. What goes wrong before the first token becomes a status with an error object, and
    after it an event. A comment goes out after *heartbeat* seconds of silence; a client that
    takes nothing for *send_timeout* seconds is hung up on. *headers* are sent besides those
    of an event stream. *relayed* is told how it went, also if the handler was cancelled.
    """
    client = _WebClient(request, headers or {})
    found = await Handover(
        stream, client, format, heartbeat=heartbeat, send_timeout=send_timeout, relayed=relayed
    ).run()
    if found.client_gone and request.transport is not None:
        request.transport.abort()  # or aiohttp would wait for it to take the rest
    return client.response


class _WebClient:
    """The client of a request to aiohttp.web."""

    def __init__(self, request: web.BaseRequest, headers: Mapping[str, str]) -> None:
        self._request = request
        self._headers = headers
        self.response = web.StreamResponse()

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head."""
        self.response.set_status(status)
        self.response.headers.update({**self._headers, **headers})
        await self._told(self.response.prepare(self._request))

    async def write(self, data: bytes) -> None:
        """Send a part of the body, and wait while too much is unsent."""
        await self._told(self.response.write(data))

    async def finish(self) -> None:
        """End the body."""
        await self._told(self.response.write_eof())

    async def _told(self, writing: Awaitable[object]) -> None:
        try:
            await writing
        except ConnectionError as error:
            raise ClientGoneError from error

    async def gone(self) -> None:
        """Wait until the connection is lost."""
        request = self._request
        while (transport := request.transport) is not None and not transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)
