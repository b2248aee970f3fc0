"""The bytes of one response, each at its time.

Deadlines are absolute, counted from the moment the request was whole, so a
late write delays nothing after it. asyncio wakes a millisecond or two late,
uvloop up to one early or late; ``sent_ns`` says when a write really was made.
For that to be when it was sent, nothing is written while the connection's
buffer holds anything. (Under TLS, asyncio keeps a second buffer, of 64 KiB,
that can't be seen from here.)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from chatstream.testing.payloads import Script, stamp
from chatstream.testing.profile import Profile

# With no gap between chunks, so much is written before others get their turn.
_BATCH_BYTES = 64 * 1024

Write = Callable[[bytes], None]


class Reply(Protocol):
    """A response under way."""

    def start(self) -> None:
        """Write what is due, arrange the rest."""

    def pause(self) -> None:
        """Write nothing until ``resume``: the client isn't reading."""

    def resume(self) -> None:
        """Go on where ``pause`` stopped it."""

    def cancel(self) -> None:
        """Forget the rest."""


class DelayedReply:
    """A response in one piece, made when it is due."""

    __slots__ = ("_done", "_due", "_loop", "_send", "_timer")

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        due: float,
        send: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._due = due
        self._send = send
        self._done = done
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send it now if it is due, else arrange it."""
        if self._due <= self._loop.time():
            self._finish()
        else:
            self._timer = self._loop.call_at(self._due, self._finish)

    def pause(self) -> None:
        """Do nothing: there is one write."""

    def resume(self) -> None:
        """Do nothing: nothing was held back."""

    def cancel(self) -> None:
        """Forget it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self) -> None:
        self._timer = None
        self._send()
        self._done()


class PacedStream:
    """A stream of events, written as its profile says."""

    __slots__ = (
        "_at",
        "_batch",
        "_chunked",
        "_clock",
        "_done",
        "_due",
        "_end",
        "_framed",
        "_head",
        "_jitter",
        "_last_write",
        "_loop",
        "_paused",
        "_prefix",
        "_profile",
        "_script",
        "_size",
        "_started",
        "_tail",
        "_timer",
        "_until",
        "_write",
    )

    def __init__(
        self,
        script: Script,
        profile: Profile,
        *,
        loop: asyncio.AbstractEventLoop,
        started: float,
        number: int,
        envelope: bytes,
        head: Callable[[], bytes],
        chunked: bool,
        clock: Callable[[], int] | None,
        write: Write,
        done: Callable[[], None],
    ) -> None:
        self._script = script
        self._profile = profile
        self._loop = loop
        self._started = started
        self._head: Callable[[], bytes] | None = head
        self._clock = clock
        self._write = write
        self._done = done
        self._chunked = chunked
        self._framed = chunked and profile.framing == "event"
        self._jitter: random.Random | None = None
        if profile.jitter:
            self._jitter = random.Random(f"{profile.seed} {number}")

        # One event is prefix, part, stamp, tail; each in an HTTP chunk if framed.
        line_end = profile.line_end.encode()
        self._tail = b"}" + line_end * 2
        self._prefix = b"data: " + envelope
        self._size = len(self._prefix) + len(self._tail)
        if clock is not None:
            self._size += len(stamp(0))
        self._end = b"data: [DONE]" + line_end * 2 if profile.include_done else b""
        if self._framed:
            self._tail += b"\r\n"
            self._end = _http_chunk(self._end)
        self._batch = 0
        if not profile.gap:
            self._batch = max(1, _BATCH_BYTES // (self._size + len(script.parts[-1])))

        self._at = 0
        self._until = 0
        self._due = started
        self._last_write = started
        self._paused = False
        self._timer: asyncio.Handle | None = None

    def start(self) -> None:
        """Write what is due, arrange the rest."""
        self._plan()
        now = self._loop.time()
        if self._due <= now:
            self._send_events()
        elif self._started + self._profile.time_to_headers <= now:
            self._send_head()
        else:
            self._wait()

    def pause(self) -> None:
        """Write nothing until ``resume``."""
        self._paused = True
        self.cancel()

    def resume(self) -> None:
        """Go on; what became due meanwhile goes out first, one write each."""
        self._paused = False
        self._wait()

    def cancel(self) -> None:
        """Forget the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self) -> None:
        """Choose where the next write ends, which tells when it is due."""
        script, profile, at = self._script, self._profile, self._at
        total = len(script.parts)
        opening = at < script.opening
        if self._batch:
            early = opening and profile.time_to_role is not None
            until = min(at + self._batch, script.opening if early else total)
        elif at >= script.closing:
            until = total
        else:
            limit = script.opening if opening else script.closing
            until = min(at + profile.events_per_write, limit)
        self._until = until

        slot = script.slots[until - 1]
        first = profile.time_to_first_token
        if slot < 0 and profile.time_to_role is not None:
            due = profile.time_to_role
        elif self._jitter is None:
            due = first + max(slot, 0) * profile.gap
        else:
            # The role must not come after the token it announces.
            off = self._jitter.uniform(-profile.jitter, profile.jitter) if slot > 0 else 0
            due = first + (max(slot, 0) + off) * profile.gap
        self._due = max(self._started + due, self._due)

    def _wait(self) -> None:
        """Arrange the next write."""
        if self._paused or self._timer is not None:
            return
        profile, loop = self._profile, self._loop
        headers = self._started + profile.time_to_headers
        if self._head is not None and headers < self._due:
            self._timer = loop.call_at(headers, self._send_head)
            return
        if profile.keep_alive is not None and self._head is None:
            comment = self._last_write + profile.keep_alive
            if comment < self._due:
                self._timer = loop.call_at(comment, self._send_comment)
                return
        if self._batch and self._due <= loop.time():
            self._timer = loop.call_soon(self._send_events)
        else:
            self._timer = loop.call_at(self._due, self._send_events)

    def _send_head(self) -> None:
        self._timer = None
        self._send(self._take_head())
        self._wait()

    def _send_comment(self) -> None:
        self._timer = None
        comment = f": keep-alive{self._profile.line_end * 2}".encode()
        self._send(_http_chunk(comment) if self._chunked else comment)
        self._wait()

    def _send_events(self) -> None:
        self._timer = None
        parts = self._script.parts[self._at : self._until]
        prefix = self._prefix
        if self._framed:
            size = self._size
            events = [b"%x\r\n%b%b" % (size + len(part), prefix, part) for part in parts]
        else:
            events = [prefix + part for part in parts]
        self._at = self._until
        last = self._at == len(self._script.parts)
        if not last:
            self._plan()

        head = self._take_head()

        # From here to the write there is nothing that could wait.
        tail = self._tail
        if self._clock is not None:
            tail = stamp(self._clock()) + tail
        events.append(b"")
        data = tail.join(events)
        if last:
            data += self._end
        if self._chunked:
            if not self._framed:
                data = _http_chunk(data)
            if last:
                data += b"0\r\n\r\n"
        self._send(head + data)
        if last:
            # A write over TLS may pause and resume us, which plans another one.
            self.cancel()
            self._done()
        else:
            self._wait()

    def _take_head(self) -> bytes:
        head, self._head = self._head, None
        return b"" if head is None else head()

    def _send(self, data: bytes) -> None:
        if self._profile.keep_alive is not None:
            self._last_write = self._loop.time()
        self._write(data)


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
