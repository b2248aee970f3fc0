"""Telegram, by aiogram.

::

    live = LiveMessage(TelegramSink(bot, message.chat.id, reply_to=message.message_id))
    delivered = await live.show(session.stream(model=…, messages=…))

In private chats an answer grows as a draft and is then sent; elsewhere, and where
Telegram takes no draft, a message is sent and edited. Markdown is told as entities: what
a model writes can't break a message. Telegram shows ``@name`` as a link and tells that
person, as with anybody's message; it has no way to mention all.

To share connections with the bot, ``ChatSession(http=await bot.session.create_session())``,
inside a coroutine. Arrivals are stamped by the reader then, and aiogram allows 100
connections at a time; figures and crowds want a session of their own.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from chatstream.bots.formatting import Span, format_markdown
from chatstream.bots.sink import (
    ExpiredError,
    FloodError,
    Limits,
    SinkError,
    UnreachableError,
    utf16_length,
)

try:
    from aiogram import Bot
    from aiogram.exceptions import (
        AiogramError,
        ClientDecodeError,
        TelegramBadRequest,
        TelegramMigrateToChat,
        TelegramNetworkError,
        TelegramNotFound,
        TelegramRetryAfter,
        TelegramServerError,
    )
    from aiogram.methods import EditMessageText, SendMessage, SendMessageDraft, TelegramMethod
    from aiogram.types import (
        InlineKeyboardMarkup,
        LinkPreviewOptions,
        Message,
        MessageEntity,
        ReplyParameters,
    )
except ImportError as error:
    _msg = "Telegram needs aiogram: pip install 'chatstream-sdk[telegram]'"
    raise ImportError(_msg) from error

T = TypeVar("T")

LENGTH = 4096
"""UTF-16 code units that a message may have, without its markup."""

MOST_ENTITIES = 100
"""Of those that a message has beyond them, Telegram shows nothing."""

PRIVATE_INTERVAL = 1.0
"""Telegram's FAQ: in one chat avoid more than one message a second."""

GROUP_INTERVAL = 3.0
"""The same: 20 messages a minute in one group; edits count."""

_GONE = ("message to edit not found", "message can't be edited", "message_id_invalid")
# They'd come and go while the text grows.
_NO_PREVIEW: Final = LinkPreviewOptions(is_disabled=True)


class TelegramSink:
    """A chat of Telegram's, for one answer at a time.

    *chat_id* is a number, or ``"@channel"``. Only the first message of an answer is a
    reply to the message *reply_to*. *stop_button* is shown under the answer while it
    grows; where that is a draft, Telegram's own stands there in its place: its press is the
    update ``stopped_message_generation``, of which aiogram knows from 3.31.

    ``drafts=False`` sends and edits a message in private chats too, ``True`` tries a draft
    in any chat with a number. If Telegram refuses one, it is a message from then on.
    """

    def __init__(
        self,
        bot: Bot,
        chat_id: int | str,
        *,
        reply_to: int | None = None,
        message_thread_id: int | None = None,
        stop_button: InlineKeyboardMarkup | None = None,
        drafts: bool | None = None,
    ) -> None:
        private = isinstance(chat_id, int) and chat_id > 0
        self._bot = bot
        self._chat_id = chat_id
        self._reply_to = reply_to
        self._thread = message_thread_id
        self._stop_button = stop_button
        self._drafts = private if drafts is None else drafts and isinstance(chat_id, int)
        self._draft_id = _any_id()
        self._growing: Message | None = None  # the message that stands for a draft
        self._limits = Limits(
            length=LENGTH,
            measure=utf16_length,
            interval=PRIVATE_INTERVAL if private else GROUP_INTERVAL,
            typing=5.0,
            draft=30.0 if self._drafts else None,
        )

    @property
    def limits(self) -> Limits:
        """4,096 code units; a write each second in private, every third in groups."""
        return self._limits

    async def typing(self) -> None:
        """Show "typing…" for five seconds."""
        # It comes before an answer's first text. What was left of an answer that broke
        # off isn't the next one's to change.
        self._growing = None
        with self._translating():
            await self._bot.send_chat_action(
                self._chat_id, "typing", message_thread_id=self._thread
            )

    async def draft(self, text: str) -> None:
        """Show *text* as what is being written: as a draft, or in a message."""
        with self._translating():
            if not (self._drafts and await self._drawn(text)):
                self._growing = await self._shown(text, self._stop_button)

    async def send(self, text: str) -> Message:
        """Send a message in place of the draft."""
        with self._translating():
            message = await self._shown(text, None)
        self._growing, self._draft_id = None, _any_id()
        return message

    async def _drawn(self, text: str) -> bool:
        """Draw a draft; false if Telegram takes none."""
        # aiogram from before 3.31 passes on what it doesn't know.
        button = {} if self._stop_button is None else {"can_stop": True, "keep_on_stop": True}
        try:
            await self._call(SendMessageDraft, text, draft_id=self._draft_id, **button)
        except (TelegramBadRequest, TelegramNotFound):
            # A server without the method, a chat or bot that may not. If it's the chat
            # that is wrong, the message tells.
            self._drafts = False
        return self._drafts

    async def _shown(self, text: str, button: InlineKeyboardMarkup | None) -> Message:
        """Let the message that grows show *text*, or send one; its button is *button*."""
        looks: dict[str, Any] = {"reply_markup": button, "link_preview_options": _NO_PREVIEW}
        growing = self._growing
        if growing is None:
            if self._reply_to is not None:
                looks["reply_parameters"] = ReplyParameters(
                    message_id=self._reply_to, allow_sending_without_reply=True
                )
            message = await self._call(SendMessage, text, **looks)
            self._reply_to = None
            return message
        try:
            edited = await self._call(EditMessageText, text, message_id=growing.message_id, **looks)
        except TelegramBadRequest as error:
            if "message is not modified" not in error.message:
                raise
            return growing
        return edited if isinstance(edited, Message) else growing

    async def _call(
        self, method: Callable[..., TelegramMethod[T]], text: str, **arguments: Any
    ) -> T:
        """Call *method* with *text* formatted, or as it is if Telegram can't take that."""
        arguments |= {"chat_id": self._chat_id, "parse_mode": None}  # else the bot's own
        if method is not EditMessageText:
            arguments["message_thread_id"] = self._thread
        formatted = format_markdown(text)
        entities = [_entity(span) for span in formatted.spans[:MOST_ENTITIES]]
        try:
            return await self._bot(method(text=formatted.text, entities=entities, **arguments))
        except TelegramBadRequest as error:
            if "entit" not in error.message.lower():
                raise
        return await self._bot(method(text=text, **arguments))

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        """Raise what a sink raises for what aiogram does."""
        try:
            yield
        except TelegramRetryAfter as error:
            raise FloodError(error.retry_after) from error
        except TelegramMigrateToChat as error:  # a group that grew
            self._chat_id, self._growing = error.migrate_to_chat_id, None
            raise ExpiredError(str(error)) from error
        # A proxy's page in place of JSON is no answer of Telegram's.
        except (TelegramNetworkError, TelegramServerError, ClientDecodeError) as error:
            raise UnreachableError(str(error)) from error
        except AiogramError as error:
            if any(phrase in str(error).lower() for phrase in _GONE):
                self._growing = None
                raise ExpiredError(str(error)) from error
            raise SinkError(str(error)) from error


def _any_id() -> int:
    return 1 + secrets.randbelow(2**31 - 1)


def _entity(span: Span) -> MessageEntity:
    return MessageEntity(
        type=span.kind,
        offset=span.offset,
        length=span.length,
        language=span.language,
        url=span.url,
    )
