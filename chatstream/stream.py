"""One answer as it streams: drives the core over the body of a response.

::

    reads ─→ reader ─→ (held back until a token comes) ─→ marks, collector ─→ the caller

Until the first token nothing has been handed out, so an attempt that fails can be
thrown away and another made; after it, never. All iterators of a stream share one
cursor: what one has taken, another won't see.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import warnings
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from chatstream.arrival import Read
from chatstream.attempts import AttemptState
from chatstream.collector import MessageCollector
from chatstream.completion import ChatCompletion, ChatCompletionChunk, Verdict, whole_text
from chatstream.errors import (
    ChatStreamError,
    ConnectError,
    DecodeError,
    InterruptedStreamError,
    NotAnEventStreamError,
    RequestError,
    StatusError,
    StreamTimeoutError,
    UpstreamError,
)
from chatstream.events import (
    ChunkEvent,
    DeltaEvent,
    EventTranslator,
    Item,
    StreamEvent,
    chunk_events,
)
from chatstream.marks import NS, ConnectionMarks, Marks, seconds
from chatstream.observing import notify
from chatstream.reader import Arrived, ChunkReader
from chatstream.report import (
    ArrivalSource,
    Attempt,
    Observer,
    StreamReport,
    StreamStart,
    report_of,
)
from chatstream.response import ResponseInfo
from chatstream.retry import RetryPolicy
from chatstream.sse import DEFAULT_MAX_EVENT_SIZE
from chatstream.timeouts import CallLater, Timeouts, Watchdog

T = TypeVar("T")

MAX_HELD_BACK = 256
"""Events kept back while no token has come; from there they are handed out."""

_NOTHING: Iterator[Item] = iter(())

_stream_ids = itertools.count(1)


class Body(Protocol):
    """The body of one response, and what can be done with its connection."""

    info: ResponseInfo

    @property
    def source(self) -> ArrivalSource:
        """Who tells when the bytes arrived; the worst so far."""

    @property
    def paused(self) -> float:
        """Seconds in which reading had stopped because nobody took the bytes."""

    def wait(self) -> Awaitable[None] | None:
        """Return what to wait for before :meth:`take`, ``None`` if nothing."""

    def linger(self, seconds: float) -> Awaitable[None] | None:
        """Return the wait while bytes gather, ``None`` if they are to be taken at once."""

    def take(self) -> list[Read]:
        """Return what has come since; an empty list is the end. Raises ``ChatStreamError``."""

    async def release(self) -> None:
        """Give the connection back for reuse: the answer is over."""

    def abort(self) -> None:
        """Close the connection; a :meth:`wait` ends."""


class Source(Protocol):
    """Where a stream gets its response from, once per attempt."""

    model: str
    host: str
    choices: int
    """The number of choices that was asked for."""

    def room(self) -> Awaitable[object] | None:
        """Return the wait for a place among the requests in flight, if there is one."""

    async def open(self, marks: ConnectionMarks) -> Body:
        """Send the request and wait for the headers. Raises ``ChatStreamError``."""

    def redact(self, error: ChatStreamError) -> None:
        """Take out of an error what nobody may see."""


class ChatStream:
    """One streamed answer; ``session.stream(…)`` makes it, ``async with`` runs it.

    Iterate it once: over :class:`DeltaEvent` (``async for event in stream``),
    over text (:meth:`text`), over typed events (:meth:`events`), or let
    :meth:`collect` do it. :attr:`completion` and :attr:`report` can be read at
    any time and tell what is known so far.
    """

    __slots__ = (  # more than 30 attributes in a dict take 1.5 KB
        "__weakref__",
        "_attempts",
        "_body",
        "_clock",
        "_collector",
        "_entered",
        "_error",
        "_expired",
        "_half",
        "_held_error",
        "_holding",
        "_id",
        "_items",
        "_iterator",
        "_marks",
        "_max_event_size",
        "_max_response_size",
        "_observer_failures",
        "_observer_ns",
        "_observers",
        "_observing",
        "_preparation_ns",
        "_reader",
        "_reading",
        "_ready",
        "_rested_ns",
        "_retry",
        "_scope",
        "_source",
        "_timeouts",
        "_translator",
        "_typed",
        "_verdict",
        "_watchdog",
        "patience",
    )

    def __init__(
        self,
        source: Source,
        *,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        observers: Sequence[Observer] = (),
        max_event_size: int = DEFAULT_MAX_EVENT_SIZE,
        max_response_size: int | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        call_later: CallLater | None = None,
        preparation_ns: int = 0,
        scheduled_ns: int | None = None,
    ) -> None:
        self._source = source
        self._timeouts = timeouts or Timeouts()
        self._retry = retry or RetryPolicy()
        self._observers = observers
        self._max_event_size = max_event_size
        self._max_response_size = max_response_size
        self._clock = clock
        self._preparation_ns = preparation_ns
        self.patience = 0.0
        """About how many seconds what comes after the first token may lie before it is taken.

        For a caller who needs its arrivals, and not at once: to wake up for each
        chunk costs more than to read it. Where nothing tells arrivals, and for the
        end of the stream, nobody waits.
        """

        self._id = next(_stream_ids)
        self._marks = Marks(created_ns=0, scheduled_ns=scheduled_ns)
        self._collector = MessageCollector(expected_choices=source.choices)
        self._attempts: list[AttemptState] = []
        self._verdict: Verdict | None = None
        self._error: str | None = None  # its class: the error itself would keep us alive
        self._entered = False
        self._observing = False
        self._observer_ns = 0
        self._observer_failures = 0

        # The attempt under way, or the last one.
        self._body: Body | None = None
        self._reader = ChunkReader()
        self._rested_ns = 0

        # The shared cursor: chunks held back, last first, then what comes of the others.
        self._holding = True
        self._held_error: ChatStreamError | None = None
        self._ready: list[Arrived] = []
        self._items = _NOTHING
        self._translator: EventTranslator | None = None
        self._typed: deque[StreamEvent] | None = None
        self._half = ""
        self._iterator: weakref.ref[object] | None = None
        self._reading = False

        # What can be interrupted from outside, and why it was.
        self._scope: asyncio.Timeout | None = None
        self._expired: StreamTimeoutError | None = None
        this = weakref.ref(self)  # or the timer would keep a stream that nobody else has
        self._watchdog = Watchdog(
            self._timeouts,
            clock,
            call_later or _loop_call_later,
            lambda error: None if (stream := this()) is None else stream._on_expired(error),  # noqa: SLF001 its own
        )

    # --- Life ----------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Send the request and wait for the response's headers.

        Raises ``ChatStreamError`` if no attempt got that far.
        """
        if self._entered:
            msg = "a stream is entered once; call session.stream() again"
            raise RuntimeError(msg)
        self._entered = True
        if self._verdict is not None:  # closed before it began: nothing is sent
            return self
        self._marks.created_ns = self._clock() - self._preparation_ns
        self._watchdog.start(self._marks.created_ns)
        self._observing = bool(self._observers)
        if self._observing:
            self._notify("stream_started", self._start)
        try:
            await self._open(None)
        except ChatStreamError as error:
            if self._verdict is None:  # else it was closed from another task meanwhile
                self._fail(error)
                raise
        except BaseException as error:
            # Closed from another task it ends quietly, also if its session was closed.
            if self._leave(error) or not isinstance(error, RuntimeError):
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the connection, however the stream is left."""
        self._leave(error)
        if self._body is not None:
            await self._body.release()  # which does nothing to a closed one

    def __del__(self) -> None:
        """Close the connection of a stream that was entered and never left.

        Once iteration has begun, what it stopped at holds the stream: then it's the
        garbage collector who gets here.
        """
        # __init__ may have raised before there was anything.
        if not getattr(self, "_entered", False) or self._verdict is not None:
            return
        self._watchdog.stop()
        if self._body is not None:
            self._body.abort()
            message = "a stream was dropped instead of closed"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    async def aclose(self) -> None:
        """End the stream now, also from another task: its loop ends quietly."""
        if self._verdict is None:
            if not self._entered:
                self._marks.created_ns = self._clock()
            self._leave(None)
            self._abort()

    def _leave(self, error: BaseException | None) -> bool:
        """End a stream that the caller leaves before it is over; false if it was over."""
        if self._verdict is not None:
            return False
        verdict = self._collector.verdict
        if verdict is Verdict.TRUNCATED or not self._collector.finish_reasons:
            cancelled = isinstance(error, asyncio.CancelledError)
            verdict = Verdict.CANCELLED if cancelled else Verdict.CLOSED
            self._abort()
        self._end(verdict)
        return True

    def _end(self, verdict: Verdict) -> None:
        """Settle how the stream ended, and tell the observers."""
        self._verdict = verdict
        self._items = _NOTHING  # which hold us, and nobody takes them any more
        self._marks.end_ns = self._clock()
        self._watchdog.stop()
        if self._observing:
            report = self.report
            self._notify("stream_ended", report)

    def _fail(self, error: ChatStreamError) -> None:
        """End the stream with *error*, which takes along what is known."""
        self._error = type(error).__name__
        error.tail = self._reader.tail
        self._source.redact(error)
        if self._attempts and self._attempts[-1].error is None:
            self._attempts[-1].failed(error)
        if isinstance(error, InterruptedStreamError):
            error.after(self._marks.events)
        self._abort()
        self._end(verdict_of_error(error))
        error.partial = self.completion
        error.report = self.report
        error.attempts = self.attempts
        if error.request_id is None and self.response is not None:
            error.request_id = self.response.request_id

    def _abort(self) -> None:
        """Stop whatever is under way and close the connection."""
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())
        if self._body is not None:
            self._body.abort()

    def _on_expired(self, error: StreamTimeoutError) -> None:
        """Take a clock's word that time is up; whoever waits gets the error."""
        self._expired = error
        # What came while the caller was busy isn't lost; of an attempt before this one it is.
        if self._body is not None and self._scope is None:
            with contextlib.suppress(ChatStreamError):
                for read in self._body.take():
                    self._reader.push(read)
        self._abort()

    # --- What is known -------------------------------------------------------

    @property
    def entered(self) -> bool:
        """Whether the request was sent, or is about to be."""
        return self._entered

    @property
    def verdict(self) -> Verdict:
        """How the stream ended, or would have if it ended now."""
        return self._verdict or self._collector.verdict

    @property
    def completion(self) -> ChatCompletion:
        """The answer so far, put together."""
        return self._collector.completion(self._verdict)

    @property
    def marks(self) -> Marks:
        """The moments so far, of which the report is made; not to be changed."""
        return self._marks

    @property
    def report(self) -> StreamReport:
        """The latencies so far."""
        info = self.response
        body = self._body
        collector, attempts = self._collector, self.attempts
        return report_of(
            self._marks,
            verdict=self.verdict,
            usage=collector.usage,
            finish_reasons=collector.finish_reasons_by_index,
            stream_id=self._id,
            model=self._source.model,
            response_model=collector.model,
            completion_id=collector.id,
            request_id=info.request_id if info else None,
            status=info.status if info else None,
            error=self._error,
            done=self._reader.done,
            late_content=collector.late_content,
            attempts=attempts,
            comments=self._reader.comments,
            source=body.source if body is not None else None,
            paused=body.paused if body is not None else 0.0,
            observer_time=self._observer_ns / NS,
            observer_failures=self._observer_failures,
        )

    @property
    def response(self) -> ResponseInfo | None:
        """Status and headers of the newest response, ``None`` before there is one."""
        for attempt in reversed(self._attempts):
            if attempt.info is not None:
                return attempt.info
        return None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every try so far."""
        return tuple(attempt.told(self._marks.created_ns) for attempt in self._attempts)

    # --- What is handed out --------------------------------------------------

    def __aiter__(self) -> AsyncIterator[DeltaEvent]:
        """Iterate over the deltas: one event for each choice of each chunk."""
        return self._claim(_DeltaCursor(self))

    def text(self) -> AsyncIterator[str]:
        """Iterate over the text of the first choice, as it comes."""
        return self._claim(_Cursor(self, self._text_of, self._last_text, deque()))

    def events(self) -> AsyncIterator[StreamEvent]:
        """Iterate over typed events, one small class for each kind."""
        if self._typed is None:
            self._typed = deque()
        return self._claim(_Cursor(self, self._events_of, self._last_events, self._typed))

    def chunks(self) -> AsyncIterator[ChunkEvent]:
        """Iterate over the chunks, each whole and once, for who hands them on."""
        newest: ChatCompletionChunk | None = None

        def once(item: Item) -> Iterable[ChunkEvent]:
            # Each choice has its delta, and what a chunk says besides comes once more.
            nonlocal newest
            if item.chunk is newest:
                return ()
            newest = item.chunk
            return (ChunkEvent(item.elapsed, item.arrived_ns, item.coalesced, newest),)

        cursor: _Cursor[ChunkEvent] = _Cursor(self, once, tuple, deque())
        return self._claim(cursor)

    async def collect(self) -> ChatCompletion:
        """Read the rest of the stream and return the whole answer."""
        while True:
            for _ in self._items:
                pass
            if not await self._more():
                break
        return self.completion

    def _claim(self, iterator: _CursorT) -> _CursorT:
        if not self._entered:
            msg = "enter the stream first: async with session.stream(…) as stream"
            raise RuntimeError(msg)
        live = self._iterator is not None and self._iterator() is not None
        if live and self._verdict is None:
            msg = "the stream is being iterated already; all its iterators share one cursor"
            raise RuntimeError(msg)
        self._iterator = weakref.ref(iterator)
        return iterator

    def _text_of(self, item: Item) -> Iterable[str]:
        if not isinstance(item, DeltaEvent) or item.index != 0 or not item.content:
            return ()
        text = self._half + item.content
        # The first half of a surrogate pair waits for the second.
        cut = len(text) - ("\ud800" <= text[-1] <= "\udbff")
        self._half = text[cut:]
        return (whole_text(text[:cut]),) if cut else ()

    def _last_text(self) -> Iterable[str]:
        half, self._half = self._half, ""
        return (whole_text(half),) if half else ()

    def _events_of(self, item: Item) -> Iterable[StreamEvent]:
        if not isinstance(item, DeltaEvent):
            return (item,)
        if self._translator is None:
            self._translator = EventTranslator(self._collector)
        return self._translator.delta(item)

    def _last_events(self) -> Iterable[StreamEvent]:
        left = self._verdict in {Verdict.CLOSED, Verdict.CANCELLED}
        if left or self._error is not None or self._translator is None:
            return ()
        return self._translator.end()

    # --- The cursor ----------------------------------------------------------

    async def _more(self) -> bool:
        """Wait until there is more to step through; false at the end of the stream."""
        if self._verdict is not None:
            return False
        if self._reading:
            msg = "the stream is being read by another task"
            raise RuntimeError(msg)
        self._reading = True
        self._items = _NOTHING  # what is exhausted needn't take up memory
        try:
            if self._holding:
                await self._hold_back()
            elif self._held_error is not None:
                error, self._held_error = self._held_error, None
                raise error
            elif self._reader.ended:
                self._complete()
            else:
                await self._read()
        except ChatStreamError as error:
            if self._verdict is None:  # else it was closed from another task meanwhile
                self._fail(error)
                raise
        finally:
            self._reading = False
        if self._verdict is None:
            self._items = self._accepted()
        return self._verdict is None

    def _accepted(self) -> Iterator[Item]:
        """Yield what there is to hand out without waiting: its chunks count as known.

        The hot path; a generator because what it needs stays at hand.
        """
        marks, add, take, clock = self._marks, self._collector.add, self._reader.take, self._clock
        created_ns, token, lags = marks.created_ns, marks.token, marks.handed_lag_ns
        waiting_for_token = not marks.choices
        ready = self._ready
        while True:  # once the stream is over nobody asks for more
            if ready:
                arrived: Arrived | None = ready.pop()
            elif self._held_error is not None:
                return
            else:
                try:
                    arrived = take()
                except ChatStreamError as error:
                    harmless = isinstance(error, DecodeError | StreamTimeoutError)
                    if not (harmless and self._collector.all_finished):
                        self._fail(error)
                        raise
                    # Whatever this was, or if the server just didn't hang up: the answer
                    # was whole before it.
                    self._reader.ended = True
                    return
            if arrived is None:
                return
            chunk, arrived_ns, coalesced = arrived
            choices = chunk.choices
            add(chunk)
            marks.events += 1
            if coalesced:
                marks.coalesced += 1
            if marks.first_chunk_ns is None:
                marks.first_chunk_ns = arrived_ns
            for choice in choices:
                delta = choice.delta
                if delta.content:
                    token(choice.index, arrived_ns, True)
                elif delta.bears_token:
                    token(choice.index, arrived_ns, delta.bears_output)
            lags.append(clock() - arrived_ns)
            if waiting_for_token and marks.choices:
                waiting_for_token = False
                self._on_first_token(chunk)
            elapsed = (arrived_ns - created_ns) / NS
            for choice in choices:
                index, delta, reason = choice.index, choice.delta, choice.finish_reason
                yield DeltaEvent(
                    elapsed, arrived_ns, coalesced, index, delta, delta.content, reason, chunk
                )
            if not choices or chunk.envelope.usage is not None:
                yield from chunk_events(chunk, elapsed, arrived_ns, coalesced=coalesced)

    def _complete(self) -> None:
        """Settle the verdict of a stream that came to its end by itself."""
        collector = self._collector
        collector.done = self._reader.done
        verdict = collector.verdict
        if verdict is Verdict.TRUNCATED and not collector.all_finished:
            raise InterruptedStreamError(self._marks.events)
        self._end(verdict if collector.finish_reasons else Verdict.EMPTY)

    def _on_first_token(self, chunk: ChatCompletionChunk) -> None:
        usage = chunk.usage
        if usage is not None and usage.completion_tokens:
            tokens = usage.completion_tokens
            if usage.reasoning_tokens and self._marks.first_output_ns is not None:
                tokens -= usage.reasoning_tokens  # they weren't in this event, but unseen
            self._marks.first_event_tokens = max(1, tokens)
        if self._observing:
            wait = seconds(self._marks.created_ns, self._marks.first_token_ns)
            self._notify("first_token", self._start, wait)

    # --- Attempts ------------------------------------------------------------

    async def _open(self, failure: ChatStreamError | None) -> None:
        """Make attempts until one has its headers; *failure* ended the one before.

        Raises the error of the last attempt.
        """
        while True:
            failure = await self._open_unless_expired(failure)
            if failure is None:
                return

    async def _open_unless_expired(self, failure: ChatStreamError | None) -> ChatStreamError | None:
        """Make attempts; return what broke the first off, or the timeout that broke one off."""
        try:
            # Without a limit of its own: the watchdog and aclose() set it.
            async with asyncio.timeout(None) as scope:
                self._scope = scope
                if failure is None:
                    # Mostly there is no other: the machinery of tries can wait.
                    try:
                        await self._attempt()
                    except ChatStreamError as error:
                        return error
                else:
                    self._rest()
                    await self._retry.again(failure, self._attempt, made=len(self._attempts))
        except TimeoutError as error:
            if isinstance(error, ChatStreamError) or not scope.expired():
                raise
        finally:
            self._scope = None
        expired, self._expired = self._expired, None
        if expired is not None and self._attempts and self._attempts[-1].error is None:
            self._attempts[-1].failed(expired)
        late = expired is not None or self._verdict is not None
        if late and self._body is not None:  # it may have been opened at the last moment
            self._body.abort()
        return expired

    def _rest(self) -> None:
        """Let the clocks of an attempt rest until the next one."""
        self._rested_ns = self._clock()
        self._watchdog.rest()

    async def _attempt(self) -> None:
        """Send the request once and wait for the headers."""
        marks = ConnectionMarks(self._clock())
        first = not self._attempts
        if first:  # what the call itself took is part of the first attempt
            marks.started_ns = self._marks.created_ns
        room = self._source.room()
        if room is not None:
            self._watchdog.rest()
            await room
        if room is not None or not first:
            self._watchdog.attempt(self._clock())
        waited_ns = 0 if first else marks.started_ns - self._rested_ns
        state = AttemptState(len(self._attempts) + 1, marks, waited_ns)
        self._attempts.append(state)
        self._marks.connection = marks
        self._reader = ChunkReader(
            max_event_size=self._max_event_size, max_response_size=self._max_response_size
        )
        try:
            self._body = await self._source.open(marks)
        except ChatStreamError as error:
            state.failed(error)
            self._rest()
            raise
        state.info = self._body.info
        if marks.headers_ns is None:
            marks.headers_ns = self._clock()
        self._watchdog.waiting = False  # from here on it's the caller who may be slow

    async def _hold_back(self) -> None:
        """Read until a token comes, with as many attempts as the policy allows.

        What came before the token is ready then, its arrivals kept.
        """
        held = self._ready  # a caller who was cancelled in here may come back
        while self._holding and self._verdict is None:
            try:
                arrived = self._reader.take()
                if arrived is not None:
                    held.append(arrived)
                    bears = any(choice.delta.bears_token for choice in arrived[0].choices)
                    self._holding = not bears and len(held) < MAX_HELD_BACK
                elif self._reader.ended:
                    if not self._reader.done and not _finished(held):
                        raise InterruptedStreamError(len(held))
                    self._holding = False
                else:
                    await self._read()
            except ChatStreamError as error:
                if self._verdict is not None:
                    raise
                if isinstance(error, StreamTimeoutError) and _finished(held):
                    self._reader.ended = True  # it just didn't hang up
                    continue
                attempt = self._attempts[-1]
                if isinstance(error, InterruptedStreamError):
                    error.after(len(held))
                self._source.redact(error)
                attempt.failed(error)
                self._abort()
                try:
                    await self._open(error)
                except ChatStreamError as final:
                    self._holding = False
                    self._held_error = final
                # Without a further attempt, what came of this one is the answer.
                if attempt is not self._attempts[-1]:
                    held.clear()
        held.reverse()

    async def _read(self) -> None:
        """Wait for bytes and push them to the reader."""
        body, reader, watchdog = self._body, self._reader, self._watchdog
        assert body is not None  # noqa: S101 an attempt was opened
        if self.patience and not self._holding:
            gathering = body.linger(self.patience)
            if gathering is not None:
                await gathering
        watchdog.last_token_ns = self._marks.newest_token_ns
        watchdog.waiting = True
        try:
            if (waiter := body.wait()) is not None:
                await waiter
            reads = body.take()
        except ChatStreamError:
            if self._expired is None:
                raise
        else:
            for read in reads:
                reader.push(read)
            connection = self._marks.connection
            if connection is not None and connection.first_byte_ns is None:
                connection.first_byte_ns = reader.first_byte_ns
            if (not reads or reader.ended) and self._expired is None:
                reader.push_end(body.info)
        finally:
            watchdog.waiting = False
        if self._expired is not None:
            expired, self._expired = self._expired, None
            reader.break_off(expired)

    # --- Observers -----------------------------------------------------------

    @property
    def _start(self) -> StreamStart:
        return StreamStart(
            stream_id=self._id,
            model=self._source.model,
            created_ns=self._marks.created_ns,
            host=self._source.host,
        )

    def _notify(self, method: str, *arguments: Any) -> None:
        """Tell the observers, and note what it costs."""
        began_ns = self._clock()
        self._observer_failures += notify(self._observers, method, *arguments)
        self._observer_ns += self._clock() - began_ns


# --- Cursors -----------------------------------------------------------------


class _Cursor(Generic[T]):
    """An iterator over what *convert* makes of each item, and *last* of the end."""

    def __init__(
        self,
        stream: ChatStream,
        convert: Callable[[Item], Iterable[T]],
        last: Callable[[], Iterable[T]],
        ready: deque[T],
    ) -> None:
        self._stream = stream
        self._convert = convert
        self._last: Callable[[], Iterable[T]] | None = last
        self._ready = ready

    def __aiter__(self) -> _Cursor[T]:
        return self

    async def __anext__(self) -> T:
        stream = self._stream
        while not self._ready:
            if self._last is None:
                raise StopAsyncIteration
            for item in stream._items:  # noqa: SLF001 its other half
                self._ready.extend(self._convert(item))
                break
            else:
                if not await stream._more():  # noqa: SLF001
                    self._ready.extend(self._last())
                    self._last = None
        return self._ready.popleft()


class _DeltaCursor:
    """An iterator over the deltas; by itself because it is the hot path."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    def __aiter__(self) -> _DeltaCursor:
        return self

    async def __anext__(self) -> DeltaEvent:
        stream = self._stream
        while True:
            for item in stream._items:  # noqa: SLF001 its other half
                if type(item) is DeltaEvent:
                    return item
            if not await stream._more():  # noqa: SLF001
                raise StopAsyncIteration


_CursorT = TypeVar("_CursorT", bound="_DeltaCursor | _Cursor[Any]")


def _loop_call_later(delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay, callback)


# --- Outcomes ----------------------------------------------------------------


def _finished(held: Iterable[Arrived]) -> bool:
    """Whether a choice in these chunks said why it ended."""
    return any(choice.finish_reason for chunk, _, _ in held for choice in chunk.choices)


def verdict_of_error(error: ChatStreamError) -> Verdict:
    """Return how a call ended that raised *error*."""
    match error:
        case StreamTimeoutError():
            return Verdict.TIMEOUT
        case ConnectError() | RequestError():
            return Verdict.CONNECT_ERROR
        case StatusError():
            return Verdict.HTTP_ERROR
        case UpstreamError():
            return Verdict.UPSTREAM_ERROR
        case InterruptedStreamError():
            return Verdict.TRUNCATED
        case NotAnEventStreamError(seen=""):
            return Verdict.EMPTY
        case _:
            return Verdict.MALFORMED
