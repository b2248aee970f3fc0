"""Much at once, or slowly: rows K8, K10, K11, K19 and K20 of the faults."""

import asyncio
import json
from collections import Counter

import aiohttp
import pytest

from chatstream import (
    ChatSession,
    ConnectTimeoutError,
    RetryPolicy,
    ServerError,
    Timeouts,
    TotalTimeoutError,
    Verdict,
    stamping_session_options,
)
from chatstream.sockets import stamped_socket
from chatstream.testing import Profile, SimulatedServer
from tests.faults.acts import ASK, DONE, ONCE, STOP, child, chunk, frame, read, resident
from tests.waiting import GIVEN_UP, until

MIB = 1024 * 1024


async def test_a_slow_consumer_of_a_large_answer(raw_server, wire):
    """
    K8: 100 MB that nobody takes for a while: memory stays, and the pause is told.
    """
    event = frame(chunk("x", obfuscation="p" * 65536))
    piece = wire.http_chunk(event)
    count = 100 * MIB // len(piece)

    async def answer(connection):
        await connection.request()
        await connection.send(wire.STREAM_HEAD)
        for _ in range(count):
            await connection.send(piece)
            raw.sent += len(piece)
        await connection.send(wire.http_chunk(frame(STOP) + frame(DONE)) + wire.http_chunk(b""))
        await connection.gone()

    raw = await raw_server(answer)
    raw.sent = 0
    async with ChatSession(raw.base_url) as session, session.stream(ASK) as stream:
        events = aiter(stream)
        for _ in range(200):  # until buffers have their size
            await anext(events)
        before, highest = resident(), 0
        stuck = 0
        async for _ in events:
            highest = max(highest, resident())
            if stuck < 3 and stream.report.events % 200 == 0:
                stuck += 1
                await stand_still(lambda: raw.sent)

    assert (Verdict.FINISHED, count) == (stream.verdict, len(stream.completion.text))
    assert stuck == 3
    assert stream.report.paused > 0
    assert highest - before < 8 * MIB


async def stand_still(amount):
    """Return when *amount* grows no more: all buffers are full."""
    seen = -1
    while seen != amount():
        seen = amount()
        for _ in range(50):
            await asyncio.sleep(0)


CROWD = """
    import asyncio, json, resource, sys
    from collections import Counter
    from chatstream import ChatSession, ChatStreamError, RetryPolicy

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    limit = int(sys.argv[2]) or None

    async def ask(session):
        try:
            async with session.stream(
                model="m", messages=[{"role": "user", "content": "count to 3"}]
            ) as stream:
                await stream.collect()
        except ChatStreamError as error:
            return f"{type(error).__name__} {error}"
        return f"{stream.verdict} {stream.completion.text}"

    async def main():
        options = {"retry": RetryPolicy(1), "max_in_flight": limit}
        async with ChatSession(sys.argv[1], **options) as session:
            ends = await asyncio.gather(*(ask(session) for _ in range(500)))
            again = await ask(session)
        print(json.dumps([Counter(ends), again, len(asyncio.all_tasks())]))

    asyncio.run(main())
"""


@pytest.mark.thorough
@pytest.mark.parametrize("limit", [0, 100])
async def test_more_streams_than_descriptors(limit):
    """
    K10: 500 streams and 256 descriptors: each ends, with a typed error or the answer, and
    the session serves on; with ``max_in_flight`` all have their answer.
    """
    async with SimulatedServer(Profile(time_to_first_token=0.05, gap=0)) as server:
        process = await child(CROWD, server.base_url, str(limit))
        printed, complaints = await process.communicate()

    assert b"" == complaints
    ends, again, tasks = json.loads(printed)
    whole = "finished 1, 2, 3"
    assert (500, whole, 1) == (sum(ends.values()), again, tasks)
    if limit:
        assert {whole: 500} == ends
    else:
        assert {whole, "ConnectError"} == {whole if e == whole else e.split()[0] for e in ends}
        assert any("Too many open files" in end for end in ends)


@pytest.fixture
async def narrow():
    """A caller's own HTTP session with one connection."""
    options = stamping_session_options()
    await options["connector"].close()
    options["connector"] = aiohttp.TCPConnector(limit=1, socket_factory=stamped_socket)
    async with aiohttp.ClientSession(**options) as http:
        yield http


async def test_many_streams_on_one_connection(server, narrow):
    """
    K11: the caller's pool has room for one: 100 streams take turns, and what they waited for
    their turn is told apart from what the server took.
    """
    async with ChatSession(server.base_url, http=narrow) as session:
        every = await asyncio.gather(*(read(session.stream(ASK)) for _ in range(100)))
    reports = [played.stream.report for played in every]
    waits = sorted(report.phases.pool for report in reports)

    assert {Verdict.FINISHED: 100} == Counter(report.verdict for report in reports)
    assert 1 == server.connections
    assert waits[-1] > 10 * waits[0]
    for report in reports:
        from_sent = report.time_to_first_token_from_sent
        assert from_sent <= report.time_to_first_token - report.phases.pool


