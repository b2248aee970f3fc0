"""Deltas turned into typed events, each in its turn."""

import builtins
import sys
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.codec import read_chunk
from chatstream.collector import MessageCollector
from chatstream.completion import (
    Audio,
    ChoiceLogprobs,
    CustomToolCall,
    FunctionCall,
    TokenLogprob,
    ToolCall,
    Usage,
)
from chatstream.events import (
    AudioEvent,
    ContentDeltaEvent,
    ContentDoneEvent,
    DeltaEvent,
    EventTranslator,
    FinishEvent,
    LogprobsEvent,
    OtherEvent,
    ReasoningDeltaEvent,
    ReasoningDoneEvent,
    RefusalDeltaEvent,
    RefusalDoneEvent,
    ToolCallDeltaEvent,
    ToolCallDoneEvent,
    UsageEvent,
    chunk_events,
)

with_jiter = pytest.mark.skipif(find_spec("jiter") is None, reason="needs the extra jiter")


def choice(delta=None, index=0, finish=None, **more):
    return {"index": index, "delta": delta or {}, "finish_reason": finish, **more}


def call(arguments=None, name=None, index=0, id=None, **more):  # noqa: A002 the wire's name
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": id, "function": function, **more}]}


class Translation:
    """A collector and a translator, fed as a stream feeds them."""

    def __init__(self, n=1):
        self.collector = MessageCollector(expected_choices=n)
        self.translator = EventTranslator(self.collector)
        self.at = 0

    def chunk(self, raw):
        """The events of one chunk."""
        chunk = read_chunk(raw)
        self.at += 1
        self.collector.add(chunk)
        events = []
        for part in chunk.choices:
            delta = DeltaEvent(
                self.at / 10,
                self.at,
                self.at % 2 == 0,
                part.index,
                part.delta,
                part.delta.content,
                part.finish_reason,
                chunk,
            )
            events += self.translator.delta(delta)
        events += chunk_events(chunk, self.at / 10, self.at, coalesced=self.at % 2 == 0)
        return events

    def deltas(self, *deltas):
        """The events of these deltas of choice 0, a chunk each."""
        return [event for delta in deltas for event in self.chunk({"choices": [choice(delta)]})]

    def finish(self, reason="stop", index=0):
        return self.chunk({"choices": [choice({}, index, reason)]})

    def end(self):
        return list(self.translator.end())


def told(events):
    """Each event in short: its kind and what it is about."""
    return [_told(event) for event in events]


def _told(event):
    kind = type(event).__name__.removesuffix("Event")
    match event:
        case ContentDeltaEvent() | ReasoningDeltaEvent() | RefusalDeltaEvent():
            return kind, event.delta
        case ContentDoneEvent() | ReasoningDoneEvent() | RefusalDoneEvent():
            return kind, event.text
        case ToolCallDeltaEvent():
            return kind, event.call, event.name, event.delta
        case ToolCallDoneEvent():
            return kind, event.call, event.tool_call.function.arguments
        case FinishEvent():
            return kind, event.finish_reason
        case _:
            return (kind,)


# --- The order of events -----------------------------------------------------


def test_content_comes_in_pieces_and_is_done_at_the_finish():
    """
    The last word before the reason is the whole text.
    """
    it = Translation()

    assert [] == told(it.deltas({"role": "assistant", "content": ""}))
    assert [("ContentDelta", "Hel")] == told(it.deltas({"content": "Hel"}))
    assert [("ContentDelta", "lo")] == told(it.deltas({"content": "lo"}))
    assert [("ContentDone", "Hello"), ("Finish", "stop")] == told(it.finish())
    assert [] == it.end()


def test_a_piece_together_with_the_reason_comes_first():
    """
    Many servers put both into one chunk.
    """
    events = Translation().chunk({"choices": [choice({"content": "Hi"}, finish="length")]})

    assert [("ContentDelta", "Hi"), ("ContentDone", "Hi"), ("Finish", "length")] == told(events)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"content": "a"}, [("ContentDelta", "a")]),
        ({"refusal": "n"}, [("RefusalDelta", "n")]),
        (call("{", "f"), [("ToolCallDelta", 0, "f", "{")]),
        ({"audio": {"data": "AA"}}, [("Audio",)]),
        ({"function_call": {"name": "f"}}, [("ToolCallDelta", 0, "f", "")]),
    ],
)
def test_output_ends_the_reasoning(output, expected):
    """
    A view may fold the thinking away when the answer begins.
    """
    events = Translation().deltas({"reasoning": "h"}, {"reasoning": "m"}, output)

    assert [
        ("ReasoningDelta", "h"),
        ("ReasoningDelta", "m"),
        ("ReasoningDone", "hm"),
        *expected,
    ] == told(events)


