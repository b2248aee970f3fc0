"""chatstream.bots.live: over platforms in memory and a clock that is moved."""

import asyncio
import itertools

import pytest

from chatstream import (
    ChatSession,
    InterruptedStreamError,
    RateLimitError,
    RequestError,
    RetryPolicy,
    Verdict,
)
from chatstream.bots import (
    ExpiredError,
    FloodError,
    LiveMessage,
    SinkError,
    UnreachableError,
)
from chatstream.stream import ChatStream
from chatstream.testing import FakeClock, Profile, SimulatedServer
from chatstream.testing.scripted import Scripted, ScriptedBody
from tests.bots.platforms import KINDS, Drafts, Edits, Streams, finish, passing, settled
from tests.conftest import DONE, chunk


@pytest.fixture
def clock():
    return FakeClock()


def live_in(platform, **options):
    return LiveMessage(
        platform, clock=platform.clock, call_later=platform.clock.call_later, **options
    )


async def texts(clock, *pieces, every=0.1, error=None):
    """An iterator of texts, one *every* so many seconds."""
    for piece in pieces:
        await passing(clock, every)
        yield piece
    if error is not None:
        raise error


def words(count, size=5):
    return [f"{number:0{size - 1}} " for number in range(count)]


def joined(platform):
    return " ".join(" ".join(platform.chat).split())


# --- What is shown ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_arrives_whole(clock, kind):
    """
    In few writes, an interval apart, and in parts that fit.
    """
    platform, pieces = kind(clock), words(300)
    delivered = await finish(clock, live_in(platform).show(texts(clock, *pieces)))
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(platform.calls)]

    assert "".join(pieces).strip() == joined(platform)
    assert "".join(pieces) == delivered.text
    assert (list(range(len(platform.chat))), Verdict.FINISHED) == (
        list(delivered.messages), delivered.verdict,
    )  # fmt: skip
    assert 4 == len(platform.chat)
    assert 0.999 <= min(gaps)
    assert 28 <= len(platform.calls) <= 40
    assert len(platform.calls) == delivered.updates + len(delivered.messages)


async def test_the_first_words_come_at_once_when_they_are_worth_a_message(clock):
    """
    A message that reads "I" is what the phone in a pocket would show.
    """
    slow, quick = Edits(clock), Edits(clock)
    await finish(clock, live_in(slow).show(texts(clock, "I", " don't", " know", " it", every=0.3)))
    began = quick.now
    long = "Well, that depends on what you mean by it"
    await finish(clock, live_in(quick).show(texts(clock, long, ".", every=0.3)))

    assert ["I don't know it"] == [text for _, _, text in slow.calls]
    assert 0.3 == pytest.approx(quick.calls[0][0] - began, abs=0.051)


async def test_a_code_block_stays_one_in_each_part(clock):
    """
    Also while it grows, and its fence is never edited away.
    """
    code = "".join(f"    line({number})\n" for number in range(60))
    text = f"Here:\n\n```python\n{code}```\nThat's **it**."
    platform = Edits(clock)
    await finish(clock, live_in(platform).show(texts(clock, *text.splitlines(keepends=True))))

    assert 3 == len(platform.chat)
    assert all(0 == shown.count("```") % 2 for _, _, shown in platform.calls)
    assert all(part.startswith("```python\n") for part in platform.chat[1:])
    assert platform.chat[-1].endswith("\n```\nThat's **it**.")


