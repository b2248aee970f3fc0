"""Exchanges: what goes wrong between a request and the end of its answer, and what it is called."""

import asyncio
import contextlib
import gzip
import itertools
import pickle
import socket
import traceback
import zlib

import pytest

import chatstream
from chatstream import (
    AuthenticationError,
    BadRequestError,
    ChatSession,
    ChatStreamError,
    ConnectError,
    DecodeError,
    InterruptedStreamError,
    NotAnEventStreamError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    RetryPolicy,
    ServerError,
    StatusError,
    Timeouts,
    TotalTimeoutError,
    UpstreamError,
    Verdict,
    exchange,
    whole,
)
from chatstream.testing import Profile, SimulatedServer

ASK = {"model": "m", "messages": [{"role": "user", "content": "count to 3"}]}
ONCE = RetryPolicy(1)
OTHER = "http://127.0.0.1:9/v1"


async def ask(session, **options):
    """Stream one answer and return the stream."""
    async with session.stream(ASK, **options) as stream:
        await stream.collect()
    return stream


async def tell(session, event):
    """Stream one answer, and set *event* when something of it has come."""
    async with session.stream(ASK) as stream:
        async for _ in stream:
            event.set()


async def failures(url, **options):
    """Return the errors of a stream and of a create at *url*."""
    options = {"api_key": "k", "retry": ONCE, **options}
    async with ChatSession(url, **options) as session:
        with pytest.raises(ChatStreamError) as streamed:
            await ask(session)
    async with ChatSession(url, **options) as session:
        with pytest.raises(ChatStreamError) as created:
            await session.create(ASK)
    return streamed.value, created.value


async def failure(url, **options):
    """Return the error of a stream at *url*."""
    streamed, _ = await failures(url, **options)
    return streamed


def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# --- No connection -------------------------------------------------------------------


async def test_refused():
    for error in await failures(f"http://127.0.0.1:{unused_port()}/v1"):
        assert isinstance(error, ConnectError)
        assert "refused" == error.reason
        assert "127.0.0.1" == error.host
        assert error.retryable
    streamed = await failure(f"http://127.0.0.1:{unused_port()}/v1")
    assert Verdict.CONNECT_ERROR is streamed.report.verdict
    assert streamed.report.time_to_first_token is None
    assert streamed.partial.choices in ((), [])
    assert 1 == len(streamed.attempts)


async def test_no_such_host():
    for error in await failures("http://nobody.invalid/v1", api_key=None):
        assert isinstance(error, ConnectError)
        assert "dns" == error.reason
        assert "nobody.invalid" in str(error)
        assert error.retryable


async def test_tls_of_an_unknown_authority(raw_server, server_tls):
    """
    Trying again can't help, and the key must not go to whoever that is.
    """
    bodies = []

    async def answer(connection):
        bodies.append(await connection.request())

    raw = await raw_server(answer, tls=server_tls)
    async with ChatSession(raw.base_url, "k", retry=RetryPolicy(3, max_wait=0)) as session:
        with pytest.raises(ConnectError) as caught:
            await ask(session)

    assert "tls" == caught.value.reason
    assert not caught.value.retryable
    assert 1 == len(caught.value.attempts)
    assert [] == bodies
    assert "verify" in str(caught.value) or "certificate" in str(caught.value)


async def test_plain_http_where_tls_is_expected(raw_server, wire):
    async def answer(connection):
        await connection.send(wire.response(wire.ANSWER))
        await connection.gone()

    raw = await raw_server(answer)
    for error in await failures(raw.base_url.replace("http:", "https:")):
        assert isinstance(error, ConnectError)
        assert "tls" == error.reason


async def test_tls_where_plain_http_is_expected(raw_server, server_tls):
    async def answer(connection):
        await connection.request()

    raw = await raw_server(answer, tls=server_tls)
    for error in await failures(raw.base_url.replace("https:", "http:")):
        assert isinstance(error, ConnectError)
        assert "disconnected" == error.reason


