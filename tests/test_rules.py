"""The rules for a body, each seen to refuse and to let pass."""

import json
import subprocess
import sys
import warnings
from decimal import Decimal
from pathlib import Path

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import rules
from chatstream.errors import RequestError
from chatstream.messages import MAX_DEPTH
from chatstream.request import ChatRequest, wire
from chatstream.rules import RequestWarning, check, check_json
from chatstream.session import ChatSession

HELLO = {"role": "user", "content": "hello"}
WEATHER = {"type": "function", "function": {"name": "weather"}}
SHELL = {"type": "custom", "custom": {"name": "shell"}}
NAME = "a name of 1 to 64 letters, digits, _ or -"
PARTS = "a string or a non-empty list of parts"
STOPS = "a string or a list of 1 to 4 strings"
LEVELS = "more than 100 levels, or a value that holds itself"


def body(**params):
    return {"model": "m", "messages": [HELLO], **params}


def refusal(given, *, stream=False):
    """What ``check()`` says against *given*."""
    with pytest.raises(RequestError) as caught:
        check(given, stream=stream)
    return str(caught.value)


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_every_parameter_has_a_rule():
    names = {field.name for field in attrs.fields(ChatRequest)} - {"extra_body"}

    assert names | {"stream"} == rules._RULES.keys()


# check(): single parameters.

FINE = {
    "model": ["m", "über"],
    "messages": [[HELLO]],
    "audio": [None],
    "frequency_penalty": [-2, 2, 0.5],
    "presence_penalty": [-2.0, 2.0, 0],
    "logit_bias": [{}, {"50256": -100, "0": 100}],
    "logprobs": [True, False],
    "max_completion_tokens": [1, 10**9],
    "metadata": [{}, {str(n): "x" for n in range(16)}, {"k" * 64: "v" * 512}],
    "modalities": [["text"], ["text", "smell"], []],
    "moderation": [
        {"model": "m"},
        {"model": "m", "policy": {"input": {"mode": "score"}, "output": {"mode": "new"}}},
    ],
    "n": [1, 1000],
    "prediction": [
        {"type": "content", "content": "x"},
        {"type": "content", "content": [{"type": "text", "text": "x"}]},
        {"type": "new", "x": 1},
    ],
    "prompt_cache_key": ["k", ""],
    "prompt_cache_options": [{"mode": "implicit", "ttl": "30m"}, {}],
    "reasoning_effort": ["none", "extreme", None],
    "response_format": [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "lark", "x": 1},
        {"type": "json_schema", "json_schema": {"name": "s", "schema": {"a": [1]}, "strict": None}},
    ],
    "safety_identifier": ["s" * 128],
    "seed": [0, -1, 2**63 - 1],
    "service_tier": ["fast", "new"],
    "stop": ["x", "", ["a"], ["a", "b", "c", "d"]],
    "store": [True],
    "temperature": [0, 2, 1.5, None],
    "tools": [[], [WEATHER, SHELL], [{"type": "web_search"}]],
    "top_p": [0, 1, 0.9],
    "verbosity": ["low"],
    "web_search_options": [
        {},
        {"search_context_size": "low"},
        {"user_location": {"type": "approximate", "approximate": {"city": "Ulm"}}},
    ],
    "top_k": [1, "x", [1.5, None, True, {"a": ()}], -(2**63), 2**64 - 1],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in FINE.items() for value in values]
)
def test_allowed_values_pass(name, value):
    check(body(**{name: value}), stream=False)


