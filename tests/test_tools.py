"""Functions that a model calls, round by round."""

import asyncio
import datetime as dt
import threading
from typing import Annotated, Literal

import attrs
import orjson
import pytest

from chatstream import (
    ChatCompletion,
    ChatStream,
    DecodeError,
    InterruptedStreamError,
    RequestError,
    Verdict,
    assistant,
    tools,
    user,
)
from chatstream.completion import Audio, CompletionChoice, Message, ToolCall
from chatstream.events import ContentDeltaEvent, ToolCallDoneEvent
from chatstream.schema import UnsupportedTypeError
from chatstream.testing import FakeClock
from chatstream.testing.scripted import scripted
from chatstream.tools import CallEndedEvent, CallStartedEvent, RoundsError, Tool, words_of

ASK = [user("Oslo?")]


@attrs.frozen
class Weather:
    city: str
    celsius: float
    at: dt.time = dt.time(0, 0, 0, 10_000)


async def weather(city: Annotated[str, "Where to look"], unit: Literal["c", "f"] = "c") -> str:
    """Tell the weather of a city."""
    return f"Sunny in {city}, °{unit}"


def clock(zone: str) -> str:
    """Tell the time."""
    return f"noon in {zone}"


class Talks:
    """A session whose answers are scripted, each as the bytes of its stream.

    ``None`` in place of the end keeps a stream open.
    """

    def __init__(self, *answers):
        self._answers = list(answers)
        self.asked = []
        self.streams = []

    def stream(self, **params):
        self.asked.append(params)
        clock = FakeClock()
        source = scripted(clock, *((0.1, piece) for piece in self._answers.pop(0)))
        stream = ChatStream(source, clock=clock, call_later=clock.call_later)
        self.streams.append(stream)
        return stream


def chunk(finish_reason=None, **delta):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: %b\n\n" % orjson.dumps({"id": "c", "choices": [choice]})


