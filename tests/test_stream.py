"""chatstream.stream: the life of an answer, over bodies in memory and a clock that is moved."""

import asyncio
import gc
import itertools
import json
import logging
import weakref
from pathlib import Path

import attrs
import pytest

from chatstream import (
    AuthenticationError,
    ChatStreamError,
    ConnectError,
    ConnectTimeoutError,
    DecodeError,
    EventTooLargeError,
    FirstTokenTimeoutError,
    IdleTimeoutError,
    InterruptedStreamError,
    NotAnEventStreamError,
    ProtocolError,
    RateLimitError,
    RequestError,
    RetryPolicy,
    ServerError,
    Timeouts,
    TotalTimeoutError,
    UpstreamError,
    Verdict,
)
from chatstream.arrival import Read
from chatstream.events import (
    ContentDeltaEvent,
    ContentDoneEvent,
    FinishEvent,
    OtherEvent,
    ReasoningDeltaEvent,
    ReasoningDoneEvent,
    ToolCallDeltaEvent,
    ToolCallDoneEvent,
    UsageEvent,
)
from chatstream.marks import NS
from chatstream.report import ArrivalSource
from chatstream.sse import SSEParser
from chatstream.stream import MAX_HELD_BACK, ChatStream
from chatstream.testing.clock import FakeClock
from chatstream.testing.scripted import Scripted, scripted

# --- Answers ---------------------------------------------------------------------


def chunk(content=None, finish_reason=None, *, index=0, usage=None, **delta):
    """One chunk of one choice."""
    if content is not None:
        delta["content"] = content
    body = {
        "id": "c",
        "model": "m",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}],
    }
    return event(body if usage is None else body | {"usage": usage})


def event(body):
    return b"data: %b\n\n" % json.dumps(body).encode()


ROLE = chunk("", role="assistant")
STOP = chunk(finish_reason="stop")
DONE = b"data: [DONE]\n\n"
USAGE = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
HELLO = (ROLE, chunk("Hel"), chunk("lo"), STOP, DONE)
RESET = InterruptedStreamError(0, "connection reset")
REFUSED = ConnectError("refused", "memory")


def reads(*parts, wait=0.1):
    """Steps of a script: each part comes a while after the one before."""
    return tuple((wait, part) for part in parts)


