"""Runs a bot of this folder without accounts: the model is simulated, so is the platform.

python -m examples.simulate telegram                        # or discord, or slack
python -m examples.simulate telegram "Count to 1000" --stop

Prints the newest message whenever it changes. --stop presses the stop button as soon as
there is one. It runs from a clone, where the tests' stand-ins are.
"""

# ruff: noqa: PLC0415, a platform's library is imported when it is asked for
import asyncio
import datetime as dt
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from attrs import frozen

from chatstream import ChatSession
from chatstream.testing import SimulatedServer


@frozen
class Chat:
    """A chat of one person with a bot."""

    site: Any
    texts: Callable[[], list[str]]
    """What the person sees."""
    ask: Callable[[str], Awaitable[None]]
    """Write to the bot, and wait until it has answered."""
    press: Callable[[], Awaitable[None]]
    """Press the stop button."""


@asynccontextmanager
async def telegram(session: ChatSession) -> AsyncIterator[Chat]:
    """Open a private chat."""
    from aiogram import Bot, Dispatcher, types
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer

    from examples import telegram_bot
    from tests.standins.telegram import TelegramStandIn

    person = types.User(id=7, is_bot=False, first_name="Person")
    chat = types.Chat(id=person.id, type="private")
    dispatcher = Dispatcher(session=session, model="simulated")
    dispatcher.include_router(telegram_bot.router)
    async with TelegramStandIn() as site:
        bot = Bot("1:simulated", AiohttpSession(api=TelegramAPIServer.from_base(site.origin)))

        def texts() -> list[str]:
            draft = site.draft(chat.id)
            return site.texts(chat.id) + ([] if draft is None else [draft])

        async def ask(prompt: str) -> None:
            message = types.Message(
                message_id=1, date=dt.datetime.now(dt.UTC), chat=chat, from_user=person, text=prompt
            )
            await dispatcher.feed_update(bot, types.Update(update_id=1, message=message))

        async def press() -> None:
            stopped = types.MessageGenerationStopped(chat=chat, draft_id=site.drawn[chat.id][1])
            update = types.Update(update_id=2, stopped_message_generation=stopped)
            await dispatcher.feed_update(bot, update)

        async with bot:
            yield Chat(site, texts, ask, press)


@asynccontextmanager
async def discord(session: ChatSession) -> AsyncIterator[Chat]:
    """Open a direct message."""
    import discord

    from examples.discord_bot import ChatBot
    from tests.standins.discord import PERSON, DiscordStandIn

    async with DiscordStandIn() as site, ChatBot(session, "simulated") as bot:
        discord.http.Route.BASE = site.api
        await bot.login("simulated")
        state = bot._connection  # noqa: SLF001 into which the gateway would write
        person = {"id": "7", **PERSON}

        async def ask(prompt: str) -> None:
            data = {**site.message("5"), "id": "1", "author": person, "content": prompt}
            channel = bot.get_partial_messageable(5, type=discord.ChannelType.private)
            await bot.on_message(discord.Message(state=state, channel=channel, data=data))

        async def press() -> None:
            message = site.channels["5"][-1]
            button = message["components"][0]["components"][0]
            pressed = {"custom_id": button["custom_id"], "component_type": 2}
            state.parse_interaction_create(
                site.interaction("pressed", "5", 3, data=pressed, message=message)
            )

        yield Chat(site, lambda: site.texts("5"), ask, press)


@asynccontextmanager
async def slack(session: ChatSession) -> AsyncIterator[Chat]:
    """Open a thread in a channel."""
    from slack_sdk.socket_mode.request import SocketModeRequest
    from slack_sdk.web.async_client import AsyncWebClient

    from examples.slack_bot import ChatApp
    from tests.standins.slack import SlackStandIn

    async def acknowledged(_: object) -> None:
        """Take what goes out by the socket."""

    socket: Any = SimpleNamespace(send_socket_mode_response=acknowledged)
    async with SlackStandIn() as site:
        app = ChatApp(AsyncWebClient("xoxb-1", base_url=site.api), session, "simulated")

        async def ask(prompt: str) -> None:
            event = {"type": "app_mention", "channel": "C1", "user": "U1", "ts": "0.1"}
            payload = {"team_id": "T1", "event": {**event, "text": prompt}}
            await app.handle(socket, SocketModeRequest("events_api", "1", payload))

        async def press() -> None:
            payload = {"actions": [{"action_id": "stop"}], "message": {"ts": "1.0"}}
            await app.handle(socket, SocketModeRequest("interactive", "2", payload))

        yield Chat(site, lambda: site.texts("C1"), ask, press)


async def watch(chat: Chat) -> None:
    """Print the newest message whenever it changes."""
    began, seen = time.perf_counter(), [""]
    while True:
        await chat.site.until(lambda: chat.texts()[-1:] not in ([], seen))
        seen[:] = chat.texts()[-1:]
        print(f"{time.perf_counter() - began:4.1f} s  {seen[0]}")


async def press_soon(chat: Chat) -> None:
    """Press the button when something has been shown for a while."""
    await chat.site.until(chat.texts)
    await asyncio.sleep(0.5)
    await chat.press()


async def main(platform: str, prompt: str, *, stop: bool) -> None:
    """Ask the bot, and watch the chat."""
    opened = {"telegram": telegram, "discord": discord, "slack": slack}[platform]
    async with (
        SimulatedServer() as server,
        ChatSession(server.base_url, "none") as session,
        opened(session) as chat,
        asyncio.TaskGroup() as tasks,
    ):
        watching = tasks.create_task(watch(chat))
        if stop:
            tasks.create_task(press_soon(chat))
        await chat.ask(prompt)
        watching.cancel()
        print("\n" + "\n--\n".join(chat.texts()))


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--stop"]
    asyncio.run(main(*[*words, "Count to 100"][:2], stop="--stop" in sys.argv))
