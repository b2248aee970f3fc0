"""What one stream was like: its latencies, its outcome, and who is told.

Durations are ``float`` seconds, ``None`` where something wasn't observed. The
definitions are those of :mod:`chatstream.marks`; the README has them in a table.
"""

from __future__ import annotations

import enum
from typing import Any, Protocol

import attrs
from attrs import field, frozen

from chatstream.completion import Usage, Verdict
from chatstream.marks import NS, ChoiceMarks, ConnectionMarks, Marks, percentile, seconds
from chatstream.values import Value


class ArrivalSource(enum.StrEnum):
    """Who told when bytes arrived, from the truest on."""

    KERNEL = "kernel"
    """The kernel, when it received them."""
    TRANSPORT = "transport"
    """The event loop's transport, when it had read them."""
    READER = "reader"
    """Our own coroutine, when it got to run: an upper bound."""


@frozen(eq=False, repr=False, kw_only=True)
class Phases(Value):
    """Where the time went before the first byte of the body.

    ``pool`` waiting for a connection from the pool, or for room to open one;
    ``dns``, ``tcp`` and ``tls`` opening it (``None`` if it was reused; where
    TCP and TLS can't be told apart, ``connect`` holds both); ``gate`` waiting
    for other requests to be sent; ``send`` from then until the kernel had the
    last byte; ``headers`` from then to the response's headers; ``body`` from
    those to its first byte.
    """

    reused: bool | None = None
    pool: float | None = None
    dns: float | None = None
    tcp: float | None = None
    tls: float | None = None
    connect: float | None = None
    gate: float | None = None
    send: float | None = None
    headers: float | None = None
    body: float | None = None

    @classmethod
    def of(cls, marks: ConnectionMarks) -> Phases:
        """Return the phases between the moments of one attempt."""
        opened = marks.connect_start_ns
        asked = opened if opened is not None else marks.acquired_ns
        tcp_start = marks.dns_end_ns if marks.dns_end_ns is not None else opened
        ready = marks.gate_passed_ns if marks.gate_passed_ns is not None else marks.acquired_ns
        return cls(
            reused=marks.reused,
            pool=seconds(marks.started_ns, asked),
            dns=seconds(marks.dns_start_ns, marks.dns_end_ns),
            tcp=seconds(tcp_start, marks.tcp_connected_ns),
            tls=seconds(marks.tcp_connected_ns, marks.connect_end_ns) if marks.secure else None,
            connect=seconds(tcp_start, marks.connect_end_ns),
            gate=seconds(marks.acquired_ns, marks.gate_passed_ns),
            send=seconds(ready, marks.sent_ns),
            headers=seconds(marks.sent_ns, marks.headers_ns),
            body=seconds(marks.headers_ns, marks.first_byte_ns),
        )


@frozen(eq=False, repr=False, kw_only=True)
class Attempt(Value):
    """One try at getting the answer.

    ``started`` is in seconds after the call, ``waited`` the pause before it.
    ``error`` is the sentence of what ended it, ``None`` if it gave the answer.
    """

    number: int
    started: float
    waited: float = 0.0
    status: int | None = None
    request_id: str | None = None
    error: str | None = None
    phases: Phases = field(factory=Phases)


@frozen(eq=False, repr=False, kw_only=True)
class ChoiceReport(Value):
    """The latencies of one choice, from the call to its events."""

    index: int
    time_to_first_token: float | None
    time_to_first_output: float | None
    inter_chunk_latencies: tuple[float, ...] = field(repr=False)
    duration: float | None
    finish_reason: str | None


@frozen(eq=False, repr=False, kw_only=True)
class Distribution(Value):
    """A distribution in short; seconds."""

    n: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> Distribution | None:
        """Return the distribution of *values*, ``None`` if there are none."""
        if not values:
            return None
        p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
        assert p50 is not None  # noqa: S101 there are values
        assert p99 is not None  # noqa: S101
        return cls(n=len(values), p50=p50, p99=p99, max=max(values))


class _Since:
    """One of the latencies, counted from another moment than the call."""

    def __init__(self, latency: str, moment: str) -> None:
        self._latency = latency
        self._moment = moment

    def __get__(self, report: StreamReport | None, _: object = None) -> float | None:
        if report is None:
            return None
        latency: float | None = getattr(report, self._latency)
        moment: float | None = getattr(report, self._moment)
        return None if latency is None or moment is None else latency - moment