@pytest.mark.parametrize(
    "idle",
    [{}, {"role": "assistant"}, {"content": ""}, {"tool_calls": []}, {"audio": {"id": "a"}}],
)
def test_what_is_no_output_leaves_the_reasoning_open(idle):
    """
    vLLM sends ``"content": ""`` beside each piece of reasoning.
    """
    events = Translation().deltas({"reasoning": "h"}, idle, {"reasoning": "m"})

    assert "ReasoningDone" not in [kind for kind, *_ in told(events)]


def test_reasoning_between_outputs_begins_anew():
    """
    Interleaved thinking: it is done with all of its text each time.
    """
    it = Translation()
    events = it.deltas({"reasoning": "a"}, {"content": "b"}, {"reasoning": "c"}) + it.finish()

    assert [
        ("ReasoningDelta", "a"),
        ("ReasoningDone", "a"),
        ("ContentDelta", "b"),
        ("ReasoningDelta", "c"),
        ("ReasoningDone", "ac"),
        ("ContentDone", "b"),
        ("Finish", "stop"),
    ] == told(events)


def test_reasoning_and_content_in_one_delta_are_two_pieces():
    """
    Reasoning stands first, as it was made first.
    """
    it = Translation()
    events = it.deltas({"reasoning": "r", "content": "c", "refusal": "n"}) + it.finish()

    assert [
        ("ReasoningDelta", "r"),
        ("ContentDelta", "c"),
        ("RefusalDelta", "n"),
        ("ReasoningDone", "r"),
        ("ContentDone", "c"),
        ("RefusalDone", "n"),
        ("Finish", "stop"),
    ] == told(events)


def test_calls_are_done_at_the_finish():
    """
    That the next one began doesn't say that the last one ended.
    """
    it = Translation()

    assert [("ToolCallDelta", 0, "f", "")] == told(it.deltas(call("", "f", 0, "1")))
    assert [("ToolCallDelta", 0, "f", "{}")] == told(it.deltas(call("{}")))
    assert [("ToolCallDelta", 1, "g", "[")] == told(it.deltas(call("[", "g", 1, "2")))
    assert [("ToolCallDelta", 1, "g", "]")] == told(it.deltas(call("]", index=1)))
    assert [
        ("ToolCallDone", 0, "{}"),
        ("ToolCallDone", 1, "[]"),
        ("Finish", "tool_calls"),
    ] == told(it.finish("tool_calls"))
    assert [] == it.end()


def test_calls_in_one_delta_each_have_their_events():
    """
    Gemini sends whole calls, several in a chunk.
    """
    calls = {
        "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": "{}"}},
            {"id": "2", "function": {"name": "g", "arguments": "[]"}},
        ]
    }

    it = Translation()

    assert [
        ("ToolCallDelta", 0, "f", "{}"),
        ("ToolCallDelta", 1, "g", "[]"),
    ] == told(it.deltas(calls))
    assert [("ToolCallDone", 0, "{}"), ("ToolCallDone", 1, "[]")] == told(it.end())


@pytest.mark.parametrize("reason", ["tool_calls", None])
def test_interleaved_calls_are_each_done_once_with_all_of_it(reason):
    """
    Half the arguments are no arguments: who runs a call needs all of them.
    """
    it = Translation()
    events = it.deltas(
        call('{"x":', "f", 0, "1"), call('{"y":', "g", 1, "2"), call("1}"), call("2}", index=1)
    )
    last = it.end() if reason is None else it.finish(reason) + it.end()
    done = [("ToolCallDone", 0, '{"x":1}'), ("ToolCallDone", 1, '{"y":2}')]

    assert [
        ("ToolCallDelta", 0, "f", '{"x":'),
        ("ToolCallDelta", 1, "g", '{"y":'),
        ("ToolCallDelta", 0, "f", "1}"),
        ("ToolCallDelta", 1, "g", "2}"),
    ] == told(events)
    assert done + ([] if reason is None else [("Finish", reason)]) == told(last)