REFUSED = [
    ("model: expected a non-empty string, got ''", {"model": ""}),
    ("model: expected a non-empty string, got 7", {"model": 7}),
    ("model: expected a non-empty string, got nothing", {"model": None}),
    ("model: expected text that UTF-8 can hold, got a lone surrogate", {"model": "\ud800"}),
    ("temperature: expected a number from 0 to 2, got 2.1", {"temperature": 2.1}),
    ("temperature: expected a number from 0 to 2, got -0.1", {"temperature": -0.1}),
    ("temperature: expected a number from 0 to 2, got True", {"temperature": True}),
    ("temperature: expected a number from 0 to 2, got '0.7'", {"temperature": "0.7"}),
    ("temperature: expected a number from 0 to 2, got nan", {"temperature": float("nan")}),
    ("temperature: expected a number from 0 to 2, got Decimal", {"temperature": Decimal(1)}),
    (
        "temperature: expected a number from 0 to 2, got a string of length 41",
        {"temperature": "x" * 41},
    ),
    (
        "temperature: expected a number from 0 to 2, got a string of length 1",
        {"temperature": "\n"},
    ),
    (
        "temperature: expected a number from 0 to 2, got an integer of 50001 bits",
        {"temperature": 2**50_000},
    ),
    ("top_p: expected a number from 0 to 1, got 1.01", {"top_p": 1.01}),
    ("top_p: expected a number from 0 to 1, got -1", {"top_p": -1}),
    ("frequency_penalty: expected a number from -2 to 2, got 3", {"frequency_penalty": 3}),
    ("presence_penalty: expected a number from -2 to 2, got -3", {"presence_penalty": -3}),
    ("n: expected an integer of at least 1, got 0", {"n": 0}),
    ("n: expected an integer of at least 1, got 1.0", {"n": 1.0}),
    ("n: expected an integer of at least 1, got True", {"n": True}),
    ("max_tokens: expected an integer of at least 1, got 0", {"max_tokens": 0}),
    (
        "max_completion_tokens: expected an integer of at least 1, got -1",
        {"max_completion_tokens": -1},
    ),
    ("seed: expected an integer of at most 64 bits, got 0.5", {"seed": 0.5}),
    ("seed: expected an integer of at most 64 bits, got 9223372036854775808", {"seed": 2**63}),
    ("logprobs: expected True or False, got 1", {"logprobs": 1}),
    ("store: expected True or False, got 'yes'", {"store": "yes"}),
    ("parallel_tool_calls: expected True or False, got 0", {"parallel_tool_calls": 0}),
    ("top_logprobs: expected an integer from 0 to 20, got 21", {"top_logprobs": 21}),
    ("top_logprobs: expected an integer from 0 to 20, got -1", {"top_logprobs": -1}),
    (f"stop: expected {STOPS}, got a list of length 0", {"stop": []}),
    (f"stop: expected {STOPS}, got a list of length 5", {"stop": ["x"] * 5}),
    (f"stop: expected {STOPS}, got 1", {"stop": 1}),
    ("stop[1]: expected a string, got 1", {"stop": ["x", 1]}),
    ("logit_bias: expected an object, got a list of length 0", {"logit_bias": []}),
    ("logit_bias: expected token ids as keys, got 'a'", {"logit_bias": {"a": 1}}),
    ("logit_bias: expected token ids as keys, got '²'", {"logit_bias": {"²": 1}}),
    ("logit_bias: expected token ids as keys, got 1.5", {"logit_bias": {1.5: 1}}),
    (
        'logit_bias["50256"]: expected an integer from -100 to 100, got 101',
        {"logit_bias": {"50256": 101}},
    ),
    (
        'logit_bias["50256"]: expected an integer from -100 to 100, got 0.5',
        {"logit_bias": {"50256": 0.5}},
    ),
    (
        'logit_bias["50256"]: expected an integer from -100 to 100, got nothing',
        {"logit_bias": {"50256": None}},
    ),
    ("metadata: expected an object of at most 16 entries, got 1", {"metadata": 1}),
    (
        "metadata: expected an object of at most 16 entries, got an object of length 17",
        {"metadata": {str(n): "" for n in range(17)}},
    ),
    (
        (
            "metadata: expected keys that are strings of at most 64 characters, "
            "got a string of length 65"
        ),
        {"metadata": {"k" * 65: ""}},
    ),
    (
        "metadata.key: expected a string of at most 512 characters, got a string of length 513",
        {"metadata": {"key": "v" * 513}},
    ),
    (
        "metadata.key: expected a string of at most 512 characters, got 1",
        {"metadata": {"key": 1}},
    ),
    (
        (
            "safety_identifier: expected a string of at most 128 characters, "
            "got a string of length 129"
        ),
        {"safety_identifier": "s" * 129},
    ),
    ("user: expected a string, got 1", {"user": 1}),
    ("reasoning_effort: expected a string, got 1", {"reasoning_effort": 1}),
    ("modalities: expected a list, got 'audio'", {"modalities": "audio"}),
    ("modalities[0]: expected a string, got 1", {"modalities": [1]}),
    ("audio.voice: expected a string or an object, got nothing", {"audio": {"format": "wav"}}),
    ("audio.format: expected a string, got nothing", {"audio": {"voice": "x"}}),
    ("audio.voice.id: expected a string, got nothing", {"audio": {"format": "w", "voice": {}}}),
    ("moderation.model: expected a string, got nothing", {"moderation": {}}),
    (
        "moderation.policy.input.mode: expected a string, got nothing",
        {"moderation": {"model": "m", "policy": {"input": {}}}},
    ),
    ("prediction.type: expected a string, got nothing", {"prediction": {"content": "x"}}),
    (
        f"prediction.content: expected {PARTS}, got nothing",
        {"prediction": {"type": "content"}},
    ),
    ("prompt_cache_options.ttl: expected a string, got 30", {"prompt_cache_options": {"ttl": 30}}),
    ("response_format: expected an object, got 'json'", {"response_format": "json"}),
    ("response_format.type: expected a string, got 1", {"response_format": {"type": 1}}),
    (
        "response_format.json_schema: expected an object, got nothing",
        {"response_format": {"type": "json_schema"}},
    ),
    (
        f"response_format.json_schema.name: expected {NAME}, got 'a b'",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
    ),
    (
        "response_format.json_schema.schema: expected an object, got 'x'",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": "x"}}},
    ),
    (
        "response_format.json_schema.strict: expected True or False, got 'x'",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": "x"}}},
    ),
    ("stream: expected True or False, got 1", {"stream": 1}),
    (
        "web_search_options.user_location.approximate: expected an object, got nothing",
        {"web_search_options": {"user_location": {"type": "approximate"}}},
    ),
    ("tools: expected a list, got an object of length 2", {"tools": WEATHER}),
    ("tools[0]: expected an object, got 'weather'", {"tools": ["weather"]}),
    ("tools[0].type: expected a string, got nothing", {"tools": [{"function": {"name": "f"}}]}),
    ("tools[0].function: expected an object, got nothing", {"tools": [{"type": "function"}]}),
    (
        f"tools[1].function.name: expected {NAME}, got 'f.g'",
        {"tools": [WEATHER, {"type": "function", "function": {"name": "f.g"}}]},
    ),
    (
        f"tools[0].function.name: expected {NAME}, got a string of length 2",
        {"tools": [{"type": "function", "function": {"name": "f\n"}}]},
    ),
    (
        f"tools[0].custom.name: expected {NAME}, got a string of length 65",
        {"tools": [{"type": "custom", "custom": {"name": "c" * 65}}]},
    ),
    (
        "tools[0].custom.format.grammar.syntax: expected a string, got nothing",
        {
            "tools": [
                {
                    "type": "custom",
                    "custom": {
                        "name": "c",
                        "format": {"type": "grammar", "grammar": {"definition": "d"}},
                    },
                }
            ]
        },
    ),
    (
        "tools[0].function.parameters: expected an object, got a list of length 0",
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
    ),
    (f"functions[0].name: expected {NAME}, got nothing", {"functions": [{}]}),
    ("tool_choice: expected a string or an object, got 1", {"tool_choice": 1}),
    ("tool_choice.type: expected a string, got nothing", {"tool_choice": {}}),
    (
        "tool_choice.function: expected an object, got nothing",
        {"tool_choice": {"type": "function"}},
    ),
    (
        "tool_choice.allowed_tools.mode: expected a string, got nothing",
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": []}}},
    ),
]


