"""The same results wherever it runs: row K21 of the faults."""

import json
import sys

import pytest

from chatstream.testing import Profile, SimulatedServer
from tests.faults.acts import child

SMOKE = """
    import asyncio, json, sys
    from chatstream import ChatSession, ChatStreamError, RetryPolicy, Timeouts

    def asking(text):
        return {"model": "m", "messages": [{"role": "user", "content": text}]}

    async def streamed(session):
        async with session.stream(asking("count to 300")) as stream:
            events = [event async for event in stream]
        ends = stream.verdict, stream.completion.text, stream.report.token_events
        return *ends, len(events), all(e.arrived_ns > 0 for e in events)

    async def whole(session):
        return (await session.create(asking("count to 3"))).text

    async def refused(session):
        await session.create(asking("x"), extra_headers={"x-simulate-status": "429"})

    async def invalid(session):
        await session.create(asking("x"), temperature=9)

    async def left(session):
        async with session.stream(asking("count to 9000")) as stream:
            async for event in stream:
                if event.content:
                    break
        return stream.verdict, stream.completion.text

    async def cancelled(session):
        async def read():
            async with stream:
                async for event in stream:
                    if event.content:
                        first.set()

        first, stream = asyncio.Event(), session.stream(asking("count to 9000"))
        task = asyncio.create_task(read())
        await first.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), stream.verdict, stream.completion.text[:4]

    async def nobody(_):
        async with ChatSession("http://127.0.0.1:1/v1", retry=RetryPolicy(1)) as session:
            await session.create(asking("x"))

    async def many(session):
        return len({await one for one in asyncio.as_completed([whole(session) for _ in range(50)])})

    async def main():
        if "eager" in sys.argv:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        found = {}
        async with ChatSession(sys.argv[1], retry=RetryPolicy(1)) as session:
            for act in (streamed, whole, refused, invalid, left, cancelled, nobody, many):
                try:
                    found[act.__name__] = await act(session)
                except ChatStreamError as error:
                    found[act.__name__] = f"{type(error).__name__}: {error}"
        found["left behind"] = len(asyncio.all_tasks()) - 1
        return found

    factory = None
    if "uvloop" in sys.argv:
        from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        found = runner.run(main())
    if "pure" in sys.argv:
        from aiohttp import http_parser
        assert http_parser.HttpResponseParser is http_parser.HttpResponseParserPy
    print(json.dumps(found))
"""

EXPECTED = {
    "streamed": ["finished", ", ".join(map(str, range(1, 301))), 599, 601, True],
    "whole": "1, 2, 3",
    "refused": "RateLimitError: HTTP 429",
    "invalid": "RequestError: temperature: expected a number from 0 to 2, got 9",
    "left": ["closed", "1"],
    "cancelled": [True, "cancelled", "1, 2"],
    "nobody": "ConnectError: connection refused by 127.0.0.1",
    "many": 1,
    "left behind": 0,
}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["asyncio", "pure", "eager", "uvloop", "optimised", "debug"])
async def test_results_are_the_same(kind, outside):
    """
    K21: aiohttp without extensions, eager tasks, uvloop, ``-O``, asyncio's debug mode.
    """
    environment = {}
    if kind == "uvloop":
        outside("uvloop")
    elif kind == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    elif kind == "pure":
        environment = {"AIOHTTP_NO_EXTENSIONS": "1", "MULTIDICT_NO_EXTENSIONS": "1"}
    elif kind == "optimised":
        environment = {"PYTHONOPTIMIZE": "2"}
    elif kind == "debug":
        environment = {"PYTHONASYNCIODEBUG": "1"}
    async with SimulatedServer(Profile.preset("instant")) as server:
        process = await child(SMOKE, server.base_url, kind, **environment)
        printed, complaints = await process.communicate()

    assert kind == "debug" or b"" == complaints
    assert b"Traceback" not in complaints
    found = json.loads(printed)
    assert found["refused"].startswith(EXPECTED["refused"])
    assert EXPECTED == found | {"refused": EXPECTED["refused"]}
