"""Bodies that break or go on for ever: rows W11, W12, W15 to W26 and W39 of the faults."""

import asyncio
import gzip
import importlib.util
import zlib

import pytest

from chatstream import (
    ChatSession,
    EventTooLargeError,
    FirstTokenTimeoutError,
    IdleTimeoutError,
    InterruptedStreamError,
    ProtocolError,
    RetryPolicy,
    Timeouts,
    TotalTimeoutError,
    Verdict,
)
from tests.faults.acts import ASK, ONCE, SOON

LIMIT = 512 * 1024
"""An event's size, where there is to be a limit."""

cut_short = {"verdict": Verdict.TRUNCATED, "retryable": True, "created": None}


# --- W11, W12: how long is a body? ----------------------------------------------------


async def test_a_length_that_is_not_reached(fails, faulty, wire):
    """
    W11: the rest is missing, and is missed.
    """
    answer = wire.response(wire.WHOLE).replace(b"content-length: ", b"content-length: 9")

    await fails(
        await faulty(answer[: -len(wire.END)]),
        InterruptedStreamError,
        text=wire.OUTPUT,
        **cut_short,
    )


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_bytes_after_the_length_are_nobodys_answer(faulty, wire, when):
    """
    W11, W39: neither of the request before nor of the one after.
    """
    stray = wire.response(wire.chunk("a stranger's") + wire.END)

    async def answer(connection):
        while await connection.request() is not None:
            whole = wire.response(wire.WHOLE)
            await connection.send(whole + stray if when == "at once" else whole)
            if when == "later":
                await read.wait()
                await connection.send(stray)

    server = await faulty(answer)
    read = asyncio.Event()
    async with ChatSession(server.base_url, retry=RetryPolicy(2)) as session:
        for _ in range(3):
            read.clear()
            async with session.stream(ASK) as stream:
                await stream.collect()
            read.set()
            for _ in range(10):  # the client reads it before it asks again
                await asyncio.sleep(0)
            assert wire.OUTPUT == stream.completion.text
    await server.left()


