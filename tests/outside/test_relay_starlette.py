"""chatstream.relay.starlette: a response among others, in a real server."""

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest

from chatstream import ChatSession, RetryPolicy, user
from chatstream.completion import Verdict
from chatstream.relay import OPENAI, TEXT
from chatstream.testing import Profile, SimulatedServer
from tests.outside.services import on_uvicorn
from tests.waiting import until

pytestmark = pytest.mark.outside


@pytest.fixture(params=["plain", "behind middleware"])
async def service(request, outside):
    """A FastAPI service on uvicorn; also where its middleware stands in between."""
    uvicorn, fastapi = outside("uvicorn"), outside("fastapi")
    middleware = outside("starlette.middleware.base")
    gzip = outside("starlette.middleware.gzip")
    from chatstream.relay.starlette import StreamResponse  # noqa: PLC0415 if it is there

    relayed, after, options = [], [], {"format": TEXT}
    app = fastapi.FastAPI()

    async def passed(request, call_next):
        return await call_next(request)

    if request.param == "behind middleware":
        app.add_middleware(middleware.BaseHTTPMiddleware, dispatch=passed)
        app.add_middleware(gzip.GZipMiddleware, minimum_size=0)

    @app.post("/chat")
    async def chat(prompt: str, background: fastapi.BackgroundTasks) -> fastapi.Response:
        background.add_task(after.append, prompt)
        response = StreamResponse(
            session.stream(model="m", messages=[user(prompt)]),
            headers={"X-Service": "ours"},
            relayed=relayed.append,
            **options,
        )
        response.set_cookie("seen", "yes")
        return response

    async with (
        SimulatedServer(Profile(time_to_first_token=0, gap=0)) as upstream,
        ChatSession(upstream.base_url, "none", retry=RetryPolicy(1)) as session,
        on_uvicorn(uvicorn, app) as (origin, server),
        aiohttp.ClientSession() as http,
    ):
        yield SimpleNamespace(
            ask=lambda prompt: http.post(f"{origin}/chat", params={"prompt": prompt}),
            waits_for_client=lambda: any(
                connection.flow.write_paused for connection in server.server_state.connections
            ),
            upstream=upstream,
            relayed=relayed,
            after=after,
            options=options,
        )
        await http.close()


async def test_it_is_a_response_like_others(service):
    async with service.ask("say so") as response:
        body = await response.text()
    await until(lambda: service.after)

    assert (200, "text/event-stream; charset=utf-8", "ours", "yes") == (
        response.status,
        response.headers["Content-Type"],
        response.headers["X-Service"],
        response.cookies["seen"].value,
    )
    assert 1 == len(response.headers.getall("Content-Type"))
    assert "Content-Length" not in response.headers
    assert "Content-Encoding" not in response.headers
    assert '"verdict":"finished"' in body
    assert ["say so"] == service.after


async def test_a_refusal_has_its_status(service):
    service.upstream.profile = Profile(error_rate=1.0, error_status=429, retry_after=7)
    async with service.ask("Hi") as response:
        body = await response.json()

    assert (429, "7", "application/json") == (
        response.status,
        response.headers["Retry-After"],
        response.headers["Content-Type"],
    )
    assert "rate_limit_error" == body["error"]["type"]


@pytest.mark.parametrize("when", ["before the first token", "in the answer"])
async def test_a_client_that_leaves_ends_the_upstream_request(service, when):
    slow = 60 if when == "before the first token" else 0
    service.upstream.profile = Profile(time_to_first_token=slow, gap=60)
    asking = asyncio.ensure_future(service.ask("Count to 3").__aenter__())
    if when == "in the answer":
        response = await asking
        await response.content.readany()
        response.close()
    else:
        await service.upstream.until(lambda server: server.open_streams)
        asking.cancel()
        await asyncio.wait({asking})
    await until(lambda: service.relayed)

    assert service.relayed[0].client_gone
    assert Verdict.CLOSED is service.relayed[0].report.verdict
    await service.upstream.until(lambda server: not server.open_connections)


@pytest.mark.parametrize("how", ["leaves", "stays"])
async def test_a_client_that_takes_nothing_makes_upstream_wait(service, how):
    service.upstream.profile = Profile(
        time_to_first_token=0, gap=0, tokens=20_000, payload_bytes=2_000
    )
    service.options["format"] = OPENAI
    service.options["send_timeout"] = 0.2 if how == "stays" else None
    async with service.ask("Go") as response:
        if how == "leaves":
            await until(service.waits_for_client)
            response.close()
        await until(lambda: service.relayed)

    assert service.relayed[0].client_gone
    assert service.relayed[0].report.events < 20_000
    await service.upstream.until(lambda server: not server.open_connections)