def calls(*wanted, content=None, finish_reason="tool_calls", **message):
    """An answer that calls functions, each given as its name and the JSON text of arguments."""
    pieces = [
        {"index": at, "id": f"id{at}", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(wanted)
    ]
    message |= {} if content is None else {"content": content}
    return (
        chunk(role="assistant", **message),
        chunk(tool_calls=pieces),
        chunk(finish_reason=finish_reason),
        b"data: [DONE]\n\n",
    )


def says(*texts, finish_reason="stop"):
    return (*(chunk(content=text) for text in texts), chunk(finish_reason=finish_reason))


def roles(messages):
    return [m["role"] if isinstance(m, dict) else m.role for m in messages]


def results(messages):
    """What the model was told, by the ids of its calls."""
    return {m.tool_call_id: m.content for m in messages if getattr(m, "role", "") == "tool"}


async def told(function, arguments="{}", **options):
    """What a model is told of one call, and the event of it."""
    session = Talks(calls((getattr(function, "__name__", "f"), arguments)), says("Done."))
    async with tools.run(session, ASK, tools=[function], **options) as run:
        events = [event async for event in run]
    [ended] = [event for event in events if isinstance(event, CallEndedEvent)]
    assert [ended.content] == list(results(run.messages).values())
    return ended


# --- What happens ------------------------------------------------------------------


async def test_a_model_calls_and_then_answers(session, server):
    """
    Over a socket, with all that a server checks of a request.
    """
    ask = [user("weather and clock")]
    async with tools.run(session, ask, tools=[weather, clock], model="m", seed=1) as run:
        events = [event async for event in run]

    first, second = (request.body for request in server.requests)
    kinds = [type(event) for event in events]
    assert ["weather", "clock"] == [each["function"]["name"] for each in first["tools"]]
    assert "Tell the weather of a city." == first["tools"][0]["function"]["description"]
    assert 1 == first["seed"] == second["seed"]
    assert ["user", "assistant", "tool", "tool"] == [m["role"] for m in second["messages"]]
    assert "Sunny in city, °c" == second["messages"][2]["content"]
    assert [2, 2] == [kinds.count(ToolCallDoneEvent), kinds.count(CallStartedEvent)]
    assert kinds.index(CallEndedEvent) < kinds.index(ContentDeltaEvent)
    assert ["user", "assistant", "tool", "tool", "assistant"] == roles(run.messages)
    assert run.completion.text == run.messages[-1]["content"]
    assert [Verdict.FINISHED] * 2 == [report.verdict for report in run.reports]
    assert run.messages[1:] == run.added


async def test_texts_of_two_rounds_have_an_empty_line_between_them():
    """
    They would run together in a chat.
    """
    session = Talks(
        calls(("weather", '{"city": "Oslo"}'), content="Let me look."),
        calls(("weather", '{"city": "Rome"}')),
        says("It is", " sunny."),
    )
    async with tools.run(session, ASK, tools=[weather]) as run:
        texts = [text async for text in run.text()]

    assert ["Let me look.", "\n\nIt is", " sunny."] == texts


async def test_without_text_before_it_an_answer_begins_at_once():
    session = Talks(calls(("clock", '{"zone": "CET"}')), says("Noon."))
    async with tools.run(session, ASK, tools=[clock]) as run:
        assert ["Noon."] == [text async for text in run.text()]


async def test_collect_runs_to_the_end():
    session = Talks(calls(("clock", '{"zone": "CET"}')), says("Noon."))
    async with tools.run(session, ASK, tools=[clock], model="m") as run:
        completion = await run.collect()

    assert "Noon." == completion.text
    assert {"id0": "noon in CET"} == results(session.asked[1]["messages"])


async def test_collect_takes_the_rest():
    session = Talks(calls(("clock", '{"zone": "CET"}')), says("Noon."))
    async with tools.run(session, ASK, tools=[clock]) as run:
        async for _ in run:
            break
        completion = await run.collect()

    assert "Noon." == completion.text


async def test_calls_of_a_round_run_side_by_side():
    """
    The first to end is told first; the model gets the results in the order of its calls.
    """
    told = asyncio.Event()

    async def slow() -> str:
        await told.wait()
        return "slow"

    async def quick() -> str:
        return "quick"

    session = Talks(calls(("slow", "{}"), ("quick", "{}")), says("Done."))
    ended = []
    async with tools.run(session, ASK, tools=[slow, quick]) as run:
        async for event in run:
            if isinstance(event, CallEndedEvent):
                ended.append(event.name)
                told.set()

    assert ["quick", "slow"] == ended
    assert ["slow", "quick"] == list(results(run.messages).values())


async def test_a_function_that_is_not_async_runs_in_a_thread():
    """
    Or it would hold up all streams of the loop.
    """
    seen = []

    def blocking() -> None:
        seen.append(threading.current_thread())

    await told(blocking)

    assert seen != [threading.main_thread()]


# --- Results -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "result"),
    [
        ("as it is", "as it is"),
        ("", ""),
        ("null", None),
        ("[1,2.5,true]", [1, 2.5, True]),
        (
            '{"city":"Oslo","celsius":1.0,"at":"00:00:00.010000"}',
            Weather("Oslo", 1.0),
        ),
        ("half a pair: �", "half a pair: \ud83d"),
    ],
)
async def test_a_result_is_text_or_json(expected, result):
    def sync():
        return result

    async def later():
        return result

    assert expected == (await told(sync)).content
    assert expected == (await told(later)).content


async def test_what_a_function_returns_may_have_to_be_awaited():
    def lazy():
        return weather("Oslo")

    assert "Sunny in Oslo, °c" == (await told(lazy)).content


async def test_arguments_are_of_the_types_that_the_function_has():
    taken = []

    def take(weather: Weather, unit: Literal["c", "f"] = "c") -> None:
        taken.append((weather, unit))

    await told(take, '{"weather": {"city": "Oslo", "celsius": 1}}')

    assert [(Weather("Oslo", 1.0), "c")] == taken


