"""What is open at a server, so that its owner can wait for the end of it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Abortable(Protocol):
    """A connection, as far as it matters here."""

    def abort(self) -> None:
        """Close at once."""


class Traffic:
    """Counts connections and the answers under way on them."""

    def __init__(self) -> None:
        self.open: set[Abortable] = set()
        self.connections = 0
        self.answering = 0
        self.abandoned = 0
        self.closed = False
        """Set when nothing may begin any more."""

        self._waiting: set[asyncio.Future[None]] = set()

    def connected(self, connection: Abortable) -> int:
        """Note a new connection; its number."""
        self.open.add(connection)
        self.connections += 1
        self._tell()
        return self.connections

    def disconnected(self, connection: Abortable) -> None:
        """Note that a connection is gone."""
        self.open.discard(connection)
        self._tell()

    def began(self) -> None:
        """Note that an answer is under way."""
        self.answering += 1
        self._tell()

    def ended(self, *, abandoned: bool) -> None:
        """Note the end of an answer, and whether its client left before."""
        self.answering -= 1
        self.abandoned += abandoned
        self._tell()

    async def change(self) -> None:
        """Return when something began or ended."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _tell(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
