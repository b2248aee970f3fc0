"""The public API as a user would write it; mypy --strict reads this, nothing runs it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, assert_type

import aiohttp
from aiohttp import web
from attrs import define

import chatstream
from chatstream import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatParams,
    ChatRequest,
    ChatSession,
    ChatStream,
    ChatStreamError,
    ChunkEvent,
    ConnectError,
    Delta,
    DeltaEvent,
    MessageCollector,
    RateLimitError,
    RequestError,
    RetryPolicy,
    StatusError,
    StreamEvent,
    StreamReport,
    StreamStart,
    Timeouts,
    Usage,
    Verdict,
    stamping_session_options,
    structured,
    system,
    tools,
    user,
)
from chatstream.bots import LiveMessage, Sink, split
from chatstream.events import ContentDeltaEvent, FinishEvent, ToolCallDoneEvent, UsageEvent
from chatstream.observers.log import LogObserver
from chatstream.observers.memory import MemoryRecorder
from chatstream.relay import TEXT, Relayed
from chatstream.relay.web import respond
from chatstream.sse import ServerSentEvent, SSEParser
from chatstream.testing import Profile, SimulatedServer


async def readme() -> None:
    async with ChatSession(base_url="https://host/v1", api_key="…") as session:
        assert_type(session, ChatSession)
        async with session.stream(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Count to 100"}]
        ) as stream:
            assert_type(stream, ChatStream)
            async for event in stream:
                assert_type(event, DeltaEvent)
                assert_type(event.elapsed, float)
                assert_type(event.arrived_ns, int)
                assert_type(event.coalesced, bool)
                assert_type(event.index, int)
                assert_type(event.delta, Delta)
                assert_type(event.content, str | None)
                assert_type(event.finish_reason, str | None)
                assert_type(event.chunk, ChatCompletionChunk)
        assert_type(stream.completion, ChatCompletion)
        assert_type(stream.report, StreamReport)
        assert_type(stream.verdict, Verdict)
        whole = await session.create(model="m", messages=[user("Hi"), system("Be brief")])
        assert_type(whole, ChatCompletion)


async def other_ways(stream: ChatStream) -> None:
    text: AsyncIterator[str] = stream.text()
    async for piece in text:
        assert_type(piece, str)
    async for event in stream.events():
        match event:
            case ContentDeltaEvent():
                assert_type(event.delta, str)
            case ToolCallDoneEvent():
                assert_type(event.tool_call.id, str | None)
            case FinishEvent():
                assert_type(event.finish_reason, str)
            case UsageEvent():
                assert_type(event.usage, Usage)
            case _:
                pass
    async for whole in stream.chunks():
        assert_type(whole, ChunkEvent)
        assert_type(whole.chunk, ChatCompletionChunk)
    assert_type(await stream.collect(), ChatCompletion)
    await stream.aclose()


def what_came(completion: ChatCompletion, report: StreamReport) -> None:
    choice = completion.choices[0]
    assert_type(choice.message.content, str | None)
    assert_type(choice.message.reasoning, str | None)
    assert_type(choice.finish_reason, str | None)
    if completion.usage is not None:
        assert_type(completion.usage.total_tokens, int | None)
    assert_type(completion.extra, Mapping[str, Any])
    assert_type(report.time_to_first_token, float | None)
    assert_type(report.time_to_first_token_from_sent, float | None)
    assert_type(report.inter_chunk_latencies, tuple[float, ...])
    assert_type(report.phases.connect, float | None)
    assert_type(report.to_dict(), dict[str, Any])
    assert_type(chatstream.to_dict(completion), Any)


async def token() -> str:
    await asyncio.sleep(0)
    return "sk-…"


def every_option(http: aiohttp.ClientSession, context: ssl.SSLContext) -> ChatSession:
    return ChatSession(
        "https://host/v1",
        token,
        http=http,
        timeouts=Timeouts(connect=10, first_token=120, idle=None, total=300.0),
        retry=RetryPolicy(attempts=3, max_wait=60),
        observers=[MemoryRecorder(), LogObserver(), OwnObserver()],
        headers={"X-A": "b"},
        max_in_flight=8,
        validate=False,
        api_version="2024-10-21",
        proxy="http://proxy:3128",
        tls=context,
        trust_env=True,
        max_event_size=1024,
    )


class OwnObserver:
    def stream_started(self, start: StreamStart) -> None:
        assert_type(start.model, str)

    def stream_ended(self, report: StreamReport) -> None:
        assert_type(report.verdict, Verdict)


async def parameters(session: ChatSession, saved: Mapping[str, Any]) -> None:
    request = ChatRequest(model="m", messages=[user("Hi")], temperature=0.5)
    params: ChatParams = {"seed": 1, "stop": ["a"], "logit_bias": {"1": -100}}
    async with session.stream(request, n=2, extra_headers={"a": "b"}, extra_body={"top_k": 1}):
        pass
    async with session.stream(saved, validate=False, scheduled_ns=1):
        pass
    await session.create(request, **params, timeouts=Timeouts(total=1), retry=RetryPolicy(1))
    session.stream(model=1, messages=[])  # type: ignore[arg-type]  # a model is a str
    session.stream(modle="m")  # type: ignore[call-arg]  # no such parameter


async def errors(session: ChatSession) -> float | None:
    try:
        await session.create(model="m", messages=[])
    except RequestError as error:
        assert_type(error.parameter, str)
        as_value_error: ValueError = error
        raise as_value_error from None
    except RateLimitError as error:
        return error.retry_after
    except StatusError as error:
        assert_type(error.status, int)
        assert_type(error.code, str | None)
    except ConnectError as error:
        assert_type(error.retryable, bool)
    except ChatStreamError as error:
        assert_type(error.partial, ChatCompletion | None)
        assert_type(error.report, StreamReport | None)
        assert_type(error.request_id, str | None)
    return None


def pure_parts(data: bytes, chunk: ChatCompletionChunk) -> None:
    assert_type(SSEParser().feed(data), list[ServerSentEvent])
    collector = MessageCollector()
    collector.add(chunk)
    assert_type(collector.completion(), ChatCompletion)


async def in_tests() -> None:
    async with (
        SimulatedServer(Profile.preset("instant"), truth=True) as server,
        aiohttp.ClientSession(**stamping_session_options()) as http,
        ChatSession(server.base_url, http=http) as session,
    ):
        assert_type(server.connections, int)
        events: list[StreamEvent] = []
        async with session.stream(model="m", messages=[user("Hi")]) as stream:
            events.extend([event async for event in stream.events()])


@define
class Weather:
    city: str
    celsius: float


async def values(session: ChatSession) -> None:
    asked = [user("What's the weather in Oslo?")]
    assert_type(await structured.parse(session, Weather, asked, model="m"), Weather)
    async with structured.stream(session, Weather, asked, model="m") as answer:
        assert_type(await answer.result(), Weather)
    async with tools.run(session, asked, tools=[values], model="m") as run:
        async for text in run.text():
            assert_type(text, str)
        assert_type(run.completion, ChatCompletion)


async def in_a_chat(session: ChatSession, sink: Sink) -> None:
    live = LiveMessage(sink)
    delivered = await live.show(session.stream(model="m", messages=[user("Hi")]))
    assert_type(delivered.text, str)
    assert_type(delivered.error, ChatStreamError | None)
    assert_type(await live.stop(), bool)
    assert_type(split("a text", 2000), list[str])


async def handed_on(request: web.Request, session: ChatSession) -> web.StreamResponse:
    def told(relayed: Relayed) -> None:
        assert_type(relayed.report, StreamReport)

    stream = session.stream(model="m", messages=[user("Hi")])
    return await respond(request, stream, format=TEXT, relayed=told)
