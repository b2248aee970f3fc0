"""What callers do to streams and sessions, over sockets: rows K4 to K13, K19 and K25 of the faults."""

import asyncio
import gc
import math
import os
import sys
import threading
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from chatstream import (
    ChatSession,
    ChatStreamError,
    ConnectTimeoutError,
    RequestError,
    RetryPolicy,
    ServerError,
    Timeouts,
    TotalTimeoutError,
    Verdict,
    stamping_session_options,
)
from chatstream.marks import percentile
from chatstream.observers.memory import MemoryRecorder
from chatstream.sockets import stamped_socket
from chatstream.testing import Profile, SimulatedServer

from .acts import ASK, DONE, GIVEN_UP, ONCE, STOP, Played, chunk, frame, read

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@pytest.fixture
async def silent(raw_server):
    """A server that says "Hi" to each request and then nothing, until the client leaves."""

    async def answer(connection):
        await connection.request()
        await connection.send(HEAD + frame(chunk("Hi")))
        raw.open += 1
        await connection.gone()
        raw.open -= 1

    raw = await raw_server(answer)
    raw.open = 0
    return raw


async def until(condition):
    async with asyncio.timeout(GIVEN_UP):
        while not condition():  # noqa: ASYNC110 sockets tell no event
            await asyncio.sleep(0)


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


async def test_closing_a_session_under_all_kinds_of_streams(silent, raw_server):
    """
    K5: read, idle, connecting, without an answer, waiting for room or for another attempt:
    each ends quietly, closing takes no second, and no connection is left.
    """

    async def mute(connection):
        mute.heard += 1
        await connection.gone()
        mute.heard -= 1

    mute.heard = 0
    deaf = await raw_server(mute)
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
        await until(lambda: mute.heard == 2 and streams["resting"].attempts)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(session.aclose() for session in sessions.values()))
        taken = loop.time() - began
        await until(lambda: silent.open + mute.heard == 0)

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


def test_one_loop_after_another(answering):
    """
    K6: a session made at import time sees several ``asyncio.run``; what was open went with them.
    """
    session = ChatSession(answering)

    assert ["Hi"] * 3 == [asyncio.run(hi(session)) for _ in range(3)]
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