@pytest.mark.parametrize("way", ["reset", "close", "reset unheard"])
async def test_closed_before_a_byte(raw_server, way):
    async def answer(connection):
        if way != "reset unheard":
            await connection.request()
        if way != "close":
            connection.reset()

    raw = await raw_server(answer)
    for error in await failures(raw.base_url):
        assert isinstance(error, ConnectError)
        assert "disconnected" == error.reason
        assert error.retryable


async def test_a_connection_that_was_closed_is_tried_again(raw_server, wire):
    """
    A server may close an idle connection just as the next request is sent.
    """

    async def answer(connection):
        if raw.connections > 1:
            await connection.request()
            await connection.send(wire.response(wire.ANSWER))

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=RetryPolicy(2, max_wait=0)) as session:
        stream = await ask(session)

    assert "Hi" == stream.completion.choices[0].message.content
    assert 2 == len(stream.attempts)


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


async def test_a_new_connection_that_was_closed_is_an_attempt(raw_server):
    async def answer(connection):
        await connection.request()

    raw = await raw_server(answer)
    await failures(raw.base_url)

    assert 2 == raw.connections


# --- Through a proxy --------------------------------------------------------------------


async def test_a_proxy_that_is_not_there():
    proxy = f"http://me:hidden@127.0.0.1:{unused_port()}"
    for url in ("http://192.0.2.1/v1", "https://192.0.2.1/v1"):
        for error in await failures(url, api_key=None, proxy=proxy):
            assert isinstance(error, ConnectError)
            assert "proxy" == error.reason
            assert "hidden" not in everything(error)


async def test_a_proxy_whose_name_is_unknown():
    proxy = "http://me:hidden@proxy.invalid:3128"
    for error in await failures("http://192.0.2.1/v1", api_key=None, proxy=proxy):
        assert isinstance(error, ConnectError)
        assert "proxy" == error.reason
        assert "proxy.invalid" in str(error)
        assert "hidden" not in everything(error)


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_a_proxy_that_refuses_to_connect(raw_server, wire, status):
    raw = await raw_server(wire.response(b"no", status, "text/plain"))
    proxy = raw.origin.replace("://", "://me:hidden@")
    for error in await failures("https://192.0.2.1/v1", proxy=proxy):
        assert isinstance(error, ConnectError)
        assert "proxy" == error.reason
        assert status[:3] in str(error)
        assert "hidden" not in everything(error)


async def test_a_proxy_that_refuses_a_plain_request(raw_server, wire):
    """
    It answers in the server's place, but its 407 is none of the server's words.
    """
    raw = await raw_server(wire.response(b"no", "407 Proxy Authentication Required", "text/plain"))
    for error in await failures("http://192.0.2.1/v1", api_key=None, proxy=raw.origin):
        assert isinstance(error, ConnectError)
        assert ("proxy", False) == (error.reason, error.retryable)


# --- Not HTTP ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\r\n\r\n",
        b"HTTP/9.x 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
async def test_an_answer_that_is_not_http(raw_server, answer):
    """
    aiohttp calls it a status of 400, which no server sent.
    """
    raw = await raw_server(answer)
    for error in await failures(raw.base_url):
        assert isinstance(error, ProtocolError | ConnectError)
        assert not isinstance(error, NotAnEventStreamError)
        assert "400" not in str(error)
        assert "\n" not in str(error)
        assert str(error).isprintable()
        assert len(str(error)) < 300


async def test_not_http_is_a_protocol_error(raw_server):
    raw = await raw_server(b"hello\r\n\r\n")
    for error in await failures(raw.base_url):
        assert isinstance(error, ProtocolError)
        assert error.__cause__ is error.__context__ is None


async def test_early_hints_are_skipped(raw_server, wire):
    raw = await raw_server(
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + wire.response(wire.ANSWER)
    )
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        stream = await ask(session)

    assert "Hi" == stream.completion.choices[0].message.content


