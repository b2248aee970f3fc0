"""chatstream.testing.payloads."""

import orjson
import pytest

from chatstream.testing import Profile
from chatstream.testing.answers import compose
from chatstream.testing.payloads import envelope, stamp, streamed, whole

TOOL = {"type": "function", "function": {"name": "get_time"}}


def bodies(prompt, profile=None, **params):
    profile = profile or Profile()
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **params}
    return compose(body, profile), body, profile


def chunks(prompt, profile=None, **params):
    """Each chunk without its envelope."""
    script = streamed(*bodies(prompt, profile, **params))
    return [orjson.loads(b"{%b}" % part) for part in script.parts]


def completion(prompt, profile=None, **params):
    (part,) = whole(*bodies(prompt, profile, **params)).parts
    return orjson.loads(b"{%b}" % part)


def choice(delta, *, index=0, finish_reason=None, logprobs=None):
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def usage(prompt, spent, reasoning=0):
    details = {
        "reasoning_tokens": reasoning,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    return {
        "prompt_tokens": prompt,
        "completion_tokens": spent,
        "total_tokens": prompt + spent,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": details,
    }


def test_chunks_are_role_content_finish():
    assert [
        {"choices": [choice({"role": "assistant"})]},
        {"choices": [choice({"content": "1"})]},
        {"choices": [choice({"content": ", "})]},
        {"choices": [choice({"content": "2"})]},
        {"choices": [choice({}, finish_reason="stop")]},
    ] == chunks("Count to 2")


def test_usage_is_null_until_its_own_chunk():
    found = chunks("Count to 2", stream_options={"include_usage": True})

    assert [None] * 5 == [chunk["usage"] for chunk in found[:-1]]
    assert {"choices": [], "usage": usage(3, 3)} == found[-1]


def test_running_usage_adds_up():
    options = {"include_usage": True, "continuous_usage_stats": True}
    found = chunks("Count to 2", Profile(reasoning_tokens=2), stream_options=options)

    counts = [
        (
            chunk["usage"]["completion_tokens"],
            chunk["usage"]["completion_tokens_details"]["reasoning_tokens"],
        )
        for chunk in found
    ]
    assert [(0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (5, 2), (5, 2)] == counts


def test_choices_are_interleaved_and_each_finishes_by_itself():
    found = chunks("say a b", n=2)
    order = [(c["index"], *c["delta"].values()) for chunk in found for c in chunk["choices"]]

    assert [
        (0, "assistant"),
        (1, "assistant"),
        (0, "a"),
        (1, "a"),
        (0, " b"),
        (1, " b"),
        (0,),
        (1,),
    ] == order


def test_slots_tell_when_each_part_is_due():
    options = {"include_usage": True}
    script = streamed(*bodies("say a b", n=2, stream_options=options))

    assert (-1, -1, 0, 0, 1, 1, 2, 2, 2) == script.slots
    assert (2, 6) == (script.opening, script.closing)


def test_an_uneven_choice_ends_early():
    """
    A stop string may cut one choice and not the other.
    """
    answer, body, profile = bodies("Tell me a story", n=2)
    word = answer.choices[0].content[3]
    answer, body, profile = bodies("Tell me a story", n=2, stop=word)
    script = streamed(answer, body, profile)
    lengths = [len(one.content) for one in answer.choices]

    assert 3 == lengths[0] < lengths[1]
    assert max(lengths) == script.slots[-1]
    assert len(script.parts) - 1 == script.closing


def test_an_answer_without_tokens():
    script = streamed(*bodies("Count to 0"))

    assert (-1, 0) == script.slots
    assert (1, 1) == (script.opening, script.closing)


def test_several_tokens_in_a_chunk():
    profile = Profile(chunk_tokens=2, reasoning_tokens=3, reasoning_field="reasoning")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks("Count to 2", profile)]

    assert [["role"], ["reasoning"], ["reasoning"], ["content"], ["content"], []] == [
        [*delta] for delta in deltas
    ]
    assert ["1, ", "2"] == [delta["content"] for delta in deltas[3:5]]


def test_a_tool_call_is_streamed_in_pieces():
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks("get_time", tools=[TOOL])]
    call_id = deltas[1]["tool_calls"][0]["id"]
    function = {"name": "get_time", "arguments": ""}

    assert [
        {"role": "assistant"},
        {"tool_calls": [{"index": 0, "id": call_id, "type": "function", "function": function}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
        {},
    ] == deltas


def test_logprobs_stand_beside_their_tokens():
    found = chunks("say a b", Profile(chunk_tokens=2), logprobs=True, top_logprobs=1)
    scores = [chunk["choices"][0]["logprobs"] for chunk in found]

    assert [None, None] == [scores[0], scores[-1]]
    assert ["a", " b"] == [entry["token"] for entry in scores[1]["content"]]
    assert scores[1]["refusal"] is None


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n": 3},
        {"max_tokens": 5},
        {"stop": "a"},
        {"logprobs": True, "top_logprobs": 2},
        {"tools": [TOOL]},
        {"response_format": {"type": "json_object"}},
    ],
    ids=str,
)
def test_the_chunks_add_up_to_the_whole(params):
    """
    Streamed or not, the same request gets the same answer.
    """
    profile = Profile(reasoning_tokens=3)
    prompt = "get_time or a story"
    one = completion(prompt, profile, **params)
    parts = chunks(prompt, profile, stream_options={"include_usage": True}, **params)

    assert one["usage"] == parts[-1]["usage"]
    for expected in one["choices"]:
        mine = [
            chunk["choices"][0]
            for chunk in parts[:-1]
            if chunk["choices"][0]["index"] == expected["index"]
        ]
        message = expected["message"]
        deltas = [part["delta"] for part in mine]
        assert (message["content"] or "") == "".join(d.get("content", "") for d in deltas)
        assert message["reasoning_content"] == "".join(
            d.get("reasoning_content", "") for d in deltas
        )
        assert [call["function"]["arguments"] for call in message.get("tool_calls", ())] == [
            "".join(
                d["tool_calls"][0]["function"]["arguments"] for d in deltas if "tool_calls" in d
            )
        ] * ("tool_calls" in message)
        assert expected["finish_reason"] == mine[-1]["finish_reason"]
        scores = [s for part in mine if part["logprobs"] for s in part["logprobs"]["content"]]
        assert (expected["logprobs"] or {"content": []})["content"] == scores


