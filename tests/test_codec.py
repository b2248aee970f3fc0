"""JSON to values and back: what is read where, and what is said of what can't be."""

import copy
import json
import time

import attrs
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatstream.codec import (
    MAX_CHOICES,
    MAX_NESTING,
    encode,
    load,
    load_object,
    parse_arguments,
    read_chunk,
    read_completion,
    read_error,
    to_dict,
)
from chatstream.completion import (
    Annotation,
    Audio,
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceLogprobs,
    ChunkChoice,
    CompletionChoice,
    CompletionTokensDetails,
    CustomToolCall,
    Delta,
    FunctionCall,
    Message,
    Moderation,
    ModerationOutcome,
    ModerationResult,
    PromptTokensDetails,
    TokenLogprob,
    ToolCall,
    ToolCallChunk,
    TopLogprob,
    URLCitation,
    Usage,
    Verdict,
)
from chatstream.errors import DecodeError, RequestError, UpstreamError


def chunk_with(**delta):
    """A chunk of one choice with this delta."""
    return read_chunk({"choices": [{"index": 0, "delta": delta}]})


def delta_of(**delta):
    return chunk_with(**delta).choices[0].delta


def attempt(read, raw):
    """What *raw* is read as, or the ``DecodeError`` it gives."""
    try:
        return read(raw)
    except DecodeError as error:
        return error


def put(raw, path, value):
    """A copy of *raw* with *value* at *path*."""
    raw = copy.deepcopy(raw)
    place = raw
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return raw


# --- Everything a chunk may hold ---------------------------------------------

WIRE = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1754000000,
    "model": "m",
    "service_tier": "default",
    "system_fingerprint": "fp_1",
    "obfuscation": "x7Qp",
    "choices": [
        {
            "index": 2,
            "finish_reason": "tool_calls",
            "stop_reason": 151645,
            "logprobs": {
                "content": [
                    {
                        "token": "a",
                        "logprob": -0.5,
                        "bytes": [97],
                        "top_logprobs": [{"token": "b", "logprob": -9999.0, "bytes": None, "t": 1}],
                        "k": 1,
                    }
                ],
                "refusal": [{"token": "n", "logprob": -1, "bytes": None, "top_logprobs": []}],
                "l": 1,
            },
            "delta": {
                "role": "assistant",
                "content": "c",
                "reasoning_content": "r",
                "refusal": "no",
                "reasoning_details": [{"type": "reasoning.text", "text": "r"}],
                "tool_calls": [
                    {
                        "index": 1,
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a"', "g": 1},
                        "extra_content": {"google": {}},
                    },
                    {"type": "custom", "custom": {"name": "g", "input": "in", "h": 1}},
                ],
                "function_call": {"name": "old", "arguments": ":1"},
                "audio": {
                    "id": "audio_1",
                    "data": "AA==",
                    "transcript": "t",
                    "expires_at": 1754003600,
                    "a": 1,
                },
                "provider": "p",
            },
        }
    ],
    "usage": {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "prompt_tokens_details": {
            "audio_tokens": 4,
            "cached_tokens": 5,
            "cache_write_tokens": 6,
            "image_tokens": 7,
            "text_tokens": 8,
            "p": 1,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 9,
            "audio_tokens": 10,
            "text_tokens": 11,
            "accepted_prediction_tokens": 12,
            "rejected_prediction_tokens": 13,
            "c": 1,
        },
        "cost": 0.1,
    },
    "moderation": {
        "input": {
            "type": "moderation_results",
            "model": "mod",
            "results": [
                {
                    "type": "moderation_result",
                    "model": "mod",
                    "flagged": True,
                    "categories": {"violence": True},
                    "category_scores": {"violence": 0.9},
                    "category_applied_input_types": {"violence": ["text"]},
                    "r": 1,
                }
            ],
            "o": 1,
        },
        "output": {"type": "error", "code": "c", "message": "m"},
        "m": 1,
    },
    "x_groq": {"id": "req_1"},
    "timings": None,
}
LOGPROBS = ChoiceLogprobs(
    (TokenLogprob("a", -0.5, (97,), (TopLogprob("b", -9999.0, None, {"t": 1}),), {"k": 1}),),
    (TokenLogprob("n", -1.0, None, ()),),
    {"l": 1},
)
USAGE = Usage(
    1,
    2,
    3,
    PromptTokensDetails(4, 5, 6, 7, 8, {"p": 1}),
    CompletionTokensDetails(9, 10, 11, 12, 13, {"c": 1}),
    {"cost": 0.1},
)
MODERATION = Moderation(
    ModerationOutcome(
        "moderation_results",
        "mod",
        (
            ModerationResult(
                True,
                {"violence": True},
                {"violence": 0.9},
                {"violence": ["text"]},
                "mod",
                "moderation_result",
                {"r": 1},
            ),
        ),
        extra={"o": 1},
    ),
    ModerationOutcome("error", code="c", message="m"),
    {"m": 1},
)
AUDIO = Audio("audio_1", "AA==", "t", 1754003600, {"a": 1})
READ = ChatCompletionChunk(
    id="chatcmpl-1",
    choices=[
        ChunkChoice(
            index=2,
            delta=Delta(
                role="assistant",
                content="c",
                reasoning="r",
                refusal="no",
                tool_calls=[
                    ToolCallChunk(
                        1,
                        "call_1",
                        "function",
                        FunctionCall("f", '{"a"', {"g": 1}),
                        None,
                        {"extra_content": {"google": {}}},
                    ),
                    ToolCallChunk(None, None, "custom", None, CustomToolCall("g", "in", {"h": 1})),
                ],
                function_call=FunctionCall("old", ":1"),
                audio=AUDIO,
                reasoning_details=[{"type": "reasoning.text", "text": "r"}],
                extra={"provider": "p"},
            ),
            finish_reason="tool_calls",
            logprobs=LOGPROBS,
            extra={"stop_reason": 151645},
        )
    ],
    created=1754000000,
    model="m",
    object="chat.completion.chunk",
    usage=USAGE,
    service_tier="default",
    system_fingerprint="fp_1",
    moderation=MODERATION,
    obfuscation="x7Qp",
    extra={"x_groq": {"id": "req_1"}, "timings": None},
)


