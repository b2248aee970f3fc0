"""Reads of one body in, chunks with their arrivals out.

Pure: whoever reads the body pushes what came, and takes the chunks until there
are none left. An error waits until the chunks before it have been taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatstream import codec
from chatstream.arrival import Read
from chatstream.completion import ChatCompletionChunk
from chatstream.errors import (
    ChatStreamError,
    EventTooLargeError,
    ProtocolError,
    ResponseTooLargeError,
)
from chatstream.response import (
    MAX_DOCUMENT,
    ResponseInfo,
    document_error,
    looks_like_document,
)
from chatstream.sse import DEFAULT_MAX_EVENT_SIZE, ServerSentEvent, SSEParser

Arrived = tuple[ChatCompletionChunk, int, bool]
"""A chunk, its arrival in nanoseconds, and whether it was coalesced.

A bare tuple: a stream makes thousands a second, and a named one costs five times
as much.
"""


TAIL_BYTES = 1024
"""So many bytes an error shows of where the body ended."""


class ChunkReader:
    """Reads the body of one response as a stream of chunks."""

    def __init__(
        self,
        *,
        max_event_size: int = DEFAULT_MAX_EVENT_SIZE,
        max_response_size: int | None = None,
    ) -> None:
        self.done = False
        """Whether the stream said ``[DONE]``."""
        self.ended = False
        """Whether nothing more will be read: ``[DONE]`` or the end of the body came."""
        self.first_byte_ns: int | None = None
        self.tail = b""
        """The last bytes of the body, at most ``TAIL_BYTES``."""
        self._limit = max_response_size
        self._room = max_response_size or 0  # bytes that may still come
        self._parser = SSEParser(max_event_size=max_event_size)
        self._decoder = codec.ChunkDecoder()
        # A list, because an empty deque takes 600 bytes of each stream.
        self._reads: list[Iterator[Arrived]] = []
        self._failure: ChatStreamError | None = None
        self._head: bytearray | None = bytearray()  # of a body that has had no event yet

    @property
    def comments(self) -> int:
        """Comment lines seen so far."""
        return self._parser.comments

    def push(self, read: Read) -> None:
        """Take the bytes of one read."""
        data, at, merged = read
        if self._limit is not None:
            if len(data) > self._room:
                data = data[: self._room]
                self._failure = ResponseTooLargeError(self._limit)
            self._room -= len(data)
        if self.first_byte_ns is None:
            self.first_byte_ns = at
        self.tail = (self.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        if self._head is not None:
            # Bounded: before the first event there may be hours of comments.
            self._head += data[: MAX_DOCUMENT - len(self._head)]
            if looks_like_document(self._head):
                self.ended = len(self._head) == MAX_DOCUMENT
                return
        parser = self._parser
        try:
            events = parser.feed(data)
        except EventTooLargeError as error:
            events = error.events
            self._failure = error
        for before, line in reversed(parser.unknown_fields):
            if line.startswith(_BARE_ERRORS):
                events.insert(before, ServerSentEvent("error", _bare_error(line)))
        if events:
            self._head = None
            # All but the last of the events in a read may have come earlier and
            # waited; the last one too if more bytes came after it.
            last = None if merged or parser.trailing else events[-1]
            self._reads.append(self._chunks(events, last, at))

    def push_end(self, info: ResponseInfo) -> None:
        """Note the end of the body, and what it left behind."""
        self.ended = True
        left = self._parser.finish()
        if left.startswith(_BARE_ERRORS):
            self._failure = codec.read_error(_error_object(_bare_error(left)), is_error=True)
        elif left.replace(b" ", b"").strip() == b"data:[DONE]":
            self.done = True
        elif self._head is not None:  # no event ever came
            cut = left.startswith((b"data:", b"event:", b"id:", b"retry:"))
            if not cut and not self._parser.comments:
                self._failure = document_error(info, bytes(self._head))

    def break_off(self, error: ChatStreamError) -> None:
        """Let *error* follow the chunks that are there."""
        self._failure = self._failure or error

    def take(self) -> Arrived | None:
        """Return the next chunk, ``None`` if there is none yet.

        Raises ``ProtocolError`` for what can't be read, ``UpstreamError`` for an
        error the server reported, what :meth:`break_off` was given; each after the
        chunks before it.
        """
        reads = self._reads
        while reads:
            for arrived in reads[0]:
                return arrived
            if reads:  # else the stream said that it is done
                del reads[0]
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return None

    def _chunks(
        self, events: list[ServerSentEvent], last: ServerSentEvent | None, arrived_ns: int
    ) -> Iterator[Arrived]:
        """Yield the chunks of one read, of which *last* ended with it."""
        decoder = self._decoder
        repeated = decoder.repeated
        for event in events:
            data, kind = event.data, event.event
            if kind == "message" and (chunk := repeated(data)) is not None:
                yield chunk, arrived_ns, event is not last
                continue
            if data[:1] != "{":
                text = data.strip()
                if not text:
                    continue
                if text == "[DONE]":
                    self.done = self.ended = True
                    self._reads.clear()
                    if isinstance(self._failure, EventTooLargeError | ResponseTooLargeError):
                        self._failure = None  # what came after it in the same read doesn't count
                    return
                if kind not in {"message", "error"} and not text.startswith("{"):
                    continue  # a server's own kind of event, such as a ping
            is_error = kind == "error"
            raw = _error_object(data) if is_error else codec.load_object(data)
            if is_error or "error" in raw or "x_groq" in raw or raw.get("object") == "error":
                error = codec.read_error(raw, is_error=is_error)
                if error is not None:
                    self._failure = error
                    self._reads.clear()
                    if not raw.get("choices"):
                        return
            yield decoder.decode(data, raw), arrived_ns, event is not last


_BARE_ERRORS = (b"error:", b'{"error"')
"""llama.cpp's way, and that of proxies which end a stream with plain JSON."""


def _bare_error(line: bytes) -> str:
    return line.removeprefix(b"error:").decode("utf-8", "replace")


def _error_object(data: str) -> dict[str, Any]:
    """Read what a server marked as an error, even if it is plain text."""
    try:
        return codec.load_object(data)
    except ProtocolError:
        return {"message": data}
