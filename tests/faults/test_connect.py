"""No connection, or one that breaks: rows W1 to W10, W13 and W14 of the faults."""

import asyncio
import datetime as dt
import socket
import ssl

import aiohttp
import pytest
import trustme

from chatstream import (
    ConnectError,
    ConnectTimeoutError,
    FirstTokenTimeoutError,
    InterruptedStreamError,
    RetryPolicy,
    Timeouts,
    Verdict,
)
from tests.faults.acts import SOON, mute


@pytest.fixture
def unused():
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


# --- W1 to W3: nobody there -----------------------------------------------------------


async def test_refused(fails, unused):
    """
    W1: nobody listens; trying again may help.
    """
    error = await fails(
        f"http://127.0.0.1:{unused}/v1", ConnectError, Verdict.CONNECT_ERROR, retryable=True
    )

    assert ("refused", "127.0.0.1") == (error.reason, error.host)
    assert error.report.time_to_first_byte is None
    assert error.report.time_to_first_chunk is None


async def test_unreachable(fails):
    """
    W1: there is no way to a broadcast address by TCP; the kernel says so at once.
    """
    error = await fails(
        "http://255.255.255.255/v1",
        ConnectError,
        Verdict.CONNECT_ERROR,
        retryable=True,
        api_key=None,
    )

    assert "unreachable" == error.reason


async def test_no_such_host(fails):
    """
    W2: a name that is nobody's.
    """
    error = await fails(
        "https://nobody.invalid/v1", ConnectError, Verdict.CONNECT_ERROR, retryable=True
    )

    assert ("dns", "nobody.invalid") == (error.reason, error.host)
    assert aiohttp.ClientConnectorDNSError is type(error.__cause__)


class Resolver(aiohttp.abc.AbstractResolver):
    """Looks names up as a test's function does."""

    def __init__(self, look):
        self._look = look

    async def resolve(self, host, port=0, family=socket.AF_INET):
        return await self._look()

    async def close(self):
        pass


@pytest.mark.parametrize("how", ["EAI_NODATA", "EAI_AGAIN"])
async def test_a_lookup_without_an_answer(fails, how):
    """
    W2: the server of names knows the name, but no address; or doesn't answer.
    """

    async def look():
        raise socket.gaierror(getattr(socket, how), "no answer")

    async with http_with(look) as http:
        error = await fails(
            "https://somebody.test/v1",
            ConnectError,
            Verdict.CONNECT_ERROR,
            retryable=True,
            http=http,
        )

    assert "dns" == error.reason


async def test_a_lookup_that_hangs(fails):
    """
    W2: the lookup is part of connecting, and ends with its clock.
    """
    async with http_with(asyncio.Event().wait) as http:
        error = await fails(
            "https://somebody.test/v1",
            ConnectTimeoutError,
            Verdict.TIMEOUT,
            retryable=True,
            http=http,
            timeouts=Timeouts(connect=SOON),
        )

    assert SOON == error.limit
    assert SOON <= error.report.stream_end


def http_with(look):
    """Return the caller's own HTTP session, with a resolver."""
    connector = aiohttp.TCPConnector(resolver=Resolver(look), use_dns_cache=False)
    return aiohttp.ClientSession(connector=connector)


@pytest.fixture
def blackhole():
    """A port that answers no SYN, because its queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(8):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for sock in waiting:
            sock.close()


async def test_a_blackhole(fails, blackhole):
    """
    W3: no answer to a SYN; the clock for connecting runs out, and not before its time.
    """
    error = await fails(
        f"http://127.0.0.1:{blackhole}/v1",
        ConnectTimeoutError,
        Verdict.TIMEOUT,
        retryable=True,
        timeouts=Timeouts(connect=SOON),
    )

    assert SOON == error.limit
    assert 2 * SOON <= error.report.stream_end
    assert all(attempt.phases.tcp is None for attempt in error.attempts)


# --- W4 to W6: TLS --------------------------------------------------------------------


def context_of(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def untrusted(authority, tmp_path):
    """Give a server's context whose certificate is wrong in some way."""

    def untrusted(how):
        match how:
            case "unknown authority":
                return context_of(trustme.CA().issue_cert("127.0.0.1"))
            case "another host":
                return context_of(authority.issue_cert("elsewhere.test"))
            case "expired":
                past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
                return context_of(authority.issue_cert("127.0.0.1", not_after=past))
            case "self-signed":
                own = trustme.CA()
                file = tmp_path / "own.pem"
                file.write_bytes(own.private_key_pem.bytes() + own.cert_pem.bytes())
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(file)
                return context

    return untrusted


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("unknown authority", "issuer"),
        ("another host", "127.0.0.1"),
        ("expired", "expired"),
        ("self-signed", "self-signed"),
    ],
)
async def test_a_certificate_that_is_not_trusted(fails, faulty, untrusted, client_tls, how, said):
    """
    W4: trying again can't help, and nothing of the request goes to whoever that is.
    """
    server = await faulty(b"", tls=untrusted(how))
    error = await fails(server, ConnectError, Verdict.CONNECT_ERROR, tls=client_tls)

    assert "tls" == error.reason
    assert said in str(error).replace("self signed", "self-signed")
    assert [] == server.requests


async def test_a_handshake_that_stalls(fails, faulty):
    """
    W5: the handshake is part of connecting.
    """

    server = await faulty(mute)
    error = await fails(
        server.base_url.replace("http:", "https:"),
        ConnectTimeoutError,
        Verdict.TIMEOUT,
        retryable=True,
        timeouts=Timeouts(connect=SOON),
    )

    assert SOON == error.limit
    assert 0 == server.open


