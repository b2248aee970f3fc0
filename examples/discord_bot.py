"""A Discord bot whose answers grow while the model writes them, and can be stopped.

OPENAI_API_KEY=… DISCORD_TOKEN=… python examples/discord_bot.py gpt-4o-mini
python -m examples.simulate discord                         # without accounts, from a clone

Mention it in a channel, or write to it. Needs chatstream-sdk[discord].
"""

import asyncio
import contextlib
import logging
import os
import sys
from typing import Any

import discord

from chatstream import ChatSession
from chatstream.bots import LiveMessage, SinkError
from chatstream.bots.conversation import Conversation, Conversations
from chatstream.bots.discord import DiscordSink

log = logging.getLogger(__name__)


class StopButton(discord.ui.View):
    """A button under an answer, for as long as it grows."""

    live: LiveMessage

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @discord.ui.button(label="Stop")
    async def pressed(
        self, interaction: discord.Interaction[Any], _: discord.ui.Button[Any]
    ) -> None:
        """Stop."""
        await interaction.response.defer()
        await self.live.stop()


class ChatBot(discord.Client):
    """Answers those who speak to it."""

    def __init__(self, session: ChatSession, model: str) -> None:
        super().__init__(intents=discord.Intents.default())
        self.session = session
        self.model = model
        self.conversations: Conversations[int] = Conversations(
            lambda: Conversation(system="Be helpful and brief.", max_messages=20)
        )

    async def on_message(self, message: discord.Message) -> None:
        """Answer, when what came before in this channel is answered."""
        direct = message.guild is None
        if message.author == self.user or not (direct or self.user in message.mentions):
            return
        async with self.conversations[message.channel.id].turn(message.content) as turn:
            stream = self.session.stream(model=self.model, messages=turn.messages)
            turn.answer(stream)
            button = StopButton()
            live = button.live = LiveMessage(
                DiscordSink(message.channel, reply_to=message, view=button),
                thinking="*Thinking …*",
            )
            try:
                delivered = await live.show(stream)
                log.info("%s %s", delivered.verdict, delivered.error or "")
            except SinkError as error:  # no permission, perhaps
                log.warning("channel %s: %s", message.channel.id, error)
            finally:
                button.stop()
            for each in delivered.messages:
                with contextlib.suppress(discord.HTTPException):
                    await each.edit(view=None)


async def main() -> None:
    """Answer until interrupted."""
    discord.utils.setup_logging()
    async with ChatSession() as session, ChatBot(session, sys.argv[1]) as bot:
        await bot.start(os.environ["DISCORD_TOKEN"])


if __name__ == "__main__":
    asyncio.run(main())
