"""Processes that a test looks at: who was started by whom, and whether they are gone."""

import os
import select
import time
from pathlib import Path

LONGEST = 20
"""Seconds to wait for a process to end."""


def children(pid=None):
    """The processes that *pid*, or this one, has started and that are still there."""
    pid = os.getpid() if pid is None else pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(child) for child in found.split()]


def ends(pid):
    """Wait until a process ends, whoever's it is; whether it does."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = select.select([watched], [], [], LONGEST)
    finally:
        os.close(watched)
    return bool(ready)


def grown(path):
    """Wait until a file has something in it; whether it has."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        if path.exists() and path.stat().st_size:
            return True
        time.sleep(0.01)
    return False
