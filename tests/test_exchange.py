"""Exchanges: the end of an answer, and answers that aren't streamed.

What goes wrong on the wire, and what it is called, is tested in ``tests/faults``.
"""

import asyncio
import itertools

import aiohttp
import pytest

from chatstream import (
    ChatSession,
    DecodeError,
    InterruptedStreamError,
    ProtocolError,
    RateLimitError,
    RequestError,
    ResponseTooLargeError,
    RetryPolicy,
    Timeouts,
    TotalTimeoutError,
    Verdict,
    exchange,
    stamping_session_options,
)

ASK = {"model": "m", "messages": [{"role": "user", "content": "count to 3"}]}
ONCE = RetryPolicy(1)


async def ask(session, **options):
    """Stream one answer and return the stream."""
    async with session.stream(ASK, **options) as stream:
        await stream.collect()
    return stream


# --- Limits, and what is kept out ----------------------------------------------------


async def test_a_stream_may_have_a_limit(raw_server, wire):
    """
    Else an endless answer ends with a clock alone.
    """

    async def endless(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD)
        while True:
            await connection.send(wire.http_chunk(wire.chunk("more")))

    raw = await raw_server(endless)
    async with ChatSession(raw.base_url, "k", retry=ONCE, max_response_size=10_000) as session:
        with pytest.raises(ResponseTooLargeError, match="10000") as caught:
            await ask(session)

    error = caught.value
    assert Verdict.MALFORMED is error.report.verdict
    assert "moremore" in error.partial.text
    assert 10_000 // len(wire.chunk("more")) == error.report.events


@pytest.mark.parametrize("name", ["max_event_size", "max_response_size", "max_in_flight"])
def test_a_limit_is_a_count(name):
    with pytest.raises(RequestError, match=name):
        ChatSession("http://127.0.0.1", **{name: 0})


async def test_a_key_that_a_server_quotes_in_its_headers_is_hidden(raw_server, wire, canary):
    """
    The request id goes to reports, logs and errors.
    """
    raw = await raw_server(wire.response(wire.ANSWER, x_request_id=f"of {canary.key}"))
    async with ChatSession(raw.base_url, canary.key, retry=ONCE) as session:
        stream = await ask(session)

    assert "of ***" == stream.report.request_id
    assert canary.key not in repr(dict(stream.response.headers))


async def test_a_session_of_the_callers_that_is_closed_under_a_stream(raw_server, wire):
    """
    aiohttp tells it like a malformed chunk, but nobody sent one.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("Hi")))
        await connection.gone()

    raw = await raw_server(answer)
    http = aiohttp.ClientSession(**stamping_session_options())
    async with (
        ChatSession(raw.base_url, "k", http=http, retry=ONCE) as session,
        session.stream(ASK) as stream,
    ):
        assert "Hi" == (await anext(aiter(stream))).content
        await http.close()
        with pytest.raises(InterruptedStreamError) as caught:
            await stream.collect()

    assert "Hi" == caught.value.partial.text


@pytest.mark.parametrize("way", ["stream", "create"])
async def test_an_error_shows_where_the_body_ended(raw_server, wire, canary, way):
    """
    To see what a server did there is no better evidence; the key isn't part of it.
    """
    said = wire.chunk("Hi") * 20 + b"data: {broken %b\n\n" % canary.key.encode()
    raw = await raw_server(wire.response(said))
    async with ChatSession(raw.base_url, canary.key, retry=ONCE) as session:
        with pytest.raises(DecodeError) as caught:
            await (ask(session) if way == "stream" else session.create(ASK))

    tail = caught.value.tail
    assert said.replace(canary.key.encode(), b"***").endswith(tail)
    assert 900 < len(tail) <= 1024
    assert "broken" not in f"{caught.value!r}{caught.value}{caught.value.args}"


@pytest.mark.parametrize("way", ["stream", "create"])
async def test_attempts_of_a_call_share_a_key_if_asked_to(raw_server, wire, way):
    """
    A server that knows it makes one answer of several requests.
    """

    async def busy(connection):
        while (request := await connection.request()) is not None:
            raw.requests.append(request)
            second = len(raw.requests) % 2 == 0
            done = wire.response(wire.ANSWER if way == "stream" else wire.COMPLETION)
            later = wire.response(b"", "503 Later", retry_after_ms="0")
            await connection.send(done if second else later)

    raw = await raw_server(busy)
    policy = RetryPolicy(2, idempotency_header="Idempotency-Key")
    async with ChatSession(raw.base_url, "k") as session:
        for options in ({}, {}, {"extra_headers": {"idempotency-key": "mine"}}):
            call = ask if way == "stream" else lambda session, **kw: session.create(ASK, **kw)
            await call(session, retry=policy, **options)
        await call(session, retry=RetryPolicy(2))

    lines = [r.head.lower().split("\r\n") for r in raw.requests]
    keys = [
        [x.partition(": ")[2] for x in head if x.startswith("idempotency-key")] for head in lines
    ]
    first, again, second, _, own, _, none, _ = keys
    assert first == again != second
    assert 32 == len(first[0])
    assert ["mine"] == own
    assert [] == none


@pytest.mark.parametrize("name", ["", "with space", "line\r\nbreak"])
async def test_the_header_of_that_key_has_a_name(name):
    async with ChatSession("http://127.0.0.1:1", retry=RetryPolicy(idempotency_header=name)) as own:
        with pytest.raises(RequestError, match="idempotency_header"):
            own.stream(ASK)


async def test_what_had_come_when_the_time_was_up_is_not_lost(raw_server, wire):
    """
    A slow caller gets it all, and then the error.
    """
    more = asyncio.Event()

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("a")))
        await more.wait()
        await connection.send(wire.http_chunk(wire.chunk("b") + wire.chunk("c")))
        await connection.gone()

    raw = await raw_server(answer)
    async with (
        ChatSession(raw.base_url, "k", retry=ONCE) as session,
        session.stream(ASK) as stream,
    ):
        events = aiter(stream)
        assert "a" == (await anext(events)).content
        more.set()
        content = stream._body._arrivals._content
        before = content.total_bytes
        while content.total_bytes == before:  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(0)
        stream._on_expired(TotalTimeoutError(1.0))  # as the watchdog does

        assert ["b", "c"] == [(await anext(events)).content for _ in range(2)]
        with pytest.raises(TotalTimeoutError) as caught:
            await anext(events)

    assert "abc" == caught.value.partial.text
    assert Verdict.TIMEOUT is caught.value.report.verdict


# --- No connection -------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_reused_connection_that_was_closed_costs_no_wait(raw_server, wire, way):
    """
    llama.cpp's server closes each connection after a stream, without saying so.

    It is an attempt all the same: nobody can prove that the server hadn't begun.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(wire.response(wire.ANSWER))
        if raw.connections % 2:
            await connection.request()  # too late for it
        if way == "reset":
            connection.reset()

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=RetryPolicy(2)) as session:
        for number in range(10):
            stream = await ask(session)
            assert (2 if number else 1) == len(stream.attempts)
            assert 0.5 > stream.attempts[-1].waited
            assert "Hi" == stream.completion.choices[0].message.content
            assert stream.report.phases.reused is False


