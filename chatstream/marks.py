"""The moments of one stream, and the latencies between them.

Moments are ``int`` nanoseconds of one monotonic clock; latencies are ``float``
seconds. Nothing here reads a clock: whoever saw a moment passes it in. What
wasn't observed is ``None``, never 0.

A *token-bearing* event has content, reasoning, refusal, audio, or a tool call's
name or arguments. Roles, empty deltas, finish reasons, usage, comments and
``[DONE]`` are moments too, but no tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from attrs import Factory, define, field

NS = 1_000_000_000


def seconds(start_ns: int | None, end_ns: int | None) -> float | None:
    """Return the seconds between two moments, ``None`` if one wasn't observed."""
    if start_ns is None or end_ns is None:
        return None
    return (end_ns - start_ns) / NS


@define(eq=False)
class ConnectionMarks:
    """The moments of one attempt up to the first byte of its answer.

    ``acquired`` is when a connection was at hand, new or from the pool;
    ``sent`` when the last byte of the request was handed to the kernel.
    """

    started_ns: int
    dns_start_ns: int | None = None
    dns_end_ns: int | None = None
    connect_start_ns: int | None = None
    tcp_connected_ns: int | None = None
    secure: bool = False
    """Whether TLS was spoken after that."""
    connect_end_ns: int | None = None
    reused: bool | None = None
    """Whether the connection had served before, ``None`` if unknown."""
    acquired_ns: int | None = None
    gate_passed_ns: int | None = None
    sent_ns: int | None = None
    headers_ns: int | None = None
    first_byte_ns: int | None = None


@define(eq=False)
class ChoiceMarks:
    """The moments of one choice's tokens."""

    arrivals_ns: array[int] = field(factory=lambda: array("q"))
    """Arrival of each token-bearing event."""
    first_output_ns: int | None = None
    """Arrival of the first token that isn't reasoning."""
    reasoned: bool = False
    """Whether reasoning came, too."""

    @property
    def first_token_ns(self) -> int | None:
        """Arrival of the first token-bearing event."""
        return self.arrivals_ns[0] if self.arrivals_ns else None

    @property
    def last_token_ns(self) -> int | None:
        """Arrival of the last token-bearing event."""
        return self.arrivals_ns[-1] if self.arrivals_ns else None

    def inter_chunk_latencies(self) -> tuple[float, ...]:
        """Return the gaps between neighbouring token-bearing events, in seconds."""
        times = self.arrivals_ns
        return tuple((times[i] - times[i - 1]) / NS for i in range(1, len(times)))

    def time_per_output_token(
        self, output_tokens: int | None, first_event_tokens: int = 1
    ) -> float | None:
        """Mean seconds per output token after the first event.

        ``(last - first) / (output_tokens - first_event_tokens)``, with the
        server's own token count. ``None`` without a count or nothing after it.
        """
        first, last = self.first_token_ns, self.last_token_ns
        if output_tokens is None or output_tokens <= first_event_tokens:
            return None
        span = seconds(first, last)
        return None if span is None else span / (output_tokens - first_event_tokens)


@define(eq=False)
class Marks:
    """The moments of one stream, filled in as they come."""

    created_ns: int
    scheduled_ns: int | None = None
    connection: ConnectionMarks | None = None
    """Of the attempt that gave the answer, or the last one."""
    first_chunk_ns: int | None = None
    newest_token_ns: int | None = None
    """Arrival of the token-bearing event noted last."""
    end_ns: int | None = None
    choices: dict[int, ChoiceMarks] = Factory(dict)
    events: int = 0
    """Data events of any kind."""
    coalesced: int = 0
    """Data events that shared their read with later ones."""
    first_event_tokens: int = 1
    """Tokens in the first token-bearing event, where the server counts along."""
    handed_lag_ns: array[int] = field(factory=lambda: array("q"))
    """For each event, the time from arrival until the caller had it."""

    def token(self, index: int, arrived_ns: int, output: bool) -> None:  # noqa: FBT001 the hot path
        """Note a token-bearing event of one choice; *output*: it isn't reasoning."""
        choice = self.choices.get(index)
        if choice is None:
            choice = self.choices[index] = ChoiceMarks()
        choice.arrivals_ns.append(arrived_ns)
        self.newest_token_ns = arrived_ns
        if not output:
            choice.reasoned = True
        elif choice.first_output_ns is None:
            choice.first_output_ns = arrived_ns

    @property
    def first_token_ns(self) -> int | None:
        """Arrival of the first token-bearing event of any choice."""
        return min((c.arrivals_ns[0] for c in self.choices.values()), default=None)

    @property
    def last_token_ns(self) -> int | None:
        """Arrival of the last token-bearing event of any choice."""
        return max((c.arrivals_ns[-1] for c in self.choices.values()), default=None)

    @property
    def first_output_ns(self) -> int | None:
        """Arrival of the first token of any choice that isn't reasoning."""
        found = (c.first_output_ns for c in self.choices.values())
        return min((at for at in found if at is not None), default=None)

    @property
    def token_events(self) -> int:
        """Token-bearing events of all choices."""
        return sum(len(choice.arrivals_ns) for choice in self.choices.values())


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the *share* (0 to 1) quantile, linear between neighbours as numpy's.

    ``None`` without values.
    """
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
