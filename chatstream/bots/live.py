"""Keeps a chat's message as fresh as its platform bears, while an answer streams.

One task reads the answer, the caller's writes it. There is one write at a time, and
each takes the newest text: however slow the platform is, nothing piles up, and the end
is always delivered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable
from typing import Any

from attrs import field, frozen

from chatstream.bots.answer import Answer
from chatstream.bots.channels import Write, channel_to
from chatstream.bots.pacing import Pace
from chatstream.bots.sink import ExpiredError, FloodError, Sink, SinkError, UnreachableError
from chatstream.bots.source import source_of
from chatstream.bots.waiting import EARLY, Signal
from chatstream.bots.words import Words, english
from chatstream.completion import ChatCompletion, Verdict
from chatstream.errors import ChatStreamError, RequestError
from chatstream.marks import NS
from chatstream.report import StreamReport
from chatstream.stream import ChatStream, verdict_of_error
from chatstream.timeouts import CallLater, TimerHandle


@frozen(kw_only=True)
class Delivered:
    """What a chat shows of an answer, and how it got there."""

    text: str
    """The answer as the model wrote it; without what was told about its end."""
    messages: tuple[Any, ...]
    """What the sink named the messages, in order."""
    updates: int
    """Writes that changed a message or draft, besides those that began one."""
    floods: int
    """How often the platform wanted a rest."""
    verdict: Verdict
    error: ChatStreamError | None
    """What ended the answer early; the chat was told in words."""
    completion: ChatCompletion | None = field(repr=False)
    """The answer with all that came with it; ``None`` if only texts were shown."""
    report: StreamReport | None = field(repr=False)
    """Its latencies; likewise."""


class LiveMessage:
    """Shows answers in one chat while they stream, one after another.

    ::

        live = LiveMessage(TelegramSink(bot, chat_id))
        delivered = await live.show(session.stream(model=…, messages=…))

    *thinking* is shown while the model reasons, where a message can be changed. *words*
    puts errors and early ends in words. *pace* is the chat's rhythm, to be shared if
    several write to it; by default the platform's. *give_up* is how many seconds after
    an answer's end its last write may take, floods included.

    Raises ``RequestError`` for limits under which no text can be split, ``ImportError``
    without the extra ``bots``.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        thinking: str = "",
        words: Words = english,
        pace: Pace | None = None,
        give_up: float = 300.0,
        clock: Callable[[], int] = time.perf_counter_ns,
        call_later: CallLater | None = None,
    ) -> None:
        if not give_up > 0:
            raise RequestError("give_up", str(give_up), "more than 0 seconds")
        Answer(sink.limits)  # which tells what is wrong now, and not at the first answer
        self._sink = sink
        self._thinking = thinking
        self._words = words
        self._pace = pace or Pace(sink.limits.interval)
        self._give_up = give_up
        self._clock = clock
        self._call_later = call_later or _loop_call_later
        self._showing: _Showing | None = None
        self._delivered: Delivered | None = None

    async def show(self, stream: ChatStream | AsyncIterable[str]) -> Delivered:
        """Show what *stream* brings until it ends, and return when all of it is delivered.

        *stream* is what ``session.stream(…)`` returns, which is entered and left here
        (or by the caller, if it is entered already), or any asynchronous iterator of texts.
        That an answer fails is told in the chat, and not raised: see
        :attr:`Delivered.error`. Any other error of an iterator of texts is raised
        when the chat was told.

        Raises ``SinkError`` if the platform refuses for good, or longer than
        ``give_up`` (the stream is closed then, and the error's ``delivered`` says what the
        chat shows), and ``RuntimeError`` while another answer is being shown.
        """
        if self._showing is not None:
            msg = "an answer is being shown already; wait for its end, or stop() it"
            raise RuntimeError(msg)
        showing = self._showing = _Showing(
            self._sink,
            stream,
            answer=Answer(self._sink.limits, self._thinking),
            pace=self._pace,
            words=self._words,
            give_up=self._give_up,
            clock=self._clock,
            call_later=self._call_later,
        )
        try:
            await showing.run()
        except SinkError as error:
            error.delivered = showing.delivered
            raise
        finally:
            self._delivered = showing.delivered
            self._showing = None
        return self._delivered

    async def stop(self) -> bool:
        """End the answer now, as for a stop button; false if there is none.

        What came stays, and the chat is told that it was stopped. :meth:`show`
        returns, in its own task, as soon as that is delivered.
        """
        return self._showing is not None and await self._showing.stop()

    @property
    def delivered(self) -> Delivered | None:
        """What the chat shows of the answer that is being shown, or else of the last one."""
        return self._showing.delivered if self._showing is not None else self._delivered


