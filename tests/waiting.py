"""Waiting for what tells no event of its own: sockets, tasks, servers of others."""

import asyncio

GIVEN_UP = 5
"""Seconds after which something that happens at once didn't."""


async def until(condition):
    """Let the loop turn until *condition* is true."""
    async with asyncio.timeout(GIVEN_UP):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)
