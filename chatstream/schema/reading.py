"""JSON values read into Python's, after their shape.

Nothing is coerced: what a string should be and isn't is an error with its path.
Only numbers are what they are in JSON, where 3 and 3.0 are the same.
"""

from __future__ import annotations

import json
from typing import Any

from chatstream.errors import DecodeError, one_line
from chatstream.schema.shapes import (
    Anything,
    Array,
    Choice,
    Described,
    Either,
    FixedArray,
    Formatted,
    Record,
    Scalar,
    Shape,
    Table,
    bare,
    takes_null,
)


def read(shape: Shape, value: Any) -> Any:
    """Return what the JSON value *value* is in Python.

    What isn't required may be missing, or null: it is left to the class then, and its
    default. Keys that a class doesn't have are refused. Raises
    :class:`~chatstream.DecodeError` with the path of the first thing wrong.
    """
    try:
        return _Reader().read(shape, value, "$")
    except RecursionError:
        raise DecodeError("$", "fewer levels", "nesting too deep to read") from None


class _Reader:
    """Reads one value.

    Of unions in unions each object might be read once for every way down to it, and these
    double with each level: a model could keep us busy for years. What came of an object
    is remembered, so that it is read once as each member of a union.
    """

    def __init__(self) -> None:
        # By identity: the value holds its parts meanwhile, and the shapes each other.
        self._known: dict[tuple[int, int], Any] = {}

    def read(self, shape: Shape, value: Any, path: str) -> Any:
        match shape:
            case Anything():
                return value
            case Described(inner):
                return self.read(inner, value, path)
            case Scalar(kind):
                return _scalar(kind, value, path)
            case Formatted(format_, parse):
                return _formatted(format_, parse, value, path)
            case Choice(options):
                return _choice(options, value, path)
            case Array(items, make):
                found = [
                    self.read(items, item, f"{path}[{at}]")
                    for at, item in enumerate(_exactly(list, value, path))
                ]
                return make(found)
            case FixedArray(shapes):
                return self._tuple(shapes, value, path)
            case Table(values):
                found = _exactly(dict, value, path)
                return {
                    key: self.read(values, item, _under(path, key)) for key, item in found.items()
                }
            case Record():
                return self._record(shape, value, path)
            case _:
                return self._either(shape.members, value, path)

    def _tuple(self, shapes: tuple[Shape, ...], value: Any, path: str) -> tuple[Any, ...]:
        items = _exactly(list, value, path)
        if len(items) != len(shapes):
            raise DecodeError(path, f"{len(shapes)} items", str(len(items)))
        return tuple(
            self.read(shape, item, f"{path}[{at}]")
            for at, (shape, item) in enumerate(zip(shapes, items, strict=True))
        )

    def _record(self, record: Record, value: Any, path: str) -> Any:
        given = dict(_exactly(dict, value, path))
        known: dict[str, Any] = {}
        for each in record.properties:
            missing = each.name not in given
            item = given.pop(each.name, None)
            if item is None and not each.required and (missing or not takes_null(each.shape)):
                continue
            if missing:
                raise DecodeError(_under(path, each.name), expected(each.shape), "nothing")
            known[each.name] = self.read(each.shape, item, _under(path, each.name))
        if given:
            names = ", ".join(each.name for each in record.properties) or "none"
            raise DecodeError(path, f"no keys but {one_line(names)}", ", ".join(map(str, given)))
        try:
            return record.make(**known)
        except (TypeError, ValueError) as error:  # its own checks, in its own words
            raise DecodeError(path, f"a valid {record.name}", str(error)) from error

    def _either(self, members: tuple[Shape, ...], value: Any, path: str) -> Any:
        """Read what is of one of several shapes; the first that fits it holds."""
        candidates = [member for member in members if _may_be(member, value)]
        errors = []
        for member in candidates:
            found = self._as_member(member, value, path)
            if not isinstance(found, DecodeError):
                return found
            errors.append(found)
        if len(errors) == 1:  # which knows better what is wrong
            raise errors[0]
        allowed = " or ".join(dict.fromkeys(map(expected, candidates or members)))
        seen = f"{_kind(value)} that is neither" if candidates else _kind(value)
        raise DecodeError(path, one_line(allowed), seen)

    def _as_member(self, member: Shape, value: Any, path: str) -> Any:
        """Return what *value* is as one member of a union, or the error that says why not."""
        place = id(member), id(value)
        found = self._known.get(place, self)
        if found is self:
            try:
                found = self.read(member, value, path)
            except DecodeError as error:
                found = error
            if isinstance(value, dict | list):  # others are the same at several paths
                self._known[place] = found
        return found


