import asyncio
import os
import signal
import time

import orjson
import pytest
from attrs import evolve

from chatstream import RequestError
from chatstream.bench.plan import Load
from chatstream.bench.workers import LEAD, Here, Processes
from chatstream.bench.workload import Conversation, Prompts, Turn
from chatstream.testing import Profile
from tests.bench.test_runner import plan_for


async def load_of(crew, plan, **how):
    """Have *crew* make a load; its records, and what became of the workers."""
    lines = []
    reports = await crew.run(
        plan, lines.append, **({"began_ns": time.perf_counter_ns(), "stage": 0} | how)
    )
    return [orjson.loads(line) for line in lines], reports


@pytest.mark.parametrize("crew", [Here(), Processes(1), Processes(2)], ids=["here", "1", "2"])
async def test_a_crew_makes_the_whole_load_several_times(crew, server):
    async with crew:
        first, reports = await load_of(crew, plan_for(server))
        second, _ = await load_of(crew, plan_for(server), stage=1)

    assert [0, 1, 2, 3, 4, 5] == sorted(record["number"] for record in first)
    assert {1} == {record["stage"] for record in second}
    assert 6 == sum(report.requests for report in reports)
    assert list(range(crew.workers)) == [report.worker for report in reports]
    assert all(report.cpu > 0 and not report.lost for report in reports)


async def test_moments_count_from_when_the_run_began(server):
    """
    Whoever made the request: on one host all clocks agree.
    """
    began_ns = time.perf_counter_ns() - 5_000_000_000
    async with Processes(2) as crew:
        records, _ = await load_of(crew, plan_for(server), began_ns=began_ns)

    assert all(5e9 < record["scheduled_ns"] < 15e9 for record in records)
    assert 1 == len({record["scheduled_ns"] for record in records if record["number"] < 2})


async def test_infinite_rates_reach_the_workers(server):
    load = Load(request_rate=float("inf"), burstiness=float("inf"), num_prompts=4)
    async with Processes(1) as crew:
        records, _ = await load_of(crew, plan_for(server, load=load))

    assert 4 == len(records)


async def test_a_worker_that_is_killed_is_reported_and_the_others_go_on(server):
    server.profile = Profile(time_to_first_token=0, gap=60)
    plan = plan_for(server, load=Load(max_concurrency=2, num_prompts=2))
    async with Processes(2) as crew:
        running = asyncio.create_task(load_of(crew, plan))
        await server.until(lambda s: s.open_streams == 2)
        os.kill(crew.pids[1], signal.SIGKILL)
        await server.until(lambda s: s.open_streams == 1)
        crew.stop()
        records, reports = await running
        again, _ = await load_of(crew, evolve(plan, load=Load(schedule=())))

    assert ["cancelled"] == [record["verdict"] for record in records]
    assert [(False, None), (True, "SIGKILL")] == [(r.lost, r.error) for r in reports]
    assert [] == again


async def test_what_cant_be_asked_is_refused_by_the_worker_too(server):
    plan = plan_for(server)
    plan = evolve(plan, targets=(evolve(plan.targets[0], base_url="ftp://x"),))
    async with Processes(1) as crew:
        with pytest.raises(RequestError, match="base_url"):
            await load_of(crew, plan)


async def test_a_worker_ends_with_whoever_started_it():
    """
    Its standard input ends then, even if that was a kill.
    """
    async with Processes(1) as crew:
        (process,) = crew._processes
        process._process.stdin.close()
        status = await process._process.wait()

    assert 0 == status


async def test_leaving_ends_a_load_under_way(server):
    server.profile = Profile(time_to_first_token=60)
    async with Processes(1) as crew:
        running = asyncio.create_task(load_of(crew, plan_for(server)))
        await server.until(lambda s: s.open_streams == 2)
    await running
    await server.until(lambda s: s.open_connections == 0)

    assert running.done()


async def test_a_worker_that_cant_start_says_why(monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(RuntimeError, match="worker 0 didn't start: exit status 1"):
        async with Processes(1):
            pass


async def test_a_large_plan_is_read_before_the_load_begins(server):
    """
    Else the first requests would be late by the time that takes.
    """
    turn = Turn(messages=({"role": "user", "content": "Count to 2 " + 4000 * "x"},))
    workload = Prompts(conversations=(Conversation(turns=(turn,)),) * 5000)
    began_ns = time.perf_counter_ns()
    async with Processes(1) as crew:
        began_ns = time.perf_counter_ns()
        load = Load(schedule=(0.0,))
        (record,), _ = await load_of(
            crew, plan_for(server, workload=workload, load=load), began_ns=began_ns
        )

    read = record["scheduled_ns"] - round(LEAD * 1e9)
    assert record["created_ns"] - record["scheduled_ns"] < read
