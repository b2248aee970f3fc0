"""The openai package as a client of the simulated server: it reads what it should."""

import asyncio
import json

import pytest

from chatstream.testing import Profile, SimulatedServer

pytestmark = pytest.mark.outside

COUNT = [{"role": "user", "content": "count to 5"}]
TEXT = "1, 2, 3, 4, 5"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


@pytest.fixture(scope="module")
def openai(outside):
    """The package."""
    return outside("openai")


@pytest.fixture
async def server():
    """A simulated server that asks for a key and tells the truth."""
    profile = Profile.preset("instant")
    async with SimulatedServer(profile, api_key="sk-1", truth=True) as server:
        yield server


@pytest.fixture
async def client(openai, server):
    """Its client for asyncio."""
    async with openai.AsyncOpenAI(
        base_url=server.base_url, api_key="sk-1", max_retries=0
    ) as client:
        yield client


@pytest.fixture
def in_thread(openai, server):
    """Give a function that runs another with the package's synchronous client."""

    async def run(use):
        def work():
            with openai.OpenAI(base_url=server.base_url, api_key="sk-1", max_retries=0) as client:
                return use(client)

        return await asyncio.to_thread(work)

    return run


async def test_create(client):
    completion = await client.chat.completions.create(model="m", messages=COUNT)

    [choice] = completion.choices
    assert (TEXT, "assistant", "stop") == (
        choice.message.content,
        choice.message.role,
        choice.finish_reason,
    )
    assert "chat.completion" == completion.object
    assert completion.id.startswith("chatcmpl-")
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert completion._request_id.startswith("req_")


async def test_stream(client):
    stream = await client.chat.completions.create(
        model="m", messages=COUNT, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == TEXT
    assert "assistant" == chunks[0].choices[0].delta.role
    assert [] == chunks[-1].choices
    assert chunks[-1].usage.completion_tokens > 0
    assert 1 == len({chunk.id for chunk in chunks})
    sent = [chunk.sent_ns for chunk in chunks]
    assert sorted(sent) == sent


async def test_synchronous(in_thread):
    def use(client):
        whole = client.chat.completions.create(model="m", messages=COUNT)
        with client.chat.completions.create(model="m", messages=COUNT, stream=True) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        return whole.choices[0].message.content, "".join(pieces)

    assert (TEXT, TEXT) == await in_thread(use)


async def test_its_own_accumulation(client):
    async with client.chat.completions.stream(model="m", messages=COUNT, n=2) as stream:
        events = [event async for event in stream]
        completion = await stream.get_final_completion()

    assert "content.done" in {event.type for event in events}
    assert [TEXT, TEXT] == [choice.message.content for choice in completion.choices]


async def test_several_choices(client):
    ask = {"model": "m", "messages": [{"role": "user", "content": "tell me"}], "n": 3}
    whole = await client.chat.completions.create(**ask)
    texts = {0: "", 1: "", 2: ""}
    async for chunk in await client.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""

    assert [choice.message.content for choice in whole.choices] == list(texts.values())
    assert 3 == len(set(texts.values()))


async def test_tools(client):
    ask = {
        "model": "m",
        "messages": [{"role": "user", "content": "get_weather please"}],
        "tools": [WEATHER],
    }
    whole = await client.chat.completions.create(**ask)
    async with client.chat.completions.stream(**ask) as stream:
        streamed = await stream.get_final_completion()

    for completion in (whole, streamed):
        [call] = completion.choices[0].message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert "get_weather" == call.function.name
        assert isinstance(arguments["city"], str)
        assert isinstance(arguments["days"], int)
        assert "tool_calls" == completion.choices[0].finish_reason
    assert (
        whole.choices[0].message.tool_calls[0].function.arguments
        == streamed.choices[0].message.tool_calls[0].function.arguments
    )


async def test_logprobs(client):
    completion = await client.chat.completions.create(
        model="m", messages=COUNT, logprobs=True, top_logprobs=2
    )
    scores = completion.choices[0].logprobs.content

    assert TEXT == "".join(score.token for score in scores)
    assert {2} == {len(score.top_logprobs) for score in scores}
    assert all(score.logprob <= 0 for score in scores)


async def test_json_schema(client):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    completion = await client.chat.completions.create(
        model="m",
        messages=COUNT,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "pet", "schema": schema, "strict": True},
        },
    )
    pet = json.loads(completion.choices[0].message.content)

    assert {"name", "age"} == set(pet)
    assert isinstance(pet["age"], int)


async def test_models(client):
    models = [model.id async for model in client.models.list()]

    assert ["simulated"] == models


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
    ],
)
async def test_errors(client, openai, status, name):
    with pytest.raises(getattr(openai, name)) as caught:
        await client.chat.completions.create(
            model="m", messages=COUNT, extra_headers={"x-simulate-status": str(status)}
        )

    assert status == caught.value.status_code
    assert f"Simulated status {status}." in caught.value.message
    assert caught.value.request_id.startswith("req_")


async def test_errors_of_the_request(client, openai):
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="no-such-model", messages=COUNT)
    with pytest.raises(openai.BadRequestError) as wrong:
        await client.chat.completions.create(model="m", messages=COUNT, temperature=9)
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-2").chat.completions.create(model="m", messages=COUNT)

    assert "model_not_found" == missing.value.code
    assert "temperature" == wrong.value.param


async def test_it_tries_again(client, server):
    server.profile = Profile.preset(
        "instant", error_rate=0.5, error_status=429, retry_after=0, seed=3
    )
    patient = client.with_options(max_retries=20)
    for _ in range(3):
        await patient.chat.completions.create(model="m", messages=COUNT)

    assert len(server.requests) > 3


async def test_reasoning_and_comments_do_no_harm(client, server):
    server.profile = Profile(
        time_to_first_token=0.02, gap=0.002, keep_alive=0.005, reasoning_tokens=3, line_end="\r\n"
    )
    stream = await client.chat.completions.create(model="m", messages=COUNT, stream=True)
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks]

    assert TEXT == "".join(delta.content or "" for delta in deltas)
    assert 3 == sum(bool(getattr(delta, "reasoning_content", None)) for delta in deltas)


async def test_azure(openai, server):
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=server.origin, api_key="sk-1", api_version="2024-10-21", max_retries=0
    ) as client:
        completion = await client.chat.completions.create(model="deployed", messages=COUNT)

    assert TEXT == completion.choices[0].message.content
    assert "/openai/deployments/deployed/chat/completions" == server.requests[0].path