# --- Streams -----------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock; whoever sleeps moves it, and takes one turn of the loop."""
    clock = FakeClock()
    turn = asyncio.sleep

    async def sleep(delay):
        clock.advance(delay)
        await turn(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return clock


def stream_of(clock, *attempts, options=None, **kwargs):
    """A stream over scripted attempts, each given as steps or as an error."""
    source = Scripted(clock, *attempts, **(options or {}))
    return ChatStream(source, clock=clock, call_later=clock.call_later, **kwargs)


async def run(stream):
    """Iterate to the end; return the events and the error."""
    events = []
    try:
        async with stream:
            async for found in stream:
                events.append(found)  # noqa: PERF401 an error keeps those before it
    except ChatStreamError as error:
        return events, error
    return events, None


def texts(events):
    return [found.content for found in events]


class Watcher:
    """An observer that notes what it is told."""

    def __init__(self, clock=None):
        self.calls = []
        self._clock = clock

    def stream_started(self, start):
        self.calls.append(("started", start))

    def first_token(self, _, time_to_first_token):
        self.calls.append(("first_token", time_to_first_token))

    def stream_ended(self, report):
        self.calls.append(("ended", report))

    @property
    def names(self):
        return [name for name, _ in self.calls]


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


# --- One answer --------------------------------------------------------------------


async def test_ttft_is_the_wait_before_the_first_content():
    """
    The event has arrived when its last byte has.
    """
    clock = FakeClock()
    source = scripted(
        clock,
        (0.25, b'data: {"choices": [{"index": 0, "delta": {"content"'),
        (0.05, b': "hello"}}]}\n\n'),
        (0.1, DONE),
    )

    async with ChatStream(source, clock=clock) as stream:
        await stream.collect()

    assert 0.3 == stream.report.time_to_first_token
    assert 0.25 == stream.report.time_to_first_byte


async def test_an_answer_comes_event_by_event(clock):
    """
    What the seed's loop prints: the moment and the delta, both true.
    """
    stream = stream_of(clock, reads(*HELLO))
    events, error = await run(stream)

    assert error is None
    assert [0.1, 0.2, 0.3, 0.4] == [found.elapsed for found in events]
    assert [NS // 10, NS // 5] == [found.arrived_ns for found in events[:2]]
    assert ['{"role": "assistant", "content": ""}', '{"content": "Hel"}'] == [
        str(found.delta) for found in events[:2]
    ]
    assert ["", "Hel", "lo", None] == texts(events)
    assert [None, None, None, "stop"] == [found.finish_reason for found in events]
    assert "c" == events[0].chunk.id
    assert "Hello" == stream.completion.text
    assert Verdict.FINISHED == stream.completion.verdict == stream.verdict


async def test_a_role_waits_for_the_first_token_and_keeps_its_moment(clock):
    """
    Until a token came the attempt may be thrown away; the stamps aren't those of the wait.
    """
    stream = stream_of(clock, ((0.1, ROLE), (0.1, chunk("")), (0.8, chunk("Hi")), (0.1, STOP)))
    seen = []
    async with stream:
        async for found in stream:
            now = clock() / NS
            seen.append((found.elapsed, now))

    assert [(0.1, 1.0), (0.2, 1.0), (1.0, 1.0), (1.1, 1.1)] == seen
    report = stream.report
    assert (0.1, 1.0) == (report.time_to_first_chunk, report.time_to_first_token)


async def test_the_figures_count_from_the_call(clock):
    """
    Also what the session did before the stream was entered.
    """
    clock.advance(10)
    stream = stream_of(clock, reads(*HELLO), preparation_ns=NS // 2, scheduled_ns=9 * NS)
    await run(stream)

    report = stream.report
    assert 9_500_000_000 == report.created_ns
    assert 0.5 == report.sent
    assert 0.6 == report.time_to_first_byte
    assert 0.7 == report.time_to_first_token
    assert 0.5 == report.dispatch_delay
    assert 1.2 == report.time_to_first_token_from_schedule
    assert 1.0 == report.stream_end
    assert 0.5 == report.phases.pool


async def test_the_marks_are_what_the_report_is_made_of(clock):
    """
    In whole nanoseconds, for who keeps raw moments.
    """
    stream = stream_of(clock, reads(*HELLO))
    await run(stream)

    marks, report = stream.marks, stream.report
    assert report.created_ns == marks.created_ns
    assert round(report.time_to_first_token * NS) == marks.first_token_ns - marks.created_ns
    assert round(report.stream_end * NS) == marks.end_ns - marks.created_ns


async def test_a_report_can_be_read_on_the_way(clock):
    """
    What is known so far, with the verdict it would have now.
    """
    stream = stream_of(clock, reads(*HELLO))
    async with stream:
        async for found in stream:
            if found.content == "Hel":
                report, completion = stream.report, stream.completion

    assert (Verdict.TRUNCATED, 2, 1) == (report.verdict, report.events, report.token_events)
    assert 0.2 == report.time_to_first_token
    assert report.stream_end is None
    assert ("Hel", Verdict.TRUNCATED) == (completion.text, completion.verdict)


async def test_a_report_before_anything_was_sent(clock):
    """
    Nothing is known then, and asking is no error.
    """
    stream = stream_of(clock, reads(*HELLO))

    assert stream.response is None
    assert () == stream.attempts == stream.completion.choices
    assert stream.report.source is None
    assert stream.report.status is None


async def test_facts_of_the_response_are_in_the_report(clock):
    """
    What one needs to find the request in a server's logs.
    """
    stream = stream_of(
        clock,
        reads(b": ping\n\n", *HELLO[:-1], USAGE, DONE),
        options={"headers": {"x-request-id": "r-1"}},
    )
    await run(stream)

    report = stream.report
    assert ("r-1", 200, "scripted", "m", "c") == (
        report.request_id,
        report.status,
        report.model,
        report.response_model,
        report.completion_id,
    )
    assert (True, 1, ArrivalSource.TRANSPORT) == (report.done, report.comments, report.source)
    assert (3, 2) == (report.prompt_tokens, report.completion_tokens)
    assert "r-1" == stream.response.request_id
    assert "stop" == report.choices[0].finish_reason


async def test_streams_have_numbers_of_their_own(clock):
    """
    An observer tells them apart by these.
    """
    one, other = (stream_of(clock, reads(*HELLO)) for _ in range(2))

    assert one.report.stream_id != other.report.stream_id


async def test_choices_take_turns(clock):
    """
    Events of one chunk share an arrival; several choices in one don't make it coalesced.
    """
    both = event(
        {
            "choices": [
                {"index": 1, "delta": {"content": "B"}},
                {"index": 0, "delta": {"content": "A"}},
            ]
        }
    )
    script = reads(both, chunk("b", "stop", index=1), chunk("a", "length"))
    stream = stream_of(clock, script, options={"choices": 2})
    events, error = await run(stream)

    assert error is None
    assert [(1, "B", 0.1), (0, "A", 0.1), (1, "b", 0.2), (0, "a", 0.3)] == [
        (found.index, found.content, found.elapsed) for found in events
    ]
    assert not any(found.coalesced for found in events)
    assert ["Aa", "Bb"] == [choice.message.content for choice in stream.completion.choices]
    assert Verdict.LENGTH == stream.verdict
    assert (3, 4) == (stream.report.events, stream.report.token_events)


async def test_an_answer_with_a_choice_missing_was_cut(clock):
    """
    Two were asked for, one came.
    """
    stream = stream_of(clock, reads(chunk("A", "stop")), options={"choices": 2})
    events, error = await run(stream)

    assert ["A"] == texts(events)
    assert InterruptedStreamError is type(error)


async def test_reasoning_comes_first(clock):
    """
    It is the first token, not the first output.
    """
    script = reads(chunk(reasoning_content="Hm"), chunk("Hi"), STOP)
    stream = stream_of(clock, script)
    await run(stream)

    assert (0.1, 0.2) == (stream.report.time_to_first_token, stream.report.time_to_first_output)


@pytest.mark.parametrize(
    ("expected", "first", "last"),
    [
        (0.05, {}, {"completion_tokens": 5}),
        (0.1, {"completion_tokens": 3}, {"completion_tokens": 5}),
        (None, {"completion_tokens": 5}, {"completion_tokens": 5}),
        (0.05, {"completion_tokens": 0}, {"completion_tokens": 5}),
        (
            0.1,  # a hundred tokens of reasoning were counted before, and not sent
            {"completion_tokens": 103, "reasoning_tokens": 100},
            {"completion_tokens": 105, "reasoning_tokens": 100},
        ),
        (
            0.05,
            {"completion_tokens": 100, "reasoning_tokens": 100},
            {"completion_tokens": 105, "reasoning_tokens": 100},
        ),
    ],
)
async def test_a_server_that_counts_along_tells_the_tokens_of_the_first_event(
    clock, expected, first, last
):
    """
    Without that it is taken for one.
    """
    script = reads(
        ROLE,
        chunk("a", usage=first or None),
        chunk("b", usage={"completion_tokens": 4}),
        chunk("c", "stop", usage=last),
    )
    stream = stream_of(clock, script)
    await run(stream)

    assert expected == stream.report.time_per_output_token


async def test_reasoning_that_was_streamed_is_in_the_first_event(clock):
    """
    Its tokens were seen, so they aren't taken off.
    """
    script = reads(
        chunk(reasoning_content="Hm", usage={"completion_tokens": 3, "reasoning_tokens": 3}),
        chunk("a", "stop", usage={"completion_tokens": 5, "reasoning_tokens": 3}),
    )
    stream = stream_of(clock, script)
    await run(stream)

    assert 0.05 == stream.report.time_per_output_token


async def test_the_lag_is_what_the_caller_added(clock):
    """
    The second event waited while the caller was busy with the first.
    """
    stream = stream_of(clock, ((0.25, chunk("a") + chunk("b")), (0.05, STOP)))
    async with stream:
        async for found in stream:
            if found.content == "a":
                clock.advance(0.5)

    lag = stream.report.client_lag
    assert (3, 0.5) == (lag.n, lag.max)
    assert 0.0 == lag.p50
    assert (0.0,) == stream.report.inter_chunk_latencies


# --- Coalesced -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "script"),
    [
        ([False, False, False], reads(chunk("a"), chunk("b"), STOP)),
        ([True, True, False], reads(chunk("a") + chunk("b") + STOP)),
        ([True, False, False], reads(chunk("a") + chunk("b"), STOP)),
        # more bytes came with the last one
        ([True, True, False], reads(chunk("a") + chunk("b") + STOP[:9], STOP[9:])),
        ([False, False, True], reads(chunk("a"), chunk("b"), STOP + DONE)),
        (
            [True, False, False],
            ((0.1, [Read(chunk("a"), 1, merged=True)]), *reads(chunk("b"), STOP)),
        ),
        ([False, False, False], ((0.1, [Read(chunk("a"), 1), Read(chunk("b"), 2)]), (0.1, STOP))),
        ([False, True, False], reads(chunk("a"), chunk("b") + b": ping\n\n", STOP)),
        ([False, True, False], reads(chunk("a"), chunk("b") + b":\r\r", STOP)),
        ([False, False, False], reads(b": ping\n\n" + chunk("a"), b"\n" + chunk("b"), STOP)),
    ],
)
async def test_an_event_is_coalesced_if_it_did_not_end_its_read(clock, expected, script):
    """
    Then it may have come earlier and waited: its arrival is an upper bound.
    """
    stream = stream_of(clock, script)
    events, _ = await run(stream)

    assert expected == [found.coalesced for found in events]
    assert sum(expected) == stream.report.coalesced_events
    assert sum(expected) / 3 == stream.report.coalesced_share


# --- The end -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending",
    [
        b"data: [DONE]\n\n",
        b"data: [DONE]\n",
        b"data: [DONE]",
        b"data:[DONE]",
        b"data: [DONE] \n\n",
        b"data: [DONE] ",
        b"data:  [DONE]\r\n",
        b"data: [DONE]\n\ndata: [DONE]\n\n",
        b"data: [DONE]\n\ndata: garbage\n\n",
    ],
)
async def test_done_is_done_with_or_without_its_blank_line(clock, ending):
    """
    Some servers hang up right after it; what follows it isn't looked at.
    """
    stream = stream_of(clock, reads(chunk("Hi"), ending), retry=RetryPolicy(1))
    events, error = await run(stream)

    assert error is None
    assert ["Hi"] == texts(events)
    assert (Verdict.FINISHED, True) == (stream.verdict, stream.report.done)


async def test_a_finish_reason_is_enough(clock):
    """
    Not every server says [DONE]; the report tells.
    """
    stream = stream_of(clock, reads(chunk("Hi"), STOP))
    _, error = await run(stream)

    assert error is None
    assert (Verdict.FINISHED, False) == (stream.verdict, stream.report.done)


async def test_an_answer_that_just_stops_is_interrupted(clock):
    """
    Neither word that it is over came: whoever shows it should know.
    """
    stream = stream_of(clock, reads(ROLE, *[chunk("x")] * 40))
    events, error = await run(stream)

    assert 41 == len(events)
    assert InterruptedStreamError is type(error)
    assert "stream ended without finish_reason or [DONE], after 41 events" == str(error)
    assert ("x" * 40, Verdict.TRUNCATED) == (error.partial.text, error.partial.verdict)
    assert error.report == stream.report
    assert Verdict.TRUNCATED == stream.report.verdict
    assert "InterruptedStreamError" == stream.report.error


async def test_half_an_event_is_never_handed_out(clock):
    """
    It may be anything.
    """
    stream = stream_of(clock, reads(chunk("Hel"), chunk("lo")[:-1]))
    events, error = await run(stream)

    assert ["Hel"] == texts(events)
    assert "Hel" == error.partial.text
    assert 1 == error.events


async def test_a_reset_says_after_how_many_events(clock):
    """
    Whoever noticed it doesn't know; the stream does.
    """
    stream = stream_of(clock, reads(ROLE, chunk("Hi"), InterruptedStreamError(0, "reset")))
    _, error = await run(stream)

    assert "reset, after 2 events" == str(error)


async def test_done_without_an_answer_is_empty(clock):
    """
    A server may have nothing to say; no error, but no finished answer either.
    """
    stream = stream_of(clock, reads(DONE))
    events, error = await run(stream)

    assert ([], None, Verdict.EMPTY) == (events, error, stream.verdict)


async def test_an_answer_without_a_token_is_an_answer(clock):
    """
    A finish reason says so, [DONE] or not; it isn't tried again.
    """
    stream = stream_of(clock, reads(ROLE, STOP))
    events, error = await run(stream)

    assert (2, None, Verdict.FINISHED) == (len(events), error, stream.verdict)
    assert 1 == len(stream.attempts)
    assert stream.report.time_to_first_token is None


async def test_a_server_that_does_not_hang_up_has_said_all_the_same(clock):
    """
    After the last finish reason nothing is owed; the clock ends the wait without an error.
    """
    stream = stream_of(clock, reads(*HELLO[:-1], None, wait=0.1), timeouts=Timeouts(idle=5))
    task = asyncio.create_task(run(stream))
    await turns()
    clock.advance(10)
    events, error = await task

    assert (4, None, Verdict.FINISHED) == (len(events), error, stream.verdict)
    assert 1 == len(stream.attempts)


class OddError(ChatStreamError):
    """An error the stream knows nothing about."""


@pytest.mark.parametrize(
    ("verdict", "error", "attempt"),
    [
        (Verdict.FINISHED, None, reads(*HELLO)),
        (Verdict.FINISHED, None, reads(chunk("x", "tool_calls"))),
        (Verdict.LENGTH, None, reads(chunk("x", "length"), DONE)),
        (Verdict.CONTENT_FILTER, None, reads(chunk("x", "content_filter"))),
        (Verdict.TRUNCATED, None, reads(chunk("x", "abort"), DONE)),
        (Verdict.TRUNCATED, InterruptedStreamError, reads(chunk("x"))),
        (Verdict.TRUNCATED, InterruptedStreamError, reads(chunk("x"), RESET)),
        (Verdict.EMPTY, None, reads(USAGE, DONE)),
        (Verdict.EMPTY, NotAnEventStreamError, ()),
        (Verdict.CONNECT_ERROR, ConnectError, REFUSED),
        (Verdict.CONNECT_ERROR, RequestError, RequestError("api_key", "nothing", "a key")),
        (Verdict.HTTP_ERROR, AuthenticationError, AuthenticationError(401, "who?")),
        (Verdict.TIMEOUT, FirstTokenTimeoutError, ((200.0, ROLE),)),
        (Verdict.TIMEOUT, IdleTimeoutError, ((1.0, chunk("x")), (61.0, STOP))),
        (Verdict.TIMEOUT, ConnectTimeoutError, ConnectTimeoutError(10)),
        (Verdict.UPSTREAM_ERROR, UpstreamError, reads(chunk("x"), event({"error": "busy"}))),
        (Verdict.MALFORMED, DecodeError, reads(chunk("x"), b"data: {\n\n")),
        (Verdict.MALFORMED, NotAnEventStreamError, reads(b"<html>")),
        (Verdict.MALFORMED, ProtocolError, reads(chunk("x"), ProtocolError("chunk size"))),
        (Verdict.MALFORMED, OddError, reads(chunk("x"), OddError("?"))),
    ],
)
async def test_each_way_to_end_has_its_verdict_and_one_word_to_observers(
    clock, verdict, error, attempt
):
    """
    One report per stream, however it ends, and the same one the caller gets.
    """
    watcher = Watcher()
    stream = stream_of(clock, attempt, retry=RetryPolicy(1), observers=[watcher])
    _, raised = await run(stream)

    assert error is (None if raised is None else type(raised))
    assert verdict == stream.verdict == stream.report.verdict == stream.completion.verdict
    spoke = stream.report.token_events > 0
    assert ["started", *["first_token"] * spoke, "ended"] == watcher.names
    assert stream.report == watcher.calls[-1][1]
    assert [stream.report.time_to_first_token] * spoke == [
        wait for name, wait in watcher.calls if name == "first_token"
    ]
    assert (error.__name__ if error else None) == stream.report.error
    if raised is not None:
        assert stream.completion == raised.partial
        assert stream.report == raised.report
        assert stream.attempts == raised.attempts
        assert all(body.aborted for body in stream._source.bodies)
        assert str(raised) == stream.attempts[-1].error or stream.report.token_events
    else:
        assert all(body.released for body in stream._source.bodies)


async def test_every_verdict_is_reached():
    """
    By the test above, and those of leaving early.
    """
    mark = next(
        mark
        for mark in (test_each_way_to_end_has_its_verdict_and_one_word_to_observers.pytestmark)
        if mark.name == "parametrize"
    )
    reached = {row[0] for row in mark.args[1]}

    assert set(Verdict) - {Verdict.CLOSED, Verdict.CANCELLED} == reached


async def test_a_start_is_told_with_what_is_known_then(clock):
    """
    The key to match it with the end.
    """
    watcher = Watcher()
    clock.advance(2)
    stream = stream_of(clock, reads(*HELLO), observers=[watcher])
    await run(stream)

    start = watcher.calls[0][1]
    assert (stream.report.stream_id, "scripted", "memory", 2 * NS) == (
        start.stream_id,
        start.model,
        start.host,
        start.created_ns,
    )


# --- What is no stream -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "body"),
    [
        ("<html> <p>Log in", b"<html>\n<p>Log in"),
        ('{"object": "chat.completion"}', b'{"object": "chat.completion"}'),
        ("[]", b"[]"),
        ("Service unavailable", b"Service unavailable"),
        ("Two lines", b"Two\nlines\n"),
        ("", b""),
        ("", b"\n\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
async def test_a_body_that_is_no_stream_is_shown(clock, seen, body, size):
    """
    A proxy's page at status 200, a whole answer, a word: trying again won't help.
    """
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    stream = stream_of(clock, reads(*parts))
    _, error = await run(stream)

    assert NotAnEventStreamError is type(error)
    assert ("text/event-stream", seen) == (error.content_type, error.seen)
    assert 1 == len(stream.attempts)


async def test_an_error_may_come_as_a_document(clock):
    """
    At status 200, without any event.
    """
    body = b'{"error": {"message": "busy", "code": 503, "type": "server"}}'
    stream = stream_of(clock, reads(body), retry=RetryPolicy(1))
    _, error = await run(stream)

    assert UpstreamError is type(error)
    assert ("busy", "503", "server") == (error.message, error.code, error.type)


async def test_a_large_document_is_not_read_to_its_end(clock):
    """
    Nor kept: it isn't what was asked for.
    """
    stream = stream_of(clock, (*reads(*[b"<p>" * 10_000] * 3), (0.1, None)))
    _, error = await run(stream)

    assert NotAnEventStreamError is type(error)
    assert 512 == len(error.seen)


async def test_heartbeats_alone_are_an_interrupted_stream(clock):
    """
    It was one, so trying again may help.
    """
    stream = stream_of(clock, *[reads(b": ping\n\n")] * 2, retry=RetryPolicy(2))
    _, error = await run(stream)

    assert "stream ended without finish_reason or [DONE], after 0 events" == str(error)
    assert 2 == len(stream.attempts)


async def test_half_an_event_alone_is_an_interrupted_stream(clock):
    """
    It isn't a document, though nothing else came.
    """
    stream = stream_of(clock, reads(b'data: {"choices'), retry=RetryPolicy(1))
    _, error = await run(stream)

    assert InterruptedStreamError is type(error)


async def test_heartbeats_for_a_day_are_not_kept(clock):
    """
    A megabyte of them leaves nothing behind, and costs no more the longer it goes on.
    """
    beats = b": keep-alive\n\n" * 5_000
    stream = stream_of(clock, (*((0.001, beats) for _ in range(15)), (0.1, chunk("x", "stop"))))
    kept = []
    async with stream:
        reader = stream._reader
        push = reader.push

        def noting(read):
            push(read)
            kept.append(len(reader._head or b""))

        reader.push = noting
        events = [found async for found in stream]

    assert ["x"] == texts(events)
    assert 2 * 64 * 1024 >= max(kept)


async def test_what_is_skipped(clock):
    """
    Empty data, comments, a retry field and objects of other kinds are no answer, and no fault.
    """
    noise = b'data:\n\n: ping\n\nretry: 5\n\ndata:  \n\ndata: {}\n\ndata: {"type": "ping"}\n\n'
    stream = stream_of(clock, reads(noise, chunk("Hi"), noise, STOP))
    events, error = await run(stream)

    assert error is None
    assert ["Hi", None] == texts(events)
    assert "Hi" == stream.completion.text


# --- Errors inside ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "frame"),
    [
        (
            ("busy", "full", "server"),
            event({"error": {"message": "busy", "code": "full", "type": "server"}}),
        ),
        (("busy", None, None), event({"error": "busy"})),
        (("", None, None), event({"error": {}})),
        (("busy", "503", None), event({"object": "error", "message": "busy", "code": 503})),
        (("busy", None, None), b"event: error\ndata: busy\n\n"),
        (("busy", "7", None), b'event: error\ndata: {"message": "busy", "code": 7}\n\n'),
        (("is busy", None, None), b'event: error\ndata: {"detail": "is\\u001b\\nbusy"}\n\n'),
        (("busy", "5", "server"), b'error: {"code": 5, "message": "busy", "type": "server"}\n\n'),
        (("busy", None, None), b"error: busy\n\n"),
    ],
)
@pytest.mark.parametrize("together", [False, True])
async def test_an_error_in_the_stream_is_raised_after_what_came_before(
    clock, facts, frame, together
):
    """
    Servers have many ways to say it; what follows it doesn't count.
    """
    parts = [chunk("Hel"), chunk("lo"), frame, chunk("no"), STOP, DONE]
    stream = stream_of(clock, reads(*([b"".join(parts)] if together else parts)))
    events, error = await run(stream)

    assert ["Hel", "lo"] == texts(events)
    assert UpstreamError is type(error)
    assert facts == (error.message, error.code, error.type)
    assert "Hello" == error.partial.text
    assert (Verdict.UPSTREAM_ERROR, 1) == (stream.verdict, len(stream.attempts))


@pytest.mark.parametrize("before", [(), (chunk("Hel"),)])
async def test_an_error_with_choices_comes_after_them(clock, before):
    """
    The chunk's text was generated; then it broke.
    """
    both = event(
        {
            "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "error"}],
            "error": {"message": "broke"},
        }
    )
    stream = stream_of(clock, reads(*before, both, DONE))
    events, error = await run(stream)

    assert [*["Hel"] * len(before), "lo"] == texts(events)
    assert "broke" == error.message
    assert 1 == len(stream.attempts)


async def test_no_error_is_no_error(clock):
    """
    Some servers send the field with each chunk, empty.
    """
    body = {"error": None, "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    stream = stream_of(clock, reads(event(body), STOP))
    _, error = await run(stream)

    assert error is None
    assert "Hi" == stream.completion.text


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"data: null\n\n",
        b"data: hello\n\n",
        b'data: {"choices": {}}\n\n',
        b'data: {"choices": [{"index": -1}]}\n\n',
    ],
)
@pytest.mark.parametrize("first", [ROLE, chunk("Hi")])
async def test_nothing_counts_after_a_malformed_event(clock, first, bad):
    """
    Nor of it; with a token before it or without, in the same read or not.
    """
    stream = stream_of(clock, reads(first + bad + chunk("no") + STOP, DONE), retry=RetryPolicy(1))
    events, error = await run(stream)

    assert 1 == len(events)
    assert DecodeError is type(error)
    assert Verdict.MALFORMED == stream.verdict
    assert 1 == stream.report.events


async def test_an_event_without_end_is_given_up_after_those_before_it(clock):
    """
    They were whole.
    """
    stream = stream_of(clock, reads(chunk("Hi") + b"data: " + b"x" * 500), max_event_size=400)
    events, error = await run(stream)

    assert ["Hi"] == texts(events)
    assert EventTooLargeError is type(error)
    assert (506, 400) == (error.size, error.limit)
    assert Verdict.MALFORMED == stream.verdict


async def test_nothing_counts_after_an_event_without_end(clock):
    """
    Not even what a later read brought.
    """
    late = [Read(chunk("Hi") + b"x" * 500, 1), Read(b"\n\n" + chunk("no"), 2)]
    stream = stream_of(clock, ((0.1, late),), max_event_size=400)
    events, error = await run(stream)

    assert ["Hi"] == texts(events)
    assert EventTooLargeError is type(error)


# --- Attempts ------------------------------------------------------------------------


def broken(what):
    """An attempt that fails before its first token."""
    return {
        "refused": REFUSED,
        "busy": ServerError(503, "later"),
        "reset": reads(ROLE, RESET),
        "cut": reads(ROLE),
        "silent": ((200.0, ROLE),),
        "upstream": reads(ROLE, event({"error": "busy"})),
        "malformed": reads(ROLE, b"data: {\n\n"),
        "heartbeats": reads(b": ping\n\n"),
    }[what]


KINDS = ["refused", "busy", "reset", "cut", "silent", "upstream", "malformed", "heartbeats"]


@pytest.mark.parametrize("what", KINDS)
async def test_what_fails_before_the_first_token_is_tried_again(clock, what):
    """
    Nobody has seen anything of it, and nobody does.
    """
    first = chunk("", role="assistant", extra="second")
    watcher = Watcher()
    stream = stream_of(
        clock,
        broken(what),
        broken(what),
        reads(first, *HELLO[1:]),
        observers=[watcher],
    )
    events, error = await run(stream)

    assert error is None
    assert ["", "Hel", "lo", None] == texts(events)
    assert "second" == events[0].delta.extra["extra"]
    assert (Verdict.FINISHED, "Hello") == (stream.verdict, stream.completion.text)
    report = stream.report
    assert (4, 2) == (report.events, report.token_events)
    assert ["started", "first_token", "ended"] == watcher.names
    one, two, three = stream.attempts
    assert [1, 2, 3] == [one.number, two.number, three.number]
    assert three.error is None
    assert one.error == two.error is not None
    assert 0 == one.started == one.waited
    assert 0.5 <= two.waited <= 1
    assert 1 <= three.waited <= 1.5
    assert pytest.approx(three.started + 0.1, abs=1e-6) == report.time_to_first_chunk
    assert events[0].elapsed == report.time_to_first_chunk
    assert all(body.aborted for body in stream._source.bodies[:-1])
    assert stream._source.bodies[-1].released


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        (InterruptedStreamError, (RESET,)),
        (InterruptedStreamError, ()),
        (IdleTimeoutError, (None,)),
        (UpstreamError, (event({"error": "busy"}),)),
        (DecodeError, (b"data: {\n\n",)),
    ],
)
async def test_nothing_is_tried_again_after_the_first_token(clock, kind, rest):
    """
    The caller has shown it to someone: a second answer would be another.
    """
    stream = stream_of(clock, reads(ROLE, chunk("Hi"), *rest), reads(*HELLO))
    task = asyncio.create_task(run(stream))
    await turns()
    clock.advance(61)
    events, error = await task

    assert ["", "Hi"] == texts(events)
    assert kind is type(error)
    assert 1 == len(error.attempts)
    assert "Hi" == error.partial.text


