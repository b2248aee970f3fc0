"""A conversation at the terminal: a line in, an answer out, until the user leaves."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import chatstream
from chatstream.cli.answer import Outcome, note
from chatstream.cli.exits import DONE

_HELP = """\
/clear   forget what was said
/help    this
/quit    leave, as Ctrl-D
Ctrl-C stops an answer; what came of it stays."""


def converse(ask: Callable[[Sequence[Any]], Outcome], *, system: str | None, title: str) -> int:
    """Ask what the user types, with all that was said before, until they leave.

    *ask* shows the answer to a list of messages. What a failed or stopped
    answer brought stays in the history; a question without any answer doesn't.
    """
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 makes input() an editor

    opening = [] if system is None else [chatstream.system(system)]
    messages: list[Any] = [*opening]
    print(f"{title} /help tells more, Ctrl-D leaves.", file=sys.stderr, flush=True)
    while (line := _read_line()) is not None:
        match line.strip():
            case "":
                pass
            case "/quit" | "/exit":
                break
            case "/clear":
                messages = [*opening]
                note("forgotten")
            case "/help":
                print(_HELP, file=sys.stderr, flush=True)
            case command if command.startswith("/") and command[1:].isalpha():
                note(f"no command {command}, /help lists them")
            case _:
                messages.append(chatstream.user(line))
                said = _said(ask(messages))
                if said is None:
                    messages.pop()
                else:
                    messages.append(said)
    return DONE


def _read_line() -> str | None:
    """Return what the user types; ``None`` if they leave. Ctrl-C starts a new line."""
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            note("Ctrl-D or /quit leaves")
            continue
        # What isn't valid in the terminal's encoding arrives as lone surrogates.
        return line.encode("utf-8", "replace").decode()


def _said(outcome: Outcome) -> Any | None:
    """Return the message that hands an answer back, ``None`` if it has no words."""
    choices = outcome.completion.choices
    if not choices:
        return None
    message = choices[0].message
    if not message.content and not message.refusal:
        return None
    return chatstream.assistant(message.content, refusal=message.refusal)