async def test_plain_http_where_tls_is_expected(fails, faulty, wire):
    """
    W5: the port doesn't speak TLS; trying again can't help.
    """

    async def plain(connection):
        await connection.send(wire.response(wire.WHOLE))

    server = await faulty(plain)
    url = server.base_url.replace("http:", "https:")
    error = await fails(url, ConnectError, Verdict.CONNECT_ERROR)

    assert "tls" == error.reason


async def test_tls_where_plain_http_is_expected(fails, faulty, server_tls):
    """
    W5: it hangs up on what is no handshake.
    """
    server = await faulty(b"", tls=server_tls)
    url = server.base_url.replace("https:", "http:")
    error = await fails(url, ConnectError, Verdict.CONNECT_ERROR, retryable=True)

    assert "disconnected" == error.reason
    assert [] == server.requests


@pytest.mark.parametrize("body", ["in chunks", "until closed"])
async def test_tls_that_is_cut_off(fails, faulty, wire, server_tls, client_tls, body):
    """
    W6: an end without close_notify may be anybody's doing; it is never a whole answer.
    """

    async def cut(connection):
        await connection.request()
        await connection.send(wire.BEGUN if body == "in chunks" else wire.UNTIL_CLOSED + wire.ONE)
        await server.handed.wait()
        connection.writer.transport.abort()

    server = await faulty(cut, tls=server_tls)
    await fails(
        server,
        InterruptedStreamError,
        Verdict.TRUNCATED,
        text=wire.OUTPUT,
        retryable=True,
        created=None,
        tls=client_tls,
    )


# --- W7 and W9: hung up on before an answer -------------------------------------------


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_hung_up_on_before_a_byte(fails, faulty, how, heard):
    """
    W7, W9: there was no answer, so the same request may be sent again.
    """

    async def answer(connection):
        if heard:
            await connection.request()
        if how == "reset":
            connection.reset()

    server = await faulty(answer)
    error = await fails(server, ConnectError, Verdict.CONNECT_ERROR, retryable=True)

    assert "disconnected" == error.reason
    assert not error.reused
    assert error.report.time_to_first_byte is None


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_hung_up_on_within_the_headers(fails, faulty, how):
    """
    W9: half of the headers is no answer either.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
        if how == "reset":
            connection.reset()

    server = await faulty(answer)
    error = await fails(server, ConnectError, Verdict.CONNECT_ERROR, retryable=True)

    assert "disconnected" == error.reason


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_another_try_after_being_hung_up_on(works, faulty, wire, how):
    """
    W7, W9: and the report tells of both.
    """

    async def answer(connection):
        await connection.request()
        if server.connections > 1:
            await connection.send(wire.response(wire.WHOLE))
        elif how == "reset":
            connection.reset()

    server = await faulty(answer)
    stream = await works(server, retry=RetryPolicy(2, max_wait=0))

    assert [None, 200] == [attempt.status for attempt in stream.attempts]
    assert stream.attempts[0].error


# --- W8 and W10: cut in the middle ----------------------------------------------------


@pytest.mark.parametrize(
    "half", [b"", b'data: {"id":"c","choices":[{"ind', b"data: "], ids=["between", "in", "at"]
)
@pytest.mark.parametrize("way", ["reset", "closed"])
async def test_cut_in_the_middle(fails, faulty, wire, way, half):
    """
    W8, W10: whole events are kept, half ones never shown, and nothing is asked again.
    """

    async def cut(connection):
        await connection.request()
        await connection.send(wire.BEGUN)
        if half:
            await connection.send(b"%x\r\n%b" % (len(half) + 9, half))
        await server.handed.wait()
        if way == "reset":
            connection.reset()

    server = await faulty(cut)
    error = await fails(
        server,
        InterruptedStreamError,
        Verdict.TRUNCATED,
        text=wire.OUTPUT,
        retryable=True,
        created=None,
        retry=RetryPolicy(3, max_wait=0),
    )

    assert 1 == error.events
    assert error.__cause__ is error.__context__ is None
    assert 1 == server.connections


@pytest.mark.parametrize("way", ["reset", "closed"])
async def test_cut_before_the_first_token_is_tried_again(works, faulty, wire, way):
    """
    W8, W10: a role isn't anything that the caller would miss or see twice.
    """

    async def answer(connection):
        await connection.request()
        if server.connections > 1:
            await connection.send(wire.response(wire.WHOLE))
            return
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("", role="assistant")))
        if way == "reset":
            connection.reset()

    server = await faulty(answer)
    stream = await works(server, retry=RetryPolicy(2, max_wait=0))

    assert 2 == len(stream.attempts)
    assert stream.completion.choices[0].message.role == "assistant"


# --- W13 to W14: odd but alive, and barely alive --------------------------------------


async def test_a_server_that_hears_no_more(works, faulty, wire):
    """
    W13: it closes its ears after the request, and goes on to answer.
    """

    async def answer(connection):
        await connection.request()
        sock = connection.writer.get_extra_info("socket")
        sock.shutdown(socket.SHUT_RD)
        await connection.send(wire.BEGUN)
        await connection.send(wire.http_chunk(wire.END) + wire.http_chunk(b""))

    await works(await faulty(answer))


async def test_headers_that_come_byte_by_byte(fails, faulty, dripping):
    """
    W14: each byte is a sign of life, but none of a token.
    """
    server = await faulty(dripping(b"HTTP/1.1 200 OK\r\n", b"x-padding: y\r\n", pause=0.005))
    error = await fails(
        server,
        FirstTokenTimeoutError,
        Verdict.TIMEOUT,
        retryable=True,
        timeouts=Timeouts(first_token=SOON),
    )

    assert SOON == error.limit
    assert error.report.phases.headers is None
