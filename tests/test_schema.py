"""Python types as JSON: their schemas, and values read into them."""
# ruff: noqa: PYI061 `Literal["n", None]` is one choice, `Literal["n"] | None` two

import contextlib
import dataclasses
import datetime as dt
import enum
import json
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import attrs
import pytest
from cattrs.preconf.orjson import make_converter
from hypothesis import given
from hypothesis import strategies as st

from chatstream import DecodeError
from chatstream.codec import load
from chatstream.schema import (
    UnsupportedTypeError,
    read,
    reading,
    schema_of,
    shape_of,
    signature_of,
)
from chatstream.schema.docstrings import split_docstring
from chatstream.testing.schema import instance_of

T = TypeVar("T")
Few = TypeVar("Few", bound=int)
City = NewType("City", str)


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Wind:
    """How the air moves."""

    speed: float = attrs.field(validator=attrs.validators.ge(0))
    direction: Literal["n", "s", None] = None


@attrs.frozen
class Place:
    """Somewhere.

    Attributes:
        name: What it is
            called.
    """

    name: str
    kind: Annotated[Literal["city"], "Always the same"] = "city"
    size: int = attrs.field(default=1, metadata={"description": "In people"})


@dataclasses.dataclass(frozen=True)
class Reading:
    at: dt.datetime
    value: float
    tags: tuple[str, ...] = ()
    note: str = dataclasses.field(default="", metadata={"description": "Any"})
    count: int = dataclasses.field(default=0, init=False)


@attrs.frozen
class Everything:
    text: str
    count: int
    share: float
    yes: bool
    nothing: None
    unit: Unit
    level: Level
    choice: Literal["a", 1, True, None]
    maybe: int | None
    either: int | str | Wind
    many: list[Wind]
    some: tuple[int, ...]
    different: frozenset[str]
    at: dt.datetime
    day: dt.date
    time: dt.time
    id: UUID
    reading: Reading
    later: str = "later"


@attrs.frozen
class Node:
    value: int
    children: "list[Node]" = attrs.Factory(list)


@attrs.frozen
class Cat:
    kind: Literal["cat"]
    lives: int


@attrs.frozen
class Dog:
    kind: Literal["dog"]
    name: str


@attrs.frozen
class Page(Generic[T]):
    items: list[T]
    first: T
    number: int = 1


class Options(TypedDict, total=False):
    """What may be set."""

    quick: bool
    name: Required[str]


class Settings(TypedDict):
    name: str
    quick: NotRequired[bool]


@attrs.define
class Account:
    _key: str
    hidden: str = attrs.field(default="h", init=False)


def schema(kind, **options):
    return schema_of(shape_of(kind), **options)


# --- Schemas ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "kind"),
    [
        ({"type": "string"}, str),
        ({"type": "integer"}, int),
        ({"type": "number"}, float),
        ({"type": "boolean"}, bool),
        ({"type": "null"}, None),
        ({"type": "null"}, type(None)),
        ({}, Any),
        ({}, object),
        ({}, T),
        ({"type": "integer"}, Few),
        ({"type": "string"}, City),
        ({"type": "string", "format": "date-time"}, dt.datetime),
        ({"type": "string", "format": "date"}, dt.date),
        ({"type": "string", "format": "time"}, dt.time),
        ({"type": "string", "format": "uuid"}, UUID),
        ({"type": "string", "enum": ["c", "f"]}, Unit),
        ({"type": "integer", "enum": [1, 2]}, Level),
        ({"type": "string", "enum": ["f"]}, Literal[Unit.FAHRENHEIT]),
        ({"type": ["string", "null"], "enum": ["a", None]}, Literal["a", None]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, Optional[int]),  # noqa: UP045
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, int | str),
        ({"type": "array", "items": {}}, list),
        ({"type": "array", "items": {}}, tuple),
        ({"type": "array", "items": {"type": "string"}}, list[str]),
        ({"type": "array", "items": {"type": "string"}}, Sequence[str]),
        ({"type": "array", "items": {"type": "string"}}, set[str]),
        ({"type": "array", "items": {"type": "integer"}}, tuple[int, ...]),
        (
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "items": False,
                "minItems": 2,
                "maxItems": 2,
            },
            tuple[int, str],
        ),
        ({"type": "object", "additionalProperties": {}}, dict),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, dict[str, int]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, Mapping[str, int]),
        ({"type": "string", "description": "Which"}, Annotated[str, "Which"]),
        ({"type": "string"}, Annotated[str, 5]),
    ],
)
def test_a_types_schema(expected, kind):
    assert expected == schema(kind)


