"""Answers that aren't the one asked for: rows W27 to W36 and W38 of the faults."""

import datetime as dt
import email.utils
import gzip

import pytest

from chatstream import (
    AuthenticationError,
    BadRequestError,
    ChatSession,
    ChatStreamError,
    DecodeError,
    FirstTokenTimeoutError,
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
    UpstreamError,
    Verdict,
)
from tests.faults.acts import ASK, KEY, ONCE, OUTPUT, SOON, UNTIL_CLOSED, hides


def quoted(request):
    """What a careless server says: all that it heard."""
    return f"{request.head} {request.body.decode()}".encode()


# --- W27, W28: not HTTP ---------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.x 200 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"<html>HTTP/0.9 had no head</html>\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx y: z\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"\r\n",
    ],
    ids=lambda answer: repr(answer[:30]),
)
async def test_not_http(fails, faulty, answer):
    """
    W27, W28: aiohttp calls it a status of 400, which no server sent.
    """
    error = await fails(await faulty(answer), ProtocolError, Verdict.MALFORMED, retryable=True)

    assert "400" not in str(error)
    assert "\n" not in str(error)
    assert error.__cause__ is error.__context__ is None


async def test_an_answer_that_is_no_http_quotes_nothing(fails, faulty):
    """
    W27: whatever it said, it may be what we said to it.
    """

    async def echo(connection):
        request = await connection.request()
        await connection.send(quoted(request) + b"\r\n\r\n")

    await fails(await faulty(echo), ProtocolError, Verdict.MALFORMED, retryable=True)


async def test_headers_without_end(fails, faulty, endless, bounded):
    """
    W28: they are given up after so many.
    """
    with bounded():
        await fails(
            await faulty(endless(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000)),
            ProtocolError,
            Verdict.MALFORMED,
            retryable=True,
        )


async def test_early_hints_are_skipped(works, faulty, wire):
    """
    W27: an answer before the answer.
    """
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    stream = await works(await faulty(hints + wire.response(wire.WHOLE)))

    assert 200 == stream.response.status


async def test_early_answers_for_ever(fails, faulty, endless, bounded):
    """
    W27: none of them is the answer, whose clock runs out.
    """
    flood = endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    with bounded():
        await fails(
            await faulty(flood),
            FirstTokenTimeoutError,
            Verdict.TIMEOUT,
            retryable=True,
            timeouts=Timeouts(first_token=SOON),
        )


async def test_another_protocol(fails, faulty):
    """
    W27: nobody asked to switch.
    """
    switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello"
    error = await fails(await faulty(switch), StatusError, Verdict.HTTP_ERROR)

    assert 101 == error.status


async def test_a_content_type_that_is_told_twice(works, faulty, wire):
    """
    W28: a proxy that adds its own.
    """
    answer = wire.response(wire.WHOLE).replace(
        b"content-type:", b"content-type: x\r\ncontent-type:"
    )

    await works(await faulty(answer))


async def test_control_characters_in_a_header(fails, faulty, wire):
    """
    W28: aiohttp lets most of them through; where a header is shown they do no harm.
    """
    error = await fails(
        await faulty(wire.response(b"", "400 No", x_request_id="a\x1b]0;title\x07b")),
        BadRequestError,
        Verdict.HTTP_ERROR,
        kept=True,
    )

    assert "a ]0;title b" == error.request_id == error.report.request_id
    assert {"a ]0;title b"} == {attempt.request_id for attempt in error.attempts}


# --- W29 to W32: 200, but no stream ---------------------------------------------------


@pytest.mark.parametrize("content_type", ["text/html", "text/event-stream"])
async def test_a_page(fails, faulty, wire, content_type):
    """
    W29: the login page of a proxy; what is shown of it can do a terminal no harm.
    """
    page = b"<!doctype html>\x1b[31m\x9b\r<p>Log in</p>\xff" * 1000
    error = await fails(
        await faulty(wire.response(page, content_type=content_type)),
        NotAnEventStreamError,
        Verdict.MALFORMED,
        created=DecodeError,
        kept=True,
    )

    assert content_type == error.content_type
    assert "Log in" in str(error)
    assert 512 >= len(error.seen)