async def test_a_length_that_ends_within_an_event(fails, faulty, wire):
    """
    W11: what comes after it is not even the rest of this answer.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(wire.response(wire.ONE + wire.END)[: -len(wire.END)])
        await server.handed.wait()
        await connection.send(wire.ONE)

    server = await faulty(answer)
    await fails(server, InterruptedStreamError, text=wire.OUTPUT, **cut_short)


@pytest.mark.parametrize(
    "end",
    [b"", b'data: {"choi', b"data: [DO", b'data: {"choices":[{"delta":{"content":"more"}}]}\n'],
    ids=["after an event", "within a line", "within [DONE]", "after a line"],
)
async def test_a_body_that_ends_with_the_connection(fails, faulty, wire, end):
    """
    W12: such an end says nothing; whether it is whole must come from inside.
    """
    error = await fails(
        await faulty(wire.UNTIL_CLOSED + wire.ONE + end),
        InterruptedStreamError,
        text=wire.OUTPUT,
        **cut_short,
    )

    assert 1 == error.events
    assert "without finish_reason" in str(error)


async def test_a_body_that_ends_with_the_connection_may_be_whole(works, faulty, wire):
    """
    W12: the same with all that belongs to it.
    """
    await works(await faulty(wire.UNTIL_CLOSED + wire.WHOLE))


# --- W15 to W17: nothing comes, or nothing of worth -----------------------------------


@pytest.mark.parametrize("drops", [b"x", b": ping\n\n"], ids=["an event", "comments"])
async def test_a_slow_body_before_the_first_token(fails, faulty, wire, dripping, drops):
    """
    W15, W17: bytes that are no token are none.
    """
    drip = dripping(wire.UNTIL_CLOSED + b'data: {"' * (drops == b"x"), drops)
    error = await fails(
        await faulty(drip),
        FirstTokenTimeoutError,
        Verdict.TIMEOUT,
        retryable=True,
        created=None,
        timeouts=Timeouts(first_token=SOON),
    )

    assert error.report.time_to_first_byte is not None
    assert error.report.time_to_first_chunk is None


@pytest.mark.parametrize("drops", [b"x", b": ping\n\n"], ids=["an event", "comments"])
async def test_a_slow_body_after_the_first_token(fails, faulty, wire, dripping, drops):
    """
    W15, W17: the model behind it may be dead, whatever a proxy does to keep us.
    """
    begun = b'data: {"' if drops == b"x" else drops
    drip = dripping(wire.UNTIL_CLOSED + wire.ONE + begun, drops)
    error = await fails(
        await faulty(drip),
        IdleTimeoutError,
        Verdict.TIMEOUT,
        text=wire.OUTPUT,
        retryable=True,
        created=None,
        timeouts=Timeouts(idle=SOON),
    )

    assert SOON == error.limit
    assert bool(error.report.comments) is (drops != b"x")


async def test_comments_for_ever(fails, faulty, wire, dripping):
    """
    W17: without a limit on silence, the total ends it.
    """
    error = await fails(
        await faulty(dripping(wire.UNTIL_CLOSED + wire.ONE + b": ping\n\n", b": ping\n\n")),
        TotalTimeoutError,
        Verdict.TIMEOUT,
        text=wire.OUTPUT,
        created=None,
        timeouts=Timeouts(first_token=None, idle=None, total=SOON),
    )

    assert error.report.comments
    assert 1 == error.report.events


@pytest.mark.parametrize("after", ["request", "headers"])
async def test_silence_before_the_first_token(fails, faulty, wire, after):
    """
    W16: another attempt may find another machine.
    """

    async def stall(connection):
        await connection.request()
        if after == "headers":
            await connection.send(wire.STREAM_HEAD)
        await connection.gone()

    error = await fails(
        await faulty(stall),
        FirstTokenTimeoutError,
        Verdict.TIMEOUT,
        retryable=True,
        timeouts=Timeouts(first_token=SOON),
    )

    assert SOON == error.limit


async def test_silence_after_the_first_token(fails, faulty, wire):
    """
    W16: another error than silence before it, and what came is kept.
    """

    async def stall(connection):
        await connection.request()
        await connection.send(wire.BEGUN)
        await connection.gone()

    error = await fails(
        await faulty(stall),
        IdleTimeoutError,
        Verdict.TIMEOUT,
        text=wire.OUTPUT,
        retryable=True,
        timeouts=Timeouts(first_token=30, idle=SOON),
        created=None,
    )

    assert SOON == error.limit


async def test_silence_within_a_whole_answer(faulty):
    """
    W16: create() has the same clocks.
    """

    async def stall(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await connection.gone()

    server = await faulty(stall)
    timeouts = Timeouts(idle=SOON)
    async with ChatSession(server.base_url, timeouts=timeouts, retry=ONCE) as session:
        with pytest.raises(IdleTimeoutError):
            await session.create(ASK)
        await server.left()


# --- W18: however it is cut -----------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_however_the_bytes_are_cut(faulty, wire, size):
    """
    W18: the events are the same, and each came with the read that brought its last byte.
    """
    texts = ["one", "zwölf", "\N{GRINNING FACE}"]
    body = b"".join(map(wire.chunk, texts)) + wire.END

    async def answer(connection):
        await connection.request()
        await connection.send(wire.UNTIL_CLOSED)
        for at in range(0, len(body), size):
            for _ in range(3):  # the client reads before there is more
                await asyncio.sleep(0)
            await connection.send(body[at : at + size])

    server = await faulty(answer)
    async with ChatSession(server.base_url) as session, session.stream(ASK) as stream:
        events = [event async for event in stream]

    assert [*texts, None] == [event.content for event in events]
    stamps = [event.arrived_ns for event in events]
    assert stamps == sorted(stamps)
    assert (1 if size > len(body) else 4) == len(set(stamps))
    if size == 1:
        assert 0 == stream.report.coalesced_events
    if size > len(body):
        assert 4 == stream.report.coalesced_events


# --- W19 to W22: limits ---------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("begin", "block"),
    [
        (b"data: ", b"x" * 65536),
        (b"", b"x" * 65536),
        (b": ", b"x" * 65536),
        (b"data:" + b"x" * 1000 + b"\n", (b"data:" + b"x" * 1000 + b"\n") * 60),
        (b"", b"data\n" * 10_000),
    ],
    ids=["a data line", "a line", "a comment", "data lines", "empty data lines"],
)
async def test_an_event_without_end(fails, faulty, wire, endless, bounded, begin, block):
    """
    W19, W20: it is given up at the limit, with nothing much beyond it in memory.
    """
    server = await faulty(endless(wire.UNTIL_CLOSED + wire.ONE + begin, block))
    with bounded(LIMIT):
        error = await fails(
            server,
            EventTooLargeError,
            Verdict.MALFORMED,
            text=wire.OUTPUT,
            created=None,
            max_event_size=LIMIT,
        )

    assert LIMIT == error.limit
    assert LIMIT < error.size < 2 * LIMIT


@pytest.mark.thorough
@pytest.mark.parametrize("lines", [b": ping\n", b": ping\n\n", b"x: y\n", b"xxxxxxxx\n", b"id: 1\n",
                                   b"event: x\n", b"retry: 1\n", b"\n"], ids=repr)  # fmt: skip
async def test_lines_that_mean_nothing(fails, faulty, wire, bounded, lines):
    """
    W21: none is kept, and the clock for the next token goes on.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(wire.UNTIL_CLOSED + wire.ONE)
        for _ in range(40):
            await connection.send(lines * 5000)
        await connection.gone()

    with bounded():
        await fails(
            await faulty(answer),
            IdleTimeoutError,
            Verdict.TIMEOUT,
            text=wire.OUTPUT,
            retryable=True,
            created=None,
            timeouts=Timeouts(idle=SOON),
            max_event_size=LIMIT,
        )


