"""chatstream.testing.answers."""

import math
from itertools import pairwise

import orjson
import pytest

from chatstream.testing import Profile
from chatstream.testing.answers import compose, split_tokens
from chatstream.testing.refusals import Refusal

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}


def answer(prompt, profile=None, **params):
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **params}
    return compose(body, profile or Profile())


def say(prompt, profile=None, **params):
    """The text of the one choice."""
    (choice,) = answer(prompt, profile, **params).choices
    return "".join(choice.content)


@pytest.mark.parametrize(
    "prompt",
    [
        "Count to 3",
        "count up to 3, please",
        "from 1 to 3",
        "Now COUNT TO 3, with a comma between each number and no newlines.",
    ],
)
def test_counting(prompt):
    assert ("1", ", ", "2", ", ", "3") == answer(prompt).choices[0].content


def test_counting_to_a_hundred_and_far():
    numbers = ", ".join(map(str, range(1, 101)))

    assert numbers == say("Count to 100, with a comma between each number and no newlines.")
    assert say("Count to 1,234").endswith(", 1234")
    assert "" == say("Count to 0")


def test_counting_for_ever_is_cut():
    (choice,) = answer("Count to 999999999999999999999").choices

    assert 200_000 == len(choice.content)
    assert "length" == choice.finish_reason


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Say hello, wörld! 👋\n ok", "hello, wörld! 👋\n ok"),
        ("echo a  b ", "a  b "),
        ("Repeat after me: one two", "one two"),
    ],
)
def test_echo(prompt, text):
    assert text == say(prompt)


@pytest.mark.parametrize("text", ["", " ", "a", " a, b!  ", "日本 語", "\n\n{}\t", "x\u2028y"])
def test_tokens_join_to_the_text(text):
    assert text == "".join(split_tokens(text))


@pytest.mark.parametrize("prompt", ["Count to 3", "say a b", "say ", "anything", "Count to 100"])
@pytest.mark.parametrize("tokens", [0, 1, 7, 50])
def test_a_profile_can_fix_the_number_of_tokens(prompt, tokens):
    (choice,) = answer(prompt, Profile(tokens=tokens)).choices

    assert tokens == len(choice.content) == choice.tokens
    assert "stop" == choice.finish_reason


def test_filler_is_sentences_that_follow_from_seed_and_prompt():
    text = say("Tell me a story")

    assert 32 == len(text.split())
    assert text[0].isupper()
    assert text.endswith(".")
    assert text == say("Tell me a story")
    assert text != say("Tell me another")
    assert text != say("Tell me a story", seed=1)
    assert text != say("Tell me a story", Profile(seed=1))


def test_choices_differ():
    first, second = answer("Tell me a story", n=2).choices

    assert first.content != second.content


def test_the_last_user_message_decides():
    messages = [
        {"role": "system", "content": "Count to 9"},
        {"role": "user", "content": "Count to 5"},
        {"role": "assistant", "content": "1, 2"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "say"}, {"type": "text", "text": "x"}],
        },
        {"role": "assistant", "content": None},
    ]

    assert "x" == say("", messages=messages)
    assert "1, 2" == say("", messages=[{"role": "system", "content": "Count to 2"}])


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_cuts(name):
    (choice,) = answer("Count to 3", **{name: 4}).choices

    assert ("1", ", ", "2", ", ") == choice.content
    assert "length" == choice.finish_reason
    assert "stop" == answer("Count to 3", **{name: 5}).choices[0].finish_reason


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("2", "1, "),
        (", 3", "1, 2"),
        (["4", "3"], "1, 2, "),
        ("4", "1, 2, 3, "),
        ("1", ""),
        (" ", "1,"),
        ("9", "1, 2, 3, 4"),
        ([], "1, 2, 3, 4"),
    ],
)
def test_a_stop_string_cuts_before_itself(stop, text):
    (choice,) = answer("Count to 4", stop=stop).choices

    assert text == "".join(choice.content)
    assert "stop" == choice.finish_reason


def test_a_limit_comes_before_a_later_stop():
    assert "length" == answer("Count to 9", max_tokens=2, stop="5").choices[0].finish_reason


def test_reasoning_comes_first_and_counts():
    profile = Profile(reasoning_tokens=4)
    whole = answer("Count to 2", profile)
    cut = answer("Count to 2", profile, max_tokens=3, n=2)

    assert 4 == len(whole.choices[0].reasoning) == whole.reasoning_tokens
    assert 7 == whole.completion_tokens
    assert ((), 3) == (cut.choices[0].content, len(cut.choices[0].reasoning))
    assert (6, 6) == (cut.completion_tokens, cut.reasoning_tokens)


def test_prompt_tokens_are_words_and_signs():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi there!"}, {"type": "image_url"}]},
    ]

    assert 6 == answer("", messages=messages).prompt_tokens


