"""chatstream.relay.web and asgi: over real sockets, from one server to another's client."""

import asyncio
import json
import re
import socket
import struct
from collections import Counter
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from chatstream import ChatSession, RetryPolicy, user
from chatstream.completion import Verdict
from chatstream.relay import OPENAI, TEXT
from chatstream.relay.asgi import StreamResponse
from chatstream.relay.web import respond
from chatstream.testing import Profile, SimulatedServer
from tests.waiting import until

QUICK = Profile(time_to_first_token=0, gap=0)


@pytest.fixture
async def upstream():
    async with SimulatedServer(QUICK) as server:
        yield server


class Service:
    """A service of ours, and what its relays told."""

    def __init__(self, session):
        self.session = session
        self.relayed = []
        self.send_timeout = None
        self.over = asyncio.Event()

    def stream(self, prompt):
        return self.session.stream(model="simulated", messages=[user(prompt)])

    def told(self, relayed):
        self.relayed.append(relayed)
        self.over.set()


async def started(handler, stack):
    """Serve a handler of aiohttp.web; return what runs it."""
    app = web.Application()
    app.router.add_post("/chat", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


@pytest.fixture
async def service(upstream):
    """A service that asks *upstream*, and a client's session."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            ChatSession(upstream.base_url, "key", retry=RetryPolicy(1))
        )
        service = Service(session)

        async def handler(request):
            asked = await request.json()
            return await respond(
                request,
                service.stream(asked["prompt"]),
                format=TEXT if asked.get("plain") else OPENAI,
                headers={"X-Service": "ours"},
                relayed=service.told,
                send_timeout=service.send_timeout,
            )

        service.runner = await started(handler, stack)
        service.url = f"http://127.0.0.1:{service.runner.addresses[0][1]}/chat"
        service.http = await stack.enter_async_context(aiohttp.ClientSession())
        yield service


async def test_a_client_of_openais_api_can_be_served(service):
    async with service.http.post(service.url, json={"prompt": "Count to 3"}) as response:
        body = await response.read()
    await service.over.wait()
    frames = body.decode().split("\n\n")

    assert (200, "text/event-stream; charset=utf-8", "no-store", "ours") == (
        response.status,
        *(response.headers[name] for name in ("Content-Type", "Cache-Control", "X-Service")),
    )
    assert ["data: [DONE]", ""] == frames[-2:]
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    texts = [c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"]]
    assert "1, 2, 3" == "".join(texts)
    assert 5 == chunks[-1]["usage"]["completion_tokens"]
    (relayed,) = service.relayed
    assert (False, Verdict.FINISHED, len(body)) == (
        relayed.client_gone,
        relayed.report.verdict,
        relayed.bytes_sent,
    )


async def test_upstreams_refusal_is_a_status(service, upstream):
    upstream.profile = Profile(error_rate=1.0, error_status=429, retry_after=7)
    async with service.http.post(service.url, json={"prompt": "Hi"}) as response:
        body = await response.json()

    assert (429, "7") == (response.status, response.headers["Retry-After"])
    assert "rate_limit_error" == body["error"]["type"]


@pytest.mark.parametrize("when", ["before the first token", "in the answer"])
async def test_a_client_that_leaves_ends_the_upstream_request(service, upstream, when):
    slow = 60 if when == "before the first token" else 0
    upstream.profile = Profile(time_to_first_token=slow, gap=60)
    post = service.http.post(service.url, json={"prompt": "Count to 3"})
    if when == "in the answer":
        async with post as response:
            await response.content.readany()
            response.close()
    else:
        asking = asyncio.create_task(aenter(post))
        await until(lambda: upstream.requests)
        asking.cancel()
        await asyncio.wait({asking})
    await asyncio.wait_for(service.over.wait(), 10)
    (relayed,) = service.relayed

    assert relayed.client_gone
    assert Verdict.CLOSED is relayed.report.verdict
    await upstream.until(lambda server: not server.open_connections)
    assert 1 == upstream.abandoned_streams


async def aenter(context):
    """Begin a request, to be cancelled."""
    return await context.__aenter__()


@pytest.mark.parametrize("how", ["resets", "stays"])
async def test_a_client_that_takes_nothing_holds_nothing(service, upstream, how):
    """
    What it doesn't take isn't read; else a service's memory would be its clients' to fill.
    """
    upstream.profile = Profile(time_to_first_token=0, gap=0, tokens=20_000, payload_bytes=2_000)
    service.send_timeout = 0.05 if how == "stays" else None
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(service.url).port, limit=1)
    writer.write(b'POST /chat HTTP/1.1\r\nhost: h\r\ncontent-length: 16\r\n\r\n{"prompt": "Go"}')
    await reader.read(1)
    if how == "resets":
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.close()
    await asyncio.wait_for(service.over.wait(), 10)
    (relayed,) = service.relayed

    assert relayed.client_gone
    assert Verdict.CLOSED is relayed.report.verdict
    assert 0 < relayed.report.events < 20_000
    await upstream.until(lambda server: not server.open_connections)
    await until(lambda: not service.runner.server.connections)
    writer.close()


async def test_a_connection_serves_again(service):
    """
    What is over is over to the byte, or the next answer would begin in the middle of this one.
    """
    for _ in range(3):
        async with service.http.post(service.url, json={"prompt": "Count to 3"}) as response:
            body = await response.read()
            assert body.endswith(b"data: [DONE]\n\n")

    assert 1 == len(service.runner.server.connections)


async def test_of_many_clients_each_gets_its_own(service, upstream):
    """
    A third leaves on the way; those who stay get their answers, and nothing stays open.
    """
    upstream.profile = Profile(time_to_first_token=0.01, gap=0.005)

    async def ask(number):
        leaves = number % 3 == 0
        prompt = "Count to 1000" if leaves else f"say {number} is mine and not yours"
        asked = {"prompt": prompt, "plain": True}
        async with service.http.post(service.url, json=asked) as response:
            if leaves:
                await response.content.readany()
                response.close()
                return None
            body = await response.text()
        texts = re.findall(r"event: delta\ndata: (.*)", body)
        assert '"verdict":"finished"' in body
        return "".join(json.loads(data)["text"] for data in texts)

    said = await asyncio.gather(*map(ask, range(60)))
    await until(lambda: len(service.relayed) == 60)

    assert [
        None if number % 3 == 0 else f"{number} is mine and not yours" for number in range(60)
    ] == said
    assert {Verdict.FINISHED: 40, Verdict.CLOSED: 20} == Counter(
        relayed.report.verdict for relayed in service.relayed
    )
    await upstream.until(lambda server: not server.open_streams)
    assert 20 == upstream.abandoned_streams


# --- ASGI ---------------------------------------------------------------------------


class Server:
    """What an ASGI server is to an application."""

    def __init__(self):
        self.sent = []
        self.left = asyncio.Event()
        self.body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive(self):
        if self.body:
            return self.body.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)
        await asyncio.sleep(0)


async def test_an_asgi_server_gets_the_same(upstream):
    server, told = Server(), []
    async with ChatSession(upstream.base_url, "key") as session:
        stream = session.stream(model="simulated", messages=[user("Count to 3")])
        headers = {"X-Service": "ours", "cache-control": "public"}
        app = StreamResponse(stream, headers=headers, relayed=told.append)
        await app({"type": "http"}, server.receive, server.send)
    head, *parts = server.sent

    assert ("http.response.start", 200) == (head["type"], head["status"])
    assert [
        (b"cache-control", b"no-store"),
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-accel-buffering", b"no"),
        (b"x-service", b"ours"),
    ] == sorted(head["headers"])
    assert [*[True] * (len(parts) - 1), False] == [part["more_body"] for part in parts]
    assert b"".join(part["body"] for part in parts).endswith(b"data: [DONE]\n\n")
    assert Verdict.FINISHED is told[0].report.verdict


async def test_an_asgi_client_that_leaves_ends_the_stream(upstream):
    upstream.profile = Profile(time_to_first_token=0, gap=60)
    server, told = Server(), []
    async with ChatSession(upstream.base_url, "key") as session:
        stream = session.stream(model="simulated", messages=[user("Count to 3")])
        app = StreamResponse(stream, relayed=told.append)
        running = asyncio.create_task(app({"type": "http"}, server.receive, server.send))
        await until(lambda: len(server.sent) > 1)
        server.left.set()
        await asyncio.wait_for(running, 10)

    assert told[0].client_gone
    assert server.sent[-1]["more_body"]


async def test_an_asgi_server_may_say_it_by_an_error(upstream):
    class Strict(Server):
        async def send(self, message):
            raise OSError

    server, told = Strict(), []
    async with ChatSession(upstream.base_url, "key") as session:
        stream = session.stream(model="simulated", messages=[user("Count to 3")])
        await StreamResponse(stream, relayed=told.append)({}, server.receive, server.send)

    assert told[0].client_gone
