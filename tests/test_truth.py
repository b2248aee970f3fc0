"""The whole way, against a server in a thread that notes its own clock around each write.

Over loopback the kernel receives what is sent, and stamps it, inside the sender's call:
a kernel's stamp lies between the two readings of the clock, whatever the client is busy
with. A transport's stamp lies between the write and the moment the caller had the event.
"""

import _socket
import asyncio
import contextlib
import itertools
import queue
import socket
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import NamedTuple

import aiohttp
import attrs
import pytest

from chatstream import ChatSession, RetryPolicy, stamping_session_options
from chatstream import sockets as module
from chatstream.arrival import StampedResponse
from chatstream.marks import NS
from chatstream.report import ArrivalSource
from chatstream.sockets import StampedSocket

ASK = {"model": "m", "messages": [{"role": "user", "content": "count"}]}
ONCE = RetryPolicy(1)
SLACK_NS = 1_000_000
"""A kernel's stamp is converted between clocks; the reading of one may be interrupted."""
LATE_NS = 2 * SLACK_NS
"""How much later than the write a busy client lets its loop read."""
NOTSENT_BYTES = 144
"""Where Linux's ``struct tcp_info`` has how many bytes haven't been sent at all."""
PATIENCE = 10
"""Seconds after which something hangs."""
KERNEL, TRANSPORT = ArrivalSource.KERNEL, ArrivalSource.TRANSPORT


# --- The server --------------------------------------------------------------------------


class Written(NamedTuple):
    """The clock before and after a write."""

    before: int
    after: int


class Peer:
    """A server's end of a connection: blocking, and it writes when it likes."""

    def __init__(self, sock):
        self.sock = sock
        self._rest = b""

    def secure(self, context):
        """Speak TLS from here on."""
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def close(self):
        self.sock.close()

    def head(self):
        """Read a request; ``False`` at the end."""
        while b"\r\n\r\n" not in self._rest:
            if not (data := self.sock.recv(65536)):
                return False
            self._rest += data
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        while len(self._rest) < size:
            self._rest += self.sock.recv(65536)
        self._rest = self._rest[size:]
        return True

    def write(self, data):
        """Send *data*, and return when."""
        before = time.perf_counter_ns()
        self.sock.sendall(data)
        while self._held_back():
            assert time.perf_counter_ns() < before + PATIENCE * 1_000_000_000
        return Written(before, time.perf_counter_ns())

    def _held_back(self):
        """Whether TCP waits with some bytes until others are acknowledged."""
        if sys.platform != "linux":
            return False
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, NOTSENT_BYTES + 4)
        return struct.unpack_from("I", info, NOTSENT_BYTES) != (0,)


class Server:
    """Takes one connection after the other in a thread of its own."""

    def __init__(self, answer):
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = ThreadPoolExecutor(1)
        self._life = self._thread.submit(self._run)
        self.port = self._listener.getsockname()[1]
        self.connections = 0

    def _run(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # it was closed
                return
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            with contextlib.closing(Peer(sock)) as peer, contextlib.suppress(ConnectionError):
                self._answer(peer)

    def close(self):
        """End the thread, and raise what failed in it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.shutdown()
        self._life.result()


@pytest.fixture
def serve():
    """Give a function that starts a server whose connections are *answer*'s affair."""
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


# --- The client's loop ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel():
    """What a loop that reads through the socket is told of arrivals by.

    Linux begins to stamp some time after the first socket has asked for it, and does so
    until the last one is closed.
    """
    with contextlib.closing(module.stamped_socket((socket.AF_INET, socket.SOCK_STREAM, 0))) as sock:
        if isinstance(sock, StampedSocket):
            yield KERNEL if _begins_to_stamp(sock) else TRANSPORT
        else:
            yield TRANSPORT


def _begins_to_stamp(sock):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock.connect(listener.getsockname())
        with listener.accept()[0] as peer:
            until = time.monotonic() + PATIENCE / 2
            while not sock.stamped and time.monotonic() < until:
                peer.send(b"?")
                sock.recv(1)
    return sock.stamped


@pytest.fixture
def stamps(kernel):
    """What a test of the kernel's stamps can't do without."""
    if kernel is not KERNEL:
        pytest.skip("this system has no stamps of the kernel")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request, outside, kernel):
    """Give a function that runs a client on a loop, and the source of its stamps."""
    part = request.param
    factory = None if part == "asyncio" else outside(part).new_event_loop

    def run(main):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(main, PATIENCE))

    run.source = kernel if part == "asyncio" else TRANSPORT
    return run


