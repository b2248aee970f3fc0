"""Show answers in chats while they stream: Telegram, Discord, Slack, or what you bring.

::

    from chatstream.bots import LiveMessage
    from chatstream.bots.telegram import TelegramSink

    live = LiveMessage(TelegramSink(bot, chat_id))
    delivered = await live.show(session.stream(model="m", messages=messages))

A sink stands in the module of its platform, whose library is imported there.
"""

from chatstream.bots.conversation import Conversation, Conversations, SupersededError
from chatstream.bots.live import Delivered, LiveMessage
from chatstream.bots.pacing import Pace
from chatstream.bots.sink import (
    DraftSink,
    EditSink,
    ExpiredError,
    FloodError,
    Limits,
    Sink,
    SinkError,
    StreamSink,
    UnreachableError,
    utf16_length,
)
from chatstream.bots.splitting import Part, Splitter, split
from chatstream.bots.words import Words, english

__all__ = [
    "Conversation",
    "Conversations",
    "Delivered",
    "DraftSink",
    "EditSink",
    "ExpiredError",
    "FloodError",
    "Limits",
    "LiveMessage",
    "Pace",
    "Part",
    "Sink",
    "SinkError",
    "Splitter",
    "StreamSink",
    "SupersededError",
    "UnreachableError",
    "Words",
    "english",
    "split",
    "utf16_length",
]
