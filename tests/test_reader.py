"""chatstream.reader: one body to chunks, however it is cut."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatstream.arrival import Read
from chatstream.codec import to_dict
from chatstream.errors import (
    ChatStreamError,
    DecodeError,
    EventTooLargeError,
    ResponseTooLargeError,
    UpstreamError,
)
from chatstream.reader import ChunkReader
from chatstream.response import MAX_DOCUMENT, ResponseInfo

INFO = ResponseInfo(200, {"content-type": "text/event-stream"})
BODIES = [path.read_bytes() for path in sorted((Path(__file__).parent / "streams").glob("*.sse"))]


def read(*pieces, limit=1 << 20):
    """What a reader makes of a body that comes in these pieces."""
    reader = ChunkReader(max_event_size=limit)
    chunks = []
    try:
        for at, piece in enumerate(pieces):
            reader.push(Read(piece, at))
            while (arrived := reader.take()) is not None:
                chunks.append(to_dict(arrived[0]))
            if reader.ended:
                break
        else:
            reader.push_end(INFO)
            assert reader.take() is None
    except ChatStreamError as error:
        return chunks, reader.done, type(error), str(error)
    return chunks, reader.done, None, None


def chunk(content):
    return b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % content


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@settings(max_examples=settings().max_examples // 5)  # of each of many streams
@given(data=st.data())
def test_any_cut_of_any_stream_gives_the_same_chunks(body, data):
    """
    Network reads may end anywhere, even inside a character.
    """
    cuts = data.draw(st.sets(st.integers(1, max(1, len(body) - 1)), max_size=40))
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]

    assert read(body) == read(*(body[a:b] for a, b in pairwise(edges)))


@given(pieces=st.lists(st.binary(max_size=60) | st.sampled_from([b"data: ", b"\n\n", b"{", b"}"])))
def test_garbage_gives_chunks_or_an_error_of_ours(pieces):
    """
    Anything else would take down whoever reads.
    """
    read(*pieces, limit=200)


def test_an_event_leaves_with_the_read_that_completes_it():
    """
    Its arrival is that of its last byte.
    """
    reader = ChunkReader()
    whole = chunk(b"Hi")
    reader.push(Read(whole[:-1], 1))
    assert reader.take() is None

    reader.push(Read(whole[-1:], 2))
    _, arrived_ns, coalesced = reader.take()

    assert (2, False, 1) == (arrived_ns, coalesced, reader.first_byte_ns)


@pytest.mark.parametrize(
    ("expected", "read_"),
    [
        ([True, False], Read(chunk(b"a") + chunk(b"b"), 1)),
        ([True, True], Read(chunk(b"a") + chunk(b"b") + b"data", 1)),
        ([True, True], Read(chunk(b"a") + chunk(b"b") + b": ping\n\n", 1)),
        ([True, True], Read(chunk(b"a") + chunk(b"b"), 1, merged=True)),
    ],
)
def test_events_before_the_end_of_a_read_are_coalesced(expected, read_):
    """
    They may have come earlier, and waited.
    """
    reader = ChunkReader()
    reader.push(read_)

    assert expected == [reader.take()[2] for _ in expected]


@pytest.mark.parametrize("kind", [b"ping", b"done", b"heartbeat"])
def test_other_kinds_of_events_may_hold_anything(kind):
    """
    Only a message must be a chunk.
    """
    chunks, done, error, _ = read(b"event: %b\ndata: 12 ok\n\n" % kind + chunk(b"Hi"), b"")

    assert (1, False, None) == (len(chunks), done, error)


def test_a_message_that_is_no_json_is_refused():
    assert DecodeError is read(b"data: 12 ok\n\n")[2]


@pytest.mark.parametrize("line", [b'error: {"message": "no memory"}', b'{"error": "no memory"}'])
@pytest.mark.parametrize("end", [b"\n\n", b""])
def test_an_error_without_data_is_an_error(line, end):
    """
    llama.cpp has a field of its own for it, proxies write plain JSON.
    """
    chunks, _, error, message = read(chunk(b"Hi"), line + end)

    assert (1, UpstreamError) == (len(chunks), error)
    assert "no memory" in message


def test_an_error_beside_the_chunk_is_an_error():
    """
    Groq's way, after which it says ``[DONE]`` as if all were well.
    """
    body = chunk(b"Hi") + b'data: {"choices": [], "x_groq": {"error": "over capacity"}}\n\n'

    chunks, _, error, message = read(body + b"data: [DONE]\n\n")

    assert (1, UpstreamError) == (len(chunks), error)
    assert "over capacity" in message


def test_what_was_whole_before_an_endless_event_is_kept():
    chunks, _, error, _ = read(chunk(b"Hi") + b"data: " + b"x" * 500, limit=300)

    assert (1, EventTooLargeError) == (len(chunks), error)


def test_what_comes_after_done_is_nothing_even_without_end():
    """
    In the same read as in one of its own.
    """
    whole = chunk(b"Hi") + b"data: [DONE]\n\n"
    flood = b"data: " + b"x" * 500

    assert read(whole, flood, limit=300) == read(whole + flood, limit=300)
    assert (True, None) == read(whole + flood, limit=300)[1:3]


def test_a_response_may_have_a_limit():
    """
    What was whole within it is kept, whatever the cuts.
    """
    first, second = chunk(b"a"), chunk(b"b")
    for step in (1, 7, 1000):
        reader = ChunkReader(max_response_size=len(first) + 5)
        stream = first + second
        for at in range(0, len(stream), step):
            reader.push(Read(stream[at : at + step], at))

        assert "a" == reader.take()[0].choices[0].delta.content
        with pytest.raises(ResponseTooLargeError):
            reader.take()


def test_a_response_may_be_as_large_as_its_limit():
    reader = ChunkReader(max_response_size=len(chunk(b"a")))
    reader.push(Read(chunk(b"a"), 1))

    assert reader.take() is not None
    assert reader.take() is None


@pytest.mark.parametrize("step", [1, 300, 1024, 5000])
def test_the_last_bytes_are_kept(step):
    reader = ChunkReader()
    stream = b"".join(chunk(b"%d" % n) for n in range(50))
    for at in range(0, len(stream), step):
        reader.push(Read(stream[at : at + step], at))

    assert stream[-1024:] == reader.tail


def test_a_page_is_not_read_to_its_end():
    """
    64 KiB tell enough.
    """
    reader = ChunkReader()
    for at in range(100):
        reader.push(Read(b"<p>" * 1000, at))
        if reader.ended:
            break

    assert MAX_DOCUMENT // 3000 + 1 == at + 1