# --- What is written ------------------------------------------------------------------------


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"


class Whole:
    """An event in each write."""

    head = HEAD + b"\r\n"
    busy = (False, True, True)
    """For each answer, whether the client may read no event until it is written."""

    def __init__(self, http_chunk):
        self.http_chunk = http_chunk

    def pieces(self, event):
        return [self.http_chunk(event)]


class Bytewise(Whole):
    """A byte in each write.

    A few dozen small writes are as much as TCP sends while nobody reads.
    """

    busy = (False, False)

    def pieces(self, event):
        return [self.http_chunk(event[at : at + 1]) for at in range(len(event))]


class Compressed(Whole):
    """An event in each write, by gzip, flushed."""

    head = HEAD + b"content-encoding: gzip\r\n\r\n"

    def __init__(self, http_chunk):
        super().__init__(http_chunk)
        self._compressor = zlib.compressobj(wbits=31)

    def pieces(self, event):
        data = self._compressor.compress(event) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return [self.http_chunk(data)]


class Turns:
    """Writes event after event, each when the client has had the one before it.

    Every second answer has its first event in one write with the headers.
    """

    def __init__(self, wire, shape=Whole, count=3):
        events = [wire.chunk(str(number)) for number in range(count)]
        self.events = [*events, wire.chunk(finish_reason="stop")]
        self.answered = threading.Event()
        """Whether something has been written."""
        self._wire = wire
        self._shape = shape
        self._orders = queue.SimpleQueue()
        self._written = queue.SimpleQueue()

    def go(self, events=1):
        """Let the next events be written, all at once if the shape has them whole."""
        self._orders.put(events)

    def written(self):
        """Wait for the last write of what was ordered."""
        return self._written.get(timeout=PATIENCE)

    def __call__(self, peer):
        number = 0
        while peer.head():
            shape = self._shape(self._wire.http_chunk)
            head = shape.head
            if number % 2 == 0:
                peer.write(head)
                head = b""
            events = iter(self.events)
            left = len(self.events)
            while left:
                count = self._orders.get(timeout=PATIENCE)
                left -= count
                for piece in shape.pieces(b"".join(itertools.islice(events, count))):
                    written = peer.write(head + piece)
                    head = b""
                self.answered.set()
                self._written.put(written)
            self._orders.get(timeout=PATIENCE)
            peer.write(b"".join(shape.pieces(self._wire.DONE)) + self._wire.http_chunk(b""))
            number += 1


class Heard(NamedTuple):
    """An event, when it was written, and when the caller had it."""

    event: object
    written: Written
    had: int


def check(heard, source):
    """Each stamp lies where it must."""
    for event, (before, after), had in heard:
        assert not event.coalesced
        check_bounds(event, before, after, had, source)


def check_bounds(event, before, after, had, source):
    slack, latest = (SLACK_NS, after + SLACK_NS) if source is KERNEL else (0, had)
    assert before - slack <= event.arrived_ns <= min(latest, had)


def block_until_late(written):
    """Keep the loop from reading for so long that its own stamps would be wrong."""
    while time.perf_counter_ns() < written.after + LATE_NS:
        pass


async def take_turns(session, turns, *, busy):
    """Read an answer; if *busy*, block the loop until the next event has long been written."""
    heard = []
    ahead = None
    turns.go()
    async with session.stream(ASK) as stream:
        async for event in stream:
            had = time.perf_counter_ns()
            heard.append(Heard(event, ahead or turns.written(), had))
            turns.go()
            ahead = None
            if busy and len(heard) < len(turns.events):
                ahead = turns.written()
                block_until_late(ahead)
    assert len(turns.events) == len(heard)
    return stream.report, heard


@pytest.fixture(params=["plain", "tls", "proxy"])
def way(request, server_tls, client_tls):
    """Give what a server does first on a connection, and the options of a session."""

    def plain(peer):
        pass

    def tls(peer):
        peer.secure(server_tls)

    def proxy(peer):
        assert peer.head()
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        tls(peer)

    begin = {"plain": plain, "tls": tls, "proxy": proxy}[request.param]

    def options(port):
        if request.param == "plain":
            return {"base_url": f"http://127.0.0.1:{port}"}
        secure = {"base_url": f"https://127.0.0.1:{port}", "tls": client_tls}
        if request.param == "proxy":
            secure["proxy"] = f"http://127.0.0.1:{port}"
        return secure

    begin.options = options
    return begin


def served(serve, way, turns):
    """Start a server that answers in *turns*, and return the options of its session."""

    def answer(peer):
        way(peer)
        turns(peer)

    return way.options(serve(answer).port)


