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
    LOOK_EVERY,
    MAX_CHOICES,
    MAX_NESTING,
    MAX_PATTERN,
    ChunkDecoder,
    encode,
    load,
    load_document,
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
    Envelope,
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


def chunk_of(*first, choices=(), **envelope):
    """A chunk by all its fields."""
    return ChatCompletionChunk(list(choices), Envelope(*first, **envelope))


READ = chunk_of(
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
    (["choices", 0, "finish_reason"], ["stop"], f"{C}.finish_reason: expected str, got list"),
    (["choices", 0, "delta"], "x", f"{D}: expected object, got str"),
    (["choices", 0, "delta"], ["x"], f"{D}: expected object, got list"),
    (["choices", 0, "delta"], True, f"{D}: expected object, got bool"),
    # A delta.
    (["choices", 0, "delta"], {"content": 1}, f"{D}.content: expected str, got int"),
    (["choices", 0, "delta", "content"], False, f"{D}.content: expected str, got bool"),
    (["choices", 0, "delta", "content"], {}, f"{D}.content: expected str, got dict"),
    (["choices", 0, "delta", "content"], [1], f"{D}.content[0]: expected object, got int"),
    (["choices", 0, "delta", "content"], ["a", None], f"{D}.content[1]: expected object, got null"),
    (["choices", 0, "delta", "refusal"], [], f"{D}.refusal: expected str, got list"),
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
    # A tool call.
    *(
        (["choices", 0, "delta", "tool_calls", 1, *path], value, f"{D}.tool_calls[1]{said}")
        for path, value, said in [
            (["index"], -1, ".index: expected 0 to 1023, got -1"),
            (["index"], 0.5, ".index: expected int, got float"),
            (["index"], "0", ".index: expected int, got str"),
            (["index"], 10**8, ".index: expected 0 to 1023, got 100000000"),
            (["id"], 1, ".id: expected str, got int"),
            (["function"], "f", ".function: expected object, got str"),
            (["function"], {"name": []}, ".function.name: expected str, got list"),
            (
                ["function"],
                {"arguments": True},
                ".function.arguments: expected str or object, got bool",
            ),
            (["custom"], [1], ".custom: expected object, got list"),
            (["custom", "name"], 1, ".custom.name: expected str, got int"),
            (["custom", "input"], {}, ".custom.input: expected str, got dict"),
        ]
    ),
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


A = ["choices", 0, "delta"]
L = ["choices", 0, "logprobs"]
ODD = [
    # The envelope.
    (["id"], 1),
    (["model"], {"name": "m"}),
    (["object"], ["chunk"]),
    (["service_tier"], 1.5),
    (["system_fingerprint"], True),
    (["obfuscation"], 0),
    (["created"], "1754000000"),
    (["created"], True),
    (["created"], 10**350),
    # A choice, a delta, a call.
    ([*L], ["a"]),
    ([*L], False),
    ([*A, "role"], 1),
    ([*A, "reasoning_content"], 1),
    ([*A, "reasoning_content"], {"effort": "high"}),
    ([*A, "reasoning_text"], ["a"]),
    ([*A, "reasoning_details"], "x"),
    ([*A, "audio"], "x"),
    ([*A, "audio", "data"], 1),
    ([*A, "audio", "expires_at"], 1.5),
    ([*A, "tool_calls", 1, "type"], 1),
    # Logprobs, which are kept whole.
    ([*L, "content"], {"a": 1}),
    ([*L, "content"], [None]),
    ([*L, "content"], [{}]),
    ([*L, "content"], [{"token": None}]),
    ([*L, "content", 0, "token"], 1),
    ([*L, "content", 0, "logprob"], "x"),
    ([*L, "content", 0, "logprob"], True),
    ([*L, "content", 0, "logprob"], 10**350),
    ([*L, "content", 0, "bytes"], "a"),
    ([*L, "content", 0, "bytes"], [0, 1.5]),
    ([*L, "content", 0, "bytes"], [None]),
    ([*L, "content", 0, "top_logprobs", 0, "token"], 2),
    ([*L, "refusal"], 1),
    # Usage.
    (["usage"], "x"),
    (["usage"], ""),
    (["usage"], [1]),
    (["usage", "prompt_tokens"], "3"),
    (["usage", "prompt_tokens"], 3.5),
    (["usage", "total_tokens"], True),
    (["usage", "prompt_tokens_details"], 1),
    (["usage", "completion_tokens_details", "reasoning_tokens"], []),
    # Moderation.
    (["moderation"], []),
    (["moderation", "input"], 1),
    (["moderation", "input", "results"], {"a": 1}),
    (["moderation", "input", "results"], [1]),
    (["moderation", "input", "results", 0, "flagged"], 1),
    (["moderation", "input", "results", 0, "categories"], ["a"]),
    (["moderation", "output", "code"], 1),
]


@pytest.mark.parametrize(("path", "value"), ODD, ids=repr)
def test_what_lies_around_the_answer_is_kept_as_it_came(path, value):
    """
    E18, E20: odd metadata is no reason to lose a good answer, and none to lose it either.
    """
    chunk = read_chunk(put(WIRE, path, value))
    place = to_dict(chunk)
    for step in path:
        place = place[step]

    assert value == place
    assert type(value) is type(place)
    assert "c" == chunk.choices[0].delta.content


def test_what_does_not_fit_goes_to_the_extra_of_its_holder():
    """
    Under its wire name; the field says that nothing was said.
    """
    logprobs = {"content": [{"token": "a"}, {"logprob": 1}]}
    raw = {
        "id": 1,
        "created": "1754000000",
        "moderation": {"input": {"results": {}}, "output": 1},
        "usage": {
            "prompt_tokens": 3.5,
            "completion_tokens": "3",
            "total_tokens": 3.0,
            "prompt_tokens_details": [],
            "completion_tokens_details": {"reasoning_tokens": True, "text_tokens": 1},
        },
        "choices": [
            {
                "logprobs": logprobs,
                "delta": {
                    "role": 1,
                    "content": "c",
                    "reasoning": {},
                    "audio": {"id": 1, "data": "AA=="},
                    "tool_calls": [{"id": "1", "type": 2, "x": 3}],
                },
            }
        ],
    }

    assert chunk_of(
        choices=[
            ChunkChoice(
                0,
                Delta(
                    content="c",
                    audio=Audio(data="AA==", extra={"id": 1}),
                    tool_calls=[ToolCallChunk(id="1", extra={"type": 2, "x": 3})],
                    extra={"role": 1, "reasoning": {}},
                ),
                extra={"logprobs": logprobs},
            )
        ],
        usage=Usage(
            total_tokens=3,
            completion_tokens_details=CompletionTokensDetails(
                text_tokens=1, extra={"reasoning_tokens": True}
            ),
            extra={
                "prompt_tokens": 3.5,
                "completion_tokens": "3",
                "prompt_tokens_details": [],
            },
        ),
        moderation=Moderation(ModerationOutcome(extra={"results": {}}), extra={"output": 1}),
        extra={"id": 1, "created": "1754000000"},
    ) == read_chunk(raw)


def test_of_what_came_fitting_and_odd_the_fitting_one_is_written():
    """
    A stream's odd usage may be followed by a good one.
    """
    completion = ChatCompletion(usage=Usage(1), extra={"usage": "x", "id": 1})

    assert {"prompt_tokens": 1} == to_dict(completion)["usage"]
    assert 1 == to_dict(completion)["id"]
    assert "chat.completion" == to_dict(read_completion(WHOLE | {"object": 1}))["object"]


@pytest.mark.parametrize("nothing", [None, "", [], False, 0])
def test_nothing_may_be_of_any_type(nothing):
    """
    PHP and Go servers send what their language has for nothing.
    """
    call = {"index": 0, "function": nothing, "custom": nothing}
    delta = {"content": "c", "tool_calls": nothing, "function_call": nothing}
    raw = {
        "choices": [
            {"index": 0, "delta": nothing, "finish_reason": nothing},
            {"index": 1, "delta": delta},
            {"index": 2, "delta": {"tool_calls": [call]}},
        ]
    }

    assert [
        ChunkChoice(0, Delta()),
        ChunkChoice(1, Delta(content="c")),
        ChunkChoice(2, Delta(tool_calls=[ToolCallChunk(0)])),
    ] == read_chunk(raw).choices


# --- What servers disagree on ------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, chunk_of()),
        ({"type": "ping"}, chunk_of(extra={"type": "ping"})),
        ({"choices": None}, chunk_of()),
        ({"choices": []}, chunk_of()),
        ({"object": "", "id": "", "model": ""}, chunk_of("", object="", model="")),
        ({"id": None, "usage": None, "moderation": None}, chunk_of()),
        ({"created": 1754000000.7}, chunk_of(created=1754000000)),
        ({"service_tier": "new"}, chunk_of(service_tier="new")),
        ({"obfuscation": "x"}, chunk_of(obfuscation="x")),
        (
            {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            chunk_of(extra={"prompt_filter_results": [{"prompt_index": 0}]}),
        ),
        ({"extra": {"a": 1}}, chunk_of(extra={"extra": {"a": 1}})),
        ({"__class__": 1, "self": 2}, chunk_of(extra={"__class__": 1, "self": 2})),
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
        ({"reasoning": "", "reasoning_details": []}, None, "", None),
        ({"reasoning_details": {"text": "r"}}, None, "r", None),
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
        ({"index": 0, "id": "", "type": ""}, ToolCallChunk(0, "", "")),
        ({"index": 1023}, ToolCallChunk(1023)),
        ({"function": {}}, ToolCallChunk(function=FunctionCall())),
        (
            {"index": 0, "type": "future", "future": {}},
            ToolCallChunk(0, None, "future", extra={"future": {}}),
        ),
    ],
)
def test_a_tool_call_may_leave_nearly_everything_out(call, expected):
    """
    E14, E21: the collector makes sense of it. A bare call stands for a list of one.
    """
    assert [expected] == delta_of(tool_calls=[call]).tool_calls
    assert [expected] == delta_of(tool_calls=call).tool_calls