@pytest.mark.parametrize("kind", KINDS)
async def test_20000_characters_with_code_come_in_parts_that_fit(clock, kind):
    block = (
        "A paragraph of **some** words. " * 9
        + "\n\n```py\n"
        + "x = [1, 2]  # so\n" * 20
        + "```\n\n"
    )
    text = block * 33
    platform = kind(clock, length=2000)
    pieces = [text[start : start + 37] for start in range(0, len(text), 37)]
    delivered = await finish(clock, live_in(platform).show(texts(clock, *pieces, every=0.02)))

    assert text == delivered.text
    assert 10 <= len(platform.chat) <= 16
    assert all(0 == part.count("```") % 2 == part.count("**") % 2 for part in platform.chat)
    assert text.count("x = [1, 2]  # so\n") == sum(
        p.count("x = [1, 2]  # so\n") for p in platform.chat
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_much_at_once_does_not_wait_for_more(clock, kind):
    """
    Parts that are whole go out one after another, though nothing else comes.
    """
    platform, pieces = kind(clock), words(400)
    task = asyncio.create_task(live_in(platform).show(texts(clock, "".join(pieces), every=1)))
    await finish(clock, passing(clock, 9))

    assert len(platform.chat) >= 4
    await finish(clock, task)
    slow = texts(clock, "".join(pieces), "The end.", every=50)
    task = asyncio.create_task(live_in(platform).show(slow))
    await finish(clock, passing(clock, 65))

    assert len(platform.chat) >= 9
    await finish(clock, task)


async def test_white_space_is_no_message(clock):
    """
    Models like to begin with an empty line.
    """
    platform = Edits(clock)
    await finish(
        clock, live_in(platform).show(texts(clock, "\n", "\n ", "\n" * 500, "Yes.", every=3))
    )

    assert (["Yes."], 1) == (platform.chat, len(platform.calls))


async def test_an_edit_that_changes_nothing_is_not_made(clock):
    """
    White space at the end isn't seen; the platform here refuses such edits.
    """
    platform = Edits(clock)
    pieces = ["That is the whole answer.", " ", "\n", "\n\n", " "]
    await finish(clock, live_in(platform).show(texts(clock, *pieces, every=5)))

    assert 1 == len(platform.calls)


async def test_several_answers_keep_the_rhythm(clock):
    """
    The platform counts writes, whatever they belong to.
    """
    platform = Edits(clock)
    live = live_in(platform)
    for answer in ("The first answer, short as it is.", "The second answer, which isn't long."):
        await finish(clock, live.show(texts(clock, answer)))

    assert 0.999 <= platform.calls[1][0] - platform.calls[0][0]
    assert live.delivered.text.startswith("The second")


async def test_one_answer_at_a_time(clock):
    platform = Edits(clock)
    live = live_in(platform)
    task = asyncio.create_task(live.show(texts(clock, "Hello")))
    await settled()
    with pytest.raises(RuntimeError, match="being shown already"):
        await live.show(texts(clock))
    await finish(clock, task)

    assert ["Hello"] == platform.chat


# --- Platforms that resist -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_platform_has_one_write_at_a_time(clock, kind):
    """
    Each takes the newest text, and the end comes one write after the answer's.
    """
    platform, pieces = kind(clock, takes=3.0), words(80)
    await finish(clock, live_in(platform).show(texts(clock, *pieces)))

    assert 1 == platform.together
    assert len(platform.calls) <= 5
    assert "".join(pieces).strip() == joined(platform)
    assert platform.now < 8.1 + 3 * 3.1


@pytest.mark.parametrize("kind", KINDS)
async def test_floods_lose_nothing(clock, kind):
    """
    Three writes in ten seconds are allowed, and far more are wanted.
    """
    platform, pieces = kind(clock, most=3, window=10), words(200)
    delivered = await finish(clock, live_in(platform).show(texts(clock, *pieces)))

    assert "".join(pieces).strip() == joined(platform)
    assert 1 <= delivered.floods <= 6


@pytest.mark.parametrize("kind", KINDS)
async def test_retry_after_is_obeyed(clock, kind):
    """
    Not one try before it is over, also for the last write.
    """
    platform = kind(clock, failures={1: FloodError(30), 2: FloodError(20)})
    pieces = words(100)
    delivered = await finish(clock, live_in(platform).show(texts(clock, *pieces)))
    (_, first, second, third, *_) = [when for when, *_ in platform.calls]

    assert (30 <= second - first < 31.2, 20 <= third - second < 21.2) == (True, True)
    assert "".join(pieces).strip() == joined(platform)
    assert 2 == delivered.floods


@pytest.mark.parametrize("kind", KINDS)
async def test_a_platform_that_is_away_is_tried_again(clock, kind):
    """
    After 1, 2 and 4 seconds; then all of it is there.
    """
    failures = dict.fromkeys(range(3), UnreachableError("502"))
    platform = kind(clock, failures=failures)
    await finish(clock, live_in(platform).show(texts(clock, "Here I am, after all.")))
    tries = [when for when, *_ in platform.calls]
    gaps = [b - a for a, b in itertools.pairwise(tries)]

    assert [1, 2, 4] == [round(gap) for gap in gaps[:3]]
    assert ["Here I am, after all."] == platform.chat


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failure", [UnreachableError("502"), FloodError(2), ExpiredError("old")])
async def test_what_failed_is_written_although_nothing_else_comes(clock, kind, failure):
    """
    A model may pause for long just then.
    """
    platform = kind(clock, failures={0: failure})
    pieces = ["This is to be read while you wait. ", "The end."]
    task = asyncio.create_task(live_in(platform).show(texts(clock, *pieces, every=30)))
    await finish(clock, passing(clock, 35))

    assert pieces[0].strip() in {getattr(platform, "drafted", None), *platform.chat}
    await finish(clock, task)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failing", [0, 3, 6, 7])
async def test_a_chat_that_is_gone_ends_it(clock, kind, failing):
    """
    The stream is closed, and the error says what got through.
    """
    platform, gone = kind(clock), SinkError("blocked by the user")
    platform.failures = dict.fromkeys(range(failing, 99), gone)
    ended = []

    async def answer():
        try:
            async for text in texts(clock, *words(1000)):
                yield text
        finally:
            ended.append(platform.now)

    with pytest.raises(SinkError) as caught:
        await finish(clock, live_in(platform).show(answer()))

    assert gone is caught.value
    assert failing + 1 == len(platform.calls)
    assert ended == [platform.calls[-1][0]]
    assert failing == caught.value.delivered.updates + len(caught.value.delivered.messages)
    assert Verdict.CLOSED == caught.value.delivered.verdict


@pytest.mark.parametrize("failure", [FloodError(7), UnreachableError("503"), ExpiredError("old")])
async def test_the_last_write_is_given_up_in_the_end(clock, failure):
    """
    A bot that waits for ever keeps its user waiting for ever.
    """
    platform = Edits(clock, failures={"always": failure})
    with pytest.raises(SinkError) as caught:
        await finish(clock, live_in(platform, give_up=60).show(texts(clock, "Hello")))

    assert failure is caught.value
    assert 30 < platform.now < 61
    assert ((), "Hello") == (caught.value.delivered.messages, caught.value.delivered.text)


async def test_nobody_waits_for_a_flood_that_outlasts_the_patience(clock):
    platform = Edits(clock, failures={"always": FloodError(3600)})
    with pytest.raises(FloodError, match="none for 3600 s"):
        await finish(clock, live_in(platform).show(texts(clock, "Hello")))

    assert platform.now < 3


@pytest.mark.parametrize("kind", KINDS)
async def test_a_write_that_never_ends_is_given_up(clock, kind):
    """
    Even one that began while the answer was streaming.
    """
    platform = kind(clock, takes=1e6)
    with pytest.raises(UnreachableError, match="no write ended within 300 s"):
        await finish(clock, live_in(platform).show(texts(clock, *words(30))))

    assert 302.9 < platform.now < 303.2


async def test_a_sink_that_is_wrong_is_not_hidden(clock):
    """
    Its own error, not a group around it; a timeout of its own, too.
    """

    class Broken(Edits):
        async def send(self, text):
            raise self.failures[0]

    for error in (ZeroDivisionError(), TimeoutError("mine")):
        with pytest.raises(type(error)) as caught:
            await finish(clock, live_in(Broken(clock, failures=[error])).show(texts(clock, "Hi")))

        assert error is caught.value


@pytest.mark.parametrize("expiring", range(1, 9))
async def test_an_edit_that_comes_too_late_goes_on_in_a_new_message(clock, expiring):
    """
    From the last word that was shown for sure; nothing is said twice but that word.
    """
    platform, pieces = Edits(clock), words(60)
    platform.failures = {expiring: ExpiredError("too old")}
    await finish(clock, live_in(platform).show(texts(clock, *pieces)))
    seen = joined(platform).split()

    assert [piece.strip() for piece in pieces] == sorted(set(seen))
    assert len(pieces) <= len(seen) <= len(pieces) + 1
    assert sorted(seen) == seen


@pytest.mark.parametrize("lasts", [0.5, 2.5, 5])
async def test_a_stream_that_expired_goes_on_in_a_new_message(clock, lasts):
    """
    Slack closes one that pauses; the tail must not be lost, nor the code's fence.
    """
    platform = Streams(clock)
    platform.lasts = lasts
    code = [f"line({number})\n" for number in range(20)]
    lines = ["```python\n", *code, "```\n"]
    await finish(clock, live_in(platform).show(texts(clock, *lines, every=1.3)))
    seen = [line for part in platform.chat for line in part.split("\n") if "line" in line]

    assert [line.strip() for line in code] == seen
    assert all(part.startswith("```python\n") for part in platform.chat)
    assert (lasts < 3) == (len(platform.chat) > 1)


async def test_a_draft_that_expired_is_drawn_again(clock):
    platform = Drafts(clock, failures={1: ExpiredError("gone")})
    pieces = words(60)
    await finish(clock, live_in(platform).show(texts(clock, *pieces)))

    assert ["".join(pieces).strip()] == platform.chat


async def test_a_draft_is_kept_alive(clock):
    """
    Telegram's goes out after 30 seconds, and a model may think for longer.
    """
    platform = Drafts(clock, draft=30)
    pieces = ["Let me look that up for you.", " Found."]
    await finish(clock, live_in(platform).show(texts(clock, *pieces, every=70)))

    assert [70, 94, 118, 140] == [round(when) for when, *_ in platform.calls]
    assert [pieces[0]] * 3 == [text for _, name, text in platform.calls if name == "draft"]
    assert ["".join(pieces)] == platform.chat


async def test_an_appended_text_is_whole_when_it_pauses(clock):
    """
    The last word is held back only as long as more of it may come.
    """
    platform = Streams(clock, interval=1)
    pieces = ["Let me look that up.", " Found **i", "t**."]
    task = asyncio.create_task(live_in(platform).show(texts(clock, *pieces, every=20)))
    await finish(clock, passing(clock, 25))

    assert ["Let me look that up."] == platform.chat
    await finish(clock, passing(clock, 20))

    assert ["Let me look that up. Found **i"] == platform.chat
    await finish(clock, task)

    assert ["".join(pieces)] == platform.chat
    assert len(platform.calls) <= 6


async def test_only_drafts_fade(clock):
    """
    A message stays, whatever its limits say.
    """
    for kind in (Edits, Streams):
        platform = kind(clock, draft=30)
        pieces = ["Let me look that up for you. ", "Found."]
        await finish(clock, live_in(platform).show(texts(clock, *pieces, every=70)))

        assert ["".join(pieces)] == platform.chat
        assert len(platform.calls) <= 3


# --- Typing ------------------------------------------------------------------------------


async def test_typing_shows_until_the_first_words_do(clock):
    """
    Renewed before it goes out, and over as soon as there is something to read.
    """
    platform = Edits(clock, typing=5)
    await finish(
        clock, live_in(platform).show(texts(clock, "The answer at last is:", "42", every=10))
    )

    assert [0, 4, 8] == [round(when) for when in platform.typed]
    assert 11 == round(platform.calls[0][0])


@pytest.mark.parametrize("kind", KINDS)
async def test_typing_goes_on_while_a_model_thinks(clock, kind):
    """
    However long that is, and whatever else has to be renewed.
    """
    platform = kind(clock, typing=10, draft=30)
    await finish(clock, live_in(platform).show(texts(clock, "Forty-two.", every=70)))

    assert [0, 8, 16, 24, 32, 40, 48, 56, 64] == [round(when) for when in platform.typed]


async def test_without_an_indicator_nothing_types(clock):
    platform = Edits(clock, typing=None)
    await finish(clock, live_in(platform).show(texts(clock, "Hello", every=10)))

    assert [] == platform.typed


@pytest.mark.parametrize("failure", [SinkError("no"), FloodError(12), FloodError()])
async def test_typing_is_a_courtesy(clock, failure):
    """
    If it fails the answer comes all the same, when the platform lets it.
    """

    class Silent(Edits):
        async def typing(self):
            await super().typing()
            raise failure

    platform = Silent(clock)
    await finish(clock, live_in(platform).show(texts(clock, "Hello, this is an answer.")))

    assert ["Hello, this is an answer."] == platform.chat
    assert (platform.calls[0][0] >= 12) == (getattr(failure, "retry_after", None) == 12)


async def test_an_indicator_that_is_wrong_is_not_hidden(clock):
    class Broken(Edits):
        async def typing(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await finish(clock, live_in(Broken(clock)).show(texts(clock, "Hello")))


async def test_typing_that_hangs_holds_nobody_up(clock):
    class Hanging(Edits):
        async def typing(self):
            await passing(self.clock, 1e6)

    platform = Hanging(clock)
    await finish(clock, live_in(platform).show(texts(clock, "Hello")))

    assert ["Hello"] == platform.chat


# --- Chat streams ---------------------------------------------------------------------------


class Timed(ScriptedBody):
    """A body whose reads come when the clock gets there."""

    async def _step(self):
        if self._steps:
            wait, what = self._steps[0]
            self._steps[0] = (0, what)
            timer = self._clock.call_later(wait, self._gone.set) if wait else None
            if timer is not None:
                await self._gone.wait()
                timer.cancel()
                if not self.aborted:
                    self._gone.clear()
        return await super()._step()


class Server(Scripted):
    """A source of chat streams on the clock; opening takes *opens* seconds."""

    opens = 0.0

    async def open(self, marks):
        await passing(self._clock, self.opens)
        body = await super().open(marks)
        body.__class__ = Timed
        return body


def stream_of(clock, *attempts, **options):
    return ChatStream(
        Server(clock, *attempts), clock=clock, call_later=clock.call_later,
        retry=RetryPolicy(1), **options,
    )  # fmt: skip


def steps(*pieces, every=0.1):
    """Chunks of content, or what is given, one by one."""
    return tuple((every, chunk(p) if isinstance(p, str) else p) for p in pieces)


END = (chunk(None, "stop") + DONE,)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_chat_stream_is_entered_and_left(clock, kind):
    """
    What it knows comes with what was delivered.
    """
    stream, pieces = stream_of(clock, steps(*words(30), *END)), words(30)
    platform = kind(clock)
    delivered = await finish(clock, live_in(platform).show(stream))

    assert "".join(pieces).strip() == joined(platform)
    assert "".join(pieces) == delivered.completion.text == delivered.text
    assert (Verdict.FINISHED, None) == (delivered.verdict, delivered.error)
    assert 0.1 == pytest.approx(delivered.report.time_to_first_token, abs=0.051)
    assert stream._source.bodies[0].released


async def test_typing_shows_while_the_request_is_on_its_way(clock):
    platform, stream = Edits(clock), stream_of(clock, steps("Hello", *END))
    stream._source.opens = 6
    await finish(clock, live_in(platform).show(stream))

    assert [0, 4] == [round(when) for when in platform.typed]


async def test_a_stream_that_is_entered_is_left_to_its_owner(clock):
    platform, stream = Edits(clock), stream_of(clock, steps("Hello", *END))
    async with stream:
        await finish(clock, live_in(platform).show(stream))

        assert not stream._source.bodies[0].released

    assert ["Hello"] == platform.chat


async def test_a_refusal_is_what_the_model_said(clock):
    platform = Edits(clock)
    refusal = [chunk(refusal="I can't "), chunk(refusal="help with that."), *END]
    await finish(clock, live_in(platform).show(stream_of(clock, steps(*refusal))))

    assert ["I can't help with that."] == platform.chat


async def test_other_choices_are_not_shown(clock):
    platform = Edits(clock)
    other = chunk("no").replace(b'"index":0', b'"index":1')
    stream = stream_of(clock, steps("Yes", other, *END, every=0))
    await finish(clock, live_in(platform).show(stream))

    assert ["Yes"] == platform.chat


@pytest.mark.parametrize(
    ("kind", "first"), [(Edits, "Thinking…"), (Drafts, "Thinking…"), (Streams, "Done.")]
)
async def test_a_placeholder_stands_for_reasoning(clock, kind, first):
    """
    Where it can be taken back.
    """
    platform = kind(clock)
    thoughts = [chunk(reasoning_content="hmm")] * 30
    live = live_in(platform, thinking="Thinking…")
    await finish(clock, live.show(stream_of(clock, steps(*thoughts, "Done.", *END))))

    assert first == platform.calls[0][2]
    assert ["Done."] == platform.chat


async def test_reasoning_is_not_shown_unless_wanted(clock):
    platform = Edits(clock)
    thoughts = [chunk(reasoning_content="hmm")] * 30
    await finish(clock, live_in(platform).show(stream_of(clock, steps(*thoughts, "Done.", *END))))

    assert 1 == len(platform.calls)


async def test_halves_of_a_surrogate_pair_come_together(clock):
    """
    Servers cut JSON escapes between them; a lone one can't be sent at all.
    """
    platform = Edits(clock)
    await finish(clock, live_in(platform).show(texts(clock, "\ud83d", "\ude00 ok \ude00\ud83d")))

    assert ["😀 ok \ufffd\ufffd"] == platform.chat


# --- Ends that aren't the answer's own ------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [False, True])
async def test_a_stop_keeps_what_came(clock, kind, own):
    """
    And says so, below it.
    """
    platform = kind(clock)
    stream = stream_of(clock, steps(*words(300), *END)) if own else texts(clock, *words(300))
    live = live_in(platform)
    task = asyncio.create_task(live.show(stream))
    await finish(clock, passing(clock, 5.02))

    assert await live.stop()

    delivered = await finish(clock, task, within=3)

    assert delivered.text.strip() + "\n\n(Stopped.)" == platform.chat[-1]
    assert 45 <= len(delivered.text.split()) <= 50
    assert (Verdict.CLOSED, None) == (delivered.verdict, delivered.error)
    assert not await live.stop()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("wait", [None, 0, 3])
async def test_a_stop_before_the_first_token(clock, own, wait):
    """
    There is nothing to keep; the chat is told all the same. At once, or while it waits.
    """
    platform = Edits(clock)
    stream = stream_of(clock, steps("Hello", every=100)) if own else texts(clock, "Hi", every=100)
    live = live_in(platform)
    task = asyncio.create_task(live.show(stream))
    await asyncio.sleep(0)
    if wait is not None:
        await finish(clock, passing(clock, wait))
    await live.stop()
    delivered = await finish(clock, task, within=3)

    assert (["(Stopped.)"], "", Verdict.CLOSED) == (
        platform.chat,
        delivered.text,
        delivered.verdict,
    )


async def test_a_stop_after_the_end_changes_nothing(clock):
    """
    The answer came whole; only its last write is on its way.
    """
    platform = Edits(clock, takes=10)
    live = live_in(platform)
    task = asyncio.create_task(live.show(texts(clock, "The whole answer, and nothing but it.")))
    await finish(clock, passing(clock, 5))

    assert not await live.stop()

    delivered = await finish(clock, task)

    assert (["The whole answer, and nothing but it."], Verdict.FINISHED) == (
        platform.chat, delivered.verdict,
    )  # fmt: skip


async def test_nobody_is_stopped_where_nothing_is_shown(clock):
    live = live_in(Edits(clock))

    assert (False, None) == (await live.stop(), live.delivered)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_breaks_off_keeps_what_came(clock, kind):
    """
    With the error beside it for the log, in words for the chat.
    """
    platform = kind(clock)
    stream = stream_of(
        clock, steps("```py\nimport this\n", InterruptedStreamError(0, "reset by the host"))
    )
    delivered = await finish(clock, live_in(platform).show(stream))

    assert ["```py\nimport this\n```\n\nThe answer broke off. Please try again."] == platform.chat
    assert isinstance(delivered.error, InterruptedStreamError)
    assert (Verdict.TRUNCATED, "```py\nimport this\n") == (
        delivered.verdict,
        delivered.completion.text,
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_never_began_is_told(clock, kind):
    platform = kind(clock)
    stream = stream_of(clock, RateLimitError(429, "org-secret exceeded", retry_after=20))
    delivered = await finish(clock, live_in(platform).show(stream))

    assert ["Too many questions at the moment. Please try again in 20 seconds."] == platform.chat
    assert (Verdict.HTTP_ERROR, "") == (delivered.verdict, delivered.text)


async def test_an_error_of_ours_in_texts_is_told_likewise(clock):
    """
    As of a loop around several streams.
    """
    platform = Edits(clock)
    error = InterruptedStreamError(1)
    delivered = await finish(clock, live_in(platform).show(texts(clock, "Well", error=error)))

    assert ["Well\n\nThe answer broke off. Please try again."] == platform.chat
    assert (error, Verdict.TRUNCATED, None) == (
        delivered.error, delivered.verdict, delivered.completion,
    )  # fmt: skip


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), TimeoutError("secret")])
async def test_any_other_error_is_told_and_raised(clock, error):
    """
    It may be a mistake of the bot's, whose author has to see it.
    """
    platform = Edits(clock)
    live = live_in(platform)
    with pytest.raises(type(error)) as caught:
        await finish(clock, live.show(texts(clock, "Well", error=error)))

    assert error is caught.value
    assert ["Well\n\nSomething went wrong. Please try again."] == platform.chat
    assert (None, "Well") == (live.delivered.error, live.delivered.text)


