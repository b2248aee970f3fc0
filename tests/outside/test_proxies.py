"""nginx and haproxy between client and server: what they do to a stream, and what it is called."""

import asyncio
import contextlib
import itertools
import socket
import subprocess

import pytest

from chatstream import (
    ChatSession,
    ConnectError,
    InterruptedStreamError,
    RetryPolicy,
    ServerError,
    Verdict,
)

pytestmark = pytest.mark.outside

ASK = {"model": "m", "messages": [{"role": "user", "content": "count to 3"}]}
TEXTS = ["one", " two", " three"]

NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/a;
    proxy_temp_path {folder}/b;
    fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d;
    scgi_temp_path {folder}/e;
    proxy_http_version 1.1;
    server {{
        listen 127.0.0.1:{port};
        location /v1/ {{ proxy_pass http://127.0.0.1:{upstream}; proxy_buffering off; }}
        location /buffered/ {{ proxy_pass http://127.0.0.1:{upstream}; }}
        location /hasty/ {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_buffering off;
            proxy_read_timeout 100ms;
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 1s
    retries 0
    timeout client 30s
    timeout server 30s
frontend all
    bind 127.0.0.1:{port}
    use_backend hasty if {{ path_beg /hasty }}
    default_backend patient
backend patient
    server one 127.0.0.1:{upstream}
backend hasty
    timeout server 100ms
    server one 127.0.0.1:{upstream}
"""


class Proxy:
    """A proxy that runs, and can be run again."""

    def __init__(self, command, port):
        self._command = command
        self._port = port
        self._process = None
        self.origin = f"http://127.0.0.1:{port}"

    async def start(self):
        self._process = subprocess.Popen(  # noqa: ASYNC220 it is left to run
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(10):
            while self._process.poll() is None:
                with contextlib.suppress(ConnectionError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    writer.close()
                    return
                await asyncio.sleep(0.01)
        pytest.fail(f"{self._command[0]} ended with {self._process.returncode}")

    def stop(self):
        self._process.terminate()
        self._process.wait(10)


@pytest.fixture(params=["nginx", "haproxy"])
async def before(request, program, tmp_path):
    """Give a function that puts a proxy before a server."""
    name = request.param
    path = program(name)
    proxies = []

    async def before(upstream):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        file = tmp_path / f"{name}.conf"
        config = NGINX if name == "nginx" else HAPROXY
        file.write_text(config.format(folder=tmp_path, port=port, upstream=upstream.port))
        options = ["-p", str(tmp_path), "-c"] if name == "nginx" else ["-db", "-q", "-f"]
        proxies.append(Proxy([path, *options, str(file)], port))
        await proxies[-1].start()
        return proxies[-1]

    yield before
    for proxy in proxies:
        proxy.stop()


@pytest.fixture
def begun(wire):
    """Give a function that sends the first event of a stream, and waits until it is seen."""

    async def begin(connection, seen):
        if await connection.request() is None:
            return False
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("one")))
        await seen.wait()
        return True

    return begin


async def broken(url, kind, seen=None, **options):
    """Return the error of a stream, and set *seen* once an event has come."""

    async def take(session):
        async with session.stream(ASK) as stream:
            async for event in stream:
                if event.content and seen is not None:
                    seen.set()

    options = {"retry": RetryPolicy(1), **options}
    async with ChatSession(url, "k", **options) as session:
        with pytest.raises(kind) as caught:
            await take(session)
    return caught.value


async def test_each_event_passes_as_it_comes(raw_server, wire, before):
    """
    The server sends an event when the one before it was seen: none can be kept back.
    """
    seen = asyncio.Event()

    async def answer(connection):
        if await connection.request() is None:
            return
        await connection.send(wire.STREAM_HEAD)
        for text in TEXTS:
            await connection.send(wire.http_chunk(wire.chunk(text)))
            await seen.wait()
            seen.clear()
        end = wire.chunk(finish_reason="stop") + wire.DONE
        await connection.send(wire.http_chunk(end) + wire.http_chunk(b""))

    proxy = await before(await raw_server(answer))
    events = []
    async with ChatSession(f"{proxy.origin}/v1", "k") as session, session.stream(ASK) as stream:
        async for event in stream:
            events.append(event)
            seen.set()

    assert [*TEXTS, None] == [event.content for event in events]
    assert all(a.arrived_ns < b.arrived_ns for a, b in itertools.pairwise(events))
    assert [False] * 3 == [event.coalesced for event in events[:3]]
    assert Verdict.FINISHED is stream.verdict


async def test_a_connection_to_it_serves_again(raw_server, wire, before):
    upstream = await raw_server(wire.always(wire.response(wire.ANSWER)))
    proxy = await before(upstream)
    async with ChatSession(f"{proxy.origin}/v1", "k", retry=RetryPolicy(1)) as session:
        for number in range(5):
            async with session.stream(ASK) as stream:
                await stream.collect()
            assert "Hi" == stream.completion.text
            assert bool(number) is stream.report.phases.reused


async def test_a_server_that_is_gone(raw_server, wire, before):
    upstream = await raw_server(wire.response(wire.ANSWER))
    proxy = await before(upstream)
    await upstream.aclose()
    error = await broken(f"{proxy.origin}/v1", ServerError)

    assert error.status in {502, 503}
    assert error.retryable


async def test_a_server_that_is_too_slow_for_it(raw_server, before):
    """
    A gateway's timeout is a status, as long as it has sent nothing.
    """

    async def silent(connection):
        await connection.gone()

    proxy = await before(await raw_server(silent))
    error = await broken(f"{proxy.origin}/hasty", ServerError)

    assert 504 == error.status
    assert error.retryable


async def test_a_stream_that_is_too_slow_for_it(raw_server, before, begun):
    """
    After that, all it can do is to hang up.
    """
    seen = asyncio.Event()

    async def stall(connection):
        if await begun(connection, seen):
            await connection.gone()

    proxy = await before(await raw_server(stall))
    error = await broken(f"{proxy.origin}/hasty", InterruptedStreamError, seen)

    assert "one" == error.partial.text
    assert Verdict.TRUNCATED is error.report.verdict
    assert error.retryable


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_a_server_that_hangs_up_behind_it(raw_server, before, begun, how):
    seen = asyncio.Event()

    async def cut(connection):
        if await begun(connection, seen) and how == "reset":
            connection.reset()

    proxy = await before(await raw_server(cut))
    error = await broken(f"{proxy.origin}/v1", InterruptedStreamError, seen)

    assert "one" == error.partial.text


async def test_it_is_restarted_in_the_middle_of_a_stream(raw_server, wire, before, begun):
    """
    That stream is lost, the next one isn't.
    """
    seen = asyncio.Event()

    async def answer(connection):
        if upstream.connections == 1:
            if await begun(connection, seen):
                proxy.stop()
                await connection.gone()
        elif await connection.request() is not None:
            await connection.send(wire.response(wire.ANSWER))

    upstream = await raw_server(answer)
    proxy = await before(upstream)
    async with ChatSession(f"{proxy.origin}/v1", "k", retry=RetryPolicy(1)) as session:
        texts = []
        with pytest.raises(InterruptedStreamError) as caught:
            await take_text(session, texts, seen)
        with pytest.raises(ConnectError):
            await session.create(ASK)
        await proxy.start()
        async with session.stream(ASK) as stream:
            await stream.collect()

    assert ["one"] == texts
    assert "one" == caught.value.partial.text
    assert "Hi" == stream.completion.text


async def take_text(session, texts, seen):
    async with session.stream(ASK) as stream:
        async for text in stream.text():
            texts.append(text)
            seen.set()


async def test_a_burst_that_it_gathers(raw_server, wire, before):
    """
    More than its buffers hold, faster than it is read: nothing is lost, or comes twice.
    """
    texts = [f"{number} " * 100 for number in range(5000)]
    body = b"".join(map(wire.chunk, texts)) + wire.chunk(finish_reason="stop") + wire.DONE
    proxy = await before(await raw_server(wire.always(wire.response(body))))
    seen = []
    async with (
        ChatSession(f"{proxy.origin}/buffered", "k") as session,
        session.stream(ASK) as stream,
    ):
        async for event in stream:
            seen.append(event)
            if event.content == texts[0]:
                arrivals = stream._body._arrivals
                while arrivals._paused_at is None:  # noqa: ASYNC110 it tells nobody
                    await asyncio.sleep(0)  # until our own buffer is full

    assert [*texts, None] == [event.content for event in seen]
    assert sorted(event.arrived_ns for event in seen) == [event.arrived_ns for event in seen]
