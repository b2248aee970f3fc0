"""What a chat platform offers to an answer that grows in it.

A sink speaks to one chat. It is small: it passes text on and tells in the errors
below what the platform said; when to write and what is :class:`LiveMessage`'s
business. There are three kinds, after what platforms have:

- :class:`EditSink` sends a message and edits it (Discord; Telegram's groups);
- :class:`DraftSink` shows a passing draft and sends what is whole (Telegram's private chats);
- :class:`StreamSink` appends to a message that is open, and closes it (Slack).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from attrs import frozen

if TYPE_CHECKING:
    from chatstream.bots.live import Delivered


@frozen(kw_only=True)
class Limits:
    """What a platform allows in one chat."""

    length: int
    """The most that one message may hold, as ``measure`` counts."""
    measure: Callable[[str], int] = len
    """How long a text is to the platform; that of two together is the sum of theirs."""
    interval: float
    """Seconds from one write to the next that the platform bears for long."""
    typing: float | None
    """Seconds after which a typing indicator goes out; ``None`` without one."""
    draft: float | None = None
    """Seconds after which a draft that isn't drawn again goes out; ``None`` if it stays."""


class _Sink(Protocol):
    @property
    def limits(self) -> Limits:
        """What the platform allows."""

    async def typing(self) -> None:
        """Show that an answer is being written, for ``limits.typing`` seconds."""


@runtime_checkable
class EditSink(_Sink, Protocol):
    """Sends messages, and replaces their text."""

    async def send(self, text: str) -> Any:
        """Send a message; return what :meth:`edit` needs to find it again."""

    async def edit(self, message: Any, text: str) -> None:
        """Replace the text of *message*."""


@runtime_checkable
class DraftSink(_Sink, Protocol):
    """Shows a draft that goes out by itself, and sends messages for good."""

    async def draft(self, text: str) -> None:
        """Show *text* as what is being written, in place of the draft before."""

    async def send(self, text: str) -> Any:
        """Send a message in place of the draft."""


@runtime_checkable
class StreamSink(_Sink, Protocol):
    """Opens messages, appends to them and closes them; what was written stays."""

    async def start(self, text: str) -> Any:
        """Open a message that begins with *text*; return what names it."""

    async def append(self, message: Any, text: str) -> None:
        """Append *text*."""

    async def stop(self, message: Any, text: str) -> None:
        """Append *text*, which may be empty, and close the message."""


Sink: TypeAlias = EditSink | DraftSink | StreamSink


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units, as Telegram and Discord count."""
    return len(text) + sum(character > "\uffff" for character in text)


class SinkError(Exception):
    """The platform refused for good: the chat is gone, the bot was blocked, the key is wrong."""

    delivered: Delivered | None = None
    """What the chat shows, filled in when the error leaves :class:`LiveMessage`."""


class FloodError(SinkError):
    """Too many writes: the platform wants none for ``retry_after`` seconds, if it says so."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        if self.retry_after is None:
            return "too many writes"
        return f"too many writes, none for {self.retry_after:g} s"


class UnreachableError(SinkError):
    """The platform couldn't be reached or failed; the same write may do later."""


class ExpiredError(SinkError):
    """The message can't be written to any more; a new one can."""