def _exactly(kind: type, value: Any, path: str) -> Any:
    if type(value) is not kind:
        raise DecodeError(path, _KINDS[kind], _kind(value))
    return value


def _scalar(kind: str, value: Any, path: str) -> Any:
    if kind == "integer" and type(value) is float and value.is_integer():
        return int(value)
    if kind == "number" and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise DecodeError(path, kind, "an integer too large for it") from None
    if _KINDS.get(type(value)) != kind:
        raise DecodeError(path, kind, _kind(value))
    return value


def _formatted(format_: str, parse: Any, value: Any, path: str) -> Any:
    try:
        return parse(_exactly(str, value, path))
    except ValueError:
        raise DecodeError(path, f"a {format_}", "another string") from None


def _choice(options: tuple[tuple[Any, Any], ...], value: Any, path: str) -> Any:
    for plain, meant in options:
        if value == plain and _alike(value, plain):
            return meant
    allowed = " or ".join(json.dumps(plain) for plain, _ in options)
    same = any(_alike(value, plain) for plain, _ in options)
    raise DecodeError(path, one_line(allowed), f"another {_kind(value)}" if same else _kind(value))


def _alike(value: Any, other: Any) -> bool:
    """Tell whether two scalars are of one kind: ``True`` is no 1 in JSON, 1.0 is."""
    numbers = (int, float)
    return type(value) is type(other) or (type(value) in numbers and type(other) in numbers)


def _may_be(shape: Shape, value: Any) -> bool:
    """Tell by the outermost kind, and by the tags of a class, whether a value may fit."""
    match bare(shape):
        case Scalar(kind):
            number = kind == "integer" and type(value) is float
            return number or _KINDS.get(type(value)) in {kind, _NARROWER.get(kind)}
        case Formatted():
            return type(value) is str
        case Choice(options):
            return any(_alike(value, plain) for plain, _ in options)
        case Array() | FixedArray():
            return type(value) is list
        case Table():
            return type(value) is dict
        case Record(properties=properties):
            return type(value) is dict and all(
                any(value[each.name] == plain for plain, _ in tag.options)
                for each in properties
                if isinstance(tag := bare(each.shape), Choice) and value.get(each.name) is not None
            )
    return True


def expected(shape: Shape) -> str:
    """Name in a few words what *shape* wants."""
    match bare(shape):
        case Scalar(kind):
            return kind
        case Formatted(format_):
            return f"a {format_}"
        case Choice(options):
            return one_line(" or ".join(json.dumps(plain) for plain, _ in options))
        case Array() | FixedArray():
            return "array"
        case Table():
            return "object"
        case Record(name):
            return f"object ({name})"
        case Either(members):
            return " or ".join(dict.fromkeys(map(expected, members)))
    return "a value"


def _under(path: str, key: str) -> str:
    plain = key.isidentifier() and len(key) <= _LONGEST_KEY
    return f"{path}.{key}" if plain else f'{path}["{one_line(key, _LONGEST_KEY)}"]'


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


_LONGEST_KEY = 40
"""Characters of a key that an error shows."""

_NARROWER = {"number": "integer"}
_KINDS: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    list: "array",
    dict: "object",
}