async def test_a_leaked_stream_blocks_nobody_for_ever(server, narrow):
    """
    K11: someone keeps the only connection: the others hear of it in time, and none hangs.
    """
    server.profile = Profile(time_to_first_token=0, gap=60)
    timeouts = Timeouts(connect=0.2)
    async with ChatSession(server.base_url, http=narrow, timeouts=timeouts, retry=ONCE) as session:
        leaked = session.stream(ASK)
        await leaked.__aenter__()
        async with asyncio.timeout(GIVEN_UP):
            every = await asyncio.gather(*(read(session.stream(ASK)) for _ in range(100)))
        assert {ConnectTimeoutError: 100} == Counter(type(played.error) for played in every)
        await leaked.aclose()
        server.profile = Profile.preset("instant")
        assert None is (await read(session.stream(ASK))).error


# --- Waiting for another attempt ------------------------------------------------------------


@pytest.fixture
async def busy(faulty, wire):
    """A server that has no time, and says for how long."""
    return await faulty(wire.always(wire.response(b"", "503 Busy", retry_after="30")))


async def test_a_wait_that_is_longer_than_the_time_left(busy):
    """
    K19: the total time ends in the pause before another attempt, which isn't made.
    """
    timeouts = Timeouts(total=0.2)
    async with asyncio.timeout(GIVEN_UP), ChatSession(busy.base_url, timeouts=timeouts) as session:
        with pytest.raises(TotalTimeoutError) as streamed:
            await session.stream(ASK).__aenter__()
        with pytest.raises(TotalTimeoutError) as whole:
            await session.create(ASK)

    assert 2 == len(busy.requests)
    for caught in (streamed, whole):
        [attempt] = caught.value.attempts
        assert 503 == attempt.status


async def test_cancelling_in_the_pause_between_attempts(busy):
    """
    K19: it ends at once, and no further request is sent.
    """
    async with asyncio.timeout(GIVEN_UP), ChatSession(busy.base_url) as session:
        stream = session.stream(ASK)
        for asking in (stream.__aenter__(), session.create(ASK)):
            before = len(busy.requests)
            task = asyncio.ensure_future(asking)
            await until(lambda before=before: len(busy.requests) > before)
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    assert Verdict.CANCELLED is stream.verdict
    assert 2 == len(busy.requests)


async def test_a_storm_is_spread_out(raw_server, wire, waits):
    """
    K19: 300 streams that are refused at once come back at different times, none too late,
    none for ever.
    """
    raw = await raw_server(wire.always(wire.response(b"", "503 Busy")))
    policy = RetryPolicy(3, max_wait=4)
    async with ChatSession(raw.base_url, retry=policy, max_in_flight=50) as session:
        every = await asyncio.gather(*(read(session.stream(ASK)) for _ in range(300)))

    assert {ServerError: 300} == Counter(type(played.error) for played in every)
    assert {3: 300} == Counter(len(played.error.attempts) for played in every)
    assert 600 == len(waits)
    assert len({round(wait, 3) for wait in waits}) > 200
    assert 0 < min(waits) <= max(waits) <= 4
    assert Counter(wait > 1 for wait in waits)[True] > 100  # the second is longer


# --- The end of a service -----------------------------------------------------------------------

SERVICE = """
    import asyncio, sys, time
    from chatstream import ChatSession

    async def read(session):
        async with session.stream(
            model="m", messages=[{"role": "user", "content": "count to 3"}]
        ) as stream:
            streams.append(stream)
            async for event in stream:
                if event.content:
                    first.append(event)
                    if len(first) == 1000:
                        ready.set()

    async def main():
        session = ChatSession(sys.argv[1])
        tasks.extend(asyncio.create_task(read(session)) for _ in range(1000))
        await ready.wait()
        began.append(time.monotonic())
        if sys.argv[2] == "closed":
            await session.aclose()
            await asyncio.gather(*tasks)

    began, first, streams, tasks, ready = [], [], [], [], asyncio.Event()
    asyncio.run(main())
    taken = time.monotonic() - began[0]
    ends = {str(stream.verdict) for stream in streams}
    print(len(streams), *ends, {s.completion.text for s in streams}, taken < 2)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("way", ["closed", "dropped"])
async def test_a_service_that_shuts_down(way):
    """
    K20: 1,000 live streams, the session closed or the loop just ended: within two seconds
    (it takes a fifth), and with nothing to complain about.
    """
    async with SimulatedServer(Profile(time_to_first_token=0, gap=60)) as server:
        process = await child(SERVICE, server.base_url, way)
        printed, complaints = await process.communicate()
        async with asyncio.timeout(GIVEN_UP):
            await server.until(lambda s: s.open_connections == 0)

    end = "closed" if way == "closed" else "cancelled"
    assert (f"1000 {end} {{'1'}} True\n", "") == (printed.decode(), complaints.decode())
