"""Sockets that know when their bytes came; that they are true, tests/test_truth.py shows."""

import itertools
import socket

import pytest

from chatstream.sockets import StampedSocket


@pytest.fixture
def pair():
    """A stamped socket, and the one at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = StampedSocket(socket.AF_INET, socket.SOCK_STREAM)
        ours.connect(listening.getsockname())
        theirs, _ = listening.accept()
        with ours, theirs:
            yield ours, theirs


def records(*sizes):
    """TLS records with so many bytes of content."""
    return [b"\x17\x03\x03" + size.to_bytes(2) + b"x" * size for size in sizes]


@pytest.mark.parametrize("step", [1, 3, 4, 5, 7, 64, 1000])
def test_a_read_that_ends_inside_a_tls_record_is_known(pair, step):
    """
    What was whole in it came earlier than its last byte: the stamp is only a bound.
    """
    ours, theirs = pair
    parts = records(1, 40, 0, 300, 7)
    ends = set(itertools.accumulate(map(len, parts)))
    theirs.sendall(b"".join(parts))
    buffer = bytearray(step)
    place = 0
    while place < max(ends):
        place += ours.recv_into(buffer)

        assert (place not in ends) is ours.inside_record


def test_no_more_is_read_at_once_than_is_good(pair, monkeypatch):
    """
    asyncio asks for 256 KiB, and most of the time gets a few hundred bytes.
    """
    ours, _ = pair
    sizes = []
    monkeypatch.setattr(
        StampedSocket,
        "recvmsg",
        lambda _, size, *__: (sizes.append(size), (b"", [], 0, None))[1],
        raising=False,
    )
    ours.recv(1000)
    ours.recv(256 * 1024)

    assert [1000, 64 * 1024] == sizes
