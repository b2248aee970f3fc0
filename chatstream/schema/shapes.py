"""What a Python type is as JSON: its shape."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import types
import typing
from collections import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, TypeAlias, TypeVar, Union
from uuid import UUID

import attrs
from attrs import define, field, frozen

from chatstream.schema.docstrings import split_docstring


class UnsupportedTypeError(TypeError):
    """A type that isn't anything in JSON, as far as this package knows.

    ``where`` is the way to it (``Weather.wind``), ``seen`` what is there.
    """

    def __init__(self, where: str, seen: str, expected: str) -> None:
        super().__init__(where, seen, expected)
        self.where = where
        self.seen = seen
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.seen}"


@frozen
class Anything:
    """Any JSON value."""


@frozen
class Scalar:
    """A string, a number, a truth value or null."""

    kind: Literal["string", "integer", "number", "boolean", "null"]


@frozen
class Formatted:
    """A string in one of the formats of JSON schema."""

    format: str
    parse: Callable[[str], Any]
    """Raises ``ValueError`` for another string."""


@frozen
class Choice:
    """One of some scalars, and what each is in Python."""

    options: tuple[tuple[Any, Any], ...]


@frozen
class Array:
    """Any number of values of one shape."""

    items: Shape
    make: Callable[[list[Any]], Any]


@frozen
class FixedArray:
    """So many values, each of its own shape: a tuple."""

    items: tuple[Shape, ...]


@frozen
class Table:
    """Values of one shape by keys that aren't known before."""

    values: Shape


@frozen
class Property:
    """An entry of a record; what isn't required has a default in Python."""

    name: str
    shape: Shape
    required: bool


@define(eq=False)
class Record:
    """An object of known keys; it may hold itself."""

    name: str
    description: str | None
    make: Callable[..., Any]
    """What makes an instance of the values by their names."""
    properties: tuple[Property, ...] = field(default=(), repr=False)


@frozen
class Either:
    """A value of one of several shapes, of which the first that fits holds."""

    members: tuple[Shape, ...]


@frozen
class Described:
    """A shape, and what is told about it at this place."""

    shape: Shape
    description: str


Shape: TypeAlias = (
    Anything
    | Scalar
    | Formatted
    | Choice
    | Array
    | FixedArray
    | Table
    | Record
    | Either
    | Described
)


def shape_of(kind: Any, where: str | None = None) -> Shape:
    """Return the shape of a type.

    Known are ``str``, ``int``, ``float``, ``bool``, ``None``, ``Literal``, enumerations
    of scalars, unions, ``list``, ``tuple``, ``set``, ``dict`` with ``str`` keys, ``datetime``,
    ``date``, ``time``, ``UUID``, ``Any``, and classes of attrs, dataclasses and typed
    dictionaries, which may hold themselves. ``Annotated[T, "text"]`` describes a value.

    Raises :class:`UnsupportedTypeError` for any other; *where* is how it begins.
    """
    return Analyst().shape(kind, where or _name(kind))


def bare(shape: Shape) -> Shape:
    """Return *shape* without its descriptions."""
    while isinstance(shape, Described):
        shape = shape.shape
    return shape


def takes_null(shape: Shape) -> bool:
    """Tell whether null is a value of *shape*."""
    match bare(shape):
        case Anything() | Scalar("null"):
            return True
        case Choice(options):
            return any(option is None for option, _ in options)
        case Either(members):
            return any(map(takes_null, members))
    return False


_ANYTHING = Anything()
_SCALARS: dict[Any, Shape] = {
    Any: _ANYTHING,
    object: _ANYTHING,
    str: Scalar("string"),
    int: Scalar("integer"),
    float: Scalar("number"),
    bool: Scalar("boolean"),
    None: Scalar("null"),
    type(None): Scalar("null"),
    # Of the formats of JSON schema, those that Python reads by itself.
    dt.datetime: Formatted("date-time", dt.datetime.fromisoformat),
    dt.date: Formatted("date", dt.date.fromisoformat),
    dt.time: Formatted("time", dt.time.fromisoformat),
    UUID: Formatted("uuid", UUID),
}
_ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    set: set,
    abc.Set: set,
    abc.MutableSet: set,
    frozenset: frozenset,
}
_TABLES = (dict, abc.Mapping, abc.MutableMapping)
_JSON_SCALARS = (str, int, float, bool, type(None))


