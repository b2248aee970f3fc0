"""Answers that are instances of a Python type.

::

    @attrs.frozen
    class Weather:
        city: str
        celsius: float

    weather = await structured.parse(session, Weather, [user("Oslo?")], model="m")

The type's JSON schema goes out as ``response_format``, and what comes back is read
into the type, checked and not coerced. An answer that isn't such a value is an error
which keeps what was said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from chatstream import (
    ChatCompletion,
    ChatSession,
    ChatStream,
    ChatStreamError,
    DecodeError,
    MessageParam,
    RequestError,
    Verdict,
)
from chatstream.codec import load
from chatstream.schema import Property, Record, Shape, read, schema_of, shape_of

T = TypeVar("T")


class StructuredError(ChatStreamError):
    """The answer is no value of the type; ``partial`` is the answer, ``text`` what it said."""

    @property
    def text(self) -> str:
        """The content of the answer, maybe empty."""
        return "" if self.partial is None else self.partial.text


class RefusedError(StructuredError):
    """The model refused; ``refusal`` is what it said instead."""

    def __init__(self, refusal: str) -> None:
        super().__init__(refusal)
        self.refusal = refusal

    def __str__(self) -> str:
        return "expected an answer in JSON, got a refusal"


class CutShortError(StructuredError):
    """The answer ended before its JSON did; ``verdict`` says why.

    ``length``: raise ``max_completion_tokens``, or ask for less.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict

    def __str__(self) -> str:
        return f"expected a whole answer, got one that was cut: {self.verdict}"


class MisfitError(StructuredError, DecodeError):
    """The answer is whole and doesn't fit: no JSON, or not the type's.

    ``path`` says where (``$.wind.speed``), ``expected`` and ``seen`` what was wrong there.
    Servers that don't hold a model to a schema let this happen; asking again may do.
    """


@overload
async def parse(
    session: ChatSession,
    type: type[T],
    messages: Sequence[MessageParam],
    *,
    name: str | None = None,
    strict: bool = True,
    **params: Any,
) -> T: ...


@overload
async def parse(
    session: ChatSession,
    type: Any,
    messages: Sequence[MessageParam],
    *,
    name: str | None = None,
    strict: bool = True,
    **params: Any,
) -> Any: ...


async def parse(
    session: ChatSession,
    type: Any,  # noqa: A002 the word for it
    messages: Sequence[MessageParam],
    *,
    name: str | None = None,
    strict: bool = True,
    **params: Any,
) -> Any:
    """Ask for a value of *type* and return it; parameters as of :func:`stream`.

    Raises :class:`StructuredError` if the answer is none, and what streaming raises.
    """
    async with stream(session, type, messages, name=name, strict=strict, **params) as answer:
        return await answer.result()


@overload
def stream(
    session: ChatSession,
    type: type[T],
    messages: Sequence[MessageParam],
    *,
    name: str | None = None,
    strict: bool = True,
    **params: Any,
) -> StructuredStream[T]: ...


@overload
def stream(
    session: ChatSession,
    type: Any,
    messages: Sequence[MessageParam],
    *,
    name: str | None = None,
    strict: bool = True,
    **params: Any,
) -> StructuredStream[Any]: ...


def stream(
    session: ChatSession,
    type: Any,  # noqa: A002 the word for it
    messages: Sequence[MessageParam],
    *,
    name: str | None = None,
    strict: bool = True,
    **params: Any,  # those of session.stream(), which checks them
) -> StructuredStream[Any]:
    """Return the stream of a value of *type*; ``async with`` sends the request.

    :func:`chatstream.schema.shape_of` tells which types there are. What isn't an object
    is asked for as ``{"value": …}``, since servers want an object outermost. *name* is
    told to the model, by default the type's. With *strict* the server is to hold the
    model to the schema: then a field with a default may come as null, which stands for
    it, and neither a ``dict`` nor a ``tuple`` of different values can be part of the
    type. Other parameters are those of :meth:`ChatSession.stream`.

    Raises ``UnsupportedTypeError`` for a type that can't be asked for.
    """
    if params.get("n") not in (None, 1):
        raise RequestError("n", str(params["n"]), "1, as there is one value")
    if params.get("response_format") is not None:
        raise RequestError("response_format", "one more", "nothing, as the type decides it")
    record, wrapped = _record_of(type)
    params["response_format"] = _format(record, name, strict=strict)
    return StructuredStream(session.stream(messages=messages, **params), record, wrapped=wrapped)