def called(*args, **params):
    calls = answer(*args, **params).choices[0].tool_calls
    return [(call.name, orjson.loads("".join(call.arguments))) for call in calls]


def test_a_tool_is_called_when_its_name_is_mentioned():
    tools = [WEATHER, CLOCK, {"type": "custom", "custom": {"name": "other"}}]
    weather = ("get_weather", {"city": "city", "days": 1})

    assert [weather] == called("Use get_weather now", tools=tools)
    assert [weather, ("get_time", {})] == called("GET_TIME and get_weather", tools=tools)
    assert [weather] == called("get_time, get_weather", tools=tools, parallel_tool_calls=False)
    assert [] == called("my_get_weather", tools=tools)
    assert [] == called("get_weather", tools=tools, tool_choice="none")


def test_a_tool_can_be_forced():
    tools = [WEATHER, CLOCK]
    only_time = {"mode": "required", "tools": [CLOCK]}

    assert [("get_weather", {"city": "city", "days": 1})] == called(
        "hi", tools=tools, tool_choice="required"
    )
    assert [("get_time", {})] == called("get_time", tools=tools, tool_choice="required")
    assert [("get_time", {})] == called("hi", tools=tools, tool_choice=CLOCK)
    assert [("get_time", {})] == called(
        "get_weather",
        tools=tools,
        tool_choice={"type": "allowed_tools", "allowed_tools": only_time},
    )
    assert [] == called(
        "get_weather",
        tools=tools,
        tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [CLOCK]}},
    )
    assert [] == called("hi", tools=tools, tool_choice={"type": "custom", "custom": {"name": "x"}})


def test_a_tools_result_is_answered_in_words():
    """
    Or a client's tool loop would never end.
    """
    messages = [
        {"role": "user", "content": "get_weather"},
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "tool_call_id": "x", "content": "sun"},
    ]
    (choice,) = answer("", messages=messages, tools=[WEATHER]).choices

    assert () == choice.tool_calls
    assert 32 == len(choice.content)


def test_calls_have_ids_of_their_own():
    first, second = answer("get_time get_weather", tools=[WEATHER, CLOCK], n=2).choices
    ids = {call.id for call in (*first.tool_calls, *second.tool_calls)}

    assert 4 == len(ids)
    assert all(one.startswith("call_") for one in ids)
    assert "tool_calls" == first.finish_reason
    assert () == first.content


@pytest.mark.parametrize(
    ("limit", "pieces"), [(1, [0]), (2, [1]), (3, [2]), (4, [2, 0]), (5, [2, 1])]
)
def test_a_limit_cuts_calls(limit, pieces):
    other = {"type": "function", "function": {"name": "other"}}
    (choice,) = answer("get_time other", tools=[CLOCK, other], max_tokens=limit).choices

    assert "length" == choice.finish_reason
    assert limit == choice.tokens
    assert pieces == [len(call.arguments) for call in choice.tool_calls]


def test_json_answers():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "tags": {"type": "array", "minItems": 2}},
        "required": ["name", "tags"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    loose = {"type": "json_schema", "json_schema": {"name": "x"}}

    assert isinstance(orjson.loads(say("hi", response_format={"type": "json_object"})), dict)
    assert {"name": "name", "tags": ["tags", "tags 2"]} == orjson.loads(
        say("hi", response_format=wanted)
    )
    assert "value" == orjson.loads(say("hi", response_format=loose))
    assert "1" == say("Count to 1", response_format={"type": "text"})


def test_a_schema_that_cannot_be_followed_is_refused():
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "colour"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": "x"}}}

    with pytest.raises(Refusal, match="unknown type 'colour'"):
        say("hi", response_format=schema)
    with pytest.raises(Refusal) as caught:
        say("f", tools=[tool])
    assert "tools.f.parameters" == caught.value.param


def test_logprobs_are_plausible():
    (choice,) = answer("say naïve café", logprobs=True, top_logprobs=4).choices

    assert ["naïve", " café"] == [entry["token"] for entry in choice.logprobs]
    for entry in choice.logprobs:
        top = entry["top_logprobs"]
        assert list(entry["token"].encode()) == entry["bytes"]
        assert 4 == len(top) == len({other["token"] for other in top})
        assert entry["token"] == top[0]["token"]
        assert all(a["logprob"] > b["logprob"] for a, b in pairwise(top))
        assert sum(math.exp(other["logprob"]) for other in top) <= 1


def test_logprobs_without_alternatives_and_without_content():
    (choice,) = answer("say x", logprobs=True).choices
    (calling,) = answer("get_time", tools=[CLOCK], logprobs=True).choices

    assert [] == choice.logprobs[0]["top_logprobs"]
    assert calling.logprobs is None
