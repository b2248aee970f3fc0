"""``chatstream simulate``: the simulated server as a process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from chatstream.cli.exits import DONE, FAILED, complain
from chatstream.cli.options import key_in
from chatstream.cli.simulation import Pace, Quirks, profile_of
from chatstream.testing import serve


def simulate(
    *,
    host: Annotated[str, Parameter(show_default=True)] = "127.0.0.1",
    port: Annotated[int, Parameter(show_default=True)] = 8000,
    api_key_file: Annotated[Path | None, Parameter(metavar="PATH")] = None,
    truth: bool = False,
    model: Annotated[tuple[str, ...], Parameter(metavar="NAME")] = (),
    seed: int | None = None,
    pace: Pace = Pace(),  # noqa: B008 frozen
    quirks: Quirks = Quirks(),  # noqa: B008 frozen
) -> int:
    """Run a simulated server, for trying things out and for tests.

    It speaks OpenAI's chat completions, streamed and not, and needs no key. The
    first line it prints is its base URL. Ctrl-C ends it.

    ```
    chatstream simulate --preset typical
    chatstream chat --base-url http://127.0.0.1:8000/v1 "Count to 10"
    ```

    It counts when asked to ("Count to 100"), repeats ("Say …"), calls the tools
    it is given when their name comes up, and makes up words otherwise. A header
    `x-simulate-status: 429` gets that status.

    Parameters
    ----------
    host
        The address to listen on.
    port
        The port to listen on; 0 takes a free one.
    api_key_file
        Ask for the key that is in this file.
    truth
        Stamp each chunk with the time it was sent (`sent_ns`), to check clients.
    model
        A name to list as a model; any is answered. Repeatable.
    seed
        What looks random follows from this number.
    """
    key = None if api_key_file is None else key_in(api_key_file)
    running = serve(
        profile_of(pace, quirks, seed=seed),
        host=host,
        port=port,
        api_key=key,
        truth=truth,
        models=model or ("simulated",),
        announce=_announce,
    )
    try:
        asyncio.run(running)
    except BrokenPipeError:
        raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        complain(f"can't listen on {host}, port {port}: {reason}")
        return FAILED
    return DONE


def _announce(base_url: str) -> None:
    print(base_url, flush=True)
    if sys.stderr.isatty():
        print(
            f'Try: chatstream chat --base-url {base_url} "Count to 10". Ctrl-C ends the server.',
            file=sys.stderr,
        )
