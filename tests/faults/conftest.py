"""What all faults on the wire have in common: a server that has them, and how they must end."""

import asyncio
import contextlib
import gc
import pickle
import traceback
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatstream import ChatSession, ChatStreamError, RetryPolicy, Verdict

OUTPUT = "canary answer: the wind is blue"
MARGIN = 8 * 1024 * 1024
"""Bytes of memory that a stream may take beyond its limit."""


@pytest.fixture
def canary(canary):
    """A key, a prompt and an answer that must show up nowhere."""
    return SimpleNamespace(**vars(canary), output=OUTPUT)


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
        UNTIL_CLOSED=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
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
                connection.writer.write_eof() if transport.can_write_eof() else transport.close()
            await connection.gone()
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            if not self.open:
                self._left.set()

    async def left(self):
        """Return when the client has closed all its connections."""
        async with asyncio.timeout(5):
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


# --- How it must end ------------------------------------------------------------------------


@pytest.fixture
def ask(canary):
    """The request."""
    return {"model": "m", "messages": [{"role": "user", "content": canary.prompt}]}


@pytest.fixture
def works(ask, canary):
    """Give a function that streams an answer which comes whole in spite of all."""

    async def works(server, **options):
        url = server if isinstance(server, str) else server.base_url
        options = {"retry": RetryPolicy(1), **options}
        async with (
            ChatSession(url, canary.key, **options) as session,
            session.stream(ask) as stream,
        ):
            await stream.collect()
        assert Verdict.FINISHED is stream.verdict
        assert canary.output == stream.completion.text
        return stream

    return works


@pytest.fixture
def fails(ask, canary, caplog):
    """Give a function that runs into a fault, checks what all have in common, returns the error.

    The catalogue's common outcome: an error of class *kind* with *verdict*, the
    *text* that came before, and the report of all attempts; two of them if it is
    *retryable* and nothing was handed out. No connection, no descriptor is left,
    and no key, prompt or answer shows. ``create`` must raise *created*, by default
    an error of the same class, unless it is ``None``.
    """

    async def fails(
        server, kind, verdict, *, text="", retryable=False, created=..., kept=False, **options
    ):
        url = server if isinstance(server, str) else server.base_url
        options = {"api_key": canary.key, "retry": RetryPolicy(2, max_wait=0), **options}
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
                _hides(caught.value, canary)
            assert not acquired(session)
        await _left(server)
        await _closed(open_before)

        assert kind is type(error), repr(error)
        assert retryable is error.retryable
        assert text == "".join(handed) == error.partial.text
        assert verdict is error.report.verdict is error.partial.verdict
        assert kind.__name__ == error.report.error
        assert (1 if text else attempts) == len(error.attempts) == len(error.report.attempts)
        assert all(attempt.error for attempt in error.attempts)
        assert bool(text) is (error.report.time_to_first_token is not None)
        _hides(error, canary)
        for secret in (canary.key, canary.prompt, canary.output):
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


@pytest.fixture
def hides(canary):
    """Give a function that fails if an error shows what is secret."""
    return lambda error: _hides(error, canary)


def _hides(error, canary):
    """Nothing that is logged, reported or pickled of an error shows what is secret."""
    shown = everything(error)
    assert canary.key not in shown
    assert canary.prompt not in shown
    assert canary.output not in sentences(error)
    for cause in chain(error)[1:]:
        assert canary.output not in repr(vars(cause))
    assert str(error).isprintable()
    assert len(str(error)) < 1000


def everything(error):
    """All that a log, a crash reporter or a debugger may show of an error."""
    texts = [sentences(error)]
    for one in chain(error):
        texts.append(repr(vars(one)))
        with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
            texts.append(repr(pickle.dumps(one)))
    return "\n".join(texts)


def sentences(error):
    """What an error and its causes say, and its report; not the answer it carries."""
    texts = []
    for one in chain(error):
        texts += [str(one), repr(one), repr(one.args), *traceback.format_exception(one)]
        report = getattr(one, "report", None)
        if report is not None:
            texts += [str(report), repr(report), repr(report.to_dict())]
    return "\n".join(texts)


def chain(error):
    """List an error, its causes, contexts, and parts."""
    found, waiting = [], [error]
    while waiting:
        one = waiting.pop()
        if one is not None and all(one is not other for other in found):
            found.append(one)
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return found


@pytest.fixture(name="acquired")
def acquired_fixture():
    """Give the function of this name."""
    return acquired


@pytest.fixture(name="descriptors")
def descriptors_fixture():
    """Give the function of this name."""
    return descriptors


def acquired(session):
    """List the connections that aiohttp thinks are in use."""
    http = session._given_http or session._http
    return [] if http is None else list(http.connector._acquired)


def descriptors():
    """Return what is open, sockets among it, by number."""
    found = {}
    folder = Path("/proc/self/fd")
    for file in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # that of the listing itself
            found[file.name] = str(file.readlink())
    return found


async def _closed(open_before):
    """Wait a few turns for what was closed a moment ago to be so; fail if it isn't."""
    for _ in range(50):
        if descriptors() == open_before:
            return
        await asyncio.sleep(0)
    assert open_before == descriptors()


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