def response_format(
    type: Any,  # noqa: A002 the word for it
    *,
    name: str | None = None,
    strict: bool = True,
) -> dict[str, Any]:
    """Return the parameter that asks for a value of *type*, see :func:`stream`.

    For a request that is made otherwise, such as a run of tools; :func:`value_of` reads
    its answer.
    """
    return _format(_record_of(type)[0], name, strict=strict)


@overload
def value_of(type: type[T], completion: ChatCompletion) -> T: ...


@overload
def value_of(type: Any, completion: ChatCompletion) -> Any: ...


def value_of(type: Any, completion: ChatCompletion) -> Any:  # noqa: A002 the word for it
    """Return the value of *type* that was asked for with :func:`response_format`.

    Raises :class:`RefusedError`, :class:`CutShortError` or :class:`MisfitError` if the
    completion is none.
    """
    return _read(completion, _record_of(type)[0])


class StructuredStream(Generic[T]):
    """A value as it streams; :func:`stream` makes it, ``async with`` runs it."""

    def __init__(self, stream: ChatStream, record: Record, *, wrapped: bool) -> None:
        self.stream = stream
        """The stream that carries it: its completion, its report, its ``aclose()``."""
        self._record = record
        self._wrapped = wrapped

    async def __aenter__(self) -> Self:
        """Send the request, see :class:`ChatStream`."""
        await self.stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the connection, however the stream is left."""
        await self.stream.__aexit__(kind, error, traceback)

    async def partials(self) -> AsyncIterator[Any]:
        """Iterate over what is known of the value so far, as plain JSON values.

        That is a ``dict`` for a class: keys may be missing, the last text may be half
        of it, and nothing is checked, so it is no instance yet. Each differs from the
        one before; the last is the whole value if the answer is. Needs the extra ``jiter``.

        Reading again at each piece would take the square of the length: a long text is
        read again when it has grown by a 64th.
        """
        try:
            import jiter  # noqa: PLC0415 optional
        except ImportError as error:
            msg = "partial values need jiter: pip install 'chatstream-sdk[jiter]'"
            raise ImportError(msg) from error

        def known(text: str) -> Any:
            try:
                value = jiter.from_json(text.encode(), partial_mode="trailing-strings")
            except ValueError:
                return _NOTHING
            if not self._wrapped:
                return value
            return value.get("value", _NOTHING) if isinstance(value, dict) else _NOTHING

        pieces: list[str] = []
        length = seen = 0
        last = _NOTHING
        async for piece in self.stream.text():
            pieces.append(piece)
            length += len(piece)
            if length - seen <= seen // _GROWTH:
                continue
            seen = length
            value = known("".join(pieces))
            if value is not _NOTHING and value != last:
                last = value
                yield value
        value = known("".join(pieces))
        if value is not _NOTHING and value != last:
            yield value

    async def result(self) -> T:
        """Read the rest of the stream and return the value.

        Raises :class:`RefusedError`, :class:`CutShortError` or :class:`MisfitError` if there
        is none.
        """
        answer = await self.stream.collect()
        try:
            value: T = _read(answer, self._record)
        except StructuredError as error:
            error.report = self.stream.report
            error.attempts, error.request_id = error.report.attempts, error.report.request_id
            raise
        return value


def _read(answer: ChatCompletion, record: Record) -> Any:
    """Return the value that *answer* is; raise ``StructuredError`` if it is none."""
    try:
        message = answer.choices[0].message if answer.choices else None
        if message is not None and message.refusal:
            raise RefusedError(message.refusal)
        if answer.verdict is not Verdict.FINISHED:
            raise CutShortError(answer.verdict or Verdict.TRUNCATED)
        try:
            return read(record, load(answer.text))
        except DecodeError as error:
            raise MisfitError(error.path, error.expected, error.seen) from error
    except StructuredError as error:
        error.partial = answer
        raise


def _format(record: Record, name: str | None, *, strict: bool) -> dict[str, Any]:
    wanted = {
        "name": name or _words(record.name),
        "schema": schema_of(record, strict=strict),
        "strict": strict,
    }
    return {"type": "json_schema", "json_schema": wanted}


def _record_of(kind: Any) -> tuple[Record, bool]:
    """Return what is asked for, and whether the value is only a part of it."""
    shape = shape_of(kind)
    return (shape, False) if isinstance(shape, Record) else (_wrapped(shape), True)


def _wrapped(shape: Shape) -> Record:
    """Return an object around *shape*, of which only the value is kept."""
    return Record("answer", None, lambda value: value, (Property("value", shape, required=True),))


def _words(name: str) -> str:
    """Return a class's name in the letters that a request allows, and no more of them."""
    plain = (letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return "".join(plain)[:_LONGEST_NAME]


_NOTHING: Any = object()
_GROWTH = 64
_LONGEST_NAME = 64
