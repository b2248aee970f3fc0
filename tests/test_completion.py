"""The values of an answer, and what they say of themselves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.codec import load, read_chunk
from chatstream.completion import (
    Audio,
    ChatCompletion,
    CompletionChoice,
    CompletionTokensDetails,
    CustomToolCall,
    Delta,
    FunctionCall,
    Message,
    ToolCallChunk,
    Usage,
    Verdict,
    verdict_of,
    whole_text,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(categories=["L", "N", "C", "Z"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


# --- How an answer ended -----------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", Verdict.FINISHED),
        ("tool_calls", Verdict.FINISHED),
        ("function_call", Verdict.FINISHED),
        ("eos", Verdict.FINISHED),
        ("", Verdict.FINISHED),
        ("something new", Verdict.FINISHED),
        ("length", Verdict.LENGTH),
        ("max_tokens", Verdict.LENGTH),
        ("MAX_TOKENS", Verdict.LENGTH),
        ("model_length", Verdict.LENGTH),
        ("model_context_window_exceeded", Verdict.LENGTH),
        ("content_filter", Verdict.CONTENT_FILTER),
        ("safety", Verdict.CONTENT_FILTER),
        ("SAFETY", Verdict.CONTENT_FILTER),
        ("sensitive", Verdict.CONTENT_FILTER),
        ("insufficient_system_resource", Verdict.TRUNCATED),
        ("network_error", Verdict.TRUNCATED),
        ("error", Verdict.TRUNCATED),
        ("abort", Verdict.TRUNCATED),
        (None, Verdict.TRUNCATED),
    ],
)
def test_a_finish_reason_gives_the_verdict(reason, expected):
    """
    The reasons are those that servers were seen to send, in any case.
    """
    assert expected == verdict_of([reason])


def test_a_good_end_is_one_of_the_answers_own():
    good = {Verdict.FINISHED, Verdict.LENGTH, Verdict.CONTENT_FILTER}

    assert good == {verdict for verdict in Verdict if verdict.good}


@pytest.mark.parametrize(
    ("reasons", "done", "expected"),
    [
        ([], False, Verdict.FINISHED),
        ([], True, Verdict.FINISHED),
        (["stop", "stop"], False, Verdict.FINISHED),
        (["stop", "length"], False, Verdict.LENGTH),
        (["length", "content_filter", "stop"], False, Verdict.CONTENT_FILTER),
        (["content_filter", "error", "length"], False, Verdict.TRUNCATED),
        (["stop", None], False, Verdict.TRUNCATED),
        (["stop", None], True, Verdict.FINISHED),
        ([None], True, Verdict.FINISHED),
        ([None, "length"], True, Verdict.LENGTH),
        (["error"], True, Verdict.TRUNCATED),
    ],
)
def test_the_gravest_of_several_choices_counts(reasons, done, expected):
    """
    ``[DONE]`` stands in for a reason that is missing (Ollama), not for a bad one.
    """
    assert expected == verdict_of(reasons, done=done)


def test_a_verdict_is_its_word():
    """
    It goes into labels and JSON as it is.
    """
    assert "content_filter" == Verdict.CONTENT_FILTER
    assert "content_filter" == str(Verdict.CONTENT_FILTER)
    assert len(Verdict) == len({str(verdict) for verdict in Verdict}) == 12


# --- Text that can be encoded ------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("abc", "abc"),
        ("grüße 🎉", "grüße 🎉"),
        ("\ud83d\ude00", "😀"),
        ("a\ud83d\ude00b", "a😀b"),
        ("\ud83d", "\ufffd"),
        ("a\ude00b", "a\ufffdb"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd😀"),
        ("🎉\ud83d", "🎉\ufffd"),
        ("\ud83dé\ude00", "\ufffdé\ufffd"),
        ("\0\u202e\u2028", "\0\u202e\u2028"),
        ("\ufeffa", "\ufeffa"),
    ],
)
def test_halves_of_characters_are_joined_or_replaced(text, expected):
    """
    Servers cut ``"\\ud83d\\ude00"`` between two chunks; half a pair is no text.
    """
    assert expected == whole_text(text)


@given(st.text(st.characters(categories=["L", "Cs", "Co", "So", "Cc"])))
def test_whole_text_can_always_be_encoded(text):
    """
    Whoever writes it to a file or a socket must not get an error.
    """
    whole = whole_text(text)

    assert whole == whole.encode().decode()
    assert whole == whole_text(whole)


@given(st.text())
def test_whole_text_puts_cut_characters_together_again(text):
    """
    Any text in UTF-16 halves, as JSON escapes have them, is the text itself.
    """
    units = text.encode("utf-16-le")
    halves = "".join(
        chr(int.from_bytes(units[at : at + 2], "little")) for at in range(0, len(units), 2)
    )

    assert text == whole_text(halves)


# --- A delta -----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"role": "assistant"}',
        '{"content": "1"}',
        "{}",
        '{"content": null, "zzz": 1, "role": ""}',
        '{"tool_calls": [{"index": 0, "function": {"arguments": "{\\"a\\": 1}"}}]}',
        '{"content": "grüße 世界 🎉"}',
        '{"content": "\\u202e\\u2028\\ufeff\\u007f\\u0085\\u200e\\u061c"}',
        '{"content": "\\ud83d"}',
        '{"content": "\\u001b[31m\\n"}',
    ],
)
def test_a_delta_prints_as_the_wires_json(text):
    """
    It is the line of the first loop: only what the wire had, as it was, safe to print.
    """
    wire = '{"choices": [{"index": 0, "delta": ' + text + "}]}"

    assert text == str(read_chunk(load(wire)).choices[0].delta)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_a_deltas_text_is_equal_json_and_can_be_printed(wire):
    """
    Whatever the model wrote: controls, bidi marks and halves of characters are escaped.
    """
    delta = Delta()
    delta._wire = wire
    text = str(delta)

    assert wire == json.loads(text)
    assert text.encode()
    assert not [c for c in text if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0]
    assert not set(text) & set("\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff")


BEARING = [
    (Delta(), False, False),
    (Delta(role="assistant", content=""), False, False),
    (Delta(content="a"), True, True),
    (Delta(refusal="no"), True, True),
    (Delta(refusal=""), False, False),
    (Delta(reasoning="a"), True, False),
    (Delta(reasoning=""), False, False),
    (Delta(reasoning="a", content="b"), True, True),
    (Delta(tool_calls=[]), False, False),
    (Delta(tool_calls=[ToolCallChunk(0, "id", "function")]), False, False),
    (Delta(tool_calls=[ToolCallChunk(0, function=FunctionCall("", ""))]), False, False),
    (Delta(tool_calls=[ToolCallChunk(0, function=FunctionCall("f"))]), True, True),
    (Delta(tool_calls=[ToolCallChunk(0, function=FunctionCall(None, "{"))]), True, True),
    (
        Delta(tool_calls=[ToolCallChunk(0), ToolCallChunk(1, function=FunctionCall("f"))]),
        True,
        True,
    ),
    (Delta(tool_calls=[ToolCallChunk(0, custom=CustomToolCall("f"))]), True, True),
    (Delta(tool_calls=[ToolCallChunk(0, custom=CustomToolCall(None, "x"))]), True, True),
    (Delta(tool_calls=[ToolCallChunk(0, custom=CustomToolCall())]), False, False),
    (Delta(function_call=FunctionCall("f")), True, True),
    (Delta(function_call=FunctionCall(None, "{")), True, True),
    (Delta(function_call=FunctionCall("", "")), False, False),
    (Delta(audio=Audio("id", expires_at=1)), False, False),
    (Delta(audio=Audio(data="AA==")), True, True),
    (Delta(audio=Audio(transcript="a")), True, True),
    (Delta(extra={"obfuscation": "x"}), False, False),
    (Delta(reasoning_details=[{"type": "reasoning.encrypted"}]), False, False),
]


@pytest.mark.parametrize(("delta", "token", "output"), BEARING)
def test_what_counts_as_a_token(delta, token, output):
    """
    DESIGN.md, "Time": roles, ids, empty texts and ``expires_at`` are no tokens.
    """
    assert (token, output) == (delta.bears_token, delta.bears_output)


# --- Usage and completion ----------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(), None),
        (Usage(completion_tokens_details=CompletionTokensDetails()), None),
        (Usage(completion_tokens_details=CompletionTokensDetails(reasoning_tokens=3)), 3),
        (Usage(completion_tokens_details=CompletionTokensDetails(reasoning_tokens=0)), 0),
        (Usage(extra={"reasoning_tokens": 4}), 4),
        (Usage(extra={"reasoning_tokens": "4"}), None),
        (Usage(extra={"reasoning_tokens": None}), None),
        (
            Usage(
                completion_tokens_details=CompletionTokensDetails(reasoning_tokens=3),
                extra={"reasoning_tokens": 4},
            ),
            3,
        ),
        (
            Usage(
                completion_tokens_details=CompletionTokensDetails(text_tokens=1),
                extra={"reasoning_tokens": 4},
            ),
            4,
        ),
    ],
)
def test_reasoning_tokens_are_found_where_servers_put_them(usage, expected):
    """
    OpenAI has them in the details, SGLang beside.
    """
    assert expected == usage.reasoning_tokens


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ((), ""),
        ((CompletionChoice(0, Message()),), ""),
        ((CompletionChoice(0, Message(content="")),), ""),
        (
            (CompletionChoice(0, Message(content="a")), CompletionChoice(1, Message(content="b"))),
            "a",
        ),
    ],
)
def test_the_text_is_the_first_choices_content(choices, expected):
    """
    What nearly everyone wants, whatever there is.
    """
    assert expected == ChatCompletion(choices=choices).text
