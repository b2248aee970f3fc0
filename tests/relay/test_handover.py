"""chatstream.relay.handover: from a stream to a client, whoever is slow, late or gone."""

import asyncio

import pytest

from chatstream import ConnectError, InterruptedStreamError, Timeouts
from chatstream.completion import Verdict
from chatstream.relay import OPENAI, TEXT, ClientGoneError, Handover
from chatstream.testing import FakeClock
from tests.relay.upstream import ANSWER, chunk, reads, stream_of

RESET = InterruptedStreamError(0, "connection reset")


class Browser:
    """A client that takes what it gets, or not."""

    def __init__(self, clock=None, *, slow=0.0, leaves_after=None):
        self._clock = clock
        self._slow = slow
        self._leaves_after = leaves_after
        self._left = asyncio.Event()
        self.head = None
        self.writes = []
        self.finished = False

    async def start(self, status, headers):
        assert self.head is None
        self.head = (status, dict(headers))

    async def write(self, data):
        assert self.head is not None
        assert not self.finished
        if self._left.is_set():
            raise ClientGoneError
        if self._slow:
            self._clock.advance(self._slow)
        await asyncio.sleep(0)
        self.writes.append(data)
        if len(self.writes) == self._leaves_after:
            self._left.set()
            await asyncio.sleep(0)

    async def finish(self):
        self.finished = True

    async def gone(self):
        await self._left.wait()

    def leave(self):
        self._left.set()

    @property
    def body(self):
        return b"".join(self.writes)


@pytest.fixture
def clock():
    return FakeClock()


async def never(_seconds):
    """A heart that doesn't beat."""
    await asyncio.get_running_loop().create_future()


def handover(clock, stream, browser, form=TEXT, sleep=never, **options):
    return Handover(stream, browser, form, clock=clock, sleep=sleep, **options)


async def test_an_answer_is_handed_on_chunk_by_chunk(clock):
    browser = Browser()
    relayed = await handover(clock, stream_of(clock, reads(*ANSWER)), browser).run()

    assert 200 == browser.head[0]
    assert "text/event-stream; charset=utf-8" == browser.head[1]["Content-Type"]
    assert [
        b'event: delta\ndata: {"text":"a"}\n\n',
        b'event: delta\ndata: {"text":"b"}\n\n',
    ] == browser.writes[:2]
    assert browser.writes[2].startswith(b'event: done\ndata: {"verdict":"finished"')
    assert browser.finished
    assert (200, False, Verdict.FINISHED) == (
        relayed.status,
        relayed.client_gone,
        relayed.report.verdict,
    )
    assert len(browser.body) == relayed.bytes_sent
    assert (0.1, 2, 0.0) == (relayed.first_write, relayed.lag.n, relayed.lag.max)


async def test_a_client_that_is_slow_is_waited_for_and_told(clock):
    """
    Chunks came every 0.1 s; each took the client one second.
    """
    browser = Browser(clock, slow=1.0)
    relayed = await handover(clock, stream_of(clock, reads(*ANSWER)), browser).run()

    assert 1.0 == relayed.lag.p50
    assert 1.1 == pytest.approx(relayed.first_write)
    assert Verdict.FINISHED is relayed.report.verdict


@pytest.mark.parametrize(
    ("status", "error"),
    [(502, ConnectError("refused", "memory")), (502, RESET), (504, None)],
    ids=["connect", "reset", "time"],
)
async def test_what_fails_before_the_first_token_has_a_status(clock, status, error):
    script = error if isinstance(error, ConnectError) else reads(error)
    limit = 0.01 if error is None else None
    stream = stream_of(clock, script, timeouts=Timeouts(first_token=limit))
    browser = Browser()
    relayed = await handover(clock, stream, browser, OPENAI).run()

    assert status == browser.head[0] == relayed.status
    assert "application/json" == browser.head[1]["Content-Type"]
    assert browser.body.startswith(b'{"error":{"message":')
    assert browser.finished
    assert (None, None) == (relayed.first_write, relayed.lag)


async def test_what_fails_later_is_an_event(clock):
    browser = Browser()
    relayed = await handover(
        clock, stream_of(clock, reads(chunk("a"), RESET)), browser, OPENAI
    ).run()

    assert 200 == browser.head[0]
    assert browser.writes[-1].startswith(b'data: {"error":')
    assert b"[DONE]" not in browser.body
    assert browser.finished
    assert Verdict.TRUNCATED is relayed.report.verdict


@pytest.mark.parametrize("when", ["in the answer", "in silence", "before anything"])
async def test_a_client_that_leaves_ends_the_stream(clock, when):
    script = {
        "in the answer": reads(*ANSWER),
        "in silence": (*reads(chunk("a")), (0.1, None)),
        "before anything": ((0.1, None),),
    }[when]
    stream = stream_of(clock, script)
    browser = Browser(leaves_after=1 if when == "in the answer" else None)
    running = asyncio.create_task(handover(clock, stream, browser).run())
    for _ in range(20):
        await asyncio.sleep(0)
    browser.leave()
    relayed = await asyncio.wait_for(running, 10)

    assert relayed.client_gone
    assert Verdict.CLOSED is relayed.report.verdict
    assert not browser.finished
    assert (None if when == "before anything" else 200) == relayed.status


