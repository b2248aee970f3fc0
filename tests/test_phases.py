"""Phases: where the time of one attempt goes before the first byte."""

import asyncio
import itertools
from collections import Counter
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from chatstream import (
    ChatSession,
    ConnectError,
    RetryPolicy,
    Verdict,
    phases,
    stamping_session_options,
)
from chatstream.marks import NS
from chatstream.phases import Gate, let_out
from chatstream.sockets import stamped_socket
from chatstream.testing import FakeClock, Profile, SimulatedServer
from tests.waiting import until

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


@pytest.fixture
async def clock(monkeypatch):
    """The loop's own clock, standing still."""
    clock = FakeClock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock() / NS)
    return clock


@pytest.mark.usefixtures("clock")
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


async def test_a_loop_that_turns_seldom_lets_more_pass_in_a_turn(clock):
    """
    Two in each turn of 30 ms are fewer than a thousand streams begin: they'd wait for ever.
    """
    gate = Gate(2)
    tasks = [asyncio.create_task(gate.enter()) for _ in range(100)]
    turns = 0
    while not all(task.done() for task in tasks):
        clock.advance(0.03)
        await asyncio.sleep(0)
        turns += 1

    assert turns < 15


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


# --- Many that open at once ----------------------------------------------------------------


class Names(AbstractResolver):
    """Looks a name up for as long as the test likes."""

    def __init__(self):
        self.lookups = []

    async def resolve(self, host, port=0, family=0):
        lookup = asyncio.get_running_loop().create_future()
        self.lookups.append(lookup)
        await lookup
        address = {"hostname": host, "host": "127.0.0.1", "port": port}
        return [address | {"family": 2, "proto": 0, "flags": 0}]

    async def close(self):
        pass

    def found(self, lookups):
        for lookup in lookups:
            lookup.set_result(None)


@pytest.fixture
async def names():
    return Names()


@pytest.fixture
async def named_session(server, names):
    """A session whose connections are made when *names* lets them."""
    connector = aiohttp.TCPConnector(
        limit=0, socket_factory=stamped_socket, resolver=names, use_dns_cache=False
    )
    options = stamping_session_options()
    await options["connector"].close()
    url = server.base_url.replace("127.0.0.1", "somewhere.test")
    async with (
        aiohttp.ClientSession(**options | {"connector": connector}) as http,
        ChatSession(url, http=http, retry=ONCE) as session,
    ):
        yield session


async def test_connections_in_the_making_keep_nobody_at_the_gate(named_session, names):
    """
    Some are slow, some are refused; whoever is connected goes on at once.
    """
    streams = [asyncio.create_task(ask(named_session)) for _ in range(100)]
    await until(lambda: len(names.lookups) == 100)
    quick, slow, refused = names.lookups[::2], names.lookups[1::4], names.lookups[3::4]

    names.found(quick)
    await until(lambda: sum(stream.done() for stream in streams) == len(quick))
    first = [stream.result() for stream in streams if stream.done()]
    for lookup in refused:
        lookup.set_exception(OSError("nobody there"))
    names.found(slow)
    ends = await asyncio.gather(*streams, return_exceptions=True)

    assert 50 == len(first)
    errors = [end for end in ends if isinstance(end, Exception)]
    assert 25 == len(errors)
    assert all(isinstance(error, ConnectError) for error in errors)
    assert all(error.report.phases.gate is None for error in errors)
    reports = [end for end in ends if not isinstance(end, Exception)]
    assert all(Verdict.FINISHED is report.verdict for report in reports)
    assert all(report.phases.gate >= 0 for report in reports)


async def test_the_gate_is_passed_in_each_turn_in_which_somebody_waits(
    named_session, names, monkeypatch
):
    """
    Two pass in each, and none is lost, whoever else is still connecting.
    """
    turn = 0
    passed = []
    enter = Gate.enter

    async def noted(gate):
        came = turn
        await enter(gate)
        passed.append((came, turn))

    def tick():
        nonlocal turn, handle
        turn += 1
        handle = loop.call_soon(tick)

    monkeypatch.setattr(Gate, "enter", noted)
    # However long a turn takes on a busy machine, it doesn't let more pass here.
    monkeypatch.setattr(phases, "SECONDS_EACH", 1000.0)
    loop = asyncio.get_running_loop()
    handle = loop.call_soon(tick)
    streams = [asyncio.create_task(ask(named_session)) for _ in range(60)]
    await until(lambda: len(names.lookups) == 60)
    names.found(names.lookups[:50])
    await until(lambda: len(passed) == 50)
    handle.cancel()
    names.found(names.lookups[50:])
    await asyncio.gather(*streams)

    passes = Counter(went for _, went in passed[:50])
    assert 2 == max(passes.values())
    waits = [range(came + 2, went) for came, went in passed[:50]]
    assert max(map(len, waits)) > 10
    assert all(2 == passes[at] for at in itertools.chain(*waits))


async def test_who_lets_requests_out_beforehand_isnt_held_at_the_gate(server, monkeypatch):
    """
    A load generator has a gate of its own, before the call.
    """
    entered = []
    monkeypatch.setattr(Gate, "enter", entered.append)
    token = let_out.set(True)
    try:
        async with ChatSession(server.base_url, "any") as session:
            report = await ask(session)
    finally:
        let_out.reset(token)

    assert [] == entered
    assert report.phases.gate >= 0
