"""chatstream.testing.wire."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.testing.wire import (
    MOST_BODY_BYTES,
    MOST_HEAD_BYTES,
    RequestReader,
    WireError,
    render_head,
)

PLAIN = b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: t\r\n\r\n"
)
BARE = b"\r\nGET / HTTP/1.1\r\nhost:h\r\n\r\n"


def take_all(*reads):
    reader = RequestReader()
    found = []
    for read in reads:
        reader.feed(read)
        while (request := reader.take()) is not None:
            found.append((request.head.method, request.head.path, request.body))
    return found


@given(cuts=st.sets(st.integers(1, len(PLAIN + CHUNKED + BARE) - 1)))
def test_any_split_gives_the_same_requests(cuts):
    """
    Network reads may end anywhere, and a read may hold several requests.
    """
    data = PLAIN + CHUNKED + BARE
    edges = [0, *sorted(cuts), len(data)]
    reads = [data[a:b] for a, b in pairwise(edges)]

    assert [("POST", "/a", b"hello"), ("POST", "/a", b"hello"), ("GET", "/", b"")] == take_all(
        *reads
    )


def head_of(data):
    reader = RequestReader()
    reader.feed(data)
    return reader.take().head


def test_head_fields():
    head = head_of(PLAIN)

    assert "b=c" == head.query
    assert "h" == head.headers["HOST"]
    assert ["host", "content-length"] == list(head.headers)
    assert 2 == len(head.headers)
    assert "Headers(host, content-length)" == repr(head.headers)
    assert head.keep_alive
    assert not head.old


def test_repeated_headers_are_joined():
    assert "1, 2" == head_of(b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\na: 2\r\n\r\n").headers["a"]


def test_a_proxy_style_target_is_cut_to_its_path():
    assert "/v1/x" == head_of(b"GET http://h:1/v1/x HTTP/1.1\r\nHost: h\r\n\r\n").path


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: TE, Close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_keep_alive_by_version_and_wish(version, connection, keep_alive):
    head = head_of(b"GET / HTTP/" + version + b"\r\nHost: h\r\n" + connection + b"\r\n")

    assert keep_alive is head.keep_alive


def test_continue_is_wanted_once_and_only_before_the_body():
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")

    assert reader.take() is None
    assert reader.wants_continue()
    assert not reader.wants_continue()
    reader.feed(b"ok")
    assert b"ok" == reader.take().body
    assert 0 == reader.buffered


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"nonsense\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GE(T / HTTP/1.1\r\nHost: h\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: h\r\nspace : b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: h\r\nA: \0\r\n\r\n"),
        (505, b"GET / HTTP/3.0\r\nHost: h\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        (
            400,
            b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (501, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n"),
        (413, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY_BYTES + 1)),
        (431, b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"a" * MOST_HEAD_BYTES),
        (431, b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"a" * MOST_HEAD_BYTES + b"\r\n\r\n"),
    ],
)
def test_what_cannot_be_framed_is_refused(status, data):
    with pytest.raises(WireError) as caught:
        take_all(data)

    assert status == caught.value.status


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"x\r\n"),
        (400, b"-1\r\n"),
        (400, b"0x1\r\n"),
        (400, b"\r\n"),
        (400, b"1\r\nabc"),
        (400, b"1" * 2000),
        (413, b"%x\r\n" % (MOST_BODY_BYTES + 1)),
    ],
)
def test_bad_chunks_are_refused(status, body):
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(WireError) as caught:
        take_all(head + body)

    assert status == caught.value.status


def test_response_heads():
    assert b"HTTP/1.1 200 OK\r\na: b\r\n\r\n" == render_head(200, {"a": "b"})
    assert b"HTTP/1.1 529 Unknown\r\n\r\n" == render_head(529, {})
