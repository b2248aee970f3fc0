"""Bytes in, server-sent events out, exact to the WHATWG standard.

The parser is pushed: whoever has bytes calls :meth:`SSEParser.feed` and gets the
events they complete. It never waits for a byte it doesn't need: an event leaves
with the byte that ends it, so the arrival of that byte is the event's arrival.

Work is linear in the input however it is cut, and memory is bounded by
``max_event_size``. Source: HTML Living Standard, "Server-sent events", sections
9.2.5 (parsing) and 9.2.6 (interpreting).
"""

from __future__ import annotations

from attrs import define

from chatstream.errors import EventTooLargeError

DEFAULT_MAX_EVENT_SIZE = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


@define
class ServerSentEvent:
    """One dispatched event.

    ``id`` is the last event id, which lasts until the server changes it.
    ``retry`` is the reconnection time in milliseconds if this event set one.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None


class SSEParser:
    r"""A push parser for one event stream.

    ``max_event_size`` bounds the bytes kept for an event that hasn't ended:
    its data so far and the unfinished line. One more raises
    :class:`~chatstream.errors.EventTooLargeError`, which carries the events
    that were whole before it.

    >>> parser = SSEParser()
    >>> parser.feed(b"data: he")
    []
    >>> parser.feed(b"llo\n\n")
    [ServerSentEvent(event='message', data='hello', id='', retry=None)]
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_event",
        "_id",
        "_line",
        "_retry",
        "comments",
        "max_event_size",
        "trailing",
        "unknown_fields",
    )

    def __init__(self, *, max_event_size: int = DEFAULT_MAX_EVENT_SIZE) -> None:
        self.max_event_size = max_event_size
        self.comments = 0
        """Comment lines seen so far."""
        self.unknown_fields: list[tuple[int, bytes]] = []
        """The lines of the last feed whose fields the standard tells us to ignore.

        Each with the number of events that came before it in that feed. llama.cpp
        reports errors as ``error: {…}``; who needs it finds it here.
        """
        self.trailing = False
        """Whether more than blank lines came after the last event of the last feed."""
        self._line = bytearray()  # an unfinished line
        self._data: bytes | bytearray | None = None  # data lines, joined by LF
        self._event = ""
        self._id = ""
        self._retry: int | None = None
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes of the stream, return the events they complete.

        Raises :class:`~chatstream.errors.EventTooLargeError`.
        """
        # A CR that ends the read ends the line now, so that no event waits for
        # the LF that may follow; that LF is dropped when it comes.
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

        if self.unknown_fields:
            self.unknown_fields = []
        kept = len(self._line) + (0 if self._data is None else len(self._data))
        crowded = kept + len(data) > self.max_event_size
        lines = data.split(b"\n")
        if self._line:
            if len(lines) == 1:
                self._line += data
                self.trailing = True
                self._check_size([])
                return []
            self._line += lines[0]
            lines[0] = bytes(self._line)
            self._line.clear()
        unfinished = lines.pop()
        if lines and self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)

        events: list[ServerSentEvent] = []
        pending = self._data
        stray = False
        for line in lines:
            # A line too long has the same end in one read as in many.
            if crowded and len(line) + len(pending or b"") > self.max_event_size:
                unfinished = line
                break
            if not line:
                if pending is not None:
                    data_text = pending.decode("utf-8", "replace")
                    events.append(
                        ServerSentEvent(self._event or "message", data_text, self._id, self._retry)
                    )
                    pending = None
                    stray = False
                # Without data nothing is dispatched, and the type is forgotten.
                self._event, self._retry = "", None
            elif line[:6] == b"data: ":  # by far the most common of the others
                pending = line[6:] if pending is None else _joined(pending, line[6:])
            elif line.startswith(b"data:") or line == b"data":
                pending = line[5:] if pending is None else _joined(pending, line[5:])
            else:
                self._field(line, len(events))
                stray = True
        self._data = pending
        self._line += unfinished
        self.trailing = stray or pending is not None or bool(unfinished)
        if self.trailing:
            self._check_size(events)
        return events

    def finish(self) -> bytes:
        """Return what was left of an event that never ended, ``b""`` if nothing was.

        The standard discards it. For a chat stream it tells that the stream was
        cut, so it is handed back, as lines, instead.
        """
        left = bytearray()
        if self._event:
            left += b"event: " + self._event.encode() + b"\n"
        if self._data is not None:
            left += b"data: " + bytes(self._data).replace(b"\n", b"\ndata: ") + b"\n"
        left += self._line
        if self._at_start:
            left = left.removeprefix(_BOM)
        self._event, self._retry, self._data = "", None, None
        self._line.clear()
        return bytes(left)

    def _field(self, line: bytes, events_before: int) -> None:
        """Interpret a line that is neither blank nor data."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"":
                self.comments += 1
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"id":
                if b"\0" not in value:
                    self._id = value.decode("utf-8", "replace")
            case b"retry":
                # bytes.isdigit knows ASCII digits only, as the standard wants.
                if value.isdigit() and len(value) <= 18:  # noqa: PLR2004 fits 64 bits
                    self._retry = int(value)
            case _:
                self.unknown_fields.append((events_before, line))

    def _check_size(self, events: list[ServerSentEvent]) -> None:
        size = len(self._line) + (0 if self._data is None else len(self._data))
        if size > self.max_event_size:
            error = EventTooLargeError(size, self.max_event_size)
            error.events = events
            raise error


def _joined(lines: bytes | bytearray, line: bytes) -> bytearray:
    """Add a further line of data; growing in place keeps this linear."""
    if not isinstance(lines, bytearray):
        lines = bytearray(lines)
    lines += b"\n"
    lines += line
    return lines