@pytest.mark.parametrize(("expected", "params"), REFUSED)
def test_other_values_are_refused(expected, params):
    assert expected == refusal(body(**params))


def test_an_error_keeps_its_facts_apart():
    with pytest.raises(RequestError) as caught:
        check(body(temperature=3), stream=False)

    assert ("temperature", "3", "a number from 0 to 2") == (
        caught.value.parameter,
        caught.value.seen,
        caught.value.allowed,
    )


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_body_without_model_or_messages_is_refused(missing):
    given = body()
    del given[missing]

    assert refusal(given).startswith(f"{missing}: expected a non-empty ")


# check(): messages.

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": [{"type": "text", "text": "t"}]},
        {"role": "user", "content": "", "name": "n"},
        {"role": "user", "content": "ü漢😀", "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "u"}}]},
        {
            "role": "user",
            "content": (
                {"type": "image_url", "image_url": {"url": "u", "detail": None}},
                {"type": "input_audio", "input_audio": {"data": "d", "format": "ogg"}},
                {"type": "file", "file": {"file_id": "f"}},
                {
                    "type": "text",
                    "text": "t",
                    "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
                },
            ),
        },
        {"role": "assistant", "content": "a", "tool_calls": None, "refusal": None, "audio": None},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [{"type": "new"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "c", "input": ""}}],
        },
        {"role": "assistant", "function_call": {"name": "f", "arguments": ""}},
        {"role": "assistant", "audio": {"id": "a"}},
        {"role": "assistant", "refusal": "no"},
        {"role": "assistant", "reasoning_content": "r"},
        {"role": "tool", "content": "t", "tool_call_id": "1"},
        {"role": "function", "name": "f", "content": None},
        {"role": "critic", "stars": 5},
    ],
)
def test_allowed_messages_pass(message):
    check(body(messages=[message]), stream=True)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("messages[0]: expected an object, got a string of length 6", "secret"),
        ("messages[0].role: expected a string, got nothing", {}),
        ("messages[0].role: expected a string, got 1", {"role": 1}),
        (f"messages[0].content: expected {PARTS}, got nothing", {"role": "user"}),
        (f"messages[0].content: expected {PARTS}, got nothing", {"role": "system"}),
        (f"messages[0].content: expected {PARTS}, got nothing", {"role": "developer"}),
        (
            f"messages[0].content: expected {PARTS}, got nothing",
            {"role": "tool", "tool_call_id": "1"},
        ),
        (f"messages[0].content: expected {PARTS}, got 5", {"role": "user", "content": 5}),
        (
            f"messages[0].content: expected {PARTS}, got a list of length 0",
            {"role": "user", "content": []},
        ),
        (
            "messages[0].content[1]: expected an object, got a string of length 6",
            {"role": "user", "content": [{"type": "x"}, "secret"]},
        ),
        (
            "messages[0].content[0].type: expected a string, got nothing",
            {"role": "user", "content": [{"text": "secret"}]},
        ),
        (
            "messages[0].content[0].text: expected a string, got nothing",
            {"role": "user", "content": [{"type": "text"}]},
        ),
        (
            "messages[0].content[1].image_url.url: expected a string, got nothing",
            {"role": "user", "content": [{"type": "x"}, {"type": "image_url", "image_url": {}}]},
        ),
        (
            "messages[0].content[0].image_url: expected an object, got a string of length 6",
            {"role": "user", "content": [{"type": "image_url", "image_url": "secret"}]},
        ),
        (
            "messages[0].content[0].input_audio.format: expected a string, got nothing",
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]},
        ),
        (
            "messages[0].content[0].input_audio.data: expected a string, got bytes",
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": b"secret"}}],
            },
        ),
        (
            "messages[0].content[0].file: expected an object, got nothing",
            {"role": "user", "content": [{"type": "file"}]},
        ),
        (
            "messages[0].content[0].refusal: expected a string, got nothing",
            {"role": "assistant", "content": [{"type": "refusal"}]},
        ),
        (
            "messages[0].content[0].prompt_cache_breakpoint.mode: expected a string, got nothing",
            {
                "role": "user",
                "content": [{"type": "text", "text": "", "prompt_cache_breakpoint": {}}],
            },
        ),
        (
            f"messages[0].content: expected {PARTS}, or tool_calls beside it, got nothing",
            {"role": "assistant"},
        ),
        (
            f"messages[0].content: expected {PARTS}, or tool_calls beside it, got nothing",
            {"role": "assistant", "content": None, "tool_calls": []},
        ),
        (
            "messages[0].tool_calls: expected a list, got an object of length 3",
            {"role": "assistant", "tool_calls": CALL},
        ),
        (
            "messages[0].tool_calls[0].type: expected a string, got nothing",
            {"role": "assistant", "tool_calls": [CALL | {"type": None}]},
        ),
        (
            "messages[0].tool_calls[0].id: expected a string, got nothing",
            {"role": "assistant", "tool_calls": [CALL | {"id": None}]},
        ),
        (
            "messages[0].tool_calls[0].function.name: expected a string, got nothing",
            {"role": "assistant", "tool_calls": [CALL | {"function": {"arguments": ""}}]},
        ),
        (
            (
                "messages[0].tool_calls[0].function.arguments: expected a string, "
                "got an object of length 1"
            ),
            {
                "role": "assistant",
                "tool_calls": [CALL | {"function": {"name": "f", "arguments": {"secret": 1}}}],
            },
        ),
        (
            "messages[0].tool_calls[0].custom.input: expected a string, got nothing",
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "c"}}],
            },
        ),
        (
            "messages[0].audio.id: expected a string, got nothing",
            {"role": "assistant", "audio": {}},
        ),
        (
            "messages[0].tool_call_id: expected a string, got nothing",
            {"role": "tool", "content": "secret"},
        ),
        (
            "messages[0].name: expected a string, got nothing",
            {"role": "function", "content": "secret"},
        ),
        ("messages[0].name: expected a string, got 1", {"role": "user", "content": "", "name": 1}),
    ],
)
def test_other_messages_are_refused_and_not_quoted(expected, message):
    seen = refusal(body(messages=[message]))

    assert expected == seen
    assert "secret" not in seen