async def test_no_more_attempts_than_allowed(clock):
    """
    Wherever they fail: at the door, or inside.
    """
    watcher = Watcher()
    stream = stream_of(
        clock, REFUSED, broken("cut"), ServerError(500), reads(*HELLO), observers=[watcher]
    )
    events, error = await run(stream)

    assert [] == events  # the role of the second attempt was thrown away with it
    assert ServerError is type(error)
    assert [None, 200, 500] == [attempt.status for attempt in stream.attempts]
    assert stream.attempts == error.attempts
    assert Verdict.HTTP_ERROR == stream.verdict
    assert ["started", "ended"] == watcher.names


async def test_the_last_attempt_hands_out_what_it_had(clock):
    """
    There is no other to wait for; a role is better than nothing.
    """
    stream = stream_of(clock, REFUSED, reads(ROLE, chunk(""), RESET), retry=RetryPolicy(2))
    events, error = await run(stream)

    assert ["", ""] == texts(events)
    assert "connection reset, after 2 events" == str(error)
    assert "connection reset, after 2 events" == stream.attempts[-1].error
    assert "assistant" == error.partial.choices[0].message.role


async def test_each_attempt_says_how_far_it_came(clock):
    """
    In the report, also of those that were thrown away.
    """
    reset = [InterruptedStreamError(0, "connection reset") for _ in range(2)]
    attempts = [reads(ROLE, reset[0]), reads(ROLE, chunk(""), reset[1]), reads(*HELLO)]
    stream = stream_of(clock, *attempts)
    await run(stream)

    assert ["connection reset, after 1 event", "connection reset, after 2 events", None] == [
        attempt.error for attempt in stream.attempts
    ]


