"""Makes a load from one event loop: a worker's part of a plan, and a record of each request."""

from __future__ import annotations

import asyncio
import contextlib
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from attrs import frozen

from chatstream import (
    ChatSession,
    ChatStream,
    ChatStreamError,
    ConnectError,
    RequestError,
    RequestWarning,
    RetryPolicy,
)
from chatstream.bench.deadlines import Deadlines
from chatstream.bench.plan import Plan, Target
from chatstream.bench.record import TOKENS, RequestRecord, kind_of
from chatstream.bench.schedule import arrivals_of, numbers_of, slots_of
from chatstream.bench.watch import Watch
from chatstream.bench.workload import Turn
from chatstream.completion import ChatCompletion, Verdict
from chatstream.marks import NS
from chatstream.phases import Gate, let_out

Emit = Callable[[RequestRecord], None]

_MOST_NS = 2**62

PATIENCE = 0.5
"""About how many seconds events may lie before they are looked at: nobody waits for them here, and
to wake up for each takes a third of what a load costs."""

T = TypeVar("T")


@frozen(kw_only=True)
class Job:
    """One worker's part of a plan."""

    plan: Plan
    start_ns: int
    """When it begins, on the clock of this process."""
    offset_ns: int = 0
    """How long the whole run has gone on by then."""
    stage: int = 0
    worker: int = 0
    workers: int = 1

    @property
    def zero_ns(self) -> int:
        """When the run began: moments in records count from then."""
        return self.start_ns - self.offset_ns


class Runner:
    """Does a job; *emit* gets each request's record when it is over.

    Raises ``RequestError`` if the plan asks what can't be sent.
    """

    def __init__(self, job: Job, emit: Emit) -> None:
        job.plan.workload.conversation(0, job.plan.seed)  # an order is shuffled once, beforehand
        self._job = job
        self._emit = emit
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Make no more requests and cancel those under way; their records still come."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> dict[str, object]:
        """Make the load to its end and return what it cost, see :class:`Watch`."""
        with Watch() as watch:
            self._task = task = asyncio.create_task(self._run())
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                task.cancel()
                await asyncio.wait({task})  # those under way still leave their records
                raise
            try:
                task.result()
            except asyncio.CancelledError:
                if not self._stopped:
                    raise
            except BaseExceptionGroup as group:
                raise _first(group) from None
        return watch.figures()

    async def _run(self) -> None:
        if self._stopped:
            return
        gate = Gate()
        let_out.set(True)  # in this task and those it starts
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for place, target in enumerate(self._job.plan.targets):
                session = await stack.enter_async_context(_session(self._job.plan, target))
                asker = _Asker(self._job, place, session, gate, self._emit)
                group.create_task(asker.run())


def check(plan: Plan) -> None:
    """See whether a plan's first request can be sent. Raises ``RequestError``.

    The others aren't looked at: what is wrong with one is the server's to say.
    """
    turn = plan.workload.conversation(0, plan.seed).turns[0]
    for target in plan.targets:
        body = _body(plan, target, turn, list(turn.messages))
        with warnings.catch_warnings():
            # Whoever names max_tokens measures a server that knows no other.
            warnings.simplefilter("ignore", RequestWarning)
            _session(plan, target).stream(body, extra_body=plan.extra_body)


def _body(plan: Plan, target: Target, turn: Turn, messages: list[Any]) -> dict[str, Any]:
    """Return a request: what the plan says of all goes before what a turn says of its own."""
    params = {**turn.params, **plan.params}
    if "max_completion_tokens" in params:  # newer models know no other, and refuse both
        params.pop("max_tokens", None)
    return {**params, "model": target.model, "messages": messages}


def _session(plan: Plan, target: Target) -> ChatSession:
    return ChatSession(
        target.base_url,
        target.api_key,
        headers=target.headers,
        api_version=target.api_version,
        proxy=target.proxy,
        trust_env=target.trust_env,
        timeouts=plan.timeouts,
        retry=_Tries(attempts=plan.attempts),
        validate=plan.validate,
    )