@pytest.mark.parametrize("messages", ["secret", [], {}, iter([HELLO]), 1])
def test_messages_are_a_list_with_something_in_it(messages):
    seen = refusal(body(messages=messages))

    assert seen.startswith("messages: expected a non-empty list of messages, got ")
    assert "secret" not in seen


# check(): what is JSON.


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (": expected a finite number, got nan", float("nan")),
        (": expected a finite number, got inf", float("inf")),
        ("[1][0].a: expected a finite number, got -inf", [0, [{"a": float("-inf")}]]),
        (": expected an integer of at most 64 bits, got an integer of 65 bits", 2**64),
        (": expected an integer of at most 64 bits, got an integer of 65 bits", -(2**64)),
        (": expected a JSON value, got set", {"secret"}),
        (": expected a JSON value, got bytes", b"secret"),
        ("[1]: expected a JSON value, got Decimal", (1, Decimal(1))),
        (".a: expected string keys, got a key that is int", {"a": {1: 2}}),
        (": expected keys of text, got a key with a lone surrogate", {"\udc00": 1}),
        (": expected text that UTF-8 can hold, got a lone surrogate", "secret \ud83d"),
        (": expected text that UTF-8 can hold, got a lone surrogate", "\ud83d\ude00"),
        ('["a b"].c: expected a JSON value, got object', {"a b": {"c": object()}}),
    ],
)
def test_what_is_not_json_is_refused_with_its_path(expected, value):
    assert "top_k" + expected == refusal(body(top_k=value))
    assert "messages[0].x" + expected == refusal(body(messages=[HELLO | {"x": value}]))
    schema = {"name": "f", "parameters": {"x": value}}
    assert "tools[0].function.parameters.x" + expected == refusal(
        body(tools=[{"type": "function", "function": schema}])
    )