async def test_the_last_attempt_may_end_with_a_timeout(clock):
    """
    As any other error.
    """
    stream = stream_of(clock, ((0.1, ROLE), (200, STOP)), retry=RetryPolicy(1))
    events, error = await run(stream)

    assert 1 == len(events)
    assert FirstTokenTimeoutError is type(error)
    assert "no first token within 120 s" == stream.attempts[0].error


async def test_an_attempt_that_fails_at_the_door_raises_on_entering(clock):
    """
    No answer ever began; the error has all that is known.
    """
    watcher = Watcher()
    stream = stream_of(clock, AuthenticationError(401, "who?"), observers=[watcher])
    with pytest.raises(AuthenticationError) as caught:
        await stream.__aenter__()

    error = caught.value
    assert Verdict.HTTP_ERROR == stream.verdict == error.partial.verdict
    assert (1, 401) == (len(error.attempts), error.attempts[0].status)
    assert "HTTP 401: who?" == error.attempts[0].error
    assert error.request_id is None
    assert error.report == stream.report
    assert ["started", "ended"] == watcher.names


async def test_the_server_says_when_to_come_back(clock):
    """
    To the second, and in the report.
    """
    stream = stream_of(clock, RateLimitError(429, retry_after=7.0), reads(*HELLO))
    await run(stream)

    assert 7.0 == stream.attempts[1].waited == stream.attempts[1].started
    assert 7.2 == stream.report.time_to_first_token
    assert 0.2 == pytest.approx(
        stream.report.time_to_first_token_from_sent
    )  # the attempt that answered


async def test_an_error_names_the_request_it_is_about(clock):
    """
    The newest response's id.
    """
    script = reads(chunk("Hi"), RESET)
    stream = stream_of(clock, script, options={"headers": {"x-request-id": "r-1"}})
    _, error = await run(stream)

    assert "r-1" == error.request_id == error.report.request_id == error.attempts[0].request_id


@pytest.mark.parametrize("events", [MAX_HELD_BACK - 1, MAX_HELD_BACK, MAX_HELD_BACK + 1])
async def test_what_is_held_back_is_bounded(clock, events):
    """
    A server that sends empty deltas for ever mustn't fill the memory; then it is tried no more.
    """
    empty = chunk("")
    stream = stream_of(clock, reads(*[empty] * events, RESET, wait=0.001), reads(*HELLO))
    found, error = await run(stream)

    if events < MAX_HELD_BACK:
        assert (4, None, 2) == (len(found), error, len(stream.attempts))
    else:
        assert (events, 1) == (len(found), len(stream.attempts))
        assert InterruptedStreamError is type(error)
        assert 0.001 == found[0].elapsed


async def test_attempts_of_one_stream_share_its_total_time(clock):
    """
    The pause between them counts, too.
    """
    stream = stream_of(
        clock,
        RateLimitError(429, retry_after=50.0),
        reads(*HELLO),
        timeouts=Timeouts(total=30),
    )
    _, error = await run(stream)

    assert TotalTimeoutError is type(error)
    assert 1 == len(stream.attempts)
    assert Verdict.TIMEOUT == stream.verdict


async def test_the_total_time_may_end_in_the_pause_after_a_broken_answer(clock):
    """
    What that one had is handed out, as no other came.
    """
    busy = RateLimitError(429, retry_after=50.0)
    stream = stream_of(clock, reads(ROLE, busy), reads(*HELLO), timeouts=Timeouts(total=30))
    events, error = await run(stream)

    assert [""] == texts(events)
    assert TotalTimeoutError is type(error)
    assert 1 == len(stream.attempts)


# --- Clocks ----------------------------------------------------------------------------


