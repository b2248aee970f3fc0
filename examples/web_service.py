"""A chat page and the service behind it.

python examples/web_service.py                                # against a simulated server
OPENAI_API_KEY=… python examples/web_service.py gpt-4o-mini   # against OpenAI's

Then open http://127.0.0.1:8080 in a browser. PORT sets another port; 0 takes a free one.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from chatstream import ChatSession, RequestError, system
from chatstream.relay import TEXT, Relayed, refusal_of
from chatstream.relay.web import respond
from chatstream.testing import Profile, SimulatedServer

PAGE = Path(__file__).parent / "chat_page"
SESSION = web.AppKey("SESSION", ChatSession)
MODEL = web.AppKey("MODEL", str)
TURNS = 20
"""What the model is told of a conversation: its newest messages."""


async def chat(request: web.Request) -> web.StreamResponse:
    """Stream the answer to a conversation."""
    asked = await request.json()
    try:
        stream = request.app[SESSION].stream(
            model=request.app[MODEL],
            messages=[system("Be helpful and brief."), *asked.get("messages", [])[-TURNS:]],
        )
    except RequestError as error:
        refusal = refusal_of(error)
        return web.json_response(refusal.body, status=refusal.status)
    return await respond(request, stream, format=TEXT, relayed=tell)


def tell(relayed: Relayed) -> None:
    """Log how an answer went."""
    first = relayed.first_write
    words = "no words" if first is None else f"the first words after {first:.2f} s"
    print(f"{relayed.report.verdict}: {words}", flush=True)


async def index(_request: web.Request) -> web.StreamResponse:
    """Return the page, which fetches nothing from elsewhere and runs nothing that's said."""
    response = web.FileResponse(PAGE / "index.html")
    response.headers["Content-Security-Policy"] = "default-src 'self'; img-src data:"
    return response


async def connected(app: web.Application) -> AsyncIterator[None]:
    """Keep a session as long as the service runs; without a model, a server for it, too."""
    async with contextlib.AsyncExitStack() as stack:
        if len(sys.argv) > 1:
            session, app[MODEL] = ChatSession(), sys.argv[1]
        else:
            server = SimulatedServer(Profile.preset("typical"))
            await stack.enter_async_context(server)
            session, app[MODEL] = ChatSession(server.base_url, "none"), "simulated"
        app[SESSION] = await stack.enter_async_context(session)
        yield


def service() -> web.Application:
    """Return the page and what it asks, still without a model."""
    app = web.Application()
    app.add_routes([web.get("/", index), web.post("/chat", chat), web.static("/", PAGE)])
    return app


def main() -> None:
    """Serve until Ctrl-C."""
    app = service()
    app.cleanup_ctx.append(connected)
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))


if __name__ == "__main__":
    main()
