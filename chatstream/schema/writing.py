"""Shapes as JSON schemas, in the part of the language that servers hold a model to.

That is OpenAI's "strict" subset, with two keywords more where it isn't asked for
(``prefixItems``, and ``additionalProperties`` with a schema). Objects are closed,
alternatives are ``anyOf``, and a class is written out where it stands unless it
holds itself or comes up again: then it is in ``$defs``. No ``$ref`` has neighbours,
which OpenAI refuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from chatstream.schema.shapes import (
    Anything,
    Array,
    Choice,
    Described,
    Either,
    FixedArray,
    Formatted,
    Property,
    Record,
    Scalar,
    Shape,
    Table,
    UnsupportedTypeError,
    bare,
    takes_null,
)


def schema_of(shape: Shape, *, strict: bool = False) -> dict[str, Any]:
    """Return the JSON schema of *shape*.

    With *strict* every property is required, and what has a default in Python may be
    null, which stands for that default. Raises :class:`UnsupportedTypeError` for what
    strict schemas can't tell: free keys, tuples of different values, anything.
    """
    writer = _Writer(strict=strict)
    writer.count(shape)
    # The root is written out even if it holds itself: servers want an object there.
    written = writer.record(shape) if isinstance(shape, Record) else writer.write(shape, "schema")
    return written | {"$defs": writer.definitions} if writer.definitions else written


_NULL = Scalar("null")


class _Writer:
    """Writes the shapes of one schema."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._uses: Counter[Record] = Counter()
        self._names: dict[Record, str] = {}
        self.definitions: dict[str, Any] = {}

    def count(self, shape: Shape) -> None:
        """Count how often each record is used in *shape*."""
        match shape:
            case Record(properties=properties):
                self._uses[shape] += 1
                if self._uses[shape] == 1:
                    for each in properties:
                        self.count(each.shape)
            case Array(inner) | Table(inner) | Described(inner):
                self.count(inner)
            case FixedArray(shapes) | Either(shapes):
                for inner in shapes:
                    self.count(inner)
            case _:
                pass

    def write(self, shape: Shape, where: str) -> dict[str, Any]:
        """Return the schema of *shape*, which stands at *where*."""
        match shape:
            case Anything():
                self._refuse_if_strict(where, "any value")
                return {}
            case Scalar(kind):
                return {"type": kind}
            case Formatted(format_):
                return {"type": "string", "format": format_}
            case Choice():
                return _choice(shape)
            case Array(items):
                return {"type": "array", "items": self.write(items, where)}
            case FixedArray(shapes):
                self._refuse_if_strict(where, "a tuple")
                return {
                    "type": "array",
                    "prefixItems": [self.write(inner, where) for inner in shapes],
                    "items": False,
                    "minItems": len(shapes),
                    "maxItems": len(shapes),
                }
            case Table(values):
                self._refuse_if_strict(where, "a dict")
                return {"type": "object", "additionalProperties": self.write(values, where)}
            case Either(members):
                return {"anyOf": [*self._alternatives(members, where)]}
            case Described(inner, description):
                written = self.write(inner, where)
                if "$ref" in written:
                    written = {"anyOf": [written]}
                return written | {"description": description}
            case _:
                return self._reference(shape) if self._uses[shape] > 1 else self.record(shape)

    def record(self, record: Record) -> dict[str, Any]:
        """Write a record out."""
        about = {} if record.description is None else {"description": record.description}
        properties = record.properties
        return {
            "type": "object",
            **about,
            "properties": {
                each.name: self._property(each, f"{record.name}.{each.name}") for each in properties
            },
            "required": [each.name for each in properties if each.required or self._strict],
            "additionalProperties": False,
        }

    def _property(self, each: Property, where: str) -> dict[str, Any]:
        if not self._strict or each.required or takes_null(each.shape):
            return self.write(each.shape, where)
        optional: Shape = Either((bare(each.shape), _NULL))
        if isinstance(each.shape, Described):
            optional = Described(optional, each.shape.description)
        return self.write(optional, where)

    def _alternatives(self, members: tuple[Shape, ...], where: str) -> Iterator[dict[str, Any]]:
        for member in members:
            if isinstance(member, Either):
                yield from self._alternatives(member.members, where)
            else:
                yield self.write(member, where)

    def _reference(self, record: Record) -> dict[str, Any]:
        name = self._names.get(record)
        if name is None:
            name, number = _key(record.name), 1
            while name in self.definitions:
                number += 1
                name = f"{_key(record.name)}{number}"
            self._names[record] = name
            self.definitions[name] = {}  # taken, before it is known: it may hold itself
            self.definitions[name] = self.record(record)
        return {"$ref": f"#/$defs/{name}"}

    def _refuse_if_strict(self, where: str, seen: str) -> None:
        if self._strict:
            raise UnsupportedTypeError(where, seen, "a type that a strict schema can tell")


def _choice(shape: Choice) -> dict[str, Any]:
    values = [value for value, _ in shape.options]
    kinds = list(dict.fromkeys(_KINDS[type(value)] for value in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}


_KINDS = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def _key(name: str) -> str:
    """Return *name* as a key that stands in a reference as it is."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)