async def test_a_page_without_end(fails, faulty, wire, endless, bounded):
    """
    W29: nobody reads it to its end.
    """
    server = await faulty(endless(wire.STREAM_HEAD, wire.http_chunk(b"<p>" * 5000)))
    with bounded():
        await fails(server, NotAnEventStreamError, Verdict.MALFORMED, created=None)


async def test_an_error_with_status_200(fails, faulty, wire):
    """
    W30: what is wrong is in the body only.
    """
    body = b'{"error":{"message":"overloaded","code":"busy","type":"server_error"}}'
    error = await fails(
        await faulty(wire.response(body, content_type="application/json")),
        UpstreamError,
        Verdict.UPSTREAM_ERROR,
        retryable=True,
        kept=True,
    )

    assert ("overloaded", "busy", "server_error") == (error.message, error.code, error.type)


async def test_a_whole_answer_where_a_stream_was_asked_for(fails, faulty, wire):
    """
    W30: it isn't shown, because it is an answer.
    """
    body = wire.COMPLETION.replace(b"Hi", OUTPUT.encode())
    error = await fails(
        await faulty(wire.response(body, content_type="application/json")),
        NotAnEventStreamError,
        Verdict.MALFORMED,
        created=None,
        kept=True,
    )

    assert "application/json" == error.content_type
    assert "whole answer" in str(error)


@pytest.mark.parametrize(
    "content_type",
    [None, "", "x", "text/event-stream;", "text/event-stream;charset=windows-1252",
     "TEXT/EVENT-STREAM; CHARSET=UTF-16", "application/json"],
)  # fmt: skip
async def test_a_stream_is_one_whatever_its_type_says(faulty, wire, content_type):
    """
    W31: and it is UTF-8.
    """
    body = wire.chunk("żółw") + wire.END
    answer = wire.response(body, content_type=content_type or "")
    if content_type is None:
        answer = answer.replace(b"content-type: \r\n", b"")
    server = await faulty(answer)
    async with ChatSession(server.base_url) as session, session.stream(ASK) as stream:
        await stream.collect()

    assert "żółw" == stream.completion.text


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "205 Reset Content"])
async def test_nothing_at_all(fails, faulty, wire, status):
    """
    W32: no event and no error is no answer.
    """
    error = await fails(
        await faulty(wire.response(b"", status)),
        NotAnEventStreamError,
        Verdict.EMPTY,
        created=DecodeError,
        kept=True,
    )

    assert int(status[:3]) == error.report.status


# --- W33: redirects -------------------------------------------------------------------


@pytest.fixture
async def elsewhere(faulty, wire):
    """A server that nobody should come to."""
    return await faulty(wire.response(wire.WHOLE))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["same host", "other host", "downgrade", "itself"])
async def test_a_redirect_is_not_followed(
    fails, faulty, wire, elsewhere, server_tls, client_tls, status, where
):
    """
    W33: it would take the prompt and the key elsewhere.
    """

    async def answer(connection):
        await connection.request()
        place = {
            "same host": f"{server.origin}/v2?token=hidden",
            "other host": f"{elsewhere.origin}/v2?token=hidden",
            "downgrade": f"{elsewhere.origin}/v2?token=hidden",
            "itself": f"{server.base_url}/chat/completions?token=hidden",
        }[where]
        await connection.send(wire.response(b"see there", f"{status} Elsewhere", location=place))

    server = await faulty(answer, tls=server_tls if where == "downgrade" else None)
    error = await fails(server, RedirectError, Verdict.HTTP_ERROR, kept=True, tls=client_tls)

    shown = elsewhere.origin if where in {"other host", "downgrade"} else server.origin
    assert status == error.status
    assert shown in str(error)
    assert "hidden" not in str(error)
    assert "v2" not in str(error)
    assert 2 == len(server.requests)
    assert 0 == elsewhere.connections


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (None, "nowhere"),
        ("", "nowhere"),
        ("/v2?token=hidden", "another path"),
        ("file:///etc/hidden", "file://"),
        ("https://user:hidden@host/x", "https://host"),
        ("//host/hidden", "another path"),
        ("javascript:hidden", "another path"),
    ],
)
async def test_where_a_redirect_points(fails, faulty, wire, location, shown):
    """
    W33: scheme and host at most.
    """
    headers = {} if location is None else {"location": location}
    error = await fails(
        await faulty(wire.response(b"", "307 Elsewhere", **headers)),
        RedirectError,
        Verdict.HTTP_ERROR,
        kept=True,
    )

    assert shown in str(error)
    assert "hidden" not in str(error)


