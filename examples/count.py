"""Counts to 100 and tells when each piece came.

python examples/count.py                                # against a simulated server
OPENAI_API_KEY=… python examples/count.py gpt-4o-mini   # against OpenAI's
"""

import asyncio
import contextlib
import sys

from chatstream import ChatSession, user
from chatstream.testing import SimulatedServer

PROMPT = "Count to 100, with a comma between each number and no newlines. E.g., 1, 2, 3, ..."


async def count(session: ChatSession, model: str) -> None:
    """Stream the answer to the end."""
    async with session.stream(model=model, messages=[user(PROMPT)], temperature=0) as stream:
        async for event in stream:
            print(f"Message received {event.elapsed:.2f} seconds after request: {event.delta}")
    print(f"\nFull message received: {stream.completion.text}\n")
    print(stream.report)


async def main() -> None:
    """Ask the model that was named, or the simulated one."""
    async with contextlib.AsyncExitStack() as stack:
        if len(sys.argv) > 1:
            session, model = ChatSession(), sys.argv[1]
        else:
            server = await stack.enter_async_context(SimulatedServer())
            session, model = ChatSession(server.base_url, "none"), "simulated"
        await stack.enter_async_context(session)
        await count(session, model)


asyncio.run(main())
