"""``chatstream chat``: one prompt and its answer, or a conversation."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, TextIO
from urllib.parse import urlsplit

from attrs import frozen
from cyclopts import Group, Parameter

import chatstream
from chatstream import ChatSession
from chatstream.cli.answer import Display, JSONDisplay, Outcome, TextDisplay, TimingsDisplay, show
from chatstream.cli.conversation import converse
from chatstream.cli.exits import UsageError
from chatstream.cli.options import Connection, RequestParameters
from chatstream.cli.simulation import Pace, simulated
from chatstream.testing import Profile, SimulatedServer

DEFAULT_MODEL = "gpt-4o-mini"

_OUTPUT = Group("Output", sort_key=10)


def chat(
    *prompt: str,
    model: Annotated[str | None, Parameter(name=["--model", "-m"], metavar="NAME")] = None,
    system: Annotated[str | None, Parameter(name=["--system", "-s"], metavar="TEXT")] = None,
    simulate: bool = False,
    timings: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    as_json: Annotated[bool, Parameter(name="--json", group=_OUTPUT)] = False,
    show_reasoning: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    raw: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    parameters: RequestParameters = RequestParameters(),  # noqa: B008 frozen
    connection: Connection = Connection(),  # noqa: B008 frozen
    pace: Pace = Pace(),  # noqa: B008 frozen
) -> int:
    """Ask a model, and see its answer as it comes.

    The prompt stands on the command line or comes from stdin. With neither, at
    a terminal, a conversation begins. Ctrl-C stops an answer and keeps what has
    come. The key is read from $OPENAI_API_KEY; without one, try --simulate.

    ```
    chatstream chat --simulate --timings "Count to 100"
    chatstream chat "Why is the sky blue?" > answer.txt
    git diff | chatstream chat -s "Write a commit message for this."
    chatstream chat --json "Count to 5" | jq .report.time_to_first_token
    ```

    The exit status is 0 for an answer (also one cut by a token limit), 1 if the
    request failed, 2 for wrong usage (nothing was sent), 3 if the server cut
    the answer or gave none, and 130 after Ctrl-C.

    Parameters
    ----------
    prompt
        What to ask, in one argument or several; after `--` if it begins with a dash.
    model
        Which model to ask. [default: $OPENAI_MODEL, or gpt-4o-mini]
    system
        Instructions that stand before the prompt.
    simulate
        Ask a simulated server inside this process: no network, no key.
    timings
        Show each delta with its time of arrival, then the whole message and a
        table of its latencies.
    as_json
        Print nothing but one line of JSON at the end: the `completion`, its
        latency `report`, and the `error` if there was one.
    show_reasoning
        Show the model's reasoning too, on stderr.
    raw
        Let control characters of the answer pass. Not to a terminal.
    """
    if as_json and timings:
        msg = "--json and --timings don't go together; the JSON holds the timings"
        raise UsageError(msg)
    if raw and sys.stdout.isatty():
        msg = "--raw needs a file or a pipe as output: an answer could control the terminal"
        raise UsageError(msg)
    text = _prompt(prompt)
    if text is None and as_json:
        msg = "--json needs a prompt, as an argument or from stdin"
        raise UsageError(msg)
    request = parameters.to_request()
    request["model"] = model or os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL
    profile = simulated(pace, connection, simulate=simulate, seed=parameters.seed)

    def display() -> Display:
        if as_json:
            return JSONDisplay()
        if timings:
            return TimingsDisplay()
        return TextDisplay(raw=raw, reasoning=show_reasoning, choices=parameters.n or 1)

    with _line(connection, profile) as line:

        def ask(messages: Sequence[Any]) -> Outcome:
            whole = {**request, "messages": messages}
            return line.ask(whole, display(), validate=not parameters.no_validate)

        if text is None:
            where = "a simulated server" if simulate else urlsplit(line.session.base_url).netloc
            title = f"{request['model']} at {where}."
            return converse(ask, system=system, title=title)
        opening = [] if system is None else [chatstream.system(system)]
        return ask([*opening, chatstream.user(text)]).status


@frozen
class _Line:
    """A session, and the loop it lives on, which runs while an answer is awaited.

    Between answers the terminal has the thread, so that the user can edit their
    line, and Ctrl-C means what it always does.
    """

    runner: asyncio.Runner
    session: ChatSession

    def ask(self, request: Mapping[str, Any], display: Display, *, validate: bool) -> Outcome:
        """Show an answer; Ctrl-C stops it."""
        return self.runner.run(self._ask(request, display, validate=validate))

    async def _ask(
        self, request: Mapping[str, Any], display: Display, *, validate: bool
    ) -> Outcome:
        # A connection that was closed while the loop stood still is noticed in
        # these turns; a request would fail on it.
        for _ in range(3):
            await asyncio.sleep(0)
        return await show(self.session.stream(request, validate=validate), display)


@contextmanager
def _line(connection: Connection, profile: Profile | None) -> Iterator[_Line]:
    """Open a session to the server, or to a simulated one with this profile."""
    with asyncio.Runner() as runner, ExitStack() as stack:
        if profile is None:
            session = connection.session()
        else:
            server = runner.run(SimulatedServer(profile).start())
            stack.callback(lambda: runner.run(server.aclose()))
            session = ChatSession(
                server.base_url,
                "simulated",  # never the key in the environment
                timeouts=connection.timeouts(),
                retry=connection.retry(),
            )
        stack.callback(lambda: runner.run(session.aclose()))
        yield _Line(runner, session)


def _prompt(words: Sequence[str]) -> str | None:
    """Return the prompt, ``None`` to begin a conversation. Raises ``UsageError``."""
    if words:
        text = " ".join(words)
    else:
        stdin = sys.stdin
        if stdin is not None and stdin.isatty():
            if sys.stdout.isatty():
                return None
            print("Type the prompt, then Ctrl-D.", file=sys.stderr, flush=True)
        text = "" if stdin is None else _read(stdin)
    if not text.strip():
        msg = 'no prompt: give one, as in chatstream chat "Count to 10", or send it to stdin'
        raise UsageError(msg)
    return text


def _read(stdin: TextIO) -> str:
    try:
        text = stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"the prompt on stdin isn't UTF-8, at byte {error.start}"
        raise UsageError(msg) from None
    return text.removesuffix("\n").removesuffix("\r")
