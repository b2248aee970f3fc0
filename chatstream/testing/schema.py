"""The smallest sensible instance of a JSON schema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Below this depth optional properties are left out and alternatives that can
# end are preferred, so that a schema which refers to itself comes to an end.
_FULL_DEPTH = 3
_MAX_DEPTH = 40

_COMPOUND = {"$ref", "anyOf", "oneOf", "allOf"}

_FORMATS = {
    "date": "2024-01-31",
    "date-time": "2024-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class SchemaError(ValueError):
    """A schema that no instance could be made of."""


def instance_of(schema: Any, name: str = "value") -> Any:
    """Make a JSON value that *schema* allows; *name* is its text where it is a string.

    Heeds ``type``, ``properties``, ``required``, ``items``, ``prefixItems``,
    ``enum``, ``const``, ``default``, ``anyOf``, ``oneOf``, ``allOf``, local
    ``$ref``, ``format``, and bounds of length, size and number. Not
    ``pattern``, ``not`` or ``if``. ``SchemaError`` if it can't be followed.
    """
    try:
        return _build(schema, schema, name, 0)
    except (TypeError, AttributeError, LookupError, ArithmeticError) as exc:
        msg = f"not a JSON schema: {exc}"
        raise SchemaError(msg) from exc


def _build(schema: Any, root: Any, name: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        msg = f"schema nests deeper than {_MAX_DEPTH}"
        raise SchemaError(msg)
    schema = _flatten(schema, root, depth)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if options := schema.get("enum"):
        return options[0]
    kind = _kind(schema, depth)
    if kind == "object":
        return _object(schema, root, depth)
    if kind == "array":
        return _array(schema, root, name, depth)
    return _scalar(schema, kind, name)


def _scalar(schema: Mapping[str, Any], kind: Any, name: str) -> Any:
    match kind:
        case "string":
            return _string(schema, name)
        case "integer":
            return _number(schema, 1)
        case "number":
            return _number(schema, None)
        case "boolean":
            return True
        case "null":
            return None
    msg = f"unknown type {kind!r}"
    raise SchemaError(msg)


def _flatten(schema: Any, root: Any, depth: int) -> Mapping[str, Any]:
    """Resolve the references, alternatives and ``allOf`` of *schema*."""
    for _ in range(_MAX_DEPTH):
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            msg = f"expected a schema, got {type(schema).__name__}"
            raise SchemaError(msg)
        rest = dict(schema)
        if "$ref" in rest:
            schema = _merge(rest, _follow(rest.pop("$ref"), root))
        elif parts := rest.pop("allOf", None):
            for part in parts:
                rest = _merge(rest, _flatten(part, root, depth + 1))
            schema = rest
        elif options := rest.pop("anyOf", None) or rest.pop("oneOf", None):
            schema = _merge(rest, _choose(options, depth))
        else:
            return rest
    msg = "schema refers to itself without end"
    raise SchemaError(msg)


def _merge(one: Mapping[str, Any], other: Any) -> dict[str, Any]:
    if other is True:
        return dict(one)
    if not isinstance(other, Mapping):
        msg = f"expected a schema, got {type(other).__name__}"
        raise SchemaError(msg)
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def _follow(reference: Any, root: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        msg = f"only local references are followed, not {reference!r}"
        raise SchemaError(msg)
    found = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or key not in found:
            msg = f"nothing at {reference!r}"
            raise SchemaError(msg)
        found = found[key]
    return found


def _choose(options: Any, depth: int) -> Any:
    ends = (option for option in options if depth >= _FULL_DEPTH and _is_scalar(option))
    return next(ends, options[0])


def _is_scalar(schema: Any) -> bool:
    simple = isinstance(schema, Mapping) and not _COMPOUND & schema.keys()
    return simple and ("enum" in schema or _kind(schema, 0) not in ("object", "array"))


def _kind(schema: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        return "null" if depth >= _FULL_DEPTH and "null" in kind else kind[0]
    if kind is not None:
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _object(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    required = schema.get("required", ())
    names = dict.fromkeys(required if depth >= _FULL_DEPTH else (*properties, *required))
    return {name: _build(properties.get(name, True), root, name, depth + 1) for name in names}


def _array(schema: Mapping[str, Any], root: Any, name: str, depth: int) -> list[Any]:
    found = [_build(part, root, name, depth + 1) for part in schema.get("prefixItems", ())]
    items = schema.get("items", True)
    least = schema.get("minItems", 0 if found or depth >= _FULL_DEPTH else 1)
    least = min(least, schema.get("maxItems", least))
    while len(found) < least and items is not False:
        # Names that differ keep `uniqueItems` of strings.
        own = f"{name} {len(found) + 1}" if found else name
        found.append(_build(items, root, own, depth + 1))
    return found


def _string(schema: Mapping[str, Any], name: str) -> str:
    text: str = _FORMATS.get(schema.get("format", ""), name)
    least = schema.get("minLength", 0)
    most = schema.get("maxLength", max(least, len(text)))
    return text.ljust(least, "x")[:most]


def _number(schema: Mapping[str, Any], step: int | None) -> Any:
    """Find the smallest allowed number that isn't below 1, or the largest allowed one."""
    step = schema.get("multipleOf", step)
    low = schema.get("minimum", -math.inf)
    high = schema.get("maximum", math.inf)
    nudge = step or 0.5
    if "exclusiveMinimum" in schema:
        low = max(low, schema["exclusiveMinimum"] + nudge)
    if "exclusiveMaximum" in schema:
        high = min(high, schema["exclusiveMaximum"] - nudge)
    value = min(max(low, 1 if step else 1.5), high)
    if not step:
        return float(value)
    rounded = math.ceil(value / step) * step
    return rounded if rounded <= high else math.floor(value / step) * step