@pytest.mark.parametrize("bad", [b"zz\r\ndata\r\n", b"-5\r\n"])
async def test_a_body_that_is_not_in_chunks(raw_server, wire, bad):
    """
    Not a cut in transit: the server or a proxy doesn't speak HTTP as it should.
    """
    go_on = asyncio.Event()

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("one")))
        await go_on.wait()
        await connection.send(bad)
        await connection.gone()

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(ProtocolError) as caught:
            await tell(session, go_on)

    assert "one" == caught.value.partial.choices[0].message.content
    assert Verdict.MALFORMED is caught.value.report.verdict
    assert caught.value.__cause__ is caught.value.__context__ is None


# --- A status -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, BadRequestError, False),
        (401, AuthenticationError, False),
        (402, StatusError, False),
        (403, PermissionDeniedError, False),
        (404, NotFoundError, False),
        (408, StatusError, True),
        (409, StatusError, True),
        (413, BadRequestError, False),
        (418, StatusError, False),
        (422, BadRequestError, False),
        (429, RateLimitError, True),
        (500, ServerError, True),
        (502, ServerError, True),
        (503, ServerError, True),
        (529, ServerError, True),
    ],
)
async def test_a_status_has_its_error(mocked, status, kind, retryable):
    body = b'{"error":{"message":"Because.","type":"t","code":"c","param":"p"}}'
    for _ in range(2):
        mocked.post(f"{OTHER}/chat/completions", status=status, body=body)
    for error in await failures(OTHER):
        assert type(error) is kind
        assert (status, "Because.", "t", "c", "p") == (
            error.status,
            error.message,
            error.type,
            error.code,
            error.param,
        )
        assert retryable is error.retryable
        assert str(status) in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"plain words", "plain words"),
        (b"<html>\r\n<h1>Bad Gateway</h1>", "<html> <h1>Bad Gateway</h1>"),
        (b'{"error":', '{"error":'),
        (b'{"error":"words"}', "words"),
        (b'{"message":"words"}', "words"),
        (b'{"detail":"words"}', "words"),
        (b"\x1b]0;title\x07\x9b31m\xff", "]0;title �31m�"),
        (b"[1]", "[1]"),
    ],
)
async def test_a_status_with_any_body(mocked, body, message):
    mocked.post(f"{OTHER}/chat/completions", status=502, body=body)
    async with ChatSession(OTHER, "k", retry=ONCE) as session:
        with pytest.raises(ServerError) as caught:
            await ask(session)

    assert message == caught.value.message
    assert str(caught.value).isprintable()


async def test_a_status_with_a_large_body(raw_server, wire):
    """
    No more than 64 KiB of an error is read, whatever its size.
    """
    size = 64 * 1024 * 1024
    head = b"HTTP/1.1 500 Oops\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % size
    written = 0

    async def answer(connection):
        nonlocal written
        await connection.request()
        await connection.send(head)
        try:
            while written < size:
                await connection.send(b"x" * 65536)
                written += 65536
        except ConnectionError:
            pass

    raw = await raw_server(answer)
    for error in await failures(raw.base_url):
        assert isinstance(error, ServerError)
        assert len(str(error)) < 1000
    assert written < size


async def test_a_status_whose_body_stalls_or_breaks_is_still_that_status(raw_server):
    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nit broke")
        connection.reset()

    raw = await raw_server(answer)
    for error in await failures(raw.base_url):
        assert isinstance(error, ServerError)


async def test_retry_after(server, session):
    headers = {"x-simulate-status": "429", "x-simulate-retry-after": "7"}
    with pytest.raises(RateLimitError) as caught:
        await ask(session, extra_headers=headers)

    assert 7 == caught.value.retry_after
    assert Verdict.HTTP_ERROR is caught.value.report.verdict
    assert 429 == caught.value.report.attempts[0].status


