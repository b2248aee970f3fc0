"""Phases: where the time of one attempt goes before the first byte."""

import asyncio
import itertools
from types import SimpleNamespace

import aiohttp
import pytest

from chatstream import ChatSession, RetryPolicy, stamping_session_options
from chatstream.phases import Gate
from chatstream.testing import Profile, SimulatedServer

ASK = {"model": "m", "messages": [{"role": "user", "content": "count to 3"}]}
ONCE = RetryPolicy(1)


async def ask(session):
    """Stream one answer and return its report."""
    async with session.stream(ASK) as stream:
        await stream.collect()
    return stream.report


async def test_a_new_connection_has_its_phases(session):
    report = await ask(session)
    phases = report.phases

    assert phases.reused is False
    assert phases.dns is None  # an address needs no lookup
    assert phases.connect > 0
    assert phases.send >= 0
    assert phases.headers > 0
    assert phases.pool >= 0
    assert 0 < report.sent < report.time_to_first_byte


async def test_a_reused_connection_has_no_connecting(session):
    await ask(session)
    phases = (await ask(session)).phases

    assert phases.reused is True
    assert phases.connect is phases.tcp is phases.tls is phases.dns is None
    assert phases.pool >= 0
    assert phases.headers > 0


async def test_a_name_is_looked_up(server):
    url = server.base_url.replace("127.0.0.1", "localhost")
    async with ChatSession(url, retry=ONCE) as session:
        phases = (await ask(session)).phases

    assert phases.dns > 0
    assert phases.connect > 0


async def test_tls_is_part_of_connecting(raw_server, wire, server_tls, client_tls):
    raw = await raw_server(wire.always(wire.response(wire.ANSWER)), tls=server_tls)
    async with ChatSession(raw.base_url, "k", tls=client_tls, retry=ONCE) as session:
        phases = (await ask(session)).phases

    assert phases.connect > 0
    if phases.tls is not None:
        assert 0 < phases.tls <= phases.connect


async def test_phases_follow_each_other(session):
    report = await ask(session)
    phases = report.phases
    parts = (phases.pool, phases.dns, phases.connect, phases.gate, phases.send, phases.headers)

    assert sum(part for part in parts if part is not None) <= report.time_to_first_byte + 1e-6
    assert phases.body >= 0
    assert all(part >= 0 for part in parts if part is not None)


async def test_the_wait_for_headers_is_the_servers():
    profile = Profile(time_to_headers=0.02, time_to_first_token=0.02)
    async with (
        SimulatedServer(profile) as server,
        ChatSession(server.base_url, retry=ONCE) as session,
    ):
        report = await ask(session)

    assert report.phases.headers > 0.015
    assert report.time_to_first_byte_from_sent == pytest.approx(
        report.phases.headers + report.phases.body
    )


async def test_other_requests_of_the_callers_session_are_no_affair_of_ours(server):
    """
    They run through the same tracing, with a context of their own or none.
    """
    async with aiohttp.ClientSession(**stamping_session_options()) as http:
        for context in (None, {}, SimpleNamespace()):
            url = f"{server.origin}/health"
            async with http.get(url, trace_request_ctx=context) as response:
                assert {"status": "ok"} == await response.json()


async def test_each_attempt_has_phases_of_its_own(server):
    server.profile = Profile.preset("instant", error_rate=0.5, seed=3)
    retry = RetryPolicy(20, max_wait=0)
    async with ChatSession(server.base_url, retry=retry) as session:
        reports = [await ask(session) for _ in range(5)]

    attempts = list(itertools.chain.from_iterable(report.attempts for report in reports))
    assert len(attempts) > len(reports)
    assert all(attempt.phases.headers > 0 for attempt in attempts)
    assert all(report.phases == report.attempts[-1].phases for report in reports)


async def test_two_requests_pass_the_gate_in_a_turn_of_the_loop():
    """
    Between two turns the loop reads.
    """
    gate = Gate(2)
    passed = []

    async def enter(number):
        await gate.enter()
        passed.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(7)]
    turns = []
    while len(passed) < 7:
        await asyncio.sleep(0)
        turns.append(len(passed))

    assert list(range(7)) == passed
    assert all(after - before <= 2 for before, after in itertools.pairwise([0, *turns]))
    assert len(turns) <= 7
    await asyncio.gather(*tasks)


async def test_whoever_is_cancelled_at_the_gate_holds_nobody_up():
    """
    Connections that are given up mustn't stop the others.
    """
    gate = Gate(1)
    tasks = [asyncio.create_task(gate.enter()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks[1:4]:
        task.cancel()

    done = await asyncio.gather(*tasks, return_exceptions=True)

    assert [False, True, True, True, False] == [
        isinstance(outcome, asyncio.CancelledError) for outcome in done
    ]


async def test_an_idle_gate_is_open():
    """
    A lone request doesn't wait, and leaves nothing behind that turns for ever.
    """
    gate = Gate(2)
    for _ in range(3):
        waiting = gate.enter()
        with pytest.raises(StopIteration):
            waiting.send(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not gate._turning