@pytest.mark.parametrize("shape", [Whole, Bytewise, Compressed])
def test_each_event_arrived_when_it_was_written(serve, wire, way, loop, shape):
    """
    On a new connection and a reused one, whether the loop waits or is blocked meanwhile.
    """
    turns = Turns(wire, shape)

    def answer(peer):
        way(peer)
        turns(peer)

    server = serve(answer)

    async def main():
        async with ChatSession(**way.options(server.port), retry=ONCE) as session:
            return [await take_turns(session, turns, busy=busy) for busy in shape.busy]

    for report, heard in loop(main()):
        check(heard, loop.source)
        assert loop.source is report.source
        assert 0 == report.coalesced_events
    assert 1 == server.connections


@pytest.mark.parametrize("writes", [1, 5])
def test_of_events_that_came_together_the_last_is_told_exactly(serve, wire, way, loop, writes):
    """
    Sent in one write, or read in one because the caller computed meanwhile.
    """
    turns = Turns(wire, count=6)

    options = served(serve, way, turns)

    async def main():
        async with ChatSession(**options, retry=ONCE) as session:
            turns.go()
            async with session.stream(ASK) as stream:
                heard = []
                async for event in stream:
                    heard.append((event, time.perf_counter_ns()))
                    if len(heard) == 1:
                        written = [turns.written()]
                        for _ in range(writes):
                            turns.go(5 // writes)
                            written.append(turns.written())
                        block_until_late(written[-1])
                    elif len(heard) >= 6:
                        turns.go()
            return stream.report, written, heard

    report, written, heard = loop(main())
    together = [event for event, _ in heard[1:6]]
    assert [True] * 4 + [False] == [event.coalesced for event in together]
    assert 1 == len({event.arrived_ns for event in together})
    check_bounds(together[-1], *written[-1], heard[5][1], loop.source)
    assert 4 == report.coalesced_events
    assert loop.source is report.source


# --- A caller that takes nothing for a while ----------------------------------------------------


class Flood:
    """Writes megabytes without waiting for anyone, and tells when nobody takes them."""

    def __init__(self, wire, events=256, size=32 * 1024):
        self.text = [chr(ord("a") + number % 26) * size for number in range(events)]
        self._pieces = [wire.http_chunk(wire.chunk(text)) for text in self.text]
        self.ends = list(itertools.accumulate(map(len, self._pieces)))
        """Where each event ends, in bytes after the headers."""
        self.sent = 0
        self.stalled = threading.Event()
        """Whether a write has waited, or all is written."""
        self.paused = lambda: True
        """Whether the client has stopped reading; else a wait says nothing."""
        self._wire = wire

    def __call__(self, peer):
        wire = self._wire
        assert peer.head()
        # Little room in the kernel: what waits there shows in the client's stamps.
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 512 * 1024)
        peer.write(Whole.head)
        peer.sock.settimeout(0.02)
        try:
            for piece in self._pieces:
                self._write(peer.sock, piece)
        finally:
            self.stalled.set()
        end = wire.chunk(finish_reason="stop") + wire.DONE
        peer.write(wire.http_chunk(end) + wire.http_chunk(b""))

    def _write(self, sock, data):
        until = time.monotonic() + PATIENCE
        while data:
            try:
                count = sock.send(data)
            except TimeoutError:
                assert time.monotonic() < until
                if self.paused():
                    self.stalled.set()
            else:
                data = data[count:]
                self.sent += count


class Kept(StampedResponse):
    """A response that can be asked for its buffer."""

    async def start(self, connection):
        self.transport = connection.transport
        Kept.newest = self
        return await super().start(connection)


async def stand_still(flood, port):
    """Take one event, and the others when the server has long been stuck."""
    options = stamping_session_options() | {"response_class": Kept}
    async with (
        aiohttp.ClientSession(**options) as http,
        ChatSession(f"http://127.0.0.1:{port}", http=http, retry=ONCE) as session,
        session.stream(ASK) as stream,
    ):
        content = Kept.newest.content
        flood.paused = lambda transport=Kept.newest.transport: not transport.is_reading()
        events = aiter(stream)
        heard = [await anext(events)]
        await asyncio.to_thread(flood.stalled.wait, PATIENCE)
        stuck = SimpleNamespace(sent=flood.sent, read=content.total_bytes)
        heard += [event async for event in events]
        stuck.high = content.get_read_buffer_limits()[1]
    return stream, heard, stuck


