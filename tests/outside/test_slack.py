"""The real slack_sdk against a stand-in for Slack: what the sinks do, and whole answers."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from chatstream import Verdict, stamping_session_options
from chatstream.bots import (
    EditSink,
    ExpiredError,
    FloodError,
    SinkError,
    StreamSink,
    UnreachableError,
)
from tests.outside.answers import ANSWER, HOSTILE, bare, live_with
from tests.standins.site import Haste, Window, page
from tests.standins.slack import LENGTH, STREAM_LASTS, SlackStandIn

pytestmark = pytest.mark.outside

CHANNEL, DIRECT = "C1", "D1"
RECIPIENT = {"recipient_user_id": "U1", "recipient_team_id": "T1"}


@pytest.fixture(scope="module")
def slack(outside):
    """The sinks' module."""
    outside("slack_sdk")
    return outside("chatstream.bots.slack")


@pytest.fixture
async def platform():
    """Slack, fifty times as fast."""
    async with SlackStandIn(Haste(50)) as standin:
        yield standin


@pytest.fixture
async def http():
    """A session as the module says that it can be shared."""
    async with aiohttp.ClientSession(**stamping_session_options()) as http:
        yield http


@pytest.fixture
def client(slack, platform, http):
    return slack.AsyncWebClient("xoxb-1", base_url=platform.api, session=http)


@pytest.fixture
def stream_in(slack, client):
    """Give a function that makes a sink for a channel."""
    return lambda channel, **options: slack.SlackSink(client, channel, thread_ts="0.1", **options)


@pytest.fixture
def edit_in(slack, client):
    """The same for one that edits."""
    return lambda channel, **options: slack.SlackEditSink(client, channel, **options)


# --- The sinks -----------------------------------------------------------------------


async def test_a_message_is_streamed_into_a_thread(stream_in, platform):
    sink = stream_in(CHANNEL, **RECIPIENT)
    await sink.start("One")
    await sink.append("1.0", " **two**")
    open_ones = platform.streaming(CHANNEL)
    await sink.stop("1.0", " three")
    second = await sink.start("Four")
    await sink.stop(second, "")

    assert isinstance(sink, StreamSink)
    assert ["One **two**"] == open_ones
    assert ["One **two** three", "Four"] == platform.texts(CHANNEL)
    assert [] == platform.streaming(CHANNEL)
    assert "0.1" == platform.channels[CHANNEL]["1.0"]["thread_ts"]


async def test_a_message_is_posted_and_updated(edit_in, platform):
    sink = edit_in(CHANNEL)
    await sink.typing()
    message = await sink.send("One")
    await sink.edit(message, "One **two**")

    assert isinstance(sink, EditSink)
    assert ["One **two**"] == platform.texts(CHANNEL)
    assert sink.limits.typing is None


async def test_a_status_is_shown_if_there_is_one(stream_in, platform):
    sink = stream_in(DIRECT, status="is thinking…")
    await sink.typing()

    assert ["is thinking…"] == platform.statuses
    assert (120.0, None) == (sink.limits.typing, stream_in(DIRECT).limits.typing)


async def test_a_channel_wants_to_know_who_reads(stream_in):
    with pytest.raises(SinkError, match="missing_recipient_team_id") as caught:
        await stream_in(CHANNEL).start("One")

    assert SinkError is type(caught.value)


async def test_a_stream_that_is_over_has_expired(stream_in, platform):
    """
    Slack closes one after some minutes.
    """
    platform.lasts = 0
    sink = stream_in(DIRECT)
    message = await sink.start("One")
    with pytest.raises(ExpiredError):
        await sink.append(message, " two")
    with pytest.raises(ExpiredError):
        await sink.stop(message, " two")


async def test_slacks_own_stop_button_is_for_good(slack, stream_in, platform):
    sink = stream_in(DIRECT)
    message = await sink.start("One")
    platform.stopped.add(message)
    with pytest.raises(slack.StoppedInSlackError):
        await sink.append(message, " two")