@pytest.mark.parametrize(
    "calls",
    [
        None,
        [],
        {},
        [None],
        [{}],
        [{"index": None, "id": "", "type": "function", "function": None}, None],
    ],
)
def test_calls_that_say_nothing_are_none(calls):
    """
    E14: vLLM sends ``"tool_calls": []`` with each delta, others pad with null.
    """
    assert delta_of(tool_calls=calls).tool_calls is None


def test_a_call_keeps_its_place_among_nothing():
    """
    The path counts as the wire does.
    """
    call = {"id": "1"}

    assert [ToolCallChunk(id="1")] == delta_of(tool_calls=[None, {}, call]).tool_calls
    with pytest.raises(DecodeError, match=r"tool_calls\[1\].id"):
        delta_of(tool_calls=[None, {"id": 1}])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"usage": None}, None),
        ({"usage": {}}, None),
        ({"usage": {"prompt_tokens": None}}, Usage()),
        ({"usage": {"prompt_tokens": 0}}, Usage(0)),
        ({"usage": {"prompt_tokens": 3.0}}, Usage(3)),
        ({"usage": {"prompt_tokens": 10**30}}, Usage(extra={"prompt_tokens": 10**30})),
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
    ("raw", "expected"),
    [
        # What doesn't fit stays where it is, and the next place counts.
        ({"x_groq": {"usage": [1]}}, None),
        ({"x_groq": {"usage": {"total_tokens": "3"}}}, Usage(extra={"total_tokens": "3"})),
        ({"choices": [{"usage": 1}]}, None),
        ({"usage": [1], "x_groq": {"usage": {"total_tokens": 3}}}, Usage(None, None, 3)),
    ],
)
def test_usage_in_odd_places_may_be_odd_too(raw, expected):
    """
    It isn't the answer.
    """
    chunk = read_chunk(raw)

    assert expected == chunk.usage
    assert raw.get("x_groq") == chunk.extra.get("x_groq")


