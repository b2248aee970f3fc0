"""What nobody may see, and where they'd look: rows K14, K15, K23 and K24 of the faults."""

import asyncio
import copy
import json
import logging
import pickle
import traceback

import aiohttp
import attrs
import pytest

from chatstream import (
    ChatRequest,
    ChatSession,
    ChatStreamError,
    RequestError,
    RetryPolicy,
    Timeouts,
    stamping_session_options,
)
from chatstream.observers.log import LogObserver
from chatstream.observers.memory import MemoryRecorder
from tests.faults.acts import (
    ASK,
    DONE,
    KEY,
    ONCE,
    OUTPUT,
    PROMPT,
    STOP,
    child,
    chunk,
    everything,
    frame,
)


@pytest.fixture
async def answering(raw_server, wire):
    """A server that answers the canary output."""
    body = frame(chunk(OUTPUT)) + frame(STOP) + frame(DONE)
    return await raw_server(wire.always(wire.response(body)))


# --- Keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    ["\r\nX-Evil: 1", "\n", "é", "\u2028", "\x00", " two", "\ud83d"],
    ids=ascii,
)
@pytest.mark.parametrize("way", ["given", "called", "awaited"])
async def test_a_key_that_fits_no_header(answering, bad, way):
    """
    K14: line ends, other characters: refused before anything is sent, and not quoted.
    """

    async def later():
        return KEY + bad

    key = {"given": KEY + bad, "called": lambda: KEY + bad, "awaited": later}[way]
    async with ChatSession(answering.base_url, key) as session:
        for ask in (session.create(ASK), session.stream(ASK).__aenter__()):
            with pytest.raises(RequestError) as caught:
                await ask
            assert "api_key" == caught.value.parameter
            assert KEY not in everything(caught.value)

    assert 0 == answering.connections


@pytest.mark.parametrize("key", ["", "  ", None, lambda: ""], ids=["", "spaces", "none", "called"])
async def test_an_empty_key_is_none(server, key):
    """
    K14: a local server needs no key, and gets no header without one.
    """
    async with ChatSession(server.base_url, key) as session:
        await streamed(session)
    [request] = server.requests

    assert "authorization" not in request.headers


async def test_keys_that_run_out(raw_server, wire):
    """
    K14: a callable that raises at the second attempt: its words stay with it.
    """
    heard = []

    async def refuse(connection):
        heard.append((await connection.request()).head)
        await connection.send(wire.response(b"", "503 No", connection="close"))

    def key(left=[KEY]):  # noqa: B006 that's its memory
        if not left:
            raise LookupError(f"no key after {KEY}")
        return left.pop()

    raw = await raw_server(refuse)
    async with ChatSession(raw.base_url, key, retry=RetryPolicy(3, max_wait=0)) as session:
        with pytest.raises(RequestError, match="LookupError from its callable") as caught:
            await session.stream(ASK).__aenter__()

    assert 1 == len(heard)
    assert f"Authorization: Bearer {KEY}" in heard[0]
    assert KEY not in everything(caught.value)


# --- Where they'd look -----------------------------------------------------------------------

QUOTING = b'{"error":{"message":"Incorrect key %b"}}' % KEY.encode()
BROKEN = {
    "whole": None,
    "refused": None,
    "disconnected": b"",
    "no http": b"hello %b\r\n\r\n" % KEY.encode(),
    "status": b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%b" % (len(QUOTING), QUOTING),
    "in the stream": b"HTTP/1.1 200 OK\r\n\r\ndata: %b\n\n" % QUOTING,
    "no json": b"HTTP/1.1 200 OK\r\n\r\ndata: {%b\n\n" % KEY.encode(),
}