# --- W34: the server says no ----------------------------------------------------------

REFUSALS = {
    400: BadRequestError,
    401: AuthenticationError,
    402: StatusError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: BadRequestError,
    418: StatusError,
    422: BadRequestError,
}
FAILURES = {
    408: StatusError,
    409: StatusError,
    429: RateLimitError,
    500: ServerError,
    502: ServerError,
    503: ServerError,
    504: ServerError,
    529: ServerError,
}


@pytest.mark.parametrize("status", [*REFUSALS, *FAILURES])
async def test_a_status_has_its_error(fails, faulty, wire, status):
    """
    W34, W36: the class says what to do, and whether it makes sense to try again.
    """
    body = b'{"error":{"message":"Because.","type":"t","code":"c","param":"p"}}'
    error = await fails(
        await faulty(wire.response(body, f"{status} No", "application/json")),
        {**REFUSALS, **FAILURES}[status],
        Verdict.HTTP_ERROR,
        retryable=status in FAILURES,
        kept=True,
    )

    assert (status, "Because.") == (error.status, error.message)
    assert ("t", "c", "p") == (error.type, error.code, error.param)
    assert str(status) in str(error)
    assert {status} == {attempt.status for attempt in error.attempts}


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
async def test_a_status_with_any_body(fails, faulty, wire, body, message):
    """
    W34: JSON, words, a page, nothing: shown as one clean line.
    """
    error = await fails(
        await faulty(wire.response(body, "400 No")), BadRequestError, Verdict.HTTP_ERROR, kept=True
    )

    assert message == error.message


async def test_a_status_with_a_large_body(fails, faulty, endless, bounded):
    """
    W34: no more than 64 KiB of an error is read, whatever its size.
    """
    head = b"HTTP/1.1 400 No\r\ncontent-length: 1000000000\r\n\r\n"
    with bounded():
        error = await fails(
            await faulty(endless(head, b"x" * 65536)), BadRequestError, Verdict.HTTP_ERROR
        )

    assert 300 == len(error.message)


async def test_a_status_with_a_bomb(fails, faulty, wire, bounded):
    """
    W34, W25: nor of one that is packed.
    """
    body = gzip.compress(b"x" * 20 * 1024 * 1024)
    answer = wire.response(body, "400 No", "text/plain", content_encoding="gzip")
    server = await faulty(answer)
    with bounded():
        error = await fails(server, BadRequestError, Verdict.HTTP_ERROR, kept=True)

    assert 300 == len(error.message)


