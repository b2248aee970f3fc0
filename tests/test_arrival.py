"""Arrivals: what a stamp says is when the bytes came, not when somebody looked."""

import asyncio
import contextlib
import itertools
import statistics
import threading
import time
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.http_exceptions import HttpProcessingError

from chatstream import (
    ChatSession,
    InterruptedStreamError,
    RetryPolicy,
    Timeouts,
    TotalTimeoutError,
    stamping_session_options,
)
from chatstream import arrival as module
from chatstream.arrival import FEW_UNREAD, MUCH_UNREAD, Read, Tap, arrivals_of, read
from chatstream.report import ArrivalSource
from chatstream.testing import Profile, SimulatedServer

ASK = {"model": "m", "messages": [{"role": "user", "content": "count to 20"}]}
ONCE = RetryPolicy(1)
SLACK_NS = 50_000
"""The kernel stamps by the wall clock, which is converted at each read."""


@pytest.fixture(params=["finest", "transport"])
def source(request, monkeypatch):
    """Stamps as good as the system has them, and those of the transport alone."""
    if request.param == "transport":
        monkeypatch.setattr(module, "stamped_socket_of", lambda _: None)
    return request.param


async def turns(count=10):
    """Let the loop read what has come."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- Against a server that says when it sent --------------------------------------------


async def test_arrivals_follow_what_was_sent(source):
    profile = Profile(time_to_first_token=0.002, gap=0.002)
    async with (
        SimulatedServer(profile, truth=True) as server,
        ChatSession(server.base_url, retry=ONCE) as session,
        session.stream(ASK) as stream,
    ):
        events = [event async for event in stream if event.content]

    delays = [event.arrived_ns - event.chunk.extra["sent_ns"] for event in events]
    assert min(delays) >= -SLACK_NS
    assert statistics.median(delays) < 5_000_000
    assert events[0].elapsed == pytest.approx(
        (events[0].arrived_ns - stream.report.created_ns) / 1e9, abs=1e-6
    )
    assert stream.report.time_to_first_token == events[0].elapsed
    if source == "transport":
        assert ArrivalSource.TRANSPORT is stream.report.source


class Interleaved:
    """Sends event after event, each when the one before it has been read."""

    def __init__(self, wire, count=8):
        self.wire = wire
        self.count = count
        self.sent = []
        self.over = asyncio.Event()

    async def __call__(self, connection):
        wire = self.wire
        while await connection.request() is not None:
            self.sent.clear()
            await connection.send(wire.STREAM_HEAD)
            for number in range(self.count):
                await turns()
                self.sent.append(time.perf_counter_ns())
                await connection.send(wire.http_chunk(wire.chunk(str(number))))
            await turns()
            self.released = time.perf_counter_ns()
            self.over.set()
            rest = wire.chunk(finish_reason="stop") + wire.DONE
            await connection.send(wire.http_chunk(rest) + wire.http_chunk(b""))

    def check(self, events):
        """Each event arrived after it was sent and before the next one was."""
        assert self.count == len(events)
        ends = [*self.sent[1:], self.released]
        for event, began, ended in zip(events, self.sent, ends, strict=True):
            assert began - SLACK_NS <= event.arrived_ns <= ended
            assert not event.coalesced


async def read_late(session, server):
    """Take nothing but the first event before the last one has come."""
    server.over.clear()
    events = []
    async with session.stream(ASK) as stream:
        async for event in stream:
            if event.content:
                events.append(event)
                await server.over.wait()
    return stream, events


async def test_a_slow_caller_moves_no_stamp(raw_server, wire, source):
    """
    All but the first event wait in a buffer, and are taken together.
    """
    answer = Interleaved(wire)
    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, retry=ONCE) as session:
        for _ in range(3):
            stream, events = await read_late(session, answer)
            answer.check(events)

    assert 1 == raw.connections
    assert 0 == stream.report.paused
    assert stream.report.client_lag.max * 1e9 >= events[-1].arrived_ns - events[1].arrived_ns


async def test_a_patient_caller_wakes_up_once_and_no_stamp_moves(raw_server, wire, source):
    """
    What came lies where it is until the end, which nobody waits for.
    """
    answer = Interleaved(wire)
    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, retry=ONCE) as session:
        stream, woken, events = session.stream(ASK), 0, []
        stream.patience = 60
        async with stream:
            async for event in stream:
                if event.content:
                    woken += len(answer.sent) > len(events) + 1 or not events
                    events.append(event)

    answer.check(events)
    assert stream.report.client_lag.max * 1e9 >= events[-1].arrived_ns - events[1].arrived_ns
    assert 7 == woken  # all but the last were taken when more had been sent


@pytest.mark.parametrize("way", ["cancelled", "closed", "out of time"])
async def test_patience_ends_with_the_stream(raw_server, wire, source, way):
    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("1")))
        await connection.gone()

    raw = await raw_server(answer)
    total = 0.05 if way == "out of time" else None
    async with ChatSession(raw.base_url, retry=ONCE, timeouts=Timeouts(total=total)) as session:
        stream = session.stream(ASK)
        stream.patience = 60
        taken = asyncio.Event()
        reading = asyncio.create_task(collected(stream, taken))
        await taken.wait()
        await turns()
        if way == "cancelled":
            reading.cancel()
        elif way == "closed":
            await stream.aclose()
        await asyncio.wait({reading}, timeout=20)

    assert reading.done()
    assert {"cancelled": "cancelled", "closed": "closed", "out of time": "timeout"}[way] == (
        stream.report.verdict
    )
    assert "1" == stream.completion.text


async def collected(stream, taken):
    """Read a stream to its end; a clock may run out."""
    with contextlib.suppress(TotalTimeoutError):
        async with stream:
            async for _ in stream:
                taken.set()


async def test_a_slow_caller_moves_no_stamp_under_tls(
    raw_server, wire, source, server_tls, client_tls
):
    answer = Interleaved(wire)
    raw = await raw_server(answer, tls=server_tls)
    async with ChatSession(raw.base_url, "k", tls=client_tls, retry=ONCE) as session:
        for _ in range(3):
            stream, events = await read_late(session, answer)
            answer.check(events)

    assert 1 == raw.connections
    assert ArrivalSource.READER is not stream.report.source


def test_a_slow_caller_moves_no_stamp_on_uvloop(wire):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        answer = Interleaved(wire)
        server = await asyncio.start_server(
            lambda reader, writer: serve(answer, reader, writer), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        async with ChatSession(f"http://127.0.0.1:{port}", retry=ONCE) as session:
            stream, events = await read_late(session, answer)
            answer.check(events)
        server.close()
        await turns()
        return stream

    async def serve(answer, reader, writer):
        async def request():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return None
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            return await reader.readexactly(int(length))

        async def send(data):
            writer.write(data)
            await writer.drain()

        await answer(SimpleNamespace(request=request, send=send))
        writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stream = runner.run(main())

    assert ArrivalSource.TRANSPORT is stream.report.source


def test_a_busy_loop_moves_no_stamp_of_the_kernel():
    """
    The caller blocks the loop for longer than the gap between the events.
    """
    started, stop = threading.Event(), None
    url = ""

    async def serve():
        nonlocal stop, url
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        stop = lambda: loop.call_soon_threadsafe(over.set)
        profile = Profile(time_to_first_token=0.002, gap=0.002, tokens=15)
        async with SimulatedServer(profile, truth=True) as server:
            url = server.base_url
            started.set()
            await over.wait()

    async def read():
        async with ChatSession(url, retry=ONCE) as session, session.stream(ASK) as stream:
            events = []
            async for event in stream:
                events.append(event)
                until = time.perf_counter_ns() + 5_000_000
                while time.perf_counter_ns() < until:
                    pass
        return stream, [event for event in events if event.content and not event.coalesced]

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        started.wait(10)
        stream, events = asyncio.run(read())
    finally:
        stop()
        thread.join(10)

    if stream.report.source is not ArrivalSource.KERNEL:
        pytest.skip("this system has no stamps of the kernel")
    delays = [event.arrived_ns - event.chunk.extra["sent_ns"] for event in events]
    assert min(delays) >= -SLACK_NS
    assert statistics.median(delays) < 2_000_000


# --- However the bytes are cut ------------------------------------------------------------


async def test_one_byte_at_a_time(raw_server, wire, source):
    """
    An event came when its last byte did.
    """
    body = wire.chunk("one") + wire.chunk("two") + wire.chunk(finish_reason="stop") + wire.DONE
    sent = []

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for at in range(len(body)):
            await turns(3)
            sent.append(time.perf_counter_ns())
            await connection.send(body[at : at + 1])

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, retry=ONCE) as session, session.stream(ASK) as stream:
        events = [event async for event in stream]

    ends = list(itertools.accumulate(len(event) + 2 for event in body.split(b"\n\n")[:3]))
    assert "onetwo" == stream.completion.choices[0].message.content
    for event, end in zip(events, ends, strict=True):
        assert sent[end - 1] - SLACK_NS <= event.arrived_ns <= sent[end]
        assert not event.coalesced


async def test_all_at_once(raw_server, wire, source):
    """
    Only the last event of a read ends with it; the others may have waited.
    """
    events = [wire.chunk(str(number)) for number in range(5)]

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        await turns()
        await connection.send(b"".join(events))
        await turns()
        await connection.send(wire.chunk(finish_reason="stop") + wire.DONE)

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, retry=ONCE) as session, session.stream(ASK) as stream:
        seen = [event async for event in stream]

    assert [True] * 4 + [False] == [event.coalesced for event in seen[:5]]
    assert 1 == len({event.arrived_ns for event in seen[:5]})
    assert 5 == stream.report.coalesced_events
    assert seen[5].coalesced  # [DONE] came after it in the same read


async def test_with_the_headers(raw_server, wire, source):
    """
    Body bytes that come with the headers are stamped too.
    """
    began = []

    async def answer(connection):
        await connection.request()
        began.append(time.perf_counter_ns())
        await connection.send(wire.response(wire.ANSWER))

    raw = await raw_server(answer)
    async with ChatSession(raw.base_url, retry=ONCE) as session, session.stream(ASK) as stream:
        entered = time.perf_counter_ns()
        events = [event async for event in stream]

    assert all(began[0] - SLACK_NS <= event.arrived_ns <= entered for event in events)


# --- The connection afterwards ---------------------------------------------------------------


async def test_taps_do_not_pile_up(server):
    """
    A connection serves hundreds of requests; each has its tap and takes it along.
    """
    async with (
        aiohttp.ClientSession(**stamping_session_options()) as http,
        ChatSession(server.base_url, http=http, retry=ONCE) as session,
    ):
        for _ in range(5):
            async with session.stream(ASK) as stream:
                transport = stream._body._arrivals._transport
                tap = transport.get_protocol()
                await stream.collect()
            plain = transport.get_protocol()
            assert tap._inner is plain
            assert not isinstance(plain, Tap)
        async with http.get(f"{server.origin}/health") as response:
            assert 200 == response.status
            await response.read()

    assert 1 == server.connections


async def test_a_tap_lets_go_of_a_tls_connection_that_was_cut(
    raw_server, wire, server_tls, client_tls
):
    """
    Its transport has forgotten its protocol by then, as it is closed by all who see the end.
    """
    began = asyncio.Event()

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + wire.chunk("one"))
        await began.wait()
        connection.writer.transport.abort()

    raw = await raw_server(answer, tls=server_tls)
    async with (
        ChatSession(raw.base_url, tls=client_tls, retry=ONCE) as session,
        session.stream(ASK) as stream,
    ):
        with pytest.raises(InterruptedStreamError):  # noqa: PT012 the loop is what is tested
            async for _ in stream:
                began.set()


# --- Matching reads to bytes, without a socket -------------------------------------------------


class Transport:
    """What a tap needs of one."""

    def __init__(self):
        self.protocol = Protocol()
        self.reading = True

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        self.protocol = protocol

    def is_reading(self):
        return self.reading

    def get_extra_info(self, _name, default=None):
        return default


class Protocol(asyncio.Protocol):
    """Stands for aiohttp's: bytes in braces are headers, the others the body."""

    def __init__(self):
        self.calls = []
        self.content = Content()

    def data_received(self, data):
        self.content.feed(data.rpartition(b"}")[2])

    def eof_received(self):
        self.calls.append("eof")
        return True

    def connection_lost(self, exc):
        self.calls.append(("lost", exc))

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")