@pytest.mark.parametrize("before", [True, False])
async def test_comments_without_end(fails, faulty, wire, endless, bounded, before):
    """
    W21: before the first event, too, where the beginning of a body is kept for an error.
    """
    head = wire.UNTIL_CLOSED if before else wire.UNTIL_CLOSED + wire.ONE
    with bounded():
        await fails(
            await faulty(endless(head, b": " + b"x" * 60_000 + b"\n")),
            FirstTokenTimeoutError if before else IdleTimeoutError,
            Verdict.TIMEOUT,
            text="" if before else wire.OUTPUT,
            retryable=True,
            created=None,
            timeouts=Timeouts(first_token=0.2, idle=0.2),
        )


@pytest.mark.parametrize(
    "event",
    [b'data: {"choices":[]}\n\n', b"data:\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'],
    ids=repr,
)
async def test_events_without_end_that_mean_nothing(fails, faulty, wire, endless, bounded, event):
    """
    W21: events without a token, before the first, are held back up to a number of them.
    """
    with bounded():
        await fails(
            await faulty(endless(wire.UNTIL_CLOSED, event * 200)),
            FirstTokenTimeoutError,
            Verdict.TIMEOUT,
            retryable=True,
            created=None,
            timeouts=Timeouts(first_token=0.2),
            retry=ONCE,
        )


async def test_a_large_event(faulty, wire):
    """
    W22: an image in a delta is no attack.
    """
    text = "x" * (8 * 1024 * 1024 + 1)
    server = await faulty(wire.response(wire.chunk(text) + wire.END))
    async with ChatSession(server.base_url) as session, session.stream(ASK) as stream:
        await stream.collect()

    assert text == stream.completion.text


# --- W23: bytes that are no text ------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"a\xc3", "a\ufffd"),
        (b"\xe2\x82", "\ufffd"),
        (b"\xc0\xaf", "\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xf5\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd"),
        (b"\xef\xbb\xbf", "\ufeff"),
    ],
)
async def test_bytes_that_are_no_text(faulty, wire, data, text):
    """
    W23: a replacement character, as the standard has it, and the stream goes on.
    """
    event = wire.chunk("@").replace(b"@", data)
    server = await faulty(wire.response(event + wire.chunk("!") + wire.END))
    async with ChatSession(server.base_url) as session, session.stream(ASK) as stream:
        await stream.collect()

    assert text + "!" == stream.completion.text


@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_a_byte_order_mark(works, faulty, wire, size):
    """
    W23: at the start of a stream it says nothing, also if it comes in pieces.
    """
    body = b"\xef\xbb\xbf" + wire.WHOLE

    async def answer(connection):
        await connection.request()
        await connection.send(wire.UNTIL_CLOSED)
        for at in range(0, len(body), size):
            await asyncio.sleep(0)
            await connection.send(body[at : at + size])

    await works(await faulty(answer))


# --- W24, W25: compressed all the same ------------------------------------------------


class Packer:
    """Compresses pieces and flushes each, so that it can be read when it comes."""

    def __init__(self, encoding):
        if encoding == "br":
            self._packer = importlib.import_module("brotli").Compressor()
            self._pack, self._end = self._packer.process, self._packer.finish
            self._flush = self._packer.flush
        else:
            # HTTP's "deflate" is zlib's format (RFC 9110, 8.4.1.2); some send it bare.
            wbits = {"gzip": 31, "deflate": 15, "deflate, bare": -15}[encoding]
            self._packer = zlib.compressobj(wbits=wbits)
            self._pack, self._end = self._packer.compress, self._packer.flush
            self._flush = lambda: self._packer.flush(zlib.Z_SYNC_FLUSH)

    def pieces(self, *pieces):
        packed = [self._pack(piece) + self._flush() for piece in pieces]
        return [*packed[:-1], packed[-1] + self._end()]