# --- Text to plain values ----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the end at character 0 of 0"),
        ("  ", "the end at character 2 of 2"),
        ('{"a": ', "the end at character 6 of 6"),
        ('{"choices":[{"delta":{"con', "something else at character 22 of 26"),
        ("<html>", "something else at character 0 of 6"),
        ("[DONE] ", "something else at character 1 of 7"),
        ("{} {}", "something else at character 3 of 5"),
        ("{'a': 1}", "something else at character 1 of 8"),
        ("x" * 1000, "something else at character 0 of 1000"),
        ("\x1b]52;c;x\x07", "something else at character 0 of 9"),
        (b"\xff\xfe", "something else at character 0 of 2"),
        (b"\xef\xbb\xbf{}", "something else at character 0 of 3"),
        ("NaN", "NaN, which isn't JSON"),
        ('{"a": NaN}', "NaN, which isn't JSON"),
        ("[Infinity]", "Infinity, which isn't JSON"),
        ("-Infinity", "-Infinity, which isn't JSON"),
        ("1e999", "a number too large for a float"),
        ("[-1e999]", "a number too large for a float"),
        ("9" * 401, "a number of 401 digits"),
        ("[" * 100_000, "nesting too deep to read"),
        ('{"a":' * 100_000, "nesting too deep to read"),
        ("[" * 257 + "]" * 257, "nesting too deep to read"),
        ('{"a":' * 257 + "1" + "}" * 257, "nesting too deep to read"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_json_is_said_with_its_position(text, said):
    """
    E5, E23: and with nothing of the answer, however long it is.
    """
    with pytest.raises(DecodeError) as caught:
        load(text)

    assert f"$: expected JSON, got {said}" == str(caught.value)
    assert "$" == caught.value.path


@pytest.mark.parametrize("text", ['{"a": secret', '{"a": "secret"', '{"a": "secret"}}'])
def test_what_is_no_json_goes_no_further(text):
    """
    Crash reporters follow the chain of an error, and the readers' own hold the text.
    """
    with pytest.raises(DecodeError) as caught:
        load_object(text)

    assert caught.value.__cause__ is caught.value.__context__ is None


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


@pytest.mark.parametrize("text", ['{"error":{"code":429}}', b' [{"error":{"code":429}}]\n'])
def test_a_body_may_be_its_object_in_a_list(text):
    """
    Gemini sends its errors so.
    """
    assert "429" == read_error(load_document(text)).code


@pytest.mark.parametrize("text", ["[]", "[{},{}]", "[1]", "[[{}]]", "null", "<html>", ""])
def test_a_body_without_one_object_is_refused(text):
    """
    There would be no saying which of two counts.
    """
    with pytest.raises(DecodeError):
        load_document(text)


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


@pytest.mark.thorough
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
        (["choices"], None, "$.choices: expected array, got null"),
        (["choices"], {}, "$.choices: expected array, got dict"),
        (["choices"], [1], "$.choices[0]: expected object, got int"),
        (["choices", 0, "index"], 5000, "$.choices[0].index: expected 0 to 1023, got 5000"),
        (["choices", 0, "index"], "0", "$.choices[0].index: expected int, got str"),
        (["choices", 0, "finish_reason"], 1, "$.choices[0].finish_reason: expected str, got int"),
        (["choices", 0, "message"], None, "$.choices[0].message: expected object, got null"),
        (["choices", 0, "message"], "x", "$.choices[0].message: expected object, got str"),
        (["choices", 1, "message", "content"], 1, f"{M}.content: expected str, got int"),
        (
            ["choices", 1, "message", "tool_calls", 1, "custom", "input"],
            1,
            f"{M}.tool_calls[1].custom.input: expected str, got int",
        ),
    ],
)
def test_a_wrong_type_in_a_completion_is_said_with_its_place(path, value, said):
    """
    The same checks as for chunks.
    """
    with pytest.raises(DecodeError) as caught:
        read_completion(put(WHOLE, path, value))

    assert said == str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["id"], 1),
        (["created"], []),
        (["usage"], 1),
        (["usage", "total_tokens"], "3"),
        (["moderation"], 1),
        (["choices", 1, "logprobs"], 1),
        (["choices", 1, "message", "annotations"], {"a": 1}),
        (["choices", 1, "message", "annotations"], [1]),
        (["choices", 1, "message", "annotations", 0, "url_citation", "end_index"], "2"),
        (["choices", 1, "message", "audio"], 1),
        (["choices", 1, "message", "reasoning_details"], 1),
    ],
    ids=repr,
)
def test_what_lies_around_a_completion_is_kept_as_it_came(path, value):
    """
    The same rule as for chunks. Choices are sorted when they are read.
    """
    raw = put(WHOLE, path, value)
    raw["choices"].reverse()
    completion = read_completion(raw)
    place = to_dict(completion)
    for step in [0 if step == 1 else step for step in path]:
        place = place[step]

    assert value == place
    assert "c" == completion.text


