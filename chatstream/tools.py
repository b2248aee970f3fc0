"""Lets a model call Python functions, until it answers with words.

::

    async def weather(city: Annotated[str, "Where to look"]) -> str:
        "Tell the weather of a city."

    async with tools.run(session, [user("Oslo?")], tools=[weather], model="m") as run:
        async for text in run.text():
            print(text, end="")
    run.messages  # the whole conversation, to go on with

Each round is a stream of its own. Its calls run side by side, and their results are
sent back in the order of the calls. What goes wrong in a function is told to the model,
which can do better; what goes wrong with a stream is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from attrs import evolve, field, frozen
from cattrs.preconf.orjson import make_converter

from chatstream import (
    ChatCompletion,
    ChatSession,
    ChatStream,
    ChatStreamError,
    DecodeError,
    MessageParam,
    RequestError,
    StreamEvent,
    StreamReport,
    Verdict,
    parse_arguments,
    tool,
)
from chatstream.completion import FunctionCall, Message, whole_text
from chatstream.errors import one_line
from chatstream.messages import to_wire
from chatstream.schema import read, schema_of, signature_of

LONGEST_ERROR = 500
"""Characters that a model is told of what went wrong in a function."""

BROKEN_OFF = "the call was broken off, and may have had an effect"
"""What a model is told if a run ended while others of its calls were done."""

_results = make_converter()
# orjson writes 10,000 µs as ".10000".
_results.register_unstructure_hook(dt.time, dt.time.isoformat)


def _as_given(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments


@frozen(kw_only=True)
class Tool:
    """A function that the model may call; :meth:`of` makes one of a Python function.

    ``parameters`` is a JSON schema, ``call`` is called with the arguments by their
    names, in a thread unless it is ``async``. ``read`` makes of the model's JSON object
    what ``call`` takes, and raises ``DecodeError`` if that can't be; without it
    ``call`` gets the JSON values unchecked. ``strict`` asks the server to hold the
    model to the schema.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any]
    call: Callable[..., Any]
    strict: bool = False
    read: Callable[[dict[str, Any]], dict[str, Any]] = field(default=_as_given, repr=False)

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool = False,
    ) -> Self:
        """Make a tool of a function by its signature and its docstring.

        :func:`chatstream.schema.signature_of` says what is read of it, and raises
        ``UnsupportedTypeError`` for a parameter that has no JSON. With *strict* a
        parameter with a default must be given, and may be null for it.
        """
        signature = signature_of(function)
        return cls(
            name=name or signature.name,
            description=description or signature.description,
            parameters=schema_of(signature.parameters, strict=strict),
            call=function,
            strict=strict,
            read=lambda arguments: dict(read(signature.parameters, arguments)),
        )

    def to_param(self) -> dict[str, Any]:
        """Return the tool as a request has it."""
        function: dict[str, Any] = {"name": self.name, "parameters": self.parameters}
        if self.description is not None:
            function["description"] = self.description
        if self.strict:
            function["strict"] = True
        return {"type": "function", "function": function}


@frozen(kw_only=True)
class Call:
    """A call that the model wants: which function, and with what.

    ``arguments`` are those the function gets, read into the types it has.
    """

    id: str
    name: str
    arguments: Mapping[str, Any]


Approve: TypeAlias = Callable[[Call], bool | Awaitable[bool]]


@frozen(kw_only=True)
class CallStartedEvent:
    """The model's call is whole, and about to be made."""

    round: int
    """1 for the calls of the first answer."""
    id: str
    name: str
    arguments: str
    """The JSON text, as the model wrote it."""


@frozen(kw_only=True)
class CallEndedEvent:
    """What came of a call; ``content`` is what the model is told."""

    round: int
    id: str
    name: str
    content: str
    error: Exception | None = None
    """What the function raised, or ``DecodeError`` if it can't be called like that."""
    duration: float | None = None
    """Seconds that the function took, ``None`` if it wasn't called."""


CallEvent: TypeAlias = CallStartedEvent | CallEndedEvent
RunEvent: TypeAlias = StreamEvent | CallEvent
_Item = TypeVar("_Item")


