"""Leaving a stream from outside, at any moment, over real sockets: rows K1 to K3 of the faults."""

import asyncio
import gc
import signal
import sys
import types
import warnings
import zlib

import pytest

from chatstream import ChatSession, IdleTimeoutError, RetryPolicy, Timeouts, Verdict, exchange
from tests.faults.acts import ASK, DONE, STOP, child, chunk, descriptors, frame
from tests.waiting import GIVEN_UP, until

# --- The torture ---------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
ANSWER = [frame(chunk(text)) for text in ("Hel", "lo")]
END = frame(STOP) + frame(DONE)


def framed(*pieces, end=True):
    """Pieces of a chunked body, each of which the client reads by itself."""
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [HEAD + b"transfer-encoding: chunked\r\n\r\n", *chunks, *[b"0\r\n\r\n"] * end]


def zipped():
    """The answer in gzip, flushed after each event."""
    squeeze = zlib.compressobj(wbits=31)
    pieces = [squeeze.compress(p) + squeeze.flush(zlib.Z_SYNC_FLUSH) for p in [*ANSWER, END]]
    first, *rest = framed(*pieces, squeeze.flush())
    return [first.replace(b"\r\n", b"\r\ncontent-encoding: gzip\r\n", 1), *rest]


def refusal(status, more=b""):
    return [b"HTTP/1.1 %b No\r\ncontent-length: 2\r\n%b\r\n" % (status, more), b"no"]


class Peer:
    """A server on whatever loop runs; each request gets the next of *answers*, the last for ever.

    An empty answer closes the connection. ``open`` counts connections, ``heard`` requests.
    """

    def __init__(self, answers, tls=None):
        self._answers, self._tls = answers, tls
        self.open = self.heard = 0
        self.tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await until(lambda: not self.tasks)

    async def _serve(self, reader, writer):
        self.open += 1
        self.tasks.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(size))
                answer = self._answers[min(self.heard, len(self._answers) - 1)]
                self.heard += 1
                if not answer:
                    break
                for piece in answer:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.open -= 1
            self.tasks.discard(asyncio.current_task())


@types.coroutine
def cancelled_at(point, coroutine, counted, *, late):
    """Run *coroutine* and cancel the task that does so where it awaits for the *point*th time.

    *late*: just as what it awaits is there, as when both come in one turn of the loop.
    """
    task = asyncio.current_task()
    inner = coroutine.__await__()
    resume, argument = inner.send, None
    while True:
        try:
            awaited = resume(argument)
        except StopIteration as stop:
            return stop.value
        counted[0] += 1
        if counted[0] == point:
            if late and awaited is not None:
                awaited.add_done_callback(lambda _: task.cancel())
            else:
                task.cancel()
        try:
            resume, argument = inner.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001 handed on
            resume, argument = inner.throw, error


BIG = [frame(chunk("x" * 65536)) for _ in range(24)]

SCENARIOS = {
    "new": {"answers": [framed(*ANSWER, END)]},
    "reused": {"answers": [framed(*ANSWER, END)], "warm": True},
    "tls": {"answers": [framed(*ANSWER, END)], "tls": True},
    "retry": {
        "answers": [
            refusal(b"503", b"retry-after: 0.001\r\n"),
            [],
            framed(ANSWER[0].replace(b"Hel", b"")),
            framed(*ANSWER, END),
        ],
        "options": {"retry": RetryPolicy(6, max_wait=0.001)},
    },
    "gzip": {"answers": [zipped()]},
    "slow consumer": {"answers": [framed(b"".join(BIG), END)], "text": "x" * 65536 * 24},
    "queue": {
        "answers": [framed(*ANSWER, END)],
        "options": {"max_in_flight": 1, "timeouts": Timeouts(total=60)},
        "key": True,
    },
    "silence": {"answers": [framed(*ANSWER, end=False)], "silent": True},
}


async def slow_key():
    await asyncio.sleep(0)
    return "k"