async def test_the_server_may_forbid_another_try(raw_server, wire):
    raw = await raw_server(
        wire.response(b"no", "503 No", "text/plain", x_should_retry="false", connection="close")
    )
    async with ChatSession(raw.base_url, "k", retry=RetryPolicy(3, max_wait=0)) as session:
        with pytest.raises(ServerError):
            await ask(session)

    assert 1 == raw.connections


async def test_a_status_is_tried_again_until_it_is_none(raw_server, wire):
    answers = iter(
        [
            wire.response(b"", "503 No", retry_after="0", connection="close"),
            wire.response(b"", "429 No", connection="close"),
            wire.response(wire.ANSWER),
        ]
    )

    async def answer(connection):
        await connection.request()
        await connection.send(next(answers))

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=RetryPolicy(3, max_wait=0)) as session:
        stream = await ask(session)

    assert [503, 429, 200] == [attempt.status for attempt in stream.attempts]
    assert "Hi" == stream.completion.choices[0].message.content


async def test_a_status_before_the_request_is_sent_whole(raw_server, wire):
    """
    A proxy refuses a large body early: its reason is told, not a broken pipe.
    """

    async def answer(connection):
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(wire.response(b"too large", "413 Too Large", "text/plain"))
        await connection.gone()

    raw = await raw_server(answer)
    message = {"role": "user", "content": "x" * 20_000_000}
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(BadRequestError, match="too large"):
            await session.create(model="m", messages=[message])


# --- Redirects ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(raw_server, wire, server, status):
    """
    It would take the prompt and the key to another place.
    """
    raw = await raw_server(
        wire.response(b"", f"{status} Elsewhere", location=f"{server.base_url}/secret?token=hidden")
    )
    for error in await failures(raw.base_url):
        assert isinstance(error, RedirectError)
        assert status == error.status
        assert server.origin in str(error)
        assert "hidden" not in everything(error)
        assert "secret" not in everything(error)
        assert not error.retryable

    assert 0 == server.connections


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (None, "nowhere"),
        ("", "nowhere"),
        ("/v2", "another path"),
        ("file:///etc/passwd", "file://"),
        ("https://user:hidden@host/x", "https://host"),
    ],
)
async def test_where_a_redirect_points(mocked, location, shown):
    headers = {} if location is None else {"location": location}
    mocked.post(f"{OTHER}/chat/completions", status=307, headers=headers)
    async with ChatSession(OTHER, "k", retry=ONCE) as session:
        with pytest.raises(RedirectError) as caught:
            await ask(session)

    assert shown in str(caught.value)
    assert "hidden" not in str(caught.value)


# --- Not the kind of answer that was asked for -----------------------------------------------


async def test_a_whole_answer_where_a_stream_was_asked_for(raw_server, wire):
    raw = await raw_server(wire.response(wire.COMPLETION, content_type="application/json"))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(NotAnEventStreamError) as caught:
            await ask(session)

    assert "application/json" == caught.value.content_type
    assert Verdict.MALFORMED is caught.value.report.verdict


async def test_a_stream_where_a_whole_answer_was_asked_for(raw_server, wire):
    raw = await raw_server(wire.response(wire.ANSWER))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(ProtocolError):
            await session.create(ASK)


@pytest.mark.parametrize("content_type", ["text/html", "text/event-stream"])
async def test_a_page(raw_server, wire, content_type):
    """
    The login page of a proxy, with status 200.
    """
    raw = await raw_server(
        wire.response(b"<!doctype html>\x1b[31m<p>Log in</p>" * 100, content_type=content_type)
    )
    streamed, created = await failures(raw.base_url)

    assert isinstance(streamed, NotAnEventStreamError)
    assert "Log in" in str(streamed)
    assert len(streamed.seen) <= 512
    assert isinstance(created, ProtocolError)
    for error in (streamed, created):
        assert str(error).isprintable()


