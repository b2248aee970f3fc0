"""A real server: llama.cpp's own, with a model that a second writes."""

import asyncio
import json

import aiohttp
import pytest

from chatstream import (
    BadRequestError,
    ChatSession,
    RetryPolicy,
    Verdict,
    stamping_session_options,
    user,
)
from chatstream.events import ContentDeltaEvent, ToolCallDoneEvent, UsageEvent
from tests.outside.tiny_llama import FIRST_BYTE, READABLE

pytestmark = pytest.mark.outside

ASK = {"model": "tiny", "messages": [user("Hi")]}
BRACE = {str(FIRST_BYTE + ord("{")): 30}
ALWAYS_THE_SAME = {
    "temperature": 0,
    "seed": 1,
    "logit_bias": READABLE,
    "extra_body": {"cache_prompt": False},
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


async def test_stream(llama):
    async with llama.stream(ASK, max_completion_tokens=30, logit_bias=READABLE) as stream:
        events = [event async for event in stream]

    text = "".join(event.content or "" for event in events)
    report = stream.report
    assert "assistant" == events[0].delta.role
    assert text == stream.completion.choices[0].message.content
    assert 30 == len(text)
    assert "length" == events[-1].finish_reason
    assert Verdict.LENGTH is stream.verdict
    assert report.done
    assert (30, 30) == (report.completion_tokens, report.token_events)
    assert report.prompt_tokens > 0
    assert 0 < report.time_to_first_token <= report.duration  # all may come in one read
    assert "timings" in stream.completion.extra or "timings" in events[-1].chunk.extra


async def test_typed_events(llama):
    async with llama.stream(ASK, max_completion_tokens=10, logit_bias=READABLE) as stream:
        events = [event async for event in stream.events()]

    texts = [event.delta for event in events if isinstance(event, ContentDeltaEvent)]
    [usage] = [event for event in events if isinstance(event, UsageEvent)]
    assert stream.completion.choices[0].message.content == "".join(texts)
    assert 10 == usage.usage.completion_tokens


async def test_create(llama):
    completion = await llama.create(ASK, max_completion_tokens=12, logit_bias=READABLE)

    [choice] = completion.choices
    assert 12 == len(choice.message.content)
    assert ("assistant", "length") == (choice.message.role, choice.finish_reason)
    assert 12 == completion.usage.completion_tokens
    assert Verdict.LENGTH is completion.verdict


async def test_collected_and_whole_answers_agree(llama):
    for prompt in ("Hi", "Who are you?", "Count to 100", "é ☃ 😀"):
        ask = {"model": "tiny", "messages": [user(prompt)], "max_completion_tokens": 60}
        whole = await llama.create(ask, **ALWAYS_THE_SAME)
        async with llama.stream(ask, **ALWAYS_THE_SAME) as stream:
            streamed = await stream.collect()

        assert whole.choices[0].message.content == streamed.choices[0].message.content
        assert whole.choices[0].finish_reason == streamed.choices[0].finish_reason
        assert whole.usage.total_tokens == streamed.usage.total_tokens


async def test_several_choices(llama):
    options = {"n": 2, "max_completion_tokens": 15, "logit_bias": READABLE}
    whole = await llama.create(ASK, **options)
    async with llama.stream(ASK, **options) as stream:
        streamed = await stream.collect()

    for completion in (whole, streamed):
        assert [0, 1] == [choice.index for choice in completion.choices]
        assert [15, 15] == [len(choice.message.content) for choice in completion.choices]
    assert 2 == len(stream.report.choices)


async def test_stop(llama):
    free = await llama.create(ASK, max_completion_tokens=40, **ALWAYS_THE_SAME)
    text = free.choices[0].message.content
    stop = text[20:24]
    until = text.index(stop)
    async with llama.stream(
        ASK, max_completion_tokens=40, stop=[stop], **ALWAYS_THE_SAME
    ) as stream:
        stopped = await stream.collect()

    assert text[:until] == (stopped.choices[0].message.content or "")
    assert "stop" == stopped.choices[0].finish_reason
    assert Verdict.FINISHED is stream.verdict


async def test_json_schema(llama):
    """
    The server holds the answer to it by a grammar, whatever the weights say.
    """
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 99},
            "kind": {"enum": ["cat", "dog"]},
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}}
    async with llama.stream(
        ASK, response_format=wanted, max_completion_tokens=300, logit_bias=READABLE
    ) as stream:
        completion = await stream.collect()
    pet = json.loads(completion.choices[0].message.content)

    assert {"name", "age", "kind"} == set(pet)
    assert isinstance(pet["name"], str)
    assert len(pet["name"]) <= 8
    assert 0 <= pet["age"] <= 99
    assert pet["kind"] in {"cat", "dog"}
    assert "stop" == completion.choices[0].finish_reason