class RoundsError(ChatStreamError):
    """The model still called functions after ``max_rounds`` answers.

    ``run.messages`` has all of them with their results: another run may go on.
    """

    def __init__(self, rounds: int) -> None:
        super().__init__(rounds)
        self.rounds = rounds

    def __str__(self) -> str:
        return f"expected an answer in words after {self.rounds} rounds, got calls again"


def run(
    session: ChatSession,
    messages: Sequence[MessageParam],
    *,
    tools: Sequence[Tool | Callable[..., Any]],
    max_rounds: int = 10,
    approve: Approve | None = None,
    reasoning_key: str | None = None,
    **params: Any,  # those of session.stream(), which checks them
) -> Run:
    """Return a run that asks, calls *tools* and asks again; ``async with`` owns its calls.

    Other parameters are those of :meth:`ChatSession.stream`, for each round. A
    ``tool_choice`` that forces a call holds for the first round only.

    *approve* is asked before each call, one at a time, and may be ``async``; if it says
    ``False``, the model is told that the user declined. *reasoning_key* is the name under
    which reasoning goes back with the calls it led to, for servers that want it
    (``"reasoning_content"`` at DeepSeek, ``"reasoning_details"`` at OpenRouter).

    Raises ``RequestError`` for tools of one name, and for ``n`` beyond 1.
    """
    made = [each if isinstance(each, Tool) else Tool.of(each) for each in tools]
    by_name = {each.name: each for each in made}
    if len(by_name) < len(made):
        raise RequestError("tools", ", ".join(each.name for each in made), "different names")
    if max_rounds < 1:
        raise RequestError("max_rounds", str(max_rounds), "1 or more")
    if params.get("n") not in (None, 1):
        raise RequestError("n", str(params["n"]), "1 where tools are run")
    return Run(
        session,
        messages,
        tools=by_name,
        max_rounds=max_rounds,
        approve=approve,
        reasoning_key=reasoning_key,
        params=params,
    )