HAS_BROTLI = importlib.util.find_spec("brotli") is not None


@pytest.mark.parametrize(
    "encoding",
    [
        "gzip",
        "deflate",
        "deflate, bare",
        pytest.param("br", marks=pytest.mark.skipif(not HAS_BROTLI, reason="no brotli")),
    ],
)
async def test_a_compressed_stream_comes_piece_by_piece(faulty, wire, encoding):
    """
    W24: nobody asked for it; but each event leaves with the read that brought it.
    """
    texts = ["one", " two", " three"]
    pieces = Packer(encoding).pieces(*map(wire.chunk, texts), wire.END)

    async def answer(connection):
        await connection.request()
        await connection.send(packed(wire.STREAM_HEAD, encoding.partition(",")[0]))
        for piece in pieces:
            await connection.send(wire.http_chunk(piece))
            if piece is not pieces[-1]:
                await server.handed.wait()
                server.handed.clear()
        await connection.send(wire.http_chunk(b""))

    server = await faulty(answer)
    events = []
    async with ChatSession(server.base_url) as session, session.stream(ASK) as stream:
        async for event in stream:
            events.append(event)
            server.handed.set()

    assert [*texts, None] == [event.content for event in events]
    assert 4 == len({event.arrived_ns for event in events})
    assert [False] * 3 == [event.coalesced for event in events[:3]]
    assert "identity" in server.requests[0].head


def packed(head, encoding):
    """Return *head* of a body in *encoding*."""
    return head.replace(b"\r\n\r\n", b"\r\ncontent-encoding: %b\r\n\r\n" % encoding.encode())


async def test_many_gzips_in_one(faulty, wire):
    """
    W24, W25: each event in a member of its own, more than a parser might follow.
    """
    body = b"".join(gzip.compress(wire.chunk("x")) for _ in range(1025)) + gzip.compress(wire.END)
    server = await faulty(packed(wire.response(body), "gzip"))
    async with ChatSession(server.base_url) as session, session.stream(ASK) as stream:
        await stream.collect()

    assert "x" * 1025 == stream.completion.text


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_compression_that_is_broken(fails, faulty, wire, encoding):
    """
    W25: or that nobody here can undo.
    """
    await fails(
        await faulty(packed(wire.response(b"\xffno such thing" * 100), encoding)),
        ProtocolError,
        Verdict.MALFORMED,
        retryable=True,
    )


async def test_compression_that_breaks_off(fails, faulty, wire):
    """
    W25: aiohttp ends such a body without an error.
    """
    one, two = Packer("gzip").pieces(wire.ONE, wire.END)

    await fails(
        await faulty(packed(wire.response(one + two[:-30]), "gzip")),
        InterruptedStreamError,
        text=wire.OUTPUT,
        **cut_short,
    )


async def test_compression_that_turns_bad(fails, faulty, wire):
    """
    W25: in the middle of an answer.
    """
    one, two = Packer("gzip").pieces(wire.ONE, wire.END)

    async def answer(connection):
        await connection.request()
        await connection.send(packed(wire.STREAM_HEAD, "gzip") + wire.http_chunk(one))
        await server.handed.wait()
        await connection.send(wire.http_chunk(b"\xff" * len(two)))

    server = await faulty(answer)
    await fails(
        server,
        ProtocolError,
        Verdict.MALFORMED,
        text=wire.OUTPUT,
        retryable=True,
        created=None,
    )


@pytest.mark.thorough
@pytest.mark.parametrize("what", ["an event", "comments"])
async def test_a_bomb(fails, faulty, wire, bounded, what):
    """
    W25: a thousand bytes for each that was sent.
    """
    packer = zlib.compressobj(wbits=31)
    bomb = [packer.compress(wire.ONE + b"data: " * (what == "an event"))]
    block = b"x" * 1024 * 1024 if what == "an event" else (b": " + b"x" * 61 + b"\n") * 16384
    bomb += [packer.compress(block) for _ in range(12)]
    bomb.append(packer.flush())
    server = await faulty(packed(wire.response(b"".join(bomb)), "gzip"))
    with bounded(LIMIT):
        await fails(
            server,
            EventTooLargeError if what == "an event" else InterruptedStreamError,
            Verdict.MALFORMED if what == "an event" else Verdict.TRUNCATED,
            text=wire.OUTPUT,
            retryable=what != "an event",
            created=None,
            kept=what != "an event",
            max_event_size=LIMIT,
        )