class Content:
    """A body of which everything that came is taken at once."""

    def __init__(self):
        self.total_bytes = 0
        self.total_compressed_bytes = None
        self.waiting = b""
        self.error = None
        self.over = False

    def feed(self, data):
        self.total_bytes += len(data)
        self.waiting += data

    def read_nowait(self):
        data, self.waiting = self.waiting, b""
        return data

    async def readany(self):
        data, self.waiting = self.waiting, b""
        return data

    def is_eof(self):
        return self.over

    def exception(self):
        return self.error

    def set_exception(self, error):
        self.error = error


@pytest.fixture
def fake():
    """A tap on a fake transport whose clock tells 1, 2, 3, …"""
    transport = Transport()
    content = transport.protocol.content
    clock = itertools.count(1).__next__
    tap = Tap(transport, clock)
    return SimpleNamespace(transport=transport, content=content, tap=tap)


async def test_reads_that_waited_are_cut_where_they_ended(fake):
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    for data in (b"abc", b"d", b"ef"):
        fake.tap.data_received(data)

    assert [Read(b"abc", 2), Read(b"d", 3), Read(b"ef", 4)] == fake.tap.take()
    assert fake.tap.wait() is not None
    fake.tap.data_received(b"gh")
    assert [Read(b"gh", 5)] == fake.tap.take()