@pytest.mark.parametrize("how", ["stalls", "reset", "closed"])
async def test_a_status_whose_body_never_ends(fails, faulty, how):
    """
    W34: the status says enough; the rest isn't waited for.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 403 No\r\ncontent-length: 100\r\n\r\nit ")
        if how == "stalls":
            await connection.gone()
        if how == "reset":
            connection.reset()

    await fails(
        await faulty(answer),
        PermissionDeniedError if how != "stalls" else FirstTokenTimeoutError,
        Verdict.HTTP_ERROR if how != "stalls" else Verdict.TIMEOUT,
        retryable=how == "stalls",
        timeouts=Timeouts(first_token=SOON),
    )


async def test_a_refusal_that_quotes_the_request(fails, faulty, wire):
    """
    W34: some servers say which key was wrong.
    """

    async def answer(connection):
        request = await connection.request()
        key = request.head.split("Bearer ")[1].split("\r\n")[0]
        body = b'{"error":{"message":"Incorrect API key provided: %b"}}' % key.encode()
        await connection.send(wire.response(body, "401 No", "application/json"))

    error = await fails(await faulty(answer), AuthenticationError, Verdict.HTTP_ERROR, kept=True)

    assert "Incorrect API key provided: ***" == error.message


_ERROR = b'{"error":{"message":"Incorrect key: KEY","code":"KEY","type":"KEY","param":"KEY"}}'
QUOTING = {
    "no HTTP": b"hello KEY\r\n\r\n",
    "no header": b"HTTP/1.1 200 OK\r\nKEY\r\n\r\n",
    "reason": b"HTTP/1.1 500 KEY\r\n\r\n",
    "status": b"HTTP/1.1 401 No\r\n\r\n" + _ERROR,
    "words": b"HTTP/1.1 500 No\r\n\r\nbad key KEY",
    "cut words": b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 285 + b" KEY and more",
    "redirect": b"HTTP/1.1 307 No\r\nlocation: http://KEY/KEY\r\n\r\n",
    "content type": b"HTTP/1.1 200 OK\r\ncontent-type: KEY\r\n\r\n<p>",
    "page": b"HTTP/1.1 200 OK\r\n\r\n<p>KEY",
    "error in the stream": UNTIL_CLOSED + b"data: " + _ERROR + b"\n\n",
    "no JSON": UNTIL_CLOSED + b"data: {KEY\n\n",
    "no chunk": UNTIL_CLOSED.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n")
    + b"zz KEY",
}


@pytest.mark.parametrize("place", QUOTING)
async def test_an_answer_that_quotes_the_request(faulty, wire, place):
    """
    W27, W34: errors end up in logs, reports and other people's trackers.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(QUOTING[place].replace(b"KEY", KEY.encode()))

    server = await faulty(answer)
    async with ChatSession(server.base_url, KEY, retry=ONCE) as session:
        stream = session.stream(ASK)
        with pytest.raises(ChatStreamError) as streamed:
            await enter_and_collect(stream)
        with pytest.raises(ChatStreamError) as created:
            await session.create(ASK)
        assert KEY not in repr(session)
    await server.left()

    for error in (streamed.value, created.value):
        hides(error)


async def enter_and_collect(stream):
    async with stream:
        await stream.collect()


# --- W35, W36: come back later --------------------------------------------------------


def dated(headers):
    """Return *headers*; a date that is given as ``"now+30"`` is that many seconds from now."""
    found = {}
    for name, value in headers.items():
        word, _, seconds = value.partition("+")
        moment = dt.datetime.now(dt.UTC)
        if word == "now":
            moment += dt.timedelta(seconds=int(seconds))
            value = email.utils.format_datetime(moment, usegmt=True)  # noqa: PLW2901
        found[name] = value
    return found


@pytest.mark.parametrize("status", ["429 Wait", "503 Wait"])
@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry_after": "7"}, 7, 7),
        ({"retry_after": "0.5"}, 0.5, 0.5),
        ({"retry_after": "now+30"}, 20, 30),
        ({"retry_after": "1000000000"}, 60, 60),
        ({"retry_after": "now+100000"}, 60, 60),
        ({"retry_after_ms": "1500"}, 1.5, 1.5),
        ({"retry_after_ms": "1500", "retry_after": "7"}, 1.5, 1.5),
        ({"retry_after_ms": "soon", "retry_after": "7"}, 7, 7),
        # Nonsense is no wish: the usual wait with jitter.
        ({}, 0.5, 1),
        ({"retry_after": "-5"}, 0.5, 1),
        ({"retry_after": "soon"}, 0.5, 1),
        ({"retry_after": "inf"}, 0.5, 1),
        ({"retry_after": "nan"}, 0.5, 1),
        ({"retry_after": ""}, 0.5, 1),
    ],
    ids=repr,
)
async def test_the_server_says_when_to_come_back(
    works, faulty, wire, waits, status, headers, least, most
):
    """
    W35: its wish is granted, up to the policy's longest wait.
    """
    answers = [
        wire.response(b"", status, connection="close", **dated(headers)),
        wire.response(wire.WHOLE),
    ]

    async def answer(connection):
        await connection.request()
        await connection.send(answers[len(server.requests) - 1])

    server = await faulty(answer)
    stream = await works(server, retry=RetryPolicy(2))

    [waited] = waits
    assert least <= waited <= most
    assert [int(status[:3]), 200] == [attempt.status for attempt in stream.attempts]


