"""Waits until an exact moment.

asyncio's timers round up to the next millisecond. On Linux a timer of the kernel
(``timerfd``), which the loop watches like a socket, wakes us some 50 µs after its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from types import TracebackType
from typing import Self

from chatstream.marks import NS

_CLOCK_MONOTONIC = 1  # perf_counter_ns reads the same
_ABSOLUTE = 1
_NEVER_NS = 2**62


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Deadlines:
    """Moments to wait for, one after the other; ``with`` frees the timer."""

    def __init__(self) -> None:
        self._timer: int | None = None
        self._fired: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._timer = _timer()
        if self._timer is not None:
            try:
                asyncio.get_running_loop().add_reader(self._timer, self._on_fired)
            except NotImplementedError:  # pragma: no cover  no such loop on Linux
                self._close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            asyncio.get_running_loop().remove_reader(self._timer)
            self._close()

    async def until(self, due_ns: int) -> None:
        """Return at *due_ns* of ``time.perf_counter_ns``, at once if that is past."""
        left = due_ns - time.perf_counter_ns()
        if left <= 0:
            return
        fired = self._fired = asyncio.get_running_loop().create_future()
        if self._timer is not None and _set(self._timer, due_ns):
            await fired
        else:
            await asyncio.sleep(left / NS)

    def _on_fired(self) -> None:
        assert self._timer is not None  # noqa: S101 it fired
        with contextlib.suppress(BlockingIOError):
            os.read(self._timer, 8)
        if self._fired is not None and not self._fired.done():
            self._fired.set_result(None)

    def _close(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            os.close(timer)


def _timer() -> int | None:
    """Return the descriptor of a new timer, ``None`` where the system has none such."""
    if not sys.platform.startswith("linux"):
        return None
    # os.timerfd_create came with Python 3.13.
    create = getattr(ctypes.CDLL(None), "timerfd_create", None)
    if create is None:  # pragma: no cover  a C library without it
        return None
    timer: int = create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    return timer if timer >= 0 else None


def _set(timer: int, due_ns: int) -> bool:
    """Set a timer; false if it can't be, because the moment is out of its range."""
    if due_ns >= _NEVER_NS:
        return False
    value = _Timespec(due_ns // NS, due_ns % NS)
    spec = _Itimerspec(_Timespec(0, 0), value)
    failed: int = ctypes.CDLL(None).timerfd_settime(timer, _ABSOLUTE, ctypes.byref(spec), None)
    return not failed