def test_a_role_that_is_no_text_is_the_assistants():
    """
    The message is sent back with the next request.
    """
    message = read_completion(put(WHOLE, ["choices", 1, "message", "role"], 1)).choices[0].message

    assert ("assistant", 1) == (message.role, message.extra["role"])
    assert "assistant" == to_dict(message)["role"]


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
        ({"x_groq": {"error": "over capacity"}}, ("over capacity", None, None)),
        ({"x_groq": {"error": {"message": "m", "code": "c"}}}, ("m", "c", None)),
        ({"error": None, "x_groq": {"id": "r", "error": "e"}, "choices": []}, ("e", None, None)),
        ({"error": {}, "x_groq": {"error": ""}}, ("", None, None)),
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
        {"error": []},
        {"x_groq": {"id": "r"}},
        {"x_groq": {"error": None}},
        {"x_groq": "x"},
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


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({}, True),
        ("overloaded", True),
        ({"type": "server_error", "code": "rate_limit_exceeded"}, True),
        ({"code": 429}, True),
        ({"code": 408}, True),
        ({"code": 409}, True),
        ({"code": "502"}, True),
        ({"code": 399}, True),
        ({"code": 423}, True),
        ({"code": 400}, False),
        ({"code": 422, "type": "BadRequestError"}, False),
        ({"code": "404"}, False),
        ({"type": "invalid_request_error"}, False),
        ({"type": "invalid_request_error", "code": 500}, False),
        ({"code": "context_length_exceeded"}, False),
        ({"code": "invalid_api_key"}, False),
        ({"code": "content_filter"}, False),
        ({"code": "model_not_found"}, False),
    ],
)
def test_what_would_fail_again_is_not_retried(error, expected):
    """
    A wrong request stays wrong, and each try may cost.
    """
    assert expected is read_error({"error": error}).retryable


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
        (" ", "$: expected JSON, got the end at character 1 of 1"),
        ('{"a": ', "$: expected JSON, got the end at character 6 of 6"),
        ("a", "$: expected JSON, got something else at character 0 of 1"),
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
    | st.integers(-(2**63), 2**63 - 1)  # orjson reads others as floats
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