async def test_a_deleted_message_has_expired(edit_in, platform):
    sink = edit_in(CHANNEL)
    message = await sink.send("One")
    platform.channels.clear()
    with pytest.raises(ExpiredError):
        await sink.edit(message, "One two")


async def test_a_flood_tells_how_long_to_rest(edit_in, platform):
    platform.windows["chat.postMessage"] = Window(1, 60.0, platform.clock)
    sink = edit_in(CHANNEL)
    await sink.send("One")
    with pytest.raises(FloodError) as caught:
        await sink.send("Two")

    assert 0 < caught.value.retry_after <= 60


@pytest.mark.parametrize("header", [{}, {"Retry-After": "soon"}])
async def test_a_flood_may_not_tell(edit_in, platform, header):
    platform.fail(lambda: web.json_response({"ok": False}, status=429, headers=header))
    with pytest.raises(FloodError) as caught:
        await edit_in(CHANNEL).send("One")

    assert caught.value.retry_after is None


UNREACHABLE = [
    page(502),
    page(200),
    lambda: web.Response(status=503, text="busy"),
    lambda: web.Response(text="{", content_type="application/json"),
    lambda: web.json_response({"ok": False, "error": "internal_error"}),
]


@pytest.mark.parametrize("response", UNREACHABLE)
async def test_what_may_pass_is_unreachable(edit_in, platform, response):
    platform.fail(response)
    with pytest.raises(UnreachableError):
        await edit_in(CHANNEL).send("One")


async def test_nobody_at_the_port_is_unreachable(edit_in, platform):
    await platform.__aexit__()
    with pytest.raises(UnreachableError):
        await edit_in(CHANNEL).send("One")


async def test_silence_is_unreachable(slack, raw_server, http):
    """
    slack_sdk itself would wait for ever in a session that it was given.
    """

    async def silent(connection):
        await connection.gone()

    server = await raw_server(silent)
    client = slack.AsyncWebClient("x", base_url=server.origin + "/", session=http, timeout=0.01)
    with pytest.raises(UnreachableError):
        await slack.SlackEditSink(client, CHANNEL).send("One")


async def test_a_wrong_channel_is_for_good(edit_in):
    with pytest.raises(SinkError) as caught:
        await edit_in("C404").send("One")

    assert SinkError is type(caught.value)


async def test_a_client_without_a_token_is_for_good(slack, platform, http):
    """
    slack_sdk refuses by itself, in its own words.
    """
    client = slack.AsyncWebClient(base_url=platform.api, session=http)
    sink = slack.SlackEditSink(client, CHANNEL)
    platform.fail(lambda: web.json_response({"ok": False, "error": "not_authed"}))
    with pytest.raises(SinkError, match="not_authed"):
        await sink.send("One")