async def run_cancelled(name, point, peer, *, tls, late):
    """Run a scenario, cancelled at *point*; tell whether it was over before."""
    scenario = SCENARIOS[name]
    text = scenario.get("text", "Hello")
    key = slow_key if scenario.get("key") else "k"
    options = scenario.get("options", {})
    async with ChatSession(peer.url, key, tls=tls, **options) as session:
        if scenario.get("warm"):
            async with session.stream(ASK) as warm:
                await warm.collect()
        peer.heard, got = 0, []
        stream = session.stream(ASK)

        async def work():
            async with stream:
                async for event in stream:
                    got.append(event.content or "")
                    if name == "slow consumer":
                        await asyncio.sleep(0)

        counted = [0]
        task = asyncio.ensure_future(cancelled_at(point, work(), counted, late=late))
        if scenario.get("silent"):
            await until(lambda: task.done() or got == ["Hel", "lo"])
            for _ in range(20):
                await asyncio.sleep(0)
            last = not task.done()
            task.cancel()
        await asyncio.wait([task], timeout=GIVEN_UP)
        # The point lay beyond the end, or what was awaited at it never came.
        over = last if scenario.get("silent") else counted[0] < point

        assert task.done()
        if not over:
            assert task.cancelled()
        elif not scenario.get("silent"):
            assert task.result() is None
            assert Verdict.FINISHED is stream.verdict
            assert text == stream.completion.text
        assert text.startswith(stream.completion.text)
        assert stream.completion.text.startswith("".join(got))
        assert stream._watchdog._timer is None
        await until(lambda: asyncio.all_tasks() - peer.tasks == {asyncio.current_task()})
        if stream.entered and not over:
            assert stream.verdict in {Verdict.CANCELLED, Verdict.FINISHED}
            assert stream.report.error is None
        if scenario.get("silent"):
            await until(lambda: peer.open == 0)
        else:
            # What is left of it disturbs nobody: the session serves on.
            async with session.stream(ASK) as another:
                await another.collect()
            assert text == another.completion.text
    await until(lambda: peer.open == 0)
    return over


async def torture(name, peer_tls, tls, *, late):
    if SCENARIOS[name].get("tls") is None:
        peer_tls = tls = None
    async with Peer(SCENARIOS[name]["answers"], peer_tls) as peer:
        await run_cancelled(name, 1, peer, tls=tls, late=late)
        before = len(descriptors())  # a loop opens some of its own at first use
        for point in range(2, 1000):
            over = await run_cancelled(name, point, peer, tls=tls, late=late)
            await until(lambda: len(descriptors()) <= before)
            if over:
                return point - 1
        raise AssertionError(point)


@pytest.fixture(params=["asyncio", "eager", "uvloop"])
def runner(request, outside):
    """Give a runner of each kind of loop."""
    factory = None
    if request.param == "uvloop":
        factory = outside("uvloop").new_event_loop
    elif request.param == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    with asyncio.Runner(loop_factory=factory) as runner:
        if request.param == "eager":
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        yield runner