async def lingering(fake, seconds=60):
    """Begin to linger over a body that has begun."""
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    waiting = asyncio.ensure_future(fake.tap.linger(seconds))
    await turns(2)
    return waiting


async def test_bytes_gather(fake):
    waiting = await lingering(fake)
    for _ in range(3):
        fake.tap.data_received(b"data: 1\n\n")
        await turns(2)
    gathering = not waiting.done()
    waiting.cancel()
    await turns(2)
    fake.tap.data_received(b"data: 2\n\n")

    assert gathering
    assert [2, 3, 4, 5] == [read.arrived_ns for read in fake.tap.take()]


@pytest.mark.parametrize("end", ["done", "much", "eof", "eof later", "error", "lost", "detached"])
async def test_bytes_gather_until(fake, end):
    """
    Whoever lingers must not be late for the end, nor let the buffer run full.
    """
    waiting = await lingering(fake)
    match end:
        case "done":
            fake.tap.data_received(b"data: [DONE]\n\n")
        case "much":
            fake.tap.data_received(bytes(MUCH_UNREAD))
        case "eof":
            fake.content.over = True
            fake.tap.data_received(b"data: 1\n\n")
        case "eof later":
            fake.tap.data_received(b"data: 1\n\n")
            fake.content.over = True
            fake.tap.data_received(b"{}")
        case "error":
            fake.content.error = HttpProcessingError()
            fake.tap.data_received(b"data: 1\n\n")
        case "lost":
            fake.tap.connection_lost(None)
        case "detached":
            fake.tap.detach()
    await turns(2)

    assert waiting.done()
    if end != "done":
        assert fake.tap.linger(60) is None