@pytest.mark.parametrize("error", [ValueError("no such city"), StopIteration("no such city")])
async def test_what_a_function_raises_is_told_to_the_model(error):
    """
    It can try something else. A future takes no ``StopIteration`` and would wait for ever.
    """

    def fail():
        raise error

    async def fail_later():
        await asyncio.sleep(0)
        raise ValueError("no such\ncity")

    ended = await told(fail)
    later = await told(fail_later)

    assert f"{type(error).__name__}: no such city" == ended.content
    assert error is ended.error
    assert ended.duration >= 0
    assert "ValueError: no such city" == later.content


@pytest.mark.parametrize("make", [object, lambda: {"x": "\ud83d"}])
async def test_a_result_that_is_no_json_is_told_as_an_error(make):
    async def later():
        return make()

    ended = await told(later)

    assert isinstance(ended.error, TypeError)
    assert ended.content.startswith("TypeError: ")


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        ("wrong arguments: $.city: expected string, got integer", '{"city": 1}'),
        ("wrong arguments: $.city: expected string, got nothing", ""),
        (
            "wrong arguments: $: expected no keys but city, unit, got town",
            '{"city": "", "town": 1}',
        ),
        (
            'wrong arguments: $.unit: expected "c" or "f", got another string',
            '{"city": "", "unit": "k"}',
        ),
        ("wrong arguments: $: expected JSON, got the end at character 8 of 8", '{"city":'),
        ("wrong arguments: $: expected object, got list", "[]"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_to_the_model(expected, arguments):
    ended = await told(weather, arguments)

    assert expected == ended.content
    assert isinstance(ended.error, DecodeError)
    assert ended.duration is None


async def test_a_function_nobody_gave_is_told_to_the_model():
    session = Talks(calls(("fly", "{}")), calls(("fly", "{}")), says("I can't."))
    async with tools.run(session, ASK, tools=[weather, clock]) as run:
        await run.collect()
    async with tools.run(Talks(calls(("fly", "{}")), says("No.")), ASK, tools=[]) as empty:
        await empty.collect()

    expected = "there is no function of that name, there are: "
    assert {"id0": expected + "weather, clock"} == results(run.messages)
    assert {"id0": expected + "none"} == results(empty.messages)


# --- Tools -------------------------------------------------------------------------


async def test_a_tool_may_be_written_by_hand():
    """
    It gets what the model wrote.
    """
    by_hand = Tool(
        name="f", parameters={"type": "object"}, call=lambda **given: sorted(given.items())
    )

    assert '[["a",1]]' == (await told(by_hand, '{"a": 1}')).content
    assert {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object"}},
    } == by_hand.to_param()


def test_a_tool_of_a_function_can_have_another_name_and_be_strict():
    made = Tool.of(weather, name="look", description="Look it up.", strict=True)

    function = made.to_param()["function"]
    assert ("look", "Look it up.", True) == (
        function["name"],
        function["description"],
        function["strict"],
    )
    assert ["city", "unit"] == function["parameters"]["required"]


@pytest.mark.parametrize(
    ("parameter", "options"),
    [
        ("tools", {"tools": [weather, Tool.of(clock, name="weather")]}),
        ("max_rounds", {"tools": [], "max_rounds": 0}),
        ("n", {"tools": [], "n": 2}),
    ],
)
def test_what_makes_no_sense_is_refused(parameter, options):
    with pytest.raises(RequestError) as caught:
        tools.run(Talks(), ASK, **options)

    assert parameter == caught.value.parameter


def test_a_function_without_a_signature_for_json_is_refused():
    def wrong(x: bytes): ...

    with pytest.raises(UnsupportedTypeError, match=r"wrong\.x"):
        tools.run(Talks(), ASK, tools=[wrong])


# --- Approval ----------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
async def test_what_the_user_declines_is_not_called(later):
    asked = []

    def decide(call):
        asked.append(call)
        return call.name == "weather"

    async def decide_later(call):
        return decide(call)

    session = Talks(
        calls(("weather", '{"city": "Oslo"}'), ("clock", '{"zone": "CET"}')), says("Done.")
    )
    approve = decide_later if later else decide
    async with tools.run(session, ASK, tools=[weather, clock], approve=approve) as run:
        await run.collect()

    assert [("id0", {"city": "Oslo"}), ("id1", {"zone": "CET"})] == [
        (call.id, call.arguments) for call in asked
    ]
    assert ["Sunny in Oslo, °c", "the user declined this call"] == list(
        results(run.messages).values()
    )


async def test_one_approval_is_asked_for_at_a_time():
    """
    Two questions at once would mix in a terminal.
    """
    open_now = 0

    async def approve(call):
        nonlocal open_now
        open_now += 1
        await asyncio.sleep(0)
        assert 1 == open_now
        open_now -= 1
        return True

    session = Talks(calls(*[("clock", '{"zone": "CET"}')] * 3), says("Done."))
    async with tools.run(session, ASK, tools=[clock], approve=approve) as run:
        await run.collect()

    assert 3 == len(results(run.messages))


async def test_what_approval_raises_is_raised():
    """
    The model has no part in it; the other calls end.
    """
    cancelled = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def approve(call):
        await asyncio.sleep(0)
        if call.name == "clock":
            raise LookupError("who?")
        return True

    session = Talks(calls(("waits", "{}"), ("clock", '{"zone": "CET"}')))
    with pytest.raises(LookupError):
        async with tools.run(session, ASK, tools=[waits, clock], approve=approve) as run:
            await run.collect()

    assert cancelled.is_set()
    assert ["user"] == roles(run.messages)


# --- Rounds ------------------------------------------------------------------------


async def test_rounds_are_bounded():
    """
    What was called is kept: another run can go on from there.
    """
    session = Talks(*[calls(("clock", '{"zone": "CET"}'))] * 2)
    async with tools.run(session, ASK, tools=[clock], max_rounds=2) as run:
        with pytest.raises(RoundsError, match="after 2 rounds") as caught:
            await run.collect()

    assert 2 == caught.value.rounds
    assert ["user", *["assistant", "tool"] * 2] == roles(run.messages)
    assert caught.value.partial == run.completion
    assert caught.value.report.verdict is Verdict.FINISHED


@pytest.mark.parametrize(
    ("expected", "choice"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("auto", "required"),
        ("auto", {"type": "function", "function": {"name": "clock"}}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}},
        ),
    ],
)
async def test_a_forced_call_is_forced_once(expected, choice):
    """
    Else the model could never come to words.
    """
    session = Talks(calls(("clock", '{"zone": "CET"}')), says("Noon."))
    async with tools.run(session, ASK, tools=[clock], tool_choice=choice) as run:
        await run.collect()

    assert [choice, expected] == [asked["tool_choice"] for asked in session.asked]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_was_cut_has_no_calls(reason):
    """
    Half of the arguments are none.
    """
    cut = calls(("clock", '{"zone":'), content="I look", finish_reason=reason)
    async with tools.run(Talks(cut), ASK, tools=[clock]) as run:
        completion = await run.collect()

    assert reason == completion.verdict
    assert [{"role": "assistant", "content": "I look"}] == run.added