# --- W26: not in chunks ---------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        b"zz\r\ndata\r\n",
        b"-5\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"\r\n\r\n",
        b"10000000000000000\r\n",  # 2^64
        b"fffffffffffffffff\r\n",
        b"5\r\nhello, and more\r\n",
        b"0\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"0\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        b"0\r\nx\r\n\r\n",
        b"0\r\n:\r\n\r\n",
    ],
    ids=lambda bad: repr(bad[:20]),
)
async def test_not_in_chunks(fails, faulty, wire, bounded, bad):
    """
    W26: no cut in transit: whoever sent it doesn't speak HTTP as it should.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(wire.BEGUN)
        await server.handed.wait()
        await connection.send(bad)
        await connection.gone()

    server = await faulty(answer)
    with bounded():
        error = await fails(
            server,
            ProtocolError,
            Verdict.MALFORMED,
            text=wire.OUTPUT,
            retryable=True,
            created=None,
            timeouts=Timeouts(idle=5),
        )

    assert "400" not in str(error)
    assert error.__cause__ is error.__context__ is None


async def test_the_extension_of_a_chunk(works, faulty, wire):
    """
    W26: however long, it says nothing, and what comes after it counts.
    """
    body = b"%x;%b\r\n%b\r\n0\r\n\r\n" % (len(wire.WHOLE), b"x" * 200_000, wire.WHOLE)

    await works(await faulty(wire.STREAM_HEAD + body))


@pytest.mark.parametrize("block", [b"x" * 50_000, b"0" * 5000], ids=["extension", "zeros"])
async def test_the_size_of_a_chunk_without_end(fails, faulty, wire, endless, bounded, block):
    """
    W26: memory stays flat, and the clock ends what isn't wrong.
    """
    wrong = block[:1] == b"0"
    server = await faulty(endless(wire.BEGUN + (b"5" if wrong else b"5;"), block))
    with bounded():
        await fails(
            server,
            ProtocolError if wrong else IdleTimeoutError,
            Verdict.MALFORMED if wrong else Verdict.TIMEOUT,
            text=wire.OUTPUT,
            retryable=True,
            created=None,
            timeouts=Timeouts(idle=5 if wrong else 0.2),
        )


async def test_trailers_without_end(faulty, wire, endless, bounded):
    """
    W26: a whole answer, after which the server can't stop talking.
    """
    head = wire.STREAM_HEAD + wire.http_chunk(wire.WHOLE) + b"0\r\n"
    server = await faulty(endless(head, b"x: y\r\n" * 1000))
    with bounded():
        async with ChatSession(server.base_url, retry=ONCE) as session:
            async with session.stream(ASK) as stream:
                async for _ in stream:
                    server.handed.set()
            await server.left()

    assert Verdict.FINISHED is stream.verdict
    assert wire.OUTPUT == stream.completion.text


# --- W39: the next answer on a connection ---------------------------------------------


async def test_what_is_left_of_an_answer_is_not_the_next_one(faulty, wire):
    """
    W39: whoever leaves early leaves the connection, too.
    """

    async def answer(connection):
        await connection.request()
        if server.connections > 1:
            await connection.send(wire.response(wire.WHOLE))
            return
        rest = wire.chunk("a stranger's") * 1000 + wire.END
        await connection.send(wire.STREAM_HEAD + wire.http_chunk(wire.chunk("mine")))
        await server.handed.wait()
        await connection.send(wire.http_chunk(rest) + wire.http_chunk(b""))
        await connection.send(wire.response(wire.chunk("a stranger's") + wire.END))

    server = await faulty(answer)
    async with ChatSession(server.base_url, retry=ONCE) as session:
        async with session.stream(ASK) as stream:
            async for event in stream:
                if event.content:
                    server.handed.set()
                    break
        await server.left()
        async with session.stream(ASK) as again:
            await again.collect()
        assert not again.report.phases.reused
    await server.left()

    assert Verdict.CLOSED is stream.verdict
    assert "mine" == stream.completion.text
    assert wire.OUTPUT == again.completion.text
    assert 2 == server.connections
