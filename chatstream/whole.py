"""One answer that isn't streamed: its attempts, its clocks, its report."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from chatstream import codec
from chatstream.arrival import read
from chatstream.attempts import AttemptState
from chatstream.completion import ChatCompletion, Verdict
from chatstream.errors import (
    ChatStreamError,
    FirstTokenTimeoutError,
    IdleTimeoutError,
    ResponseTooLargeError,
    StreamTimeoutError,
    TotalTimeoutError,
)
from chatstream.exchange import Exchange
from chatstream.marks import ConnectionMarks, Marks
from chatstream.observing import notify
from chatstream.reader import TAIL_BYTES
from chatstream.report import Observer, StreamReport, report_of
from chatstream.retry import RetryPolicy
from chatstream.stream import verdict_of_error
from chatstream.timeouts import Timeouts

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes read of an answer that isn't streamed, unless another limit is set."""


class WholeAnswer:
    """Gets one whole answer, with as many attempts as the policy allows."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        timeouts: Timeouts,
        retry: RetryPolicy,
        observers: Sequence[Observer],
        max_size: int,
        clock: Callable[[], int],
        scheduled_ns: int | None,
    ) -> None:
        self._exchange = exchange
        self._timeouts = timeouts
        self._retry = retry
        self._observers = observers
        self._max_size = max_size
        self._clock = clock
        self._marks = Marks(created_ns=clock(), scheduled_ns=scheduled_ns)
        self._attempts: list[AttemptState] = []

    async def get(self) -> ChatCompletion:
        """Return the answer. Raises ``ChatStreamError``, with the report of all attempts."""
        verdict, completion = Verdict.CANCELLED, None
        failure: ChatStreamError | None = None
        try:
            async with _limited(self._timeouts.total, TotalTimeoutError):
                completion = await self._try()
            verdict = completion.verdict or Verdict.FINISHED
        except ChatStreamError as error:
            failure = error
            verdict = verdict_of_error(error)
            raise
        finally:
            self._marks.end_ns = self._clock()
            report = self._report(verdict, completion, failure)
            if failure is not None:
                failure.report, failure.attempts = report, report.attempts
                failure.request_id = failure.request_id or report.request_id
            notify(self._observers, "stream_ended", report)
        return completion

    async def _try(self) -> ChatCompletion:
        try:
            return await self._attempt()
        except ChatStreamError as error:
            failure = error
        return await self._retry.again(failure, self._attempt)

    async def _attempt(self) -> ChatCompletion:
        exchange, limits = self._exchange, self._timeouts
        now = self._clock()
        marks = self._marks.connection = ConnectionMarks(now)
        waited_ns = now - self._marks.end_ns if self._marks.end_ns is not None else 0
        state = AttemptState(len(self._attempts) + 1, marks, waited_ns)
        self._attempts.append(state)
        room = exchange.room()
        if room is not None:
            await room
        body = None
        data = bytearray()
        try:
            async with _limited(limits.first_token, FirstTokenTimeoutError):
                body = await exchange.open(marks)
                state.info = body.info
                reads = await read(body)
            marks.first_byte_ns = reads[0].arrived_ns if reads else None
            while reads:
                for each in reads:
                    data += each.data
                if len(data) > self._max_size:
                    raise ResponseTooLargeError(self._max_size)
                async with _limited(limits.idle, IdleTimeoutError):
                    reads = await read(body)
            raw = codec.load_document(bytes(data))
            if (error := codec.read_error(raw)) is not None:
                raise error
            return codec.read_completion(raw)
        except ChatStreamError as error:
            error.tail = bytes(data[-TAIL_BYTES:])
            exchange.redact(error)
            state.failed(error)
            self._marks.end_ns = self._clock()
            raise
        finally:
            if body is not None:
                body.abort()  # unless it was read to its end

    def _report(
        self,
        verdict: Verdict,
        completion: ChatCompletion | None,
        failure: ChatStreamError | None,
    ) -> StreamReport:
        infos = (attempt.info for attempt in reversed(self._attempts))
        info = next((info for info in infos if info is not None), None)
        return report_of(
            self._marks,
            verdict=verdict,
            usage=completion.usage if completion else None,
            model=self._exchange.model,
            response_model=completion.model if completion else None,
            completion_id=completion.id if completion else None,
            request_id=info.request_id if info else None,
            status=info.status if info else None,
            error=None if failure is None else type(failure).__name__,
            attempts=tuple(attempt.told(self._marks.created_ns) for attempt in self._attempts),
        )


@contextlib.asynccontextmanager
async def _limited(limit: float | None, error: type[StreamTimeoutError]) -> AsyncIterator[None]:
    """Raise *error* if what is inside takes longer than *limit* seconds."""
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            yield
    except TimeoutError as caught:
        if isinstance(caught, ChatStreamError) or not scope.expired() or limit is None:
            raise
        raise error(limit) from None