async def test_comments_and_empty_deltas_do_not_stop_the_clock(clock):
    """
    A proxy keeps the connection alive; the model behind it may be dead.
    """
    beats = [part for _ in range(100) for part in (b": ping\n\n", chunk(""))]
    stream = stream_of(
        clock, reads(chunk("Hi"), *beats, STOP, wait=1.0), timeouts=Timeouts(idle=10)
    )
    events, error = await run(stream)

    assert IdleTimeoutError is type(error)
    assert "no further token within 10 s" == str(error)
    assert 11.0 == stream.report.stream_end
    assert 5 == len(events)


async def test_the_first_token_has_a_clock_of_its_own(clock):
    """
    A role isn't one; reasoning is.
    """
    timeouts = Timeouts(first_token=5, idle=None)
    silent = reads(ROLE, *[chunk("")] * 20, wait=1.0)
    stream = stream_of(clock, silent, timeouts=timeouts, retry=RetryPolicy(1))
    _, error = await run(stream)

    assert FirstTokenTimeoutError is type(error)
    assert 5.0 == stream.report.stream_end

    reasoning = reads(ROLE, chunk(reasoning_content="Hm"), *[b": ping\n\n"] * 20, STOP, wait=1.0)
    stream = stream_of(FakeClock(), reasoning, timeouts=timeouts)
    _, error = await run(stream)
    assert error is None


async def test_a_slow_caller_sets_off_no_clock_of_the_server(clock):
    """
    Between entering and iterating, between events: it's the caller's own time.
    """
    stream = stream_of(clock, reads(*HELLO), timeouts=Timeouts(first_token=5, idle=5))
    async with stream:
        clock.advance(1000)
        async for _ in stream:
            clock.advance(1000)

    assert Verdict.FINISHED == stream.verdict


async def test_a_slow_caller_may_use_up_the_total(clock):
    """
    What had come is handed out before the error.
    """
    stream = stream_of(
        clock, reads(chunk("a") + chunk("b"), chunk("c"), STOP), timeouts=Timeouts(total=30)
    )
    events = []
    with pytest.raises(TotalTimeoutError) as caught:  # noqa: PT012 the loop is what is tested
        async with stream:
            async for found in stream:
                events.append(found)
                clock.advance(100)

    assert ["a", "b"] == texts(events)
    assert "ab" == caught.value.partial.text
    assert stream._source.bodies[0].aborted


async def test_a_caller_who_never_iterates_holds_no_connection_for_ever(clock):
    """
    The total time closes it; the error comes when somebody looks.
    """
    stream = stream_of(clock, reads(*HELLO), timeouts=Timeouts(total=30))
    async with stream:
        clock.advance(31)
        assert stream._source.bodies[0].aborted
        with pytest.raises(TotalTimeoutError):
            await stream.collect()


async def test_an_attempt_that_cannot_connect_is_broken_off_and_tried_again(clock):
    """
    The clock reaches into the opening, too.
    """
    stream = ChatStream(
        Stuck(clock, reads(*HELLO), stuck=1), clock=clock, call_later=clock.call_later
    )
    task = asyncio.create_task(run(stream))
    await turns()
    clock.advance(121)
    events, error = await task

    assert (4, None) == (len(events), error)
    assert ["no first token within 120 s", None] == [one.error for one in stream.attempts]


