r"""A service with OpenAI's own API, in FastAPI: whoever speaks to OpenAI can speak to it.

python examples/fastapi_service.py                              # against a simulated server
OPENAI_API_KEY=… python examples/fastapi_service.py             # against OpenAI's

    curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
        -d '{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from chatstream import ChatSession, ChatStreamError, to_dict
from chatstream.relay import OpenAIFormat, refusal_of
from chatstream.relay.starlette import StreamResponse
from chatstream.testing import SimulatedServer


@contextlib.asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    """Keep a session as long as the service runs; without a key, a server for it, too."""
    async with contextlib.AsyncExitStack() as stack:
        session = ChatSession()
        if "OPENAI_API_KEY" not in os.environ:
            server = await stack.enter_async_context(SimulatedServer())
            session = ChatSession(server.base_url, "none")
        app.state.session = await stack.enter_async_context(session)
        yield


app = FastAPI(lifespan=connected)


@app.exception_handler(ChatStreamError)
async def refuse(_request: Request, error: ChatStreamError) -> Response:
    """Tell a client what it may know of an error."""
    refusal = refusal_of(error)
    return JSONResponse(refusal.body, status_code=refusal.status, headers=refusal.headers)


@app.post("/v1/chat/completions")
async def chat(request: Request, asked: dict[str, Any]) -> Response:
    """Pass a request on, and its answer back."""
    session: ChatSession = request.app.state.session
    if asked.pop("stream", False):
        # We get the usage anyhow; who didn't ask for it may not expect its chunk.
        wanted = (asked.get("stream_options") or {}).get("include_usage", False)
        return StreamResponse(session.stream(asked), format=OpenAIFormat(usage=wanted))
    return JSONResponse(to_dict(await session.create(asked)))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
