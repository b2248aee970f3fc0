"""chatstream.testing.server and .connection, over loopback sockets."""

import asyncio
import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import orjson
import pytest
import trustme

import chatstream
from chatstream.testing import Profile, SimulatedServer, serve
from chatstream.testing.server import print_line

INSTANT = Profile.preset("instant")
BODY = {"model": "m", "messages": [{"role": "user", "content": "Count to 3"}]}
CHAT = "/v1/chat/completions"


def post(body=BODY, path=CHAT, headers="", version="1.1"):
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    head = f"POST {path} HTTP/{version}\r\nHost: h\r\nContent-Length: {len(raw)}\r\n{headers}\r\n"
    return head.encode() + raw


class Client:
    """One connection, by hand."""

    def __init__(self, server, **options):
        self.server = server
        self.options = options

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.server.port, **self.options
        )
        return self

    async def __aexit__(self, *exc_info):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def head(self):
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:-2])
        return int(lines[0].split()[1]), fields

    async def chunk(self):
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert b"\r\n" == await self.reader.readexactly(2)
        return data

    async def response(self):
        """Status, headers, body."""
        status, fields = await self.head()
        if "content-length" in fields:
            body = await self.reader.readexactly(int(fields["content-length"]))
        elif "transfer-encoding" in fields:
            body = b""
            while part := await self.chunk():
                body += part
        else:
            body = await self.reader.read()
        return status, fields, body

    async def ask(self, *args, **options):
        self.writer.write(post(*args, **options))
        return await self.response()


def payloads(body):
    """The JSON of each event but the last, which is ``[DONE]``."""
    *events, done, rest = body.decode().split("\n\n")
    assert ("data: [DONE]", "") == (done, rest)
    return [orjson.loads(event.removeprefix("data: ")) for event in events]


async def test_a_stream():
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        status, headers, body = await client.ask(BODY | {"stream": True})
    chunks = payloads(body)

    assert 200 == status
    assert "text/event-stream; charset=utf-8" == headers["content-type"]
    assert "req_0000000000000001" == headers["x-request-id"]
    assert headers["openai-processing-ms"].isdigit()
    assert "10000" == headers["x-ratelimit-limit-requests"]
    assert {"chatcmpl-sim000000000001"} == {chunk["id"] for chunk in chunks}
    assert [
        {"role": "assistant"},
        {"content": "1"},
        {"content": ", "},
        {"content": "2"},
        {"content": ", "},
        {"content": "3"},
        {},
    ] == [chunk["choices"][0]["delta"] for chunk in chunks]
    assert all(abs(chunk["created"] - time.time()) < 60 for chunk in chunks)
    assert "sent_ns" not in chunks[0]


async def test_a_whole_answer():
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        status, headers, body = await client.ask()
    answer = orjson.loads(body)

    assert (200, "application/json") == (status, headers["content-type"])
    assert "chat.completion" == answer["object"]
    assert "1, 2, 3" == answer["choices"][0]["message"]["content"]
    assert 5 == answer["usage"]["completion_tokens"]
    assert "sent_ns" not in answer


async def test_paced_chunks_come_in_writes_of_their_own():
    profile = Profile(time_to_first_token=0.005, gap=0.005)
    started = time.perf_counter()
    async with SimulatedServer(profile, truth=True) as server, Client(server) as client:
        status, _, body = await client.ask(BODY | {"stream": True})
    stamps = [chunk["sent_ns"] for chunk in payloads(body)]

    assert 200 == status
    assert 7 == len({*stamps})
    # uvloop rounds timers to milliseconds.
    assert time.perf_counter() - started > 0.025