def test_every_field_of_a_chunk_goes_to_its_place():
    """
    WIRE.md, all of it at once; what we don't know is kept in ``extra``.
    """
    chunk = read_chunk(load(json.dumps(WIRE)))

    assert READ == chunk
    assert WIRE["choices"][0]["delta"] == chunk.choices[0].delta.wire


def places(value, path=()):
    """Each place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from places(item, (*path, at))


KINDS = [
    None,
    True,
    False,
    0,
    -1,
    10**30,
    10**350,
    0.5,
    -0.0,
    1e308,
    "",
    "0",
    "\ud83d",
    [],
    [None],
    [[]],
    ["a"],
    [{}],
    {},
    {"a": 1},
    {"text": "t"},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: repr(kind)[:12])
def test_a_chunk_with_any_field_of_any_type_is_read_or_refused(kind):
    """
    A value where it doesn't belong must not become another error, or text ``'None'``.
    """
    for path in places(WIRE):
        if not path:
            continue
        found = attempt(read_chunk, put(WIRE, path, kind))

        if isinstance(found, DecodeError):
            assert found.path.startswith("$.")
        else:
            assert "None" not in json.dumps(to_dict(found))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: repr(kind)[:12])
def test_a_completion_with_any_field_of_any_type_is_read_or_refused(kind):
    """
    As with chunks: a value or a ``DecodeError``.
    """
    for path in places(WHOLE):
        if not path:
            continue
        found = attempt(read_completion, put(WHOLE, path, kind))

        if isinstance(found, DecodeError):
            assert found.path.startswith("$.")
        else:
            assert "None" not in json.dumps(to_dict(found))


# The last step of the path, the value, what is said of it.
C = "$.choices[0]"
D = C + ".delta"
WRONG = [
    # The envelope.
    (["id"], 1, "$.id: expected str, got int"),
    (["model"], {}, "$.model: expected str, got dict"),
    (["object"], [], "$.object: expected str, got list"),
    (["service_tier"], 1.5, "$.service_tier: expected str, got float"),
    (["system_fingerprint"], True, "$.system_fingerprint: expected str, got bool"),
    (["obfuscation"], 0, "$.obfuscation: expected str, got int"),
    (["created"], "now", "$.created: expected float, got str"),
    (["created"], True, "$.created: expected float, got bool"),
    (["choices"], "x", "$.choices: expected array, got str"),
    (["choices"], {}, "$.choices: expected array, got dict"),
    (["choices"], [None], f"{C}: expected object, got null"),
    (["choices"], ["x"], f"{C}: expected object, got str"),
    (["choices"], [{"index": 0}, []], "$.choices[1]: expected object, got list"),
    (["choices"], [{}] * 1025, "$.choices: expected at most 1024 choices, got 1025"),
    (
        ["choices"],
        [{"index": 0}, {}],
        "$.choices[1].index: expected int, as there are several choices, got nothing",
    ),
    # A choice.
    (["choices", 0, "index"], -1, f"{C}.index: expected 0 to 1023, got -1"),
    (["choices", 0, "index"], 1024, f"{C}.index: expected 0 to 1023, got 1024"),
    (["choices", 0, "index"], 10**8, f"{C}.index: expected 0 to 1023, got 100000000"),
    (["choices", 0, "index"], 2**53, f"{C}.index: expected 0 to 1023, got 9007199254740992"),
    (["choices", 0, "index"], 0.5, f"{C}.index: expected int, got float"),
    (["choices", 0, "index"], 0.0, f"{C}.index: expected int, got float"),
    (["choices", 0, "index"], "0", f"{C}.index: expected int, got str"),
    (["choices", 0, "index"], "__proto__", f"{C}.index: expected int, got str"),
    (["choices", 0, "index"], True, f"{C}.index: expected int, got bool"),
    (["choices", 0, "finish_reason"], 1, f"{C}.finish_reason: expected str, got int"),
    (["choices", 0, "logprobs"], [], f"{C}.logprobs: expected object, got list"),
    (["choices", 0, "delta"], "x", f"{D}: expected object, got str"),
    (["choices", 0, "delta"], [], f"{D}: expected object, got list"),
    # A delta.
    (["choices", 0, "delta"], {"content": 1}, f"{D}.content: expected str, got int"),
    (["choices", 0, "delta", "content"], {}, f"{D}.content: expected str, got dict"),
    (["choices", 0, "delta", "content"], [1], f"{D}.content[0]: expected object, got int"),
    (["choices", 0, "delta", "content"], ["a", None], f"{D}.content[1]: expected object, got null"),
    (["choices", 0, "delta", "role"], 1, f"{D}.role: expected str, got int"),
    (["choices", 0, "delta", "refusal"], [], f"{D}.refusal: expected str, got list"),
    (
        ["choices", 0, "delta", "reasoning_content"],
        1,
        f"{D}.reasoning_content: expected str, got int",
    ),
    (["choices", 0, "delta", "reasoning"], {}, f"{D}.reasoning: expected str, got dict"),
    (["choices", 0, "delta", "reasoning_text"], 1, f"{D}.reasoning_text: expected str, got int"),
    (
        ["choices", 0, "delta", "reasoning_details"],
        "x",
        f"{D}.reasoning_details: expected array, got str",
    ),
    (["choices", 0, "delta", "tool_calls"], "x", f"{D}.tool_calls: expected array, got str"),
    (["choices", 0, "delta", "tool_calls"], [1], f"{D}.tool_calls[0]: expected object, got int"),
    (
        ["choices", 0, "delta", "tool_calls"],
        [{}] * 1025,
        f"{D}.tool_calls: expected at most 1024 calls, got 1025",
    ),
    (["choices", 0, "delta", "function_call"], "f", f"{D}.function_call: expected object, got str"),
    (
        ["choices", 0, "delta", "function_call", "name"],
        1,
        f"{D}.function_call.name: expected str, got int",
    ),
    (
        ["choices", 0, "delta", "function_call", "arguments"],
        1,
        f"{D}.function_call.arguments: expected str or object, got int",
    ),
    (["choices", 0, "delta", "audio"], "x", f"{D}.audio: expected object, got str"),
    (["choices", 0, "delta", "audio", "data"], 1, f"{D}.audio.data: expected str, got int"),
    (
        ["choices", 0, "delta", "audio", "expires_at"],
        1.5,
        f"{D}.audio.expires_at: expected int, got float",
    ),
    # A tool call.
    *(
        (["choices", 0, "delta", "tool_calls", 1, *path], value, f"{D}.tool_calls[1]{said}")
        for path, value, said in [
            (["index"], -1, ".index: expected 0 to 1023, got -1"),
            (["index"], 0.5, ".index: expected int, got float"),
            (["index"], "0", ".index: expected int, got str"),
            (["index"], 10**8, ".index: expected 0 to 1023, got 100000000"),
            (["id"], 1, ".id: expected str, got int"),
            (["type"], 1, ".type: expected str, got int"),
            (["function"], "f", ".function: expected object, got str"),
            (["function"], {"name": []}, ".function.name: expected str, got list"),
            (
                ["function"],
                {"arguments": True},
                ".function.arguments: expected str or object, got bool",
            ),
            (["custom"], [], ".custom: expected object, got list"),
            (["custom", "name"], 1, ".custom.name: expected str, got int"),
            (["custom", "input"], {}, ".custom.input: expected str, got dict"),
        ]
    ),
    # Logprobs.
    *(
        (["choices", 0, "logprobs", *path], value, f"{C}.logprobs{said}")
        for path, value, said in [
            (["content"], {}, ".content: expected array, got dict"),
            (["content"], [None], ".content[0]: expected object, got null"),
            (["content"], [{}], ".content[0].token: expected str, got nothing"),
            (["content"], [{"token": None}], ".content[0].token: expected str, got nothing"),
            (["content", 0, "token"], 1, ".content[0].token: expected str, got int"),
            (["content", 0, "logprob"], "x", ".content[0].logprob: expected float, got str"),
            (["content", 0, "logprob"], True, ".content[0].logprob: expected float, got bool"),
            (
                ["content", 0, "logprob"],
                10**350,
                ".content[0].logprob: expected float, got an int too large for it",
            ),
            (["content", 0, "bytes"], "a", ".content[0].bytes: expected array, got str"),
            (["content", 0, "bytes"], [0, 1.5], ".content[0].bytes[1]: expected int, got float"),
            (["content", 0, "bytes"], [None], ".content[0].bytes[0]: expected int, got null"),
            (
                ["content", 0, "top_logprobs", 0, "token"],
                2,
                ".content[0].top_logprobs[0].token: expected str, got int",
            ),
            (["refusal"], 1, ".refusal: expected array, got int"),
        ]
    ),
    # Usage.
    (["usage"], "x", "$.usage: expected object, got str"),
    (["usage"], [1], "$.usage: expected object, got list"),
    (["usage", "prompt_tokens"], "1", "$.usage.prompt_tokens: expected int, got str"),
    (["usage", "prompt_tokens"], 1.5, "$.usage.prompt_tokens: expected int, got float"),
    (["usage", "total_tokens"], True, "$.usage.total_tokens: expected int, got bool"),
    (
        ["usage", "prompt_tokens_details"],
        1,
        "$.usage.prompt_tokens_details: expected object, got int",
    ),
    (
        ["usage", "completion_tokens_details", "reasoning_tokens"],
        [],
        "$.usage.completion_tokens_details.reasoning_tokens: expected int, got list",
    ),
    # Moderation.
    (["moderation"], [], "$.moderation: expected object, got list"),
    (["moderation", "input"], 1, "$.moderation.input: expected object, got int"),
    (
        ["moderation", "input", "results"],
        {},
        "$.moderation.input.results: expected array, got dict",
    ),
    (
        ["moderation", "input", "results", 0, "flagged"],
        1,
        "$.moderation.input.results[0].flagged: expected bool, got int",
    ),
    (
        ["moderation", "input", "results", 0, "categories"],
        [],
        "$.moderation.input.results[0].categories: expected object, got list",
    ),
    (["moderation", "output", "code"], 1, "$.moderation.output.code: expected str, got int"),
]


@pytest.mark.parametrize(("path", "value", "said"), WRONG, ids=[row[2] for row in WRONG])
def test_a_wrong_type_is_said_with_its_place(path, value, said):
    """
    Whoever reads the error must find the place in the server's answer.
    """
    with pytest.raises(DecodeError) as caught:
        read_chunk(put(WIRE, path, value))

    assert said == str(caught.value)
    assert said.startswith(caught.value.path + ": ")
    assert caught.value.__cause__ is None


# --- What servers disagree on ------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, ChatCompletionChunk()),
        ({"type": "ping"}, ChatCompletionChunk(extra={"type": "ping"})),
        ({"choices": None}, ChatCompletionChunk()),
        ({"choices": []}, ChatCompletionChunk()),
        ({"object": "", "id": "", "model": ""}, ChatCompletionChunk("", object="", model="")),
        ({"id": None, "usage": None, "moderation": None}, ChatCompletionChunk()),
        ({"created": 1754000000.7}, ChatCompletionChunk(created=1754000000)),
        ({"service_tier": "new"}, ChatCompletionChunk(service_tier="new")),
        ({"obfuscation": "x"}, ChatCompletionChunk(obfuscation="x")),
        (
            {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            ChatCompletionChunk(extra={"prompt_filter_results": [{"prompt_index": 0}]}),
        ),
        ({"extra": {"a": 1}}, ChatCompletionChunk(extra={"extra": {"a": 1}})),
        ({"__class__": 1, "self": 2}, ChatCompletionChunk(extra={"__class__": 1, "self": 2})),
    ],
)
def test_chunks_without_choices_are_fine(raw, expected):
    """
    Usage, filters and keep-alives come in chunks of their own; unknown fields are kept.
    """
    assert expected == read_chunk(raw)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, ChunkChoice(0, Delta())),
        ({"delta": None, "finish_reason": None, "logprobs": None}, ChunkChoice(0, Delta())),
        ({"index": None, "delta": {}}, ChunkChoice(0, Delta())),
        ({"index": 1023}, ChunkChoice(1023, Delta())),
        ({"finish_reason": ""}, ChunkChoice(0, Delta())),
        ({"finish_reason": "eos"}, ChunkChoice(0, Delta(), "eos")),
        ({"logprobs": {}}, ChunkChoice(0, Delta(), None, ChoiceLogprobs())),
        (
            {"logprobs": {"content": None, "refusal": []}},
            ChunkChoice(0, Delta(), None, ChoiceLogprobs(None, ())),
        ),
        (
            {"logprobs": {"content": [{"token": "a", "logprob": None}]}},
            ChunkChoice(0, Delta(), None, ChoiceLogprobs((TokenLogprob("a"),))),
        ),
        ({"stop_reason": None}, ChunkChoice(0, Delta(), extra={"stop_reason": None})),
    ],
)
def test_a_lone_choice_may_leave_nearly_everything_out(choice, expected):
    """
    Azure sends null deltas, Ollama empty reasons, others no index.
    """
    assert [expected] == read_chunk({"choices": [choice]}).choices


def test_many_choices_are_read_in_wire_order():
    """
    ``n`` may be 128, and servers send them as they come.
    """
    raw = {"choices": [{"index": index} for index in reversed(range(MAX_CHOICES))]}

    assert list(reversed(range(1024))) == [choice.index for choice in read_chunk(raw).choices]


@pytest.mark.parametrize(
    ("delta", "content", "reasoning", "refusal"),
    [
        ({}, None, None, None),
        ({"content": None}, None, None, None),
        ({"content": ""}, "", None, None),
        ({"content": "a"}, "a", None, None),
        ({"content": "a", "role": None}, "a", None, None),
        ({"content": "a", "refusal": "b"}, "a", None, "b"),
        ({"refusal": ""}, None, None, ""),
        # Reasoning, under its names.
        ({"reasoning_content": "r"}, None, "r", None),
        ({"reasoning": "r"}, None, "r", None),
        ({"reasoning_text": "r"}, None, "r", None),
        ({"reasoning_content": "r", "reasoning": "r"}, None, "r", None),
        ({"reasoning_content": "", "reasoning": "r"}, None, "r", None),
        ({"reasoning_content": "r", "reasoning": ""}, None, "r", None),
        ({"reasoning_content": None, "reasoning": ""}, None, "", None),
        ({"reasoning_details": []}, None, None, None),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, None, None, None),
        ({"reasoning_details": [{"text": "a"}, {"summary": "b"}, "c", 1, None]}, None, "abc", None),
        ({"reasoning": "r", "reasoning_details": [{"text": "r"}]}, None, "r", None),
        ({"reasoning": "", "reasoning_details": [{"text": "r"}]}, None, "r", None),
        # Content as a list.
        ({"content": []}, None, None, None),
        ({"content": ["a", "b"]}, "ab", None, None),
        ({"content": [{"type": "text", "text": "a"}, "b"]}, "ab", None, None),
        ({"content": [{"type": "text"}]}, "", None, None),
        ({"content": [{"type": "text", "text": None}]}, "", None, None),
        ({"content": [{"type": "refusal", "refusal": "n"}] * 2}, None, None, "nn"),
        ({"content": [{"type": "reasoning", "text": "a"}] * 2}, None, "aa", None),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}, "u", 1]},
                    {"type": "text", "text": "a"},
                ]
            },
            "a",
            "tu",
            None,
        ),
        (
            {"content": [{"type": "reasoning", "summary": [{"text": "s"}]}], "reasoning": "r"},
            None,
            "s",
            None,
        ),
    ],
)
def test_content_reasoning_and_refusal_are_kept_apart(delta, content, reasoning, refusal):
    """
    E16: null isn't "", and no server agrees with another on reasoning.
    """
    read = delta_of(**delta)

    assert (content, reasoning, refusal) == (read.content, read.reasoning, read.refusal)
    assert {} == read.extra
    assert delta == read.wire


def test_text_deep_inside_a_part_is_not_dug_for():
    """
    A part of parts of parts is nobody's format; it must not cost the stack.
    """
    part = {"text": "deep"}
    for _ in range(200):
        part = {"content": [part]}

    assert "" == delta_of(content=[part]).content


@pytest.mark.parametrize("role", ["assistant", "user", "tool", "", "robot"])
def test_a_role_is_kept_as_it_came(role):
    """
    E13; an unknown one is the server's business.
    """
    assert role == delta_of(role=role).role


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (None, None),
        ("", ""),
        ("{", "{"),
        ("not JSON", "not JSON"),
        ({}, "{}"),
        ({"a": [1, "ü"]}, '{"a":[1,"ü"]}'),
        ([], "[]"),
        ({"a": "\ud83d"}, '{"a":"\\ud83d"}'),
    ],
)
def test_arguments_are_text_even_where_the_wire_has_an_object(arguments, expected):
    """
    E15: Ollama's and others' habit. The text is raw: nothing is parsed while it streams.
    """
    raw = {"function": {"name": "f", "arguments": arguments}}

    assert expected == delta_of(tool_calls=[raw]).tool_calls[0].function.arguments
    assert expected == delta_of(function_call=raw["function"]).function_call.arguments


def test_arguments_as_an_object_may_be_nested_as_deep_as_any_json():
    """
    orjson writes fewer levels than it reads.
    """
    depth = MAX_NESTING - 10
    text = '{"choices":[{"delta":{"function_call":{"arguments":%s}}}]}' % (
        "[" * depth + "]" * depth
    )

    call = read_chunk(load(text)).choices[0].delta.function_call

    assert "[" * depth + "]" * depth == call.arguments


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({}, ToolCallChunk()),
        ({"index": None, "id": None, "type": None, "function": None}, ToolCallChunk()),
        ({"index": 0, "id": "", "type": ""}, ToolCallChunk(0, "", "")),
        ({"index": 1023}, ToolCallChunk(1023)),
        ({"function": {}}, ToolCallChunk(function=FunctionCall())),
        (
            {"type": "future", "future": {}},
            ToolCallChunk(None, None, "future", extra={"future": {}}),
        ),
    ],
)
def test_a_tool_call_may_leave_everything_out(call, expected):
    """
    E14, E21: the collector makes sense of it. A bare call stands for a list of one.
    """
    assert [expected] == delta_of(tool_calls=[call]).tool_calls
    assert [expected] == delta_of(tool_calls=call).tool_calls


def test_no_tool_calls_are_not_an_empty_list_of_them():
    """
    vLLM sends ``"tool_calls": []`` with each delta, others null.
    """
    assert [] == delta_of(tool_calls=[]).tool_calls
    assert delta_of(tool_calls=None).tool_calls is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"usage": None}, None),
        ({"usage": {}}, None),
        ({"usage": {"prompt_tokens": None}}, Usage()),
        ({"usage": {"prompt_tokens": 0}}, Usage(0)),
        ({"usage": {"prompt_tokens": 3.0}}, Usage(3)),
        ({"usage": {"prompt_tokens": 10**30}}, Usage(10**30)),
        ({"usage": {"prompt_tokens": -1}}, Usage(-1)),
        ({"usage": {"prompt_time": 0.1}}, Usage(extra={"prompt_time": 0.1})),
        ({"x_groq": None}, None),
        ({"x_groq": "x"}, None),
        ({"x_groq": {"id": "r"}}, None),
        ({"x_groq": {"usage": {"total_tokens": 3}}}, Usage(None, None, 3)),
        (
            {"usage": {"total_tokens": 1}, "x_groq": {"usage": {"total_tokens": 3}}},
            Usage(None, None, 1),
        ),
        ({"choices": [{"usage": {"total_tokens": 3}}]}, Usage(None, None, 3)),
        ({"choices": [{"usage": None}]}, None),
        (
            {"choices": [{"index": 0}, {"index": 1, "usage": {"total_tokens": 3}}]},
            Usage(None, None, 3),
        ),
        ({"choices": [{"usage": {"total_tokens": 3}}], "x": 1}, Usage(None, None, 3)),
    ],
)
def test_usage_is_found_where_the_server_puts_it(raw, expected):
    """
    E18: at the top (OpenAI), in ``x_groq`` (Groq), in a choice (Moonshot).
    """
    assert expected == read_chunk(raw).usage


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"x_groq": {"usage": [1]}}, "$.x_groq.usage: expected object, got list"),
        (
            {"x_groq": {"usage": {"total_tokens": "3"}}},
            "$.x_groq.usage.total_tokens: expected int, got str",
        ),
        ({"choices": [{"usage": 1}]}, "$.choices[0].usage: expected object, got int"),
    ],
)
def test_usage_in_odd_places_is_checked_too(raw, said):
    """
    Counts are counts, wherever they are.
    """
    with pytest.raises(DecodeError) as caught:
        read_chunk(raw)

    assert said == str(caught.value)


# --- Text to plain values ----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "$: expected JSON, got the end at character 0"),
        ("  ", "$: expected JSON, got the end at character 2"),
        ('{"a": ', "$: expected JSON, got the end at character 6"),
        ('{"choices":[{"delta":{"con', "$: expected JSON, got '\"con' at character 22"),
        ("<html>", "$: expected JSON, got '<html>' at character 0"),
        ("[DONE] ", "$: expected JSON, got 'DONE] ' at character 1"),
        ("{} {}", "$: expected JSON, got '{}' at character 3"),
        ("{'a': 1}", "$: expected JSON, got \"'a': 1}\" at character 1"),
        ("x" * 1000, f"$: expected JSON, got '{'x' * 20}' at character 0"),
        ("\x1b]52;c;x\x07", "$: expected JSON, got '\\x1b]52;c;x\\x07' at character 0"),
        ("NaN", "$: expected JSON, got NaN, which isn't JSON"),
        ('{"a": NaN}', "$: expected JSON, got NaN, which isn't JSON"),
        ("[Infinity]", "$: expected JSON, got Infinity, which isn't JSON"),
        ("-Infinity", "$: expected JSON, got -Infinity, which isn't JSON"),
        ("1e999", "$: expected JSON, got the number 1e999, too large for a float"),
        ("[-1e999]", "$: expected JSON, got the number -1e999, too large for a float"),
        ("9" * 401, "$: expected JSON, got a number of 401 digits"),
        ("[" * 100_000, "$: expected JSON, got nesting too deep to read"),
        ('{"a":' * 100_000, "$: expected JSON, got nesting too deep to read"),
        ("[" * 257 + "]" * 257, "$: expected JSON, got nesting too deep to read"),
        ('{"a":' * 257 + "1" + "}" * 257, "$: expected JSON, got nesting too deep to read"),
        (b"\xff\xfe", "$: expected JSON, got '\ufffd\ufffd' at character 0"),
        (b"\xef\xbb\xbf{}", "$: expected JSON, got '\\ufeff{}' at character 0"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_json_is_said_with_its_position(text, said):
    """
    E5, E23: a little of it is shown, printable, however long it is.
    """
    with pytest.raises(DecodeError) as caught:
        load(text)

    assert said == str(caught.value)
    assert "$" == caught.value.path
    assert len(caught.value.seen) <= 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", {}),
        (b"{}", {}),
        (' \n{"a":1}\t', {"a": 1}),
        ("null", None),
        ('"\\ud83d"', "\ud83d"),
        ('["\\ud83d\\ude00"]', ["😀"]),
        ('"a\nb\tc"', "a\nb\tc"),  # raw controls: no JSON by the book, but harmless
        ('"\\u0000\\u202e"', "\0\u202e"),
        ('"\u2028"', "\u2028"),
        (b'"\xff"', "\ufffd"),
        ('{"a":1,"a":2}', {"a": 2}),
        (
            '{"a":"\\ud83d","b":1.5,"c":-2,"d":12345678901234567890123}',
            {"a": "\ud83d", "b": 1.5, "c": -2, "d": 12345678901234567890123},
        ),
        ("1e308", 1e308),
        ("[" * 256 + "]" * 256, None),
        ("[" + "[]," * 5000 + "[]]", [[]] * 5001),
        ('"' + "[{" * 5000 + '"', "[{" * 5000),
        (b"[" + b"{}," * 5000 + b"{}]", [{}] * 5001),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_json_is_read_even_where_orjson_refuses(text, expected):
    """
    E24: halves of surrogate pairs are legal JSON, and servers send them.
    """
    value = load(text)
    if text == "[" * 256 + "]" * 256:
        expected = json.loads(text)

    assert expected == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[]", "list"),
        ('"a"', "str"),
        ("1", "int"),
        ("1.5", "float"),
        ("null", "null"),
        ("true", "bool"),
    ],
)
def test_an_event_must_be_an_object(text, kind):
    """
    E6.
    """
    with pytest.raises(DecodeError) as caught:
        load_object(text)

    assert f"$: expected object, got {kind}" == str(caught.value)
    assert {"a": 1} == load_object('{"a":1}')


EXTREMES = {
    "nesting": "[" * 100_000,
    "closed nesting": "[" * 100_000 + "]" * 100_000,
    "objects in objects": '{"a":' * 100_000,
    "nesting after a half pair": '["\\ud83d",' + "[" * 100_000,
    "a number of a million digits": "1" * 1_000_000,
    "a fraction of a million digits": "0." + "1" * 1_000_000,
    "an exponent": "1e" + "9" * 100_000,
    "a million escapes": '"' + "\\ud83d" * 1_000_000 + '"',
    "a million duplicate keys": "{" + '"a":1,' * 1_000_000 + '"a":2}',
    "a long text that isn't JSON": "x" * 5_000_000,
    "a string without an end": '"' + "x" * 5_000_000,
}


@pytest.mark.parametrize("text", EXTREMES.values(), ids=EXTREMES)
def test_extremes_are_read_or_refused_within_a_second(text):
    """
    E23: neither a stack nor a big number may keep the loop busy.
    """
    start = time.process_time()
    found = attempt(load, text)
    taken = time.process_time() - start

    assert taken < 1
    assert not isinstance(found, DecodeError) or len(str(found)) < 200


def test_a_million_keys_are_read_in_a_moment():
    """
    E23: they are unknown fields like any other.
    """
    text = "{" + ",".join(f'"{key}":1' for key in range(1_000_000)) + "}"

    start = time.process_time()
    chunk = read_chunk(load_object(text))
    taken = time.process_time() - start

    assert 1_000_000 == len(chunk.extra)
    assert taken < 3  # 0.6 s where it was written; making the dict is most of it


def test_a_hundred_thousand_choices_are_refused():
    """
    E8: refused by their number, before any is read.
    """
    with pytest.raises(DecodeError, match="at most 1024 choices, got 100000"):
        read_chunk({"choices": [{"index": 0}] * 100_000})


# --- A whole completion ------------------------------------------------------

WHOLE = {
    "id": "chatcmpl-2",
    "object": "chat.completion",
    "created": 1754000000,
    "model": "m",
    "service_tier": "flex",
    "system_fingerprint": "fp",
    "choices": [
        {
            "index": 1,
            "message": {"role": "assistant", "content": "", "refusal": None},
            "finish_reason": "length",
        },
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": WIRE["choices"][0]["logprobs"],
            "stop_reason": 1,
            "message": {
                "role": "assistant",
                "content": "c",
                "reasoning": "r",
                "refusal": "no",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "2", "type": "custom", "custom": {"name": "g", "input": "i"}, "x": 1},
                ],
                "function_call": {"name": "old", "arguments": ""},
                "audio": WIRE["choices"][0]["delta"]["audio"],
                "annotations": [
                    {
                        "type": "url_citation",
                        "url_citation": {
                            "start_index": 1,
                            "end_index": 2,
                            "title": "t",
                            "url": "https://a",
                            "u": 1,
                        },
                        "n": 1,
                    }
                ],
                "reasoning_details": [{"text": "r"}],
                "provider": "p",
            },
        },
    ],
    "usage": WIRE["usage"],
    "moderation": WIRE["moderation"],
    "citations": ["https://a"],
}
COMPLETION = ChatCompletion(
    "chatcmpl-2",
    (
        CompletionChoice(
            0,
            Message(
                "assistant",
                "c",
                "r",
                "no",
                (
                    ToolCall("1", "function", FunctionCall("f", "{}")),
                    ToolCall("2", "custom", None, CustomToolCall("g", "i"), {"x": 1}),
                ),
                FunctionCall("old", ""),
                AUDIO,
                (
                    Annotation(
                        "url_citation", URLCitation(1, 2, "t", "https://a", {"u": 1}), {"n": 1}
                    ),
                ),
                ({"text": "r"},),
                {"provider": "p"},
            ),
            "stop",
            LOGPROBS,
            {"stop_reason": 1},
        ),
        CompletionChoice(1, Message("assistant", ""), "length"),
    ),
    1754000000,
    "m",
    "chat.completion",
    USAGE,
    "flex",
    "fp",
    MODERATION,
    {"citations": ["https://a"]},
    Verdict.LENGTH,
)


def test_every_field_of_a_completion_goes_to_its_place():
    """
    Choices are sorted by index, unknown fields kept at each level.
    """
    assert COMPLETION == read_completion(load(json.dumps(WHOLE)))


def test_a_completion_may_leave_nearly_everything_out():
    """
    An index is the place in the list, a role the assistant's, usage where it is.
    """
    raw = {
        "choices": [
            {"message": {}},
            {"message": {"content": [{"text": "a"}]}, "finish_reason": ""},
        ],
        "x_groq": {"usage": {"total_tokens": 3}},
    }

    completion = read_completion(raw)

    assert (
        CompletionChoice(0, Message()),
        CompletionChoice(1, Message(content="a")),
    ) == completion.choices
    assert Usage(None, None, 3) == completion.usage
    assert "chat.completion" == completion.object
    assert Verdict.TRUNCATED is completion.verdict


def test_a_completion_without_choices_is_read():
    """
    An empty list is a list; what to make of it is the caller's decision.
    """
    assert () == read_completion({"choices": []}).choices


M = "$.choices[1].message"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["id"], 1, "$.id: expected str, got int"),
        (["created"], [], "$.created: expected float, got list"),
        (["choices"], None, "$.choices: expected array, got null"),
        (["choices"], {}, "$.choices: expected array, got dict"),
        (["choices"], [1], "$.choices[0]: expected object, got int"),
        (["choices", 0, "index"], 5000, "$.choices[0].index: expected 0 to 1023, got 5000"),
        (["choices", 0, "index"], "0", "$.choices[0].index: expected int, got str"),
        (["choices", 0, "finish_reason"], 1, "$.choices[0].finish_reason: expected str, got int"),
        (["choices", 0, "message"], None, "$.choices[0].message: expected object, got null"),
        (["choices", 0, "message"], "x", "$.choices[0].message: expected object, got str"),
        (["choices", 1, "logprobs"], 1, "$.choices[1].logprobs: expected object, got int"),
        (["choices", 1, "message", "content"], 1, f"{M}.content: expected str, got int"),
        (
            ["choices", 1, "message", "annotations"],
            {},
            f"{M}.annotations: expected array, got dict",
        ),
        (
            ["choices", 1, "message", "annotations", 0, "url_citation", "end_index"],
            "2",
            f"{M}.annotations[0].url_citation.end_index: expected int, got str",
        ),
        (
            ["choices", 1, "message", "tool_calls", 1, "custom", "input"],
            1,
            f"{M}.tool_calls[1].custom.input: expected str, got int",
        ),
        (["usage"], 1, "$.usage: expected object, got int"),
        (["moderation"], 1, "$.moderation: expected object, got int"),
    ],
)
def test_a_wrong_type_in_a_completion_is_said_with_its_place(path, value, said):
    """
    The same checks as for chunks.
    """
    with pytest.raises(DecodeError) as caught:
        read_completion(put(WHOLE, path, value))

    assert said == str(caught.value)


# --- Errors inside a stream --------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # The message, the code, the type.
        ({"error": {}}, ("", None, None)),
        ({"error": "text"}, ("text", None, None)),
        ({"error": True}, ("true", None, None)),
        ({"error": ["a"]}, ('["a"]', None, None)),
        (
            {"error": {"message": "m", "code": "c", "type": "t", "param": None}},
            ("m", "c", "t"),
        ),
        ({"error": {"message": "m", "code": 502}}, ("m", "502", None)),
        ({"error": {"message": "m", "code": None, "type": 1}}, ("m", None, None)),
        ({"error": {"message": None, "detail": "d"}}, ("d", None, None)),
        ({"error": {"error": "e"}}, ("e", None, None)),
        ({"error": {"message": {"a": 1}}}, ('{"a": 1}', None, None)),
        ({"error": "overloaded", "error_type": "t"}, ("overloaded", None, "t")),
        ({"object": "error", "message": "m", "type": "t", "code": 400}, ("m", "400", "t")),
        ({"object": "error"}, ("", None, None)),
        ({"error": {"message": "m"}, "choices": [{"index": 0}]}, ("m", None, None)),
        ({"error": {"message": "a\x1b[2Jb\r\nc"}}, ("a [2Jb c", None, None)),
        ({"error": {"message": "x" * 1000}}, ("x" * 299 + "…", None, None)),
    ],
)
def test_an_error_object_is_read_in_all_its_shapes(raw, expected):
    """
    E22: each of these was sent by some server in the middle of a stream.
    """
    error = read_error(raw)

    assert UpstreamError is type(error)
    assert expected == (error.message, error.code, error.type)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"choices": []},
        {"error": None},
        {"error": ""},
        {"error": False},
        {"object": "chat.completion.chunk"},
        {"message": "m", "code": 1},
    ],
)
def test_what_reports_no_error_is_none(raw):
    """
    Some send ``"error": null`` with each chunk.
    """
    assert read_error(raw) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"message": "m", "code": 1}, ("m", "1", None)),
        ({"detail": "m"}, ("m", None, None)),
        ({"error": {"message": "m"}}, ("m", None, None)),
        ({"error": None, "message": "m"}, ("m", None, None)),
        ({}, ("", None, None)),
    ],
)
def test_what_the_server_marked_as_an_error_is_one(raw, expected):
    """
    ``event: error`` says it; the object is then the error itself.
    """
    error = read_error(raw, is_error=True)

    assert expected == (error.message, error.code, error.type)


# --- Arguments ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (None, {}),
        ("", {}),
        ("{}", {}),
        (' {"a": [1]} ', {"a": [1]}),
        ('{"a":"\\ud83d"}', {"a": "\ud83d"}),
    ],
)
def test_arguments_are_read_when_asked_for(arguments, expected):
    """
    Models write no arguments as an empty text.
    """
    assert expected == parse_arguments(FunctionCall("f", arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("[1]", "$: expected object, got list"),
        ("null", "$: expected object, got null"),
        (" ", "$: expected JSON, got the end at character 1"),
        ('{"a": ', "$: expected JSON, got the end at character 6"),
        ("a", "$: expected JSON, got 'a' at character 0"),
    ],
)
def test_arguments_that_are_no_object_are_a_typed_error(arguments, said):
    """
    E15: models write all kinds of things.
    """
    with pytest.raises(DecodeError) as caught:
        parse_arguments(FunctionCall("f", arguments))

    assert said == str(caught.value)


# --- Values to JSON ----------------------------------------------------------


def test_a_body_is_encoded_as_it_is():
    """
    Compact, UTF-8, in the order given.
    """
    assert '{"b":1,"a":"ü"}'.encode() == encode({"b": 1, "a": "ü"})


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ({"a": {1}}, "Type is not JSON serializable: set"),
        ({1: 2}, "Dict key must be str"),
        ({"a": "\ud83d"}, "surrogates not allowed"),
        ({"a": 2**70}, "Integer exceeds 64-bit range"),
    ],
)
def test_a_body_that_has_no_json_is_the_callers_mistake(body, seen):
    """
    K13: said before any connection is made.
    """
    with pytest.raises(RequestError, match=seen) as caught:
        encode(body)

    assert ("request", "JSON values") == (caught.value.parameter, caught.value.allowed)


def test_plain_values_leave_out_what_the_server_did_not_say():
    """
    ``None`` is absence; unknown fields stand beside the known, as on the wire.
    """
    assert {
        "id": "c",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "", "x": 1}, "stop": None}
        ],
        "object": "chat.completion",
        "usage": {"prompt_tokens": 0, "cost": 0.1},
        "verdict": "finished",
    } == to_dict(
        ChatCompletion(
            "c",
            (CompletionChoice(0, Message(content="", extra={"x": 1}), extra={"stop": None}),),
            usage=Usage(0, extra={"cost": 0.1}),
            verdict=Verdict.FINISHED,
        )
    )


def test_plain_values_are_plain():
    """
    What is written or compared by others must not be a class of ours.
    """

    def kinds(value):
        yield type(value)
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                yield from kinds(item)
            else:
                yield type(item)

    plain = {dict, list, str, int, float, bool, type(None)}

    assert set(kinds(to_dict(COMPLETION))) <= plain
    assert set(kinds(to_dict(READ))) <= plain


def test_a_chunk_goes_back_to_what_the_wire_had():
    """
    Only reasoning gets one name, and what was null is left out.
    """
    delta = WIRE["choices"][0]["delta"]
    expected = put(WIRE, ["choices", 0, "delta"], delta | {"reasoning": "r"})
    del expected["choices"][0]["delta"]["reasoning_content"]
    logprobs = expected["choices"][0]["logprobs"]
    del logprobs["content"][0]["top_logprobs"][0]["bytes"], logprobs["refusal"][0]["bytes"]
    outcome = {"results": []}  # an empty list is a list
    expected["moderation"]["output"] |= outcome

    assert expected == to_dict(READ)


def test_text_that_is_written_can_be_encoded():
    """
    E24: half a character becomes U+FFFD at the end of the way, not before.
    """
    chunk = delta_of(content="a\ud83d", tool_calls=[{"id": "\ude00"}])

    assert "a\ud83d" == chunk.content
    assert b'{"content":"a\xef\xbf\xbd","tool_calls":[{"id":"\xef\xbf\xbd"}]}' == orjson.dumps(
        to_dict(chunk)
    )


texts = st.text(max_size=8)
counts = st.none() | st.integers(0, 10**6)
extras = st.dictionaries(
    st.text("xyz", min_size=2, max_size=3), st.integers(-9, 2**63) | texts, max_size=2
)
logprobs_ = st.builds(
    ChoiceLogprobs,
    content=st.none()
    | st.lists(
        st.builds(
            TokenLogprob,
            token=texts,
            logprob=st.floats(-9999, 0),
            bytes=st.none() | st.lists(st.integers(0, 255), max_size=3).map(tuple),
            top_logprobs=st.lists(st.builds(TopLogprob, token=texts), max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    refusal=st.none(),
    extra=extras,
)
messages = st.builds(
    Message,
    content=st.none() | texts,
    reasoning=st.none() | texts,
    refusal=st.none() | texts,
    tool_calls=st.none()
    | st.lists(
        st.one_of(
            st.builds(
                ToolCall,
                id=st.none() | texts,
                type=st.just("function"),
                function=st.builds(FunctionCall, name=st.none() | texts, arguments=texts),
                extra=extras,
            ),
            st.builds(
                ToolCall,
                id=st.none() | texts,
                type=st.just("custom"),
                custom=st.builds(CustomToolCall, name=texts, input=texts, extra=extras),
            ),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    audio=st.none() | st.builds(Audio, id=texts, data=texts, expires_at=counts),
    annotations=st.none()
    | st.lists(
        st.builds(Annotation, type=texts, url_citation=st.builds(URLCitation, url=texts)),
        max_size=2,
    ).map(tuple),
    extra=extras,
)
completions = st.builds(
    ChatCompletion,
    id=st.none() | texts,
    choices=st.lists(
        st.builds(
            CompletionChoice,
            index=st.integers(0, 1023),
            message=messages,
            finish_reason=st.sampled_from([None, "stop", "length", "eos"]),
            logprobs=st.none() | logprobs_,
            extra=extras,
        ),
        max_size=3,
        unique_by=lambda choice: choice.index,
    ).map(lambda choices: tuple(sorted(choices, key=lambda choice: choice.index))),
    created=counts,
    model=st.none() | texts,
    usage=st.none()
    | st.builds(
        Usage,
        prompt_tokens=st.integers(0, 9),
        completion_tokens=counts,
        completion_tokens_details=st.none()
        | st.builds(CompletionTokensDetails, reasoning_tokens=counts),
        extra=extras,
    ),
    extra=extras,
)


@given(completions)
def test_a_completion_written_and_read_again_is_the_same(completion):
    """
    Cassettes and logs keep completions as JSON. The verdict is read off anew.
    """
    again = read_completion(load(orjson.dumps(to_dict(completion))))

    assert completion == attrs.evolve(again, verdict=None)


# --- Arbitrary input ---------------------------------------------------------

names = sorted({step for path in places(WIRE) for step in path if isinstance(step, str)})
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 10**350, "stop", "a"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(names) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=10,
)
choice_like = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, 1, None]) | values,
        "delta": st.dictionaries(st.sampled_from(names), values, max_size=4) | values,
        "message": st.dictionaries(st.sampled_from(names), values, max_size=4) | values,
        "finish_reason": values,
        "logprobs": values,
        "usage": values,
    },
)
chunk_like = st.one_of(
    st.dictionaries(st.sampled_from(names) | st.text(max_size=3), values, max_size=5),
    st.fixed_dictionaries({"choices": st.lists(choice_like, max_size=3)}),
)


@given(chunk_like)
@example({"choices": [{"logprobs": {"content": [{}]}}]})
def test_arbitrary_json_is_a_chunk_or_a_decode_error(raw):
    """
    Garbage gives a value or a documented error, nothing else.
    """
    before = copy.deepcopy(raw)
    found = attempt(read_chunk, raw)

    assert isinstance(found, ChatCompletionChunk) or found.path.startswith("$.")
    assert before == raw


@given(chunk_like)
def test_arbitrary_json_is_a_completion_or_a_decode_error(raw):
    """
    Garbage gives a value or a documented error, nothing else.
    """
    found = attempt(read_completion, raw)

    assert isinstance(found, ChatCompletion) or found.path.startswith("$.")


@given(
    st.dictionaries(st.sampled_from(["error", "object", "message", *names]), values), st.booleans()
)
def test_arbitrary_json_is_an_error_or_none(raw, is_error):
    """
    An error that can't be read would hide the one that is reported.
    """
    error = read_error(raw, is_error=is_error)

    assert is_error <= isinstance(error, UpstreamError)
    assert str(error).isprintable()


json_like = st.lists(
    st.sampled_from([*'{}[]",:\\', '"a"', "1", "-", "e9", "null", "NaN", "\\ud83d", "\x00", "é"])
).map("".join)


@given(st.text(st.characters()) | json_like | st.binary())
def test_arbitrary_text_is_json_or_a_decode_error(text):
    """
    Whatever a server sends after ``data:``.
    """
    found = attempt(load, text)

    if isinstance(found, DecodeError):
        assert "$" == found.path
        assert str(found).isprintable()
    else:
        assert json.dumps(found)


@given(values)
def test_json_that_was_written_is_read_the_same(value):
    """
    Both readers, whichever is needed, agree with the library's own.
    """
    text = json.dumps(value)

    assert json.loads(text) == load(text)