async def test_bytes_gather_for_so_long(fake):
    waiting = await lingering(fake, 0)
    await waiting

    assert fake.tap.wait() is not None


def test_a_read_without_body_bytes_leaves_no_mark(fake):
    """
    The end of an HTTP chunk, or a TLS record of its own.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    fake.tap.data_received(b"{}")
    fake.tap.data_received(b"ab")

    assert [Read(b"ab", 3)] == fake.tap.take()
    assert [] == fake.tap.offsets


@pytest.mark.parametrize(
    ("data", "merged"),
    [
        (b"data: 1\n\n", False),
        (b"data: 1\n\n\r\n", False),
        (b"data: 1\r\n\r\n\r\n", False),
        (b"data: 1\r\r\r\n", False),
        (b"\n\r\n0\r\n\r\n", False),
        (b"\n", False),
        (b"\n\r\n", False),
        (b"data: 1\n\n\r\n1f\r\n", True),
        (b"data: 1\n\n\r\n1", True),
    ],
)
@pytest.mark.parametrize("early", [False, True])
def test_a_read_that_goes_on_after_an_event_is_flagged(fake, data, merged, early):
    """
    Its stamp is that of the size of the next HTTP chunk.
    """
    fake.tap.data_received(b"{}" + data if early else b"{}")
    fake.tap.body_is(fake.content)
    if not early:
        fake.tap.data_received(data)

    assert [(data, merged)] == [(read.data, read.merged) for read in fake.tap.take()]


def test_of_compressed_bytes_it_cannot_be_told(fake):
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    fake.content.total_compressed_bytes = 7
    fake.tap.data_received(b"squeezed")

    assert [Read(b"squeezed", 2)] == fake.tap.take()


def test_a_read_that_ends_inside_a_tls_record_is_flagged(fake):
    """
    What was whole in it came before its last byte.
    """
    fake.tap._socket = SimpleNamespace(
        received_bytes=10, received_ns=7, stamped=True, inside_record=True, sent_ns=1
    )
    fake.tap.body_is(fake.content)
    fake.tap.data_received(b"ab")

    assert [Read(b"ab", 7, True)] == fake.tap.take()


def test_body_bytes_that_came_with_the_headers_in_one_read(fake):
    fake.tap.data_received(b"{}ab")
    fake.tap.body_is(fake.content)
    assert 1 == fake.tap.headers_ns
    fake.tap.data_received(b"c")

    assert [Read(b"ab", 1), Read(b"c", 2)] == fake.tap.take()


def test_body_bytes_before_the_headers_were_looked_at_in_several_reads(fake):
    """
    Which of the reads brought them can't be told any more.
    """
    for data in (b"{}ab", b"cd"):
        fake.tap.data_received(data)
    fake.tap.body_is(fake.content)
    fake.tap.data_received(b"e")

    assert [Read(b"abcd", 2, True), Read(b"e", 3)] == fake.tap.take()


def test_bytes_that_were_held_back_came_with_the_newest_read_at_the_latest(fake):
    """
    aiohttp's parser may keep bytes and let go of them when it likes.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    fake.tap.data_received(b"ab")
    fake.content.feed(b"cd")

    assert [Read(b"ab", 2), Read(b"cd", 2, True)] == fake.tap.take()


