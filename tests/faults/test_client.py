"""What callers do to streams and sessions: rows K4 to K7, K9 and K12 of the faults."""

import asyncio
import gc
import json
import socket
import threading
import time

import aiohttp
import pytest

from chatstream import (
    ChatSession,
    ChatStreamError,
    RetryPolicy,
    Timeouts,
    TotalTimeoutError,
    Verdict,
    stamping_session_options,
)
from chatstream.marks import percentile
from chatstream.observers.memory import MemoryRecorder
from tests.faults.acts import (
    ASK,
    DONE,
    ONCE,
    STOP,
    UNTIL_CLOSED,
    Played,
    child,
    chunk,
    frame,
    mute,
    read,
)
from tests.waiting import GIVEN_UP, until


@pytest.fixture
async def silent(faulty):
    """A server that says "Hi" to each request and then nothing, until the client leaves."""

    async def answer(connection):
        await connection.request()
        await connection.send(UNTIL_CLOSED + frame(chunk("Hi")))
        await connection.gone()

    return await faulty(answer)


# --- Closing ----------------------------------------------------------------------------


async def test_closing_twice_and_from_several_tasks(silent):
    """
    K4: aclose again and again, at once: it ends once, quietly, and stays so.
    """
    ended = MemoryRecorder()
    async with ChatSession(silent.base_url, observers=[ended]) as session:
        async with session.stream(ASK) as stream:
            reading = asyncio.create_task(stream.collect())
            await until(lambda: stream.completion.text == "Hi")
            await asyncio.gather(*(stream.aclose() for _ in range(5)))
            await reading
            await stream.aclose()
            assert [] == [event async for event in stream]
        await until(lambda: silent.open == 0)

    assert (Verdict.CLOSED, "Hi") == (stream.verdict, stream.completion.text)
    assert {Verdict.CLOSED: 1} == ended.outcomes


async def test_two_iterators_at_once_are_misuse(silent):
    """
    K4: also two tasks that read at once; the first goes on undisturbed.
    """
    async with ChatSession(silent.base_url) as session, session.stream(ASK) as stream:
        first = aiter(stream)
        assert "Hi" == (await anext(first)).content
        with pytest.raises(RuntimeError, match="iterated already"):
            stream.text()
        reading = asyncio.ensure_future(anext(first))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await stream.collect()
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await reading


async def test_closing_a_session_under_all_kinds_of_streams(silent, faulty):
    """
    K5: read, idle, connecting, without an answer, waiting for room or for another attempt:
    each ends quietly, closing takes no second, and no connection is left.
    """

    deaf = await faulty(mute)
    sessions = {
        "read": ChatSession(silent.base_url),
        "idle": ChatSession(silent.base_url),
        "unanswered": ChatSession(deaf.base_url),
        "connecting": ChatSession(deaf.base_url.replace("http:", "https:")),
        "waiting": ChatSession(silent.base_url, max_in_flight=1),
        "resting": ChatSession("http://127.0.0.1:1/v1", retry=RetryPolicy(9, max_wait=60)),
    }
    streams = {name: session.stream(ASK) for name, session in sessions.items()}
    async with sessions["waiting"].stream(ASK), asyncio.TaskGroup() as group:
        tasks = {
            name: group.create_task((linger if name == "idle" else read)(stream))
            for name, stream in streams.items()
        }
        await until(lambda: streams["read"].completion.text and streams["idle"].response)
        await until(lambda: deaf.open == 2 and streams["resting"].attempts)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(session.aclose() for session in sessions.values()))
        taken = loop.time() - began
        await until(lambda: silent.open + deaf.open == 0)

    assert taken < 1
    for name, task in tasks.items():
        assert None is task.result().error, name
        assert Verdict.CLOSED is streams[name].verdict, name
        assert ("Hi" if name == "read" else "") == streams[name].completion.text


async def linger(stream):
    """Be in a stream until it is closed, and look into it only then."""
    async with stream:
        await until(lambda: stream.verdict is Verdict.CLOSED)
        return Played(stream, [event async for event in stream], None)