# --- A status -------------------------------------------------------------------------------


async def test_retry_after(server, session):
    headers = {"x-simulate-status": "429", "x-simulate-retry-after": "7"}
    with pytest.raises(RateLimitError) as caught:
        await ask(session, extra_headers=headers)

    assert 7 == caught.value.retry_after
    assert Verdict.HTTP_ERROR is caught.value.report.verdict
    assert 429 == caught.value.report.attempts[0].status


# --- Not the kind of answer that was asked for -----------------------------------------------


async def test_a_stream_where_a_whole_answer_was_asked_for(raw_server, wire):
    raw = await raw_server(wire.response(wire.ANSWER))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(ProtocolError):
            await session.create(ASK)


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"object":"chat.completion"', b'{"choices":"x"}', b'{"choices":[1]}']
)
async def test_a_whole_answer_that_cannot_be_read(raw_server, wire, body):
    raw = await raw_server(wire.response(body, content_type="application/json"))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(DecodeError) as caught:
            await session.create(ASK)

    assert caught.value.path.startswith("$")


async def test_a_whole_answer_that_is_too_large(raw_server, wire):
    raw = await raw_server(wire.response(b" " * 2000, content_type="application/json"))
    async with ChatSession(raw.base_url, "k", retry=ONCE, max_response_size=1000) as session:
        with pytest.raises(ResponseTooLargeError, match="1000"):
            await session.create(ASK)


# --- Cut in transit -----------------------------------------------------------------------------


async def test_a_whole_answer_cut_in_the_middle(raw_server, wire):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
    raw = await raw_server(head + wire.COMPLETION)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(InterruptedStreamError):
            await session.create(ASK)


# --- The end of an answer -------------------------------------------------------------------


async def test_a_body_that_never_ends_after_done(raw_server, wire, monkeypatch):
    """
    The answer is over; its end is waited for shortly, then the connection closed.
    """
    monkeypatch.setattr(exchange, "DRAIN_TIMEOUT", 0.01)
    closed = asyncio.Event()

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.ANSWER))
        await connection.gone()
        closed.set()

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        stream = await ask(session)
        async with asyncio.timeout(5):
            await closed.wait()
        await ask(session)

    assert Verdict.FINISHED is stream.verdict
    assert 2 == raw.connections


async def test_a_body_that_goes_on_for_ever_after_done(raw_server, wire):
    closed = asyncio.Event()

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.ANSWER))
        try:
            while True:
                await connection.send(wire.http_chunk(b": " + b"x" * 60_000 + b"\n"))
        except ConnectionError:
            closed.set()

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session, asyncio.timeout(10):
        stream = await ask(session)
        await closed.wait()

    assert Verdict.FINISHED is stream.verdict


async def test_the_end_of_the_body_may_come_a_little_later_than_done(raw_server, wire):
    async def answer(connection):
        while await connection.request() is not None:
            await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.ANSWER))
            for _ in range(5):
                await asyncio.sleep(0)
            await connection.send(wire.http_chunk(b""))

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        for _ in range(20):
            await ask(session)

    assert 1 == raw.connections


async def test_cancelling_create_closes_the_connection_at_once(raw_server, monkeypatch):
    monkeypatch.setattr(exchange, "DRAIN_TIMEOUT", 60)
    heard, closed = asyncio.Event(), asyncio.Event()

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
        heard.set()
        await connection.gone()
        closed.set()

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session, asyncio.timeout(5):
        task = asyncio.create_task(session.create(ASK))
        await heard.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await closed.wait()


async def test_total_ends_a_create_whose_body_stalls(raw_server, monkeypatch):
    monkeypatch.setattr(exchange, "DRAIN_TIMEOUT", 60)

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
        await connection.gone()

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session, asyncio.timeout(5):
        with pytest.raises(TotalTimeoutError):
            await session.create(ASK, timeouts=Timeouts(total=0.02))


async def test_ids_of_streams_differ(session):
    streams = [await ask(session) for _ in range(3)]
    ids = [stream.report.stream_id for stream in streams]

    assert all(a < b for a, b in itertools.pairwise(ids))