@pytest.mark.parametrize(
    ("form", "last"), [(TEXT, b'"verdict":"closed"'), (OPENAI, b'"code":"stopped"')]
)
async def test_a_stop_button_ends_the_answer_well(clock, form, last):
    """
    And doesn't let it look whole, also where the format has no word for that.
    """
    stream = stream_of(clock, (*reads(chunk("a")), (0.1, None)))
    browser = Browser()
    running = asyncio.create_task(handover(clock, stream, browser, form).run())
    for _ in range(20):
        await asyncio.sleep(0)
    await stream.aclose()
    relayed = await asyncio.wait_for(running, 10)

    assert not relayed.client_gone
    assert browser.finished
    assert last in browser.writes[-1]
    assert b"[DONE]" not in browser.body


async def test_silence_is_broken_by_comments(clock):
    """
    From when nothing was sent for so long; not while something is being sent.
    """
    slept, enough = [], asyncio.Event()

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) > 4:
            enough.set()
            await never(seconds)
        clock.advance(seconds)

    stream = stream_of(clock, ((0.0, None),))
    browser = Browser()
    running = asyncio.create_task(
        handover(clock, stream, browser, sleep=sleep, heartbeat=2.0).run()
    )
    await enough.wait()
    browser.leave()
    relayed = await asyncio.wait_for(running, 10)

    assert [b": keep-alive\n\n"] * 4 == browser.writes
    assert [2.0] * 5 == slept
    assert (4, 200) == (relayed.heartbeats, relayed.status)


async def test_no_comment_follows_an_error(clock):
    """
    One that is due in the very moment would stand in the middle of a JSON body.
    """

    async def at_once(_seconds):
        await asyncio.sleep(0)

    class Slow(Browser):
        async def start(self, status, headers):
            await super().start(status, headers)
            clock.advance(60)
            for _ in range(5):
                await asyncio.sleep(0)

    browser = Slow()
    stream = stream_of(clock, ConnectError("refused", "memory"))
    relayed = await handover(clock, stream, browser, sleep=at_once, heartbeat=50.0).run()

    assert 502 == relayed.status
    assert 1 == len(browser.writes)
    assert 0 == relayed.heartbeats


async def test_a_client_that_takes_nothing_gets_no_comments(clock):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) > 3:
            browser.leave()
            await never(seconds)
        clock.advance(seconds)
        await asyncio.sleep(0)

    class Full(Browser):
        async def write(self, data):
            self.writes.append(data)
            await self.gone()
            raise ClientGoneError

    browser = Full()
    stream = stream_of(clock, reads(*ANSWER))
    relayed = await handover(clock, stream, browser, sleep=sleep, heartbeat=2.0).run()

    assert 1 == len(browser.writes)
    assert relayed.client_gone
    assert 0 == relayed.heartbeats


class Stuck(Browser):
    """Takes nothing, and stays."""

    async def write(self, data):
        self.writes.append(data)
        await never(0)


async def test_a_client_that_takes_nothing_for_too_long_is_let_go(clock):
    """
    It would hold a stream of ours, which somebody pays for, as long as it likes.
    """
    browser = Stuck()
    relayed = await handover(
        clock, stream_of(clock, reads(*ANSWER)), browser, send_timeout=0.0
    ).run()

    assert 1 == len(browser.writes)
    assert relayed.client_gone
    assert Verdict.CLOSED is relayed.report.verdict


async def test_so_is_one_that_takes_no_comment(clock):
    async def soon(seconds):
        clock.advance(seconds)
        await asyncio.sleep(0)

    browser = Stuck()
    stream = stream_of(clock, ((0.0, None),))
    relayed = await handover(clock, stream, browser, sleep=soon, send_timeout=0.0).run()

    assert [b": keep-alive\n\n"] == browser.writes
    assert (True, 0) == (relayed.client_gone, relayed.heartbeats)
    assert Verdict.CLOSED is relayed.report.verdict


async def test_a_comment_that_waited_for_the_end_isnt_sent(clock):
    """
    One may be due while the last chunk is being written, and stand in the queue behind the end.
    """
    browser = Browser()
    relay = handover(clock, stream_of(clock, reads(*ANSWER)), browser)
    await relay.run()
    await relay._comment()

    assert b"keep-alive" not in browser.body


async def test_cancelling_it_closes_the_stream(clock):
    stream = stream_of(clock, (*reads(chunk("a")), (0.1, None)))
    told = []
    running = asyncio.create_task(handover(clock, stream, Browser(), relayed=told.append).run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert Verdict.CANCELLED is stream.verdict
    assert [(Verdict.CANCELLED, 200)] == [(each.report.verdict, each.status) for each in told]


async def test_what_the_framework_fails_with_is_raised(clock):
    """
    Who can't see the client leave has to know.
    """

    class Broken(Browser):
        async def gone(self):
            raise ValueError("no such client")

    browser = Broken()
    with pytest.raises(ValueError, match="no such client"):
        await handover(clock, stream_of(clock, reads(*ANSWER)), browser).run()

    assert browser.finished


async def test_a_stream_that_is_entered_is_left_to_its_owner(clock):
    browser = Browser()
    async with stream_of(clock, reads(*ANSWER)) as stream:
        relayed = await handover(clock, stream, browser).run()

    assert Verdict.FINISHED is relayed.report.verdict