@pytest.mark.parametrize("limit", [None, 1])
async def test_closing_a_session_at_any_moment(silent, limit):
    """
    K5: in whatever turn of the loop, until there is an answer: one end, and it's quiet.
    """
    for turns in range(200):
        ended = MemoryRecorder()
        options = {"observers": [ended], "max_in_flight": limit}
        session = ChatSession(silent.base_url, **options)
        stream = session.stream(ASK)
        reading = asyncio.create_task(read(stream))
        await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        begun = stream.completion.text
        await session.aclose()
        async with asyncio.timeout(GIVEN_UP):
            played = await reading
        await until(lambda: silent.open == 0)
        assert (None, Verdict.CLOSED) == (played.error, stream.verdict)
        assert {Verdict.CLOSED: 1} == ended.outcomes
        if begun:
            break

    assert "Hi" == begun


@pytest.mark.parametrize("stamped", [True, False])
async def test_closing_the_callers_own_session_under_a_stream(raw_server, wire, stamped):
    """
    K5: it is the caller's to close, but not without an error of ours.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(frame(chunk("Hi"))))
        await connection.gone()

    raw = await raw_server(answer)
    http = aiohttp.ClientSession(**(stamping_session_options() if stamped else {}))
    async with ChatSession(raw.base_url, http=http, retry=ONCE) as session:
        with pytest.raises(ChatStreamError) as caught:  # noqa: PT012 the loop is what is tested
            async with session.stream(ASK) as stream:
                await anext(aiter(stream))
                await http.close()
                await stream.collect()

    assert "Hi" == caught.value.partial.text


# --- Loops, threads, processes --------------------------------------------------------------


@pytest.fixture
def answering(wire):
    """Give what answers "Hi" to every request, in a thread with a loop of its own."""
    answer = wire.response(frame(chunk("Hi")) + frame(STOP) + frame(DONE))
    ready, stop = threading.Event(), None
    server = {}

    async def serve():
        nonlocal stop
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        server["url"] = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        server["stop"] = lambda: loop.call_soon_threadsafe(stop.set)
        ready.set()
        async with listening:
            await stop.wait()

    async def handle(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(size))
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    yield server["url"]
    server["stop"]()
    thread.join()


async def hi(session):
    async with session.stream(ASK) as stream:
        await stream.collect()
    return stream.completion.text


@pytest.mark.parametrize("limit", [None, 1])
def test_one_loop_after_another(answering, limit):
    """
    K6: a session made at import time sees several ``asyncio.run``; what was open went with them.
    """

    async def three():
        return await asyncio.gather(*(hi(session) for _ in range(3)))

    session = ChatSession(answering, max_in_flight=limit)

    assert [["Hi"] * 3] * 3 == [asyncio.run(three()) for _ in range(3)]
    asyncio.run(session.aclose())
    gc.collect()


def test_another_loop_at_the_same_time(answering):
    """
    K6: from another thread it is misuse, said at once; the first loop isn't disturbed.
    """

    def elsewhere():
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(hi(session))

    async def main():
        async with session:
            assert "Hi" == await hi(session)
            await asyncio.to_thread(elsewhere)
            assert "Hi" == await hi(session)

    session = ChatSession(answering)
    asyncio.run(main())


def test_a_stream_that_is_read_on_another_loop(answering):
    """
    K6: the loop is closed under it: it ends with an error or ends, and doesn't hang.
    """

    async def enter(stream):
        return await stream.__aenter__()

    session = ChatSession(answering)
    stream = session.stream(ASK)
    asyncio.run(enter(stream))
    with asyncio.Runner() as runner:
        try:
            runner.run(asyncio.wait_for(stream.collect(), GIVEN_UP))
        except (ChatStreamError, RuntimeError) as error:
            assert not isinstance(error, TimeoutError)  # noqa: PT017
        runner.run(stream.aclose())
        runner.run(session.aclose())
    assert stream.verdict is not Verdict.CANCELLED


FORKED = """
    import asyncio, os, sys, warnings
    from chatstream import ChatSession

    warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads

    async def hi():
        async with session.stream(model="m", messages=[{"role": "user", "content": "x"}]) as stream:
            return (await stream.collect()).text

    async def main():
        said = [await hi()]
        if not (process := os.fork()):
            try:
                asyncio.run(hi())
            except RuntimeError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(process, 0)
        said.append(await hi())
        return said

    session = ChatSession(sys.argv[1])
    print(*asyncio.run(main()), flush=True)
    if not (process := os.fork()):  # its loop is closed: a new one will do
        print(asyncio.run(hi()), flush=True)
        asyncio.run(session.aclose())
        os._exit(0)
    os.waitpid(process, 0)
    asyncio.run(session.aclose())