@frozen(eq=False, repr=False, kw_only=True)
class StreamReport(Value):
    """Every latency of one stream, and how it ended.

    Latencies are seconds from the call (``created``); those named
    ``…_from_sent`` are from the moment the request was sent, those named
    ``…_from_schedule`` from the moment a load generator had planned.
    """

    verdict: Verdict
    stream_id: int = 0
    """The same in all calls to an observer about this stream."""
    model: str | None = None
    """The model that was asked for."""
    response_model: str | None = None
    completion_id: str | None = None
    request_id: str | None = None
    status: int | None = None
    error: str | None = None
    """The class of the error the stream ended with."""
    done: bool = False
    """Whether the server said ``[DONE]``."""
    late_content: bool = False
    """Whether a choice went on after its finish reason."""

    created_ns: int
    """The call, in nanoseconds of ``time.perf_counter_ns``."""
    dispatch_delay: float | None = None
    """From the planned to the actual call; load generators only."""
    sent: float | None = None
    """When the request had been sent."""
    time_to_first_byte: float | None = None
    """First byte of the body."""
    time_to_first_chunk: float | None = None
    """First data event of any kind."""
    time_to_first_token: float | None = None
    """First token-bearing event."""
    time_to_first_output: float | None = None
    """First token-bearing event that isn't reasoning."""
    inter_chunk_latencies: tuple[float, ...] = field(default=(), repr=False)
    """Gaps between neighbouring token-bearing events of one choice."""
    time_per_output_token: float | None = None
    """Mean time per token after the first event, by the server's own count."""
    duration: float | None = None
    """Last token-bearing event."""
    stream_end: float | None = None
    """The end of the stream, whatever ended it."""
    choices: tuple[ChoiceReport, ...] = ()
    phases: Phases = field(factory=Phases)
    attempts: tuple[Attempt, ...] = ()

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    events: int = 0
    """Data events of any kind."""
    token_events: int = 0
    """Token-bearing events of all choices."""
    comments: int = 0
    """Comment lines, as servers send to keep a connection open."""

    source: ArrivalSource | None = None
    """Who told the arrivals; the worst that was used."""
    coalesced_events: int = 0
    """Events that came in one read with later ones: their arrival is an upper bound."""
    paused: float = 0.0
    """Seconds in which reading had stopped because the caller was slow."""
    client_lag: Distribution | None = None
    """From the arrival of an event until the caller had it."""
    observer_time: float = 0.0
    """Seconds spent in observers before this report was made; in no other figure."""
    observer_failures: int = 0
    """Calls to observers before this report was made that raised."""

    time_to_first_byte_from_sent = _Since("time_to_first_byte", "sent")
    time_to_first_chunk_from_sent = _Since("time_to_first_chunk", "sent")
    time_to_first_token_from_sent = _Since("time_to_first_token", "sent")
    time_to_first_output_from_sent = _Since("time_to_first_output", "sent")
    duration_from_sent = _Since("duration", "sent")
    time_to_first_byte_from_schedule = _Since("time_to_first_byte", "_scheduled")
    time_to_first_chunk_from_schedule = _Since("time_to_first_chunk", "_scheduled")
    time_to_first_token_from_schedule = _Since("time_to_first_token", "_scheduled")
    time_to_first_output_from_schedule = _Since("time_to_first_output", "_scheduled")
    duration_from_schedule = _Since("duration", "_scheduled")

    @property
    def _scheduled(self) -> float | None:
        return None if self.dispatch_delay is None else -self.dispatch_delay

    @property
    def coalesced_share(self) -> float | None:
        """Share of the events that came in one read with later ones."""
        return self.coalesced_events / self.events if self.events else None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values, ``None`` where not observed."""
        plain: dict[str, Any] = attrs.asdict(self, value_serializer=_plain)
        plain["coalesced_share"] = self.coalesced_share
        for name, value in vars(StreamReport).items():
            if isinstance(value, _Since):
                plain[name] = getattr(self, name)
        return plain

    def __str__(self) -> str:
        rows = [("verdict", str(self.verdict) + (f" ({self.error})" if self.error else ""))]
        if len(self.attempts) > 1:
            rows.append(("attempts", str(len(self.attempts))))
        rows += [
            (label, _milliseconds(value))
            for label, value in (
                ("request sent", self.sent),
                ("time to first byte", self.time_to_first_byte),
                ("time to first chunk", self.time_to_first_chunk),
                ("time to first token", self.time_to_first_token),
                ("time to first output", self.time_to_first_output),
                ("time per output token", self.time_per_output_token),
                ("duration", self.duration),
            )
            if value is not None
        ]
        gaps = self.inter_chunk_latencies
        if gaps:
            p50, p99 = percentile(gaps, 0.5), percentile(gaps, 0.99)
            text = f"p50 {_milliseconds(p50)}, p99 {_milliseconds(p99)}, n {len(gaps)}"
            rows.append(("inter-chunk latency", text))
        if self.completion_tokens is not None:
            prompt = "" if self.prompt_tokens is None else f"{self.prompt_tokens} in, "
            rows.append(("tokens", f"{prompt}{self.completion_tokens} out"))
        if self.source is not None:
            share = self.coalesced_share or 0.0
            rows.append(("arrival", f"{self.source} stamps, {share:.1%} of events coalesced"))
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)


def _plain(_: object, __: object, value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value * 1000:.2f} ms"


def report_of(
    marks: Marks,
    *,
    verdict: Verdict,
    usage: Usage | None = None,
    finish_reasons: dict[int, str | None] | None = None,
    attempts: tuple[Attempt, ...] = (),
    **facts: Any,
) -> StreamReport:
    """Turn the moments of a stream into its report; *facts* are its other fields."""
    created = marks.created_ns
    connection = marks.connection or ConnectionMarks(created)
    reasons = finish_reasons or {}
    choices = sorted(marks.choices.items())
    gaps = {index: choice.inter_chunk_latencies() for index, choice in choices}
    return StreamReport(
        verdict=verdict,
        created_ns=created,
        dispatch_delay=seconds(marks.scheduled_ns, created),
        sent=seconds(created, connection.sent_ns),
        time_to_first_byte=seconds(created, connection.first_byte_ns),
        time_to_first_chunk=seconds(created, marks.first_chunk_ns),
        time_to_first_token=seconds(created, marks.first_token_ns),
        time_to_first_output=seconds(created, marks.first_output_ns),
        inter_chunk_latencies=gaps[choices[0][0]]
        if len(choices) == 1
        else tuple(gap for index, _ in choices for gap in gaps[index]),
        time_per_output_token=_time_per_output_token(marks, usage),
        duration=seconds(created, marks.last_token_ns),
        stream_end=seconds(created, marks.end_ns),
        choices=tuple(
            ChoiceReport(
                index=index,
                time_to_first_token=seconds(created, choice.first_token_ns),
                time_to_first_output=seconds(created, choice.first_output_ns),
                inter_chunk_latencies=gaps[index],
                duration=seconds(created, choice.last_token_ns),
                finish_reason=reasons.get(index),
            )
            for index, choice in choices
        ),
        phases=attempts[-1].phases if attempts else Phases.of(connection),
        attempts=attempts,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        reasoning_tokens=usage.reasoning_tokens if usage else None,
        events=marks.events,
        token_events=marks.token_events,
        coalesced_events=marks.coalesced,
        client_lag=Distribution.of([lag / NS for lag in marks.handed_lag_ns]),
        **facts,
    )


def _time_per_output_token(marks: Marks, usage: Usage | None) -> float | None:
    """Return the one choice's mean time per token; for several there is none."""
    if usage is None or usage.completion_tokens is None or len(marks.choices) != 1:
        return None
    choice: ChoiceMarks = next(iter(marks.choices.values()))
    tokens = usage.completion_tokens
    if not choice.reasoned and usage.reasoning_tokens:
        tokens -= usage.reasoning_tokens  # it reasoned, but didn't show it
    return choice.time_per_output_token(tokens, marks.first_event_tokens)


@frozen(eq=False, repr=False, kw_only=True)
class StreamStart(Value):
    """What is known of a stream when it starts."""

    stream_id: int
    model: str
    created_ns: int
    host: str


class Observer(Protocol):
    """Who is told of streams: one call with the report when a stream ends.

    Calls are made in the event loop and must be quick: the time they take is
    measured, and enters no figure. What they raise is logged once and counted,
    and harms nothing. An observer may also have ``stream_started(start:
    StreamStart)`` and ``first_token(start: StreamStart, time_to_first_token:
    float)``.
    """

    def stream_ended(self, report: StreamReport) -> None:
        """Take the report of a stream that ended, however it ended."""