async def test_texts_that_cancel_themselves_hold_nobody_up(clock):
    """
    As a task inside of the iterator may be, of which nobody here knows.
    """
    platform = Edits(clock)
    stream = texts(clock, "Well", error=asyncio.CancelledError())
    delivered = await finish(clock, live_in(platform).show(stream))

    assert (["Well\n\n(Stopped.)"], Verdict.CANCELLED) == (platform.chat, delivered.verdict)


async def test_an_indicator_that_takes_its_time_to_end_is_awaited(clock):
    """
    No task is left, and the time to give up is over with the writing.
    """

    class Slow(Edits):
        async def typing(self):
            try:
                await passing(clock, 1e6)
            finally:
                await passing(clock, 50)

    platform = Slow(clock, failures={0: SinkError("gone")})
    with pytest.raises(SinkError, match="gone"):
        await finish(clock, live_in(platform, give_up=1).show(texts(clock, "Hello")))

    assert 50 <= platform.now - platform.calls[0][0] < 51


async def test_an_answer_that_was_cut_says_so(clock):
    platform = Edits(clock)
    await finish(
        clock,
        live_in(platform).show(stream_of(clock, steps("On and", chunk(" on", "length") + DONE))),
    )

    assert ["On and on\n\n(The answer was too long and ends here.)"] == platform.chat


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", " \n"])
async def test_an_empty_answer_is_told(clock, kind, text):
    """
    Silence looks like a bot that crashed.
    """
    platform = kind(clock)
    await finish(clock, live_in(platform).show(stream_of(clock, steps(text, *END))))
    await finish(clock, live_in(platform).show(texts(clock, text)))

    assert ["There was no answer. Please ask again."] * 2 == platform.chat