def test_surrogates_are_found_where_a_string_is_expected():
    expected = "messages[0].content: expected text that UTF-8 can hold, got a lone surrogate"

    assert expected == refusal(body(messages=[{"role": "user", "content": "secret\ud83d"}]))


@pytest.mark.parametrize("key", [1, None, ("a",)])
def test_the_keys_of_the_body_are_strings(key):
    seen = refusal(body() | {key: 1})

    assert f"extra_body: expected string keys, got a key that is {type(key).__name__}" == seen


def test_a_path_is_cut_and_printable():
    """
    Keys may be anything: a path stays one short line.
    """
    value = float("nan")
    for key in ["\x1b[31m\n", "k" * 1000, *"abcdefghijklmno"][::-1]:
        value = {key: value}

    assert (
        f'top_k["[31m"]["{"k" * 39}…"].a.b.c.d.e.f.g.h.i…: expected a finite number, got nan'
        == refusal(body(top_k=value))
    )


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}])
def test_check_alone_refuses_deep_nesting(wrap):
    value = 1
    for _ in range(100_000):
        value = wrap(value)

    assert refusal(body(top_k=value)).endswith(f"…: expected at most 100 levels, got {LEVELS}")


def test_as_many_levels_as_are_allowed_pass_both_wire_and_check():
    given = ChatRequest(model="m", messages=[HELLO], metadata=None, extra_body={})
    deepest = attrs.evolve(given, extra_body={"x": nested(MAX_DEPTH - 1)})
    deeper = attrs.evolve(given, extra_body={"x": nested(MAX_DEPTH)})

    check(wire(deepest, stream=True), stream=True)

    with pytest.raises(RequestError):
        wire(deeper, stream=True)