class Run:
    """Rounds of answers and calls; :func:`run` makes it.

    Iterate it once: over the typed events of all rounds with those of the calls between
    them (``async for event in run``), over text (:meth:`text`), or let :meth:`collect`
    do it. What is known can be read at any time.
    """

    def __init__(
        self,
        session: ChatSession,
        messages: Sequence[MessageParam],
        *,
        tools: Mapping[str, Tool],
        max_rounds: int,
        approve: Approve | None,
        reasoning_key: str | None,
        params: Mapping[str, Any],
    ) -> None:
        self._session = session
        self._given = tuple(messages)
        self._tools = tools
        self._max_rounds = max_rounds
        self._approve = approve
        self._approving = asyncio.Lock()
        self._reasoning_key = reasoning_key
        self._params = dict(params)

        self._rounds_done: list[MessageParam] = []
        self._speaking = False
        """Whether the newest answer isn't among them."""
        self._streams: list[ChatStream] = []
        self._steps: AsyncGenerator[object] | None = None
        self._calls: set[asyncio.Task[CallEndedEvent]] = set()
        self._entered = False
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Nothing is sent yet: iterating does."""
        if self._entered:
            msg = "a run is entered once; call tools.run() again"
            raise RuntimeError(msg)
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the stream and the calls that are under way, however the run is left."""
        self._closed.set()
        if self._steps is not None:
            await self._steps.aclose()

    async def aclose(self) -> None:
        """End the run now, also from another task: its loop ends quietly.

        A function in a thread can't be stopped; what it returns is thrown away.
        """
        self._closed.set()
        for task in self._calls:
            task.cancel()
        if self._streams:
            await self._streams[-1].aclose()

    # --- What is known -------------------------------------------------------

    @property
    def messages(self) -> list[MessageParam]:
        """The conversation so far, which can be sent again: each call in it has its result."""
        return [*self._given, *self.added]

    @property
    def added(self) -> list[MessageParam]:
        """The messages that came after those given, with the words of an unfinished answer."""
        words = words_of(self.completion, self._reasoning_key) if self._speaking else None
        return [*self._rounds_done, *([] if words is None else [words])]

    @property
    def completion(self) -> ChatCompletion:
        """The newest answer, as far as it has come."""
        return self._streams[-1].completion if self._streams else ChatCompletion()

    @property
    def reports(self) -> tuple[StreamReport, ...]:
        """The latencies of each round so far."""
        return tuple(stream.report for stream in self._streams)

    # --- What is handed out --------------------------------------------------

    def __aiter__(self) -> AsyncIterator[RunEvent]:
        """Iterate over the events of all rounds."""
        return self._claim(self._rounds(ChatStream.events))

    def text(self) -> AsyncIterator[str]:
        """Iterate over the text of all rounds; an empty line stands between those of two."""
        return self._claim(self._texts())

    async def collect(self) -> ChatCompletion:
        """Run to the end and return the last answer."""
        async for _ in self._steps or self._claim(self._rounds(ChatStream.events)):
            pass
        return self.completion

    def _claim(self, steps: AsyncGenerator[_Item]) -> AsyncGenerator[_Item]:
        if not self._entered or self._steps is not None:
            how = "is iterated once" if self._entered else "is entered first"
            msg = f"a run {how}: async with tools.run(…) as run"
            raise RuntimeError(msg)
        self._steps = steps
        return steps

    async def _texts(self) -> AsyncGenerator[str]:
        async with contextlib.aclosing(self._rounds(ChatStream.text)) as steps:
            between, spoke = "", False
            async for step in steps:
                if isinstance(step, str):
                    yield between + step
                    between, spoke = "", True
                elif spoke:
                    between = "\n\n"

    # --- Rounds --------------------------------------------------------------

    async def _rounds(
        self, read: Callable[[ChatStream], AsyncIterator[_Item]]
    ) -> AsyncGenerator[_Item | CallEvent]:
        """Ask, call and ask again; yield what *read* gives of each stream, and the calls."""
        params = self._params | {
            "tools": [each.to_param() for each in self._tools.values()] or None
        }
        for number in range(1, self._max_rounds + 1):
            if self._closed.is_set():
                return
            stream = self._session.stream(messages=self.messages, **params)
            self._streams.append(stream)
            self._speaking = True
            async with stream:
                async for item in read(stream):
                    yield item
            answer = stream.completion
            calls = _calls_of(answer, number)
            if not calls:
                return
            results: dict[str, str] = {}
            try:
                async with contextlib.aclosing(self._call_all(calls, number)) as events:
                    async for event in events:
                        if isinstance(event, CallEndedEvent):
                            results[event.id] = event.content
                        yield event
            finally:
                if results:  # what was done is done, whatever became of the others
                    self._keep(answer.choices[0].message, calls, results)
            if len(results) < len(calls):
                return  # closed from another task
            params["tool_choice"] = _unforced(params.get("tool_choice"))
        error = RoundsError(self._max_rounds)
        error.partial, error.report = self.completion, self.reports[-1]
        raise error

    def _keep(self, message: Message, calls: Sequence[_Wanted], results: dict[str, str]) -> None:
        """Keep a round as a whole: a history in which a call has no result is refused."""
        told = [tool(results.get(each.id, BROKEN_OFF), tool_call_id=each.id) for each in calls]
        self._rounds_done += [_with_calls(message, calls, self._reasoning_key), *told]
        self._speaking = False

    async def _call_all(
        self, calls: Sequence[_Wanted], number: int
    ) -> AsyncGenerator[CallStartedEvent | CallEndedEvent]:
        """Make the calls side by side; yield what came of each when it ended."""
        for call in calls:
            yield CallStartedEvent(
                round=number, id=call.id, name=call.name, arguments=call.arguments
            )
        # No task group: its scope would be open while the caller has the event.
        tasks = [asyncio.create_task(self._call(call, number)) for call in calls]
        waiting = self._calls = set(tasks)
        try:
            while waiting and not self._closed.is_set():
                ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task in ended and not (self._closed.is_set() and task.cancelled()):
                        yield task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._calls = set()

    async def _call(self, wanted: _Wanted, number: int) -> CallEndedEvent:
        """Make one call, if it can and may be made."""
        ended = partial(CallEndedEvent, round=number, id=wanted.id, name=wanted.name)
        found = self._tools.get(wanted.name)
        if found is None:
            names = ", ".join(self._tools) or "none"
            return ended(content=f"there is no function of that name, there are: {names}")
        try:
            arguments = found.read(parse_arguments(FunctionCall(wanted.name, wanted.arguments)))
        except DecodeError as error:
            return ended(content=f"wrong arguments: {error}", error=error)
        if not await self._approved(Call(id=wanted.id, name=wanted.name, arguments=arguments)):
            return ended(content="the user declined this call")
        began = time.perf_counter()
        content, failure = await _outcome(found.call, arguments)
        return ended(content=content, error=failure, duration=time.perf_counter() - began)

    async def _approved(self, call: Call) -> bool:
        if self._approve is None:
            return True
        async with self._approving:
            answer = self._approve(call)
            return await answer if inspect.isawaitable(answer) else answer


