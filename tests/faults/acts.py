"""What the tests of events and of clients share: a question, answers, and a look at an error."""

import asyncio
import contextlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
import traceback

from attrs import define

from chatstream import (
    ChatSession,
    ChatStream,
    ChatStreamError,
    RetryPolicy,
    Timeouts,
    Verdict,
    to_dict,
)

KEY = "sk-canary-0123456789"
PROMPT = "canary prompt: the colour of secrets"
ASK = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
ONCE = RetryPolicy(1)
GIVEN_UP = 5
"""Seconds after which something that happens at once didn't."""


def frame(what):
    """An event of the stream: bytes as they are, text as data, anything else as its JSON."""
    if isinstance(what, bytes):
        return what
    text = what if isinstance(what, str) else json.dumps(what)
    return f"data: {text}\n\n".encode("utf-8", "surrogatepass")


def said(content=None, finish_reason=None, index=0, **delta):
    """One choice of a chunk."""
    if content is not None:
        delta = {"content": content, **delta}
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


def chunk(*choices, **envelope):
    """Make a chunk of these choices; one that is no object is the content of the first."""
    choices = [choice if isinstance(choice, dict) else said(choice) for choice in choices]
    return {"id": "c", "created": 1, "model": "m", "choices": choices, **envelope}


STOP = chunk(said(finish_reason="stop"))
DONE = "[DONE]"


async def until(condition):
    """Return when *condition* is true, of what tells no event of its own: sockets, tasks."""
    async with asyncio.timeout(GIVEN_UP):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def child(code, *arguments, **environment):
    """Run *code* in a process of its own, in which every warning is shown."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "always", "-c", textwrap.dedent(code), *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "COVERAGE_PROCESS_START": "", **environment},
    )


@define
class Played:
    """How an answer was read."""

    stream: ChatStream
    events: list
    error: ChatStreamError | None

    @property
    def text(self):
        return self.stream.completion.text

    @property
    def message(self):
        return self.stream.completion.choices[0].message

    @property
    def calls(self):
        return [
            (call.id, call.function.name, call.function.arguments)
            for call in self.message.tool_calls
        ]


@define
class Player:
    """Answers with frames over a real socket, and reads them through a session."""

    raw_server: object
    wire: object

    async def __call__(self, *frames, ends=True, **params):
        """Read an answer twice: as deltas, and as the typed events that are returned too.

        If its body *ends*, the connection serves again. One that goes on is left,
        and its connection closed. An error keeps what came, and says nothing of it,
        of the prompt or of the key.
        """
        body, gone = b"".join(map(frame, frames)), []
        if ends:
            answered = self.wire.response(body)
        else:
            answered = self.wire.STREAM_HEAD + self.wire.http_chunk(body)

        async def answer(connection):
            closed = asyncio.Event()
            gone.append(closed)
            while await connection.request() is not None:
                await connection.send(answered)
            closed.set()

        raw = await self.raw_server(answer)
        before = asyncio.all_tasks()
        in_time = Timeouts(first_token=GIVEN_UP, idle=GIVEN_UP)
        async with ChatSession(raw.base_url, KEY, retry=ONCE, timeouts=in_time) as session:
            played = await read(session.stream(ASK, **params))
            typed = await read(session.stream(ASK, **params), ChatStream.events)
            if ends:
                assert 1 == raw.connections
            else:
                async with asyncio.timeout(GIVEN_UP):
                    await asyncio.gather(*(closed.wait() for closed in gone))
                assert 2 == raw.connections
            if played.error is not None:
                look_at(played.error, played.text)
            assert before == asyncio.all_tasks() - raw._tasks
        assert type(played.error) is type(typed.error)
        assert played.stream.completion == typed.stream.completion
        json.dumps(to_dict(played.stream.completion), ensure_ascii=False).encode()
        json.dumps(played.stream.report.to_dict(), allow_nan=False)
        return played, typed.events


async def read(stream, way=aiter):
    """Read *stream* to its end, well or not."""
    events, error = [], None
    try:
        async with stream:
            async for event in way(stream):
                events.append(event)  # noqa: PERF401 they must survive an error
    except ChatStreamError as caught:
        error = caught
    assert error is not None or stream.verdict is not Verdict.TRUNCATED
    return Played(stream, events, error)


def look_at(error, text=""):
    """See that *error* has what came, and tells neither that nor secrets."""
    sentences, everything = shown_of(error)

    assert error.partial.text == text
    assert error.report.verdict is error.partial.verdict
    assert type(error).__name__ == error.report.error
    assert len(text) < 4 or text not in sentences
    assert KEY not in everything
    assert PROMPT not in everything


def shown_of(error):
    """What *error* and those behind it say of themselves, and all that a tracker may show."""
    sentences, everything = [], []
    known, ahead = set(), [error]
    while ahead:
        one = ahead.pop()
        if one is None or id(one) in known:
            continue
        known.add(id(one))
        sentences += [str(one), repr(one), repr(one.args)]
        everything += [repr(vars(one)), *traceback.format_exception(one)]
        with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
            everything.append(repr(pickle.dumps(one)))
        ahead += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return "\n".join(sentences), "\n".join(sentences + everything)
