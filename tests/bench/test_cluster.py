"""The crew on a cluster, with a stand-in for Ray: tests/outside/test_ray.py has the real one."""

import asyncio
import os
import pickle
import socket
import sys
import threading
import time
from types import SimpleNamespace

import orjson
import pytest
from attrs import evolve

import chatstream
from chatstream import RequestError
from chatstream.bench import cluster
from chatstream.bench.cluster import OWN_TRUTH, Cluster, Worker
from chatstream.bench.plan import Load
from chatstream.bench.workers import CrewError
from chatstream.bench.workload import Synthetic
from chatstream.testing import Profile
from tests.bench.test_runner import plan_for
from tests.bench.test_workers import load_of


class RayError(Exception):
    """What Ray's errors derive from."""


class Reference:
    """An answer to come."""

    def __init__(self, coroutine, loop):
        self._answer = asyncio.run_coroutine_threadsafe(coroutine, loop)

    def __await__(self):
        return asyncio.wrap_future(self._answer).__await__()


class Actor:
    """A worker that Ray would run in a process of its own; here it is on the test's loop."""

    def __init__(self, ray, worker):
        self._ray = ray
        self.worker = worker
        self.death = ray.loop.create_future()
        self.calls = set()

    def __getattr__(self, name):
        return SimpleNamespace(
            remote=lambda *arguments: Reference(self._call(name, arguments), self._ray.loop)
        )

    async def _call(self, name, arguments):
        self.calls.add(asyncio.current_task())
        doing = asyncio.ensure_future(self._answer(name, arguments))
        try:
            await asyncio.wait({doing, self.death}, return_when=asyncio.FIRST_COMPLETED)
            if self.death.done():
                raise RayError(f"The actor died.\n\tpid: 1\n{self.death.result()}")
            return await doing
        except (KeyError, RequestError) as error:
            raise RayError(f"Traceback\n{type(error).__name__}: {error}") from None
        finally:
            doing.cancel()

    async def _answer(self, name, arguments):
        if name in self._ray.before:
            await self._ray.before[name](self)
        return await getattr(self.worker, name)(*arguments)

    async def die(self, reason):
        """End as a process does: at once, and its connections with it."""
        if not self.death.done():
            self.death.set_result(reason)
            await self.worker.stop()


class StandIn:
    """As much of Ray as a crew uses."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.cpus = 2
        self.actors = []
        self.address = None
        self.connected = False
        self.refuses = None
        self.connecting = threading.Event()
        self.may_connect = threading.Event()
        self.may_connect.set()
        self.ends = []
        self.before = {}
        """By the name of a method: what to do first when it is called."""

    def init(self, address, *, log_to_driver, logging_level):
        self.connecting.set()
        self.may_connect.wait(5)
        if self.refuses is not None:
            raise self.refuses
        self.address, self.connected = address, True

    def shutdown(self):
        self.connected = False

    def cluster_resources(self):
        return {"CPU": float(self.cpus)}

    def available_resources(self):
        return {}

    def put(self, value):
        return pickle.loads(pickle.dumps(value))

    def remote(self, kind):
        def hire(*arguments):
            self.actors.append(Actor(self, kind(*arguments)))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=hire))

    def kill(self, actor):
        self.ends.append(asyncio.run_coroutine_threadsafe(self._end(actor), self.loop))

    async def _end(self, actor):
        """Tell of a death after a while; who has gone by then never hears of it."""
        await asyncio.sleep(0.01)
        if not self.connected:
            for call in actor.calls:
                call.cancel()
        await actor.die("The actor is dead because it was killed.")


@pytest.fixture
async def ray(monkeypatch):
    """Stand in for Ray; all that it ran is over in the end."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    yield stand_in
    await asyncio.gather(*map(asyncio.wrap_future, stand_in.ends))
    assert not stand_in.connected


def slow(server, streams):
    """Let answers not end; a plan of so many at a time."""
    server.profile = Profile(time_to_first_token=0, gap=60)
    return plan_for(server, load=Load(max_concurrency=streams, num_prompts=streams))


async def all_of(worker):
    """Take what a worker has until its load is over: its records, and what it told."""
    told, records = None, []
    while told is None:
        lines, told = await worker.take()
        records += map(orjson.loads, lines)
    return records, told


# --- A worker in its process -----------------------------------------------------