@pytest.mark.parametrize("late", [False, True], ids=["waiting", "late"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_cancellation_passes_wherever_a_stream_waits(name, late, runner, server_tls, client_tls):
    """
    K1: at each await of each scenario; nothing is swallowed, left open, or lost.
    """
    points = runner.run(torture(name, server_tls, client_tls, late=late))

    assert points >= 3


# --- Cancelled by something else ----------------------------------------------------------


@pytest.fixture
async def peer(monkeypatch):
    """Two events, then silence; nobody may wait for more of the body."""
    monkeypatch.setattr(exchange.HTTPBody, "document", lambda _: asyncio.sleep(60))
    async with Peer([framed(*ANSWER, end=False)]) as peer:
        yield peer


class Reading:
    """A stream that is being read, as far as its server speaks."""

    def __init__(self, session):
        self.stream = session.stream(ASK)
        self.began = asyncio.Event()

    async def read(self):
        async with self.stream:
            async for _ in self.stream:
                if self.stream.completion.text == "Hello":
                    self.began.set()

    async def left(self, peer):
        """See how it was left: cancelled, its text kept, its connection closed."""
        await until(lambda: peer.open == 0)
        assert Verdict.CANCELLED is self.stream.verdict
        assert ("Hello", None) == (self.stream.completion.text, self.stream.report.error)


async def test_a_timeout_of_the_caller_is_the_callers(peer):
    """
    K2: ``asyncio.timeout`` outside gives its own error, none of ours.
    """
    async with ChatSession(peer.url) as session:
        reading = Reading(session)
        with pytest.raises(TimeoutError) as caught:  # noqa: PT012 the loop is what is tested
            async with asyncio.timeout(GIVEN_UP) as scope, asyncio.TaskGroup() as group:
                group.create_task(reading.read())
                await reading.began.wait()
                scope.reschedule(0)
        await reading.left(peer)

    assert TimeoutError is type(caught.value)


async def test_a_timeout_of_ours_masks_no_cancellation(peer):
    """
    K2: cancelled in the turn in which the stream's own time is up.
    """
    async with ChatSession(peer.url, timeouts=Timeouts(idle=30)) as session:
        reading = Reading(session)
        task = asyncio.create_task(reading.read())
        await reading.began.wait()
        reading.stream._on_expired(IdleTimeoutError(30))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await reading.left(peer)


async def test_a_sibling_that_fails_cancels_the_stream(peer):
    """
    K2: in a task group.
    """
    async with ChatSession(peer.url) as session:
        reading = Reading(session)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with asyncio.TaskGroup() as group:
                group.create_task(reading.read())
                await reading.began.wait()
                raise ZeroDivisionError
        await reading.left(peer)

    assert caught.group_contains(ZeroDivisionError, depth=1)


INTERRUPTED = """
    import asyncio, sys
    from chatstream import ChatSession

    async def main():
        async with ChatSession(sys.argv[1]) as session, session.stream(
            model="m", messages=[{"role": "user", "content": "hi"}]
        ) as kept:
            streams.append(kept)
            async for event in kept:
                print(event.content, flush=True)

    streams = []
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        [stream] = streams
        print("interrupted", stream.verdict, stream.completion.text)
"""


async def test_an_interrupt_from_the_keyboard(peer):
    """
    K2: Ctrl-C is a ``KeyboardInterrupt`` to the caller; nothing is left to complain about.
    """
    process = await child(INTERRUPTED, peer.url)
    for text in (b"Hel\n", b"lo\n"):
        assert text == await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    printed, complaints = await process.communicate()
    await until(lambda: peer.open == 0)

    assert (b"interrupted cancelled Hello\n", b"") == (printed, complaints)
    assert 0 == process.returncode


# --- Left, or dropped ---------------------------------------------------------------------


async def test_breaking_off_closes_the_connection(peer):
    """
    K3: at once, with what had come.
    """
    async with ChatSession(peer.url) as session:
        async with session.stream(ASK) as stream:
            async for _ in stream:
                break
        await until(lambda: peer.open == 0)

    assert (Verdict.CLOSED, "Hel") == (stream.verdict, stream.completion.text)


async def test_a_generator_that_is_dropped_closes_the_connection(peer):
    """
    K3: one of the caller's around a stream, without ``aclose``; the loop sees to it.
    """

    async def texts(session):
        async with session.stream(ASK) as stream:
            streams.append(stream)
            async for text in stream.text():
                yield text

    streams = []
    async with ChatSession(peer.url) as session:
        async for _ in texts(session):
            break
        gc.collect()
        await until(lambda: peer.open == 0)

    assert (Verdict.CLOSED, "Hel") == (streams[0].verdict, streams[0].completion.text)


@pytest.mark.parametrize("read", [0, 1])
async def test_a_stream_that_is_dropped_closes_the_connection(peer, read):
    """
    K3: entered by hand and forgotten; its timer doesn't keep it, and its place is free.
    """
    async with ChatSession(peer.url, max_in_flight=1) as session:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stream = await session.stream(ASK).__aenter__()
            for _ in range(read):
                await anext(aiter(stream))
            del stream
            gc.collect()
        await until(lambda: peer.open == 0)
        async with asyncio.timeout(GIVEN_UP), session.stream(ASK):
            pass

    assert [ResourceWarning] == [warning.category for warning in caught]


async def test_a_stream_that_was_never_entered_leaves_nothing(peer):
    """
    K3: it has sent nothing yet, and warns of nothing.
    """
    async with ChatSession(peer.url) as session:
        session.stream(ASK)
        gc.collect()

    assert 0 == peer.heard
