"""A real Ray cluster on this host: its workers make the same load as processes do."""

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time

import orjson
import pytest
from attrs import evolve

from chatstream import RequestError
from chatstream.bench import cluster
from chatstream.bench.cluster import Cluster
from chatstream.bench.plan import Load
from chatstream.bench.workers import CrewError, Processes
from chatstream.testing import Profile
from tests.bench.test_runner import plan_for
from tests.bench.test_workers import load_of

pytestmark = pytest.mark.outside

NODE = "127.0.0.2"
"""Loopback; of 127.0.0.1 Ray would make an address that others can reach."""


@pytest.fixture(scope="module")
def addresses(outside):
    """Run a cluster of two CPUs; where it is for the library, and for Ray's client."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        outside("ray")
        outside("grpc")
        with socket.create_server((NODE, 0)) as taken:
            client_port = taken.getsockname()[1]
        command = (
            f"start --head --block --node-ip-address={NODE} --port=0 --num-cpus=2"
            f" --ray-client-server-port={client_port} --object-store-memory=80000000"
            f" --include-dashboard=false --disable-usage-stats --temp-dir={folder}"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *command.split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Its server for clients forks while it calls gRPC, whose handlers for forks
            # then end the child now and again.
            env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
        )
        try:
            address = next(filter(None, map(_address_in, process.stdout)))
            patch.setenv("RAY_ADDRESS", address)
            yield {"auto": "auto", "client": f"ray://{NODE}:{client_port}"}
        finally:
            process.terminate()
            process.communicate(timeout=20)


def _address_in(line):
    found = re.search(r"--address='(.+)'", line)
    return found and found[1]


def totals(records):
    """What doesn't depend on who made the requests, nor on how long they took."""
    return sorted((r["number"], r["verdict"], r["completion_tokens"]) for r in records)


@pytest.mark.parametrize("how", ["auto", "client"])
async def test_two_workers_make_the_same_load_as_two_processes(addresses, server, how):
    plan = plan_for(server, load=Load(max_concurrency=4, num_prompts=40))
    async with Processes(2) as crew:
        expected, _ = await load_of(crew, plan)
    async with Cluster(addresses[how], None if how == "auto" else 2) as crew:
        records, reports = await load_of(crew, plan)
        again, _ = await load_of(crew, plan, stage=1)

    assert totals(expected) == totals(records) == totals(again)
    assert [(0, 20), (1, 20)] == [(report.worker, report.requests) for report in reports]
    assert all(report.cpu > 0 and 0 < report.start_error < 5 for report in reports)


async def test_a_worker_that_is_killed_is_reported_and_nothing_told_is_lost(addresses, server):
    server.profile = Profile(time_to_first_token=0.05, gap=0)
    plan = plan_for(server, load=Load(max_concurrency=2, num_prompts=40))
    numbers, sources = [[], []], set()
    async with Cluster("auto", 2) as crew:

        def emit(line):
            record = orjson.loads(line)
            if record["worker"] == 1 and not numbers[1]:
                os.kill(crew.pids[1], signal.SIGKILL)
            numbers[record["worker"]].append(record["number"])
            sources.add(record["source"])

        reports = await crew.run(plan, emit, began_ns=time.perf_counter_ns(), stage=0)
    told = len(numbers[1])

    assert [*range(0, 40, 2)] == numbers[0]
    assert [*range(1, 40, 2)][:told] == numbers[1]
    assert 0 < told < 20
    assert [(20, False), (told, True)] == [(r.requests, r.lost) for r in reports]
    assert "worker process has died" in reports[1].error
    assert "kernel" in sources  # whatever loop Ray has, a load's own is asyncio's


async def test_stopping_keeps_what_came_until_then(addresses, server):
    server.profile = Profile(time_to_first_token=0, gap=60)
    plan = plan_for(server, load=Load(max_concurrency=4, num_prompts=4))
    async with Cluster("auto", 2) as crew:
        running = asyncio.create_task(load_of(crew, plan))
        await server.until(lambda s: s.open_streams == 4)
        crew.stop()
        records, reports = await running
        leaving = asyncio.create_task(load_of(crew, plan))
        await server.until(lambda s: s.open_streams == 4)
    _, left = await leaving

    assert ["cancelled"] * 4 == [record["verdict"] for record in records]
    assert not any(report.lost for report in reports)
    assert all(report.lost for report in left)


async def test_what_cant_be_asked_is_refused_by_the_workers_too(addresses, server):
    plan = plan_for(server)
    plan = evolve(plan, targets=(evolve(plan.targets[0], base_url="ftp://x"),))
    async with Cluster("auto", 2) as crew:
        with pytest.raises(RequestError, match="base_url"):
            await load_of(crew, plan)


def test_the_command_measures_from_a_cluster(addresses, outside):
    """
    Ray prints nothing where the figures go, and the workers listen to truth servers of
    their own first.
    """
    outside("numpy")
    options = "--simulate --cluster auto --workers auto -c 4 -n 20 --output-tokens 8 --json"
    done = subprocess.run(
        [sys.executable, "-m", "chatstream", "bench", *options.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    summary = json.loads(done.stdout or "{}")

    assert 0 == done.returncode, done.stderr
    assert 20 == summary["requests"]["good"]
    assert [10, 10] == [worker["requests"] for worker in summary["workers"]]
    assert summary["client"]["calibration"]["requests"] > 0
    assert summary["client"]["calibration"]["time_to_first_token_error"]["p50"] < 1


async def test_more_workers_than_cpus_find_no_room(addresses, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with pytest.raises(CrewError, match="no room for 3 workers: it has 2 CPUs"):
        async with Cluster("auto", 3):
            pass


async def test_a_node_without_chatstream_is_told(addresses, monkeypatch, tmp_path):
    """
    Workers look for modules where we are, first: there is something else of that name.
    """
    (tmp_path / "chatstream.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CrewError, match=r"No module named 'chatstream\..*each node needs"):
        async with Cluster("auto", 1):
            pass
