"""What all faults have in common: a server that has them, and how they must end."""

import asyncio
import contextlib
import gc
import json
import tracemalloc
from types import SimpleNamespace

import pytest

from chatstream import (
    ChatSession,
    ChatStream,
    ChatStreamError,
    RetryPolicy,
    Verdict,
    exchange,
    to_dict,
)
from tests.faults.acts import (
    ASK,
    KEY,
    ONCE,
    OUTPUT,
    PROMPT,
    UNTIL_CLOSED,
    acquired,
    descriptors,
    frame,
    hides,
    keeps,
    read,
)
from tests.waiting import GIVEN_UP

MARGIN = 8 * 1024 * 1024
"""Bytes of memory that a stream may take beyond its limit."""


@pytest.fixture
def wire(wire):
    """The pieces of an answer's bytes, which says what must show up nowhere."""
    one = wire.chunk(OUTPUT)
    end = wire.chunk(finish_reason="stop") + wire.DONE
    return SimpleNamespace(
        **vars(wire),
        OUTPUT=OUTPUT,
        ONE=one,
        END=end,
        WHOLE=one + end,
        BEGUN=wire.STREAM_HEAD + wire.http_chunk(one),
        UNTIL_CLOSED=UNTIL_CLOSED,
    )


# --- A server that fails -----------------------------------------------------------------


class Faulty:
    """Answers each connection as a test's function does, then hears it closed."""

    def __init__(self, answer):
        self._answer = answer
        self._left = asyncio.Event()
        self._left.set()
        self.open = 0
        """Connections that the client hasn't closed."""
        self.handed = asyncio.Event()
        """Set when the caller has been handed an event."""
        self.requests = []

    def __getattr__(self, name):
        return getattr(self.raw, name)  # its addresses and counts

    async def connected(self, connection):
        self.open += 1
        self._left.clear()
        connection.server = self
        hear = connection.request

        async def request():
            heard = await hear()
            if heard is not None:
                self.requests.append(heard)
            return heard

        connection.request = request
        transport = connection.writer.transport
        try:
            await self._answer(connection)
            if not transport.is_closing():
                with contextlib.suppress(OSError):  # the client has left already, with a RST
                    transport.write_eof() if transport.can_write_eof() else transport.close()
            await connection.gone()
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            if not self.open:
                self._left.set()

    async def left(self):
        """Return when the client has closed all its connections."""
        async with asyncio.timeout(GIVEN_UP):
            await self._left.wait()


@pytest.fixture
async def faulty(raw_server):
    """Give a function that starts a server whose connections are *answer*'s affair.

    *answer* may also be the bytes that each request gets. When it is over, the
    server's side of the connection is closed, and the client's waited for.
    """

    async def start(answer, *, tls=None):
        if isinstance(answer, bytes):
            data = answer

            async def answer(connection):
                if await connection.request() is not None:
                    await connection.send(data)

        server = Faulty(answer)
        server.raw = await raw_server(server.connected, tls=tls)
        return server

    return start


@pytest.fixture
def endless():
    """Give a function that answers with *head*, then with *block* until nobody listens.

    It waits for an event to be handed out in between, if the head has one.
    """

    def answer(head, block):
        async def go_on(connection):
            await connection.request()
            await connection.send(head)
            if OUTPUT.encode() in head:
                await connection.server.handed.wait()
            with contextlib.suppress(ConnectionError):
                while True:
                    await connection.send(block)
                    await asyncio.sleep(0)

        return go_on

    return answer


@pytest.fixture
def dripping():
    """Give a function that answers with *head*, then repeats *drops*, each after a while."""

    def answer(head, drops, *, pause=0.002):
        async def drip(connection):
            await connection.request()
            if head:
                await connection.send(head)
            with contextlib.suppress(ConnectionError):
                while True:
                    for at in range(len(drops)):
                        await connection.send(drops[at : at + 1])
                        await asyncio.sleep(pause)

        return drip

    return answer


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait long for the end of a body: who is left early doesn't wait for it at all."""
    monkeypatch.setattr(exchange, "DRAIN_TIMEOUT", 60)


# --- How it must end ------------------------------------------------------------------------


@pytest.fixture
def works():
    """Give a function that streams an answer which comes whole in spite of all."""

    async def works(server, **options):
        options = {"retry": ONCE, **options}
        async with (
            ChatSession(server.base_url, KEY, **options) as session,
            session.stream(ASK) as stream,
        ):
            await stream.collect()
        assert Verdict.FINISHED is stream.verdict
        assert OUTPUT == stream.completion.text
        return stream

    return works


