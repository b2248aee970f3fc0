"""llmock, somebody else's faulty server: each of its faults ends as it should.

It also judges clients by what it saw of them; so it does us.
"""

import json

import pytest

from chatstream import (
    AuthenticationError,
    BadRequestError,
    ChatSession,
    ChatStreamError,
    DecodeError,
    FirstTokenTimeoutError,
    IdleTimeoutError,
    InterruptedStreamError,
    NotAnEventStreamError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    Timeouts,
    TotalTimeoutError,
    Verdict,
    parse_arguments,
    tool,
    user,
)
from chatstream.events import ToolCallDeltaEvent, ToolCallDoneEvent

pytestmark = pytest.mark.outside

TEXT = "One word after another makes a whole answer."
ROLE = 1
"""llmock counts the chunk with the role, too."""
LONG = 3
"""Seconds of silence; the server ends only after them."""
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
ASK = {"model": "gpt-4o-mini", "messages": [user("What's the weather in Paris?")]}
WITH_TOOLS = ASK | {"tools": [WEATHER]}


@pytest.fixture(scope="module")
def running(outside):
    """Start the server, in a thread of its own."""
    with outside("llmock.testing").LLMockServer() as server:
        yield server


@pytest.fixture
def faulty(outside, running):
    """What scripts its faults, all earlier ones forgotten."""
    return outside("llmock.pytest_plugin").LLMock(running).reset()


@pytest.fixture
async def session(faulty):
    """A session with it, as a service would have."""
    async with ChatSession(faulty.base_url(), "any", timeouts=Timeouts(idle=5)) as session:
        yield session


async def run(session, **options):
    """Read one stream to its end; return it with the error it ended in."""
    error = None
    stream = session.stream(**ASK, **options)
    try:
        async with stream:
            await stream.collect()
    except ChatStreamError as caught:
        error = caught
    return stream, error


def findings(faulty):
    """What llmock has to say against its client."""
    return [finding.code for finding in faulty.verdict().findings]


async def test_an_answer_without_a_fault(faulty, session):
    faulty.reply(TEXT, times=2)
    stream, error = await run(session)
    completion = await session.create(**ASK)

    assert (TEXT, None, Verdict.FINISHED) == (stream.completion.text, error, stream.verdict)
    assert TEXT == completion.text
    assert stream.completion.usage == completion.usage
    assert [] == findings(faulty)


# --- Streams that break --------------------------------------------------------------

BREAKS = {
    "disconnect": (InterruptedStreamError, Verdict.TRUNCATED),
    "truncate": (InterruptedStreamError, Verdict.TRUNCATED),
    "corrupt": (DecodeError, Verdict.MALFORMED),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_a_stream_that_breaks_keeps_what_came(faulty, session, name):
    """
    Three words, and never a second generation after them.
    """
    faulty.reply(TEXT)
    getattr(faulty, name)(after_chunks=ROLE + 3)
    stream, error = await run(session)

    assert BREAKS[name] == (type(error), stream.verdict)
    assert "One word after " == error.partial.text
    assert 1 == len(stream.attempts) == len(faulty.requests)


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("disconnect", 0),
        ("disconnect", ROLE),
        ("truncate", ROLE),
        ("corrupt", 0),
        ("corrupt", ROLE),
    ],
)
async def test_a_stream_that_breaks_before_its_first_token_is_tried_again(
    faulty, session, name, after
):
    """
    Nobody has seen anything of it. What we don't read on it doesn't send on.
    """
    if (name, after) == ("truncate", 0):
        pytest.skip("a body without an event is no stream: see below")
    faulty.reply(TEXT, times=2).pace(20)
    getattr(faulty, name)(after_chunks=after)
    stream, error = await run(session)

    assert (None, TEXT, Verdict.FINISHED) == (error, stream.completion.text, stream.verdict)
    assert [False, True] == [attempt.error is None for attempt in stream.attempts]
    assert [] == findings(faulty)


async def test_a_stream_without_an_event_is_empty(faulty, session):
    """
    A clean end right after the headers: what is there isn't a stream.
    """
    faulty.truncate(after_chunks=0)
    stream, error = await run(session)

    assert (NotAnEventStreamError, Verdict.EMPTY) == (type(error), stream.verdict)


async def test_silence_after_the_first_token_is_an_idle_timeout(faulty, session):
    faulty.reply(TEXT).stall(after_chunks=ROLE + 2, seconds=LONG)
    stream, error = await run(session, timeouts=Timeouts(idle=0.2))

    assert (IdleTimeoutError, Verdict.TIMEOUT) == (type(error), stream.verdict)
    assert "One word " == error.partial.text
    assert 1 == len(stream.attempts)


@pytest.mark.parametrize("name", ["stall", "slow_first_token", "delay"])
async def test_silence_before_the_first_token_is_a_first_token_timeout(faulty, session, name):
    """
    After the role, before the first chunk, before the headers.
    """
    {
        "stall": lambda: faulty.stall(after_chunks=ROLE, seconds=LONG),
        "slow_first_token": lambda: faulty.slow_first_token(LONG),
        "delay": lambda: faulty.delay(LONG),
    }[name]()
    stream, error = await run(session, timeouts=Timeouts(first_token=0.2), retry=RetryPolicy(1))

    assert (FirstTokenTimeoutError, Verdict.TIMEOUT) == (type(error), stream.verdict)


async def test_a_slow_start_is_sat_out_by_whoever_is_patient(faulty, session):
    faulty.reply(TEXT).slow_first_token(0.3)
    stream, error = await run(session)

    assert (None, TEXT) == (error, stream.completion.text)
    assert stream.report.time_to_first_token >= 0.3