"""


async def test_after_a_fork(answering):
    """
    K6: inside a running loop the session stays with its parent; after it, both may go on.
    """
    process = await child(FORKED, answering)
    said, complaints = await process.communicate()

    assert b"" == complaints
    [misuse, parent, forked] = said.decode().splitlines()
    assert "belongs to another event loop" in misuse
    assert ("Hi Hi", "Hi") == (parent, forked)


# --- Observers ----------------------------------------------------------------------------


class Hook:
    """An observer that does something in each of its calls."""

    def __init__(self, act):
        self.act = act
        self.calls = []

    def stream_started(self, start):
        self._called("started")

    def first_token(self, start, time_to_first_token):
        self._called("first_token")

    def stream_ended(self, report):
        self._called("ended")

    def _called(self, name):
        self.calls.append(name)
        self.act(name)


def raising(error):
    def act(_):
        raise error

    return act


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), RecursionError()])
async def test_a_hook_that_raises(raw_server, wire, caplog, error):
    """
    K7: counted, logged once, without its words; stream and other hooks are unharmed.
    """
    raw = await raw_server(wire.always(wire.response(wire.ANSWER)))
    bad, good, recorder = Hook(raising(error)), Hook(lambda _: None), MemoryRecorder()
    observers = [bad, good, recorder]
    async with ChatSession(raw.base_url, observers=observers) as session:
        played = await read(session.stream(ASK))

    assert (None, "Hi") == (played.error, played.text)
    assert ["started", "first_token", "ended"] == bad.calls == good.calls
    assert 3 == played.stream._observer_failures
    assert 2 == recorder.reports[0].observer_failures
    assert 1 == sum(record.name == "chatstream" for record in caplog.records)
    assert 1 == raw.connections


async def test_a_hook_that_cancels(silent):
    """
    K7: the task that reads is cancelled, as by anyone else who has a hand on it.
    """
    hook = Hook(lambda name: name == "first_token" and asyncio.current_task().cancel())
    async with ChatSession(silent.base_url, observers=[hook]) as session:
        stream = session.stream(ASK)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(read(stream))
        await until(lambda: silent.open == 0)

    assert (Verdict.CANCELLED, "Hi") == (stream.verdict, stream.completion.text)
    assert ["started", "first_token", "ended"] == hook.calls


async def test_a_hook_that_comes_back(silent):
    """
    K7: it looks into its stream, closes it from inside, and starts another: no second end.
    """

    def act(name):
        seen.append((name, stream.completion.text, stream.report.verdict))
        if name != "started":
            with pytest.raises(StopIteration):
                stream.aclose().send(None)
        if name == "ended":
            others.append(asyncio.ensure_future(read(session.stream(ASK, observers=[]))))

    seen, others, hook = [], [], Hook(act)
    session = ChatSession(silent.base_url)
    async with session:
        stream = session.stream(ASK, observers=[hook])
        played = await read(stream)
        await until(lambda: silent.open == 1 and others)
        await until(lambda: silent.connections == 2)
    [other] = others
    await other

    assert (None, "Hi", 1) == (played.error, played.text, len(played.events))
    assert ["started", "first_token", "ended"] == hook.calls
    assert [
        ("started", "", Verdict.TRUNCATED),
        ("first_token", "Hi", Verdict.TRUNCATED),
        ("ended", "Hi", Verdict.CLOSED),
    ] == seen


@pytest.mark.thorough
def test_a_hook_that_blocks(raw_server_apart):
    """
    K7: its time is told, and is in no gap between the chunks, which come meanwhile.
    """
    port, released = raw_server_apart

    def act(name):
        if name == "first_token":
            released.write(b"go")
            released.flush()
            released.read(1)  # the rest has been sent; the loop stood still

    async def main():
        async with ChatSession(f"http://127.0.0.1:{port}/v1", observers=[Hook(act)]) as session:
            return await read(session.stream(ASK))

    played = asyncio.run(main())
    report = played.stream.report

    assert (None, "123") == (played.error, played.text)
    assert report.observer_time > sum(report.inter_chunk_latencies)
    assert report.observer_time > 0.1


@pytest.fixture
def raw_server_apart():
    """A server in a thread that sends three tokens, two of them while the client's loop is held."""
    listening = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair()

    def serve():
        connection, _ = listening.accept()
        with connection, ours:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(65536)
            connection.sendall(UNTIL_CLOSED + frame(chunk("1")))
            ours.recv(2)
            connection.sendall(frame(chunk("2")))
            connection.sendall(frame(chunk("3")) + frame(STOP) + frame(DONE))
            time.sleep(0.2)  # the hook is what takes so long
            ours.send(b"!")
            connection.recv(1)  # a FIN would be merged with what waits, and move its stamp

    thread = threading.Thread(target=serve)
    thread.start()
    with theirs, theirs.makefile("rwb") as held:
        yield listening.getsockname()[1], held
    thread.join()
    listening.close()


