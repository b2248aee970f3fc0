"""chatstream.relay, as the openai package sees it: one who knows the format and trusts it."""

import asyncio
from types import SimpleNamespace

import pytest
from aiohttp import web

from chatstream import ChatSession, RetryPolicy
from chatstream.relay.web import respond
from chatstream.testing import Profile, SimulatedServer
from tests.outside.services import example

pytestmark = pytest.mark.outside

COUNT = [{"role": "user", "content": "Count to 5"}]
LONG = [{"role": "user", "content": "Count to 1000"}]


@pytest.fixture
async def upstream():
    async with SimulatedServer(Profile(time_to_first_token=0, gap=0)) as server:
        yield server


@pytest.fixture
async def session(upstream):
    async with ChatSession(upstream.base_url, "sk-upstream", retry=RetryPolicy(1)) as session:
        yield session


@pytest.fixture
async def service(session, outside):
    """A service of aiohttp.web that passes on what it is asked, and a client of it."""
    openai = outside("openai")
    streams = []

    async def chat(request):
        asked = await request.json()
        del asked["stream"]
        streams.append(session.stream(asked))
        return await respond(request, streams[-1], heartbeat=0.05)

    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-ours", max_retries=0) as client:

        async def ask(messages, **options):
            return await client.chat.completions.create(
                model="m", messages=messages, stream=True, **options
            )

        yield SimpleNamespace(ask=ask, openai=openai, streams=streams)
    await runner.cleanup()


async def test_several_choices_come_apart(service):
    texts = {0: "", 1: "", 2: ""}
    async for chunk in await service.ask(COUNT, n=3):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""

    assert dict.fromkeys(range(3), "1, 2, 3, 4, 5") == texts


async def test_comments_are_nothing_to_it(service, upstream):
    """
    The first token comes after several.
    """
    upstream.profile = Profile(time_to_first_token=0.2, gap=0)
    chunks = [chunk async for chunk in await service.ask(COUNT)]

    assert "1, 2, 3, 4, 5" == "".join(
        choice.delta.content or "" for chunk in chunks for choice in chunk.choices
    )


@pytest.mark.parametrize(
    ("status", "error"), [(429, "RateLimitError"), (401, "InternalServerError")]
)
async def test_a_refusal_is_an_error_of_its_own(service, upstream, status, error):
    """
    Our key is none of its business: that it is wrong is trouble of ours.
    """
    upstream.profile = Profile(error_rate=1.0, error_status=status)
    with pytest.raises(getattr(service.openai, error)) as caught:
        await service.ask(COUNT)

    assert "sk-upstream" not in str(caught.value)
    assert str(upstream.port) not in str(caught.value)


@pytest.mark.parametrize(
    ("who", "said"), [("upstream", "broke off"), ("service", "the answer was stopped")]
)
async def test_an_answer_that_ends_early_is_an_error(service, upstream, who, said):
    """
    Not a short answer that looks whole.
    """
    upstream.profile = Profile(time_to_first_token=0, gap=0.01)
    stream = await service.ask(LONG)
    await anext(aiter(stream))
    if who == "upstream":
        await upstream.aclose()
    else:
        await service.streams[0].aclose()
    with pytest.raises(service.openai.APIError, match=said):
        async for _ in stream:
            pass


async def test_a_client_that_leaves_ends_the_upstream_request(service, upstream):
    upstream.profile = Profile(time_to_first_token=0, gap=60)
    stream = await service.ask(LONG)
    await anext(aiter(stream))
    await stream.close()
    async with asyncio.timeout(10):
        await upstream.until(lambda server: server.abandoned_streams == 1)


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_usage": True}])
async def test_the_example_sends_the_usage_to_who_asked(session, outside, asked):
    """
    Others take the first choice of each chunk, and have to find one.
    """
    openai, httpx = outside("openai"), outside("httpx")
    outside("fastapi")
    app = example("fastapi_service").app
    app.state.session = session
    options = {} if asked is None else {"stream_options": asked}
    transport = httpx.ASGITransport(app)
    async with (
        httpx.AsyncClient(transport=transport) as http,
        openai.AsyncOpenAI(base_url="http://s/v1", api_key="k", http_client=http) as client,
    ):
        stream = await client.chat.completions.create(
            model="m", messages=COUNT, stream=True, **options
        )
        chunks = [chunk async for chunk in stream]
    bare = [chunk.usage.completion_tokens for chunk in chunks if not chunk.choices]

    assert ([9] if options and asked["include_usage"] else []) == bare
