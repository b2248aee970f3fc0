"""Hands a stream on as a response of Starlette, and so of FastAPI.

::

    @app.post("/chat")
    async def chat(question: Question) -> Response:
        return StreamResponse(session.stream(model="m", messages=question.messages))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chatstream.relay import asgi
from chatstream.relay.frames import OPENAI, Format
from chatstream.relay.handover import Relayed
from chatstream.stream import ChatStream

try:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
except ModuleNotFoundError as error:
    _message = f"chatstream.relay.starlette needs {error.name}: pip install starlette"
    raise ModuleNotFoundError(_message, name=error.name) from error


class StreamResponse(Response):
    """An :class:`chatstream.relay.asgi.StreamResponse` that Starlette knows as one of its own.

    Its status is settled when the first token has come. Headers and cookies can be set
    until it is returned.
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
        super().__init__(headers=headers, media_type="text/event-stream")
        del self.headers["content-length"]  # Starlette's, of no content
        self._answer = asgi.StreamResponse(
            stream,
            format=format,
            heartbeat=heartbeat,
            send_timeout=send_timeout,
            relayed=relayed,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        self._answer.raw_headers = self.raw_headers
        await self._answer(scope, receive, send)
        if self.background is not None:
            await self.background()
