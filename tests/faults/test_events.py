"""What servers send inside an answer, each over a socket: rows E1 to E26 of the faults."""

import json
import time
from pathlib import Path

import orjson
import pytest

from chatstream import (
    ChatSession,
    DecodeError,
    InterruptedStreamError,
    UpstreamError,
    Verdict,
    parse_arguments,
    to_dict,
)
from chatstream.events import (
    ContentDeltaEvent,
    FinishEvent,
    OtherEvent,
    ToolCallDoneEvent,
    UsageEvent,
)
from tests.faults.acts import ASK, DONE, STOP, chunk, everything, frame, said

STREAMS = Path(__file__).parent.parent / "streams"


# --- The end -------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [1, 2])
async def test_finish_reasons_alone_are_an_end(play, choices):
    """
    E1: no [DONE], but all choices finished.
    """
    ends = [chunk(said(finish_reason="stop", index=index)) for index in range(choices)]
    texts = [chunk(said("Hi", index=index)) for index in range(choices)]
    played, _ = await play(*texts, *ends, n=choices)

    assert None is played.error
    assert (Verdict.FINISHED, False) == (played.stream.verdict, played.stream.report.done)


@pytest.mark.parametrize("asked", [1, 2])
async def test_an_unfinished_choice_is_no_end(play, asked):
    """
    E2: no [DONE], and a choice unfinished, or missing altogether.
    """
    body = [chunk("Hel"), chunk("lo")]
    if asked == 2:
        body += [chunk(said("Yes", "stop", index=1))]
    played, _ = await play(*body, n=asked)

    assert isinstance(played.error, InterruptedStreamError)
    assert ("Hello", Verdict.TRUNCATED) == (played.text, played.stream.verdict)
    assert played.error.events == len(body)


@pytest.mark.parametrize(
    "done",
    [b"data: [DONE]\n", b"data: [DONE]", b"data:[DONE]\n\n", b"data: [DONE] \n\n"],
    ids=["no blank line", "no line end", "no space", "a space after"],
)
async def test_done_in_any_form_is_an_end(play, done):
    """
    E3: [DONE] without a blank line, without its space, with one more.
    """
    played, _ = await play(chunk("Hi"), done)

    assert (None, "Hi", True) == (played.error, played.text, played.stream.report.done)
    assert Verdict.FINISHED is played.stream.verdict


@pytest.mark.parametrize(
    ("text", "verdict", "body"),
    [
        ("", Verdict.EMPTY, [DONE, chunk("no")]),
        ("", Verdict.EMPTY, [DONE]),
        ("Hi", Verdict.FINISHED, [chunk("Hi"), DONE, DONE]),
        ("Hi", Verdict.FINISHED, [chunk("Hi"), STOP, DONE, chunk("no"), "nonsense", b"\xff\n"]),
        ("Hi", Verdict.FINISHED, [chunk("Hi"), DONE, {"error": {"message": "no"}}]),
    ],
    ids=["first", "alone", "twice", "more after it", "an error after it"],
)
async def test_nothing_counts_after_done(play, text, verdict, body):
    """
    E4: [DONE] first, twice, and anything after it.
    """
    played, _ = await play(*body)

    assert (None, text, verdict) == (played.error, played.text, played.stream.verdict)
    assert len(played.events) <= 2


# --- Frames that aren't chunks ----------------------------------------------------------


@pytest.mark.parametrize("bad", ['{"choices":[{"delta":{"content":"secret"', "secret {}", "{'a'}"])
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [(), (chunk("no"), STOP, DONE)], ids=["last", "more"])
async def test_a_frame_that_is_no_json(play, bad, before, after):
    """
    E5: first, in the middle, at the end, cut; the error has its place and nothing of it.
    """
    played, _ = await play(*[chunk("Hey")] * before, bad, *after, ends=False)

    assert type(played.error) is DecodeError
    assert "character" in str(played.error)
    played.error.tail = b""  # the bytes as they came
    assert "secret" not in everything(played.error)
    assert ("Hey" * before, Verdict.MALFORMED) == (played.text, played.stream.verdict)
    assert before == len(played.events)


@pytest.mark.parametrize("value", [[], [1], "text", 7, 1.5, None, True], ids=repr)
async def test_a_frame_that_is_no_object(play, value):
    """
    E6: JSON, but a list, a text, a number, null.
    """
    played, _ = await play(chunk("Hi"), json.dumps(value), STOP, ends=False)

    assert type(played.error) is DecodeError
    assert ("$", "object") == (played.error.path, played.error.expected)
    assert "Hi" == played.text


