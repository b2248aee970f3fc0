"""The real discord.py against a stand-in for Discord: what a sink does, and whole answers."""

import asyncio
import warnings

import aiohttp
import pytest
from aiohttp import web

from chatstream import Verdict, stamping_session_options
from chatstream.bots import (
    EditSink,
    ExpiredError,
    FloodError,
    SinkError,
    UnreachableError,
)
from tests.outside.answers import ANSWER, HOSTILE, bare, live_with
from tests.standins.discord import LENGTH, TOKEN_LASTS, DiscordStandIn, as_json
from tests.standins.site import Haste, Window, page

pytestmark = pytest.mark.outside

CHANNEL = 5


@pytest.fixture(scope="module")
def discord(outside):
    """The package, which takes sounds apart with what Python is to lose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return outside("discord")


@pytest.fixture
async def platform():
    """Discord, fifty times as fast."""
    async with DiscordStandIn(Haste(50)) as standin:
        yield standin


@pytest.fixture
async def client(discord, platform, monkeypatch):
    """A client that is logged in, without a gateway."""
    monkeypatch.setattr(discord.http.Route, "BASE", platform.api)
    async with discord.Client(intents=discord.Intents(guilds=True)) as client:
        await client.login("token")
        yield client


@pytest.fixture
def channel(client):
    return client.get_partial_messageable(CHANNEL)


@pytest.fixture
def sink_in(discord):
    """Give a function that makes a sink."""
    from chatstream.bots.discord import DiscordSink  # noqa: PLC0415 discord.py may be missing

    return DiscordSink


@pytest.fixture
def interaction(discord, client, channel, platform):
    """Somebody has used a command of the bot's."""
    data = platform.interaction("t", str(CHANNEL))
    interaction = discord.Interaction(data=data, state=client._connection)
    interaction.channel = channel
    return interaction


# --- The sink ------------------------------------------------------------------------


async def test_a_message_is_sent_and_edited(sink_in, channel, platform):
    sink = sink_in(channel)
    await sink.typing()
    message = await sink.send("One")
    await sink.edit(message, "One **two**")

    assert isinstance(sink, EditSink)
    assert ["One **two**"] == platform.texts(CHANNEL)
    assert ["send", "edit"] == platform.calls


async def test_the_first_message_is_the_reply(sink_in, channel, platform):
    sink = sink_in(channel, reply_to=channel.get_partial_message(77))
    await sink.send("One")
    await sink.send("Two")
    first, second = platform.channels[str(CHANNEL)]

    assert "77" == str(first["message_reference"]["message_id"])
    assert "message_reference" not in second


async def test_a_button_stays_through_edits(discord, sink_in, channel, platform):
    """
    It is taken off by who put it on.
    """
    view = discord.ui.View()
    view.add_item(discord.ui.Button(label="Stop"))
    sink = sink_in(channel, view=view)
    message = await sink.send("One")
    await sink.edit(message, "One two")
    buttons = platform.channels[str(CHANNEL)][0]["components"]
    await message.edit(view=None)
    view.stop()

    assert 1 == len(buttons)
    assert [] == platform.channels[str(CHANNEL)][0]["components"]


async def test_nobody_is_notified(sink_in, channel, platform):
    """
    A model can be talked into anything.
    """
    sink = sink_in(channel)
    message = await sink.send(HOSTILE)
    await sink.edit(message, HOSTILE + "!")

    assert [HOSTILE + "!"] == platform.texts(CHANNEL)
    assert [] == platform.pings


async def test_a_mention_would_notify_without_the_sink(channel, platform):
    """
    The stand-in can tell.
    """
    await channel.send("@everyone <@1>")

    assert ["@everyone", "<@1>"] == platform.pings


async def test_a_deleted_message_has_expired(sink_in, channel, platform):
    sink = sink_in(channel)
    message = await sink.send("One")
    platform.channels.clear()
    with pytest.raises(ExpiredError):
        await sink.edit(message, "One two")


async def test_a_closed_channel_is_for_good(sink_in, channel, platform):
    platform.closed.add(str(CHANNEL))
    with pytest.raises(SinkError) as caught:
        await sink_in(channel).send("One")

    assert SinkError is type(caught.value)


async def test_what_may_pass_is_unreachable(sink_in, channel, platform):
    """
    503 is what discord.py doesn't try again by itself. Then nobody is at the port.
    """
    sink = sink_in(channel)
    platform.fail(page(503))
    with pytest.raises(UnreachableError):
        await sink.send("One")
    await platform.__aexit__()
    with pytest.raises(UnreachableError):
        await sink.send("One")


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (None, None), ("soon", None)])
async def test_a_ban_is_a_flood(sink_in, channel, platform, header, seconds):
    """
    What stands before Discord answers with a page, and discord.py gives up at once.
    """
    headers = {} if header is None else {"Retry-After": header}
    platform.fail(lambda: web.Response(status=429, text="error code: 1015", headers=headers))
    with pytest.raises(FloodError) as caught:
        await sink_in(channel).send("One")

    assert seconds == caught.value.retry_after


