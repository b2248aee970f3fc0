"""A proxy in between that gives no connection: row W40 of the faults."""

import pytest

from chatstream import (
    ConnectError,
    ConnectTimeoutError,
    FirstTokenTimeoutError,
    InterruptedStreamError,
    Timeouts,
    Verdict,
)
from tests.faults.acts import SOON, mute

PLAIN = "http://192.0.2.1/v1"
SECURE = "https://192.0.2.1/v1"
"""Addresses for documentation (RFC 5737): nobody but the proxy is asked for them."""


@pytest.fixture
def refused(fails):
    """Give a function that is refused by *proxy*, which must be why, and show no password."""

    async def refused(url, proxy, *, kind=ConnectError, retryable=True, **options):
        error = await fails(
            url,
            kind,
            Verdict.CONNECT_ERROR if kind is ConnectError else Verdict.TIMEOUT,
            retryable=retryable,
            proxy=proxy.replace("://", "://me:hidden@"),
            # It would go to the proxy in the clear.
            api_key="k" if url == SECURE else None,
            **options,
        )
        if kind is ConnectError:
            assert "proxy" == error.reason
        for one in (error, error.__cause__, error.__context__):
            assert "hidden" not in f"{one} {one!r} {getattr(one, 'args', '')!r}"
        return error

    return refused


@pytest.mark.parametrize("url", [PLAIN, SECURE])
async def test_a_proxy_that_is_not_there(refused, faulty, url):
    """
    W40: nobody listens any more.
    """
    gone = await faulty(b"")
    await gone.raw.aclose()

    await refused(url, gone.origin)


@pytest.mark.parametrize("url", [PLAIN, SECURE])
async def test_a_proxy_whose_name_is_unknown(refused, url):
    """
    W40: its name is told, not that of the server.
    """
    error = await refused(url, "http://proxy.invalid:3128")

    assert "proxy.invalid" == error.host


@pytest.mark.parametrize(
    "status", ["407 Proxy Authentication Required", "502 Bad Gateway", "403 No"]
)
async def test_a_proxy_that_refuses_to_connect(refused, faulty, wire, status):
    """
    W40: it says no to CONNECT, which is none of the server's words.
    """
    proxy = await faulty(wire.response(b"no", status, "text/plain"))
    error = await refused(SECURE, proxy.origin)

    assert status[:3] in str(error)
    assert {"CONNECT 192.0.2.1:443 HTTP/1.1"} == {request.line for request in proxy.requests}


async def test_a_proxy_that_refuses_a_plain_request(refused, faulty, wire):
    """
    W40: trying again with the same password can't help.
    """
    proxy = await faulty(
        wire.response(b"no", "407 Proxy Authentication Required", "text/plain", connection="close")
    )

    await refused(PLAIN, proxy.origin, retryable=False)


async def test_a_proxy_that_hangs_while_it_connects(refused, faulty):
    """
    W40: its CONNECT is part of connecting.
    """

    proxy = await faulty(mute)
    error = await refused(
        SECURE, proxy.origin, kind=ConnectTimeoutError, timeouts=Timeouts(connect=SOON)
    )

    assert SOON == error.limit
    await proxy.left()


async def test_a_proxy_that_hangs_with_the_request(refused, faulty):
    """
    W40: who is silent behind it can't be told.
    """

    proxy = await faulty(mute)
    await refused(
        PLAIN, proxy.origin, kind=FirstTokenTimeoutError, timeouts=Timeouts(first_token=SOON)
    )
    await proxy.left()


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_a_proxy_that_hangs_up_while_it_connects(refused, faulty, how):
    """
    W40: as if there were none. No word of it reached the server.
    """

    async def answer(connection):
        await connection.request()
        if how == "reset":
            connection.reset()

    proxy = await faulty(answer)
    error = await refused(SECURE, proxy.origin)

    assert "127.0.0.1" == error.host


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_a_proxy_that_cuts_a_stream(fails, faulty, wire, how):
    """
    W40: in the middle of an answer it is as the server's own end.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(wire.BEGUN)
        await proxy.handed.wait()
        if how == "reset":
            connection.reset()

    proxy = await faulty(answer)
    error = await fails(
        proxy,
        InterruptedStreamError,
        Verdict.TRUNCATED,
        text=wire.OUTPUT,
        retryable=True,
        created=None,
        proxy=proxy.origin,
    )

    assert proxy.requests[0].line.startswith(f"POST {proxy.base_url}")
    assert 1 == len(error.attempts)