async def test_stamps_are_true():
    """
    Between the request and what the client sees, in the order of the writes.
    """
    profile = Profile(time_to_first_token=0, gap=0.001)
    async with SimulatedServer(profile, truth=True) as server, Client(server) as client:
        began_ns = time.perf_counter_ns()
        client.writer.write(post(BODY | {"stream": True}))
        _, headers = await client.head()
        marks = [began_ns, int(headers["x-simulate-received-ns"])]
        while data := await client.chunk():
            read_ns = time.perf_counter_ns()
            if b"[DONE]" not in data:
                marks.append(orjson.loads(data.removeprefix(b"data: "))["sent_ns"])
                assert marks[-1] <= read_ns
        (request,) = server.requests

    assert marks == sorted(marks)
    assert request.received_ns == marks[1]
    assert marks[2:] == list(request.sent_ns)


async def test_a_whole_answer_is_stamped_too():
    server = SimulatedServer(INSTANT, truth=True, clock=lambda: 9)
    async with server, Client(server) as client:
        _, headers, body = await client.ask()
        (request,) = server.requests

    assert 9 == orjson.loads(body)["sent_ns"]
    assert [9] == list(request.sent_ns)
    assert "9" == headers["x-simulate-received-ns"]


async def test_a_connection_serves_many_requests():
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        for number in range(1, 4):
            await client.ask(BODY | {"stream": number % 2 == 0})
            assert [1] * number == [request.connection for request in server.requests]
        assert (1, 1) == (server.connections, server.open_connections)


async def test_requests_in_a_row_are_answered_in_order():
    profile = Profile(time_to_first_token=0.002, gap=0.001)
    async with SimulatedServer(profile) as server, Client(server) as client:
        client.writer.write(
            post(BODY | {"stream": True})
            + post()
            + post(b"{")
            + b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
            + post(BODY | {"model": "last"})
        )
        seen = [await client.response() for _ in range(5)]

    assert [200, 200, 400, 200, 200] == [status for status, _, _ in seen]
    assert 7 == len(payloads(seen[0][2]))
    assert "last" == orjson.loads(seen[4][2])["model"]


async def test_a_flood_of_requests_is_held_back():
    """
    What a client sends ahead is kept to a bound, and answered all the same.
    """
    profile = Profile(time_to_first_token=0.001, gap=0)
    big = post(BODY | {"user": "x" * 100_000})
    async with SimulatedServer(profile) as server, Client(server) as client:
        client.writer.write(big * 40)
        seen = [(await client.response())[0] for _ in range(40)]

    assert [200] * 40 == seen


async def test_a_body_in_chunks_and_in_pieces():
    raw = orjson.dumps(BODY)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        client.writer.write(head + b"%x\r\n" % len(raw) + raw[:10])
        await client.writer.drain()
        client.writer.write(raw[10:] + b"\r\n0\r\n\r\n")
        status, _, _ = await client.response()
        (request,) = server.requests

    assert 200 == status
    assert BODY == request.body


async def test_a_client_may_ask_before_it_sends_its_body():
    raw = orjson.dumps(BODY)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n"
    )
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        client.writer.write(head.encode())
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await client.reader.readuntil(b"\r\n\r\n")
        client.writer.write(raw)
        status, _, _ = await client.response()

    assert 200 == status


@pytest.mark.parametrize("stream", [True, False])
async def test_connection_close_is_honoured(stream):
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        status, headers, _ = await client.ask(
            BODY | {"stream": stream}, headers="Connection: close\r\n"
        )
        assert b"" == await client.reader.read()

    assert (200, "close") == (status, headers["connection"])


async def test_old_clients_get_no_chunks():
    async with SimulatedServer(INSTANT) as server:
        async with Client(server) as client:
            _, headers, body = await client.ask(BODY | {"stream": True}, version="1.0")
        async with Client(server) as client:
            _, kept, _ = await client.ask(version="1.0", headers="Connection: keep-alive\r\n")
            await client.ask(version="1.0")
            assert b"" == await client.reader.read()

    assert "transfer-encoding" not in headers
    assert "close" == headers["connection"]
    assert 7 == len(payloads(body))
    assert "keep-alive" == kept["connection"]


