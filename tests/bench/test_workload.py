"""chatstream.bench.workload."""

from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import RequestError
from chatstream.bench.workload import (
    Conversation,
    Prompts,
    Synthetic,
    Turn,
    describe,
    read_jsonl,
    read_sharegpt,
    workload_from_json,
    workload_to_json,
)


def asked(*texts, **fields):
    """Return a conversation that asks these, one after the other."""
    return Conversation(turns=tuple(Turn(messages=(user(text),), **fields) for text in texts))


def user(text):
    return {"role": "user", "content": text}


def text_of(conversation, turn=0):
    (message,) = conversation.turns[turn].messages
    return message["content"]


def words_of(conversation, turn=0):
    return text_of(conversation, turn).split(" ")


# --- Prompts -----------------------------------------------------------------

letters = Prompts(conversations=tuple(map(asked, "abcde")))
shuffled = Prompts(conversations=letters.conversations, shuffle=True)


def heard(prompts, numbers, seed=0):
    return "".join(text_of(prompts.conversation(number, seed)) for number in numbers)


def test_prompts_are_asked_in_turn_and_again():
    assert "abcdeab" == heard(letters, range(7))


@given(seed=st.integers(), lap=st.integers(0, 1000))
def test_each_pass_over_shuffled_prompts_has_them_all(seed, lap):
    assert "abcde" == "".join(sorted(heard(shuffled, range(5 * lap, 5 * lap + 5), seed)))


def test_passes_and_seeds_have_orders_of_their_own():
    """
    The same neighbours in each pass would meet the same state of the server.
    """
    many = Prompts(conversations=tuple(map(asked, map(str, range(20)))), shuffle=True)
    orders = {heard(many, range(lap, lap + 20), seed) for lap in (0, 20) for seed in (0, 1)}

    assert 4 == len(orders)


def test_every_order_of_shuffled_prompts_is_as_likely():
    """
    Of 1,200 passes over three prompts each of the six orders is due 200, with a deviation of 13.
    """
    three = Prompts(conversations=letters.conversations[:3], shuffle=True)
    orders = Counter(heard(three, range(3 * lap, 3 * lap + 3)) for lap in range(1200))

    assert 6 == len(orders)
    assert all(135 < count < 265 for count in orders.values())


def test_there_must_be_prompts():
    with pytest.raises(ValueError, match="conversations"):
        Prompts(conversations=())


# --- Synthetic ---------------------------------------------------------------


def test_synthetic_text_has_a_word_for_each_token():
    conversation = Synthetic(input_tokens=100, output_tokens=7).conversation(0, 0)
    (turn,) = conversation.turns
    (message,) = turn.messages

    assert "user" == message["role"]
    assert 100 == len(words_of(conversation))
    assert {"max_tokens": 7} == turn.params
    assert 0 == turn.delay


def test_words_are_plain_and_many():
    """
    A byte chooses the word: with fewer than 256 different ones some would be rare.
    """
    words = set(words_of(Synthetic(input_tokens=5000, output_tokens=1).conversation(0, 0)))

    assert 256 == len(words)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_lengths_are_spread_evenly():
    work = Synthetic(input_tokens=10, output_tokens=100, input_spread=0.2, output_spread=1.0)
    found = [work.conversation(number, 3) for number in range(2000)]
    inputs = Counter(len(words_of(each)) for each in found)
    outputs = [each.turns[0].params["max_tokens"] for each in found]

    assert {8, 9, 10, 11, 12} == set(inputs)
    assert all(300 < count < 500 for count in inputs.values())  # 400, with a deviation of 18
    assert 1 == min(outputs)  # no answer is asked for without a token
    assert 200 == max(outputs)
    assert 95 < sum(outputs) / 2000 < 106  # 100.5, with a deviation of 1.3


def test_a_text_follows_from_number_and_seed_alone():
    """
    A worker knows what it asks without the others, and a rerun asks the same.
    """
    work = Synthetic(input_tokens=20, output_tokens=1, prefix_tokens=5)

    assert work.conversation(7, 1) == work.conversation(7, 1)
    assert 200 == len({text_of(work.conversation(k, seed)) for k in range(100) for seed in (1, 2)})


