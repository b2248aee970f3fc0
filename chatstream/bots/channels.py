"""From an answer to the next write that makes a chat show it, for each kind of sink.

A channel is asked what to write, over and over: the answer is always the newest, so
nothing piles up, and what failed is simply asked for again, with what came meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from chatstream.bots.answer import Answer
from chatstream.bots.pacing import PATIENCE
from chatstream.bots.sink import DraftSink, EditSink, Sink, StreamSink
from chatstream.bots.splitting import Cut
from chatstream.bots.waiting import EARLY

Write = Callable[[], Awaitable[None]]
"""Makes one call of a sink and notes that it was accepted. Raises ``SinkError``."""


class Channel(Protocol):
    """The messages of one answer in one chat."""

    messages: list[Any]
    """What the sink named them, in order."""
    updates: int
    """Writes that changed a message or a draft."""

    def next(self, answer: Answer) -> Write | None:
        """Return the next write; ``None`` if the chat shows *answer* as it is now."""

    def expired(self, answer: Answer) -> None:
        """Note that the message under way takes no more: go on in a new one."""

    idle: float | None
    """Seconds without anything new after which it wants to be told; ``None`` if never."""

    def idled(self, answer: Answer) -> None:
        """Note that nothing came for a while; there may be something to write for that."""


def channel_to(sink: Sink) -> Channel:
    """Return the channel for a sink of whatever kind."""
    if isinstance(sink, StreamSink):
        return StreamChannel(sink)
    if isinstance(sink, DraftSink):
        return DraftChannel(sink)
    return EditChannel(sink)


class EditChannel:
    """Sends a message, and edits it until its part is closed."""

    idle: float | None = None

    def __init__(self, sink: EditSink) -> None:
        self._sink = sink
        self.messages: list[Any] = []
        self.updates = 0
        self._shown = ""  # by the message under way
        self._cut: Cut | None = None  # the last place that it shows for sure

    def next(self, answer: Answer) -> Write | None:
        """Return what shows the oldest part that isn't shown whole."""
        while answer.closed:
            text = answer.closed[0].text
            if text != self._shown:
                return lambda: self._close(answer, text)
            self._leave(answer)
        text, cut = answer.shown, answer.open.last_boundary
        return None if text in {"", self._shown} else lambda: self._write(text, cut)

    async def _close(self, answer: Answer, text: str) -> None:
        await self._write(text, None)
        self._leave(answer)

    def _leave(self, answer: Answer) -> None:
        answer.closed.popleft()
        self._shown, self._cut = "", None

    async def _write(self, text: str, cut: Cut | None) -> None:
        if self._shown:
            await self._sink.edit(self.messages[-1], text)
            self.updates += 1
        else:
            self.messages.append(await self._sink.send(text))
        self._shown, self._cut = text, cut

    def expired(self, answer: Answer) -> None:
        """Leave the message as it is; what it doesn't show goes into another."""
        if self._cut is not None:
            answer.resume(self._cut)
        self._shown, self._cut = "", None

    def idled(self, answer: Answer) -> None:
        """Do nothing: all there is is shown."""


class DraftChannel:
    """Shows the open part as a draft, and sends the closed ones."""

    def __init__(self, sink: DraftSink) -> None:
        self._sink = sink
        lasts = sink.limits.draft
        self.idle = None if lasts is None else lasts * EARLY
        self.messages: list[Any] = []
        self.updates = 0
        self._drafted = ""

    def next(self, answer: Answer) -> Write | None:
        """Return the message that is due, or else the draft."""
        if answer.closed:
            return lambda: self._send(answer)
        text = answer.shown
        return None if text in {"", self._drafted} else lambda: self._draft(text)

    async def _send(self, answer: Answer) -> None:
        self.messages.append(await self._sink.send(answer.closed[0].text))
        answer.closed.popleft()
        self._drafted = ""

    async def _draft(self, text: str) -> None:
        await self._sink.draft(text)
        self._drafted = text
        self.updates += 1

    def expired(self, answer: Answer) -> None:  # noqa: ARG002 nothing stays of a draft
        """Draw another draft."""
        self._drafted = ""

    def idled(self, answer: Answer) -> None:  # noqa: ARG002
        """Draw the draft again before it goes out."""
        self._drafted = ""


class StreamChannel:
    """Appends what is settled to an open message, and closes it with its part."""

    def __init__(self, sink: StreamSink) -> None:
        self._sink = sink
        self.idle: float | None = max(PATIENCE * sink.limits.interval, 1.0)
        self.messages: list[Any] = []
        self.updates = 0
        self._open = False
        self._written = ""  # of the part under way
        self._cut: Cut | None = None  # where that ends

    def next(self, answer: Answer) -> Write | None:
        """Return what appends to the oldest part that isn't whole, or closes it."""
        while answer.closed:
            text = answer.closed[0].text
            if self._open:
                return lambda: self._stop(answer, text[len(self._written) :])
            if text != self._written:
                return lambda: self._append(text, None)
            answer.closed.popleft()
            self._written = ""
        text, cut = answer.open.settle(), answer.open.settled
        return None if text == self._written else lambda: self._append(text, cut)

    async def _append(self, text: str, cut: Cut | None) -> None:
        if self._open:
            await self._sink.append(self.messages[-1], text[len(self._written) :])
            self.updates += 1
        else:
            self.messages.append(await self._sink.start(text))
            self._open = True
        self._written, self._cut = text, cut

    async def _stop(self, answer: Answer, text: str) -> None:
        await self._sink.stop(self.messages[-1], text)
        self.updates += 1
        answer.closed.popleft()
        self._open, self._written, self._cut = False, "", None

    def expired(self, answer: Answer) -> None:
        """Leave the message to the platform; what it lacks goes into another."""
        self._open = False
        if self._cut is not None:  # else the message has its whole part, or doesn't exist
            answer.resume(self._cut)
            self._written = ""
        self._cut = None

    def idled(self, answer: Answer) -> None:
        """Show the last word, too: who reads it knows nothing of words to come."""
        answer.settle()
