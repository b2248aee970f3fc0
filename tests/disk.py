"""A disk that is full."""

from __future__ import annotations

import contextlib
import resource


@contextlib.contextmanager
def room_for(size):
    """
    Let no file grow beyond *size* bytes, for us and for processes that we start.

    For no longer than the code that is tested runs: pytest's own output may be a long file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