def test_calls_are_done_in_the_order_of_their_numbers():
    """
    Whichever was touched first since the last finish.
    """
    it = Translation()
    it.deltas(call("a", "f", 0), call("b", "g", 1))
    it.finish()
    it.deltas(call("B", index=1), call("A", index=0))

    assert [("ToolCallDone", 0, "aA"), ("ToolCallDone", 1, "bB")] == told(it.end())


def test_a_server_that_calls_the_old_and_the_new_way_has_both_done():
    """
    Both are the choice's first call.
    """
    it = Translation()
    it.deltas(call("[]", "f", 0), {"function_call": {"name": "f", "arguments": "{}"}})

    assert [("ToolCallDone", 0, "[]"), ("ToolCallDone", 0, "{}")] == told(it.end())


def test_calls_are_not_told_again_by_later_deltas():
    """
    A delta's events are about that delta.
    """
    it = Translation()
    it.deltas(call("{}", "f"))

    assert [("ContentDelta", "a")] == told(it.deltas({"content": "a"}))
    assert [] == told(it.deltas({}))


def test_calls_of_several_choices_in_one_chunk_do_not_mix():
    """
    A delta's events are about that delta, and each choice finishes by itself.
    """
    it = Translation(n=2)
    events = it.chunk({"choices": [choice(call("a", "f"), 0), choice(call("b", "g"), 1, "stop")]})

    assert [
        (0, ("ToolCallDelta", 0, "f", "a")),
        (1, ("ToolCallDelta", 0, "g", "b")),
        (1, ("ToolCallDone", 0, "b")),
        (1, ("Finish", "stop")),
    ] == [(event.index, _told(event)) for event in events]


def test_a_done_call_holds_all_of_it():
    """
    Id, name and arguments, for a function, a custom tool, and the old way.
    """
    it = Translation()
    it.deltas(call('{"a"', "f", 0, "1"), call(":1}"))
    custom = {"index": 1, "id": "2", "custom": {"name": "sh", "input": "ls"}}
    (piece,) = it.deltas({"tool_calls": [custom]})
    first, second, _ = it.finish()

    assert ToolCall("1", "function", FunctionCall("f", '{"a":1}')) == first.tool_call
    assert ToolCall("2", "custom", None, CustomToolCall("sh", "ls")) == second.tool_call
    assert ("2", "sh", "ls", "ls") == (piece.id, piece.name, piece.delta, piece.arguments)


def test_the_old_function_call_is_a_call_too():
    """
    Nobody should have to look in two places.
    """
    it = Translation()
    events = it.deltas(
        {"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}
    )
    done, finish = it.finish("function_call")

    assert [("ToolCallDelta", 0, "f", ""), ("ToolCallDelta", 0, "f", "{}")] == told(events)
    assert ToolCall(None, "function", FunctionCall("f", "{}")) == done.tool_call
    assert "function_call" == finish.finish_reason


def test_content_after_the_finish_opens_it_again():
    """
    E12: late content is not lost; ``end`` closes it.
    """
    it = Translation()
    it.deltas({"content": "a"})
    it.finish()

    assert [("ContentDelta", "b")] == told(it.deltas({"content": "b"}))
    assert [("ContentDone", "ab")] == told(it.end())


def test_each_finish_reason_is_told():
    """
    E12: a server may correct it.
    """
    it = Translation()

    assert [("Finish", "stop")] == told(it.finish())
    assert [("Finish", "length")] == told(it.finish("length"))


def test_the_end_closes_what_no_reason_closed():
    """
    Ollama ends whole answers with ``[DONE]`` alone.
    """
    it = Translation()
    it.deltas({"reasoning": "r"}, {"content": "c"}, {"refusal": "n"}, call("{}", "f"))

    assert [
        ("ContentDone", "c"),
        ("RefusalDone", "n"),
        ("ToolCallDone", 0, "{}"),
    ] == told(it.end())
    assert [] == it.end()
    assert [] == Translation().end()


# --- Text so far -------------------------------------------------------------


def test_the_text_so_far_is_that_of_its_moment():
    """
    An event kept for later still says what was known then.
    """
    events = Translation().deltas(
        {"content": "a"},
        {"content": ""},
        {"content": "b\ud83d"},
        {"content": "\ude00"},
    )

    assert ["a", "b\ud83d", "\ude00"] == [event.delta for event in events]
    assert ["a", "ab\ufffd", "ab😀"] == [event.text for event in events]


@pytest.mark.parametrize("name", ["content", "reasoning", "refusal"])
@given(pieces=st.lists(st.text(), max_size=8))
def test_each_text_so_far_is_the_pieces_joined(name, pieces):
    """
    For whatever the server cuts, and the done event has all.
    """
    it = Translation()
    events = it.deltas(*({name: piece} for piece in pieces))
    so_far = ["".join(pieces[: at + 1]) for at, piece in enumerate(pieces) if piece]
    done = [event.text for event in it.end()]

    assert so_far == [event.text for event in events]
    assert so_far[-1:] == done


def test_the_arguments_so_far_are_those_of_their_moment():
    """
    As with text.
    """
    events = Translation().deltas(call("", "f"), call('{"a'), call('"\ud83d'), call('\ude00":1}'))

    assert ["", '{"a', '{"a"\ufffd', '{"a"😀":1}'] == [event.arguments for event in events]


@with_jiter
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("{", {}),
        ('{"a', {}),
        ('{"a":', {}),
        ('{"a": 1', {"a": 1}),
        ('{"a": "b', {"a": "b"}),
        ('{"a": [1, {"b": "c', {"a": [1, {"b": "c"}]}),
        ('{"a": 1}', {"a": 1}),
        ("[1, 2", [1, 2]),
        ("not JSON", {}),
        ('{"a": 1} and more', {"a": 1}),
        ('{"a": "\ud83d', {"a": "\ufffd"}),
    ],
)
def test_arguments_can_be_read_while_they_come(arguments, expected):
    """
    A form fills in while the model writes.
    """
    (event,) = Translation().deltas(call(arguments, "f"))

    assert expected == event.partial_arguments()


