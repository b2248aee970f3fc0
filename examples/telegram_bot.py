"""A Telegram bot whose answers grow while the model writes them, and can be stopped.

OPENAI_API_KEY=… TELEGRAM_TOKEN=… python examples/telegram_bot.py gpt-4o-mini
python -m examples.simulate telegram                        # without accounts, from a clone

Needs chatstream-sdk[telegram], with aiogram 3.31 or newer.
"""

import asyncio
import logging
import os
import sys

from aiogram import Bot, Dispatcher, F, Router
from aiogram.types import (
    CallbackQuery,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
    MessageGenerationStopped,
)

from chatstream import ChatSession
from chatstream.bots import LiveMessage, SinkError
from chatstream.bots.conversation import Conversation, Conversations
from chatstream.bots.telegram import TelegramSink

log = logging.getLogger(__name__)
router = Router()
STOP = InlineKeyboardMarkup(
    inline_keyboard=[[InlineKeyboardButton(text="Stop", callback_data="stop")]]
)
conversations: Conversations[int] = Conversations(
    lambda: Conversation(system="Be helpful and brief.", max_messages=20)
)
answering: dict[int, LiveMessage] = {}
"""By chat."""


@router.message(F.text)
async def asked(message: Message, bot: Bot, session: ChatSession, model: str) -> None:
    """Answer, when what came before in this chat is answered."""
    chat = message.chat.id
    sink = TelegramSink(bot, chat, reply_to=message.message_id, stop_button=STOP)
    async with conversations[chat].turn(message.text or "") as turn:
        stream = session.stream(model=model, messages=turn.messages)
        turn.answer(stream)
        live = answering[chat] = LiveMessage(sink, thinking="Thinking …")
        try:
            delivered = await live.show(stream)
            log.info("%s %s", delivered.verdict, delivered.error or "")
        except SinkError as error:  # the bot was blocked, perhaps
            log.warning("chat %s: %s", chat, error)
        finally:
            del answering[chat]


@router.callback_query(F.data == "stop")
async def pressed(query: CallbackQuery) -> None:
    """Stop: the button under a message."""
    if query.message is not None:
        await stop(query.message.chat.id)
    await query.answer()


@router.stopped_message_generation()
async def pressed_in_draft(stopped: MessageGenerationStopped) -> None:
    """Stop: Telegram's own button, under a draft."""
    await stop(stopped.chat.id)


async def stop(chat: int) -> None:
    """End the answer that is under way in *chat*, if there is one."""
    if chat in answering:
        await answering[chat].stop()


async def main() -> None:
    """Answer whoever writes to the bot."""
    logging.basicConfig(level=logging.INFO)
    bot = Bot(os.environ["TELEGRAM_TOKEN"])
    async with ChatSession() as session:
        dispatcher = Dispatcher(session=session, model=sys.argv[1])
        dispatcher.include_router(router)
        await dispatcher.start_polling(bot)


if __name__ == "__main__":
    asyncio.run(main())