def test_the_whole_message():
    assert {
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "1, 2",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage(3, 3),
    } == completion("Count to 2")


def test_the_whole_is_due_with_the_last_chunk():
    assert (3,) == whole(*bodies("Count to 2")).slots
    assert (3,) == streamed(*bodies("Count to 2")).slots[-1:]


def test_padding():
    script = streamed(*bodies("Count to 2", Profile(payload_bytes=200)))
    (narrow,) = streamed(*bodies("Count to 0", Profile(payload_bytes=90))).parts[1:]

    assert {200} == {len(part) for part in script.parts}
    assert "x" in orjson.loads(b"{%b}" % script.parts[0])["obfuscation"]
    assert b'"obfuscation":""' in narrow


def test_the_envelope_opens_a_chunk():
    script = streamed(*bodies("Count to 2"))
    text = envelope(script, "chat.completion.chunk", "id-1", 12) + script.parts[1] + b"}"

    assert {
        "id": "id-1",
        "object": "chat.completion.chunk",
        "created": 12,
        "model": "m",
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
        "choices": [choice({"content": "1"})],
    } == orjson.loads(text)


def test_a_stamp_has_one_width():
    assert len(stamp(0)) == len(stamp(2**63 - 1))
    assert {"a": 1, "sent_ns": 12345} == orjson.loads(b'{"a":1%b}' % stamp(12345))