class Crowded(Scripted):
    """A session with as many streams as it may have at a time."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.free = asyncio.Event()
        self.asked = 0

    def room(self):
        self.asked += 1
        return self.free.wait()


async def test_waiting_for_room_is_no_silence_of_the_server(clock):
    """
    A queue of our own must not use up the time for the first token.
    """
    source = Crowded(clock, reads(*HELLO))
    stream = ChatStream(source, clock=clock, call_later=clock.call_later)
    task = asyncio.create_task(run(stream))
    await turns()
    clock.advance(1000)
    await turns()
    source.free.set()
    events, error = await task

    assert (4, None, 1) == (len(events), error, source.asked)
    assert 1000 <= stream.report.time_to_first_token


class Stuck(Scripted):
    """A server that takes the first *stuck* connections and never answers."""

    def __init__(self, *args, stuck, **kwargs):
        super().__init__(*args, **kwargs)
        self._stuck = stuck

    async def open(self, marks):
        if self._stuck:
            self._stuck -= 1
            await asyncio.Event().wait()
        return await super().open(marks)


async def test_a_connection_opened_at_the_last_moment_is_closed(clock):
    """
    Time was up in the same turn of the loop: the answer isn't wanted any more.
    """

    class Late(Scripted):
        async def open(self, marks):
            body = await super().open(marks)
            if len(self.bodies) == 1:
                clock.advance(121)
            return body

    source = Late(clock, reads(*HELLO), reads(*HELLO))
    stream = ChatStream(source, clock=clock, call_later=clock.call_later)
    events, error = await run(stream)

    assert (4, None) == (len(events), error)
    assert (True, False) == tuple(body.aborted for body in source.bodies)


async def test_a_clock_that_ran_out_is_why_the_connection_broke(clock):
    """
    Closing it makes the read fail; that isn't what is told.
    """

    class Complaining(Scripted):
        async def open(self, marks):
            body = await super().open(marks)
            take = body.take

            def complain():
                if body.aborted:
                    raise InterruptedStreamError(0, "connection closed")
                return take()

            body.take = complain
            return body

    source = Complaining(clock, ((0.1, chunk("Hi")), (61.0, STOP)))
    stream = ChatStream(source, clock=clock, call_later=clock.call_later)
    _, error = await run(stream)

    assert IdleTimeoutError is type(error)


async def test_headers_are_stamped_for_a_source_that_does_not(clock):
    """
    Late rather than never.
    """

    class Careless(Scripted):
        async def open(self, marks):
            body = await super().open(marks)
            marks.headers_ns = None
            clock.advance(0.5)
            return body

    stream = ChatStream(Careless(clock, reads(*HELLO)), clock=clock)
    await run(stream)

    assert 0.5 == stream.report.phases.headers


async def test_a_timeout_that_is_not_ours_passes(clock):
    """
    As one raised by a key's callable, or by a bug.
    """

    class Broken(Scripted):
        async def open(self, _):
            raise TimeoutError

    stream = ChatStream(Broken(clock), clock=clock, call_later=clock.call_later)
    with pytest.raises(TimeoutError) as caught:
        await stream.__aenter__()

    assert TimeoutError is type(caught.value)
    assert Verdict.CLOSED == stream.verdict


async def test_without_a_fake_the_loops_own_timers_are_used():
    """
    And none is left behind.
    """
    clock = FakeClock()
    async with ChatStream(scripted(clock, *reads(*HELLO)), clock=clock) as stream:
        timer = stream._watchdog._timer
        await stream.collect()

    assert isinstance(timer, asyncio.TimerHandle)
    assert timer.cancelled()


# --- One cursor ------------------------------------------------------------------------


async def test_an_iteration_goes_on_where_the_last_one_broke_off(clock):
    """
    Nothing is lost, and nothing comes twice.
    """
    stream = stream_of(clock, reads(b"".join(HELLO)))
    async with stream:
        async for found in stream:
            if found.content == "Hel":
                break
        rest = [found async for found in stream]

    assert ["lo", None] == texts(rest)
    assert Verdict.FINISHED == stream.verdict


async def test_collect_reads_the_rest_and_returns_the_whole(clock):
    """
    Also of what had been iterated before.
    """
    stream = stream_of(clock, reads(*HELLO))
    async with stream:
        async for _ in stream:
            break
        completion = await stream.collect()

        assert "Hello" == completion.text == (await stream.collect()).text
        assert [] == [found async for found in stream]


async def test_text_is_that_of_the_first_choice(clock):
    """
    As it comes, without roles, usage and other choices.
    """
    script = reads(*HELLO[:2], chunk("other", index=1), *HELLO[2:4], USAGE, DONE)
    async with stream_of(clock, script) as stream:
        assert ["Hel", "lo"] == [text async for text in stream.text()]


@pytest.mark.parametrize(
    ("expected", "parts"),
    [
        (["a", "😀", "b"], ["a", "\ud83d", "\ude00b"]),
        (["a", "😀"], ["a\ud83d", "\ude00"]),
        (["😀😀"], ["\ud83d", "\ude00\ud83d\ude00"]),
        (["a", "\ufffd"], ["a\ud83d"]),  # the other half never came
        (["\ufffdx"], ["\ud83d", "x"]),
        (["\ufffd"], ["\ude00"]),
    ],
)
async def test_text_never_ends_in_half_a_character(clock, expected, parts):
    """
    Servers cut JSON escapes between the halves; a half can't be encoded.
    """
    async with stream_of(clock, reads(*map(chunk, parts), STOP)) as stream:
        found = [text async for text in stream.text()]

    assert len(expected) == len(found) or "".join(expected) == "".join(found)
    assert "".join(expected) == "".join(found) == stream.completion.text
    assert all(text.encode() for text in found)


async def test_half_a_character_is_kept_for_the_next_iteration(clock):
    """
    It is the stream's, not the iterator's.
    """
    parts = ["a\ud83d", "\ude00b"]
    async with stream_of(clock, reads(*map(chunk, parts), STOP)) as stream:
        async for text in stream.text():
            assert "a" == text
            break
        assert ["😀b"] == [text async for text in stream.text()]


async def test_events_have_kinds(clock):
    """
    In the order of the wire, and what is whole is said once.
    """
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{"}}
    more = {"index": 0, "function": {"arguments": "}"}}
    script = reads(
        ROLE,
        chunk(reasoning_content="Hm"),
        chunk("Hi"),
        chunk(tool_calls=[call]),
        chunk(tool_calls=[more]),
        chunk(finish_reason="tool_calls"),
        USAGE,
        event({"x_note": 1}),
        DONE,
    )
    async with stream_of(clock, script) as stream:
        events = [found async for found in stream.events()]

    assert [
        ReasoningDeltaEvent,
        ReasoningDoneEvent,
        ContentDeltaEvent,
        ToolCallDeltaEvent,
        ToolCallDeltaEvent,
        ContentDoneEvent,
        ToolCallDoneEvent,
        FinishEvent,
        UsageEvent,
        OtherEvent,
    ] == [type(found) for found in events]
    assert [0.2, 0.3, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.7, 0.8] == [
        round(found.elapsed, 9) for found in events
    ]
    assert "{}" == events[6].tool_call.function.arguments
    assert 2 == events[8].usage.completion_tokens


async def test_chunks_come_whole_and_once(clock):
    """
    However many choices one is about, and whatever it says besides.
    """
    both = event({"id": "1", "choices": [{"index": 1, "delta": {"content": "B"}},
                                         {"index": 0, "delta": {"content": "A"}}]})  # fmt: skip
    last = event({"id": "2", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"},
                                         {"index": 1, "delta": {}, "finish_reason": "stop"}],
                  "usage": {"completion_tokens": 2}})  # fmt: skip
    script = reads(both, both, last, USAGE, event({"x_note": 1}), DONE)
    async with stream_of(clock, script, options={"choices": 2}) as stream:
        events = [found async for found in stream.chunks()]

    assert ["1", "1", "2", None, None] == [found.chunk.id for found in events]
    assert [2, 2, 2, 0, 0] == [len(found.chunk.choices) for found in events]
    assert [0.1, 0.2, 0.3, 0.4, 0.5] == [round(found.elapsed, 9) for found in events]
    assert [found.arrived_ns for found in events] == sorted({found.arrived_ns for found in events})


async def test_events_after_deltas_know_the_text_so_far(clock):
    """
    What one iterator has taken another won't see, but it counts.
    """
    async with stream_of(clock, reads(*HELLO)) as stream:
        async for found in stream:
            if found.content == "Hel":
                break
        events = [found async for found in stream.events()]

    assert [ContentDeltaEvent, ContentDoneEvent, FinishEvent] == [type(found) for found in events]
    assert ("lo", "Hello") == (events[0].delta, events[0].text)
    assert "Hello" == events[1].text


async def test_events_after_text_go_on_with_the_next_chunk(clock):
    """
    Text and events share the cursor.
    """
    async with stream_of(clock, reads(*HELLO)) as stream:
        async for text in stream.text():
            assert "Hel" == text
            break
        events = [found async for found in stream.events()]

    assert ["lo"] == [found.delta for found in events if isinstance(found, ContentDeltaEvent)]


async def test_events_of_one_chunk_survive_a_break(clock):
    """
    A finish reason gives several; the loop may end between them.
    """
    async with stream_of(clock, reads(chunk("Hi"), STOP)) as stream:
        async for found in stream.events():
            if isinstance(found, ContentDoneEvent):
                break
        rest = [found async for found in stream.events()]

    assert [FinishEvent] == [type(found) for found in rest]


async def test_a_text_is_done_when_the_stream_is(clock):
    """
    [DONE] ends what no finish reason ended.
    """
    async with stream_of(clock, reads(chunk("Hi"), DONE)) as stream:
        events = [found async for found in stream.events()]

    assert [ContentDeltaEvent, ContentDoneEvent] == [type(found) for found in events]


@pytest.mark.parametrize("how", ["error", "closed"])
async def test_a_text_that_was_cut_is_not_done(clock, how):
    """
    Who acts on a whole text mustn't act on half of one.
    """
    script = reads(chunk("Hi"), RESET if how == "error" else chunk("no"))
    events = []
    async with stream_of(clock, script) as stream:
        try:
            async for found in stream.events():
                events.append(found)
                if how == "closed":
                    await stream.aclose()
        except InterruptedStreamError:
            assert "error" == how
        events += [found async for found in stream.events()]

    assert [ContentDeltaEvent] == [type(found) for found in events]


async def test_an_exhausted_iterator_stays_so(clock):
    """
    As iterators do.
    """
    async with stream_of(clock, reads(*HELLO)) as stream:
        iterator = stream.text()
        assert ["Hel", "lo"] == [text async for text in iterator]
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(iterator)


async def test_a_second_iterator_beside_a_live_one_is_refused(clock):
    """
    Each would see part of the answer, and not know it.
    """
    async with stream_of(clock, reads(*HELLO)) as stream:
        first = aiter(aiter(stream))
        await anext(first)
        for another in (stream.text, stream.events, stream.__aiter__):
            with pytest.raises(RuntimeError, match="share one cursor"):
                another()
        assert "Hel" == (await anext(first)).content

        del first
        assert "lo" == (await anext(aiter(stream))).content


@pytest.mark.parametrize("way", ["__aiter__", "text", "events"])
async def test_a_stream_is_entered_before_it_is_iterated(clock, way):
    """
    ``session.stream()`` sends nothing by itself.
    """
    stream = stream_of(clock, reads(*HELLO))
    with pytest.raises(RuntimeError, match="async with"):
        getattr(stream, way)()


async def test_a_stream_is_entered_once(clock):
    """
    A second answer is another stream.
    """
    stream = stream_of(clock, reads(*HELLO))
    await run(stream)
    with pytest.raises(RuntimeError, match="entered once"):
        await stream.__aenter__()

    assert Verdict.FINISHED == stream.verdict


async def test_two_tasks_cannot_read_at_once(clock):
    """
    The one that came first goes on.
    """
    stream = stream_of(clock, reads(*HELLO), options={"turns": 1})
    async with stream:
        first = asyncio.create_task(stream.collect())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await stream.collect()

        assert "Hello" == (await first).text


async def test_iterating_after_leaving_ends_at_once(clock):
    """
    There is nothing more to come.
    """
    stream = stream_of(clock, reads(*HELLO))
    async with stream:
        await anext(aiter(stream))

    assert [] == [found async for found in stream]
    assert Verdict.CLOSED == (await stream.collect()).verdict


async def test_iterating_after_an_error_ends_at_once(clock):
    """
    It was raised once, to whoever waited.
    """
    async with stream_of(clock, reads(chunk("Hi"), RESET)) as stream:
        with pytest.raises(InterruptedStreamError):
            await stream.collect()
        assert [] == [found async for found in stream]


# --- Leaving ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "after"),
    [
        (Verdict.CLOSED, "Hel"),
        (Verdict.CLOSED, "lo"),
        (Verdict.FINISHED, None),
    ],
)
async def test_leaving_early_closes_the_connection(clock, verdict, after):
    """
    After the finish reason there was nothing left to miss.
    """
    watcher = Watcher()
    stream = stream_of(clock, reads(*HELLO), observers=[watcher])
    async with stream:
        async for found in stream:
            if found.content == after:
                break

    body = stream._source.bodies[0]
    assert verdict == stream.verdict
    assert (verdict is Verdict.CLOSED) == body.aborted
    assert ["started", "first_token", "ended"] == watcher.names
    assert clock() / NS == stream.report.stream_end


@pytest.mark.parametrize("reason", ["abort", "network_error"])
async def test_leaving_after_a_bad_finish_is_closing(clock, reason):
    """
    The verdict of the answer wouldn't be a good one, so it isn't taken early.
    """
    async with stream_of(clock, reads(chunk("Hi"), chunk(finish_reason=reason), DONE)) as stream:
        async for found in stream:
            if found.finish_reason:
                break

    assert Verdict.CLOSED == stream.verdict


async def test_leaving_with_one_of_two_choices_finished_is_closing(clock):
    """
    The other one was still on its way.
    """
    script = reads(chunk("a", "stop"), chunk("b", index=1))
    async with stream_of(clock, script, options={"choices": 2}) as stream:
        async for _ in stream:
            break

    assert Verdict.CLOSED == stream.verdict


async def test_an_exception_of_the_caller_passes_and_closes(clock):
    """
    It isn't ours to judge.
    """
    stream = stream_of(clock, reads(*HELLO))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 the loop is what is tested
        async with stream:
            async for _ in stream:
                1 / 0  # noqa: B018

    assert Verdict.CLOSED == stream.verdict
    assert stream._source.bodies[0].aborted


async def test_never_iterating_is_leaving_early(clock):
    """
    The connection is closed all the same.
    """
    watcher = Watcher()
    stream = stream_of(clock, reads(*HELLO), observers=[watcher])
    async with stream:
        pass

    assert Verdict.CLOSED == stream.verdict
    assert stream._source.bodies[0].aborted
    assert ["started", "ended"] == watcher.names


@pytest.mark.parametrize("before", [(), (ROLE,), (ROLE, chunk("Hi"))])
async def test_a_stop_button_ends_the_loop_quietly(clock, before):
    """
    From another task, while this one waits for bytes; before the first token, too.
    """
    watcher = Watcher()
    stream = stream_of(clock, reads(*before, None), reads(*HELLO), observers=[watcher])
    task = asyncio.create_task(run(stream))
    await turns()
    await stream.aclose()
    events, error = await task

    assert error is None
    assert len(before) * (len(before) > 1) == len(events)
    assert Verdict.CLOSED == stream.verdict
    assert 1 == len(stream.attempts)
    assert 1 == watcher.names.count("ended")
    assert stream._source.bodies[0].aborted
    assert stream._watchdog._timer is None


async def test_a_stop_button_is_quiet_even_if_the_connection_complains(clock):
    """
    A closed connection's read may raise instead of ending.
    """

    class Complaining(Scripted):
        async def open(self, marks):
            body = await super().open(marks)
            take = body.take

            def complain():
                if body.aborted:
                    raise InterruptedStreamError(0, "connection closed")
                return take()

            body.take = complain
            return body

    for script in (reads(None), reads(ROLE, None), reads(chunk("Hi"), None)):
        source = Complaining(clock, script, reads(*HELLO))
        stream = ChatStream(source, clock=clock, call_later=clock.call_later)
        task = asyncio.create_task(run(stream))
        await turns()
        await stream.aclose()
        _, error = await task

        assert (None, Verdict.CLOSED) == (error, stream.verdict)
        assert 1 == len(stream.attempts)


async def test_a_stop_button_is_quiet_even_if_the_server_says_no(clock):
    """
    In the same turn of the loop: nobody waits for that answer any more.
    """

    class Stopped(Scripted):
        async def open(self, marks):
            await stream.aclose()
            return await super().open(marks)

    stream = ChatStream(
        Stopped(clock, AuthenticationError(401)), clock=clock, call_later=clock.call_later
    )

    assert ([], None) == await run(stream)
    assert Verdict.CLOSED == stream.verdict


async def test_a_stop_button_works_while_it_connects(clock):
    """
    Entering returns, and there is nothing to iterate.
    """
    source = Stuck(clock, stuck=1)
    stream = ChatStream(source, clock=clock, call_later=clock.call_later)
    task = asyncio.create_task(run(stream))
    await turns()
    await stream.aclose()

    assert ([], None) == await task
    assert Verdict.CLOSED == stream.verdict


@pytest.mark.parametrize("what", ["refused", "cut"])
async def test_a_stop_button_works_in_the_pause_between_attempts(clock, monkeypatch, what):
    """
    No further request is sent, which would cost money.
    """
    turn = asyncio.sleep

    async def sleep(delay):
        await (asyncio.Event().wait() if delay else turn(0))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    stream = stream_of(clock, broken(what), reads(*HELLO))
    task = asyncio.create_task(run(stream))
    await turns()
    assert not task.done()
    await stream.aclose()

    assert ([], None) == await task
    assert (Verdict.CLOSED, 1) == (stream.verdict, len(stream.attempts))
    assert stream._watchdog._timer is None


async def test_a_stop_button_before_the_start_keeps_it_from_sending(clock):
    """
    There is no report of a day's duration, either.
    """
    watcher = Watcher()
    clock.advance(86_400)
    stream = stream_of(clock, reads(*HELLO), observers=[watcher])
    await stream.aclose()
    events, error = await run(stream)

    assert ([], None, Verdict.CLOSED) == (events, error, stream.verdict)
    assert () == stream.attempts
    assert [] == watcher.calls
    assert 0.0 == stream.report.stream_end


async def test_a_stop_button_may_be_pressed_twice(clock):
    """
    And after the end.
    """
    watcher = Watcher()
    stream = stream_of(clock, reads(chunk("Hi"), None), observers=[watcher])
    async with stream:
        await anext(aiter(stream))
        await stream.aclose()
        await stream.aclose()
    await stream.aclose()

    assert Verdict.CLOSED == stream.verdict
    assert 1 == watcher.names.count("ended")


async def test_a_stop_button_after_the_end_changes_nothing(clock):
    """
    The answer was whole.
    """
    stream = stream_of(clock, reads(*HELLO))
    await run(stream)
    await stream.aclose()

    assert Verdict.FINISHED == stream.verdict


async def test_a_stop_button_gives_up_the_rest_of_a_finished_answer(clock):
    """
    It says now: not even usage is waited for, though the answer is whole.
    """
    stream = stream_of(clock, reads(chunk("Hi", "stop"), None))
    task = asyncio.create_task(run(stream))
    await turns()
    await stream.aclose()
    events, error = await task

    assert (["Hi"], None, Verdict.FINISHED) == (texts(events), error, stream.verdict)
    assert stream._source.bodies[0].aborted


# --- Cancellation ------------------------------------------------------------------------

SCRIPTS = {
    "an answer": [reads(*HELLO)],
    "a second attempt": [REFUSED, reads(ROLE, RESET), reads(*HELLO)],
    "silence": [reads(ROLE, chunk("Hi"), None)],
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_cancellation_passes_at_every_await(clock, name):
    """
    At each turn of the loop, until the task is done before it is cancelled.
    """
    for count in itertools.count():
        watcher = Watcher()
        stream = stream_of(clock, *SCRIPTS[name], observers=[watcher], options={"turns": 1})
        task = asyncio.create_task(run(stream))
        await turns(count)
        if task.done() or count > 100:
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert {asyncio.current_task()} == asyncio.all_tasks()
        assert all(body.aborted or body.released for body in stream._source.bodies)
        assert ["ended"] == watcher.names[-1:] or count == 0
        assert stream._watchdog._timer is None
        whole = stream.completion.choices and stream.completion.choices[0].finish_reason
        if count:
            assert (Verdict.FINISHED if whole else Verdict.CANCELLED) == stream.verdict
        assert "Hello".startswith(stream.completion.text) or name == "silence"

    assert (count > 100) == (name == "silence")
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_caller_has_what_came(clock):
    """
    A bot shows it with "stopped" below.
    """
    stream = stream_of(clock, reads(ROLE, chunk("Hi"), None))
    task = asyncio.create_task(run(stream))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ("Hi", Verdict.CANCELLED) == (stream.completion.text, stream.completion.verdict)
    assert stream.report.error is None


@pytest.mark.parametrize("stuck", [0, 1])
async def test_a_timeout_of_the_caller_is_the_callers(clock, stuck):
    """
    ``asyncio.timeout`` outside: its error, not one of ours.
    """
    source = Stuck(clock, reads(chunk("Hi"), None), stuck=stuck)
    stream = ChatStream(source, clock=clock, call_later=clock.call_later)
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout_at(asyncio.get_running_loop().time()):
            await run(stream)

    assert TimeoutError is type(caught.value)
    assert Verdict.CANCELLED == stream.verdict
    assert all(body.aborted for body in source.bodies)


async def test_a_sibling_that_fails_cancels_the_stream(clock):
    """
    As in any task group.
    """
    stream = stream_of(clock, reads(chunk("Hi"), None))

    async def fail():
        await turns()
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 the loop is what is tested
        async with asyncio.TaskGroup() as group:
            group.create_task(run(stream))
            group.create_task(fail())

    assert caught.group_contains(ZeroDivisionError)
    assert Verdict.CANCELLED == stream.verdict


async def test_a_timeout_of_ours_does_not_hide_a_cancellation(clock):
    """
    Both in one turn of the loop: who cancels a task waits for it to be cancelled.
    """
    source = Stuck(clock, reads(*HELLO), stuck=2)
    stream = ChatStream(source, clock=clock, call_later=clock.call_later, retry=RetryPolicy(1))
    task = asyncio.create_task(run(stream))
    await turns()
    clock.advance(121)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert Verdict.CANCELLED == stream.verdict


async def test_a_stream_that_is_dropped_is_collected(clock):
    """
    No timer and no list of ours holds it.
    """
    stream = stream_of(clock, reads(*HELLO))
    await run(stream)
    dropped = weakref.ref(stream)
    del stream
    gc.collect()

    assert dropped() is None


# --- Observers ---------------------------------------------------------------------------


class Failing(Watcher):
    """An observer that raises in each call."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def stream_started(self, start):
        super().stream_started(start)
        raise self._error

    def first_token(self, start, time_to_first_token):
        super().first_token(start, time_to_first_token)
        raise self._error

    def stream_ended(self, report):
        super().stream_ended(report)
        raise self._error