@pytest.mark.parametrize("value", [{}, {"type": "ping"}, {"object": "progress", "done": 0.5}])
async def test_an_unknown_object_is_handed_on(play, value):
    """
    E6: an object that is no chunk is skipped, and can be looked at.
    """
    played, typed = await play(value, chunk("Hi"), value, STOP, DONE)
    [one, other] = [event for event in typed if isinstance(event, OtherEvent)]

    assert (None, "Hi", 2) == (played.error, played.text, len(played.events))
    assert other.chunk.extra == {k: v for k, v in value.items() if k != "object"}
    assert one.chunk.object == value.get("object")


@pytest.mark.parametrize(
    "nothing",
    [b"data:\n\n", b"data: \n\n", b": ping\n\n", b":\n", b"retry: 10\n\n", b"id: 7\n\n", b"\n\n\n"],
)
async def test_an_empty_frame_is_skipped(play, nothing):
    """
    E7: empty data, comments, a retry by itself.
    """
    played, typed = await play(nothing, chunk("Hi"), nothing, STOP, nothing, DONE)

    assert (None, "Hi", 2) == (played.error, played.text, len(played.events))
    assert 2 == played.stream.report.events
    assert not [event for event in typed if isinstance(event, OtherEvent)]


# --- Choices ------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [{"choices": None}, {}, {"choices": []}], ids=repr)
async def test_a_chunk_without_choices(play, beside):
    """
    E8: choices null, missing, empty: usage and filters come so.
    """
    lone = {"id": "c", "usage": {"completion_tokens": 1}, "filter": "ok", **beside}
    played, typed = await play(lone, chunk("Hi"), STOP, lone, DONE)

    assert (None, "Hi") == (played.error, played.text)
    assert 1 == played.stream.report.completion_tokens
    assert 2 == sum(isinstance(event, UsageEvent) for event in typed)


@pytest.mark.parametrize(
    "choices",
    ["text", 7, {}, True, [None], ["a"], [{"index": 0}] * 100_000],
    ids=lambda c: str(c)[:9],
)
async def test_choices_of_a_wrong_type(play, choices):
    """
    E8: a text, a number, an object, and a hundred thousand of them.
    """
    played, _ = await play(chunk("Hi"), {"choices": choices}, STOP, DONE, ends=False)

    assert type(played.error) is DecodeError
    assert played.error.path.startswith("$.choices")
    assert ("Hi", 1) == (played.text, len(played.stream.completion.choices))


@pytest.mark.parametrize("choice", [{}, {"delta": None}, {"delta": None, "index": None}], ids=repr)
async def test_a_choice_that_leaves_things_out(play, choice):
    """
    E9: no delta, no index: the only choice is the first.
    """
    played, _ = await play({"choices": [choice]}, {"choices": [{"delta": {"content": "Hi"}}]}, STOP)

    assert (None, "Hi", [0]) == (
        played.error,
        played.text,
        [choice.index for choice in played.stream.completion.choices],
    )


async def test_a_choice_without_an_index_among_several(play):
    """
    E9: whose text it is can't be told.
    """
    choices = [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]
    played, _ = await play(chunk("Hi"), {"choices": choices}, ends=False)

    assert isinstance(played.error, DecodeError)
    assert "Hi" == played.text


@pytest.mark.parametrize("where", ["choice", "call"])
@pytest.mark.parametrize(
    "index", ["-1", "0.5", '"0"', '"__proto__"', "100000000", "9007199254740992", "NaN", "true"]
)
async def test_an_index_that_is_none(play, index, where):
    """
    E10: negative, a fraction, a text, immense, not a number: nothing is changed or made for it.
    """
    choice = '{"choices":[{"index":%s,"delta":{"content":"no"}}]}'
    call = '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":%s,"id":"x"}]}}]}'
    bad = (choice if where == "choice" else call) % index
    played, _ = await play(chunk("Hi"), bad, STOP, DONE, ends=False)

    assert type(played.error) is DecodeError
    assert "NaN" in index or "index" in played.error.path
    assert ("Hi", 1, None) == (
        played.text,
        len(played.stream.completion.choices),
        played.message.tool_calls,
    )