@pytest.mark.parametrize("headers", [{"retry_after": "0"}, {"retry_after": "now+-1000"}], ids=repr)
async def test_the_server_says_to_come_back_at_once(works, faulty, wire, waits, headers):
    """
    W35: a date that has passed is now.
    """
    answers = [
        wire.response(b"", "429 Wait", connection="close", **dated(headers)),
        wire.response(wire.WHOLE),
    ]

    async def answer(connection):
        await connection.request()
        await connection.send(answers[len(server.requests) - 1])

    server = await faulty(answer)
    await works(server, retry=RetryPolicy(2))

    assert [] == waits


@pytest.mark.parametrize(("status", "says", "attempts"), [(503, "false", 1), (400, "true", 2)])
async def test_the_server_says_whether_to_come_back(fails, faulty, wire, status, says, attempts):
    """
    W35: it knows better than its status.
    """
    kind = {**REFUSALS, **FAILURES}[status]
    error = await fails(
        await faulty(wire.response(b"", f"{status} No", x_should_retry=says)),
        kind,
        Verdict.HTTP_ERROR,
        retryable=says == "true",
        kept=True,
    )

    assert attempts == len(error.attempts)


async def test_the_wait_ends_with_the_callers_time(faulty, wire):
    """
    W35: nobody waits for an answer that comes too late anyway.
    """
    server = await faulty(wire.response(b"", "429 Wait", retry_after="50"))
    timeouts = Timeouts(total=SOON)
    async with ChatSession(server.base_url, timeouts=timeouts) as session:
        stream = session.stream(ASK)
        with pytest.raises(TimeoutError):
            await stream.__aenter__()

    assert 1 == len(stream.attempts)
    assert 1 > stream.report.stream_end
    assert Verdict.TIMEOUT is stream.verdict


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
async def test_failures_and_then_success(works, faulty, wire, status):
    """
    W36: each attempt is told apart, and the times of the last can be told from the whole.
    """
    answers = [
        wire.response(b"", f"{status} No", connection="close", x_request_id="one"),
        wire.response(b"", "503 No", connection="close", x_request_id="two"),
        wire.response(wire.WHOLE, x_request_id="three"),
    ]

    async def answer(connection):
        await connection.request()
        await connection.send(answers[len(server.requests) - 1])

    server = await faulty(answer)
    stream = await works(server, retry=RetryPolicy(3, max_wait=0.01))

    first, second, third = stream.attempts
    assert [status, 503, 200] == [attempt.status for attempt in stream.attempts]
    assert ["one", "two", "three"] == [attempt.request_id for attempt in stream.attempts]
    assert [True, True, False] == [bool(attempt.error) for attempt in stream.attempts]
    assert 0 == first.started < second.started < third.started
    assert 0 == first.waited < second.waited
    report = stream.report
    assert third.started < report.sent < report.time_to_first_token
    assert report.time_to_first_token_from_sent < report.time_to_first_token - third.started
    assert 3 == len(server.requests)
    assert 1 == len({request.body for request in server.requests})


# --- W38: an answer before the request is over ----------------------------------------


async def test_a_status_before_the_request_is_sent_whole(fails, faulty, wire):
    """
    W38: a proxy refuses a large body early: its reason is told, not a broken pipe.
    """

    async def answer(connection):
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(wire.response(b"too large", "413 Too Large", "text/plain"))

    ask = {"model": "m", "messages": [{"role": "user", "content": "x" * 20_000_000}]}
    error = await fails(await faulty(answer), BadRequestError, Verdict.HTTP_ERROR, ask=ask)

    assert (413, "too large") == (error.status, error.message)