class Analyst:
    """Finds the shapes of types that belong together; a class has one among them."""

    def __init__(self) -> None:
        self._records: dict[Any, Record] = {}

    def shape(self, kind: Any, where: str) -> Shape:
        """Return the shape of *kind*, which is found at *where*."""
        if isinstance(kind, typing.NewType):
            return self.shape(kind.__supertype__, where)
        if isinstance(kind, TypeVar):
            return self.shape(Any if kind.__bound__ is None else kind.__bound__, where)
        if isinstance(kind, _ALIAS):
            return self.shape(kind.__value__, where)  # pragma: no cover; from Python 3.12 on
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin is Annotated:
            return self._annotated(inner, where)
        if origin in (Required, NotRequired):
            return self.shape(inner[0], where)
        if origin is Literal:
            return Choice(tuple(self._option(value, where) for value in inner))
        if kind in _SCALARS:
            return _SCALARS[kind]
        if origin in (Union, types.UnionType):
            return Either(tuple(self.shape(member, where) for member in inner))
        container = origin or kind
        if container is tuple:
            return self._tuple(inner, where)
        if container in _ARRAYS:
            return Array(self._item(inner, where), _ARRAYS[container])
        if container in _TABLES:
            if inner and inner[0] is not str:
                raise UnsupportedTypeError(where, _name(inner[0]), "str as the type of keys")
            return Table(self._item(inner[1:], where))
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return Choice(tuple(self._option(member, where) for member in kind))
        fields = _fields(container)
        if fields is not None:
            return self._record(kind, container, inner, fields)
        raise UnsupportedTypeError(where, _name(kind), "a type that JSON has")

    def properties(
        self, fields: abc.Iterable[tuple[str, Any, bool, str | None]], owner: str
    ) -> tuple[Property, ...]:
        """Return the properties of *owner* for its fields: name, type, required, description."""
        found = []
        for name, kind, required, description in fields:
            shape = self.shape(kind, f"{owner}.{name}")
            if description is not None and not isinstance(shape, Described):
                shape = Described(shape, description)
            found.append(Property(name, shape, required))
        return tuple(found)

    def _annotated(self, inner: tuple[Any, ...], where: str) -> Shape:
        shape = self.shape(inner[0], where)
        texts = [text for text in inner[1:] if isinstance(text, str)]
        return Described(shape, texts[0]) if texts else shape

    def _option(self, value: Any, where: str) -> tuple[Any, Any]:
        plain = value.value if isinstance(value, enum.Enum) else value
        if type(plain) not in _JSON_SCALARS:
            raise UnsupportedTypeError(where, _name(type(plain)), "a choice of JSON scalars")
        return plain, value

    def _tuple(self, inner: tuple[Any, ...], where: str) -> Shape:
        if not inner or inner[-1] is Ellipsis:
            return Array(self._item(inner, where), tuple)
        return FixedArray(tuple(self.shape(item, where) for item in inner))

    def _item(self, inner: tuple[Any, ...], where: str) -> Shape:
        return self.shape(inner[0], where) if inner else _ANYTHING

    def _record(
        self, kind: Any, cls: type, inner: tuple[Any, ...], fields: abc.Iterable[_Field]
    ) -> Record:
        if kind in self._records:
            return self._records[kind]
        name = cls.__name__ + "".join(f"_{_name(each)}" for each in inner)
        text = cls.__dict__.get("__doc__") or ""
        if text.startswith(f"{cls.__name__}("):  # what dataclasses say, if nobody else did
            text = ""
        description, of_fields = split_docstring(text)
        record = self._records[kind] = Record(name, description or None, cls)
        bound = dict(zip(getattr(cls, "__parameters__", ()), inner, strict=False))
        hints = hints_of(cls)
        record.properties = self.properties(
            (
                (
                    each.key,
                    _bind(hints[each.name], bound),
                    each.required,
                    each.description or of_fields.get(each.name),
                )
                for each in fields
            ),
            name,
        )
        return record


_ALIAS: Any = getattr(typing, "TypeAliasType", ())
"""What ``type X = …`` makes, from Python 3.12 on."""


def hints_of(owner: Any) -> dict[str, Any]:
    """Return the annotations of a class or a function, none of them a string any more."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except NameError as error:
        expected = "names that its module knows in the annotations"
        raise UnsupportedTypeError(_name(owner), str(error), expected) from None


def _bind(kind: Any, bound: Mapping[Any, Any]) -> Any:
    """Put the arguments of a generic class in place of its parameters."""
    if not bound:
        return kind
    if kind in bound:
        return bound[kind]
    free = getattr(kind, "__parameters__", ())
    return kind[tuple(bound.get(each, each) for each in free)] if free else kind


@frozen
class _Field:
    """What a class says of one of its fields."""

    name: str
    key: str
    """How it is called in JSON, and when an instance is made."""
    required: bool
    description: str | None = None


def _fields(cls: Any) -> list[_Field] | None:
    """Return the fields of a class that take a value, ``None`` if it isn't made of fields."""
    if not isinstance(cls, type):
        return None
    if attrs.has(cls):
        return list(_attrs_fields(cls))
    if dataclasses.is_dataclass(cls):
        return list(_dataclass_fields(cls))
    if typing.is_typeddict(cls):
        return list(_typed_dict_fields(cls))
    return None


def _attrs_fields(cls: type[attrs.AttrsInstance]) -> Iterator[_Field]:
    for each in attrs.fields(cls):
        if each.init:
            # Of `_name` the argument is called `name`.
            key, described = each.alias or each.name, each.metadata.get("description")
            yield _Field(each.name, key, each.default is attrs.NOTHING, described)


def _dataclass_fields(cls: Any) -> Iterator[_Field]:
    nothing = dataclasses.MISSING
    for each in dataclasses.fields(cls):
        if each.init:
            required = each.default is nothing and each.default_factory is nothing
            yield _Field(each.name, each.name, required, each.metadata.get("description"))


def _typed_dict_fields(cls: Any) -> Iterator[_Field]:
    required_keys: frozenset[str] = cls.__required_keys__
    for name, hint in hints_of(cls).items():
        # Where annotations are strings, __required_keys__ hasn't seen what they say.
        origin = typing.get_origin(hint)
        required = name in required_keys and origin is not NotRequired
        yield _Field(name, name, required or origin is Required)


def _name(kind: Any) -> str:
    """Name a type or a function in errors, and in schemas."""
    return str(kind) if typing.get_args(kind) else getattr(kind, "__name__", str(kind))