async def test_cancelling_passes(edit_in):
    task = asyncio.create_task(edit_in(CHANNEL).send("One"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- Mentions ------------------------------------------------------------------------

MENTIONS = [
    "<!channel>",
    "<!here|x>",
    "<!everyone>",
    "<!subteam^S1>",
    "<@U1>",
    "<@U1|you>",
    "<#C1>",
]


@pytest.mark.parametrize("mention", MENTIONS)
async def test_no_mention_notifies_wherever_it_is_cut(stream_in, platform, mention):
    """
    Slack reads the message as a whole.
    """
    sink = stream_in(DIRECT)
    for cut in range(1, len(mention)):
        message = await sink.start("See " + mention[:cut])
        await sink.append(message, mention[cut:] + " and " + mention[:cut])
        await sink.append(message, mention[cut:])
        await sink.stop(message, "")
        platform.windows.clear()

    assert len(mention) - 1 == len(platform.texts(DIRECT))
    assert [] == platform.pings


PLAIN = [
    "<!DOCTYPE html>", "a < b <", "<https://x.org|x>", "<!-- -->", "#include <x>", "x <- y",
    "@channel",
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_mention_stays(slack, text):
    assert text == slack.defuse(text, "before ")
    assert text == slack.defuse(text, "before <"[:-1])


@pytest.mark.parametrize("mention", MENTIONS)
def test_a_text_without_mentions_is_as_long(slack, mention):
    defused = slack.defuse(f"{mention}{mention}")

    assert 2 * len(mention) == len(defused)
    assert "<" not in defused


# --- Whole answers -------------------------------------------------------------------


async def test_a_long_answer_arrives_whole(stream_in, platform, model):
    """
    In order, in messages that fit, each closed.
    """
    live = live_with(stream_in(DIRECT), platform)
    delivered = await live.show(model.stream(ANSWER))
    texts = platform.texts(DIRECT)

    assert bare(ANSWER) == bare("\n".join(texts))
    assert (ANSWER, Verdict.FINISHED) == (delivered.text, delivered.verdict)
    assert 0 == delivered.floods == platform.floods
    assert LENGTH >= max(map(len, texts)) > LENGTH // 2
    assert 2 == len(texts) == len(delivered.messages)
    assert [] == platform.streaming(DIRECT)
    assert len(platform.calls) == delivered.updates + len(texts) in range(20, 90)


async def test_a_long_answer_is_edited(edit_in, platform, model):
    delivered = await live_with(edit_in(CHANNEL), platform).show(model.stream(ANSWER))

    assert bare(ANSWER) == bare("\n".join(platform.texts(CHANNEL)))
    assert len(platform.calls) == delivered.updates + 2 in range(10, 50)


async def test_floods_lose_nothing(stream_in, platform, model):
    platform.windows["chat.appendStream"] = Window(2, 15.0, platform.clock)
    delivered = await live_with(stream_in(DIRECT), platform).show(model.stream(ANSWER))

    assert bare(ANSWER) == bare("\n".join(platform.texts(DIRECT)))
    assert 0 < delivered.floods == platform.floods


async def test_streams_that_end_early_lose_nothing(stream_in, platform, model):
    """
    The answer goes on in another message.
    """
    platform.lasts = STREAM_LASTS / 15
    delivered = await live_with(stream_in(DIRECT), platform).show(model.stream(ANSWER))

    assert bare(ANSWER) == bare("\n".join(platform.texts(DIRECT)))
    assert 3 <= len(delivered.messages) == len(platform.texts(DIRECT))


async def test_stop_keeps_what_came(stream_in, platform, model):
    live = live_with(stream_in(DIRECT), platform)
    showing = asyncio.create_task(live.show(model.stream(ANSWER, gap=0.02)))
    await platform.until(lambda: platform.texts(DIRECT))
    assert await live.stop()
    delivered = await showing

    assert Verdict.CLOSED == delivered.verdict
    assert 0 < len(delivered.text) < len(ANSWER)
    assert platform.texts(DIRECT)[-1].endswith("(Stopped.)")
    assert [] == platform.streaming(DIRECT)


async def test_slacks_own_stop_button_ends_the_answer(slack, stream_in, platform, model):
    """
    The model is left, and what was shown is told.
    """
    live = live_with(stream_in(DIRECT), platform)
    showing = asyncio.create_task(live.show(model.stream(ANSWER, gap=0.02)))
    await platform.until(lambda: platform.texts(DIRECT))
    platform.stopped.add("1.0")
    with pytest.raises(slack.StoppedInSlackError) as caught:
        await showing

    assert ("1.0",) == caught.value.delivered.messages
    assert Verdict.CLOSED == caught.value.delivered.verdict


async def test_hostile_answers_are_inert(stream_in, platform, model):
    await live_with(stream_in(DIRECT), platform).show(model.stream(HOSTILE))

    assert (
        HOSTILE.replace("<!", "‹!").replace("<@U", "‹@U").replace("<@1", "‹@1")
        == (platform.texts(DIRECT)[0])
    )
    assert [] == platform.pings


async def test_connections_can_be_shared(stream_in, platform, model, http):
    """
    As the module says.
    """
    async with model.session(http=http) as session:
        live = live_with(stream_in(DIRECT), platform)
        delivered = await live.show(session.stream(**model.request("Hello, you")))

    assert ["Hello, you"] == platform.texts(DIRECT)
    assert "reader" != delivered.report.source