def test_without_jiter_the_way_to_get_it_is_told(monkeypatch):
    """
    It is an extra; the name of the distribution isn't the import's.
    """
    (event,) = Translation().deltas(call("{", "f"))
    monkeypatch.setitem(sys.modules, "jiter", None)

    with pytest.raises(ImportError, match=r"pip install 'chatstream-sdk\[jiter\]'"):
        event.partial_arguments()


def test_reading_arguments_needs_no_jiter_until_it_is_asked(monkeypatch):
    """
    Everything else works without the extra.
    """
    imported = []
    monkeypatch.setitem(sys.modules, "jiter", None)
    real = builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *rest: imported.append(name) or real(name, *rest)
    )
    Translation().deltas(call('{"a": 1}', "f"))

    assert "jiter" not in imported


@with_jiter
@given(st.text(st.characters()))
def test_partial_arguments_never_raise(arguments):
    """
    Models write all kinds of things.
    """
    (event,) = Translation().deltas(call(arguments, "f"))
    event.partial_arguments()


# --- The rest of a chunk -----------------------------------------------------


def test_audio_is_told_as_it_comes():
    """
    The pieces are played at once; ids and dates are pieces too.
    """
    events = Translation().deltas(
        {"audio": {"id": "a", "transcript": "t"}}, {"audio": {"expires_at": 1}}
    )

    assert [Audio("a", transcript="t"), Audio(expires_at=1)] == [event.audio for event in events]


def test_logprobs_are_those_of_their_choice():
    """
    A chunk may hold several choices.
    """
    events = Translation().chunk(
        {
            "choices": [
                choice({"content": "a"}, 0, logprobs={"content": [{"token": "a"}]}),
                choice({"content": "b"}, 1, logprobs={"content": [{"token": "b"}]}),
                choice({"content": "c"}, 2),
            ]
        }
    )
    logprobs = [event for event in events if isinstance(event, LogprobsEvent)]

    assert [
        (0, ChoiceLogprobs((TokenLogprob("a"),))),
        (1, ChoiceLogprobs((TokenLogprob("b"),))),
    ] == [(event.index, event.logprobs) for event in logprobs]
    assert ["ContentDelta", "Logprobs"] * 2 + ["ContentDelta"] == [
        kind for kind, *_ in told(events)
    ]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"choices": [], "usage": {"total_tokens": 1}}, ["Usage"]),
        ({"usage": {"total_tokens": 1}, "x": 1}, ["Usage"]),
        ({"choices": [choice()], "usage": {"total_tokens": 1}}, ["Usage"]),
        ({"choices": [], "x": 1}, ["Other"]),
        ({}, ["Other"]),
        ({"choices": [choice()], "x": 1}, []),
    ],
)
def test_a_chunk_without_choices_is_usage_or_something_else(raw, expected):
    """
    Providers put their own news into chunks of their own.
    """
    it = Translation()

    assert expected == [kind for (kind,) in told(it.chunk(raw))]