def test_a_megabyte_of_any_script_passes():
    for letter in "aü漢😀":
        check(body(messages=[{"role": "user", "content": letter * 1_000_000}]), stream=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
WORDS = st.sampled_from(
    ["role", "content", "type", "text", "image_url", "tool_calls", "function", "name", "id"]
)
VALUES = st.sampled_from(["user", "assistant", "tool", "text", "image_url", "function"])
MESSAGES = st.recursive(
    VALUES | st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
    max_leaves=20,
)


@given(messages=JSON | MESSAGES | st.lists(st.dictionaries(WORDS, VALUES | MESSAGES)))
def test_arbitrary_messages_are_sent_or_refused(messages):
    """
    And what isn't refused can be encoded.
    """
    try:
        given = wire(ChatRequest.of(None, {"model": "m", "messages": messages}), stream=True)
        check(given, stream=True)
    except RequestError as error:
        given, said = None, str(error)
    else:
        said = ""

    assert said.isprintable()
    assert given == orjson.loads(orjson.dumps(given))


@given(name=st.sampled_from(sorted(rules._RULES)), value=JSON | MESSAGES)
def test_arbitrary_parameters_are_sent_or_refused(name, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RequestWarning)
        try:
            check(body(**{name: value}), stream=True)
        except RequestError as error:
            value, said = None, str(error)
        else:
            said = ""

    assert said.isprintable()
    assert json.dumps(value, allow_nan=False)


# check(): what goes together.


def choose(name, kind="function"):
    return {"type": kind, kind: {"name": name}}


def allow(*tools):
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [*tools]}}


@pytest.mark.parametrize(
    "params",
    [
        {"tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": False},
        {"tools": [WEATHER, SHELL], "tool_choice": choose("weather")},
        {"tools": [WEATHER, SHELL], "tool_choice": choose("shell", "custom")},
        {"tools": [WEATHER, SHELL], "tool_choice": allow(choose("weather"))},
        {"tools": [WEATHER], "tool_choice": {"type": "web_search"}},
        {"tools": [{"type": "new", "function": {"name": "f"}}], "tool_choice": choose("f")},
        {"tools": [{"type": "new", "function": 1}, {"type": "new", "custom": {"name": 1}}]},
        {"logprobs": True, "top_logprobs": 5},
        {"modalities": ["audio"], "audio": {"format": "wav", "voice": "v"}},
        {"audio": {"format": "wav", "voice": {"id": "v"}}},
        {"tools": None, "tool_choice": None, "modalities": None, "functions": None},
    ],
)
def test_what_goes_together_passes(params):
    check(body(**params), stream=False)