async def test_calls_without_ids_get_some():
    """
    A result must say which call it is of.
    """
    call = {"function": {"name": "clock", "arguments": '{"zone": "CET"}'}}
    answer = (
        chunk(tool_calls=[{"index": 0} | call, {"index": 1, "id": "x"} | call]),
        chunk(tool_calls=[{"index": 2, "id": "x"} | call]),
        chunk(finish_reason="tool_calls"),
    )
    async with tools.run(Talks(answer, says("Noon.")), ASK, tools=[clock]) as run:
        await run.collect()

    ids = [call["id"] for call in run.added[0]["tool_calls"]]
    assert len(set(ids)) == len(ids)
    assert ids == list(results(run.messages))


async def test_a_custom_call_is_of_no_function():
    answer = (
        chunk(tool_calls=[{"index": 0, "id": "x", "custom": {"name": "c", "input": "i"}}]),
        chunk(finish_reason="tool_calls"),
    )
    async with tools.run(Talks(answer, says("Noon.")), ASK, tools=[clock]) as run:
        await run.collect()

    assert "custom" in run.added[0]["tool_calls"][0]
    assert ["x"] == list(results(run.messages))


@pytest.mark.parametrize(
    ("expected", "key"),
    [
        ({}, None),
        ({"reasoning_content": "Hm."}, "reasoning_content"),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}, "reasoning_details"),
    ],
)
async def test_reasoning_goes_back_if_the_server_wants_it(expected, key):
    thought = {
        "reasoning": "Hm.",
        "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
    }
    session = Talks(calls(("clock", '{"zone": "CET"}'), **thought), says("Noon."))
    async with tools.run(session, ASK, tools=[clock], reasoning_key=key) as run:
        await run.collect()

    message = session.asked[1]["messages"][1]
    assert expected == {name: value for name, value in message.items() if "reasoning" in name}


