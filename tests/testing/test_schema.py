"""chatstream.testing.schema."""

import pytest

from chatstream.testing.schema import SchemaError, instance_of


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        (True, "value"),
        ({}, "value"),
        ({"type": "string"}, "value"),
        ({"type": "string", "minLength": 7}, "valuexx"),
        ({"type": "string", "maxLength": 2}, "va"),
        ({"type": "string", "format": "date"}, "2024-01-31"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 7}, 7),
        ({"type": "integer", "exclusiveMinimum": 7}, 8),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "exclusiveMaximum": 1}, 0),
        ({"type": "integer", "multipleOf": 5, "minimum": 11}, 15),
        ({"type": "integer", "multipleOf": 5, "maximum": 4}, 0),
        ({"type": "number"}, 1.5),
        ({"type": "number", "maximum": 0.5}, 0.5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["string", "null"]}, "value"),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": {"x": 1}}, {"x": 1}),
        ({"type": "string", "default": "d"}, "d"),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"items": {"type": "string"}, "minItems": 2}, ["value", "value 2"]),
        ({"type": "array", "maxItems": 0}, []),
        ({"type": "array", "prefixItems": [{"type": "null"}, {"type": "integer"}]}, [None, 1]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"oneOf": [{"type": "null"}]}, None),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, 3),
        ({"allOf": [True, {"type": "null"}]}, None),
        ({"type": "null", "anyOf": [True]}, None),
        ({"type": "array", "items": False}, []),
        ({"type": "object"}, {}),
        ({"required": ["a"]}, {"a": "a"}),
        (
            {
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
            {"city": "city", "days": 1},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "null"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "null"}}, "required": ["b"]},
                ]
            },
            {"a": None, "b": None},
        ),
        (
            {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer", "minimum": 4}}},
            4,
        ),
    ],
    ids=str,
)
def test_an_instance_follows_its_schema(schema, instance):
    assert instance == instance_of(schema)


def test_a_schema_that_holds_itself_comes_to_an_end():
    """
    Trees and linked lists are common in structured output.
    """
    node = {
        "type": "object",
        "properties": {
            "value": {"type": "integer"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            "children": {"type": "array", "items": {"$ref": "#"}},
        },
        "required": ["value", "next", "children"],
    }

    instance = instance_of(node)

    depth = 0
    while instance is not None:
        assert {"value", "next", "children"} == {*instance}
        depth, instance = depth + 1, instance["next"]
    assert 1 < depth < 10


@pytest.mark.parametrize(
    "schema",
    [
        7,
        {"type": "colour"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"allOf": [7]},
        {"$ref": "#/x", "x": 7},
        {"anyOf": [7]},
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "minItems": "many"},
        {"enum": {"a": 1}},
    ],
    ids=str,
)
def test_what_cannot_be_followed_is_an_error(schema):
    with pytest.raises(SchemaError):
        instance_of(schema)
