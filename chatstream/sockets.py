"""Sockets that know when the kernel received their bytes, and sent the last of them.

On Linux ``SO_TIMESTAMPING`` makes the kernel hand out, with the bytes of a read,
when it received the newest of them; on loopback too. asyncio's selector transport
reads through ``recv`` (plain) or ``recv_into`` (TLS) of the socket it was given,
so a subclass sees each read. Other loops and systems bypass these; who uses the
stamps must look whether the bytes it got came through here (``received_bytes``).

Source: Linux, Documentation/networking/timestamping.rst, sections 1.3.1 and 2.1.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from chatstream.marks import NS

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_SO_TIMESTAMPING = 37
_RX_SOFTWARE = 1 << 3
_SOFTWARE = 1 << 4
_TIMESPECS = struct.Struct("@qq")  # the first of three, the software stamp
_CONTROL_BYTES = 128
READ_BYTES = 64 * 1024
"""As much is read at once. asyncio asks for four times as much; a buffer of that size
comes from the system and goes back there for each read, which may take 20 µs."""
_RECORD_HEAD = 5
_TOGETHER_NS = 5_000
"""Two clocks read within this time count as read at once."""


class StampedSocket(socket.socket):
    """A socket that notes when bytes came and went, on ``time.perf_counter_ns``."""

    __slots__ = (
        "_asked_ns",
        "_record_head",
        "_record_left",
        "connected_ns",
        "inside_record",
        "received_bytes",
        "received_ns",
        "sent_ns",
        "stamped",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.received_ns = 0
        """When the kernel had the newest byte of the last read."""
        self.received_bytes = 0
        """Bytes read through this object."""
        self.stamped = False
        """Whether the kernel told it; else it is the time of the read."""
        self.sent_ns: int | None = None
        """When the kernel had taken the last bytes that were written."""
        self._asked_ns = 0  # before the last write
        self._record_head = b""
        self._record_left = 0
        self.inside_record = False
        """Whether the last read ended inside a TLS record."""
        self.connected_ns: int | None = None
        """When the loop learned that the connection was made."""
        self.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RX_SOFTWARE | _SOFTWARE)
        _by_descriptor[self.fileno()] = self

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Read as ``socket.recv`` does, and note when the bytes came."""
        size = min(READ_BYTES, bufsize)
        data, control, _, _ = self.recvmsg(size, _CONTROL_BYTES, flags)
        self._received(len(data), control)
        return data

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Read as ``socket.recv_into`` does, and note when the bytes came."""
        view = memoryview(buffer)
        count, control, _, _ = self.recvmsg_into(
            [view[:nbytes] if nbytes else view], _CONTROL_BYTES, flags
        )
        self._received(count, control)
        self._follow_records(view[:count])
        return count

    def _follow_records(self, data: memoryview) -> None:
        """Note whether *data*, which are TLS, end inside a record (RFC 8446, 5.1)."""
        if self._record_head:
            data = memoryview(self._record_head + data)
        at, end = self._record_left, len(data)
        while end - at >= _RECORD_HEAD:
            at += _RECORD_HEAD + int.from_bytes(data[at + 3 : at + 5])
        self._record_head = bytes(data[at:])
        self._record_left = max(0, at - end)
        self.inside_record = at != end

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Write as ``socket.send`` does, and note when the kernel had it."""
        self._asked_ns = time.perf_counter_ns()
        count = super().send(data, flags)
        self.sent_ns = time.perf_counter_ns()
        return count

    def sendmsg(self, *arguments: Any) -> int:
        """Write as ``socket.sendmsg`` does, and note when the kernel had it."""
        self._asked_ns = time.perf_counter_ns()
        count = super().sendmsg(*arguments)
        self.sent_ns = time.perf_counter_ns()
        return count

    def getsockopt(self, *arguments: Any) -> Any:
        """Look as ``socket.getsockopt`` does; a loop asks for the error when it connects."""
        value = super().getsockopt(*arguments)
        if self.connected_ns is None and arguments[1] == socket.SO_ERROR and value == 0:
            self.connected_ns = time.perf_counter_ns()
        return value

    def _received(self, count: int, control: list[tuple[int, int, bytes]]) -> None:
        self.received_bytes += count
        now = time.perf_counter_ns()
        for level, kind, data in control:
            if kind == _SO_TIMESTAMPING and level == socket.SOL_SOCKET:
                wall = time.time_ns()
                after = time.perf_counter_ns()
                if after - now > _TOGETHER_NS:  # we were interrupted between the clocks
                    wall, after = time.time_ns(), time.perf_counter_ns()
                seconds, nanoseconds = _TIMESPECS.unpack_from(data)
                at = after - wall + seconds * NS + nanoseconds
                # Clamped, because the wall clock that the kernel stamps by may be
                # set while we look. No answer is older than what it answers.
                self.received_ns = min(after, max(self.received_ns, self._asked_ns, at))
                self.stamped = True
                return
        self.received_ns, self.stamped = now, False


_by_descriptor: weakref.WeakValueDictionary[int, StampedSocket] = weakref.WeakValueDictionary()


def stamped_socket(info: tuple[Any, ...]) -> socket.socket:
    """Return a socket for an address, stamped where the system can.

    For the ``socket_factory`` of an ``aiohttp.TCPConnector``.
    """
    family, kind, protocol = info[:3]
    if sys.platform == "linux":
        try:
            return StampedSocket(family=family, type=kind, proto=protocol)
        except OSError:  # a sandbox that knows no such option
            pass
    return socket.socket(family=family, type=kind, proto=protocol)


def stamped_socket_of(transport: Any) -> StampedSocket | None:
    """Return the stamped socket under a transport, ``None`` if there is none."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return None
    descriptor = sock.fileno()
    found = _by_descriptor.get(descriptor)
    return found if found is not None and found.fileno() == descriptor else None