@pytest.mark.parametrize(
    ("expected", "params"),
    [
        ("top_logprobs: expected nothing without logprobs=True, got 5", {"top_logprobs": 5}),
        (
            "top_logprobs: expected nothing without logprobs=True, got 0",
            {"top_logprobs": 0, "logprobs": False},
        ),
        (
            "max_tokens: expected nothing beside max_completion_tokens, got 5",
            {"max_tokens": 5, "max_completion_tokens": 5},
        ),
        (
            "audio: expected a format and a voice, as modalities has audio, got nothing",
            {"modalities": ["text", "audio"]},
        ),
        ("tool_choice: expected nothing without tools, got 'none'", {"tool_choice": "none"}),
        (
            "tool_choice: expected nothing without tools, got 'auto'",
            {"tools": [], "tool_choice": "auto"},
        ),
        (
            "parallel_tool_calls: expected nothing without tools, got False",
            {"parallel_tool_calls": False},
        ),
        (
            "tools[1].function.name: expected a name that no tool before has, got 'weather'",
            {"tools": [WEATHER, WEATHER]},
        ),
        (
            "tools[1].custom.name: expected a name that no tool before has, got 'weather'",
            {"tools": [WEATHER, choose("weather", "custom")]},
        ),
        (
            (
                "tool_choice.function.name: expected the name of one of the function tools, "
                "got 'wether'"
            ),
            {"tools": [WEATHER], "tool_choice": choose("wether")},
        ),
        (
            "tool_choice.custom.name: expected the name of one of the custom tools, got 'weather'",
            {"tools": [WEATHER], "tool_choice": choose("weather", "custom")},
        ),
        (
            (
                "tool_choice.allowed_tools.tools[1].function.name: "
                "expected the name of one of the function tools, got 'x'"
            ),
            {"tools": [WEATHER], "tool_choice": allow(choose("weather"), choose("x"))},
        ),
        (
            "functions[1].name: expected a name that no function before has, got 'f'",
            {"functions": [{"name": "f"}, {"name": "f"}]},
        ),
        (
            "function_call: expected nothing without functions, got 'auto'",
            {"function_call": "auto"},
        ),
        (
            "function_call.name: expected the name of one of the functions, got 'g'",
            {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
        ),
    ],
)
def test_what_does_not_go_together_is_refused(expected, params):
    assert expected == refusal(body(**params))


def test_stream_options_belong_to_streams():
    given = body(stream_options={"include_usage": True})

    assert (
        "stream_options: expected nothing without streaming, got an object of length 1"
        == refusal(given)
    )
    check(given, stream=True)


@pytest.mark.parametrize("stream", [True, False])
def test_extra_body_cannot_turn_streaming_round(stream):
    given = ChatRequest(model="m", messages=[HELLO], extra_body={"stream": not stream})

    assert f"stream: expected {stream}, as the session decides, got {not stream}" == refusal(
        wire(given, stream=stream), stream=stream
    )


# Warnings.


@pytest.mark.parametrize(
    ("expected", "params"),
    [
        (
            "temperature and top_p are both given, change one of them",
            {"temperature": 1, "top_p": 0.5},
        ),
        (
            "max_tokens is deprecated, use max_completion_tokens where the server knows it",
            {"max_tokens": 5},
        ),
        ("user is deprecated, use safety_identifier or prompt_cache_key", {"user": "u"}),
        ("functions is deprecated, use tools", {"functions": [{"name": "f"}]}),
        (
            "prompt_cache_retention is deprecated, use prompt_cache_options",
            {"prompt_cache_retention": "24h"},
        ),
    ],
)
def test_a_warning_comes_at_the_line_of_the_caller(expected, params):
    with pytest.warns(RequestWarning) as caught:
        check(body(**params), stream=False)

    assert [(expected, __file__)] == [(str(w.message), w.filename) for w in caught]


def test_each_deprecated_name_has_its_warning():
    with pytest.warns(RequestWarning) as caught:
        check(body(functions=[{"name": "f"}], function_call={"name": "f"}), stream=False)

    assert [
        "functions is deprecated, use tools",
        "function_call is deprecated, use tool_choice",
    ] == [str(w.message) for w in caught]


def test_a_warning_may_be_laid_at_an_outer_line():
    def session():
        check(body(user="u"), stream=False, stacklevel=3)

    with pytest.warns(RequestWarning) as caught:
        session()

    assert test_a_warning_may_be_laid_at_an_outer_line.__code__.co_firstlineno + 5 == (
        caught[0].lineno
    )


def test_a_refused_request_gives_no_warning():
    assert refusal(body(user="u", temperature=3))


def test_what_is_null_gives_no_warning():
    check(body(user=None, temperature=None, top_p=0.5, max_tokens=None), stream=False)


# check_json(): what holds always.


def refused_always(given):
    """What ``check_json()`` says against *given*, which ``check()`` refuses too."""
    with pytest.raises(RequestError) as caught:
        check_json(given)
    assert refusal(given)
    return str(caught.value)


RING = []
RING.append(RING)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (": expected a finite number, got nan", float("nan")),
        ("[0].a: expected a finite number, got inf", [{"a": float("inf")}]),
        (": expected text that UTF-8 can hold, got a lone surrogate", "secret \ud83d"),
        (": expected keys of text, got a key with a lone surrogate", {"\udc00": 1}),
        (": expected string keys, got a key that is int", {1: 2}),
        (": expected a JSON value, got bytes", b"secret"),
        (": expected an integer of at most 64 bits, got an integer of 65 bits", 2**64),
        (f"{'[0]' * 11}…: expected at most 100 levels, got {LEVELS}", RING),
    ],
)
def test_what_is_not_json_is_refused_always(expected, value):
    assert "top_k" + expected == refused_always(body(top_k=value))
    if value is not RING:
        message = HELLO | {"x": value}
        assert "messages[0].x" + expected == refused_always(body(messages=[message]))