async def test_choices_in_any_order(play):
    """
    E11: 128 of them, interleaved, from the last to the first.
    """
    order = list(range(127, -1, -1))
    several = chunk(*(said("B", index=index) for index in order[::2] + order[1::2]))
    body = [chunk(said(f"{index}", index=index)) for index in order]
    ends = [chunk(said(finish_reason="stop", index=index)) for index in order]
    played, _ = await play(*body, several, *ends, DONE, n=128)
    choices = played.stream.completion.choices

    assert None is played.error
    assert [(index, f"{index}B") for index in range(128)] == [
        (choice.index, choice.message.content) for choice in choices
    ]


@pytest.mark.parametrize(
    ("reason", "verdict", "reasons"),
    [
        ("stop", Verdict.FINISHED, ["stop", "stop"]),
        ("length", Verdict.LENGTH, ["stop", "length"]),
        ("length", Verdict.LENGTH, ["length", None, ""]),
        ("vibes", Verdict.FINISHED, ["vibes"]),
    ],
)
async def test_the_last_finish_reason_counts(play, reason, verdict, reasons):
    """
    E12: said twice, changed, unknown.
    """
    ends = [chunk(said(finish_reason=one)) for one in reasons]
    played, _ = await play(chunk("Hi"), *ends, DONE)

    assert (None, "Hi", verdict) == (played.error, played.text, played.stream.verdict)
    assert reason == played.stream.completion.choices[0].finish_reason


@pytest.mark.parametrize("late", [True, False])
async def test_content_after_the_finish_reason(play, late):
    """
    E12: it is kept, and the report says so.
    """
    played, _ = await play(chunk("Hi"), STOP, *[chunk("!")] * late, DONE)

    assert "Hi" + "!" * late == played.text
    assert late is played.stream.report.late_content


@pytest.mark.parametrize(
    ("role", "roles"),
    [
        ("assistant", ["assistant", "assistant"]),
        ("assistant", ["", None]),
        ("assistant", [None, "", "assistant"]),
        ("user", ["user", "assistant"]),
    ],
)
async def test_a_role_is_said_once(play, role, roles):
    """
    E13: repeated, empty, null, another one; each delta shows its own.
    """
    played, _ = await play(*(chunk(said("x", role=one)) for one in roles), STOP)
    shown = [json.loads(str(event.delta)) for event in played.events]

    assert (None, role) == (played.error, played.message.role)
    assert [{"content": "x", "role": one} for one in roles] + [{}] == shown


# --- Tool calls -----------------------------------------------------------------------------


def piece(index=0, id_=None, name=None, arguments=None, **more):
    function = {"name": name, "arguments": arguments}
    call = {"index": index, "id": id_, "function": function, **more}
    function = {k: v for k, v in function.items() if v is not None}
    call = {k: v for k, v in call.items() if v is not None and v != "missing"}
    if index is None:
        call["index"] = None
    return chunk(said(tool_calls=[call | ({"function": function} if function else {})]))


TWO = [("1", "f", "{}"), ("2", "g", "[]")]
INDEXES = {
    "a gap": (0, 7),
    "from 1": (1, 2),
    "descending": (1, 0),
    "missing": ("missing", "missing"),
    "null": (None, None),
    "0 reused": (0, 0),
}


@pytest.mark.parametrize("name", INDEXES)
async def test_tool_calls_with_odd_indexes(play, name):
    """
    E14: calls stay apart and whole, and none is made up for a gap.
    """
    one, other = INDEXES[name]
    first, second = (
        [
            piece(index, id_, function, ""),
            piece(index, None, None, arguments[0]),
            piece(index, None, None, arguments[1]),
        ]
        for index, (id_, function, arguments) in ((one, TWO[0]), (other, TWO[1]))
    )
    played, typed = await play(*first, *second, chunk(said(finish_reason="tool_calls")), DONE)
    expected = TWO[::-1] if name == "descending" else TWO
    done = [event.tool_call for event in typed if isinstance(event, ToolCallDoneEvent)]

    assert None is played.error
    assert expected == played.calls
    assert {call for call, _, _ in TWO} == {call.id for call in done}
    assert 2 == len(done)