async def test_an_error_with_status_200(raw_server, wire):
    body = b'{"error":{"message":"overloaded","code":"busy","type":"server_error"}}'
    raw = await raw_server(wire.response(body, content_type="application/json"))
    for error in await failures(raw.base_url):
        assert isinstance(error, UpstreamError)
        assert ("overloaded", "busy") == (error.message, error.code)


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "205 Reset Content"])
async def test_nothing_at_all(raw_server, wire, status):
    raw = await raw_server(wire.response(b"", status))
    streamed, created = await failures(raw.base_url)

    assert isinstance(streamed, NotAnEventStreamError)
    assert Verdict.EMPTY is streamed.report.verdict
    assert isinstance(created, ProtocolError)


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"object":"chat.completion"', b'{"choices":"x"}', b'{"choices":[1]}']
)
async def test_a_whole_answer_that_cannot_be_read(raw_server, wire, body):
    raw = await raw_server(wire.response(body, content_type="application/json"))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(DecodeError) as caught:
            await session.create(ASK)

    assert caught.value.path.startswith("$")


async def test_a_whole_answer_that_is_too_large(raw_server, wire, monkeypatch):
    monkeypatch.setattr(whole, "MAX_ANSWER", 1000)
    raw = await raw_server(wire.response(b" " * 2000, content_type="application/json"))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(ProtocolError, match="1000"):
            await session.create(ASK)


@pytest.mark.parametrize(
    "content_type", ["text/event-stream;charset=windows-1252", "TEXT/EVENT-STREAM", "x", ""]
)
async def test_a_stream_is_one_whatever_its_type_says(raw_server, wire, content_type):
    raw = await raw_server(wire.response(wire.ANSWER, content_type=content_type))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        stream = await ask(session)

    assert "Hi" == stream.completion.choices[0].message.content


# --- Cut in transit -----------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["reset", "no last chunk", "in a chunk"])
async def test_cut_in_the_middle(raw_server, wire, cut):
    """
    What had come before is kept with the error.
    """
    go_on = asyncio.Event()

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("one")))
        await go_on.wait()
        if cut == "reset":
            connection.reset()
        elif cut == "in a chunk":
            await connection.send(wire.http_chunk(wire.chunk("two"))[:-20])

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(InterruptedStreamError) as caught:
            await tell(session, go_on)

    error = caught.value
    assert "one" == error.partial.choices[0].message.content
    assert Verdict.TRUNCATED is error.report.verdict is error.partial.verdict
    assert error.__cause__ is error.__context__ is None
    assert error.report.time_to_first_token > 0


async def test_a_length_that_is_not_reached(raw_server, wire):
    body = wire.chunk("one")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    raw = await raw_server(head % (len(body) + 10) + body)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(InterruptedStreamError) as caught:
            await ask(session)

    assert "one" == caught.value.partial.choices[0].message.content


async def test_bytes_after_the_length_are_nobodys_answer(raw_server, wire):
    stray = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    raw = await raw_server(wire.always(wire.response(wire.ANSWER) + stray))
    async with ChatSession(raw.base_url, "k", retry=RetryPolicy(3, max_wait=0)) as session:
        for _ in range(3):
            stream = await ask(session)
            assert "Hi" == stream.completion.choices[0].message.content


@pytest.mark.parametrize("end", [b"", b'data: {"choi', b"data: [DO"])
async def test_a_body_that_ends_with_the_connection_unfinished(raw_server, wire, end):
    """
    A clean end of such a body says nothing: whether it is whole must come from inside.
    """
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    raw = await raw_server(head + wire.chunk("one") + end)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(InterruptedStreamError) as caught:
            await ask(session)

    assert "one" == caught.value.partial.choices[0].message.content


async def test_a_body_that_ends_with_the_connection(raw_server, wire):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    raw = await raw_server(head + wire.ANSWER)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        stream = await ask(session)

    assert Verdict.FINISHED is stream.verdict