@pytest.mark.parametrize(
    ("expected", "params"),
    [
        ("model: expected a string, got nothing", {"model": None}),
        ("model: expected a string, got 7", {"model": 7}),
        (
            "model: expected text that UTF-8 can hold, got a lone surrogate",
            {"model": "\ud800"},
        ),
        ("messages: expected a list, got nothing", {"messages": None}),
        ("messages: expected a list, got a string of length 6", {"messages": "secret"}),
        ("n: expected an integer of at most 64 bits, got '2'", {"n": "2"}),
    ],
)
def test_what_the_session_needs_is_there_always(expected, params):
    with pytest.raises(RequestError) as caught:
        check_json(body(**params))

    assert expected == str(caught.value)


@pytest.mark.parametrize(
    "params", [params for _, params in REFUSED if not {"model", "n"} & {*params}]
)
def test_other_values_are_refused_always_if_they_are_not_json(params):
    """
    A server may have other ranges, and take other types.
    """
    try:
        sendable = params == orjson.loads(orjson.dumps(params))
    except TypeError:
        sendable = False

    if sendable:
        check_json(body(**params))
    else:
        refused_always(body(**params))


def test_no_rule_of_a_server_holds_always():
    """
    Not even between parameters, and without a warning.
    """
    check_json(
        {
            "model": "",
            "messages": [],
            "temperature": 7,
            "top_p": 7,
            "tool_choice": "any",
            "stream_options": {},
            "max_tokens": 1,
            "max_completion_tokens": 1,
            "n": None,
        }
    )


@given(messages=JSON | MESSAGES)
def test_what_is_sent_unchecked_can_be_encoded(messages):
    try:
        given = wire(ChatRequest(model="m", messages=messages), stream=True)
        check_json(given)
    except RequestError:
        return

    assert given == orjson.loads(orjson.dumps(given))


# In a session.


@pytest.mark.parametrize(
    "params",
    [
        {"extra_body": {"top_k": float("nan")}},
        {"temperature": float("inf")},
        {"messages": [{"role": "user", "content": "\ud83d"}]},
        {"messages": [{"role": "user", "content": {1: 2}}]},
        {"messages": [{"role": "user", "content": b"x"}]},
        {"messages": RING},
        {"messages": "x"},
        {"model": 7},
    ],
)
async def test_an_unchecked_session_refuses_what_it_cannot_send(params):
    """
    And before any connection: no server is there.
    """
    session = ChatSession("http://localhost:9/v1", validate=False)

    with pytest.raises(RequestError):
        session.stream(**body(**params))
    with pytest.raises(RequestError):
        await session.create(**body(**params))


def test_an_unchecked_session_sends_what_no_rule_allows():
    session = ChatSession("http://localhost:9/v1")
    params = {"temperature": 7, "top_k": 40, "tool_choice": "any"}

    session.stream(body(**params), validate=False)
    with pytest.raises(RequestError):
        session.stream(body(**params))


# The modules.


def test_nothing_but_attrs_and_the_standard_library_is_imported():
    """
    Neither the loop nor the codec belongs here, and difflib only to a mistake.
    """
    code = (
        "import sys, types; package = types.ModuleType('chatstream');"
        "package.__path__ = sys.argv[1:]; sys.modules['chatstream'] = package;"
        "import attrs; before = set(sys.modules); import chatstream.rules, chatstream.request;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    folder = str(Path(rules.__file__).parent)
    loaded = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "chatstream" in loaded
    assert not {"orjson", "asyncio", "aiohttp", "cattrs", "difflib"} & {*loaded}