async def test_a_call_of_tools_is_no_empty_answer(clock):
    platform = Edits(clock)
    call = chunk(tool_calls=[{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}])
    delivered = await finish(clock, live_in(platform).show(stream_of(clock, steps(call, *END))))

    assert ([], ()) == (platform.chat, delivered.messages)


async def test_the_words_are_the_authors(clock):
    """
    And where they say nothing, nothing is said.
    """
    platform = Edits(clock)
    german = {Verdict.EMPTY: "Keine Antwort."}
    live = live_in(platform, words=lambda ending: german.get(ending, ""))
    await finish(clock, live.show(texts(clock)))
    await finish(clock, live.show(texts(clock, "Hallo")))

    assert ["Keine Antwort.", "Hallo"] == platform.chat


async def test_words_that_fail_are_not_hidden(clock):
    live = live_in(Edits(clock), words={}.__getitem__)
    with pytest.raises(KeyError):
        await finish(clock, live.show(texts(clock)))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_note_that_does_not_fit_has_its_own_message(clock, kind):
    platform = kind(clock)
    text = "x" * 395
    await finish(clock, live_in(platform).show(texts(clock, text, error=InterruptedStreamError(0))))

    assert [text, "The answer broke off. Please try again."] == platform.chat


# --- Cancellation ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [False, True])
async def test_cancellation_passes_at_every_moment(clock, kind, own):
    """
    At once, with the stream closed and no task left, wherever everybody waits.
    """
    for moment in itertools.count():
        platform = kind(clock, takes=0.3, interval=0.2, failures={2: FloodError(0.4)})
        stream = stream_of(clock, steps(*words(9), *END)) if own else texts(clock, *words(9))
        live = live_in(platform)
        task = asyncio.create_task(live.show(stream))
        for turn in range(moment):
            await asyncio.sleep(0)
            if turn % 5 == 0:
                clock.advance(0.05)
        if task.done():
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert {asyncio.current_task()} == asyncio.all_tasks()
        assert not platform.writing
        assert moment == 0 or "".join(words(9)).startswith(live.delivered.text)
        if own and stream.entered:
            assert stream.verdict in {Verdict.CANCELLED, Verdict.FINISHED}
            assert all(body.aborted or body.released for body in stream._source.bodies)

    assert moment > 50
    assert "".join(words(9)).strip() == joined(platform)


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_patience_is_positive(clock, seconds):
    with pytest.raises(RequestError, match="give_up: expected more than 0 seconds"):
        LiveMessage(Edits(clock), give_up=seconds)


def test_messages_too_short_to_split_into_are_refused(clock):
    """
    When the bot starts, and not with its first answer.
    """
    with pytest.raises(RequestError, match="length: expected at least 128, got 99"):
        LiveMessage(Edits(clock, length=99))


# --- With a server -------------------------------------------------------------------------------


async def test_a_bot_on_the_real_clock():
    """
    Nothing but defaults, over a socket.
    """

    class Chat(Edits):
        async def _call(self, name, text, *, empty=False):
            self.calls.append((self.now, name, text))

    chat = Chat(FakeClock(), interval=0.001, length=4096)
    async with (
        SimulatedServer(Profile.preset("instant")) as server,
        ChatSession(server.base_url, "k") as session,
    ):
        delivered = await LiveMessage(chat).show(
            session.stream(model="m", messages=[{"role": "user", "content": "Hi"}])
        )

    assert [delivered.text.strip()] == chat.chat
    assert Verdict.FINISHED is delivered.verdict