async def test_a_whole_answer_cut_in_the_middle(raw_server, wire):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
    raw = await raw_server(head + wire.COMPLETION)
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(InterruptedStreamError):
            await session.create(ASK)


# --- Compressed all the same -----------------------------------------------------------------


def gzip_pieces(*pieces):
    """Each piece compressed and flushed, so that it can be read when it comes."""
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*packed[:-1], packed[-1] + packer.flush()]


async def test_a_compressed_stream_comes_piece_by_piece(raw_server, wire):
    """
    We ask for none, but a proxy may compress all the same. Each event leaves
    with the read that brought it, and bears its time.
    """
    seen = asyncio.Event()
    texts = ["one", " two", " three"]
    pieces = gzip_pieces(*map(wire.chunk, texts), wire.chunk(finish_reason="stop") + wire.DONE)

    async def answer(connection):
        await connection.request()
        head = wire.STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
        await connection.send(head)
        for piece in pieces:
            await connection.send(wire.http_chunk(piece))
            if piece is not pieces[-1]:
                await seen.wait()
                seen.clear()
        await connection.send(wire.http_chunk(b""))

    raw = await raw_server(answer)
    async with (
        ChatSession(raw.base_url, "k", retry=ONCE) as session,
        asyncio.timeout(5),
        session.stream(ASK) as stream,
    ):
        events = []
        async for event in stream:
            events.append(event)
            seen.set()

    assert texts == [event.content for event in events if event.content]
    stamps = [event.arrived_ns for event in events]
    assert sorted(set(stamps)) == stamps
    assert [False] * len(events) == [event.coalesced for event in events[:-1]] + [False]


async def test_compressed_in_one_piece(raw_server, wire):
    raw = await raw_server(wire.response(gzip.compress(wire.ANSWER), content_encoding="gzip"))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        stream = await ask(session)

    assert "Hi" == stream.completion.choices[0].message.content


async def test_compression_that_is_broken(raw_server, wire):
    packed = bytearray(gzip.compress(wire.ANSWER * 50))
    packed[12:] = bytes(len(packed) - 12)
    for body in (bytes(packed), b"not gzip at all"):
        raw = await raw_server(wire.response(body, content_encoding="gzip"))
        for error in await failures(raw.base_url):
            assert isinstance(error, ProtocolError)
            assert error.__cause__ is error.__context__ is None


async def test_compression_that_is_cut(raw_server, wire):
    """
    aiohttp ends such a body without an error.
    """
    packed = b"".join(gzip_pieces(wire.chunk("one"), wire.chunk("two") * 50))[:-12]
    raw = await raw_server(wire.response(packed, content_encoding="gzip"))
    async with ChatSession(raw.base_url, "k", retry=ONCE) as session:
        with pytest.raises(ChatStreamError) as caught:
            await ask(session)

    assert isinstance(caught.value, InterruptedStreamError | ProtocolError)


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


# --- What must show nowhere -----------------------------------------------------------------


def everything(error):
    """All that a log, a crash reporter or a debugger may show of an error."""
    seen = set()
    texts = []

    def look(one):
        if one is None or id(one) in seen:
            return
        seen.add(id(one))
        texts.extend((str(one), repr(one), repr(one.args), repr(vars(one))))
        texts.extend(traceback.format_exception(one))
        with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
            texts.append(repr(pickle.dumps(one)))
        look(one.__cause__)
        look(one.__context__)
        for other in getattr(one, "exceptions", ()):
            look(other)

    look(error)
    return "\n".join(texts)


