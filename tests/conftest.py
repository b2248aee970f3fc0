"""What all tests share: servers, sessions, and a look at what a test left behind."""

import asyncio
import gc
import importlib
import os
import socket
import ssl
import struct
from types import SimpleNamespace

import aiohttp
import orjson
import pytest
import trustme
from aioresponses import aioresponses
from hypothesis import settings

from chatstream import ChatSession, RetryPolicy
from chatstream.testing import Profile, SimulatedServer
from tests.canaries import KEY, OUTPUT, PROMPT

LONGEST = 30
"""Seconds an asynchronous test may take."""

# Before numpy is imported: the matrices of tests are small, and threads of two processes
# that share two cores mostly wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# ``pytest --hypothesis-profile=thorough`` looks for examples longer.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile("quick")


# --- What is left behind -------------------------------------------------------


def pytest_collection_modifyitems(items):
    """Asynchronous tests are looked at; the others have no loop to leave things on."""
    for item in items:
        if item.get_closest_marker("asyncio") is not None:
            item.fixturenames.insert(0, "nothing_left")


def pytest_collection_finish():
    """All that is there by now stays: nobody who looks for garbage looks through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
async def nothing_left():
    """Set up first and torn down last: no task, no open transport, no warning about one."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    alarm = loop.call_later(LONGEST, _cancel_all, loop)
    yield
    alarm.cancel()
    tasks = sockets = ()
    for _ in range(50):  # what was closed a moment ago needs a few turns
        tasks = asyncio.all_tasks() - before - {asyncio.current_task()}
        sockets = _transports(loop)
        if not tasks and not sockets:
            return
        await asyncio.sleep(0)
    gc.collect()  # so that whoever was dropped without being closed warns here and now
    assert not tasks
    assert not _transports(loop)


def _cancel_all(loop):
    """Let a test that hangs fail instead."""
    for task in asyncio.all_tasks(loop):
        task.cancel(f"the test took more than {LONGEST} s")


def _transports(loop):
    """List a selector loop's open transports; uvloop doesn't tell its own."""
    selector = getattr(loop, "_selector", None)
    if selector is None:
        return []
    listening = (key.data[0] for key in selector.get_map().values())
    owners = [getattr(getattr(handle, "_callback", None), "__self__", None) for handle in listening]
    return [owner for owner in owners if isinstance(owner, asyncio.BaseTransport)]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """A developer's own key, server or proxy is no part of a test."""
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# --- Outside parts ---------------------------------------------------------------


@pytest.fixture(scope="session")
def outside():
    """Give a function that imports a part which may be missing.

    Without it the test is skipped, or fails if ``CHATSTREAM_REQUIRE_ALL=1``.
    """

    def part(name):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reason = f"{name} is not installed: {error}"
        if os.environ.get("CHATSTREAM_REQUIRE_ALL") == "1":
            pytest.fail(f"CHATSTREAM_REQUIRE_ALL=1, but {reason}")
        pytest.skip(reason)
        return None

    return part


# --- Servers ---------------------------------------------------------------------


@pytest.fixture
async def server():
    """A simulated server that never waits."""
    async with SimulatedServer(Profile.preset("instant")) as server:
        yield server


@pytest.fixture
async def session(server):
    """A session with the simulated server; it tries once."""
    async with ChatSession(server.base_url, KEY, retry=RetryPolicy(1)) as session:
        yield session


@pytest.fixture(scope="session")
def authority():
    """A certificate authority that nobody trusts yet."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority):
    """A server's context with a certificate for 127.0.0.1 and localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority):
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class RawConnection:
    """One connection to a raw server, seen by the function that answers it."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def request(self):
        """Read one request: its head as text, its body as bytes; ``None`` at the end."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        fields = [line.partition(":") for line in head.split("\r\n")[1:]]
        sizes = [int(value) for name, _, value in fields if name.lower() == "content-length"]
        body = await self.reader.readexactly(sizes[0]) if sizes else b""
        return SimpleNamespace(head=head, line=head.split("\r\n")[0], body=body)

    async def send(self, data):
        """Write *data* and see it off."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self):
        """Return when the client has closed its side, or reset it."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self):
        """Close with a RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class RawServer:
    """A server that answers each connection as a test's function does."""

    def __init__(self, answer):
        self._answer = answer
        self._tasks = set()
        self.connections = 0
        self.requests = []
        """What ``heard`` noted."""

    async def start(self, tls=None):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        scheme = "http" if tls is None else "https"
        self.origin = f"{scheme}://127.0.0.1:{self.port}"
        self.base_url = f"{self.origin}/v1"
        return self

    async def _connected(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        try:
            await self._answer(RawConnection(reader, writer))
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.close()

    async def aclose(self):
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionError):
                raise outcome


@pytest.fixture
async def raw_server():
    """Give a function that starts a server of which each connection is *answer*'s affair.

    *answer* may also be the bytes that every request gets; the connection is
    closed after them.
    """
    servers = []

    async def start(answer, *, tls=None):
        if isinstance(answer, bytes):
            data = answer

            async def answer(connection):
                request = await connection.request()
                if request is not None:
                    server.requests.append(request)
                    await connection.send(data)

        server = RawServer(answer)
        servers.append(await server.start(tls))
        return server

    yield start
    for server in servers:
        await server.aclose()


# --- Answers as bytes --------------------------------------------------------------


def chunk(content=None, finish_reason=None, **delta):
    """One chunk of one choice, as bytes of an event stream."""
    if content is not None:
        delta["content"] = content
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % orjson.dumps(body | {"choices": [choice]})


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
DONE = b"data: [DONE]\n\n"
COMPLETION = orjson.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi"},
                "finish_reason": "stop",
            }
        ],
    }
)


def http_chunk(data):
    """*data* as one chunk of a chunked body; the last one if empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def response(body, status="200 OK", content_type="text/event-stream", **headers):
    """Render a response with a length."""
    fields = {"content-type": content_type, "content-length": len(body), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def always(data):
    """Answer every request on a connection with *data*."""

    async def answer(connection):
        while await connection.request() is not None:
            await connection.send(data)

    return answer


@pytest.fixture
def wire():
    """The pieces of an answer's bytes."""
    return SimpleNamespace(
        chunk=chunk,
        http_chunk=http_chunk,
        response=response,
        always=always,
        STREAM_HEAD=STREAM_HEAD,
        DONE=DONE,
        COMPLETION=COMPLETION,
        ANSWER=chunk("", role="assistant") + chunk("Hi") + chunk(finish_reason="stop") + DONE,
    )


# --- No server at all ----------------------------------------------------------------


class MockedResponse(aiohttp.ClientResponse):
    """What aioresponses 0.7 makes, on aiohttp 3.14."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, stream_writer=SimpleNamespace(output_size=0), **kwargs)


@pytest.fixture
def mocked():
    """aioresponses: what is posted is answered without a socket."""
    with aioresponses() as mocked:
        post = mocked.post

        def add(url, **kwargs):
            kwargs.setdefault("response_class", MockedResponse)
            kwargs.setdefault("content_type", "text/event-stream")
            post(url, **kwargs)

        mocked.post = add
        yield mocked


@pytest.fixture
def canary():
    """A key, a prompt and an answer that must show up nowhere."""
    return SimpleNamespace(key=KEY, prompt=PROMPT, output=OUTPUT)