async def test_a_body_may_end_with_the_connection():
    profile = Profile.preset("instant", framing="close")
    async with SimulatedServer(profile) as server, Client(server) as client:
        _, headers, body = await client.ask(BODY | {"stream": True})

    assert "close" == headers["connection"]
    assert 7 == len(payloads(body))


async def test_head_and_errors():
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        client.writer.write(b"HEAD /health HTTP/1.1\r\nHost: h\r\n\r\n")
        status, headers = await client.head()
        assert (200, "15") == (status, headers["content-length"])
        client.writer.write(b"GET /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\r\n")
        status, headers, _ = await client.response()
        assert (405, "POST") == (status, headers["allow"])
        status, headers, body = await client.ask(
            headers="X-Simulate-Status: 429\r\nX-Simulate-Retry-After: 2\r\n"
        )
        assert (429, "2") == (status, headers["retry-after"])
        assert "rate_limit_exceeded" == orjson.loads(body)["error"]["code"]
        assert "req_0000000000000003" == headers["x-request-id"]
        status, _, body = await client.ask(b"{")
        assert (400, "invalid_request_error") == (status, orjson.loads(body)["error"]["type"])


async def test_what_is_not_http_ends_the_connection():
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        client.writer.write(b"hello\r\n\r\n" + post())
        status, headers, _ = await client.response()
        assert (400, "close") == (status, headers["connection"])
        assert b"" == await client.reader.read()
        client.writer.write(b"more")


async def test_a_client_that_leaves_ends_its_stream():
    profile = Profile(time_to_first_token=0, gap=3600)
    async with SimulatedServer(profile) as server:
        async with Client(server) as client:
            client.writer.write(post(BODY | {"stream": True}))
            await client.head()
            await client.chunk()
            assert 1 == server.open_streams
        await server.until(lambda s: s.open_connections == 0)

        assert (0, 1) == (server.open_streams, server.abandoned_streams)


async def test_a_client_that_leaves_before_a_whole_answer():
    async with SimulatedServer(Profile(time_to_first_token=3600)) as server:
        async with Client(server) as client:
            client.writer.write(post())
            await server.until(lambda s: s.open_streams == 1)
        await server.until(lambda s: s.open_streams == 0)

        assert 1 == server.abandoned_streams


async def test_a_client_that_does_not_read_holds_its_stream():
    """
    And only its own: others are answered meanwhile.
    """
    profile = Profile.preset("instant", tokens=20_000, payload_bytes=1000)
    async with SimulatedServer(profile) as server, Client(server, limit=1000) as lazy:
        lazy.writer.write(post(BODY | {"stream": True}))
        await lazy.head()
        server.profile = INSTANT
        async with Client(server) as eager:
            for _ in range(20):
                assert 200 == (await eager.ask())[0]
        assert 1 == server.open_streams
        count = 0
        while data := await lazy.chunk():
            count += data.startswith(b'data: {"id"')
        await server.until(lambda s: s.open_streams == 0)

    assert 20_002 == count