def broken_answers(wire):
    """Answers that end in an error, each in its own way; some quote the key."""
    quoting = b'{"error":{"message":"Incorrect API key provided: %b","code":"x"}}'
    key = b"sk-canary-0123456789"
    early = wire.STREAM_HEAD + wire.http_chunk(wire.chunk("one"))
    return {
        "nothing": b"",
        "garbage": b"hello %b\r\n\r\n" % key,
        "garbage header": b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % key,
        "status": wire.response(quoting % key, "401 No", "application/json"),
        "plain status": wire.response(b"bad key " + key, "500 No", "text/plain"),
        "redirect": wire.response(b"", "307 No", location=f"http://h/{key.decode()}"),
        "empty": wire.response(b""),
        "cut": early,
        "bad chunk": early + b"zz " + key,
        "bad gzip": wire.response(b"x", content_encoding="gzip"),
        "error in stream": wire.response(b"data: " + quoting % b"?" + b"\n\n"),
        "not json": wire.response(b"data: {nope\n\n"),
    }


NAMES = [
    "nothing", "garbage", "garbage header", "status", "plain status", "redirect", "empty", "cut",
    "bad chunk", "bad gzip", "error in stream", "not json",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_no_error_shows_the_key_or_the_prompt(raw_server, wire, canary, name):
    """
    Errors end up in logs, reports and other people's trackers.
    """
    raw = await raw_server(broken_answers(wire)[name])
    ask = {"model": "m", "messages": [{"role": "user", "content": canary.prompt}]}
    async with ChatSession(raw.base_url, canary.key, retry=ONCE) as session:
        with pytest.raises(ChatStreamError) as streamed:
            async with session.stream(ask) as stream:
                await stream.collect()
        with pytest.raises(ChatStreamError) as created:
            await session.create(ask)

    for error in (streamed.value, created.value):
        shown = everything(error)
        assert canary.key not in shown
        assert canary.prompt not in shown
        assert canary.key not in repr(getattr(error, "report", ""))
    assert canary.key not in repr(session)


async def test_no_connect_error_shows_the_key_or_the_prompt(canary, raw_server, server_tls):
    async def silent(connection):
        await connection.gone()

    stalled = (await raw_server(silent)).base_url.replace("http:", "https:")
    unknown = (await raw_server(silent, tls=server_tls)).base_url
    refused = f"http://127.0.0.1:{unused_port()}/v1"
    ask = {"model": "m", "messages": [{"role": "user", "content": canary.prompt}]}
    timeouts = Timeouts(connect=0.02)
    for url in (stalled, unknown, refused, "https://nobody.invalid"):
        async with ChatSession(url, canary.key, retry=ONCE, timeouts=timeouts) as session:
            with pytest.raises(ChatStreamError) as caught:
                await session.create(ask)
            with pytest.raises(ChatStreamError) as streamed:
                async with session.stream(ask):
                    pass
        for error in (caught.value, streamed.value):
            assert canary.key not in everything(error)
            assert canary.prompt not in everything(error)


@pytest.mark.parametrize("where", ["first_token", "idle", "total"])
async def test_no_timeout_shows_the_key_or_the_prompt(canary, where):
    profile = Profile(
        time_to_first_token=60 if where == "first_token" else 0, time_to_role=0, gap=60
    )
    ask = {"model": "m", "messages": [{"role": "user", "content": f"say {canary.prompt}"}]}
    timeouts = Timeouts(**{where: 0.02})
    async with (
        SimulatedServer(profile) as server,
        ChatSession(server.base_url, canary.key, retry=ONCE, timeouts=timeouts) as session,
    ):
        with pytest.raises(chatstream.StreamTimeoutError) as caught:
            async with session.stream(ask) as stream:
                await stream.collect()

    assert canary.key not in everything(caught.value)
    assert canary.prompt not in everything(caught.value)


def test_the_names_are_those_of_the_broken_answers(wire):
    assert set(NAMES) == set(broken_answers(wire))


async def test_ids_of_streams_differ(session):
    streams = [await ask(session) for _ in range(3)]
    ids = [stream.report.stream_id for stream in streams]

    assert all(a < b for a, b in itertools.pairwise(ids))
