"""Hands a stream on as an ASGI application: one that answers one request.

The spec: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from chatstream.relay.frames import OPENAI, Format
from chatstream.relay.handover import ClientGoneError, Handover, Relayed
from chatstream.stream import ChatStream

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class StreamResponse:
    """Answers with *stream*, which is what ``session.stream(…)`` returns.

    To be awaited with ``scope``, ``receive`` and ``send`` when the request's body was read.
    See :func:`chatstream.relay.web.respond` for what it does and the other arguments.
    """

    def __init__(
        self,
        stream: ChatStream,
        *,
        format: Format = OPENAI,  # noqa: A002 what it is
        heartbeat: float = 15.0,
        send_timeout: float | None = 60.0,
        headers: Mapping[str, str] | None = None,
        relayed: Callable[[Relayed], None] | None = None,
    ) -> None:
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in (headers or {}).items()
        ]
        """Sent besides those of an event stream."""
        self._stream = stream
        self._format = format
        self._heartbeat = heartbeat
        self._send_timeout = send_timeout
        self._relayed = relayed

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:  # noqa: ARG002 ASGI's
        """Answer the request."""
        await Handover(
            self._stream,
            _ASGIClient(receive, send, self.raw_headers),
            self._format,
            heartbeat=self._heartbeat,
            send_timeout=self._send_timeout,
            relayed=self._relayed,
        ).run()


class _ASGIClient:
    """The client of an ASGI server. Servers say nothing when what is sent goes nowhere."""

    def __init__(self, receive: Receive, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head."""
        ours = {
            name.lower().encode("latin-1"): value.encode("latin-1")
            for name, value in headers.items()
        }
        raw = [*(pair for pair in self._headers if pair[0] not in ours), *ours.items()]
        await self._tell({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        """Send a part of the body; the server makes us wait while too much is unsent."""
        await self._tell({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        """End the body."""
        await self._tell({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError as error:  # since version 2.4 of the spec
            raise ClientGoneError from error

    async def gone(self) -> None:
        """Wait until the server says that the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
