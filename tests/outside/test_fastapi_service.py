"""The example with OpenAI's own API, on uvicorn, and the openai package as its client."""

from types import SimpleNamespace

import pytest

from chatstream.testing import Profile, SimulatedServer
from tests.outside.services import example, on_uvicorn
from tests.waiting import until

pytestmark = pytest.mark.outside

COUNT = [{"role": "user", "content": "Count to 5"}]


@pytest.fixture
async def upstream():
    async with SimulatedServer(Profile.preset("instant"), api_key="sk-upstream") as server:
        yield server


@pytest.fixture
async def service(upstream, outside, monkeypatch):
    """The example's application on a port of its own, and a client that speaks to it."""
    openai, uvicorn = outside("openai"), outside("uvicorn")
    outside("fastapi")
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream")
    app = example("fastapi_service").app
    async with (
        on_uvicorn(uvicorn, app) as (origin, _),
        openai.AsyncOpenAI(base_url=f"{origin}/v1", api_key="sk-ours", max_retries=0) as client,
    ):
        yield SimpleNamespace(create=client.chat.completions.create, openai=openai, app=app)


async def test_an_answer_streams(service):
    stream = await service.create(
        model="m", messages=COUNT, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    texts = [c.delta.content or "" for chunk in chunks for c in chunk.choices]

    assert "1, 2, 3, 4, 5" == "".join(texts)
    assert "stop" == chunks[-2].choices[0].finish_reason
    assert 9 == chunks[-1].usage.completion_tokens


async def test_an_answer_comes_at_once(service):
    completion = await service.create(model="m", messages=COUNT)

    assert "1, 2, 3, 4, 5" == completion.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_the_packages_own(service, upstream, stream):
    with pytest.raises(service.openai.BadRequestError, match="from 0 to 2, got 3") as caught:
        await service.create(model="m", messages=COUNT, temperature=3, stream=stream)
    assert "temperature" == caught.value.param

    upstream.profile = Profile(error_rate=1.0, error_status=400)
    with pytest.raises(service.openai.BadRequestError):
        await service.create(model="m", messages=COUNT, stream=stream)


async def test_a_client_that_leaves_ends_the_upstream_stream(service, upstream):
    upstream.profile = Profile(time_to_first_token=0, gap=60)
    stream = await service.create(model="m", messages=COUNT, stream=True)
    await anext(aiter(stream))
    (ours,) = service.app.state.session._streams
    await stream.close()
    await until(lambda: ours.verdict == "closed")