async def test_a_stall_shorter_than_the_clock_changes_nothing_but_the_figures(faulty, session):
    faulty.reply(TEXT).stall(after_chunks=ROLE + 2, seconds=0.3)
    stream, error = await run(session)

    assert (None, TEXT) == (error, stream.completion.text)
    assert 0.3 <= max(stream.report.inter_chunk_latencies)


async def test_a_stream_that_paces_itself_may_use_up_the_total(faulty, session):
    faulty.reply("word " * 200).pace(20)
    stream, error = await run(session, timeouts=Timeouts(total=0.5))

    assert (TotalTimeoutError, Verdict.TIMEOUT) == (type(error), stream.verdict)
    assert error.partial.text.startswith("word ")


# --- Refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (422, BadRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (503, ServerError),
        (529, ServerError),
    ],
)
async def test_each_status_has_its_class(faulty, session, status, kind):
    faulty.fail(status, message="said llmock")
    stream, error = await run(session, retry=RetryPolicy(1))

    assert (kind, status, Verdict.HTTP_ERROR) == (type(error), error.status, stream.verdict)
    assert "said llmock" in error.message


async def test_what_would_fail_again_is_not_tried_again(faulty, session):
    faulty.context_overflow(times=None)
    _, error = await run(session)

    assert (BadRequestError, "context_length_exceeded") == (type(error), error.code)
    assert [] == findings(faulty)
    assert 1 == len(faulty.requests)


async def test_a_server_that_recovers_is_waited_for(faulty, session):
    faulty.reply(TEXT).fail(503, times=2)
    stream, error = await run(session)

    assert (None, TEXT, 3) == (error, stream.completion.text, len(stream.attempts))
    assert [] == findings(faulty)


async def test_a_server_that_is_down_is_given_up(faulty, session):
    faulty.outage()
    stream, error = await run(session)

    assert (ServerError, 3) == (type(error), len(stream.attempts))
    assert [] == findings(faulty)


async def test_retry_after_is_obeyed(faulty, session):
    """
    By its own watch: it would tell if we came early.
    """
    faulty.reply(TEXT).rate_limit(retry_after=0.5)
    stream, error = await run(session)

    assert (None, TEXT) == (error, stream.completion.text)
    assert [] == findings(faulty)


async def test_a_real_quota_says_how_long_to_wait(faulty, session):
    faulty.limits(rpm=1)
    first, _ = await run(session)
    _, error = await run(session, retry=RetryPolicy(1))

    assert (1, 0) == (first.response.request_limit.limit, first.response.request_limit.remaining)
    assert RateLimitError is type(error)
    assert 0 < error.retry_after <= 60


# --- Tool calls --------------------------------------------------------------------------


async def test_arguments_in_fragments_are_joined(faulty, session):
    arguments = {"city": "Paris, the one in France", "days": 3}
    faulty.call_tool("get_weather", arguments)
    async with session.stream(**WITH_TOOLS) as stream:
        events = [event async for event in stream.events()]

    pieces = [event.delta for event in events if isinstance(event, ToolCallDeltaEvent)]
    (done,) = [event.tool_call for event in events if isinstance(event, ToolCallDoneEvent)]
    assert len(pieces) > 3
    assert ("get_weather", arguments) == (done.function.name, parse_arguments(done.function))
    assert arguments == json.loads("".join(pieces))
    assert "tool_calls" == stream.completion.choices[0].finish_reason


async def test_a_conversation_with_a_tool_ends_in_an_answer(faulty, session):
    """
    It makes up arguments to the schema, and is content with any result.
    """
    messages = [*ASK["messages"]]
    asked = ASK | {"tools": [WEATHER], "messages": messages}
    message = (await session.create(**asked)).choices[0].message
    (call,) = message.tool_calls
    messages += [message, tool("sunny", tool_call_id=call.id)]
    async with session.stream(**asked) as stream:
        completion = await stream.collect()

    assert {"city", "days"} == parse_arguments(call.function).keys()
    assert completion.text
    assert not completion.choices[0].message.tool_calls


async def test_arguments_that_are_no_json_are_told_when_they_are_read(faulty, session):
    """
    The answer is whole: it's the model who can't write.
    """
    faulty.break_tool_call("malformed_arguments")
    async with session.stream(**WITH_TOOLS) as stream:
        completion = await stream.collect()

    (call,) = completion.choices[0].message.tool_calls
    assert Verdict.FINISHED is completion.verdict
    with pytest.raises(DecodeError):
        parse_arguments(call.function)


async def test_a_tool_that_was_not_offered_is_the_callers_affair(faulty, session):
    faulty.break_tool_call("unknown_tool")
    async with session.stream(**WITH_TOOLS) as stream:
        completion = await stream.collect()

    (call,) = completion.choices[0].message.tool_calls
    assert Verdict.FINISHED is completion.verdict
    assert "get_weather" != call.function.name


async def test_a_call_cut_in_its_arguments_is_interrupted(faulty, session):
    faulty.call_tool("get_weather", {"city": "Paris, the one in France", "days": 3})
    faulty.truncate(after_chunks=ROLE + 3)
    with pytest.raises(InterruptedStreamError) as caught:
        async with session.stream(**WITH_TOOLS) as stream:
            await stream.collect()

    (call,) = caught.value.partial.choices[0].message.tool_calls
    assert "get_weather" == call.function.name
    assert '{"city": "Paris, the one in France", "days": 3}'.startswith(call.function.arguments)