class _Showing:
    """One answer on its way into the chat."""

    def __init__(
        self,
        sink: Sink,
        stream: ChatStream | AsyncIterable[str],
        *,
        answer: Answer,
        pace: Pace,
        words: Words,
        give_up: float,
        clock: Callable[[], int],
        call_later: CallLater,
    ) -> None:
        self._sink = sink
        self._source = source_of(stream)
        self._answer = answer
        self._limits = sink.limits
        self._channel = channel_to(sink)
        self._pace = pace
        self._words = words
        self._give_up = give_up
        self._clock = clock
        self._call_later = call_later

        self._changed = Signal(call_later)  # there is something to write, or to give up
        self._begun = Signal(call_later)  # there is something to read, or nothing will come
        self._error: Exception | None = None
        self._ended: float | None = None  # when
        self._since: float | None = None  # when the first came of what isn't written
        self._idled = False  # so that what is there is worth a write
        self._floods = 0
        self._trouble: SinkError | None = None  # why the last write failed
        self._scope: asyncio.Timeout | None = None  # of the writing
        self._timer: TimerHandle | None = None  # which ends it

    @property
    def delivered(self) -> Delivered:
        """What the chat shows so far."""
        error = self._error if isinstance(self._error, ChatStreamError) else None
        return Delivered(
            text=self._answer.text,
            messages=tuple(self._channel.messages),
            updates=self._channel.updates,
            floods=self._floods,
            verdict=self._source.verdict if error is None else verdict_of_error(error),
            error=error,
            completion=self._source.completion,
            report=self._source.report,
        )

    async def run(self) -> None:
        """Read and write until both are done."""
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                typing = tasks.create_task(self._type())
                try:
                    await self._write_in_time()
                # Raised below, as it is: the caller's `except` knows no groups.
                except Exception as error:  # noqa: BLE001
                    failure = error
                    await self._source.close()
                typing.cancel()
        except ExceptionGroup as group:  # only the typing indicator lets errors out
            raise group.exceptions[0] from None
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if failure is not None:
            raise failure
        if self._error is not None and not isinstance(self._error, ChatStreamError):
            raise self._error

    async def stop(self) -> bool:
        """Close the source, which ends the rest."""
        if self._ended is not None:
            return False
        await self._source.close()
        return True

    # --- Reading -----------------------------------------------------------------

    async def _read(self) -> None:
        try:
            await self._source.read(self._answer, self._changed.set)
        except Exception as error:  # noqa: BLE001 told, and raised if it isn't the answer's
            self._error = error
        finally:  # also if an iterator was cancelled inside: who writes would wait for ever
            self._ended = self._now()
            self._timer = self._call_later(self._give_up, self._expire)
            self._changed.set()

    def _note(self) -> str:
        """Return what to tell below the text."""
        if self._error is not None:
            return self._words(self._error)
        verdict = self._source.verdict
        completion = self._source.completion
        calls = completion is not None and any(c.message.tool_calls for c in completion.choices)
        if verdict is Verdict.FINISHED and not self._answer.has_text and not calls:
            verdict = Verdict.EMPTY
        return self._words(verdict)

    # --- Writing -----------------------------------------------------------------

    async def _write_in_time(self) -> None:
        # Without a limit until the answer has ended.
        self._scope = scope = asyncio.timeout(None)
        try:
            async with scope:
                while self._ended is None:
                    await self._write_what_came()
                self._begun.set()
                self._answer.finish(self._note())
                while (write := self._channel.next(self._answer)) is not None:
                    await self._rest(until=self._ended + self._give_up)
                    await self._make(write)
        except TimeoutError:
            if not scope.expired():
                raise
            raise self._gave_up() from None
        finally:
            self._scope = None

    async def _write_what_came(self) -> None:
        """Write once what is new, or wait until there is something, or it is due."""
        answer, now = self._answer, self._now()
        if not (answer.new or answer.closed or self._idled):
            if not await self._changed.wait(self._channel.idle):
                self._channel.idled(answer)
                self._idled = True
            return
        if self._since is None:
            self._since = now
        if answer.new or answer.closed:
            self._begun.set()
        new = None if answer.closed or self._idled else answer.new
        due = self._pace.due(now, new, self._since)
        if due > now:
            await self._changed.wait(due - now)
            return
        write = self._channel.next(answer)
        if write is not None:
            await self._make(write)
        else:  # it can't be told yet what it is
            self._noted()

    async def _make(self, write: Write) -> None:
        """Make a write; if it fails it is as new as before, and due when the pace says."""
        answer, new = self._answer, self._answer.new
        self._noted()
        self._pace.began(self._now())
        try:
            await write()
        except FloodError as error:
            self._floods += 1
            self._pace.flooded(self._now(), error.retry_after)
            self._trouble = error
        except UnreachableError as error:
            self._pace.failed(self._now())
            self._trouble = error
        except ExpiredError as error:
            self._channel.expired(answer)
            self._trouble = error
        else:
            self._pace.accepted()
            self._trouble = None
            return
        answer.new += new

    def _noted(self) -> None:
        self._answer.new, self._since, self._idled = 0, None, False

    async def _rest(self, until: float) -> None:
        """Wait until a write is due; give up if that isn't before *until*."""
        while (due := self._pace.due(now := self._now(), None, now)) > now:
            if due > until:
                raise self._gave_up()
            await self._changed.wait(due - now)

    def _gave_up(self) -> SinkError:
        return self._trouble or UnreachableError(f"no write ended within {self._give_up:g} s")

    def _expire(self) -> None:
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def _type(self) -> None:
        """Show that an answer is coming, until it does."""
        lasts = self._limits.typing
        if lasts is None:
            return
        while True:
            wait = lasts * EARLY
            try:
                await self._sink.typing()
            except FloodError as error:
                self._pace.flooded(self._now(), error.retry_after)
                wait = max(wait, error.retry_after or 0.0)
            except SinkError:
                pass  # it's a courtesy; if the chat is gone the first write tells
            if await self._begun.wait(wait):
                return

    def _now(self) -> float:
        return self._clock() / NS


def _loop_call_later(delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay, callback)