# --- Calls -------------------------------------------------------------------


@frozen
class _Wanted:
    """A call as the model wrote it, with an id in any case."""

    id: str
    name: str
    arguments: str


def _calls_of(answer: ChatCompletion, number: int) -> list[_Wanted]:
    """Return the calls of an answer; one that was cut has none that are whole."""
    if answer.verdict is not Verdict.FINISHED or not answer.choices:
        return []
    found: dict[str, _Wanted] = {}
    for at, call in enumerate(answer.choices[0].message.tool_calls or ()):
        function = call.function or FunctionCall()
        # Some servers tell calls apart by their place alone.
        own = call.id if call.id and call.id not in found else f"call_{number}_{at}"
        found[own] = _Wanted(own, function.name or "", function.arguments or "{}")
    return [*found.values()]


async def _outcome(
    function: Callable[..., Any], arguments: Mapping[str, Any]
) -> tuple[str, Exception | None]:
    """Call a function and return what the model is told, and what was raised.

    Here an exception doesn't go on its way: the model asked for this, and can try
    something else. The caller sees it in the event.
    """

    def call() -> Any:
        try:
            result = function(**arguments)
            return result if inspect.isawaitable(result) else _told(result)
        except Exception as error:  # noqa: BLE001 see above; and no future takes a StopIteration
            return error

    outcome = call() if inspect.iscoroutinefunction(function) else await asyncio.to_thread(call)
    if inspect.isawaitable(outcome):
        try:
            outcome = _told(await outcome)
        except Exception as error:  # noqa: BLE001 see above
            outcome = error
    if isinstance(outcome, Exception):
        return one_line(f"{type(outcome).__name__}: {outcome}", LONGEST_ERROR), outcome
    return outcome, None


def _told(result: object) -> str:
    """Return a result as text: a string as it is, anything else as JSON."""
    # What a request can't hold would end the run.
    return whole_text(result) if isinstance(result, str) else _results.dumps(result).decode()


def _unforced(choice: Any) -> Any:
    """Return a ``tool_choice`` that lets the model answer with words now."""
    match to_wire(choice, "tool_choice"):
        case None | "auto" | "none":
            return choice
        case {"type": "allowed_tools", "allowed_tools": dict(allowed)}:
            return {"type": "allowed_tools", "allowed_tools": allowed | {"mode": "auto"}}
    return "auto"


# --- History -----------------------------------------------------------------


def words_of(answer: ChatCompletion, reasoning_key: str | None = None) -> dict[str, Any] | None:
    """Return the message that hands back what was said, ``None`` if nothing was.

    Calls are left out: without their results a history isn't taken. With
    *reasoning_key* the reasoning goes back under that name.
    """
    if not answer.choices:
        return None
    message = answer.choices[0].message
    if not (message.content or message.refusal or message.audio):
        return None
    return _handed_back(evolve(message, tool_calls=None, function_call=None), reasoning_key)


def _with_calls(
    message: Message, calls: Sequence[_Wanted], reasoning_key: str | None
) -> dict[str, Any]:
    plain = _handed_back(message, reasoning_key)
    for wire, call in zip(plain["tool_calls"], calls, strict=True):
        wire["id"] = call.id
        if "function" in wire:  # whose templates read the arguments fail on no text
            wire["function"]["arguments"] = call.arguments
    return plain


def _handed_back(message: Message, reasoning_key: str | None) -> dict[str, Any]:
    plain: dict[str, Any] = to_wire(message)
    details = reasoning_key == "reasoning_details"
    thought = message.reasoning_details if details else message.reasoning
    if reasoning_key is not None and thought:
        plain[reasoning_key] = to_wire(thought)
    return plain