async def test_a_worker_makes_its_part_and_tells_what_it_cost(server):
    worker = Worker(1)
    await worker.prepare(plan_for(server), {"stage": 3, "workers": 2})
    began_ns = time.perf_counter_ns()
    await worker.go(50_000_000, 5_000_000_000)
    records, told = await all_of(worker)
    took_ns = time.perf_counter_ns() - began_ns

    assert took_ns > 50_000_000
    assert [1, 3, 5] == sorted(record["number"] for record in records)
    assert {(1, 3)} == {(record["worker"], record["stage"]) for record in records}
    assert 5_000_000_000 == min(record["scheduled_ns"] for record in records)
    assert told["cpu"] > 0


async def test_records_are_told_while_the_load_goes_on(server, monkeypatch):
    """
    What has been told isn't lost with the worker.
    """
    monkeypatch.setattr(cluster, "BATCH", 0.01)
    plan = plan_for(server, load=Load(schedule=(0.0, 60.0)))
    worker = Worker(0)
    await worker.prepare(plan, {"stage": 0, "workers": 1})
    await worker.go(0, 0)
    lines = []
    while not lines:
        lines, told = await worker.take()
    await worker.stop()
    rest, _ = await all_of(worker)

    assert [0] == [orjson.loads(line)["number"] for line in lines]
    assert told is None
    assert [] == rest


async def test_a_worker_that_was_stopped_before_it_went_makes_nothing(server):
    """
    Ray doesn't keep calls in order.
    """
    worker = Worker(0)
    await worker.prepare(plan_for(server), {"stage": 0, "workers": 1})
    await worker.stop()
    await worker.go(0, 0)
    records, told = await all_of(worker)
    await worker.stop()

    assert [] == records
    assert "cpu" in told
    assert [] == server.requests


class Broken:
    """Asks once, then fails."""

    def conversation(self, number, seed):
        return {0: Synthetic(input_tokens=4, output_tokens=3).conversation(0, seed)}[number]


async def test_a_worker_that_fails_first_tells_what_it_has(server):
    plan = plan_for(server, load=Load(max_concurrency=1, num_prompts=2), workload=Broken())
    worker = Worker(0)
    await worker.prepare(plan, {"stage": 0, "workers": 1})
    await worker.go(0, 0)
    lines, told = await worker.take()

    assert ([0], None) == ([orjson.loads(line)["number"] for line in lines], told)
    with pytest.raises(KeyError):
        await worker.take()


async def test_a_worker_listens_to_a_truth_server_beside_it(server):
    """
    On another host neither ours could be reached, nor its clock compared.
    """
    plan = plan_for(server)
    plan = evolve(plan, targets=(evolve(plan.targets[0], base_url=OWN_TRUTH),))
    worker = Worker(0)
    await worker.serve(Profile.preset("instant"))
    await worker.prepare(plan, {"stage": 0, "workers": 1})
    await worker.go(0, 0)
    records, _ = await all_of(worker)
    await worker.serve(None)

    assert [] == server.requests
    for record in records:
        off = [a - t for a, t in zip(record["arrivals_ns"], record["truth_ns"], strict=True)]
        assert all(abs(late) < 5_000_000_000 for late in off)


# --- The crew --------------------------------------------------------------------


async def test_a_crew_makes_the_whole_load_several_times(ray, server):
    async with Cluster("auto") as crew:
        connected = ray.connected
        first, reports = await load_of(crew, plan_for(server))
        second, _ = await load_of(crew, plan_for(server), stage=1)

    assert connected
    assert 2 == crew.workers
    assert [0, 1, 2, 3, 4, 5] == sorted(record["number"] for record in first)
    assert {1} == {record["stage"] for record in second}
    assert [(0, 3), (1, 3)] == [(report.worker, report.requests) for report in reports]
    assert all(report.host and report.cpu > 0 and not report.lost for report in reports)
    assert [os.getpid()] * 2 == crew.pids


async def test_how_far_starts_may_be_apart_is_told(ray, server):
    """
    It is the time that the message to start took, at most: there and back.
    """

    async def delay(_):
        await asyncio.sleep(0.02)

    ray.before["go"] = delay
    async with Cluster("auto") as crew:
        _, reports = await load_of(crew, plan_for(server))

    assert all(0.02 <= report.start_error < 5 for report in reports)


async def test_moments_count_from_when_the_run_began(ray, server):
    async with Cluster("auto", 1) as crew:
        began_ns = time.perf_counter_ns() - 5_000_000_000
        records, _ = await load_of(crew, plan_for(server), began_ns=began_ns)

    assert all(5e9 < record["scheduled_ns"] < 15e9 for record in records)