@pytest.mark.parametrize("error", [ValueError("sk-secret"), asyncio.CancelledError("sk-secret")])
async def test_an_observer_that_raises_harms_nothing(clock, caplog, error):
    """
    Logged once, without its message; the next observer is told all the same.
    """
    failing, watcher = Failing(error), Watcher()
    for _ in range(2):
        stream = stream_of(clock, reads(*HELLO), observers=[failing, watcher])
        events, raised = await run(stream)
        assert (4, None, Verdict.FINISHED) == (len(events), raised, stream.verdict)

    expected = [
        f"observer Failing raised {type(error).__name__}; further failures of it are not logged"
    ]
    assert ["started", "first_token", "ended"] * 2 == failing.names == watcher.names
    assert expected == caplog.messages
    assert [("chatstream", logging.ERROR)] == [(one.name, one.levelno) for one in caplog.records]
    assert "sk-secret" not in caplog.text


async def test_another_observer_of_a_class_is_logged_by_itself(clock, caplog):
    """
    They may fail for different reasons.
    """
    observers = [Failing(ValueError()), Failing(KeyError())]
    await run(stream_of(clock, reads(*HELLO), observers=observers))

    assert 2 == len(caplog.messages)


async def test_an_observer_that_cannot_be_remembered_is_logged_once_by_its_class(clock, caplog):
    """
    A dataclass has no hash, a class with slots no weak references.
    """

    @attrs.define
    class Unhashable:
        name: str = "x"

        def stream_ended(self, _):
            raise ValueError

    class Slotted:
        __slots__ = ()

        def stream_ended(self, _):
            raise ValueError

    for _ in range(2):
        stream = stream_of(clock, reads(*HELLO), observers=[Unhashable(), Slotted()])
        await run(stream)

    assert ["Unhashable", "Slotted"] == [message.split()[1] for message in caplog.messages]