CALLS = {
    "repeated": ([piece(0, "1", "f", "{"), piece(0, "1", "f", "}")], ("1", "f", "{}")),
    "late": (
        [piece(0, None, None, "{"), piece(0, None, "f"), piece(0, "1", None, "}")],
        ("1", "f", "{}"),
    ),
    "id first": (
        [piece(0, "1"), piece(0, None, "f"), piece(0, None, None, "{}")],
        ("1", "f", "{}"),
    ),
    "no arguments": ([piece(0, "1", "f")], ("1", "f", "")),
    "empty": ([piece(0, "1", "f", "")], ("1", "f", "")),
    "an object": ([piece(0, "1", "f", {"a": 1})], ("1", "f", '{"a":1}')),
    "not JSON": ([piece(0, "1", "f", "{a: "), piece(0, None, None, "b}")], ("1", "f", "{a: b}")),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_tool_call_in_odd_pieces(play, name):
    """
    E15: id and name said often, late or first; arguments missing, whole, or no JSON.
    """
    body, expected = CALLS[name]
    played, _ = await play(*body, chunk(said(finish_reason="tool_calls")), DONE)

    assert (None, [expected]) == (played.error, played.calls)
    [call] = played.message.tool_calls
    if name == "not JSON":
        with pytest.raises(DecodeError):
            parse_arguments(call.function)
    else:
        assert json.loads(expected[2] or "{}") == parse_arguments(call.function)


async def test_null_arguments_are_none(play):
    """
    E15: arguments null are no arguments yet.
    """
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": None}}
    played, _ = await play(chunk(said(tool_calls=[call])), piece(0, arguments="{}"), STOP)

    assert (None, [("1", "f", "{}")]) == (played.error, played.calls)


# --- What a delta holds -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "refusal", "deltas"),
    [
        (None, None, [{"content": None}]),
        ("", None, [{"content": ""}]),
        ("ab", None, [{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]),
        ("a", "b", [{"content": "a", "refusal": "b"}]),
        (None, "no way", [{"refusal": "no "}, {"content": None, "refusal": "way"}]),
    ],
    ids=["null", "empty", "parts", "both", "refusal"],
)
async def test_content_and_refusal_are_kept_apart(play, content, refusal, deltas):
    """
    E16: null isn't empty, a list of parts is its text, a refusal is no content.
    """
    played, _ = await play(*(chunk(said(**delta)) for delta in deltas), STOP, DONE)

    assert None is played.error
    assert (content, refusal) == (played.message.content, played.message.refusal)


async def test_logprobs_are_joined_in_order(play):
    """
    E17: null at first, then of the content, then of a refusal.
    """

    def of(text, **logprobs):
        return chunk({**said(text), "logprobs": logprobs or None})

    def token(text):
        return {"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}

    played, _ = await play(
        of("a"),
        of("b", content=[token("b")], refusal=None),
        of("cd", content=[token("c"), token("d")]),
        of(None, refusal=[token("r")]),
        STOP,
    )
    logprobs = played.stream.completion.choices[0].logprobs

    assert None is played.error
    assert ["b", "c", "d"] == [one.token for one in logprobs.content]
    assert ["r"] == [one.token for one in logprobs.refusal]


@pytest.mark.parametrize(
    ("completion_tokens", "total_tokens", "usages"),
    [
        (2, 7, [{"completion_tokens": n, "total_tokens": n + 5} for n in (1, 2)]),
        (2, 7, [None, {"completion_tokens": 2, "total_tokens": 7}, None]),
        (2, None, [{"completion_tokens": 2}]),
        (2, 7, [{"completion_tokens": 2.0, "total_tokens": 7.0}]),
        (None, 7, [{"completion_tokens": 2.5, "total_tokens": 7}]),
        (None, 7, [{"completion_tokens": "2", "total_tokens": 7}]),
        (None, 7, [{"completion_tokens": 10**30, "total_tokens": 7}]),
        (None, None, ["text", 7, [], {}]),
    ],
    ids=["each", "null after", "missing", "floats", "a fraction", "a text", "immense", "none"],
)
async def test_usage_in_any_form(play, completion_tokens, total_tokens, usages):
    """
    E18: the last that says something holds, nothing is summed, no error.
    """
    body = [chunk("x", usage=usage) for usage in usages]
    played, _ = await play(*body, STOP, DONE)
    usage = played.stream.completion.usage

    assert (None, "x" * len(usages)) == (played.error, played.text)
    assert completion_tokens == (usage and usage.completion_tokens)
    assert total_tokens == (usage and usage.total_tokens)


async def test_ids_that_change(play):
    """
    E19: id, model and date differ from chunk to chunk, are empty or missing.
    """
    names = [("", "", 0), ("a", "m1", 5), ("b", "m2", 6), (None, None, None)]
    body = [
        {"choices": [said("x")], "id": id_, "model": model, "created": created}
        for id_, model, created in names
    ]
    played, _ = await play(*body, {"choices": [said("!", "stop")]}, DONE)
    completion = played.stream.completion

    assert (None, "xxxx!") == (played.error, played.text)
    assert ("a", "m1", 5) == (completion.id, completion.model, completion.created)


@pytest.mark.parametrize("field", ["x_groq", "timings", "extra_content", "obfuscation"])
async def test_unknown_fields(play, field):
    """
    E20: kept with their chunk and the completion, not in the message; padding is dropped.
    """
    odd = {"deep": [1, {"a": None}]} if field != "obfuscation" else "aaaa"
    played, _ = await play(chunk("Hi", **{field: odd}), STOP, DONE)
    first, completion = played.events[0].chunk, played.stream.completion

    assert (None, "Hi", {}) == (played.error, played.text, played.message.extra)
    if field == "obfuscation":
        assert "obfuscation" not in to_dict(completion)
    else:
        assert odd == first.extra[field] == completion.extra[field]


async def test_unknown_values_of_enumerations(play):
    """
    E21: a service tier and a type of tool that nobody has heard of.
    """
    call = {"index": 0, "id": "1", "type": "hologram", "function": {"name": "f"}}
    custom = {"index": 1, "id": "2", "type": "custom", "custom": {"name": "g", "input": "x"}}
    body = chunk(said(tool_calls=[call, custom]), service_tier="platinum")
    played, _ = await play(body, chunk(said(finish_reason="because")), DONE)
    first, second = played.message.tool_calls

    assert (None, "platinum") == (played.error, played.stream.completion.service_tier)
    assert ("hologram", "custom", "x") == (first.type, second.type, second.custom.input)


# --- Errors inside ------------------------------------------------------------------------------

ERRORS = {
    "empty": ({"error": {}}, ("", None, None)),
    "text": ({"error": "busy"}, ("busy", None, None)),
    "object": ({"error": {"message": "busy", "code": 503, "type": "t"}}, ("busy", "503", "t")),
    "event": (b'event: error\ndata: {"message":"busy","code":"c"}\n\n', ("busy", "c", None)),
    "event of text": (b"event: error\ndata: busy\n\n", ("busy", None, None)),
    "with choices": (chunk("!", error={"message": "busy"}), ("busy", None, None)),
    "llama.cpp": (b'error: {"message":"busy","type":"t","code":500}\n\n', ("busy", "500", "t")),
    "controls": ({"error": "bu\x1b[2J\x9bsy\r\n"}, ("bu [2J sy", None, None)),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_inside_the_stream(play, name):
    """
    E22: an error object in all its shapes, after a good start; what came is kept.
    """
    error, expected = ERRORS[name]
    played, _ = await play(chunk("Hi"), error, chunk("no"), STOP, DONE, ends=False)
    told = played.error

    assert type(told) is UpstreamError
    assert expected == (told.message, told.code, told.type)
    assert str(told).isprintable()
    assert Verdict.UPSTREAM_ERROR is played.stream.verdict
    assert "Hi" + "!" * (name == "with choices") == played.text


# --- Extremes -------------------------------------------------------------------------------------

EXTREMES = {
    "nesting": "[" * 100_000 + "]" * 100_000,
    "open nesting": '{"a":' * 100_000,
    "a million digits": '{"usage":{"completion_tokens":' + "1" * 1_000_000 + "}}",
    "1e999": '{"created":1e999}',
    "NaN": '{"created":NaN}',
    "Infinity": '{"created":-Infinity}',
}


@pytest.mark.parametrize("name", EXTREMES)
async def test_json_nobody_can_read(play, name):
    """
    E23: deep, long or endless values; a DecodeError, no RecursionError, no long sentence.
    """
    played, _ = await play(chunk("Hi"), EXTREMES[name], STOP, DONE, ends=False)

    assert type(played.error) is DecodeError
    assert len(str(played.error)) < 200
    assert "Hi" == played.text


@pytest.mark.parametrize(
    "fields",
    ['"a":1,' * 1000 + '"created":2', ",".join(f'"{n}":1' for n in range(100_000))],
    ids=["the same again", "a hundred thousand"],
)
async def test_keys_beyond_measure(play, fields):
    """
    E23: the same key again and again, and any number of keys, are unknown fields.
    """
    odd = b'data: {"choices":[{"index":0,"delta":{"content":"!"}}],%b}\n\n' % fields.encode()
    played, _ = await play(chunk("Hi"), odd, STOP, DONE)

    assert (None, "Hi!") == (played.error, played.text)


@pytest.mark.parametrize(
    ("expected", "pieces"),
    [
        ("😀!", ["\\ud83d", "\\ude00!"]),
        ("\ufffd!", ["\\ud83d", "!"]),
        ("\ufffd\ufffd", ["\\ude00", "\\ud83d"]),
        ("a\0b", ["a\\u0000", "b"]),
        ("\u202eabc\u2028\u2029", ["\\u202eabc", "\\u2028\\u2029"]),
        ("\u202eabc\u2028", ["\u202eabc", "\u2028"]),
    ],
    ids=["a pair", "a half", "swapped", "NUL", "bidi", "raw bidi"],
)
async def test_characters_that_are_hard_to_write(play, expected, pieces):
    """
    E24: halves over two chunks, NUL, bidi, line separators; all of it can be encoded.
    """
    around = '{"choices":[{"index":0,"delta":{"content":"PIECE"}}]}'
    body = [around.replace("PIECE", piece) for piece in pieces]
    played, typed = await play(*body, STOP, DONE)
    whole = [event.text for event in typed if isinstance(event, ContentDeltaEvent)][-1]

    assert (None, expected) == (played.error, played.text)
    assert expected == whole == orjson.loads(orjson.dumps(whole))
    for event in played.events:
        str(event.delta).encode()


async def test_text_is_whole_characters(raw_server, wire):
    """
    E24: ``text()`` joins the halves before it hands them out.
    """
    head, tail = b'data: {"choices":[{"index":0,"delta":{"content":"', b'"}}]}\n\n'
    body = b"".join([head, rb"\ud83d", tail, head, rb"\ude00", tail, frame(STOP), frame(DONE)])
    raw = await raw_server(wire.response(body))
    async with ChatSession(raw.base_url) as session, session.stream(ASK) as stream:
        pieces = [piece async for piece in stream.text()]

    assert ["😀"] == pieces


async def test_time_grows_as_the_answer_does(play):
    """
    E25: four times the deltas, far from sixteen times the time; the exact ratio is a benchmark's.
    """
    taken = []
    for count in (5000, 20_000):
        body = frame(chunk("x")) * count
        start = time.process_time()
        played, typed = await play(body, STOP, DONE)
        taken.append(time.process_time() - start)
        assert (None, "x" * count) == (played.error, played.text)
        assert count == sum(isinstance(event, ContentDeltaEvent) for event in typed)

    assert taken[1] < 10 * taken[0]


AZURE = {
    "azure-prompt-filter": "prelude",
    "azure-async-filter": "late filter",
    "azure-content-filter": "filter",
    "openai-moderation": "after usage",
}


@pytest.mark.parametrize("name", AZURE)
async def test_filters_and_moderation_are_no_answer(play, name):
    """
    E26: Azure's prelude, its late filters, moderation after usage: no text, no token, no usage.
    """
    expected = json.loads((STREAMS / f"{name}.json").read_text())
    played, _ = await play((STREAMS / f"{name}.sse").read_bytes())
    report = played.stream.report
    tokens = [event for event in played.events if event.delta.bears_token]

    assert None is played.error
    assert expected["choices"][0]["content"] == played.text
    assert expected["tokens"] == report.token_events == len(tokens)
    assert tokens[0].elapsed == report.time_to_first_token
    assert (expected["usage"] or {}).get("completion_tokens") == report.completion_tokens
    assert len(tokens) - 1 == len(report.inter_chunk_latencies)


async def test_what_is_put_around_an_answer_moves_no_figure(play):
    """
    E26: the same answer with and without chunks of filters around it.
    """
    usage = chunk(usage={"completion_tokens": 2})
    answer = [chunk("Hi"), chunk("!"), STOP]
    prelude = {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    late = {"choices": [{"index": 0, "content_filter_offsets": {"check_offset": 1}}]}
    moderation = {"choices": [], "moderation": {"output": {"type": "moderation_results"}}}
    plain, _ = await play(*answer, usage, DONE)
    played, typed = await play(prelude, *answer, late, usage, late, moderation, DONE)

    for one in (plain, played):
        assert (None, "Hi!", 2) == (one.error, one.text, one.stream.report.completion_tokens)
        assert (2, 1) == (
            one.stream.report.token_events,
            len(one.stream.report.inter_chunk_latencies),
        )
        assert one.stream.report.late_content is False
    assert 1 == sum(isinstance(event, FinishEvent) for event in typed)
