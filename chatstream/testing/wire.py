"""HTTP/1.1 (RFC 9112) requests out of bytes.

As much of it as a chat server needs: keep-alive, pipelining, bodies by length
or in chunks. Framing that two servers could read differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus

from attrs import frozen

MOST_HEAD_BYTES = 64 * 1024
MOST_BODY_BYTES = 64 * 1024 * 1024
_MOST_LINE_BYTES = 1024

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS = re.compile(r"[0-9]{1,18}")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")


class WireError(Exception):
    """Bytes that can't be answered but with *status*, after which the connection closes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class Headers(Mapping[str, str]):
    """Headers whatever their case; what came several times is joined by ``", "``."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterator[tuple[str, str]]) -> None:
        values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            values[key] = f"{values[key]}, {value}" if key in values else value
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._values)})"


@frozen(eq=False)
class Head:
    """All of a request but its body."""

    method: str
    path: str
    query: str
    headers: Headers
    keep_alive: bool
    old: bool
    """HTTP/1.0: knows no chunks."""

    length: int | None
    """Bytes of the body; ``None`` if it comes in chunks."""

    expects_continue: bool


@frozen(eq=False)
class Request:
    """One whole request."""

    head: Head
    body: bytes


class RequestReader:
    """Cuts what was read into requests.

    ``feed`` it, then call ``take`` until it gives ``None``.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._head: Head | None = None
        self._hesitant = False
        self._chunks = bytearray()
        self._left = 0  # of the chunk that is coming, with its CRLF
        self._trailers = False

    @property
    def buffered(self) -> int:
        """Bytes that wait."""
        return len(self._buffer)

    def wants_continue(self) -> bool:
        """Whether the client holds its body back until told to go on; true once a request."""
        wants = self._hesitant and not self._buffer
        self._hesitant = False
        return wants

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        self._buffer += data

    def take(self) -> Request | None:
        """Take the next request that is whole; ``WireError`` if there can't be one."""
        head = self._head
        if head is None:
            head = self._take_head()
            if head is None:
                return None
            self._head = head
            self._hesitant = head.expects_continue
        body = self._take_chunks() if head.length is None else self._take_length(head.length)
        if body is None:
            return None
        self._head = None
        return Request(head, body)

    def _take_head(self) -> Head | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # 2.2: before a request line
            del buffer[:2]
            self._scanned = 0
        end = buffer.find(b"\r\n\r\n", max(self._scanned - 3, 0))
        if (end if end >= 0 else len(buffer)) > MOST_HEAD_BYTES:
            raise WireError(431, f"Request head is larger than {MOST_HEAD_BYTES} bytes.")
        if end < 0:
            self._scanned = len(buffer)
            return None
        head = _read_head(bytes(buffer[:end]))
        del buffer[: end + 4]
        self._scanned = 0
        return head

    def _take_length(self, length: int) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < length:
            return None
        body = bytes(buffer[:length])
        del buffer[:length]
        return body

    def _take_chunks(self) -> bytes | None:
        while (self._left == 0 or self._take_chunk()) and (line := self._take_line()) is not None:
            if not self._trailers:
                self._left = self._read_size(line)
                self._trailers = self._left == 0
            elif not line:
                self._trailers = False
                body = bytes(self._chunks)
                self._chunks.clear()
                return body
        return None

    def _take_chunk(self) -> bool:
        """Take the chunk that was announced, if it is there."""
        buffer, end = self._buffer, self._left
        if len(buffer) < end:
            return False
        if buffer[end - 2 : end] != b"\r\n":
            raise WireError(400, "A chunk doesn't end where it said.")
        self._chunks += buffer[: end - 2]
        del buffer[:end]
        self._left = 0
        return True

    def _take_line(self) -> bytes | None:
        """Take a line between chunks: a size, a trailer."""
        buffer = self._buffer
        end = buffer.find(b"\r\n", 0, _MOST_LINE_BYTES)
        if end < 0:
            if len(buffer) >= _MOST_LINE_BYTES:
                raise WireError(400, "A chunk's size line is too long.")
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line

    def _read_size(self, line: bytes) -> int:
        """Read how many bytes come now, with the CRLF after them; 0 after the last."""
        size = line.partition(b";")[0].strip(b" \t")
        if not _HEX.fullmatch(size):
            raise WireError(400, "A chunk's size isn't a hexadecimal number.")
        length = int(size, 16)
        if len(self._chunks) + length > MOST_BODY_BYTES:
            raise _too_large()
        return length + 2 if length else 0


# Clients send the same head again and again.
@lru_cache(maxsize=256)
def _read_head(data: bytes) -> Head:
    lines = data.decode("latin-1").split("\r\n")
    method, path, query, version = _read_request_line(lines[0])
    headers = Headers(map(_read_field, lines[1:]))
    old = version == "HTTP/1.0"
    if not old and "host" not in headers:
        raise WireError(400, "HTTP/1.1 needs a host header.")
    connection = {word.strip() for word in headers.get("connection", "").lower().split(",")}
    keep_alive = "keep-alive" in connection if old else "close" not in connection
    return Head(
        method=method,
        path=path,
        query=query,
        headers=headers,
        keep_alive=keep_alive,
        old=old,
        length=_read_length(headers),
        expects_continue=headers.get("expect", "").lower() == "100-continue" and not old,
    )


def _read_request_line(line: str) -> tuple[str, str, str, str]:
    method, _, rest = line.partition(" ")
    target, _, version = rest.partition(" ")
    if not _NAME.fullmatch(method) or not target or not version.startswith("HTTP/"):
        raise WireError(400, "Not an HTTP request.")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise WireError(505, f"{version[:20]} isn't spoken here.")
    if "://" in target and not target.startswith("/"):  # 3.2.2: as sent to a proxy
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    return method, path, query, version


def _read_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _NAME.fullmatch(name) or "\0" in value or "\n" in value or "\r" in value:
        raise WireError(400, "A header can't be read.")
    return name, value.strip(" \t")


def _read_length(headers: Headers) -> int | None:
    length = headers.get("content-length")
    if (coding := headers.get("transfer-encoding")) is not None:
        if length is not None:  # 6.1: a way to smuggle requests
            raise WireError(400, "Both content-length and transfer-encoding.")
        if coding.lower() != "chunked":
            raise WireError(501, "The only transfer-encoding known here is chunked.")
        return None
    if length is None:
        return 0
    if not _DIGITS.fullmatch(length):
        raise WireError(400, "content-length isn't a number.")
    if int(length) > MOST_BODY_BYTES:
        raise _too_large()
    return int(length)


def _too_large() -> WireError:
    return WireError(413, f"Request body is larger than {MOST_BODY_BYTES} bytes.")


def render_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Render the head of a response."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {reason}\r\n{fields}\r\n".encode("latin-1")