async def test_a_long_answer_waits_for_its_reader():
    async with SimulatedServer(models=("m" * 1_000_000,) * 20) as server, Client(server) as client:
        client.writer.write(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
        status, _, body = await client.response()

    assert 200 == status
    assert 20 == len(orjson.loads(body)["data"])


async def test_closing_ends_everything():
    """
    Promptly, whatever is under way; nothing is left to warn about.
    """
    server = await SimulatedServer(Profile(time_to_first_token=3600)).start()
    base = len(asyncio.all_tasks())
    clients = [Client(server) for _ in range(20)]
    for place, client in enumerate(clients):
        await client.__aenter__()
        if place % 2:
            client.writer.write(post(BODY | {"stream": place % 4 == 1}))
    await server.until(lambda s: s.open_streams == 10)
    await asyncio.wait_for(server.aclose(), 5)
    await server.aclose()

    assert (0, 0, 20) == (server.open_streams, server.open_connections, server.connections)
    assert len(asyncio.all_tasks()) <= base
    for client in clients:
        await client.__aexit__()
    with pytest.raises(ConnectionRefusedError):
        await Client(server).__aenter__()


async def test_closing_while_clients_arrive():
    server = await SimulatedServer(INSTANT).start()
    arriving = [
        asyncio.ensure_future(asyncio.open_connection("127.0.0.1", server.port)) for _ in range(50)
    ]
    await server.until(lambda s: s.connections > 0)
    await server.aclose()
    for result in await asyncio.gather(*arriving, return_exceptions=True):
        if isinstance(result, tuple):
            result[1].close()

    assert 0 == server.open_connections


async def test_a_server_runs_once():
    async with SimulatedServer() as server:
        with pytest.raises(RuntimeError, match="once"):
            await server.start()
    with pytest.raises(RuntimeError, match="once"):
        await server.start()


async def test_a_taken_port_is_an_error():
    async with SimulatedServer() as server:
        with pytest.raises(OSError, match="in use"):
            await SimulatedServer(port=server.port).start()


def test_urls():
    context = ssl.create_default_context()

    assert "http://127.0.0.1:80/v1" == SimulatedServer(host="0.0.0.0", port=80).base_url
    assert "http://[::1]:80" == SimulatedServer(host="::1", port=80).origin
    assert "https://h:443" == SimulatedServer(host="h", port=443, ssl=context).origin


async def test_requests_can_be_forgotten():
    async with SimulatedServer(INSTANT) as server, Client(server) as client:
        await client.ask()
        server.forget_requests()

        assert [] == server.requests
        assert INSTANT == server.profile


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_tls(authority, tls):
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    profile = Profile.preset("instant", tokens=5000)
    async with (
        SimulatedServer(profile, ssl=tls, truth=True) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
    ):
        assert server.base_url.startswith("https://")
        for _ in range(2):
            url = f"{server.base_url}/chat/completions"
            async with session.post(url, json=BODY | {"stream": True}) as response:
                chunks = payloads(await response.read())
                assert 5002 == len(chunks)
        assert 1 == server.connections


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio can't end handshakes before")
async def test_closing_in_the_middle_of_a_handshake(tls):
    server = await SimulatedServer(ssl=tls).start()
    async with Client(server) as client:
        client.writer.write(b"\x16\x03\x01")
        await asyncio.wait_for(server.aclose(), 5)
        if type(asyncio.get_running_loop()).__module__.startswith("asyncio"):
            assert b"" == await client.reader.read()


async def test_many_streams_at_once():
    profile = Profile(time_to_first_token=0.01, gap=0.01, tokens=3)
    async with (
        SimulatedServer(profile) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):

        async def one():
            url = f"{server.base_url}/chat/completions"
            async with session.post(url, json=BODY | {"stream": True}) as response:
                return len(payloads(await response.read()))

        assert [5] * 300 == await asyncio.gather(*(one() for _ in range(300)))
        assert 300 == len(server.requests)
        assert 0 == server.open_streams


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(sys.platform == "win32", reason="no signal handlers on its loops")
async def test_serving_until_a_signal(number, capsys):
    said = asyncio.get_running_loop().create_future()

    def announce(url):
        print_line(url)
        said.set_result(url)

    serving = asyncio.ensure_future(serve(INSTANT, port=0, announce=announce))
    url = await said
    assert f"{url}\n" == capsys.readouterr().out

    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/chat/completions", json=BODY) as response,
    ):
        assert 200 == response.status
    os.kill(os.getpid(), number)
    await asyncio.wait_for(serving, 5)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to send")
def test_serving_as_a_process():
    code = "import asyncio, chatstream.testing as t; asyncio.run(t.serve(port=0))"
    root = Path(chatstream.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        process.terminate()

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1\n", line)
    assert 0 == process.returncode