def test_a_synthetic_text_is_the_same_in_every_process():
    """
    Workers on other hosts and other versions of Python ask the same.
    """
    expected = "game green king meat"

    assert expected == text_of(Synthetic(input_tokens=4, output_tokens=1).conversation(3, 42))


def test_requests_take_prefixes_by_turns_and_share_nothing_else():
    """
    What the server finds in its prefix cache is the prefix, and no more.
    """
    work = Synthetic(input_tokens=12, output_tokens=1, prefix_tokens=30, prefixes=3)
    found = [words_of(work.conversation(number, 0)) for number in range(30)]
    prefixes = [tuple(words[:30]) for words in found]

    assert {42} == {len(words) for words in found}
    assert 3 == len(set(prefixes))
    assert prefixes[:3] * 10 == prefixes
    assert 30 == len({tuple(words[30:]) for words in found})


def test_turns_have_texts_of_their_own_and_a_delay_between():
    """
    The prefix is sent with each turn anyway, as a part of the first.
    """
    work = Synthetic(input_tokens=12, output_tokens=1, prefix_tokens=3, turns=3, delay=1.5)
    found = work.conversation(0, 0)

    assert [15, 12, 12] == [len(words_of(found, turn)) for turn in range(3)]
    assert 3 == len({text_of(found, turn)[-30:] for turn in range(3)})
    assert [0, 1.5, 1.5] == [turn.delay for turn in found.turns]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("input_tokens", 0, "a whole number from 1 on"),
        ("input_tokens", 2.0, "a whole number from 1 on"),
        ("output_tokens", True, "a whole number from 1 on"),
        ("output_tokens", "9", "a whole number from 1 on"),
        ("prefix_tokens", -1, "a whole number from 0 on"),
        ("prefixes", 0, "a whole number from 1 on"),
        ("turns", 0, "a whole number from 1 on"),
        ("input_spread", 1.01, "a share from 0 to 1"),
        ("output_spread", -0.1, "a share from 0 to 1"),
        ("delay", float("inf"), "seconds from 0 on"),
        ("delay", float("nan"), "seconds from 0 on"),
    ],
)
def test_lengths_without_sense_are_refused(name, value, allowed):
    shown = "a string" if isinstance(value, str) else repr(value)
    with pytest.raises(RequestError) as caught:
        Synthetic(**{"input_tokens": 1, "output_tokens": 1, name: value})

    assert f"{name}: expected {allowed}, got {shown}" == str(caught.value)


# --- JSONL -------------------------------------------------------------------


def jsonl(path, *lines):
    path = path / "prompts.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    return path


def turn(*messages, **fields):
    return Turn(messages=messages, **fields)


@pytest.mark.parametrize(
    ("expected", "line"),
    [
        (turn(user("Hi")), "Hi"),
        (turn(user("Hi")), {"prompt": "Hi"}),
        (turn(user("Hi")), {"text": "Hi", "role": "user", "id": 7}),
        (turn(user("Hi")), {"prompt": "Hi", "messages": None, "turns": None, "max_tokens": None}),
        (
            turn({"role": "system", "content": "Be brief."}, user([{"type": "text"}])),
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    user([{"type": "text"}]),
                ]
            },
        ),
        (turn(user("Hi"), params={"max_tokens": 5}), {"prompt": "Hi", "max_tokens": 5}),
        (turn(user("Hi"), params={"max_tokens": 5}), {"prompt": "Hi", "output_tokens": 5}),
        (turn(user("Hi"), params={"max_tokens": 5}), {"text": "Hi", "output_length": 5}),
        (
            turn(user("Hi"), params={"temperature": 0, "max_tokens": 5}),
            {"prompt": "Hi", "params": {"temperature": 0, "max_tokens": 9}, "max_tokens": 5},
        ),
        (
            turn(user("Hi"), params={"extra_body": {"top_k": 1, "ignore_eos": True}}),
            {
                "text": "Hi",
                "extra": {"ignore_eos": True},
                "params": {"extra_body": {"top_k": 1}},
            },
        ),
    ],
)
def test_a_line_is_a_prompt_or_messages(expected, line, tmp_path):
    """
    Files of vLLM (``prompt``) and aiperf (``text``) are read as they are.
    """
    assert (Conversation(turns=(expected,)),) == read_jsonl(jsonl(tmp_path, line)).conversations