async def test_a_body_without_a_tap_is_stamped_when_it_is_read(fake):
    fake.content.feed(b"ab")
    arrivals = arrivals_of(SimpleNamespace(content=fake.content), lambda: 7)

    assert [Read(b"ab", 7, True)] == await read(arrivals)
    assert ArrivalSource.READER is arrivals.source
    assert 0 == arrivals.paused
    arrivals.detach()


def test_a_pause_is_told_and_what_comes_with_it_and_after_it_is_flagged(fake):
    """
    A caller so slow that aiohttp stops reading: bytes wait where nobody stamps them,
    and of the last read some may wait in aiohttp's parser.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    fake.transport.reading = False
    much = bytes(FEW_UNREAD + 1)
    fake.tap.data_received(much)
    fake.transport.reading = True

    assert [Read(much, 2, True)] == fake.tap.take()
    fake.tap.data_received(b"cd")
    fake.tap.data_received(b"ef")
    assert 0 < fake.tap.paused < 1e-6
    first, second = fake.tap.take()
    assert first.merged
    assert not second.merged


def test_a_tap_passes_on_what_is_not_data(fake):
    inner = fake.tap._inner
    error = ConnectionResetError()
    fake.tap.pause_writing()
    fake.tap.resume_writing()

    assert fake.tap.eof_received()
    fake.tap.connection_lost(error)
    assert ["pause", "resume", "eof", ("lost", error)] == inner.calls


@pytest.mark.parametrize("state", ["no body yet", "at its end", "failed", "waiting"])
async def test_whoever_waits_for_the_body_hears_that_the_connection_is_lost(fake, state):
    """
    aiohttp closes the connection at a malformed chunk, and forgets the reader.
    """
    known = ConnectionResetError()
    if state != "no body yet":
        fake.tap.body_is(fake.content)
    fake.content.over = state == "at its end"
    fake.content.error = known if state == "failed" else None
    waiter = fake.tap.wait() if state == "waiting" else None
    fake.tap.connection_lost(None)

    if waiter is not None:
        assert waiter.done()
        with pytest.raises(HttpProcessingError):
            fake.tap.take()
    else:
        assert fake.content.error is (known if state == "failed" else None)


def test_what_was_unread_when_the_connection_broke_is_not_lost(fake):
    """
    With an error, aiohttp's reader drops it.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    fake.tap.data_received(b"ab")
    fake.tap.connection_lost(ConnectionResetError())

    assert [Read(b"ab", 2)] == fake.tap.take()
    with pytest.raises(HttpProcessingError):
        fake.tap.take()


