"""Shows one answer as it streams: as text, as timings, or as one JSON document."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import defaultdict
from typing import Any, Protocol

from attrs import frozen

from chatstream import ChatCompletion, ChatStream, ChatStreamError, RequestError, Verdict, to_dict
from chatstream.cli.exits import CUT, DONE, FAILED, INTERRUPTED, complain, explain
from chatstream.cli.terminal import Pieces, neutralise
from chatstream.completion import Message, whole_text
from chatstream.events import (
    ContentDeltaEvent,
    ReasoningDeltaEvent,
    RefusalDeltaEvent,
    ToolCallDoneEvent,
)


class Display(Protocol):
    """A way to show an answer on standard output."""

    async def follow(self, stream: ChatStream) -> None:
        """Show the stream as it comes. It may be broken off at any await."""

    def conclude(self, stream: ChatStream, error: ChatStreamError | None) -> None:
        """Show what comes at the end, however the stream ended."""


@frozen
class Outcome:
    """How an answer ended: the exit status it means, and what of it is known."""

    status: int
    completion: ChatCompletion


_NOTES = {
    Verdict.LENGTH: ("cut by the token limit", DONE),
    Verdict.CONTENT_FILTER: ("cut by the content filter", CUT),
    Verdict.TRUNCATED: ("cut by the server", CUT),
    Verdict.EMPTY: ("the server gave no answer", CUT),
}


async def show(stream: ChatStream, display: Display) -> Outcome:
    """Show an answer to its end, to an error, or to Ctrl-C, which cancels this task.

    Raises ``RequestError`` if nothing was sent; other errors are told on stderr.
    """
    stopped, error = False, None
    try:
        async with stream:
            await display.follow(stream)
    except asyncio.CancelledError:
        stopped = True
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()  # it was meant for the answer, which is over
    except RequestError:
        raise
    except ChatStreamError as failure:
        error = failure
    display.conclude(stream, error)
    status = FAILED
    if stopped:
        status = INTERRUPTED
        note("stopped")
    elif error is not None:
        complain(explain(error))
    else:
        words, status = _NOTES.get(stream.verdict, ("", DONE))
        if words:
            note(words)
    return Outcome(status, stream.completion)


def note(words: str) -> None:
    """Tell the user something about the answer, beside it."""
    sys.stdout.flush()
    print(f"[{words}]", file=sys.stderr, flush=True)


class TextDisplay:
    """The text as it comes, and nothing else, on stdout; reasoning, if wanted, on stderr.

    Of several choices the first is shown as it comes, the others follow when
    all are there, each under its number. A tool call is shown when it is whole.
    """

    def __init__(self, *, raw: bool = False, reasoning: bool = False, choices: int = 1) -> None:
        clean = whole_text if raw else neutralise
        self._texts: defaultdict[int, Pieces] = defaultdict(lambda: Pieces(clean))
        self._said: defaultdict[int, list[str]] = defaultdict(list)
        self._titled = choices > 1
        self._line_open = False
        self._reasoning = Pieces(neutralise) if reasoning else None
        self._reasoning_open = False

    async def follow(self, stream: ChatStream) -> None:
        """Show the stream as it comes."""
        async for event in stream.events():
            match event:
                case ContentDeltaEvent() | RefusalDeltaEvent():
                    self._say(event.index, self._texts[event.index].feed(event.delta))
                case ReasoningDeltaEvent(index=0) if self._reasoning is not None:
                    self._reason(self._reasoning.feed(event.delta))
                case ToolCallDoneEvent():
                    self._say_line(event.index, json.dumps(to_dict(event.tool_call)))

    def conclude(self, stream: ChatStream, error: ChatStreamError | None) -> None:  # noqa: ARG002 all is shown
        """Show what was held back, the other choices, and a last newline."""
        for index, text in self._texts.items():
            self._say(index, text.finish())
        self._end_reasoning()
        for index in sorted(self._said.keys() - {0}):
            self._end_line()
            self._write(_title(index) + "".join(self._said[index]))
        self._end_line()

    def _say(self, index: int, text: str) -> None:
        """Show text of the first choice, keep that of the others."""
        if not text:
            return
        said = self._said[index]
        if index == 0:
            self._end_reasoning()
            self._write(_title(0) + text if self._titled and not said else text)
        said.append(text)

    def _say_line(self, index: int, text: str) -> None:
        said = self._said[index]
        begun = said and not said[-1].endswith("\n")
        self._say(index, f"\n{text}\n" if begun else f"{text}\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._line_open = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._line_open:
            self._write("\n")

    def _reason(self, text: str) -> None:
        if text:
            self._end_line()
            self._reasoning_open = True
            print(_dim(text), end="", file=sys.stderr, flush=True)

    def _end_reasoning(self) -> None:
        if self._reasoning_open and self._reasoning is not None:
            self._reasoning_open = False
            print(_dim(self._reasoning.finish()), end="\n\n", file=sys.stderr, flush=True)


class TimingsDisplay:
    """Each delta with its arrival, then the whole message and its latencies."""

    async def follow(self, stream: ChatStream) -> None:
        """Show each delta as it comes."""
        async for event in stream:
            line = f"Message received {event.elapsed:.2f} seconds after request: {event.delta}"
            print(neutralise(line), flush=True)

    def conclude(self, stream: ChatStream, error: ChatStreamError | None) -> None:  # noqa: ARG002 unused here
        """Show the whole message of each choice, and the latencies."""
        choices = stream.completion.choices
        if choices:
            print()
        for choice in choices:
            which = f" (choice {choice.index})" if len(choices) > 1 else ""
            print(f"Full message received{which}: {neutralise(_spoken(choice.message))}")
        print(f"\nLatencies of this answer:\n{neutralise(str(stream.report))}", flush=True)


class JSONDisplay:
    """One line of JSON at the end: ``completion``, ``report``, and ``error`` if there was one.

    It is pure ASCII, so neither a terminal nor an odd encoding can be hurt by it.
    """

    async def follow(self, stream: ChatStream) -> None:
        """Wait for the whole."""
        await stream.collect()

    def conclude(self, stream: ChatStream, error: ChatStreamError | None) -> None:
        """Print the document."""
        document: dict[str, Any] = {
            "completion": to_dict(stream.completion),
            "report": stream.report.to_dict(),
        }
        if error is not None:
            document["error"] = {"type": type(error).__name__, "message": str(error)}
        print(json.dumps(document), flush=True)


def _title(index: int) -> str:
    return f"[choice {index}]\n"


def _spoken(message: Message) -> str:
    """Return what a message says; its JSON, if that isn't text."""
    text = message.content or message.refusal
    return text or json.dumps(to_dict(message), ensure_ascii=False)


def _dim(text: str) -> str:
    plain = not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ
    return text if plain or not text else f"\x1b[2m{text}\x1b[0m"