# --- Ends --------------------------------------------------------------------------


async def test_an_error_of_a_stream_is_raised_and_what_was_said_is_kept():
    """
    The words of the round before it, and those of its own.
    """
    session = Talks(calls(("clock", '{"zone": "CET"}')), (chunk(content="It is"),))
    async with tools.run(session, ASK, tools=[clock]) as run:
        with pytest.raises(InterruptedStreamError):
            await run.collect()

    assert ["user", "assistant", "tool", "assistant"] == roles(run.messages)
    assert "It is" == run.messages[-1]["content"]


async def test_leaving_ends_the_stream():
    session = Talks((chunk(content="It"), None))
    async with tools.run(session, ASK, tools=[clock]) as run:
        async for _ in run:
            break

    assert Verdict.CLOSED is session.streams[0].verdict
    assert "It" == run.completion.text


async def test_leaving_ends_the_calls_and_keeps_those_that_were_made():
    """
    A table that was booked stays booked, and the model must know.
    """
    ended = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    session = Talks(calls(("waits", "{}"), ("clock", '{"zone": "CET"}')))
    async with tools.run(session, ASK, tools=[waits, clock]) as run:
        async for event in run:
            if isinstance(event, CallEndedEvent):
                break

    assert [True] == ended
    assert ["user", "assistant", "tool", "tool"] == roles(run.messages)
    assert {"id0": tools.BROKEN_OFF, "id1": "noon in CET"} == results(run.messages)


async def test_leaving_after_the_last_call_keeps_the_round():
    async with tools.run(Talks(calls(("clock", '{"zone": "CET"}'))), ASK, tools=[clock]) as run:
        async for event in run:
            if isinstance(event, CallEndedEvent):
                break

    assert {"id0": "noon in CET"} == results(run.messages)


async def test_cancelling_ends_the_calls():
    started, ended = asyncio.Event(), []

    async def waits() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def work():
        async with tools.run(Talks(calls(("waits", "{}"))), ASK, tools=[waits]) as run:
            await run.collect()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert [True] == ended


@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_wherever_a_run_ends_its_messages_can_be_sent(how):
    """
    No call without its result, no task left; closed it ends quietly.
    """
    ends = set()

    async def slow(turns: int) -> str:
        for _ in range(turns):
            await asyncio.sleep(0)
        return "slow"

    async def work(run):
        async with run:
            await run.collect()

    for turns in range(60):
        answers = [calls(("slow", '{"turns": 9}'), ("slow", '{"turns": 3}'))] * 2
        session = Talks(*answers, says("Done", "."))
        run = tools.run(session, ASK, tools=[slow])
        task = asyncio.create_task(work(run))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel() if how == "cancelled" else await run.aclose()
        [error] = await asyncio.gather(task, return_exceptions=True)
        wanted = [
            call["id"]
            for message in run.messages
            if isinstance(message, dict)
            for call in message.get("tool_calls") or ()
        ]
        told = [message for message in run.messages if getattr(message, "role", "") == "tool"]
        ends.add((len(wanted), run.completion.text))

        assert error is None or (how == "cancelled" and type(error) is asyncio.CancelledError)
        assert wanted == [message.tool_call_id for message in told]
    assert {0, 2, 4} == {wanted for wanted, _ in ends}
    assert "Done." in {text for _, text in ends}