def test_a_pause_ends_with_the_connection(fake):
    """
    asyncio's TLS transport, once closed, can't even be asked whether it reads.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    fake.transport.reading = False
    much = bytes(FEW_UNREAD + 1)
    fake.tap.data_received(much)
    del fake.transport.reading
    fake.tap.connection_lost(None)

    assert much == b"".join(read.data for read in fake.tap.take())
    assert 0 < fake.tap.paused


@pytest.mark.parametrize(("compressed", "kept"), [(None, b"abcd"), (7, b"ab")])
def test_what_the_parser_let_go_of_at_the_end_is_not_lost(fake, compressed, kept):
    """
    Where it was paused, it goes on as what waits is read; a bomb's rest isn't unpacked.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    fake.content.total_compressed_bytes = compressed
    fake.tap.data_received(b"ab")
    more = [b"cd"]

    def read_nowait():
        data, fake.content.waiting = fake.content.waiting, b""
        if more:
            fake.content.feed(more.pop())
        return data

    fake.content.read_nowait = read_nowait
    fake.tap.connection_lost(None)

    assert kept == b"".join(read.data for read in fake.tap.take())


async def test_of_two_who_wait_the_first_is_let_go(fake):
    """
    Who leaves a stream reads its rest; who iterates elsewhere mustn't wait for ever.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    first, second = fake.tap.wait(), fake.tap.wait()

    assert (True, False) == (first.done(), second.done())


@pytest.mark.parametrize("end", ["bytes", "end", "error", "detached"])
async def test_what_ends_a_wait(fake, end):
    """
    Whoever isn't woken waits for ever.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    waiter = fake.tap.wait()
    fake.tap.data_received(b"{}")  # framing alone
    assert not waiter.done()
    match end:
        case "bytes":
            fake.tap.data_received(b"ab")
        case "end":
            fake.content.over = True
            fake.tap.data_received(b"{}")
        case "error":
            fake.content.error = ValueError()
            fake.tap.data_received(b"{}")
        case "detached":
            fake.tap.detach()

    assert waiter.done()
    if end in {"error", "detached"}:
        with pytest.raises((ValueError, aiohttp.ClientConnectionError)):
            fake.tap.take()
    else:
        assert ([Read(b"ab", 3)] if end == "bytes" else []) == fake.tap.take()


async def test_a_wait_that_was_cancelled_is_not_woken(fake):
    """
    The next byte would fail with InvalidStateError, in the middle of aiohttp's parser.
    """
    fake.tap.data_received(b"{}")
    fake.tap.body_is(fake.content)
    fake.tap.wait().cancel()
    fake.tap.data_received(b"ab")

    assert [Read(b"ab", 2)] == fake.tap.take()


def test_a_tap_takes_the_place_of_one_that_is_still_there():
    transport = Transport()
    inner = transport.protocol
    old, new = Tap(transport, lambda: 1), Tap(transport, lambda: 2)

    assert new._inner is inner
    old.detach()
    assert transport.protocol is new
    new.detach()
    assert transport.protocol is inner
    new.detach()
    assert transport.protocol is inner


def test_bytes_that_came_before_anyone_looked_are_flagged():
    """
    An answer may be there before the response begins; its bytes bear the time of the look.
    """
    transport = Transport()
    content = Content()
    tap = Tap(transport, itertools.count(5).__next__)
    content.feed(b"early")

    tap.body_is(content)

    assert [(5, 5, True)] == tap.offsets