async def test_a_lost_worker_is_reported_and_the_others_go_on(ray, server):
    plan = slow(server, 2)
    async with Cluster("auto", 2) as crew:
        running = asyncio.create_task(load_of(crew, plan))
        await server.until(lambda s: s.open_streams == 2)
        await ray.actors[1].die("Its node has died.")
        await server.until(lambda s: s.open_streams == 1)
        crew.stop()
        records, reports = await running
        again, reports_again = await load_of(crew, evolve(plan, load=Load(schedule=())))

    assert [(0, "cancelled")] == [(record["worker"], record["verdict"]) for record in records]
    assert [(False, None), (True, "Its node has died.")] == [(r.lost, r.error) for r in reports]
    assert [] == again
    assert [False, True] == [report.lost for report in reports_again]
    assert [False, True] == [report.start_error is None for report in reports_again]


async def test_a_worker_that_fails_is_lost_with_what_it_had_told(ray, server, monkeypatch):
    """
    It may be there yet, so it is let go.
    """

    async def fail(_):
        raise RayError("Traceback\nKeyError: 'x'")

    ray.before["take"] = fail
    async with Cluster("auto", 1) as crew:
        _, (report,) = await load_of(crew, plan_for(server))
        await ray.actors[0].death

    assert (True, "KeyError: 'x'") == (report.lost, report.error)


async def test_stopping_a_crew_that_cant_be_reached_does_no_harm(ray):
    async with Cluster("auto", 1) as crew:
        ray.actors[0].stop = SimpleNamespace(remote=unreachable)
        crew.stop()


def unreachable():
    raise ConnectionError("the head has gone")


async def test_stopping_keeps_what_came_until_then(ray, server):
    async with Cluster("auto", 2) as crew:
        running = asyncio.create_task(load_of(crew, slow(server, 4)))
        await server.until(lambda s: s.open_streams == 4)
        crew.stop()
        records, reports = await running
        server.profile = Profile.preset("instant")
        after, _ = await load_of(crew, plan_for(server))

    assert ["cancelled"] * 4 == [record["verdict"] for record in records]
    assert [2, 2] == [report.requests for report in reports]
    assert 6 == len(after)


async def test_stopping_holds_while_the_plan_is_on_its_way(ray, server):
    async with Cluster("auto", 2) as crew:

        async def stop(actor):
            crew.stop()
            for _ in range(10):  # it hears of it before it has the plan
                await asyncio.sleep(0)

        ray.before["prepare"] = stop
        records, reports = await load_of(crew, plan_for(server))

    assert [] == records
    assert [] == server.requests
    assert not any(report.lost for report in reports)


async def test_what_cant_be_asked_is_refused_and_nobody_goes_on(ray, server):
    """
    A proxy may be missing on one node only: the others don't make a load nobody wants.
    """
    plan = slow(server, 2)
    broken = evolve(plan, targets=(evolve(plan.targets[0], base_url="ftp://x"),))

    async def spoil(actor):
        if actor is ray.actors[1]:
            await server.until(lambda s: s.open_streams == 1)
            actor.worker._plan = broken

    ray.before["go"] = spoil
    async with Cluster("auto", 2) as crew:
        with pytest.raises(RequestError, match="base_url"):
            await load_of(crew, plan)
        await server.until(lambda s: s.open_streams == 0)


async def test_leaving_ends_a_load_under_way(ray, server):
    async with Cluster("auto", 1) as crew:
        running = asyncio.create_task(load_of(crew, slow(server, 1)))
        await server.until(lambda s: s.open_streams == 1)
    _, (report,) = await running

    assert (True, "The actor is dead because it was killed.") == (report.lost, report.error)


async def test_each_worker_has_a_truth_server_of_its_own(ray, server):
    plan = plan_for(server)
    async with Cluster("auto", 2) as crew:
        async with crew.truth(Profile.preset("instant")) as url:
            plan = evolve(plan, targets=(evolve(plan.targets[0], base_url=url),))
            records, _ = await load_of(crew, plan)
            urls = {actor.worker._truth_url for actor in ray.actors}
        after, _ = await load_of(crew, plan)

    assert 2 == len(urls)
    assert [] == server.requests
    assert all(record["truth_ns"] for record in records)
    assert {"connect_error"} == {record["verdict"] for record in after}