async def test_closing_from_another_task_ends_a_stream_quietly():
    session = Talks((chunk(content="It"), None))
    async with tools.run(session, ASK, tools=[clock]) as run:
        texts = []
        async for text in run.text():
            texts.append(text)
            await run.aclose()

    assert ["It"] == texts
    assert Verdict.CLOSED is run.completion.verdict
    assert "It" == run.messages[-1]["content"]


async def test_closing_from_another_task_ends_calls_quietly():
    started = asyncio.Event()

    async def waits() -> None:
        started.set()
        await asyncio.Event().wait()

    session = Talks(calls(("waits", "{}"), ("waits", "{}"), content="Let me see."))
    async with tools.run(session, ASK, tools=[waits]) as run:
        stop = asyncio.create_task(_after(started, run.aclose))
        completion = await run.collect()
        await stop

    assert "Let me see." == completion.text
    assert [{"role": "assistant", "content": "Let me see."}] == run.added


async def test_closing_before_the_calls_makes_none():
    called = []

    async def note() -> None:
        called.append(True)

    async with tools.run(Talks(calls(("note", "{}"))), ASK, tools=[note]) as run:
        async for event in run:
            if isinstance(event, CallStartedEvent):
                await run.aclose()

    assert [] == called


async def test_closing_before_it_begins_sends_nothing():
    session = Talks()
    async with tools.run(session, ASK, tools=[clock]) as run:
        await run.aclose()
        completion = await run.collect()

    assert [] == session.asked
    assert ChatCompletion() == completion


async def test_a_function_that_cancels_itself_cancels_the_run():
    """
    Cancellation is no result.
    """

    async def gives_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await told(gives_up)


async def _after(event, act):
    await event.wait()
    await act()


async def test_a_run_is_entered_and_iterated_once():
    run = tools.run(Talks(says("Hi")), ASK, tools=[])
    with pytest.raises(RuntimeError, match="entered first"):
        run.text()
    async with run:
        with pytest.raises(RuntimeError, match="entered once"):
            await run.__aenter__()
        await run.collect()
        with pytest.raises(RuntimeError, match="iterated once"):
            run.text()


# --- Words -------------------------------------------------------------------------


def answer_of(**fields):
    return ChatCompletion(choices=(CompletionChoice(0, Message(**fields)),))


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (None, ChatCompletion()),
        (None, answer_of()),
        (None, answer_of(content="", reasoning="Hm.")),
        (None, answer_of(tool_calls=(ToolCall("x"),))),
        ({"role": "assistant", "content": "Hi"}, answer_of(content="Hi")),
        ({"role": "assistant", "content": None, "refusal": "No."}, answer_of(refusal="No.")),
        ({"role": "assistant", "content": None, "audio": {"id": "a"}}, answer_of(audio=Audio("a"))),
        (
            {"role": "assistant", "content": "Hi"},
            answer_of(content="Hi", tool_calls=(ToolCall("x"),)),
        ),
    ],
)
def test_the_words_of_an_answer_go_back_without_its_calls(expected, answer):
    assert expected == words_of(answer)


async def test_before_it_begins_a_run_is_what_it_was_given():
    given = [user("Hi"), assistant("Hello")]
    async with tools.run(Talks(), given, tools=[]) as run:
        pass

    assert given == run.messages
    assert ([], (), ChatCompletion()) == (run.added, run.reports, run.completion)
