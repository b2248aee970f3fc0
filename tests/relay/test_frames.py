"""chatstream.relay.frames: what goes over the wire to a browser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.codec import read_chunk
from chatstream.relay import OPENAI, TEXT, OpenAIFormat, Refusal
from chatstream.sse import SSEParser
from chatstream.testing import FakeClock
from tests.relay.upstream import DONE, chunk, reads, stream_of

REFUSAL = Refusal(status=502, message="it broke", type="server_error", retry_after=3)


def events(*frames):
    """What a browser's parser makes of them."""
    parser = SSEParser()
    found = parser.feed(b"".join(frames))
    assert not parser.finish()
    return [(event.event, event.data) for event in found]


def delta(**delta):
    """A chunk of one choice."""
    return read_chunk({"choices": [{"index": 0, "delta": delta}]})


WIRE = [
    {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m",
     "choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]},
    {"id": "1", "x_note": {"a": [1]}, "choices": [
        {"index": 1, "delta": {"content": "B", "x": 1}, "x_score": 0.5},
        {"index": 0, "delta": {"content": "A"}, "finish_reason": "stop"}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "c", "type": "function",
         "function": {"name": "f", "arguments": '{"a": "\u2028</script>"}'}}]}}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
]  # fmt: skip


@pytest.mark.parametrize("wire", WIRE, ids=range(len(WIRE)))
def test_openais_format_has_each_chunk_as_it_came(wire):
    ((event, data),) = events(OPENAI.chunk(read_chunk(wire)))

    choices = [{"finish_reason": None, **choice} for choice in wire["choices"]]
    assert "message" == event
    assert {**wire, "choices": choices} == json.loads(data)


def test_openais_format_tells_of_usage_only_to_who_may_expect_it():
    """
    A chunk without choices comes as a surprise to who takes the first of each.
    """
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    said = {"index": 0, "delta": {"content": "A"}, "finish_reason": None}
    quiet = OpenAIFormat(usage=False)
    ((_, data),) = events(quiet.chunk(read_chunk({"choices": [said], "usage": usage})))

    assert {"choices": [said]} == json.loads(data)
    assert b"" == quiet.chunk(read_chunk({"choices": [], "usage": usage}))
    assert b"" != quiet.chunk(read_chunk({"choices": [], "prompt_filter_results": []}))


def test_a_chunk_keeps_all_that_is_known_of_it():
    wire = {
        "choices": [{"index": 0, "delta": {"content": "A"}, "finish_reason": "stop", "logprobs": {
            "content": [{"token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": []}]}}],
        "service_tier": "flex", "system_fingerprint": "fp", "obfuscation": "xx",
        "moderation": {"input": {"type": "error", "code": "c", "message": "m", "results": []}},
    }  # fmt: skip
    ((_, data),) = events(OPENAI.chunk(read_chunk(wire)))

    assert wire == json.loads(data)


@given(st.text(st.characters()))
def test_whatever_is_said_is_one_frame(text):
    """
    Half a surrogate pair among it: the other half may come in the next chunk.
    """
    ((_, openai),) = events(OPENAI.chunk(delta(content=text)))
    plain = events(TEXT.chunk(delta(content=text)))

    assert text == json.loads(openai)["choices"][0]["delta"]["content"]
    assert ([text] if text else []) == [json.loads(data)["text"] for _, data in plain]


def test_half_a_pair_is_joined_by_who_reads_both():
    (_, first), (_, second) = events(
        TEXT.chunk(delta(content="a\ud83d")), TEXT.chunk(delta(content="\ude00"))
    )
    joined = json.loads(first)["text"] + json.loads(second)["text"]

    assert "a😀" == joined.encode("utf-16", "surrogatepass").decode("utf-16")


def test_text_is_what_the_first_choice_says():
    both = read_chunk({"choices": [{"index": 1, "delta": {"content": "B"}},
                                   {"index": 0, "delta": {"content": "A"}}]})  # fmt: skip
    frames = [
        TEXT.chunk(both),
        TEXT.chunk(delta(reasoning_content="hm")),
        TEXT.chunk(delta(refusal="no")),
        TEXT.chunk(delta(role="assistant")),
    ]

    assert [
        ("delta", {"text": "A"}),
        ("delta", {"reasoning": "hm"}),
        ("delta", {"text": "no"}),
    ] == [(name, json.loads(data)) for name, data in events(*frames)]


async def test_the_end_tells_how_long_it_took():
    clock = FakeClock()
    script = reads(chunk("a"), chunk("b", "stop"), DONE)
    async with stream_of(clock, script) as stream:
        await stream.collect()
        ((event, data),) = events(TEXT.end(stream.report))

    assert ("done", {"verdict": "finished", "time_to_first_token": 0.1, "duration": 0.2}) == (
        event,
        json.loads(data),
    )
    assert [("message", "[DONE]")] == events(OPENAI.end(stream.report))


def test_an_error_is_an_event():
    ((name, data),) = events(TEXT.error(REFUSAL))
    ((_, bare),) = events(TEXT.error(Refusal(status=502, message="it broke", type="server_error")))
    ((_, openai),) = events(OPENAI.error(REFUSAL))

    assert ("error", {"message": "it broke", "retry_after": 3}) == (name, json.loads(data))
    assert {"message": "it broke"} == json.loads(bare)
    assert {
        "error": {"message": "it broke", "type": "server_error", "param": None, "code": None}
    } == json.loads(openai)
