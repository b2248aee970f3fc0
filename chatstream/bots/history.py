"""What was said in a chat, as far as it fits into a request.

It is kept in exchanges: what a user said with all that came of it, calls of functions
and their results among it. They are kept and dropped as wholes, so that no call is ever
without its result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import orjson
from attrs import define, frozen

from chatstream import DecodeError, MessageParam, RequestError, Usage
from chatstream.codec import load
from chatstream.messages import to_wire
from chatstream.schema import read, shape_of

Wire: TypeAlias = dict[str, Any]
"""A message in plain JSON values."""


def estimate_tokens(message: Mapping[str, Any]) -> int:
    """Estimate how many tokens a message of a request takes.

    One for each three bytes of its texts in UTF-8, and four for the message: English
    has four bytes to a token or more, code and CJK three, so that this is rather too
    much. An image, a sound or a file counts as 1,000, whatever its size.
    """
    return 4 + _weight(message)


def _weight(value: Any) -> int:
    match value:
        case str():
            return -(-len(value.encode("utf-8", "replace")) // 3)
        case {"type": "image_url" | "input_audio" | "file"}:
            return 1000
        case Mapping():
            return sum(_weight(item) for key, item in value.items() if key not in _UNSAID)
        case list():
            return sum(map(_weight, value))
    return 0


_UNSAID = frozenset({"role", "type"})


@define
class Exchange:
    """What a user said, and what came of it."""

    messages: list[Wire]
    tokens: int
    """As the server counted, or else estimated."""


@frozen
class _Saved:
    version: Literal[1]
    overhead: int
    turns: list[Exchange]


class History:
    """The exchanges of one chat after an opening, within a budget.

    The opening (a system prompt) always stays, and counts for *max_tokens* but not
    for *max_messages*.
    """

    def __init__(
        self,
        opening: Iterable[MessageParam] = (),
        *,
        max_tokens: int | None = None,
        max_messages: int | None = None,
        count_tokens: Callable[[Mapping[str, Any]], int] = estimate_tokens,
    ) -> None:
        for name, limit in (("max_tokens", max_tokens), ("max_messages", max_messages)):
            if limit is not None and limit < 1:
                raise RequestError(name, str(limit), "1 or more, or None")
        self._max_tokens = max_tokens
        self._max_messages = max_messages
        self._count_tokens = count_tokens
        self._opening = [to_wire(message) for message in opening]
        self._exchanges: deque[Exchange] = deque()
        self._overhead = self._estimate(self._opening)
        # Of what isn't in an exchange; definitions of tools are part of it once the
        # server has counted them.

    @property
    def messages(self) -> list[Wire]:
        """The opening and the exchanges, as a request has them."""
        return [*self._opening, *(said for each in self._exchanges for said in each.messages)]

    @property
    def tokens(self) -> int:
        """About how many tokens these messages take."""
        return self._overhead + sum(each.tokens for each in self._exchanges)

    def trim(self, said: Sequence[Wire]) -> None:
        """Drop the oldest exchanges until the others fit beside what is *said* now."""
        tokens = self.tokens + self._estimate(said)
        count = len(said) + sum(len(each.messages) for each in self._exchanges)
        while self._exchanges and (
            (self._max_tokens is not None and tokens > self._max_tokens)
            or (self._max_messages is not None and count > self._max_messages)
        ):
            dropped = self._exchanges.popleft()
            tokens -= dropped.tokens
            count -= len(dropped.messages)

    def keep(self, said: Sequence[Wire], answered: Sequence[Wire], usage: Usage | None) -> bool:
        """Add what was *said* and *answered*, but no call without its result.

        If nothing is left that was answered, nothing is added, and false returned.

        *usage* is that of the last answer, whose prompt was all that stood before it. A
        server that counted makes the sum of the tokens exact.
        """
        answered = _with_results(answered)
        if not answered:
            return False
        messages = [*said, *answered]
        self._exchanges.append(Exchange(messages, self._estimate(messages)))
        counted = None if usage is None else _total(usage)
        if counted is not None:
            self._settle(counted)
        return True

    def clear(self) -> None:
        """Forget the exchanges."""
        self._exchanges.clear()

    def to_json(self) -> str:
        """Return the exchanges as JSON; the opening and the budget are the program's."""
        turns = [{"messages": each.messages, "tokens": each.tokens} for each in self._exchanges]
        return orjson.dumps({"version": 1, "overhead": self._overhead, "turns": turns}).decode()

    def load_json(self, text: str | bytes) -> None:
        """Take the exchanges that :meth:`to_json` wrote for one's own.

        Raises ``DecodeError`` with the path of what isn't as it writes it.
        """
        saved: _Saved = read(_SAVED, load(text))
        for turn, each in enumerate(saved.turns):
            for at, message in enumerate(each.messages):
                if not isinstance(message.get("role"), str):
                    path = f"$.turns[{turn}].messages[{at}].role"
                    raise DecodeError(path, "string", type(message.get("role")).__name__)
        self._exchanges = deque(saved.turns)
        if saved.turns:
            self._overhead = saved.overhead

    def _settle(self, counted: int) -> None:
        """Make the sum what the server counted, whatever was estimated."""
        newest, before = self._exchanges[-1], self.tokens
        surplus = counted - before
        if len(self._exchanges) == 1 and surplus > 0:  # tools, and what a template adds
            self._overhead += surplus
        elif len(self._exchanges) > 1 and newest.tokens + surplus > 0:
            newest.tokens += surplus
        else:  # all was estimated too high
            for each in self._exchanges:
                each.tokens = max(each.tokens * counted // before, 1)
            self._overhead = max(counted - self.tokens + self._overhead, 0)

    def _estimate(self, messages: Iterable[Wire]) -> int:
        return sum(map(self._count_tokens, messages))


_SAVED = shape_of(_Saved)


def _with_results(messages: Sequence[Wire]) -> list[Wire]:
    """Return the messages, but none with calls that hasn't just their results after it."""
    # By their place: servers number calls anew in each answer.
    groups: list[list[Wire]] = []
    for message in messages:
        if message.get("tool_call_id") is not None and groups:
            groups[-1].append(message)
        else:
            groups.append([message])
    return [message for group in groups if _is_whole(*group) for message in group]


def _is_whole(said: Wire, *results: Wire) -> bool:
    calls = {call.get("id") for call in said.get("tool_calls") or ()}
    return said.get("tool_call_id") is None and calls == {
        result["tool_call_id"] for result in results
    }


def _total(usage: Usage) -> int | None:
    """Return what an answer and all before it took, without the reasoning, which isn't kept."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return usage.prompt_tokens + usage.completion_tokens - (usage.reasoning_tokens or 0)
