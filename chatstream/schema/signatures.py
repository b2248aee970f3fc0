"""What a function takes, as JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from attrs import frozen

from chatstream.schema.docstrings import split_docstring
from chatstream.schema.shapes import Analyst, Record, UnsupportedTypeError, hints_of

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@frozen
class Signature:
    """A function's name, what it says of itself, and its parameters."""

    name: str
    description: str | None
    parameters: Record
    """Reading it gives a ``dict`` to call the function with."""


def signature_of(function: Callable[..., Any]) -> Signature:
    """Read what a function says of itself: its annotations and its docstring.

    Each parameter has an annotation and can be given by its name. It is described
    by ``Annotated[T, "text"]``, or by the docstring (``Args:`` or ``:param name:``).

    Raises :class:`UnsupportedTypeError` if a parameter isn't like that.
    """
    name = getattr(function, "__name__", None)
    if name is None or not name.isidentifier():
        seen = type(function).__name__ if name is None else name
        raise UnsupportedTypeError("function", seen, "a function that has a name")
    description, of_parameters = split_docstring(inspect.getdoc(function))
    hints = hints_of(function)

    def fields() -> Iterator[tuple[str, Any, bool, str | None]]:
        for key, parameter in inspect.signature(function).parameters.items():
            where = f"{name}.{key}"
            if parameter.kind not in _NAMED:
                raise UnsupportedTypeError(
                    where, parameter.kind.description, "a parameter that is given by its name"
                )
            if key not in hints:
                raise UnsupportedTypeError(where, "none", "an annotation")
            required = parameter.default is inspect.Parameter.empty
            yield key, hints[key], required, of_parameters.get(key)

    # Not described: the function is, beside its parameters.
    record = Record(name, None, dict, Analyst().properties(fields(), name))
    return Signature(name, description or None, record)
