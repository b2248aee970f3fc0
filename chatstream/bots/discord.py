"""Discord, by discord.py.

::

    live = LiveMessage(DiscordSink(message.channel, reply_to=message))
    delivered = await live.show(session.stream(model=…, messages=…))

Discord reads Markdown as models write it. It takes five edits in five seconds in one
channel, from all answers there together; discord.py knows, and *sleeps* in an edit that
would be one too many. A loop that edits with each delta so falls minutes behind. Here one
write is under way at a time, and the next takes the newest text; ``limits.interval`` keeps
below what Discord takes, so that writes are rarely held up at all.

discord.py has no public way to its ``aiohttp.ClientSession``. To share connections give it
yours: ``http = aiohttp.ClientSession(**stamping_session_options())``,
``discord.Client(connector=http.connector, …)`` and ``ChatSession(http=http)``, inside a
coroutine. The client closes the connector when it is closed, so close it last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import aiohttp

from chatstream.bots.sink import (
    ExpiredError,
    FloodError,
    Limits,
    SinkError,
    UnreachableError,
    utf16_length,
)

try:
    import discord
except ImportError as error:
    _msg = "Discord needs discord.py: pip install 'chatstream-sdk[discord]'"
    raise ImportError(_msg) from error

AnyMessage: TypeAlias = discord.Message | discord.PartialMessage

LENGTH = 2000
"""Characters that a message may have; code units here, as not all of Discord agrees."""

INTERVAL = 1.25
"""Seconds: four edits of the five that Discord takes in five, so that one is left for others."""

_TOO_MANY, _FAILED = 429, 500

# Codes from "JSON error codes" in Discord's reference.
_UNKNOWN_MESSAGE = 10008
_TOO_OLD = 30046  # "maximum number of edits to messages older than 1 hour"
_MESSAGE_GONE = {_UNKNOWN_MESSAGE, _TOO_OLD}
_UNKNOWN_WEBHOOK, _UNKNOWN_INTERACTION, _INVALID_TOKEN = 10015, 10062, 50027
_INTERACTION_GONE = {_UNKNOWN_WEBHOOK, _UNKNOWN_INTERACTION, _INVALID_TOKEN}


class DiscordSink:
    """A channel of Discord's, or an interaction, for one answer at a time.

    The first message of an answer is a reply to *reply_to*, *view* is shown under each, for
    a stop button; take it off at the end with ``message.edit(view=None)``. Nobody is
    notified of a mention in an answer, whatever a model was talked into.

    An interaction that wasn't answered yet is deferred. It can be written to for 15 minutes;
    an answer that takes longer goes on in the interaction's channel.
    """

    def __init__(
        self,
        where: discord.abc.Messageable | discord.Interaction[Any],
        *,
        reply_to: AnyMessage | None = None,
        view: discord.ui.View | None = None,
    ) -> None:
        self._where = where
        self._reply_to = reply_to
        self._answering = asyncio.Lock()
        self._view: dict[str, Any] = {} if view is None else {"view": view}
        self._limits = Limits(length=LENGTH, measure=utf16_length, interval=INTERVAL, typing=10.0)

    @property
    def limits(self) -> Limits:
        """2,000 code units; a write each 1.25 seconds."""
        return self._limits

    async def typing(self) -> None:
        """Show "… is typing" for ten seconds, or that the interaction is being answered."""
        with self._translating():
            if isinstance(self._where, discord.Interaction):
                await self._answer(self._where)
            else:
                await self._where.typing()

    async def send(self, text: str) -> discord.Message:
        """Send a message; return it."""
        options = {"allowed_mentions": discord.AllowedMentions.none(), **self._view}
        with self._translating():
            if isinstance(self._where, discord.Interaction):
                await self._answer(self._where)
                return await self._where.followup.send(text, wait=True, **options)
            if self._reply_to is not None:
                options["reference"] = self._reply_to.to_reference(fail_if_not_exists=False)
            message: discord.Message = await self._where.send(text, **options)
            self._reply_to = None
            return message

    async def edit(self, message: discord.Message, text: str) -> None:
        """Replace the text of *message*; its view stays."""
        with self._translating():
            await message.edit(content=text, allowed_mentions=discord.AllowedMentions.none())

    async def _answer(self, interaction: discord.Interaction[Any]) -> None:
        """Defer the interaction, which Discord takes once."""
        async with self._answering:  # by typing() and send() at a time
            if not interaction.response.is_done():
                await interaction.response.defer(thinking=True)

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        """Raise what a sink raises for what discord.py does."""
        try:
            yield
        except discord.RateLimited as error:
            raise FloodError(error.retry_after) from error
        except discord.HTTPException as error:
            raise self._translated(error) from error
        except discord.DiscordException as error:
            raise SinkError(str(error)) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UnreachableError(str(error) or type(error).__name__) from error

    def _translated(self, error: discord.HTTPException) -> SinkError:
        text = str(error)
        if error.code in _INTERACTION_GONE and isinstance(self._where, discord.Interaction):
            channel = self._where.channel
            if not isinstance(channel, discord.abc.Messageable):
                return SinkError(f"{text}; its channel takes no messages")
            self._where = channel
            return ExpiredError(text)
        if error.code in _MESSAGE_GONE:
            return ExpiredError(text)
        if error.status == _TOO_MANY:
            return FloodError(_seconds(error.response.headers.get("Retry-After")))
        if error.status >= _FAILED:
            return UnreachableError(text)
        return SinkError(text)


def _seconds(header: str | None) -> float | None:
    """Return a ``Retry-After``, which discord.py leaves alone if it isn't Discord's own."""
    try:
        return None if header is None else float(header)
    except ValueError:
        return None
