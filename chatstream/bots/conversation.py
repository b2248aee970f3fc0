"""A chat in which one speaks at a time.

::

    conversation = Conversation(system="Be brief.", max_tokens=8_000)

    async with conversation.turn("Hi") as turn:
        async with session.stream(model="m", messages=turn.messages) as stream:
            turn.answer(stream)
            async for text in stream.text():
                ...

When a turn is left, in whatever way, what was answered by then is kept. If nothing was,
what the user said is taken back: it can be said again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from chatstream import ChatCompletion, ChatStreamError, MessageParam, RequestError, user
from chatstream import system as system_message
from chatstream.bots.floor import Claim, Floor, SupersededError
from chatstream.bots.history import History, Wire, estimate_tokens
from chatstream.messages import to_wire
from chatstream.tools import Run, words_of

__all__ = [
    "Answering",
    "Conversation",
    "Conversations",
    "Policy",
    "SupersededError",
    "Turn",
    "estimate_tokens",
]

K = TypeVar("K", bound=Hashable)
Policy: TypeAlias = Literal["queue", "cancel-previous"]


class Answering(Protocol):
    """What an answer comes from, such as a ``ChatStream``."""

    @property
    def completion(self) -> ChatCompletion:
        """The answer so far."""


class Conversation:
    """The history of one chat, and whose turn it is.

    Before each turn whole ones are dropped, the oldest first, until with what the user
    says now there are at most *max_messages*, and about *max_tokens* with the *system*
    prompt. The latter is always sent, and counts as no message. Leave room for the
    answer, which a model's context holds too. Where answers bring their usage, tokens
    are as the server counted them; *count_tokens* estimates the others.

    *policy* says what a message does that comes before the last one is answered: it
    waits its turn (``queue``), or breaks off those before it (``cancel-previous``).
    *reasoning_key* is the name under which reasoning goes back, for servers that want it.
    """

    def __init__(
        self,
        *,
        system: str | MessageParam | None = None,
        max_tokens: int | None = None,
        max_messages: int | None = None,
        count_tokens: Callable[[Mapping[str, Any]], int] = estimate_tokens,
        policy: Policy = "queue",
        reasoning_key: str | None = None,
    ) -> None:
        if policy not in ("queue", "cancel-previous"):
            raise RequestError("policy", repr(policy), "queue or cancel-previous")
        if isinstance(system, str):
            system = system_message(system)
        self._history = History(
            () if system is None else (system,),
            max_tokens=max_tokens,
            max_messages=max_messages,
            count_tokens=count_tokens,
        )
        self._floor: Floor[Wire] = Floor(newest_wins=policy == "cancel-previous")
        self._reasoning_key = reasoning_key

    @property
    def messages(self) -> list[Wire]:
        """The system prompt and the turns that are over, as a request has them."""
        return self._history.messages

    @property
    def tokens(self) -> int:
        """About how many tokens these messages take."""
        return self._history.tokens

    @property
    def busy(self) -> bool:
        """Whether a turn runs or waits."""
        return bool(self._floor.claims)

    def turn(self, *messages: str | MessageParam) -> Turn:
        """Return the turn of what the user says; ``async with`` waits until it is due.

        Turns come one after the other, in the order in which they are entered. Under
        ``cancel-previous``, entering one cancels the tasks of those before it, which see
        :class:`SupersededError` at the end of their ``async with``, or instead of its
        beginning. What they were answered by then is kept; what they said without an
        answer comes before the new message.
        """
        if not messages:
            raise RequestError("messages", "nothing", "what the user says")
        said = [to_wire(user(each) if isinstance(each, str) else each) for each in messages]
        return Turn(said, self._history, self._floor, self._reasoning_key)

    def clear(self) -> None:
        """Forget the turns that are over."""
        self._history.clear()

    def to_json(self) -> str:
        """Return the turns that are over as JSON. The options are no part of it."""
        return self._history.to_json()

    @classmethod
    def from_json(cls, text: str | bytes, **options: Any) -> Self:
        """Return the conversation that :meth:`to_json` wrote, with *options* of this class.

        Raises ``DecodeError`` with the path of what isn't as it writes it.
        """
        conversation = cls(**options)
        conversation._history.load_json(text)
        return conversation


class Turn:
    """What a user says, and what comes of it; :meth:`Conversation.turn` makes it."""

    def __init__(
        self, said: list[Wire], history: History, floor: Floor[Wire], reasoning_key: str | None
    ) -> None:
        self.said = said
        """What the user says; after the turn began, with what was left unanswered before it."""
        self._history = history
        self._floor = floor
        self._reasoning_key = reasoning_key
        self._before: list[Wire] = []
        self._between: list[Wire] = []
        self._answer: ChatCompletion | Answering | None = None
        self._claim: Claim[Wire] | None = None

    @property
    def messages(self) -> list[Wire]:
        """What to send: the history as far as it fits, and what was said since."""
        return [*self._before, *self.said, *self._between]

    def add(self, *messages: MessageParam) -> None:
        """Keep what comes before the answer: calls and their results, if you make them yourself.

        Of what is added, a call without its result isn't kept in the end.
        """
        self._between += [to_wire(message) for message in messages]

    def answer(self, answer: ChatCompletion | Answering) -> None:
        """Keep the words of an answer, as they are when the turn is left.

        That may be a completion, or what still runs: a ``ChatStream``, or a run of
        :func:`chatstream.tools.run` with its calls. Without one, the words are those
        that an error out of a stream has brought, if there are any.
        """
        self._answer = answer

    async def __aenter__(self) -> Self:
        """Wait until it is this one's turn."""
        if self._claim is not None:
            msg = "a turn is entered once; call conversation.turn() again"
            raise RuntimeError(msg)
        self._claim = self._floor.claim(self.said)
        try:
            await self._claim.wait()
        except asyncio.CancelledError as error:
            self._claim.end(error, answered=False)
            raise
        self.said = [*self._floor.take_unanswered(), *self.said]
        self._claim.said = self.said
        self._history.trim(self.said)
        self._before = self._history.messages
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keep what was said, and let the next one speak."""
        assert self._claim is not None  # noqa: S101 it was entered
        answered, usage = self._between, None
        answer = self._answer
        if answer is None and isinstance(error, ChatStreamError):
            answer = error.partial
        if answer is not None:
            completion = answer if isinstance(answer, ChatCompletion) else answer.completion
            usage = completion.usage
            words = words_of(completion, self._reasoning_key)
            added = answer.added if isinstance(answer, Run) else [words] if words else []
            answered = [*answered, *map(to_wire, added)]
        kept = self._history.keep(self.said, answered, usage)
        self._claim.end(error, answered=kept)


class Conversations(Generic[K]):
    """The conversations of many chats, made when first asked for; *make* makes one.

    At most *limit* are kept: beyond it those go that nobody has asked for the longest,
    but none whose turn runs or waits.
    """

    def __init__(self, make: Callable[[], Conversation], *, limit: int = 1000) -> None:
        if limit < 1:
            raise RequestError("limit", str(limit), "1 or more")
        self._make = make
        self._limit = limit
        self._kept: OrderedDict[K, Conversation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, chat: object) -> bool:
        return chat in self._kept

    def __getitem__(self, chat: K) -> Conversation:
        """Return the conversation of *chat*."""
        found = self._kept.get(chat)
        if found is None:
            found = self._kept[chat] = self._make()
        self._kept.move_to_end(chat)
        self._drop()
        return found

    def __setitem__(self, chat: K, conversation: Conversation) -> None:
        """Put a conversation in, such as a saved one."""
        self._kept[chat] = conversation
        self._kept.move_to_end(chat)
        self._drop()

    def __delitem__(self, chat: K) -> None:
        """Forget the conversation of *chat*; ``KeyError`` if there is none."""
        del self._kept[chat]

    def _drop(self) -> None:
        excess = len(self._kept) - self._limit
        if excess > 0:
            # The newest is about to be used.
            idle = [chat for chat, each in [*self._kept.items()][:-1] if not each.busy]
            for chat in idle[:excess]:
                del self._kept[chat]