def test_a_count_beyond_64_bits_counts_nothing():
    """
    Few can write it as JSON again, orjson among them.
    """
    text = json.dumps({"choices": [], "usage": {"prompt_tokens": 10**30}})
    completion = read_completion(load_object(text))

    assert completion.usage.prompt_tokens is None
    assert 1e30 == completion.usage.extra["prompt_tokens"]
    assert orjson.dumps(to_dict(completion))


# Streams that repeat themselves.


ENVELOPE = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def text_of(content, /, *, after=(), delta=(), ascii_only=False, **envelope):
    """The JSON of a chunk, the keys in the order servers have them."""
    choice = {"index": 0, "delta": {"content": content, **dict(delta)}, **dict(after)}
    return json.dumps(ENVELOPE | envelope | {"choices": [choice]}, ensure_ascii=ascii_only)


def decoded(decoder, text):
    """A chunk as a stream reads it, and whether it was known for a repetition."""
    chunk = decoder.repeated(text)
    return (chunk, True) if chunk is not None else (decoder.decode(text, load_object(text)), False)


def taught(*texts):
    """A decoder that has read a stream's first chunks."""
    decoder = ChunkDecoder()
    for text in texts or [text_of(f"t{n}") for n in range(LOOK_EVERY + 2)]:
        decoded(decoder, text)
    return decoder


@pytest.mark.parametrize(
    "content",
    [
        "a",
        "",
        "two words",
        "é 🙂",
        'a "quote"',
        "line\nfeed",
        "\\",
        "\x00",
        "\u2028",
        '","x":"',
        "m",
    ],
)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_chunk_that_differs_in_its_content_alone_is_known(content, ascii_only):
    """
    The common case by far, and the reason for having patterns at all.
    """
    text = text_of(content, ascii_only=ascii_only)

    assert (read_chunk(load_object(text)), True) == decoded(taught(), text)


