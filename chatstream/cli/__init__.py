"""The command ``chatstream``: one file for each of its commands."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from chatstream.cli.exits import CLOSED_PIPE, FAILED, INTERRUPTED, complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's) and return its exit status."""
    _prepare_streams()
    # Else numpy starts threads for products of matrices, which no command has.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        try:
            from chatstream.cli.app import run  # noqa: PLC0415 needs the extra
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in {"cyclopts", "rich"}:
                raise
            complain(f"the command needs {error.name}: pip install 'chatstream-sdk[cli]'")
            return FAILED
        status = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return CLOSED_PIPE
    except OSError as error:  # a full disk, most likely
        _abandon_stdout()
        complain(error.strerror or str(error))
        return FAILED
    return status


def _prepare_streams() -> None:
    """See to it that writing fails neither for an odd encoding nor for a closed stream."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _abandon_stdout() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