# --- What keeps a crew from coming up ----------------------------------------------


async def refusal(crew):
    """Enter *crew*, which fails; what is said of it."""
    with pytest.raises(CrewError) as caught:
        async with crew:
            pass
    return str(caught.value)


@pytest.mark.parametrize("address", ["local", "127.0.0.1:6379", "http://head:10001"])
def test_no_cluster_is_started(address):
    """
    Ray would, of what it can't make an address.
    """
    with pytest.raises(RequestError, match="ray://HOST:PORT or auto"):
        Cluster(address)


async def test_without_ray_its_import_fails(monkeypatch):
    """
    Whoever shows errors knows the extra.
    """
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        async with Cluster("auto"):
            pass

    assert "ray" == caught.value.name


async def test_ray_leaves_standard_output_to_the_figures(ray, monkeypatch):
    monkeypatch.delenv("RAY_DEDUP_LOGS_SKIP_REGEX")
    async with Cluster("auto"):
        pass

    assert "^" == os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"]


async def test_a_cluster_that_isnt_there_is_told(ray):
    ray.refuses = ConnectionError("Could not find any\nrunning Ray instance.")
    told = await refusal(Cluster("auto"))

    assert "can't connect to the Ray cluster auto: Could not find any running Ray instance." == told


async def test_of_a_head_that_fails_the_end_is_told(ray):
    """
    It sends a traceback.
    """
    text = "Initialization failure from server:\nTraceback …\n  File …\nRuntimeError: See x.err\n"
    ray.refuses = ConnectionAbortedError(text)
    told = await refusal(Cluster("auto"))

    assert "can't connect to the Ray cluster auto: RuntimeError: See x.err" == told


@pytest.mark.parametrize("how", ["given", "environment"])
async def test_a_cluster_that_nobody_serves_is_told_at_once(ray, monkeypatch, how):
    """
    Ray itself would try for half a minute, or for ever.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"ray://127.0.0.1:{port}" if how == "given" else f"127.0.0.1:{port}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    told = await refusal(Cluster(address if how == "given" else "auto"))

    assert told.startswith(f"can't connect to the Ray cluster {address}: ")
    assert "refused" in told
    assert not ray.connecting.is_set()


async def test_auto_is_the_cluster_that_the_environment_names(ray, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        async with Cluster("auto", 1):
            pass

    assert address == ray.address


async def test_a_node_without_chatstream_is_told(ray):
    async def fail(_):
        raise RayError("Traceback\nModuleNotFoundError: No module named 'chatstream'\n")

    ray.before["introduce"] = fail
    told = await refusal(Cluster("auto"))

    assert (
        "worker 0 didn't start: ModuleNotFoundError: No module named 'chatstream'"
        f" (each node needs chatstream-sdk {chatstream.__version__})" == told
    )


async def test_a_node_with_another_version_is_told(ray, monkeypatch):
    async def old(actor):
        async def introduce():
            return "0.0.9", "node7", 1

        actor.worker.introduce = introduce

    ray.before["introduce"] = old
    told = await refusal(Cluster("auto"))

    assert (
        "node7 has chatstream-sdk 0.0.9,"
        f" but each node needs chatstream-sdk {chatstream.__version__}" == told
    )


async def test_a_cluster_without_room_is_told(ray, monkeypatch):
    async def never(_):
        await asyncio.Event().wait()

    monkeypatch.setattr(cluster, "PATIENCE", 0.01)
    ray.before["introduce"] = never
    told = await refusal(Cluster("auto", 3))

    assert "the Ray cluster found no room for 3 workers: it has 2 CPUs, of which 0 are left" == told


async def test_a_cluster_without_cpus_of_its_own_is_asked_for_one_worker(ray):
    """
    It may get nodes when somebody asks.
    """
    ray.cpus = 0
    async with Cluster("auto") as crew:
        pass

    assert 1 == crew.workers


async def test_whoever_is_cancelled_while_it_connects_is_disconnected(ray):
    """
    Connecting can't be cut short: it is undone when it is over.
    """
    ray.may_connect.clear()
    entering = asyncio.create_task(Cluster("auto").__aenter__())
    await asyncio.to_thread(ray.connecting.wait, 5)
    entering.cancel()
    too_early, _ = await asyncio.wait({entering}, timeout=0.05)
    ray.may_connect.set()
    with pytest.raises(asyncio.CancelledError):
        await entering

    assert not too_early
    assert not ray.connected