def test_a_caller_that_stands_still_holds_up_the_server(serve, wire, loop):
    """
    Nothing is lost, not much more is kept than aiohttp is told to, what waited is flagged.
    """
    flood = Flood(wire)

    stream, heard, stuck = loop(stand_still(flood, serve(flood).port))

    assert stuck.sent < flood.ends[-1] / 2
    assert stuck.read < 2 * stuck.high
    assert flood.text == [event.content for event in heard[:-1]]
    assert "".join(flood.text) == stream.completion.text
    assert stream.report.paused > 0
    # aiohttp's parser may keep what another read brought.
    waited = [stuck.read + stuck.high < end < stuck.sent for end in flood.ends]
    assert any(waited)
    assert all(event.coalesced for event, late in zip(heard, waited, strict=False) if late)


def test_an_event_that_is_not_flagged_ended_its_read(serve, wire, stamps, monkeypatch):
    """
    Whatever waits where when a caller takes nothing for a while.
    """
    flood = Flood(wire)
    reads = []
    recv = StampedSocket.recv

    def noted(sock, *arguments):
        data = recv(sock, *arguments)
        reads.append((sock.received_bytes - len(Whole.head), sock.received_ns))
        return data

    monkeypatch.setattr(StampedSocket, "recv", noted)
    _, heard, _ = asyncio.run(stand_still(flood, serve(flood).port))

    for event, end in zip(heard, flood.ends, strict=False):
        # After its last byte there may be the line end of the HTTP chunk.
        place, arrived_ns = next(read for read in reads if read[0] >= end - 2)
        assert event.arrived_ns >= arrived_ns
        if not event.coalesced:
            assert place <= end
            assert event.arrived_ns == arrived_ns


def test_an_event_that_came_with_the_size_of_the_next_is_flagged(serve, wire, loop):
    """
    Some servers write the size of an HTTP chunk and its bytes apart; no parser tells of it.
    """
    asked = threading.Event()
    first, second, third = (wire.http_chunk(wire.chunk(text)) for text in "abc")
    cut = second.index(b"\n") + 1

    def answer(peer):
        assert peer.head()
        peer.write(Whole.head + first + second[:cut])
        assert asked.wait(PATIENCE)
        peer.write(second[cut:] + third)
        end = wire.chunk(finish_reason="stop") + wire.DONE
        peer.write(wire.http_chunk(end) + wire.http_chunk(b""))

    async def main():
        port = serve(answer).port
        async with (
            ChatSession(f"http://127.0.0.1:{port}", retry=ONCE) as session,
            session.stream(ASK) as stream,
        ):
            heard = {}
            async for event in stream:
                heard[event.content] = event.coalesced
                asked.set()
        return heard

    heard = loop(main())

    assert heard["a"]
    assert heard["b"]


# --- When stamps can't be had, or can't be believed --------------------------------------------


@pytest.fixture(params=[3600, -3600], ids=["forward", "backward"])
def hour(request):
    """An hour in nanoseconds, in one direction of time."""
    return request.param * NS


class Kernel:
    """Stands between the sockets and what the kernel tells them."""

    def __init__(self):
        self.stamped = True
        """Whether the reads from now on are told when their bytes came."""
        self.wall_ns = 0
        """How much the wall clock has been set forward."""
        self.stamp_ns = 0
        """How much it had been when the kernel received what is read from now on."""

    def time_ns(self):
        return time.time_ns() + self.wall_ns

    def told(self, control):
        """Return the control messages of a read."""
        if not self.stamped:
            return []
        shifted = []
        for level, kind, data in control:
            seconds, nanoseconds = module._TIMESPECS.unpack_from(data)
            at = seconds * NS + nanoseconds + self.stamp_ns
            shifted.append((level, kind, module._TIMESPECS.pack(*divmod(at, NS))))
        return shifted


@pytest.fixture
def told(monkeypatch, stamps):
    """What the kernel tells of each read, to be changed."""
    changed = Kernel()

    def recvmsg(sock, *arguments):
        data, control, *rest = socket.socket.recvmsg(sock, *arguments)
        return data, changed.told(control), *rest

    def recvmsg_into(sock, *arguments):
        count, control, *rest = socket.socket.recvmsg_into(sock, *arguments)
        return count, changed.told(control), *rest

    monkeypatch.setattr(StampedSocket, "recvmsg", recvmsg, raising=False)
    monkeypatch.setattr(StampedSocket, "recvmsg_into", recvmsg_into, raising=False)
    clocks = SimpleNamespace(perf_counter_ns=time.perf_counter_ns, time_ns=changed.time_ns)
    monkeypatch.setattr(module, "time", clocks)
    return changed