async def test_tools(llama):
    options = {
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "logit_bias": BRACE,
        "max_completion_tokens": 300,
    }
    async with llama.stream(ASK, **options) as stream:
        events = [event async for event in stream.events()]
    whole = await llama.create(ASK, **options)

    [done] = [event for event in events if isinstance(event, ToolCallDoneEvent)]
    for completion in (stream.completion, whole):
        [call] = completion.choices[0].message.tool_calls
        assert "get_weather" == call.function.name
        assert json.loads(call.function.arguments)["city"] in {"Oslo", "Rome"}
        assert call.id
        assert "tool_calls" == completion.choices[0].finish_reason
        assert not completion.choices[0].message.content
    assert done.tool_call.function == stream.completion.choices[0].message.tool_calls[0].function
    assert stream.report.time_to_first_token > 0


async def test_what_it_said_can_be_sent_back(llama):
    options = {
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "logit_bias": BRACE,
    }
    alone = await llama.create(ASK, max_completion_tokens=1)
    first = await llama.create(ASK, max_completion_tokens=300, **options)
    said = first.choices[0].message
    answer = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "rain"}
    messages = [*ASK["messages"], said, answer]
    second = await llama.create(
        model="tiny", messages=messages, max_completion_tokens=5, logit_bias=READABLE
    )

    assert 5 == second.usage.completion_tokens
    assert second.usage.prompt_tokens > alone.usage.prompt_tokens + len("get_weather")


async def test_logprobs(llama):
    async with llama.stream(
        ASK, logprobs=True, top_logprobs=3, max_completion_tokens=8, logit_bias=READABLE
    ) as stream:
        completion = await stream.collect()

    scores = completion.choices[0].logprobs.content
    text = completion.choices[0].message.content
    assert text == "".join(score.token for score in scores)
    assert [3] * 8 == [len(score.top_logprobs) for score in scores]
    assert all(score.logprob <= 0 for score in scores)
    assert text.encode() == b"".join(bytes(score.bytes) for score in scores)


async def test_two_hundred_requests_on_reused_connections(llama_url):
    """
    It keeps a connection for a hundred requests.
    """
    made = 0

    async def created(*_):
        nonlocal made
        made += 1

    options = stamping_session_options()
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(created)
    options["trace_configs"] = [*options["trace_configs"], trace]
    async with (
        aiohttp.ClientSession(**options) as http,
        ChatSession(llama_url, http=http, retry=RetryPolicy(1)) as llama,
    ):
        for _ in range(200):
            completion = await llama.create(ASK, max_completion_tokens=2)
            assert 2 == completion.usage.completion_tokens

    assert made <= 3


async def test_two_hundred_streams(llama):
    """
    It closes each connection after a stream, often just when the next is sent.
    """
    for _ in range(200):
        async with llama.stream(ASK, max_completion_tokens=2) as stream:
            await stream.collect()
        assert Verdict.LENGTH is stream.verdict
        assert 0.5 > sum(attempt.waited for attempt in stream.attempts)


async def test_streams_at_once(llama):
    async def ask():
        async with llama.stream(ASK, max_completion_tokens=10, logit_bias=READABLE) as stream:
            return await stream.collect()

    answers = await asyncio.gather(*(ask() for _ in range(12)))

    assert [10] * 12 == [len(answer.choices[0].message.content) for answer in answers]


async def test_leaving_early(llama):
    async with llama.stream(ASK, max_completion_tokens=4000, logit_bias=READABLE) as stream:
        async for event in stream:
            if event.content:
                break
    again = await llama.create(ASK, max_completion_tokens=2)

    assert Verdict.CLOSED is stream.verdict
    assert 2 == again.usage.completion_tokens


async def test_an_error(llama):
    with pytest.raises(BadRequestError) as caught:
        await llama.create(ASK, validate=False, extra_body={"messages": [{"role": 1}]})

    assert caught.value.message