def test_a_class_is_an_object_whose_defaults_may_be_missing():
    """
    Its docstring describes it, and each field by metadata, annotation or that docstring.
    """
    expected = {
        "type": "object",
        "description": "Somewhere.",
        "properties": {
            "name": {"type": "string", "description": "What it is called."},
            "kind": {"type": "string", "enum": ["city"], "description": "Always the same"},
            "size": {"type": "integer", "description": "In people"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }

    assert expected == schema(Place)


def test_strict_schemas_require_all_and_let_null_stand_for_defaults():
    """
    OpenAI's strict mode takes no other; null stays null where it is a value of its own.
    """
    place, wind = schema(Place, strict=True), schema(Wind, strict=True)

    assert ["name", "kind", "size"] == place["required"]
    assert {
        "anyOf": [{"type": "string", "enum": ["city"]}, {"type": "null"}],
        "description": "Always the same",
    } == place["properties"]["kind"]
    assert {
        "type": ["string", "null"],
        "enum": ["n", "s", None],
    } == wind["properties"]["direction"]
    assert "city" == read(shape_of(Place), {"name": "Oslo", "kind": None, "size": None}).kind


def test_a_strict_default_of_a_union_adds_null_to_its_alternatives():
    @attrs.frozen
    class Sized:
        size: int | str = 1

    expected = {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}

    assert expected == schema(Sized, strict=True)["properties"]["size"]


def test_a_dataclass_has_no_description_of_its_own():
    """
    Its docstring is its signature, which the schema tells better.
    """
    found = schema(Reading)

    assert "description" not in found
    assert ["at", "value", "tags", "note"] == list(found["properties"])
    assert {"type": "string", "description": "Any"} == found["properties"]["note"]
    assert ["at", "value"] == found["required"]


@pytest.mark.parametrize(("kind", "about"), [(Options, True), (Settings, False)])
def test_a_typed_dictionary_is_an_object(kind, about):
    found = schema(kind)

    assert ["name"] == found["required"]
    assert {"type": "boolean"} == found["properties"]["quick"]
    assert about == ("description" in found)
    assert {"name": "n"} == read(shape_of(kind), {"name": "n"})


def test_a_field_is_called_as_its_argument():
    """
    attrs calls that of ``_key`` ``key``; what takes no argument is no property.
    """
    assert ["key"] == list(schema(Account)["properties"])
    assert Account("k") == read(shape_of(Account), {"key": "k"})


def test_a_class_that_holds_itself_is_defined_and_the_root_written_out():
    """
    Servers want an object outermost, not a reference.
    """
    found = schema(Node)

    assert "object" == found["type"]
    assert {"$ref": "#/$defs/Node"} == found["properties"]["children"]["items"]
    assert found["properties"] == found["$defs"]["Node"]["properties"]


def test_a_class_that_comes_up_again_is_defined_once():
    """
    References stand alone: OpenAI refuses keywords beside them.
    """

    @attrs.frozen
    class Route:
        start: Wind
        end: Annotated[Wind, "Where to"]

    found = schema(Route)

    assert ["Wind"] == list(found["$defs"])
    assert {"$ref": "#/$defs/Wind"} == found["properties"]["start"]
    assert {
        "anyOf": [{"$ref": "#/$defs/Wind"}],
        "description": "Where to",
    } == found["properties"]["end"]
    assert "$defs" not in schema(list[Wind])


def test_two_classes_of_one_name_are_told_apart():
    other = attrs.make_class("Wind", {"strong": attrs.field(type=bool)})
    kinds = {"a": Wind, "b": other, "c": Wind, "d": other}
    pair = attrs.make_class("Pair", {key: attrs.field(type=kind) for key, kind in kinds.items()})

    assert {"Wind", "Wind2"} == schema(pair)["$defs"].keys()


def test_a_generic_class_is_one_for_each_of_its_arguments():
    found = schema(Page[Wind])
    page = read(shape_of(Page[int]), {"items": [1], "first": 2})

    assert "#/$defs/Wind" == found["properties"]["items"]["items"]["$ref"]
    assert Page([1], 2) == page
    assert {} == schema(Page)["properties"]["first"]
    with pytest.raises(DecodeError, match=r"^\$\.items\[0\]: expected integer, got string$"):
        read(shape_of(Page[int]), {"items": ["1"], "first": 2})


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is younger")
def test_a_type_statement_names_a_type():
    names = {}
    exec("type Alias = list[int]", names)

    assert {"type": "array", "items": {"type": "integer"}} == schema(names["Alias"])


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Decimal: expected a type that JSON has, got Decimal", Decimal),
        ("Wrong.price: expected a type that JSON has, got Decimal", "Wrong"),
        ("dict[int, str]: expected str as the type of keys, got int", dict[int, str]),
        ("Broken: expected a choice of JSON scalars, got tuple", enum.Enum("Broken", {"A": (1,)})),
        ("bytes: expected a type that JSON has, got bytes", bytes),
        ("5: expected a type that JSON has, got 5", 5),
    ],
)
def test_what_json_has_not_is_refused_by_name(message, kind):
    if kind == "Wrong":
        kind = attrs.make_class("Wrong", {"price": attrs.field(type=Decimal)})

    with pytest.raises(UnsupportedTypeError) as caught:
        shape_of(kind)

    assert message == str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_a_name_nobody_knows_is_told():
    """
    What a function defines isn't known to its module, where annotations are looked up.
    """
    lost = attrs.make_class("Lost", {"x": attrs.field(type="Nowhere")})

    with pytest.raises(UnsupportedTypeError, match=r"Lost: expected names .* 'Nowhere'"):
        shape_of(lost)


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("Wrong.it: expected a type that a strict schema can tell, got a dict", dict[str, int]),
        ("Wrong.it: expected a type that a strict schema can tell, got a tuple", tuple[int, str]),
        ("Wrong.it: expected a type that a strict schema can tell, got any value", list[Any]),
    ],
)
def test_what_a_strict_schema_can_not_tell_is_refused(where, kind):
    wrong = shape_of(attrs.make_class("Wrong", {"it": attrs.field(type=kind)}))

    assert schema_of(wrong)
    with pytest.raises(UnsupportedTypeError) as caught:
        schema_of(wrong, strict=True)
    assert where == str(caught.value)


