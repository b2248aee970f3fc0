"""The real aiogram against a stand-in for Telegram: what a sink does, and whole answers."""

import asyncio

import pytest

from chatstream import Verdict
from chatstream.bots import (
    DraftSink,
    ExpiredError,
    FloodError,
    SinkError,
    UnreachableError,
)
from chatstream.bots.formatting import format_markdown
from tests.outside.answers import ANSWER, HOSTILE, bare, live_with
from tests.standins.site import Haste, Window, page
from tests.standins.telegram import LENGTH, TelegramStandIn

pytestmark = pytest.mark.outside

PRIVATE, GROUP = 7, -7


@pytest.fixture(scope="module")
def aiogram(outside):
    """The package."""
    return outside("aiogram")


@pytest.fixture
async def telegram():
    """Telegram, fifty times as fast."""
    async with TelegramStandIn(Haste(50)) as standin:
        yield standin


@pytest.fixture
async def bot(aiogram, telegram):
    """A bot whose own parse mode is HTML, as many bots'."""
    server = aiogram.client.telegram.TelegramAPIServer.from_base(telegram.origin)
    session = aiogram.client.session.aiohttp.AiohttpSession(api=server)
    default = aiogram.client.default.DefaultBotProperties(parse_mode="HTML")
    bot = aiogram.Bot("1:a", session, default)
    yield bot
    # The bot's own close() waits a quarter of a second for TLS, of which there is none.
    await (await bot.session.create_session()).close()


@pytest.fixture
def sink_in(bot):
    """Give a function that makes a sink for a chat."""
    from chatstream.bots.telegram import TelegramSink  # noqa: PLC0415 aiogram may be missing

    return lambda chat, **options: TelegramSink(bot, chat, **options)


@pytest.fixture
def stop_button(aiogram):
    button = aiogram.types.InlineKeyboardButton(text="Stop", callback_data="stop")
    return aiogram.types.InlineKeyboardMarkup(inline_keyboard=[[button]])


# --- The sink ------------------------------------------------------------------------


async def test_a_private_chat_shows_a_draft_and_then_the_message(sink_in, telegram):
    sink = sink_in(PRIVATE)
    await sink.typing()
    await sink.draft("Well, **it")
    await sink.draft("Well, **it** depends")
    drafted = telegram.draft(PRIVATE)
    message = await sink.send("Well, **it** depends on `x`.")

    assert isinstance(sink, DraftSink)
    assert ("Well, it depends", None) == (drafted, telegram.draft(PRIVATE))
    assert ["Well, <b>it</b> depends on <code>x</code>."] == telegram.looks(PRIVATE)
    assert 1 == message.message_id
    assert ["sendMessageDraft", "sendMessageDraft", "sendMessage"] == telegram.calls


async def test_each_message_has_a_draft_of_its_own(sink_in, telegram):
    """
    Telegram animates from one text to the next of the same number.
    """
    sink = sink_in(PRIVATE)
    numbers = []
    for text in ("a", "ab", "b"):
        await sink.draft(text)
        numbers.append(telegram.drawn[PRIVATE][1])
        if text == "ab":
            await sink.send(text)

    assert numbers[0] == numbers[1] != numbers[2]


async def test_a_group_shows_a_message_that_is_edited(sink_in, stop_button, telegram):
    """
    Its button goes with the last edit, and only the first message is a reply.
    """
    sink = sink_in(GROUP, reply_to=5, stop_button=stop_button)
    for part in ("One", "Two"):
        await sink.draft(part)
        await sink.draft(f"*{part}* more")
        growing = telegram.buttons(GROUP)[-1]
        await sink.send(f"*{part}* more.")

        assert growing

    assert ["<i>One</i> more.", "<i>Two</i> more."] == telegram.looks(GROUP)
    assert [False, False] == telegram.buttons(GROUP)
    assert [5, None] == [message.get("reply_to") for message in telegram.chats[GROUP]]
    assert ["sendMessage", "editMessageText", "editMessageText"] * 2 == telegram.calls


@pytest.mark.parametrize("drafts", [None, False])
async def test_where_no_draft_is_taken_it_is_a_message(sink_in, telegram, drafts):
    """
    A server of one's own may be old; it is asked once.
    """
    telegram.drafts = False
    sink = sink_in(PRIVATE, drafts=drafts)
    await sink.draft("On")
    await sink.draft("One")
    await sink.send("One.")

    assert ["One."] == telegram.texts(PRIVATE)
    assert (drafts is None) == telegram.calls.count("sendMessageDraft")


async def test_a_draft_may_be_tried_in_a_group(sink_in, telegram):
    sink = sink_in(GROUP, drafts=True)
    await sink.draft("One")

    assert ["sendMessageDraft", "sendMessage"] == telegram.calls


async def test_a_text_that_looks_the_same_is_no_error(sink_in, telegram):
    sink = sink_in(GROUP)
    await sink.draft("One **two**")
    await sink.draft("One __two__")
    await sink.send("One **two**")

    assert ["One <b>two</b>"] == telegram.looks(GROUP)


@pytest.mark.parametrize("chat", [PRIVATE, GROUP])
async def test_a_flood_tells_how_long_to_rest(sink_in, telegram, chat):
    telegram.private = telegram.group = Window(2, 60.0, telegram.clock)
    sink = sink_in(chat)
    await sink.draft("One")
    await sink.draft("Two")
    with pytest.raises(FloodError) as caught:
        await sink.draft("One too many")

    assert 0 < caught.value.retry_after <= 60


async def test_a_deleted_message_is_followed_by_another(sink_in, telegram):
    sink = sink_in(GROUP)
    await sink.draft("One")
    telegram.chats[GROUP].clear()
    with pytest.raises(ExpiredError):
        await sink.draft("One two")
    await sink.send("One two.")

    assert ["One two."] == telegram.texts(GROUP)