def test_usage_and_others_carry_what_came():
    """
    With the moment it came.
    """
    it = Translation()
    (usage,) = it.chunk({"usage": {"total_tokens": 1}})
    (other,) = it.chunk({"x": 1})

    assert Usage(total_tokens=1) == usage.usage
    assert {"x": 1} == other.chunk.extra
    assert (0.1, 1, False) == (usage.elapsed, usage.arrived_ns, usage.coalesced)
    assert (0.2, 2, True) == (other.elapsed, other.arrived_ns, other.coalesced)
    assert (UsageEvent, OtherEvent) == (type(usage), type(other))


def test_every_event_says_which_choice_and_when():
    """
    An event that is over belongs to the delta that ended it.
    """
    it = Translation()
    events = it.deltas({"reasoning": "r"}, {"content": "c"}, call("{}", "f"))
    events += it.deltas({"audio": {"data": "AA"}}) + it.finish() + it.deltas({"content": "d"})
    at = len(events)
    events += it.deltas({}) + it.end()

    assert [1, 2, 2, 3, 4, 5, 5, 5, 6, 7] == [event.arrived_ns for event in events]
    assert {0} == {event.index for event in events}
    assert all(event.arrived_ns / 10 == event.elapsed for event in events)
    assert all((event.arrived_ns % 2 == 0) is event.coalesced for event in events)
    assert ContentDoneEvent is type(events[at])
    assert {AudioEvent, FinishEvent, ToolCallDoneEvent} <= {type(event) for event in events}


def test_choices_do_not_mix():
    """
    Each has its own text, calls and reason.
    """
    it = Translation(n=2)
    events = []
    for index, delta in [
        (1, {"reasoning": "r1"}),
        (0, {"content": "c0"}),
        (1, {"content": "c1"}),
        (0, call("a0", "f")),
        (1, call("a1", "g")),
        (0, call("A0")),
    ]:
        events += it.chunk({"choices": [choice(delta, index)]})
    events += it.finish("length", 1)
    last = it.end()

    assert [
        (1, ("ReasoningDelta", "r1")),
        (0, ("ContentDelta", "c0")),
        (1, ("ReasoningDone", "r1")),
        (1, ("ContentDelta", "c1")),
        (0, ("ToolCallDelta", 0, "f", "a0")),
        (1, ("ToolCallDelta", 0, "g", "a1")),
        (0, ("ToolCallDelta", 0, "f", "A0")),
        (1, ("ContentDone", "c1")),
        (1, ("ToolCallDone", 0, "a1")),
        (1, ("Finish", "length")),
    ] == [(event.index, _told(event)) for event in events]
    assert [(0, ("ContentDone", "c0")), (0, ("ToolCallDone", 0, "a0A0"))] == [
        (event.index, _told(event)) for event in last
    ]


def test_the_end_goes_through_the_choices_in_order():
    """
    However they came.
    """
    it = Translation(n=3)
    for index in (2, 0, 1):
        it.chunk({"choices": [choice({"content": str(index)}, index)]})

    assert [(0, "0"), (1, "1"), (2, "2")] == [(event.index, event.text) for event in it.end()]


def test_a_delta_event_prints_without_its_chunk():
    """
    A log line should be about the delta.
    """
    chunk = read_chunk({"choices": [choice({"content": "a"})], "id": "chunk-id"})
    event = DeltaEvent(0.1, 1, False, 0, chunk.choices[0].delta, "a", None, chunk)
    (piece,) = Translation().deltas({"content": "secret"}, {"content": ""})

    assert "chunk-id" not in repr(event)
    assert "content='a'" in repr(event)
    assert repr(piece).startswith("ContentDeltaEvent(")
    assert "pieces" not in repr(piece)


def test_every_event_can_be_shown():
    """
    What is printed while looking for a fault.
    """
    chunk = read_chunk({"choices": [], "usage": {"prompt_tokens": 3}})
    usage = UsageEvent(elapsed=0.5, arrived_ns=1, coalesced=False, usage=chunk.usage, chunk=chunk)
    other = OtherEvent(elapsed=0.5, arrived_ns=1, coalesced=False, chunk=chunk)

    assert "UsageEvent(elapsed=0.5, " in repr(usage)
    assert "OtherEvent(elapsed=0.5, " in repr(other)
