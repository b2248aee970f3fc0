"""chatstream.bench.record: what a line of ``requests.jsonl`` holds."""

from array import array

import orjson
import pytest

from chatstream.bench.record import KINDS, OUTPUT, TOKENS, RequestRecord, kind_of
from chatstream.codec import read_chunk
from chatstream.completion import Audio, Delta, FunctionCall, ToolCallChunk

BARE = {"number": 3, "scheduled_ns": 0, "created_ns": 5, "end_ns": 9, "verdict": "empty"}


def test_a_line_leaves_out_what_was_not_observed():
    """
    A reader takes what is there for observed: no null, no empty list, no false flag.
    """
    line = RequestRecord(**BARE).to_line()
    zeros = dict.fromkeys(("turn", "target", "stage", "worker"), 0)

    assert line.endswith(b"}\n")
    assert 1 == line.count(b"\n")
    assert {"v": 1, **BARE, **zeros, "attempts": 1, "paused": 0.0} == orjson.loads(line)


def test_a_line_keeps_zeros_and_falsehoods_that_were_observed():
    """
    0 tokens and "not reused" are observations; only a flag that isn't set says nothing.
    """
    record = RequestRecord(**BARE, completion_tokens=0, first_byte_ns=0, warmup=False)
    line = orjson.loads(record.to_line())

    assert 0 == line["completion_tokens"]
    assert 0 == line["first_byte_ns"]
    assert "warmup" not in line


def test_a_new_connection_is_told_from_an_unknown_one():
    known = orjson.loads(RequestRecord(**BARE, reused=False).to_line())
    unknown = orjson.loads(RequestRecord(**BARE).to_line())

    assert known["reused"] is False
    assert "reused" not in unknown


def test_events_are_lists_and_a_word():
    record = RequestRecord(
        **BARE, arrivals_ns=array("q", [6, 8]), kinds="cf", coalesced=[0], truth_ns=array("q", [5])
    )
    line = orjson.loads(record.to_line())

    assert [6, 8] == line["arrivals_ns"]
    assert "cf" == line["kinds"]
    assert [0] == line["coalesced"]
    assert [5] == line["truth_ns"]
    assert "choices" not in line


@pytest.mark.parametrize(
    ("expected", "delta", "reason"),
    [
        ("c", Delta(content="a"), None),
        ("c", Delta(content="a", reasoning="b"), "stop"),
        ("r", Delta(reasoning="b"), None),
        ("r", Delta(reasoning="b", content=""), "length"),
        ("x", Delta(refusal="no"), None),
        ("x", Delta(refusal="no", reasoning="b"), None),
        ("a", Delta(audio=Audio(data="UklG")), None),
        ("a", Delta(audio=Audio(transcript="hm")), None),
        ("t", Delta(tool_calls=[ToolCallChunk(function=FunctionCall(name="f"))]), None),
        ("t", Delta(function_call=FunctionCall(arguments="{")), None),
        ("t", Delta(function_call=FunctionCall(name="f"), audio=Audio(id="1")), None),
        ("e", Delta(content=""), None),
        ("e", Delta(content=""), "stop"),
        ("f", Delta(), "stop"),
        ("-", Delta(audio=Audio(id="1")), None),
        ("-", Delta(tool_calls=[ToolCallChunk(index=0)]), None),
    ],
)
def test_a_letter_tells_what_an_event_brought(expected, delta, reason):
    """
    Of several the one that a user sees first; a finish reason only if nothing else came.
    """
    assert expected == kind_of(delta, reason)


def test_an_empty_content_beside_a_role_is_no_token():
    """
    It is how servers open an answer; alone it is a token without text, such as half a letter.
    """
    delta = {"role": "assistant", "content": ""}
    opening = read_chunk({"choices": [{"index": 0, "delta": delta}]})

    assert "-" == kind_of(opening.choices[0].delta, None)


def test_kinds_of_tokens_are_known_ones():
    """
    Reasoning is a token and no output.
    """
    assert set(TOKENS) < set(KINDS)
    assert {"r"} == set(TOKENS) - set(OUTPUT)
    assert set(OUTPUT) < set(TOKENS)
