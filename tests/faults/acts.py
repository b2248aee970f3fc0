"""What all tests of faults share: a question, answers as frames, and what is shown or left."""

import asyncio
import contextlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

from attrs import define

from chatstream import ChatStream, ChatStreamError, RetryPolicy, Verdict
from tests.canaries import KEY, OUTPUT, PROMPT

ASK = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
ONCE = RetryPolicy(1)
SOON = 0.05
"""Seconds after which a clock runs out where nothing is to come."""


# --- Answers --------------------------------------------------------------------------

UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
"""The head of an answer that ends with its connection."""


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


# --- Servers --------------------------------------------------------------------------


async def mute(connection):
    """Say nothing, until the client goes."""
    await connection.gone()


# --- Readers --------------------------------------------------------------------------


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


async def child(code, *arguments, **environment):
    """Run *code* in a process of its own, in which every warning is shown."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "always", "-c", textwrap.dedent(code), *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "COVERAGE_PROCESS_START": "", **environment},
    )


# --- What errors have, and what they show ---------------------------------------------


def keeps(error, text=""):
    """Fail if *error* has not the *text* that came, and the report of what happened."""
    assert text == error.partial.text
    assert error.report.verdict is error.partial.verdict
    assert type(error).__name__ == error.report.error
    assert bool(text) is (error.report.time_to_first_token is not None)
    assert len(error.attempts) == len(error.report.attempts)
    assert all(attempt.error for attempt in error.attempts)


def hides(error, text=OUTPUT):
    """Fail if what is logged, reported or pickled of *error* shows what is secret.

    It may carry the answer, *text*, but it doesn't say it.
    """
    told, carried = sentences(error), luggage(error)
    for secret in (KEY, PROMPT):
        assert secret not in told
        assert secret not in carried
    for answer in {OUTPUT, text if len(text) > 3 else OUTPUT}:
        assert answer not in told
        for cause in chain(error)[1:]:
            assert answer not in repr(vars(cause))
    assert str(error).isprintable()
    assert len(str(error)) < 1000


def everything(error):
    """All that a log, a crash reporter or a debugger may show of an error."""
    return f"{sentences(error)}\n{luggage(error)}"


def sentences(error):
    """What an error and its causes say, and its report; not the answer it carries."""
    texts = []
    for one in chain(error):
        texts += [str(one), repr(one), repr(one.args)]
        texts += traceback.format_exception(one, chain=False)
        report = getattr(one, "report", None)
        if report is not None:
            texts += [str(report), repr(report), repr(report.to_dict())]
    return "\n".join(texts)


def luggage(error):
    """What an error and its causes carry: their attributes, and their pickles."""
    texts = []
    for one in chain(error):
        texts.append(repr(vars(one)))
        with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
            texts.append(repr(pickle.dumps(one)))
    return "\n".join(texts)


def chain(error):
    """List an error, its causes, contexts, and parts."""
    found, waiting = [], [error]
    while waiting:
        one = waiting.pop()
        if one is not None and all(one is not other for other in found):
            found.append(one)
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return found


# --- What is left ---------------------------------------------------------------------


def acquired(session):
    """List the connections that aiohttp thinks are in use."""
    http = session._given_http or session._http
    return [] if http is None else list(http.connector._acquired)


def descriptors():
    """Return what is open, sockets among it, by number."""
    found = {}
    folder = Path("/proc/self/fd")
    for file in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # that of the listing itself
            found[file.name] = str(file.readlink())
    return found


def resident():
    """Return the bytes of memory that this process has."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else 0
