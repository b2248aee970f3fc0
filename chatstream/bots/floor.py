"""Who speaks: one at a time, in the order of asking, or whoever came last."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Generic, TypeVar

from attrs import define, field

T = TypeVar("T")


class SupersededError(Exception):
    """This turn was broken off in favour of a newer one."""


class Floor(Generic[T]):
    """What tasks ask for before they speak."""

    def __init__(self, *, newest_wins: bool) -> None:
        self._newest_wins = newest_wins
        self._numbers = itertools.count()
        self.lock = asyncio.Lock()
        """Held by who speaks; given to those who wait in the order of asking."""
        self.claims: list[Claim[T]] = []
        """Of those who speak or wait."""
        self.unanswered: list[Claim[T]] = []
        """Of those who were broken off before they were answered."""

    def claim(self, said: list[T]) -> Claim[T]:
        """Ask for the floor in the name of the running task, to say *said*.

        If the newest wins, those before it are cancelled. Raises ``RuntimeError`` if the
        task has a claim already: it would wait for itself.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 who awaits runs in one
        if any(each.task is task for each in self.claims):
            msg = "this task has a turn of this conversation already, leave that one first"
            raise RuntimeError(msg)
        if self._newest_wins:
            for each in self.claims:
                each.supersede()
        claim = Claim(self, next(self._numbers), task, said, task.cancelling())
        self.claims.append(claim)
        return claim

    def take_unanswered(self) -> list[T]:
        """Return what was said and not answered, in the order of asking, and forget it."""
        left, self.unanswered = self.unanswered, []
        return [said for each in sorted(left, key=_number) for said in each.said]


@define(eq=False)
class Claim(Generic[T]):
    """The right of one task to speak, in its turn."""

    floor: Floor[T] = field(repr=False)
    number: int
    task: asyncio.Task[Any]
    said: list[T]
    _cancels: int
    """Requests to cancel the task before any of ours."""
    _superseded: bool = False
    _holds: bool = False

    async def wait(self) -> None:
        """Return when it is this one's turn."""
        await self.floor.lock.acquire()
        self._holds = True

    def supersede(self) -> None:
        """Break it off in favour of a newer one."""
        if not self._superseded:
            self._superseded = True
            self.task.cancel()

    def end(self, error: BaseException | None, *, answered: bool) -> None:
        """Give it back; *error* is what it ended with.

        Raises ``SupersededError`` in place of a cancellation that is the newer one's
        doing, and nobody else's.
        """
        self.floor.claims.remove(self)
        if self._holds:
            self.floor.lock.release()
        if not self._superseded:
            return
        if not answered:
            self.floor.unanswered.append(self)
        ours = self.task.uncancel() <= self._cancels
        if ours and isinstance(error, asyncio.CancelledError):
            raise SupersededError from error


def _number(claim: Claim[Any]) -> int:
    return claim.number