def test_null_where_anything_may_stand_is_null():
    """
    Only where it is no value of its own does it stand for a default.
    """

    @attrs.frozen
    class Loose:
        any: Any = 5
        maybe: int | None = 5
        number: int = 5

    assert Loose(None, None, 5) == read(
        shape_of(Loose), {"any": None, "maybe": None, "number": None}
    )


# --- Reading ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "kind", "value"),
    [
        ("s", str, "s"),
        (3, int, 3.0),
        (3.0, float, 3),
        (True, bool, True),
        (None, None, None),
        ([1, {}], Any, [1, {}]),
        (Unit.CELSIUS, Unit, "c"),
        (Level.HIGH, Level, 2.0),
        (Unit.FAHRENHEIT, Literal[Unit.FAHRENHEIT], "f"),
        (1, Literal[True, 1], 1),
        ({1, 2}, set[int], [1, 2, 1]),
        (frozenset({1}), frozenset[int], [1]),
        ((1, 2), tuple[int, ...], [1, 2]),
        ((1, "a"), tuple[int, str], [1, "a"]),
        ({"a": 1}, dict[str, int], {"a": 1}),
        (None, int | None, None),
        (dt.date(2024, 1, 31), dt.date | str, "2024-01-31"),
        ("soon", dt.date | str, "soon"),
        ([1], str | list[int], [1]),
        (3, int | str, 3.0),
        (3.0, float | str, 3),
        ({"x": 1}, int | dict[str, int], {"x": 1}),
        ("a", Literal["a"] | int, "a"),
        (5, Any | None, 5),
        (Dog("dog", "Rex"), Cat | Dog, {"kind": "dog", "name": "Rex"}),
        (Wind(1.0), Wind | Cat, {"speed": 1, "direction": None}),
        (
            dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC),
            dt.datetime,
            "2024-01-31T12:00:00Z",
        ),
    ],
)
def test_a_value_is_read(expected, kind, value):
    found = read(shape_of(kind), value)

    assert expected == found
    assert type(expected) is type(found)


