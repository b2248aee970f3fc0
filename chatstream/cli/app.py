"""The commands by name, and what becomes of their errors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from chatstream import RequestError, RequestWarning, __version__
from chatstream.cli.exits import FAILED, USAGE, UsageError, complain, explain
from chatstream.errors import ChatStreamError

COMMANDS = ("chat", "bench", "compare", "report", "simulate")
"""In the order of the help; each is a function in a module, both of its name."""


def build(wanted: str) -> App:
    """Return the application with the command *wanted*, or with all if there is none such.

    So a command doesn't pay for what the others import.
    """
    app = App(
        name="chatstream",
        help="Stream chat completions, and see when each piece arrived.",
        version=f"chatstream {__version__}",
        version_flags=["--version"],
        default_parameter=Parameter(negative=(), show_default=False),
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for place, name in enumerate(COMMANDS):
        if wanted == name or wanted not in COMMANDS:
            command = getattr(import_module(f"chatstream.cli.{name}"), name)
            app.command(command, name=name, sort_key=place)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status; complain of what went wrong."""
    try:
        with warnings.catch_warnings():
            _show_warnings()
            status = build(arguments[0] if arguments else "")(arguments)
    except CycloptsError as error:
        complain(f"{_sentence(error)} See {_help_of(error)}.")
    except (UsageError, RequestError) as error:
        complain(explain(error))
    except ChatStreamError as error:
        complain(explain(error))
        return FAILED
    else:
        return status if isinstance(status, int) else 0
    return USAGE


def _sentence(error: CycloptsError) -> str:
    text = str(error).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _help_of(error: CycloptsError) -> str:
    return " ".join(["chatstream", *(error.command_chain or ()), "--help"])


def _show_warnings() -> None:
    """Show the library's warnings as notes, not as lines of Python.

    That a name is deprecated is the help's to say: whoever gives
    ``--max-tokens`` has a server that knows no other.
    """

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        complain(f"note: {message}")

    warnings.filterwarnings("always", category=UserWarning, module="chatstream")
    warnings.filterwarnings("always", category=RequestWarning)
    warnings.filterwarnings("ignore", ".* is deprecated", category=RequestWarning)
    warnings.showwarning = note