def test_a_line_may_have_several_turns(tmp_path):
    """
    What it has for all of them, a turn may have otherwise.
    """
    line = {
        "session_id": "a",
        "turns": [
            "One",
            {"text": "Two", "delay": 1500, "output_length": 3},
            {"messages": [user("3")]},
        ],
        "max_tokens": 8,
        "params": {"temperature": 1},
    }
    common = {"temperature": 1, "max_tokens": 8}
    expected = Conversation(
        turns=(
            turn(user("One"), params=common),
            turn(user("Two"), params={"temperature": 1, "max_tokens": 3}, delay=1.5),
            turn(user("3"), params=common),
        )
    )

    assert (expected,) == read_jsonl(jsonl(tmp_path, line)).conversations


def test_lines_are_in_order_and_the_file_is_named(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'\xef\xbb\xbf"One"\r\n\r\n  {"prompt": "Two"}')
    found = read_jsonl(path)

    assert (asked("One"), asked("Two")) == found.conversations
    assert "prompts.jsonl" == found.source
    assert not found.shuffle


NO_TEXT = "expected a string with text, got"
NO_KEY = "expected one of prompt, text and messages, got the keys"
TWICE = "expected one of them, got"
SAID = {"text": "secret"}


@pytest.mark.parametrize(
    ("saw", "line"),
    [
        (": expected a string or an object, got a list", ["secret"]),
        (": expected a string or an object, got 7", 7),
        (f": {NO_KEY} question, id", {"question": "secret", "id": 1}),
        (f": {NO_KEY} none", {}),
        (f": {TWICE} prompt and text", {**SAID, "prompt": "secret"}),
        (f": {TWICE} prompt and turns", {"prompt": "secret", "turns": ["secret"]}),
        (f": {TWICE} max_tokens and output_tokens", {**SAID, "max_tokens": 1, "output_tokens": 1}),
        (f", prompt: {NO_TEXT} a blank string", {"prompt": " \n"}),
        (f", prompt: {NO_TEXT} a list", {"prompt": ["secret"]}),
        (f", turns[0], text: {NO_TEXT} 5", {"turns": [{"text": 5}]}),
        (", messages: expected a list of messages, got a string", {"messages": "secret"}),
        (", messages: expected a list of messages, got a list", {"messages": []}),
        (
            ", messages[1]: expected an object with a role, got a string",
            {"messages": [user("a"), "secret"]},
        ),
        (
            ", messages[0]: expected an object with a role, got an object",
            {"messages": [{"role": 1, "content": "secret"}]},
        ),
        (
            ", role: expected user; messages may have others, got another",
            {**SAID, "role": "system"},
        ),
        (
            ": expected messages with such parts, got audios, image",
            {**SAID, "image": "x", "audios": []},
        ),
        (", turns: expected a list of turns, got a string", {"turns": "secret"}),
        (", turns: expected a list of turns, got a list", {"turns": []}),
        (", turns[1]: expected a string or an object, got None", {"turns": ["a", None]}),
        (
            ", turns[0], delay: expected milliseconds from 0 on, got -1",
            {"turns": [{"text": "a", "delay": -1}]},
        ),
        (", output_length: expected a whole number from 1 on, got 0", {**SAID, "output_length": 0}),
        (", params: expected an object, got a list", {**SAID, "params": ["secret"]}),
        (
            ", params, extra_body: expected an object, got a string",
            {**SAID, "params": {"extra_body": "secret"}},
        ),
        (", extra: expected an object, got a string", {**SAID, "extra": "secret"}),
    ],
)
def test_a_line_that_asks_nothing_is_named(saw, line, tmp_path):
    """
    And what it says is not: prompts are nobody's business.
    """
    path = jsonl(tmp_path, "fine", line)

    with pytest.raises(RequestError) as caught:
        read_jsonl(path)

    assert f"{path}, line 2{saw}" == str(caught.value)