# --- A caller who does nothing ------------------------------------------------------------------


async def test_a_consumer_who_never_iterates(raw_server):
    """
    K9: what comes is bounded by the buffers, and the total time ends it.
    """

    async def flood(connection):
        await connection.request()
        await connection.send(UNTIL_CLOSED)
        try:
            while True:
                await connection.send(frame(chunk("x" * 65536)))
                raw.sent += 65536
        except ConnectionError:
            closed.set()

    closed = asyncio.Event()
    raw = await raw_server(flood)
    raw.sent = 0
    session = ChatSession(raw.base_url, timeouts=Timeouts(total=0.3), retry=ONCE)
    async with asyncio.timeout(GIVEN_UP), session, session.stream(ASK) as stream:
        await closed.wait()
        with pytest.raises(TotalTimeoutError):
            await stream.collect()

    assert Verdict.TIMEOUT is stream.verdict
    assert raw.sent < 32 * 1024 * 1024  # what kernels hold; without bounds it'd be all
    assert raw.connections == 1


# --- Figures of next to nothing -------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 1, 2, 50])
async def test_figures_of_few_tokens_and_equal_stamps(raw_server, wire, tokens):
    """
    K12: no sample, one, and many that came in one read: no negative gap, and defined percentiles.
    """
    body = frame(chunk("x")) * tokens + frame(STOP) + frame(DONE)
    raw = await raw_server(wire.response(body))
    recorder = MemoryRecorder()
    async with ChatSession(raw.base_url, observers=[recorder]) as session:
        await read(session.stream(ASK))
    [report] = recorder.reports
    gaps = report.inter_chunk_latencies
    percentiles = recorder.percentiles(shares=(0, 0.5, 0.99, 1))

    assert max(0, tokens - 1) == len(gaps)
    assert all(gap >= 0 for gap in gaps)
    for share, value in percentiles["inter_chunk_latency"].items():
        assert value == percentile(gaps, share)
        assert (value is None) == (tokens < 2)
    for value in percentiles["time_to_first_token"].values():
        assert value == report.time_to_first_token
        assert (value is None) == (tokens == 0)
    assert "verdict" in str(report)
    json.dumps(report.to_dict(), allow_nan=False)