@pytest.mark.parametrize(
    "text",
    [
        text_of("a", created=2),
        text_of("a", after={"finish_reason": "stop"}),
        text_of("a", after={"logprobs": {"content": [{"token": "a"}]}}),
        text_of("a", delta={"role": "assistant"}),
        text_of(None),
        text_of(["a"]),
        text_of({"type": "text"}),
        text_of("a").replace('"a"', '"a","content":"b"'),
        text_of("a").replace('"a"', '"a","role":"user"'),
        text_of("a").replace('"a"', r'"\ud83d"'),
        text_of("a").replace('"a"', ""),
        text_of("a").replace('"a"', '"a'),
        text_of("a").replace('"a"', '"a" "b"'),
        text_of("a")[:-20],
    ],
)
def test_a_chunk_that_differs_in_more_is_read_whole(text):
    """
    A false match would be a wrong answer.
    """
    assert taught().repeated(text) is None


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "same", "content": "same"},  # the first of two like texts isn't the content
        {"note": {"delta": {"content": "same"}}, "content": "same"},
    ],
)
def test_what_looks_like_the_content_is_not_taken_for_it(odd):
    """
    Else the model's words would end in another field.
    """
    content = odd.pop("content")
    decoder = taught(*[text_of(content, **odd) for _ in range(2 * LOOK_EVERY)])

    chunk, known = decoded(decoder, text_of("new", **odd))

    assert not known
    assert "new" == chunk.choices[0].delta.content
    assert odd.get("id", "c-1") == chunk.id


def test_a_very_long_text_is_no_pattern():
    """
    It would be kept as long as the stream, twice.
    """
    padding = "x" * MAX_PATTERN
    decoder = taught(*[text_of(f"t{n}", padding=padding) for n in range(2 * LOOK_EVERY)])

    assert decoder.repeated(text_of("new", padding=padding)) is None


def test_a_chunk_shows_its_envelope():
    """
    Whoever looks at a chunk needn't know what is shared.
    """
    chunk = read_chunk(WIRE)
    names = [field.name for field in attrs.fields(Envelope)]

    assert [getattr(chunk.envelope, name) for name in names] == [
        getattr(chunk, name) for name in names
    ]


def test_an_envelope_is_shared_while_it_stays_the_same():
    """
    Then it is read, and taken by the collector, once.
    """
    decoder = ChunkDecoder()
    first, second, third, fourth = (
        decoded(decoder, text_of(content, created=created))[0]
        for content, created in [("a", 1), ("b", 1), ("c", 2), ("d", 1)]
    )

    assert first.envelope is second.envelope
    assert [1, 1, 2, 1] == [chunk.created for chunk in (first, second, third, fourth)]


def test_a_stream_whose_envelope_changes_is_known_again():
    """
    llama.cpp's ``created`` is the time of each chunk.
    """
    decoder = taught()
    for n in range(LOOK_EVERY + 2):
        decoded(decoder, text_of(f"u{n}", created=2))

    chunk, known = decoded(decoder, text_of("v", created=2))

    assert known
    assert (2, "v") == (chunk.created, chunk.choices[0].delta.content)


JSON_TEXTS = st.one_of(st.text(), st.sampled_from(["a", "m", "c-1", '"', "\\", ""]))


@given(
    st.lists(
        st.tuples(
            st.one_of(JSON_TEXTS, st.none(), st.lists(JSON_TEXTS, max_size=2)),
            st.fixed_dictionaries(
                {}, optional={"finish_reason": st.sampled_from([None, "stop"]), "x": JSON_TEXTS}
            ),
            st.fixed_dictionaries({}, optional={"role": st.sampled_from(["assistant", None])}),
            st.fixed_dictionaries(
                {}, optional={"created": st.integers(1, 2), "usage": st.none(), "y": JSON_TEXTS}
            ),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.integers(1, 4),
)
def test_a_stream_reads_like_its_chunks_one_by_one(chunks, repeats):
    """
    Whatever a decoder remembers of a stream, each chunk is what it is by itself.
    """
    decoder = ChunkDecoder()
    for content, after, delta, envelope, ascii_only in chunks * repeats:
        text = text_of(content, after=after, delta=delta, ascii_only=ascii_only, **envelope)
        chunk, _ = decoded(decoder, text)
        alone = read_chunk(load_object(text))

        assert alone == chunk
        assert alone.choices[0].delta.wire == chunk.choices[0].delta.wire
