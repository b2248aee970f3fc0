"""What was said in a chat, as far as it fits."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import DecodeError, RequestError, Usage, system, user
from chatstream.bots.history import History, estimate_tokens
from chatstream.completion import CompletionTokensDetails


def says(text):
    return {"role": "user", "content": text}


def answers(text):
    return {"role": "assistant", "content": text}


def call(*ids):
    made = [{"id": each, "function": {"name": "f", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(of):
    return {"role": "tool", "content": "1", "tool_call_id": of}


def one(message):
    """Count a token for each message."""
    return 1


def history(*exchanges, usage=None, **options):
    made = History(**options)
    for said, answered in exchanges:
        made.keep([says(said)], [answers(answered)], usage)
    return made


# --- Estimates ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (4, says("")),
        (5, says("a")),
        (5, says("abc")),
        (6, says("abcd")),
        (5, says("中")),
        (1006, {"content": [{"type": "text", "text": "abcdef"}, {"type": "image_url"}, 5]}),
        (1004, {"content": [{"type": "file", "file": {"file_data": "x" * 10_000}}]}),
        (4 + 1 + 1 + 1, call("x")),
    ],
)
def test_tokens_are_estimated_by_the_bytes_of_texts(expected, message):
    assert expected == estimate_tokens(message)


def test_a_text_that_is_no_unicode_counts_too():
    assert 5 == estimate_tokens(says("\ud83d"))


# --- Budgets -----------------------------------------------------------------------


def test_without_a_budget_all_is_kept():
    kept = history(("a", "b"), ("c", "d"))
    kept.trim([says("e")])

    assert [says("a"), answers("b"), says("c"), answers("d")] == kept.messages


@pytest.mark.parametrize(
    ("expected", "budget"),
    [
        (["s"], {"max_messages": 1}),
        (["s"], {"max_messages": 2}),
        (["s", "c", "d"], {"max_messages": 3}),
        (["s", "c", "d"], {"max_messages": 4}),
        (["s", "a", "b", "c", "d"], {"max_messages": 5}),
        (["s"], {"max_tokens": 1}),
        (["s"], {"max_tokens": 3}),
        (["s", "c", "d"], {"max_tokens": 4}),
        (["s", "c", "d"], {"max_tokens": 5}),
        (["s", "a", "b", "c", "d"], {"max_tokens": 6}),
        (["s"], {"max_tokens": 6, "max_messages": 2}),
    ],
)
def test_the_oldest_goes_first_and_the_opening_never(expected, budget):
    """
    It counts for the tokens; what is said now goes out in any case.
    """
    kept = history(("a", "b"), ("c", "d"), opening=[system("s")], count_tokens=one, **budget)
    kept.trim([says("e")])

    assert expected == [message["content"] for message in kept.messages]


def test_calls_go_with_their_results():
    """
    One without the other would be refused.
    """
    kept = History(max_messages=5)
    kept.keep([says("a")], [call("x"), result("x"), answers("b")], None)
    kept.keep([says("c")], [answers("d")], None)
    kept.trim([says("e")])

    assert ["c", "d"] == [message["content"] for message in kept.messages]


@given(
    sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3)), max_size=8),
    max_tokens=st.integers(1, 60),
    max_messages=st.integers(1, 12),
)
def test_whatever_is_said_stays_within_the_budget(sizes, max_tokens, max_messages):
    """
    As long as what is said now doesn't break it, and each call is followed by its result.
    """
    kept = History(
        max_tokens=max_tokens,
        max_messages=max_messages,
        count_tokens=lambda message: len(message["content"] or ""),
    )
    for at, (said, answered, calls) in enumerate(sizes):
        kept.trim([says("x" * said)])
        messages = [*kept.messages, says("x" * said)]
        ids = [each["id"] for message in messages for each in message.get("tool_calls", ())]
        size = sum(len(message["content"] or "") for message in messages)

        assert len(messages) <= max_messages or len(messages) == 1
        assert size <= max_tokens or len(messages) == 1
        assert ids == [m["tool_call_id"] for m in messages if m["role"] == "tool"]
        between = [
            message
            for number in range(calls)
            for message in (call(f"{at}.{number}"), result(f"{at}.{number}"))
        ]
        kept.keep([says("x" * said)], [*between, answers("x" * answered)], None)


@pytest.mark.parametrize("name", ["max_tokens", "max_messages"])
def test_a_budget_is_at_least_one(name):
    with pytest.raises(RequestError, match=f"{name}: expected 1 or more"):
        History(**{name: 0})


# --- Tokens that the server counted --------------------------------------------------


def test_the_first_count_tells_what_lies_around_the_messages():
    """
    Tools, and what a template puts between messages; the answer's reasoning isn't kept.
    """
    reasoned = Usage(50, 30, completion_tokens_details=CompletionTokensDetails(reasoning_tokens=20))
    kept = history(("a", "b"), usage=reasoned, opening=[system("s")], count_tokens=one)

    assert 60 == kept.tokens


def test_later_counts_are_exact():
    kept = history(("a", "b"), usage=Usage(50, 10), count_tokens=one)
    kept.keep([says("c")], [answers("d")], Usage(75, 20))

    assert 95 == kept.tokens


def test_a_missing_count_is_estimated_and_made_up_for_by_the_next():
    kept = history(("a", "b"), usage=Usage(50, 10), count_tokens=one)
    kept.keep([says("c")], [answers("d")], None)
    estimated = kept.tokens
    kept.keep([says("e")], [answers("f")], Usage(90))
    kept.keep([says("g")], [answers("h")], Usage(100, 10))

    assert 62 == estimated
    assert 110 == kept.tokens


@pytest.mark.parametrize(("expected", "usage"), [(8, Usage(6, 2)), (3, Usage(0, 0))])
def test_estimates_that_were_too_high_all_shrink(expected, usage):
    """
    But none to nothing: to drop an exchange must always help.
    """
    options = {"count_tokens": lambda _: 100, "opening": [system("s")]}
    kept = history(("a", "b"), ("c", "d"), **options)
    kept.keep([says("e")], [answers("f")], usage)
    shrunk = kept.tokens
    kept.keep([says("g")], [answers("h")], Usage(1, 1))

    assert expected == shrunk
    assert 4 == kept.tokens
    assert 7 == history(("a", "b"), usage=Usage(5, 2), **options).tokens


def test_counts_decide_what_is_dropped():
    options = {"count_tokens": lambda _: 5, "max_tokens": 100}
    kept = history(("a", "b"), usage=Usage(50, 10), **options)
    kept.keep([says("c")], [answers("d")], Usage(80, 10))
    kept.trim([says("e")])
    both = len(kept.messages)
    kept.keep([says("e")], [answers("f")], Usage(95, 10))
    kept.trim([says("g")])

    assert (4, 4) == (both, len(kept.messages))
    assert "c" == kept.messages[0]["content"]


# --- What is kept --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "answered"),
    [
        ([], []),
        ([], [call("x")]),
        ([], [call("x", "y"), result("x")]),
        ([answers("a")], [call("x", "y"), result("x"), answers("a")]),
        (
            [call("x"), result("x"), answers("a")],
            [call("x"), result("x"), call("y"), answers("a")],
        ),
        ([call("x"), result("x")], [call("x"), result("x"), call("x")]),
        ([answers("a")], [result("x"), answers("a")]),
        ([call("x", "y"), result("y"), result("x")], [call("x", "y"), result("y"), result("x")]),
    ],
)
def test_calls_without_all_their_results_are_not_kept(expected, answered):
    """
    Nor is what was said, if nothing came of it.
    """
    kept = History()
    told = kept.keep([says("q")], answered, None)

    assert bool(expected) is told
    assert ([says("q"), *expected] if expected else []) == kept.messages


def test_clearing_keeps_the_opening():
    kept = history(("a", "b"), opening=[system("s")])
    kept.clear()

    assert [{"role": "system", "content": "s"}] == kept.messages


# --- Saved ---------------------------------------------------------------------------


def test_what_was_saved_is_loaded():
    kept = history(("a", "b"), ("c", "d"), usage=Usage(50, 10), opening=[user("not saved")])
    loaded = History([system("s")])
    loaded.load_json(kept.to_json())

    assert kept.messages[1:] == loaded.messages[1:]
    assert kept.tokens == loaded.tokens
    assert kept.to_json() == loaded.to_json()


def test_an_empty_history_leaves_the_openings_estimate():
    loaded = History([system("s")], count_tokens=one)
    loaded.load_json(history(opening=[system("a long one")]).to_json())

    assert 1 == loaded.tokens


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("$.version: expected 1, got another integer", {"version": 2}),
        ("$.turns: expected array, got object", {"turns": {}}),
        ("$.turns[0].tokens: expected integer, got nothing", {"turns": [{"messages": []}]}),
        (
            "$.turns[0].messages[0]: expected object, got string",
            {"turns": [{"tokens": 1, "messages": ["Hi"]}]},
        ),
        (
            "$.turns[0].messages[1].role: expected string, got NoneType",
            {"turns": [{"tokens": 1, "messages": [{"role": "user"}, {}]}]},
        ),
    ],
)
def test_what_was_not_saved_by_us_is_told_with_its_path(message, change):
    """
    And leaves the history as it was.
    """
    kept = history(("a", "b"))
    before = kept.to_json()

    with pytest.raises(DecodeError) as caught:
        kept.load_json(json.dumps(json.loads(before) | change))

    assert message == str(caught.value)
    assert before == kept.to_json()


def test_what_is_no_json_is_told():
    with pytest.raises(DecodeError, match=r"^\$: expected JSON"):
        History().load_json("{")