async def read_turns(options, turns, before_event):
    """Read an answer, blocking the loop until each event has long been written.

    *before_event* is called with the number of each event that is to come.
    """
    heard = []
    async with ChatSession(**options, retry=ONCE) as session:
        before_event(0)
        turns.go()
        async with session.stream(ASK) as stream:
            written = turns.written()
            async for event in stream:
                heard.append(Heard(event, written, time.perf_counter_ns()))
                before_event(len(heard))
                turns.go()
                if len(heard) < len(turns.events):
                    written = turns.written()
                    block_until_late(written)
    return stream.report, heard


def test_a_wall_clock_that_is_set_moves_one_stamp_to_its_neighbours_at_most(
    serve, wire, way, told, hour
):
    """
    K12: it is set after the kernel stamped an event, and before that was read.
    """
    turns = Turns(wire, count=6)

    def before_event(number):
        told.wall_ns = hour if number >= 3 else 0
        told.stamp_ns = hour if number > 3 else 0

    report, heard = asyncio.run(read_turns(served(serve, way, turns), turns, before_event))

    odd = heard.pop(3)
    check(heard, KERNEL)
    assert heard[2].event.arrived_ns <= odd.event.arrived_ns <= odd.had
    assert min(report.inter_chunk_latencies) >= 0
    assert KERNEL is report.source


def test_a_wall_clock_that_is_set_makes_no_answer_older_than_its_request(
    serve, wire, way, told, hour
):
    """
    There may be no earlier stamp to hold on to, or one of the answer before.
    """
    turns = Turns(wire)
    options = served(serve, way, turns)
    told.wall_ns = hour

    async def main():
        async with ChatSession(**options, retry=ONCE) as session:
            return [await take_turns(session, turns, busy=False) for _ in range(2)]

    for report, heard in asyncio.run(main()):
        arrivals = [event.arrived_ns for event, *_ in heard]
        assert arrivals == sorted(arrivals)
        assert report.created_ns <= arrivals[0]
        assert all(event.arrived_ns <= had for event, _, had in heard)
        phases = attrs.asdict(report.phases)
        assert min(time for time in phases.values() if time is not None) >= 0
        assert 0 <= report.time_to_first_byte <= report.time_to_first_token <= report.duration


def test_no_answer_comes_before_its_request_was_sent(serve, wire, way, stamps, monkeypatch):
    """
    A server may be quicker than a client that looks at its clock after sending.
    """
    turns = Turns(wire)
    options = served(serve, way, turns)
    waits = []

    def slow(call):
        def send(sock, *arguments):
            sent = call(sock, *arguments)
            while waits:
                waits.pop()(PATIENCE)
            return sent

        return send

    for call in (_socket.socket.send, _socket.socket.sendmsg):
        monkeypatch.setattr(socket.socket, call.__name__, slow(call), raising=False)

    async def main():
        async with ChatSession(**options, retry=ONCE) as session:
            await take_turns(session, turns, busy=False)
            turns.answered.clear()
            waits.append(turns.answered.wait)
            return await take_turns(session, turns, busy=False)

    report, heard = asyncio.run(main())

    assert not waits
    assert report.phases.headers >= 0
    assert report.sent <= report.time_to_first_byte
    check(heard, KERNEL)


def test_a_read_without_a_stamp_bears_its_own_time(serve, wire, way, told):
    """
    The kernel may have none for one read and one for the next; the report tells the worst.
    """
    turns = Turns(wire, count=4)

    def before_event(number):
        told.stamped = number != 2

    report, heard = asyncio.run(read_turns(served(serve, way, turns), turns, before_event))

    check([heard.pop(2)], TRANSPORT)
    check(heard, KERNEL)
    assert TRANSPORT is report.source


@pytest.mark.parametrize("first", [0, 2])
def test_a_loop_that_reads_past_the_socket_is_noticed(serve, wire, told, monkeypatch, first):
    """
    From then on the transport tells of arrivals, never a stamp of an earlier read.
    """
    turns = Turns(wire, count=4)
    server = serve(turns)

    def before_event(number):
        if number == first:
            monkeypatch.setattr(StampedSocket, "recv", socket.socket.recv)

    options = {"base_url": f"http://127.0.0.1:{server.port}"}
    report, heard = asyncio.run(read_turns(options, turns, before_event))

    check(heard[:first], KERNEL)
    check(heard[first:], TRANSPORT)
    assert TRANSPORT is report.source
