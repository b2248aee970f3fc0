"""A chat in which one speaks at a time."""

import asyncio

import pytest

from chatstream import (
    ChatCompletion,
    DecodeError,
    InterruptedStreamError,
    RequestError,
    Usage,
    assistant,
    system,
    tool,
    tools,
    user,
)
from chatstream.bots.conversation import Conversation, Conversations, SupersededError
from chatstream.completion import CompletionChoice, Message
from chatstream.testing import Profile


def answered(content=None, usage=None, **fields):
    message = Message(content=content, **fields)
    return ChatCompletion(choices=(CompletionChoice(0, message),), usage=usage)


async def talk(conversation, text, answer):
    async with conversation.turn(text) as turn:
        turn.answer(answered(answer))


def texts(messages):
    return [message["content"] for message in messages]


async def turns(count=10):
    """Let other tasks go on."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- What is kept ------------------------------------------------------------------


async def test_a_turn_sends_the_history_and_keeps_the_answer(session, server):
    """
    Over a socket; the server's count of tokens is taken.
    """
    conversation = Conversation(system="Be brief.")
    for text in ("say one", "say two"):
        async with (
            conversation.turn(text) as turn,
            session.stream(model="m", messages=turn.messages) as stream,
        ):
            turn.answer(stream)
            await stream.collect()

    usage = stream.completion.usage
    assert ["Be brief.", "say one", "one", "say two"] == texts(server.requests[1].body["messages"])
    assert ["Be brief.", "say one", "one", "say two", "two"] == texts(conversation.messages)
    assert usage.prompt_tokens + usage.completion_tokens == conversation.tokens


async def test_messages_may_be_of_any_kind():
    conversation = Conversation(system={"role": "developer", "content": "Be brief."})
    async with conversation.turn(user("Hi"), {"role": "user", "content": "you"}) as turn:
        turn.answer(answered("Hello"))

    assert ["developer", "user", "user", "assistant"] == [m["role"] for m in conversation.messages]
    with pytest.raises(RequestError, match="what the user says"):
        conversation.turn()


async def test_what_a_stopped_answer_said_is_kept(session, server):
    """
    The user has seen it.
    """
    server.profile = Profile(time_to_first_token=0, gap=60)
    conversation = Conversation()
    async with (
        conversation.turn("say one two") as turn,
        session.stream(model="m", messages=turn.messages) as stream,
    ):
        turn.answer(stream)
        async for _ in stream.text():
            break

    assert ["say one two", "one"] == texts(conversation.messages)


async def test_what_a_failed_answer_said_is_kept():
    conversation = Conversation()
    error = InterruptedStreamError(1)
    error.partial = answered("One")

    with pytest.raises(InterruptedStreamError):
        async with conversation.turn("Count"):
            raise error

    assert ["Count", "One"] == texts(conversation.messages)


@pytest.mark.parametrize("answer", [None, answered(), answered("", reasoning="Hm.")])
async def test_without_an_answer_what_was_said_is_taken_back(answer):
    """
    So that it can be said again.
    """
    conversation = Conversation()
    async with conversation.turn("Hi") as turn:
        if answer is not None:
            turn.answer(answer)
    with pytest.raises(InterruptedStreamError):
        async with conversation.turn("Hi"):
            raise InterruptedStreamError(1)

    assert [] == conversation.messages
    assert not conversation.busy


async def test_a_run_is_kept_with_its_calls(session):
    """
    Each with its result, and the tokens of the last answer.
    """

    async def clock() -> str:
        return "noon"

    conversation = Conversation()
    async with (
        conversation.turn("clock") as turn,
        tools.run(session, turn.messages, tools=[clock], model="m") as run,
    ):
        turn.answer(run)
        await run.collect()

    usage = run.completion.usage
    assert ["user", "assistant", "tool", "assistant"] == [m["role"] for m in conversation.messages]
    assert usage.prompt_tokens + usage.completion_tokens == conversation.tokens


async def test_calls_made_by_hand_are_kept_with_their_results():
    conversation = Conversation()
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    async with conversation.turn("Hi") as turn:
        turn.add(assistant(tool_calls=[call]), tool("1", tool_call_id="x"))
        sent = turn.messages
        turn.add(assistant(tool_calls=[call | {"id": "y"}]))
        turn.answer(answered("One"))

    assert ["user", "assistant", "tool"] == [message["role"] for message in sent]
    assert [*sent, {"role": "assistant", "content": "One"}] == conversation.messages


async def test_reasoning_goes_back_if_the_server_wants_it():
    conversation = Conversation(reasoning_key="reasoning_content")
    async with conversation.turn("Hi") as turn:
        turn.answer(answered("One", reasoning="Hm."))

    assert "Hm." == conversation.messages[1]["reasoning_content"]


async def test_what_does_not_fit_is_left_out():
    conversation = Conversation(max_messages=3, system="s")
    for text, answer in (("a", "b"), ("c", "d")):
        await talk(conversation, text, answer)
    async with conversation.turn("e") as turn:
        assert ["s", "c", "d", "e"] == texts(turn.messages)


async def test_clearing_forgets_the_turns():
    conversation = Conversation(system="s")
    await talk(conversation, "a", "b")
    conversation.clear()

    assert ["s"] == texts(conversation.messages)


async def test_what_was_saved_goes_on_with_other_options():
    saved = Conversation(system=system("old"))
    async with saved.turn("a") as turn:
        turn.answer(answered("b", Usage(30, 5)))
    conversation = Conversation.from_json(saved.to_json(), system="new", max_messages=9)

    assert ["new", "a", "b"] == texts(conversation.messages)
    assert 35 == conversation.tokens
    with pytest.raises(DecodeError, match=r"^\$\.turns"):
        Conversation.from_json('{"version": 1, "overhead": 0}')


# --- Whose turn it is ----------------------------------------------------------------


async def test_messages_wait_for_the_answer_to_those_before():
    conversation = Conversation()
    told, log = asyncio.Event(), []

    async def speak(text):
        async with conversation.turn(text) as turn:
            log.append(texts(turn.messages))
            await told.wait()
            turn.answer(answered(text.upper()))

    tasks = [asyncio.create_task(speak(text)) for text in "abc"]
    await turns()
    assert conversation.busy
    assert [["a"]] == log

    told.set()
    await asyncio.gather(*tasks)
    assert [["a"], ["a", "A", "b"], ["a", "A", "b", "B", "c"]] == log
    assert not conversation.busy


async def test_a_message_that_is_cancelled_while_it_waits_was_never_said():
    conversation = Conversation()
    async with conversation.turn("a") as turn:
        waiting = asyncio.create_task(talk(conversation, "b", "B"))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        turn.answer(answered("A"))
    await talk(conversation, "c", "C")

    assert ["a", "A", "c", "C"] == texts(conversation.messages)


async def test_a_newer_message_breaks_off_the_answer(session, server):
    """
    What it said is kept: the user saw it.
    """
    server.profile = Profile(time_to_first_token=0, gap=60)
    conversation = Conversation(policy="cancel-previous")
    began = asyncio.Event()

    async def first():
        async with (
            conversation.turn("say one two") as turn,
            session.stream(model="m", messages=turn.messages) as stream,
        ):
            turn.answer(stream)
            async for _ in stream.text():
                began.set()

    task = asyncio.create_task(first())
    await began.wait()
    async with conversation.turn("Stop.") as turn:
        assert ["say one two", "one", "Stop."] == texts(turn.messages)
        turn.answer(answered("Yes."))

    with pytest.raises(SupersededError):
        await task
    assert ["say one two", "one", "Stop.", "Yes."] == texts(conversation.messages)


async def test_what_was_said_without_an_answer_comes_before_the_newer_message():
    """
    "A joke", "about cats": the second alone would make no sense.
    """
    conversation = Conversation(policy="cancel-previous")

    async def speak(text):
        async with conversation.turn(text):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(speak(text)) for text in ("A joke", "about cats")]
    await turns()
    async with conversation.turn("and dogs") as turn:
        assert ["A joke", "about cats", "and dogs"] == texts(turn.messages)
        turn.answer(answered("No."))
    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert [SupersededError, SupersededError] == [type(end) for end in ends]
    assert ["A joke", "about cats", "and dogs", "No."] == texts(conversation.messages)


async def test_a_newer_message_that_fails_takes_all_of_them_back():
    conversation = Conversation(policy="cancel-previous")
    task = asyncio.create_task(_wait_in(conversation.turn("a")))
    await turns()
    async with conversation.turn("b"):
        pass
    with pytest.raises(SupersededError):
        await task
    async with conversation.turn("c") as turn:
        assert ["c"] == texts(turn.messages)


async def _wait_in(turn):
    async with turn:
        await asyncio.Event().wait()


@pytest.mark.parametrize("policy", ["queue", "cancel-previous"])
async def test_whenever_turns_are_cancelled_the_next_one_comes(policy):
    """
    And each ends with a cancellation of its own, with a newer turn's, or well.
    """

    async def speak(conversation, text):
        async with conversation.turn(text) as turn:
            turn.answer(answered(text.upper()))
            await turns(3)

    for victim in range(3):
        for wait in range(12):
            conversation = Conversation(policy=policy)
            tasks = [asyncio.create_task(speak(conversation, text)) for text in "abc"]
            await turns(wait)
            tasks[victim].cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.wait_for(speak(conversation, "d"), 1)
            history = texts(conversation.messages)

            assert {type(end) for end in ends} <= {
                type(None),
                asyncio.CancelledError,
                SupersededError,
            }
            assert ["d", "D"] == history[-2:]
            assert sorted(set(history)) == sorted(history), "nothing is said twice"
            assert not conversation.busy


async def test_a_turn_is_entered_once():
    turn = Conversation().turn("a")
    async with turn:
        with pytest.raises(RuntimeError, match="entered once"):
            await turn.__aenter__()


def test_there_are_two_policies():
    with pytest.raises(RequestError, match="queue or cancel-previous"):
        Conversation(policy="drop")


# --- Many chats ----------------------------------------------------------------------


def test_each_chat_has_its_own_conversation():
    chats = Conversations(Conversation)

    assert chats[1] is chats[1]
    assert chats[1] is not chats[2]
    assert 2 == len(chats)


def test_those_go_that_nobody_asked_for_the_longest():
    chats = Conversations(Conversation, limit=2)
    for chat in (1, 2, 1, 3):
        chats[chat]

    assert [True, False, True] == [chat in chats for chat in (1, 2, 3)]


async def test_who_is_being_answered_stays():
    """
    Else the answer would be kept where nobody looks.
    """
    chats = Conversations(Conversation, limit=1)
    async with chats[1].turn("a"):
        chats[2]
        assert 1 in chats
    chats[3]

    assert [False, False, True] == [chat in chats for chat in (1, 2, 3)]


def test_conversations_are_put_in_and_taken_out():
    """
    As those that were saved.
    """
    chats, saved = Conversations(Conversation, limit=1), Conversation()
    chats[1]
    chats[2] = saved

    assert saved is chats[2]
    assert 1 not in chats
    del chats[2]
    assert 0 == len(chats)
    with pytest.raises(KeyError):
        del chats[2]
    with pytest.raises(RequestError, match="limit"):
        Conversations(Conversation, limit=0)
