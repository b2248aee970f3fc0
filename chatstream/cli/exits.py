"""How a command ends: its exit status, and its one line on stderr.

====== =====================================================================
0      the answer is whole, or cut by a token limit (a note on stderr tells)
1      the request failed: connection, status, timeout, protocol, output;
       a regression was found, or a client that can't be trusted (--strict)
2      wrong usage: nothing was sent
3      the server cut the answer (content filter, fault) or gave none
130    stopped by Ctrl-C; what had come was printed
141    whoever read the output has gone
====== =====================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from chatstream.cli.terminal import neutralise
from chatstream.errors import AuthenticationError, ChatStreamError, RequestError

DONE = 0
FAILED = 1
USAGE = 2
CUT = 3
INTERRUPTED = 130
CLOSED_PIPE = 141

KEY_HINT = "set OPENAI_API_KEY or give --api-key-file"


class UsageError(Exception):
    """A command line that makes no sense; the text says what to do."""


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Say which extra to install if an import in the block fails. Raises ``UsageError``."""
    try:
        yield
    except ModuleNotFoundError as error:
        part = (error.name or "chatstream").partition(".")[0]
        if part == "chatstream":
            raise
        extra = _EXTRAS.get(part, extra)
        msg = f"this command needs {part}: pip install 'chatstream-sdk[{extra}]'"
        raise UsageError(msg) from error


_EXTRAS = {"ray": "ray"}
"""Those of parts that only some uses of a command need."""


def complain(sentence: str) -> None:
    """Print the one line that says what went wrong."""
    line = " ".join(neutralise(sentence).split())
    sys.stdout.flush()
    print(f"chatstream: {line}", file=sys.stderr, flush=True)


def explain(error: ChatStreamError | UsageError) -> str:
    """Return the sentence for *error*, with what helps beyond its own."""
    if isinstance(error, RequestError) and error.parameter == "api_key" and error.seen == "nothing":
        return f"no API key: {KEY_HINT}, or try --simulate"
    if not isinstance(error, ChatStreamError):
        return str(error)
    facts = []
    if isinstance(error, AuthenticationError):
        facts.append(KEY_HINT)
    if len(error.attempts) > 1:
        facts.append(f"{len(error.attempts)} attempts")
    if error.request_id:
        facts.append(f"request {error.request_id}")
    return f"{error} ({', '.join(facts)})" if facts else str(error)