@pytest.mark.parametrize(
    ("saw", "text"),
    [
        (", line 2: expected JSON, got ", b'"a"\n{"prompt"\n'),
        (", line 1: expected JSON, got ", b'"\\ud83d"'),
        (": expected a prompt on each line, got no lines", b"\n \n"),
    ],
)
def test_a_file_that_is_no_jsonl_is_named(saw, text, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(text)

    with pytest.raises(RequestError) as caught:
        read_jsonl(path)

    assert str(caught.value).startswith(f"{path}{saw}")


# --- ShareGPT ----------------------------------------------------------------


def sharegpt(path, *talks):
    """Write entries that say (who, what), …"""
    path = path / "sharegpt.json"
    entries = [
        {"id": "x", "conversations": [{"from": who, "value": what} for who, what in talk]}
        for talk in talks
    ]
    path.write_bytes(orjson.dumps(entries))
    return path


LONG = [
    ("system", "Be kind."),
    ("human", "One"),
    ("gpt", "a" * 40),
    ("user", "Two"),
    ("assistant", "ä" * 4),
    ("human", "Three"),
]


@pytest.mark.parametrize(("turns", "max_turns"), [(1, 1), (2, 2), (2, 9)])
def test_questions_of_sharegpt_are_asked_and_answers_tell_their_length(turns, max_turns, tmp_path):
    """
    The last question has no answer: nobody knows how long it would be.
    """
    expected = (
        turn({"role": "system", "content": "Be kind."}, user("One"), params={"max_tokens": 10}),
        turn(user("Two"), params={"max_tokens": 2}),
    )
    found = read_sharegpt(sharegpt(tmp_path, LONG), max_turns)

    assert (Conversation(turns=expected[:turns]),) == found.conversations
    assert ("sharegpt.json", 0) == (found.source, found.skipped)


def test_one_question_of_an_entry_is_asked_unless_told_otherwise(tmp_path):
    (found,) = read_sharegpt(sharegpt(tmp_path, LONG)).conversations

    assert 1 == len(found.turns)


def test_a_talk_is_followed_as_long_as_each_question_has_its_answer(tmp_path):
    """
    What comes later was said after something that we haven't.
    """
    talk = [
        ("human", "1"),
        ("gpt", "a"),
        ("human", "2"),
        ("human", "3"),
        ("human", "4"),
        ("gpt", "b"),
    ]
    (found,) = read_sharegpt(sharegpt(tmp_path, talk), max_turns=9).conversations

    assert asked("1", params={"max_tokens": 1}) == found


def test_a_short_answer_has_a_token(tmp_path):
    (found,) = read_sharegpt(sharegpt(tmp_path, [("human", "a"), ("gpt", "b")])).conversations

    assert {"max_tokens": 1} == found.turns[0].params


@pytest.mark.parametrize(
    "odd",
    [
        [("gpt", "Hello"), ("human", "Hi")],
        [("gpt", "Hello"), ("human", "Hi"), ("gpt", "Well")],
        [("human", "Hi")],
        [("human", "Hi"), ("human", "Hi?")],
        [("human", " "), ("gpt", "Hello")],
        [("human", "Hi"), ("gpt", "")],
        [("system", "Be kind.")],
        [("narrator", "Once"), ("gpt", "Hello")],
        [("human", 5), ("gpt", "Hello")],
        [],
    ],
)
def test_odd_entries_of_sharegpt_are_skipped_and_counted(odd, tmp_path):
    found = read_sharegpt(sharegpt(tmp_path, odd, [("human", "Hi"), ("gpt", "Hello")], odd))

    assert (asked("Hi", params={"max_tokens": 1}),) == found.conversations
    assert 2 == found.skipped


@pytest.mark.parametrize("odd", [7, {}, {"conversations": "secret"}, {"conversations": [7, {}]}])
def test_what_is_no_entry_of_sharegpt_is_skipped(odd, tmp_path):
    path = tmp_path / "sharegpt.json"
    said = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    path.write_bytes(orjson.dumps([odd, {"conversations": said}]))

    assert 1 == read_sharegpt(path).skipped


@pytest.mark.parametrize(
    ("saw", "text"),
    [
        ("a list of entries with conversations, got an object", b'{"conversations": []}'),
        ("one that begins with a question and its answer, got 2 entries", b"[{}, {}]"),
        ("one that begins with a question and its answer, got 0 entries", b"[]"),
        ("JSON, got ", b"[1"),
    ],
)
def test_a_file_without_entries_of_sharegpt_is_named(saw, text, tmp_path):
    path = tmp_path / "sharegpt.json"
    path.write_bytes(text)

    with pytest.raises(RequestError) as caught:
        read_sharegpt(path)

    assert str(caught.value).startswith(f"{path}: expected {saw}")


def test_a_turn_at_least_is_asked(tmp_path):
    with pytest.raises(RequestError, match="max_turns: expected a whole number from 1 on, got 0"):
        read_sharegpt(sharegpt(tmp_path, LONG), 0)


# --- Written down ------------------------------------------------------------

WORKLOADS = [
    Synthetic(input_tokens=9, output_tokens=8, input_spread=0.5, prefix_tokens=3, turns=2, delay=1),
    Prompts(
        conversations=(asked("a", "b", delay=2.0), asked("c", params={"max_tokens": 3})),
        shuffle=True,
        source="x.jsonl",
        skipped=4,
    ),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=["synthetic", "prompts"])
def test_a_workload_comes_back_from_json(workload):
    """
    It is how other processes and other hosts get it.
    """
    document = orjson.loads(orjson.dumps(workload_to_json(workload)))

    assert workload == workload_from_json(document)


@pytest.mark.parametrize(
    "document", [{}, {"kind": "magic"}, {"kind": "prompts"}, {"kind": ["prompts"]}], ids=str
)
def test_json_that_is_no_workload_is_refused(document):
    with pytest.raises(RequestError, match="workload: expected"):
        workload_from_json(document)


@pytest.mark.parametrize("workload", WORKLOADS, ids=["synthetic", "prompts"])
def test_json_of_another_version_is_refused(workload):
    """
    A setting that is dropped without a word would give figures of another load.
    """
    with pytest.raises(TypeError, match="speed"):
        workload_from_json({**workload_to_json(workload), "speed": 2})


def test_a_report_tells_how_much_is_asked_and_never_what():
    parts = [{"type": "text", "text": "secret"}, {"type": "image_url", "image_url": {}}, "odd"]
    prompts = Prompts(
        conversations=(
            Conversation(turns=(turn({"role": "system", "content": "secret"}, user(parts)),)),
            asked("secrets", "secrets!", params={"max_tokens": 3}),
            asked("secret", params={"max_tokens": 6}),
            Conversation(turns=(turn({"role": "user"}),)),
        ),
        source="x.jsonl",
        skipped=1,
    )
    expected = {
        "kind": "prompts",
        "source": "x.jsonl",
        "conversations": 4,
        "turns": 5,
        "skipped": 1,
        "shuffle": False,
        "characters": {"min": 0, "mean": 6.6, "max": 12},
        "max_tokens": {"min": 3, "mean": 4, "max": 6},
    }

    told = describe(prompts)
    assert 16 == len(told.pop("digest"))
    assert expected == told
    assert b"secret" not in orjson.dumps(describe(prompts))


def test_prompts_of_the_same_length_are_told_apart():
    first, again, other = (
        describe(Prompts(conversations=(asked(text),))) for text in ("one", "one", "two")
    )

    assert first == again
    assert {"digest"} == {key for key in first if first[key] != other[key]}


def test_a_report_says_null_of_limits_that_there_are_none_of():
    assert describe(letters)["max_tokens"] is None


def test_a_report_tells_all_of_a_synthetic_workload():
    expected = {
        "kind": "synthetic",
        "input_tokens": 9,
        "output_tokens": 8,
        "input_spread": 0.5,
        "output_spread": 0.0,
        "prefix_tokens": 3,
        "prefixes": 1,
        "turns": 2,
        "delay": 1,
    }

    assert expected == describe(WORKLOADS[0])