async def test_a_rest_that_is_longer_than_the_bot_allows_is_a_flood(
    discord, sink_in, channel, platform, client
):
    """
    ``discord.Client(max_ratelimit_timeout=…)``: then discord.py doesn't sleep.
    """
    client.http.max_ratelimit_timeout = 30
    body = {"message": "You are being rate limited.", "retry_after": 99.0, "global": False}
    platform.fail(lambda: as_json(body, status=429, headers={"Via": "1.1 google"}))
    with pytest.raises(FloodError) as caught:
        await sink_in(channel).send("One")

    assert 99.0 == caught.value.retry_after


async def test_what_discord_py_raises_besides_is_for_good(discord, sink_in, channel, monkeypatch):
    async def typing(self):
        raise discord.ClientException("no")

    monkeypatch.setattr(type(channel), "typing", typing)
    with pytest.raises(SinkError):
        await sink_in(channel).typing()


async def test_cancelling_passes(sink_in, channel):
    task = asyncio.create_task(sink_in(channel).send("One"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- Interactions --------------------------------------------------------------------


async def test_an_interaction_is_deferred_and_followed_up(sink_in, interaction, platform):
    sink = sink_in(interaction)
    await sink.typing()
    message = await sink.send("One @everyone")
    await sink.edit(message, "One two @everyone")
    await sink.send("Three")

    assert ["defer", "follow up", "edit follow up", "follow up"] == platform.calls
    assert ["One two @everyone", "Three"] == platform.texts(CHANNEL)
    assert [] == platform.pings


async def test_an_interaction_is_answered_once(sink_in, interaction, platform):
    """
    Typing and the first message may come at the same moment.
    """
    sink = sink_in(interaction)
    await asyncio.gather(sink.typing(), sink.send("One"))

    assert ["defer", "follow up"] == platform.calls


async def test_an_interaction_that_is_over_goes_on_in_its_channel(sink_in, interaction, platform):
    """
    Its token is good for 15 minutes.
    """
    sink = sink_in(interaction)
    message = await sink.send("One")
    platform.interactions["t"] = platform.clock.now - TOKEN_LASTS - 1, str(CHANNEL)
    with pytest.raises(ExpiredError):
        await sink.edit(message, "One two")
    await sink.send("two")

    assert ["One", "two"] == platform.texts(CHANNEL)
    assert "send" == platform.calls[-1]


async def test_an_interaction_without_a_channel_is_over_for_good(sink_in, interaction, platform):
    interaction.channel = None
    platform.interactions.clear()
    with pytest.raises(SinkError) as caught:
        await sink_in(interaction).typing()

    assert SinkError is type(caught.value)


# --- Whole answers -------------------------------------------------------------------


async def test_a_long_answer_arrives_whole(sink_in, channel, platform, model):
    """
    In order, in messages that fit; discord.py never has to hold one up.
    """
    live = live_with(sink_in(channel), platform)
    delivered = await live.show(model.stream(ANSWER))
    texts = platform.texts(CHANNEL)

    assert bare(ANSWER) == bare("\n".join(texts))
    assert (ANSWER, Verdict.FINISHED) == (delivered.text, delivered.verdict)
    assert 0 == delivered.floods == platform.floods
    assert LENGTH >= max(map(len, texts)) > LENGTH // 2
    assert len(texts) == len(delivered.messages)
    assert len(platform.calls) == delivered.updates + len(texts) in range(20, 90)
    assert all(0 == text.count("```") % 2 for text in texts)


async def test_floods_lose_nothing(sink_in, channel, platform, model):
    """
    discord.py sleeps, and LiveMessage has one write under way meanwhile.
    """
    platform.window = Window(1, 6.0, platform.clock)
    delivered = await live_with(sink_in(channel), platform).show(model.stream(ANSWER))

    assert bare(ANSWER) == bare("\n".join(platform.texts(CHANNEL)))
    assert len(platform.calls) - platform.floods == delivered.updates + len(delivered.messages)


async def test_stop_keeps_what_came(sink_in, interaction, platform, model):
    live = live_with(sink_in(interaction), platform)
    showing = asyncio.create_task(live.show(model.stream(ANSWER, gap=0.02)))
    await platform.until(lambda: platform.texts(CHANNEL))
    assert await live.stop()
    delivered = await showing

    assert Verdict.CLOSED == delivered.verdict
    assert 0 < len(delivered.text) < len(ANSWER)
    assert platform.texts(CHANNEL)[-1].endswith("(Stopped.)")


async def test_connections_can_be_shared(discord, sink_in, platform, model, monkeypatch):
    """
    As the module says: through the connector, which the client closes.
    """
    monkeypatch.setattr(discord.http.Route, "BASE", platform.api)
    async with (
        aiohttp.ClientSession(**stamping_session_options()) as http,
        discord.Client(intents=discord.Intents(guilds=True), connector=http.connector) as client,
        model.session(http=http) as session,
    ):
        await client.login("token")
        live = live_with(sink_in(client.get_partial_messageable(CHANNEL)), platform)
        delivered = await live.show(session.stream(**model.request("Hello, you")))

    assert ["Hello, you"] == platform.texts(CHANNEL)
    assert "reader" != delivered.report.source