@pytest.mark.parametrize(
    ("message", "kind", "value"),
    [
        ("$: expected string, got null", str, None),
        ("$: expected string, got integer", str, 1),
        ("$: expected integer, got boolean", int, True),
        ("$: expected integer, got number", int, 1.5),
        ("$: expected integer, got string", int, "1"),
        ("$: expected number, got an integer too large for it", float, 10**400),
        ("$: expected boolean, got integer", bool, 1),
        ("$: expected null, got string", None, ""),
        ("$: expected a date, got another string", dt.date, "tomorrow"),
        ("$: expected string, got integer", UUID, 1),
        ('$: expected "c" or "f", got another string', Unit, "k"),
        ('$: expected "c" or "f", got null', Unit, None),
        ("$: expected true or null, got integer", Literal[True, None], 1),
        ("$: expected array, got object", list[int], {}),
        ("$[1]: expected integer, got string", list[int], [1, "2"]),
        ("$: expected 2 items, got 1", tuple[int, str], [1]),
        ("$[1]: expected string, got integer", tuple[int, str], [1, 2]),
        ('$["a b"]: expected integer, got null', dict[str, int], {"a b": None}),
        ("$: expected object, got string", dict[str, int], "{}"),
        ("$: expected object, got array", Wind, []),
        ("$.speed: expected number, got nothing", Wind, {}),
        ("$.speed: expected number, got null", Wind, {"speed": None}),
        ("$: expected no keys but speed, direction, got gust", Wind, {"speed": 1, "gust": 2}),
        (
            "$: expected a valid Wind, got 'speed' must be >= 0: -1.0",
            Wind,
            {"speed": -1},
        ),
        (
            "$.children[0].value: expected integer, got nothing",
            Node,
            {
                "value": 1,
                "children": [{}],
            },
        ),
        ("$: expected integer or null, got string", int | None, "1"),
        ("$: expected integer, got number", int | None, 1.5),
        ("$: expected object (Cat) or object (Dog), got array", Cat | Dog, []),
        ("$.lives: expected integer, got nothing", Cat | Dog, {"kind": "cat"}),
        ("$: expected object (Cat) or object (Dog), got object", Cat | Dog, {"kind": "cow"}),
        (
            "$: expected object (Cat) or object (Dog), got object that is neither",
            Cat | Dog,
            {"name": 1},
        ),
        ("$: expected array or object, got string", list[int] | dict[str, int], "x"),
        ('$: expected a date or "a" or 1, got null', dt.date | Literal["a", 1], None),
        (
            "$.it: expected a value, got nothing",
            attrs.make_class("Held", {"it": attrs.field(type=Any)}),
            {},
        ),
        (
            "$.it: expected integer or string, got nothing",
            attrs.make_class("Held", {"it": attrs.field(type=int | str)}),
            {},
        ),
        ("$: expected no keys but none, got a", attrs.make_class("Empty", {}), {"a": 1}),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(message, kind, value):
    with pytest.raises(DecodeError) as caught:
        read(shape_of(kind), value)

    assert message == str(caught.value)


def test_what_holds_itself_for_ever_is_told():
    """
    A text of a few kilobytes must not end in a RecursionError.
    """
    value = {"value": 1}
    for _ in range(2000):
        value = {"value": 1, "children": [value]}

    with pytest.raises(DecodeError, match="expected fewer levels"):
        read(shape_of(Node), value)


integers = st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
winds = st.builds(Wind, finite.map(abs), st.sampled_from(["n", "s", None]))
readings = st.builds(Reading, st.datetimes(), finite, st.lists(st.text()).map(tuple), st.text())
everything = st.builds(
    Everything,
    nothing=st.none(),
    share=finite,
    either=integers | st.text() | winds,
    many=st.lists(winds),
    reading=readings,
    count=integers,
    maybe=st.none() | integers,
    some=st.lists(integers).map(tuple),
    time=st.times(),
)
converter = make_converter()
# orjson writes 10,000 µs as ".10000".
converter.register_unstructure_hook(dt.time, dt.time.isoformat)


@given(value=everything)
def test_an_instance_written_as_json_is_read_again(value):
    """
    cattrs writes it, which knows nothing of shapes.
    """
    plain = json.loads(converter.dumps(value))

    assert value == read(shape_of(Everything), plain)


@given(value=everything)
def test_an_instance_fits_its_own_schema(value):
    """
    As an implementation of JSON schema sees it that knows nothing of ours.
    """
    jsonschema = pytest.importorskip("jsonschema")
    plain = json.loads(converter.dumps(value))

    jsonschema.Draft202012Validator(schema(Everything)).validate(plain)
    jsonschema.Draft202012Validator(schema(Everything, strict=True)).validate(plain)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=JSON)
@pytest.mark.parametrize("kind", [Everything, Node, Cat | Dog | None, Page[Wind], Options])
def test_whatever_comes_is_read_or_refused(kind, value):
    with contextlib.suppress(DecodeError):
        read(shape_of(kind), value)


@given(value=JSON, kind=st.sampled_from([int | str | None, list[Wind], dict[str, float], Wind]))
def test_what_is_read_fits_the_schema(value, kind):
    """
    No value gets by that the model wasn't allowed to write.
    """
    jsonschema = pytest.importorskip("jsonschema")
    try:
        read(shape_of(kind), value)
    except DecodeError:
        return

    jsonschema.Draft202012Validator(schema(kind)).validate(value)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", [Everything, Node, Cat, Page[Wind], Reading])
def test_what_the_simulated_server_makes_of_a_schema_is_read(kind, strict):
    """
    So that whoever tests with it gets instances.
    """
    shape = shape_of(kind)

    assert read(shape, instance_of(schema_of(shape, strict=strict)))


@attrs.frozen
class Left:
    below: "Left | Right | None"
    left: bool = attrs.field(validator=lambda *_: MADE.append(1))


@attrs.frozen
class Right:
    below: "Left | Right | None"
    right: bool = attrs.field(validator=lambda *_: MADE.append(1))


MADE = []
DEEP = 12
"""Levels; twice the work at each of them would be 4,096 times as much."""


@pytest.mark.parametrize("leaf", [None, "wrong"])
def test_the_work_grows_as_the_value_does(leaf, monkeypatch):
    """
    Which of two classes an object is may only be told when all below it was read: a model
    that nests them must not keep a service busy.
    """
    looks = []
    kind = reading._kind
    monkeypatch.setattr(reading, "_kind", lambda value: looks.append(value) or kind(value))
    MADE.clear()
    value = leaf
    for _ in range(DEEP):
        value = {"below": value, "right": True}
    shape = shape_of(Left | Right)
    if leaf is None:
        found = read(shape, value)
        assert value == make_converter().unstructure(found)
    else:
        with pytest.raises(DecodeError):
            read(shape, value)

    assert len(MADE) + len(looks) < 20 * DEEP


# --- Functions -------------------------------------------------------------------


def weather(
    city: Annotated[str, "Where"], unit: Unit = Unit.CELSIUS, *, days: int | None = None
) -> str:
    """Tell the weather.

    As it is.

    Args:
        unit (Unit): Of the
            temperature.
        days: How many:
            a few.

    Returns:
        Words.
    """


def test_a_function_is_described_by_its_signature_and_its_docstring():
    found = signature_of(weather)

    properties = schema_of(found.parameters)["properties"]
    assert "weather" == found.name
    assert "Tell the weather.\n\nAs it is.\n\nReturns:\n    Words." == found.description
    assert ["Where", "Of the temperature.", "How many: a few."] == [
        each["description"] for each in properties.values()
    ]
    assert ["city"] == schema_of(found.parameters)["required"]
    assert {"city": "Oslo", "unit": Unit.FAHRENHEIT} == read(
        found.parameters, {"city": "Oslo", "unit": "f"}
    )


def positional(x: int, /): ...
def starred(*x: int): ...
def keywords(**x: int): ...
def bare(x): ...
def unreadable(x: bytes): ...


@pytest.mark.parametrize(
    ("message", "function"),
    [
        (
            "positional.x: expected a parameter that is given by its name, got positional-only",
            positional,
        ),
        (
            "starred.x: expected a parameter that is given by its name, got variadic positional",
            starred,
        ),
        (
            "keywords.x: expected a parameter that is given by its name, got variadic keyword",
            keywords,
        ),
        ("bare.x: expected an annotation, got none", bare),
        ("unreadable.x: expected a type that JSON has, got bytes", unreadable),
        ("function: expected a function that has a name, got <lambda>", lambda: 0),
        ("function: expected a function that has a name, got partial", partial(weather, "x")),
    ],
)
def test_a_function_that_can_not_be_described_is_refused(message, function):
    with pytest.raises(UnsupportedTypeError) as caught:
        signature_of(function)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("expected", "docstring"),
    [
        (("", {}), None),
        (("Do it.", {}), "Do it."),
        (("Do it.", {"x": "An x."}), "Do it.\n\n:param x: An x."),
        (
            ("Do it.", {"x": "An x, of course.", "y": "A y."}),
            "Do it.\n\n:param int x: An x,\n    of course.\n:param y: A y.",
        ),
        (("Do it.", {"x": "An x."}), "Do it.\n\nArgs:\n    x: An x.\n    y:"),
        (
            ("Do it.", {"x": "An x. note: more", "y": "A y."}),
            "Do it.\n\nParameters:\n  *x (int, optional): An x.\n    note: more\n  **y: A y.\n",
        ),
        (
            ("Do it.\n\nNote: it is done.", {"x": "An x."}),
            "Do it.\n\nArgs:\n    x: An x.\n\nNote: it is done.",
        ),
    ],
)
def test_a_docstring_is_read(expected, docstring):
    assert expected == split_docstring(docstring)


def test_values_come_out_of_json_text():
    assert Wind(2.0, "n") == read(shape_of(Wind), load('{"speed": 2, "direction": "n"}'))