@frozen
class _Tries(RetryPolicy):
    """The plan's tries, of which a connection that was closed while idle costs none.

    llama.cpp's server closes each connection after its stream without saying so, just when
    the next request is sent on it: of a closed load every other request would fail. Nobody
    had begun to answer it, and any browser would ask again.
    """

    async def again(
        self, failure: ChatStreamError, attempt: Callable[[], Awaitable[T]], *, made: int = 1
    ) -> T:
        """Ask again at once after such a connection; the pool may hold more of them."""
        while isinstance(failure, ConnectError) and failure.reused:
            try:
                return await attempt()
            except ChatStreamError as error:
                failure = error
        return await super().again(failure, attempt, made=made)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Asker:
    """Asks one target what the plan wants of it, when it is due."""

    def __init__(self, job: Job, place: int, session: ChatSession, gate: Gate, emit: Emit) -> None:
        self._job = job
        self._place = place
        self._gate = gate
        self._target = job.plan.targets[place]
        self._session = session
        self._emit = emit

    async def run(self) -> None:
        """Make the whole load."""
        if self._job.plan.load.closed:
            await self._closed()
        else:
            await self._open()

    async def _closed(self) -> None:
        job, load = self._job, self._job.plan.load
        numbers = numbers_of(load, job.worker, job.workers)
        end_ns = None if load.duration is None else job.start_ns + round(load.duration * NS)
        async with asyncio.TaskGroup() as group:
            for begins in slots_of(load, job.worker, job.workers):
                group.create_task(self._slot(job.start_ns + round(begins * NS), end_ns, numbers))

    async def _slot(self, begins_ns: int, end_ns: int | None, numbers: Iterator[int]) -> None:
        """Ask as soon as the answer before is whole, until the numbers or the time run out."""
        free_ns = begins_ns
        await _sleep_until(begins_ns)
        while end_ns is None or free_ns < end_ns:
            number = next(numbers, None)
            if number is None:
                break
            free_ns = await self._converse(number, free_ns)

    async def _open(self) -> None:
        job, load = self._job, self._job.plan.load
        room = asyncio.Semaphore(_share_of_ceiling(load.max_concurrency, job))
        with Deadlines() as deadlines:
            async with asyncio.TaskGroup() as group:
                for number, due in arrivals_of(load, job.plan.seed, job.worker, job.workers):
                    due_ns = job.start_ns + round(due * NS)
                    await deadlines.until(due_ns)
                    group.create_task(self._when_room(room, number, due_ns))

    async def _when_room(self, room: asyncio.Semaphore, number: int, due_ns: int) -> None:
        async with room:
            await self._converse(number, due_ns)

    async def _converse(self, number: int, due_ns: int) -> int:
        """Ask all turns of a conversation; return when the last was answered."""
        plan = self._job.plan
        history: list[Any] = []
        turns = plan.workload.conversation(number, plan.seed).turns
        for place, turn in enumerate(turns):
            if place:
                due_ns += round(turn.delay * NS)
                await _sleep_until(due_ns)
            history.extend(turn.messages)
            record = RequestRecord(
                number=number,
                turn=place,
                turns_left=len(turns) - place - 1,
                target=self._place,
                stage=self._job.stage,
                worker=self._job.worker,
                warmup=number < plan.load.warmup,
                scheduled_ns=due_ns - self._job.zero_ns,
                created_ns=0,
                end_ns=0,
                verdict=Verdict.CANCELLED,
            )
            body = _body(plan, self._target, turn, history)
            completion = await self._ask(record, body, due_ns)
            due_ns = self._job.zero_ns + record.end_ns
            if record.turns_left or place + 1 == len(turns):
                break
            history.append(completion.choices[0].message)
        return due_ns

    async def _ask(
        self, record: RequestRecord, body: dict[str, Any], due_ns: int
    ) -> ChatCompletion:
        """Make one request and emit its record, however it ends."""
        # A call that is made before it can be sent would have our own queue in its latencies.
        # Here that is lateness, which is told by itself.
        await self._gate.enter()
        stream = self._session.stream(
            body,
            extra_body=self._job.plan.extra_body,
            validate=False,  # check() did
            scheduled_ns=due_ns,
        )
        stream.patience = PATIENCE
        try:
            async with stream:
                await self._listen(stream, record)
        except RequestError:
            raise
        except ChatStreamError as error:
            record.error, record.detail = type(error).__name__, str(error)
        finally:
            if stream.entered:
                self._fill(record, stream)
                self._emit(record)
        return stream.completion

    async def _listen(self, stream: ChatStream, record: RequestRecord) -> None:
        """Note what comes: the hot path."""
        zero_ns = self._job.zero_ns
        arrivals, truth = record.arrivals_ns, record.truth_ns
        choices, coalesced, tokens = record.choices, record.coalesced, record.tokens
        kinds: list[str] = []
        try:
            async for event in stream:
                arrivals.append(event.arrived_ns - zero_ns)
                kinds.append("c" if event.content else kind_of(event.delta, event.finish_reason))
                choices.append(event.index)
                if event.coalesced:
                    coalesced.append(len(kinds) - 1)
                envelope = event.chunk.envelope
                usage = envelope.usage
                tokens.append((usage and usage.completion_tokens) or -1)
                sent_ns = envelope.extra.get("sent_ns")
                if type(sent_ns) is int and 0 <= sent_ns < _MOST_NS:  # else another server's
                    truth.append(sent_ns - zero_ns)
        finally:
            record.kinds = "".join(kinds)
            if not any(choices):
                choices.clear()
            first = next((place for place, kind in enumerate(kinds) if kind in TOKENS), None)
            if first is None or tokens[first] < 0:  # the server counts at the end, or not at all
                tokens.clear()
            if len(truth) != len(arrivals):
                del truth[:]

    def _fill(self, record: RequestRecord, stream: ChatStream) -> None:
        """Take over what the stream itself knows."""
        zero_ns = self._job.zero_ns

        def moment(at_ns: int | None) -> int | None:
            return None if at_ns is None else at_ns - zero_ns

        marks, report = stream.marks, stream.report
        record.created_ns = marks.created_ns - zero_ns
        record.first_chunk_ns = moment(marks.first_chunk_ns)
        record.end_ns = (marks.end_ns or time.perf_counter_ns()) - zero_ns
        if (connection := marks.connection) is not None:
            record.acquired_ns = moment(connection.acquired_ns)
            record.gate_passed_ns = moment(connection.gate_passed_ns)
            record.sent_ns = moment(connection.sent_ns)
            record.headers_ns = moment(connection.headers_ns)
            record.first_byte_ns = moment(connection.first_byte_ns)
            record.reused = connection.reused
        record.verdict = report.verdict.value
        if record.turns_left and report.verdict.good and stream.completion.choices:
            record.turns_left = 0
        record.status = report.status
        record.attempts = len(report.attempts)
        record.request_id = report.request_id
        record.prompt_tokens = report.prompt_tokens
        record.completion_tokens = report.completion_tokens
        record.reasoning_tokens = report.reasoning_tokens
        record.source = None if report.source is None else report.source.value
        record.paused = report.paused
        if self._job.plan.keep_text:
            record.text = stream.completion.text


def _share_of_ceiling(ceiling: int | None, job: Job) -> int:
    """Return how many requests this worker may have open."""
    if ceiling is None:
        return 2**31
    share = len(range(job.worker, ceiling, job.workers))
    return max(1, share)


async def _sleep_until(due_ns: int) -> None:
    left = due_ns - time.perf_counter_ns()
    if left > 0:
        await asyncio.sleep(left / NS)