@pytest.mark.parametrize("method", ["stream_started", "first_token", "stream_ended"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_held_up_by_an_observer(method, error):
    """
    It means the process, wherever it struck; the connection is closed on the way.
    """
    clock = FakeClock()

    class Struck:
        pass

    def strike(*_):
        raise error

    struck = Struck()
    setattr(struck, method, strike)
    stream = stream_of(clock, reads(*HELLO), observers=[struck])

    async def main():
        with pytest.raises(error):
            async with stream:
                await stream.collect()

    asyncio.run(main())
    assert all(body.aborted or body.released for body in stream._source.bodies)


async def test_an_observer_has_what_methods_it_likes(clock):
    """
    Only the end is asked for.
    """
    reports = []

    class Ends:
        def stream_ended(self, report):
            reports.append(report)

    stream = stream_of(clock, reads(*HELLO), observers=[Ends()])
    await run(stream)

    assert [stream.report] == reports


async def test_the_time_of_an_observer_is_in_no_gap(clock):
    """
    Arrivals are stamped before it is told.
    """

    class Slow(Watcher):
        def first_token(self, *_):
            clock.advance(5)

    stream = stream_of(clock, ((0.1, chunk("a") + chunk("b") + STOP),), observers=[Slow()])
    await run(stream)

    assert (0.0,) == stream.report.inter_chunk_latencies
    assert 0.1 == stream.report.duration


async def test_what_observers_cost_is_told(clock):
    """
    Their time is measured and their failures are counted, for whoever wonders.
    """

    class Slow:
        def first_token(self, start, wait):
            clock.advance(0.25)
            raise ValueError

        def stream_ended(self, report):
            self.report = report

    slow = Slow()
    stream = stream_of(clock, reads(*HELLO), observers=[slow])
    await run(stream)

    assert (0.25, 1) == (slow.report.observer_time, slow.report.observer_failures)


# --- Of every recorded stream --------------------------------------------------------------

STREAMS = Path(__file__).parent / "streams"
FINISHED = sorted(
    path.stem
    for path in STREAMS.glob("*.json")
    if json.loads(path.read_text())["verdict"] == "finished"
)


def cuts(body):
    """Where each event of *body* ends, with the data of those up to there."""
    parser, found = SSEParser(), []
    for at in range(len(body)):
        if events := parser.feed(body[at : at + 1]):
            found += [one.data for one in events]
            yield at + 1, list(found)


def says_so(events, choices):
    """Whether these events say that the answer is over, by a rule of its own."""
    reasons = {}
    for data in events:
        if data.strip() == "[DONE]":
            return True
        if data.strip():
            for choice in json.loads(data).get("choices") or ():
                index = choice.get("index") or 0
                reasons[index] = choice.get("finish_reason") or reasons.get(index)
    return len(reasons) >= choices and None not in reasons.values()


def pieces(completion):
    """The texts of an answer by where they are."""
    found = {}
    for choice in completion.choices:
        message = choice.message
        for name in ("content", "reasoning", "refusal"):
            found[choice.index, name] = getattr(message, name) or ""
        for at, call in enumerate(message.tool_calls or ()):
            arguments = call.function.arguments if call.function else call.custom.input
            found[choice.index, call.id or at] = arguments or ""
    return found


@pytest.mark.parametrize("name", FINISHED)
async def test_an_answer_that_was_cut_is_never_called_whole(name):
    """
    Wherever it is cut between two events: without a word that it is over it isn't, and what
    came is the beginning of the whole.
    """
    body = (STREAMS / f"{name}.sse").read_bytes()
    choices = len(json.loads((STREAMS / f"{name}.json").read_text())["choices"]) or 1

    async def answer(data):
        clock = FakeClock()
        stream = stream_of(clock, reads(data), retry=RetryPolicy(1), options={"choices": choices})
        _, error = await run(stream)
        return stream, error

    stream, error = await answer(body)
    assert (Verdict.FINISHED, None) == (stream.verdict, error)
    whole = pieces(stream.completion)
    for at, events in cuts(body):
        stream, error = await answer(body[:at])
        if says_so(events, choices):
            assert error is None
            assert stream.verdict in {Verdict.FINISHED, Verdict.EMPTY}
        else:
            assert InterruptedStreamError is type(error)
            assert Verdict.TRUNCATED == error.partial.verdict
            for place, text in pieces(error.partial).items():
                # The half of a character shows as U+FFFD until the other half comes.
                assert whole[place].startswith(text.removesuffix("\ufffd"))


# --- Ends that are easily missed -------------------------------------------------


async def test_an_answer_of_a_finish_reason_alone_ends_with_the_clock(clock):
    """
    No token, no ``[DONE]``, no end of the body: the answer is whole all the same.
    """
    stream = stream_of(clock, (*reads(ROLE, STOP), (1, None)), timeouts=Timeouts(first_token=5))
    asyncio.get_running_loop().call_soon(clock.advance, 5)

    async with stream:
        completion = await stream.collect()

    assert Verdict.FINISHED is completion.verdict
    assert 1 == len(stream.attempts)


async def test_an_error_line_without_its_end_is_an_error(clock):
    """
    llama.cpp may be gone before the newline is.
    """
    stream = stream_of(
        clock,
        reads(ROLE, chunk("Hi"), b'error: {"message": "out of memory"}'),
        retry=RetryPolicy(1),
    )

    with pytest.raises(UpstreamError, match="out of memory"):
        await run_through(stream)

    assert "Hi" == stream.completion.text


async def test_an_attempt_that_broke_after_its_first_token_says_so(clock):
    """
    What ended an attempt is in the report wherever it happened.
    """
    stream = stream_of(clock, reads(ROLE, chunk("Hi")))

    with pytest.raises(InterruptedStreamError) as caught:
        await run_through(stream)

    (attempt,) = caught.value.attempts
    assert str(caught.value) == attempt.error


async def test_nonsense_after_a_whole_answer_does_it_no_harm(clock):
    """
    Every choice had said why it ended; the rest can only be usage.
    """
    stream = stream_of(clock, reads(*HELLO[:-1], b"data: {\n\n", USAGE))

    async with stream:
        completion = await stream.collect()

    assert (Verdict.FINISHED, "Hello") == (completion.verdict, completion.text)


async def run_through(stream):
    async with stream:
        await stream.collect()


# Left behind.


@pytest.mark.parametrize("way", ["collect", "for", "break", "text", "events"])
async def test_a_stream_that_is_over_needs_no_collector(clock, way):
    """
    In a service a cycle would keep answers until the garbage collector finds them.
    """

    async def use():
        async with stream_of(clock, reads(*HELLO)) as stream:
            match way:
                case "collect":
                    await stream.collect()
                case "for":
                    assert [event async for event in stream]
                case "break":
                    async for _ in stream:
                        break
                case _:
                    assert [piece async for piece in getattr(stream, way)()]
        return weakref.ref(stream)

    gc.collect()
    gc.disable()
    try:
        left = await use()
        assert left() is None
    finally:
        gc.enable()


async def test_a_caller_who_gave_up_waiting_for_a_token_may_come_back(clock):
    """
    What had been held back until then is handed out all the same.
    """
    stream = stream_of(clock, reads(ROLE, chunk(""), None))
    async with stream:
        events = aiter(stream)
        waiting = asyncio.create_task(anext(events))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        stream._reader.push(Read(chunk("Hi") + STOP + DONE, clock()))
        deltas = [event.delta for event in [await anext(events) for _ in range(4)]]

    assert ["assistant", None, None, None] == [delta.role for delta in deltas]
    assert "Hi" == deltas[2].content
    assert 4 == stream.report.events


async def test_bytes_of_an_attempt_that_failed_are_not_taken_for_the_next_ones(clock):
    """
    Time may be up while the next one still waits for its headers.
    """

    class Slow(Scripted):
        async def open(self, marks):
            if not self.bodies:
                body = await super().open(marks)
                body.take = lambda: [Read(chunk("old"), clock())]
                return body
            clock.advance(1000)
            return await asyncio.Event().wait()

    source = Slow(clock, reads(chunk("old")), reads(chunk("new")))
    stream = ChatStream(source, clock=clock, call_later=clock.call_later)
    async with stream:
        stream._reader.break_off(RESET)
        with pytest.raises(FirstTokenTimeoutError) as caught:
            await stream.collect()

    assert b"" == caught.value.tail