@pytest.fixture
def fails(caplog):
    """Give a function that runs into a fault, checks what all have in common, returns the error.

    The catalogue's common outcome: an error of class *kind* with *verdict*, the
    *text* that came before, and the report of all attempts; two of them if it is
    *retryable* and nothing was handed out. No connection, no descriptor is left,
    and no key, prompt or answer shows. ``create`` must raise *created*, by default
    an error of the same class, unless it is ``None``.
    """

    async def fails(
        server,
        kind,
        verdict,
        *,
        ask=ASK,
        text="",
        retryable=False,
        created=...,
        kept=False,
        **options,
    ):
        url = server if isinstance(server, str) else server.base_url
        options = {"api_key": KEY, "retry": RetryPolicy(2, max_wait=0), **options}
        attempts = min(options["retry"].attempts, 2) if retryable else 1
        open_before = descriptors()
        handed = []
        caplog.set_level("DEBUG")
        async with ChatSession(url, **options) as session:
            stream = session.stream(ask)
            with pytest.raises(ChatStreamError) as caught:
                await _take(stream, handed, server)
            error = caught.value
            if not kept:
                await _left(server)
            if created is not None:
                with pytest.raises(ChatStreamError) as caught:
                    await session.create(ask)
                if not kept:
                    await _left(server)
                assert (kind if created is ... else created) is type(caught.value)
                hides(caught.value)
            assert not acquired(session)
        await _left(server)
        await _closed(open_before)

        assert kind is type(error), repr(error)
        assert retryable is error.retryable
        assert text == "".join(handed)
        assert verdict is error.report.verdict
        assert (1 if text else attempts) == len(error.attempts)
        keeps(error, text)
        hides(error)
        for secret in (KEY, PROMPT, OUTPUT):
            assert secret not in caplog.text
        return error

    return fails


async def _take(stream, handed, server):
    async with stream:
        async for event in stream:
            handed.append(event.content or "")
            if isinstance(server, Faulty):
                server.handed.set()


async def _left(server):
    if isinstance(server, Faulty):
        await server.left()


async def _closed(open_before):
    """Wait a few turns for what was closed a moment ago to be so; fail if it isn't."""
    for _ in range(50):
        if descriptors() == open_before:
            return
        await asyncio.sleep(0)
    assert open_before == descriptors()


@pytest.fixture
def play(faulty, wire):
    """Give a function that answers with frames, reads them, and returns what and how it was.

    They are read twice: as deltas, and as the typed events that are returned too.
    If the body *ends*, the connection serves again. One that goes on is left,
    and its connection closed. An error keeps what came, and says nothing of it,
    of the prompt or of the key.
    """

    async def play(*frames, ends=True, **params):
        body = b"".join(map(frame, frames))
        answer = wire.response(body) if ends else wire.STREAM_HEAD + wire.http_chunk(body)
        server = await faulty(wire.always(answer))
        async with (
            asyncio.timeout(None if ends else GIVEN_UP),
            ChatSession(server.base_url, KEY, retry=ONCE) as session,
        ):
            played = await read(session.stream(ASK, **params))
            typed = await read(session.stream(ASK, **params), ChatStream.events)
            if not ends:
                await server.left()
            assert (1 if ends else 2) == server.connections
        assert type(played.error) is type(typed.error)
        for one in (played, typed):
            if one.error is not None:
                keeps(one.error, one.text)
                hides(one.error, one.text)
        assert played.stream.completion == typed.stream.completion
        json.dumps(to_dict(played.stream.completion), ensure_ascii=False).encode()
        json.dumps(played.stream.report.to_dict(), allow_nan=False)
        return played, typed.events

    return play


@pytest.fixture
def waits(monkeypatch):
    """The seconds that are waited, while no time passes."""
    waited, sleep = [], asyncio.sleep

    async def note(delay, result=None):
        if delay:
            waited.append(delay)
        return await sleep(0, result)

    monkeypatch.setattr(asyncio, "sleep", note)
    return waited


# --- Memory -----------------------------------------------------------------------------------


@pytest.fixture
def bounded():
    """Give a context that fails if what is inside takes more memory than *limit* and a margin."""

    @contextlib.contextmanager
    def bounded(limit=0):
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            yield
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < limit + MARGIN

    return bounded
