"""Tells observers, and survives what they do."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Sequence
from typing import Any

from chatstream.report import Observer

logger = logging.getLogger("chatstream")

_failed_observers: weakref.WeakSet[Any] = weakref.WeakSet()


def notify(observers: Sequence[Observer], method: str, *arguments: Any) -> int:
    """Call *method* of all observers that have it; return how many raised.

    What one raises is logged the first time, and harms nothing.
    """
    failures = 0
    for observer in observers:
        call = getattr(observer, method, None)
        if call is None:
            continue
        try:
            call(*arguments)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 they aren't ours
            failures += 1
            _log_once(observer, error)
    return failures


def _log_once(observer: object, error: BaseException) -> None:
    """Log an observer's first failure; its message isn't ours to show."""
    known = False
    for who in (observer, type(observer)):
        try:
            known = who in _failed_observers
            _failed_observers.add(who)
            break
        except TypeError:  # it can't be hashed or referred to weakly: its class can
            continue
    if not known:
        logger.error(
            "observer %s raised %s; further failures of it are not logged",
            type(observer).__name__,
            type(error).__name__,
        )