async def test_a_group_that_moved_is_followed(sink_in, telegram):
    sink = sink_in(GROUP)
    await sink.draft("One")
    telegram.moved[GROUP] = -100
    with pytest.raises(ExpiredError):
        await sink.draft("One two")
    await sink.send("One two.")

    assert ["One two."] == telegram.texts(-100)


@pytest.mark.parametrize("chat", [404, PRIVATE])
async def test_a_chat_that_takes_nothing_is_for_good(sink_in, telegram, chat):
    telegram.blocked.add(PRIVATE)
    with pytest.raises(SinkError) as caught:
        await sink_in(chat).draft("One")

    assert SinkError is type(caught.value)


async def test_what_may_pass_is_unreachable(sink_in, telegram):
    """
    A proxy's page, nobody at the port.
    """
    sink = sink_in(GROUP)
    telegram.fail(page(502))
    with pytest.raises(UnreachableError):
        await sink.draft("One")
    await telegram.__aexit__()
    with pytest.raises(UnreachableError):
        await sink.typing()


async def test_markup_that_telegram_refuses_goes_out_as_it_was_written(sink_in, telegram):
    telegram.entities = False
    await sink_in(PRIVATE).send("One **two**")

    assert ["One **two**"] == telegram.texts(PRIVATE)


async def test_more_entities_than_telegram_shows_are_left_out(sink_in, telegram):
    await sink_in(PRIVATE).send("*a* " * 120)

    assert 100 == len(telegram.chats[PRIVATE][0]["entities"])


async def test_what_was_broken_off_stays_when_the_next_answer_comes(sink_in, telegram):
    """
    Each answer begins with typing.
    """
    sink = sink_in(GROUP)
    await sink.typing()
    await sink.draft("Broken")
    await sink.typing()
    await sink.draft("Whole")

    assert ["Broken", "Whole"] == telegram.texts(GROUP)


async def test_hostile_text_is_text(sink_in, telegram):
    text = "<b>x</b> <a href='tg://user?id=1'>you</a> [you](tg://user?id=1) &lt; *_`["
    await sink_in(PRIVATE).send(text)

    assert [text] == telegram.looks(PRIVATE)


@pytest.mark.parametrize("drafts", [None, True])
def test_a_channel_may_be_named(sink_in, drafts):
    limits = sink_in("@news", drafts=drafts).limits

    assert (4096, 3.0, None) == (limits.length, limits.interval, limits.draft)
    assert 2 == limits.measure("😀")


async def test_cancelling_passes(sink_in, telegram):
    task = asyncio.create_task(sink_in(PRIVATE).draft("One"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- Whole answers -------------------------------------------------------------------


@pytest.mark.parametrize(("chat", "writes"), [(PRIVATE, range(20, 90)), (GROUP, range(8, 40))])
async def test_a_long_answer_arrives_whole(sink_in, telegram, model, chat, writes):
    """
    In order, in messages that fit, with as many writes as a chat bears.
    """
    live = live_with(sink_in(chat), telegram)
    delivered = await live.show(model.stream(ANSWER))

    assert bare(format_markdown(ANSWER).text) == bare("\n".join(telegram.texts(chat)))
    assert (ANSWER, Verdict.FINISHED) == (delivered.text, delivered.verdict)
    assert 0 == delivered.floods == telegram.floods
    assert LENGTH >= telegram.longest > LENGTH // 2
    assert len(telegram.texts(chat)) == len(delivered.messages)
    assert len(telegram.calls) in writes
    assert telegram.draft(chat) is None


async def test_floods_lose_nothing(sink_in, telegram, model):
    """
    A platform that takes a fraction of what it says.
    """
    telegram.private = Window(2, 15.0, telegram.clock)
    delivered = await live_with(sink_in(PRIVATE), telegram).show(model.stream(ANSWER))

    assert bare(format_markdown(ANSWER).text) == bare("\n".join(telegram.texts(PRIVATE)))
    assert 0 < delivered.floods == telegram.floods


async def test_a_proxys_trouble_loses_nothing(sink_in, telegram, model):
    telegram.fail(page(502), page(504), page(500))
    await live_with(sink_in(GROUP), telegram).show(model.stream(ANSWER))

    assert bare(format_markdown(ANSWER).text) == bare("\n".join(telegram.texts(GROUP)))


@pytest.mark.parametrize("chat", [PRIVATE, GROUP])
async def test_stop_keeps_what_came(sink_in, telegram, model, chat):
    live = live_with(sink_in(chat), telegram)
    showing = asyncio.create_task(live.show(model.stream(ANSWER, gap=0.02)))
    await telegram.until(lambda: telegram.draft(chat) or telegram.texts(chat))
    assert await live.stop()
    delivered = await showing

    assert Verdict.CLOSED == delivered.verdict
    assert ANSWER.startswith(delivered.text)
    assert 0 < len(delivered.text) < len(ANSWER)
    assert telegram.texts(chat)[-1].endswith("(Stopped.)")


async def test_hostile_answers_are_inert(sink_in, telegram, model):
    await live_with(sink_in(GROUP), telegram).show(model.stream(HOSTILE))

    assert [HOSTILE] == telegram.looks(GROUP)


async def test_the_bots_own_connections_can_be_used(bot, sink_in, telegram, model):
    """
    As the module says: aiogram makes its session public.
    """
    async with model.session(http=await bot.session.create_session()) as session:
        live = live_with(sink_in(PRIVATE), telegram)
        delivered = await live.show(session.stream(**model.request("Hello, you")))

    assert ["Hello, you"] == telegram.texts(PRIVATE)
    assert "reader" == delivered.report.source