@pytest.mark.parametrize("way", ["key", "header", "azure", "callers session"])
@pytest.mark.parametrize("name", BROKEN)
async def test_no_log_traceback_or_copy_shows_the_key(
    raw_server, answering, caplog, monkeypatch, name, way
):
    """
    K15: logs at DEBUG with asyncio's debug mode, tracebacks with variables as ``--showlocals``
    and crash reporters have them, and copies of errors, reports and settings.
    """
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "slow_callback_duration", 0)
    loop.set_debug(True)
    recorder, http = MemoryRecorder(), None
    options = {"retry": RetryPolicy(2, max_wait=0), "observers": [recorder, LogObserver()]}
    if way == "header":
        options |= {"headers": {"Authorization": f"Bearer {KEY}"}}
    else:
        options |= {"api_key": KEY}
    if way == "azure":
        options |= {"api_version": "1"}
    if way == "callers session":
        http = options["http"] = aiohttp.ClientSession(**stamping_session_options())
    raw = answering
    if BROKEN[name] is not None:
        raw = await raw_server(BROKEN[name])
    session = ChatSession("http://127.0.0.1:1/v1" if name == "refused" else raw.base_url, **options)
    asks = (streamed,) if name == "whole" else (streamed, whole)
    errors = [error for ask in asks if (error := await failure(ask, session))]
    tracebacks = [
        "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        for error in errors
    ]
    # What a debugger shows of an open session, and what is written down of it.
    settings = [Timeouts(), RetryPolicy(), ChatRequest(**ASK), *recorder.reports]
    shown = [
        repr((session, vars(session), session._endpoint, attrs.asdict(session._endpoint))),
        *(everything(error) for error in errors),
        *(repr((error, vars(error))) for error in map(copy.deepcopy, errors)),
        *(repr(pickle.loads(pickle.dumps(error))) for error in errors),
        *(repr(attrs.asdict(one)) for one in settings),
        *(repr(copy.deepcopy(one)) for one in settings),
        *(pickle.dumps(one).decode("latin-1") for one in settings),
        json.dumps([report.to_dict() for report in recorder.reports]),
    ]
    await session.aclose()
    if http is not None:
        await http.close()

    assert (0 if name == "whole" else 2) == len(errors)
    assert len(asks) == len(recorder.reports)
    assert len(caplog.records) >= len(asks)
    assert KEY not in caplog.text
    if name not in {"in the stream", "no json"}:  # who shows variables shows the answer
        assert KEY not in "".join(tracebacks)
    for text in shown:
        assert KEY not in text


async def failure(ask, session):
    try:
        await ask(session)
    except ChatStreamError as error:
        return error


async def whole(session):
    await session.create(ASK)


async def streamed(session):
    async with session.stream(ASK) as stream:
        await stream.collect()


@pytest.mark.parametrize("name", ["whole", "no json"])
async def test_no_figure_shows_the_prompt_or_the_answer(raw_server, answering, caplog, name):
    """
    K23: reports, records and log lines are about times; content isn't theirs.
    """
    caplog.set_level(logging.DEBUG)
    body = b"HTTP/1.1 200 OK\r\n\r\n" + frame(chunk(OUTPUT)) + b"data: {nope\n\n"
    raw = answering if name == "whole" else await raw_server(body)
    recorder = MemoryRecorder()
    async with ChatSession(
        raw.base_url, KEY, retry=ONCE, observers=[recorder, LogObserver()]
    ) as session:
        error = await failure(streamed, session)
    [report] = recorder.reports
    shown = [caplog.text, repr(report), str(report), json.dumps(report.to_dict())]
    shown += [repr(recorder.percentiles()), repr(recorder.outcomes), repr(error), str(error)]

    assert error is None or OUTPUT == error.partial.text
    assert 1 == report.token_events
    assert "m" in caplog.text
    for text in shown:
        for secret in (PROMPT, OUTPUT, KEY):
            assert secret not in text


# --- The environment ---------------------------------------------------------------------------


@pytest.mark.parametrize("asked_for", [False, True])
async def test_proxies_and_netrc_of_the_environment(
    raw_server, wire, monkeypatch, tmp_path, asked_for
):
    """
    K24: a proxy would see the key, .netrc would replace it: ignored unless asked for.
    """

    async def note(connection):
        while (request := await connection.request()) is not None:
            seen.append(request)
            await connection.send(wire.response(wire.ANSWER))

    seen = []
    proxy = await raw_server(note)
    server = await raw_server(note)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hidden\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.origin)
    options = {"trust_env": True} if asked_for else {}
    async with ChatSession(server.base_url, **options) as session:
        await streamed(session)
    [request] = seen

    assert int(asked_for) == proxy.connections
    assert int(not asked_for) == server.connections
    assert asked_for == ("Authorization: Basic bWU6aGlkZGVu" in request.head)


TRUSTING = """
    import asyncio, sys
    from chatstream import ChatSession, ConnectError, RetryPolicy

    async def main():
        async with ChatSession(sys.argv[1], "k", retry=RetryPolicy(1)) as session:
            async with session.stream(
                model="m", messages=[{"role": "user", "content": "x"}]
            ) as stream:
                print((await stream.collect()).text)

    try:
        asyncio.run(main())
    except ConnectError as error:
        print(error.reason, error.retryable)
"""


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_environments_authorities(
    raw_server, wire, authority, server_tls, tmp_path, trusted
):
    """
    K24: SSL_CERT_FILE is honoured, and SSLKEYLOGFILE harms nothing.
    """
    body = wire.response(frame(chunk("Hi")) + frame(STOP) + frame(DONE))
    raw = await raw_server(wire.always(body), tls=server_tls)
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    environment = {"SSLKEYLOGFILE": str(tmp_path / "keys")}
    if trusted:
        environment["SSL_CERT_FILE"] = str(path)
    process = await child(TRUSTING, raw.base_url, **environment)
    printed, complaints = await process.communicate()

    assert (b"Hi\n" if trusted else b"tls False\n", b"") == (printed, complaints)
