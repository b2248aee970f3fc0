"""A server that stands still under a load: what is told of it, beside what it did.

The server is a process that is stopped by a signal. What is true comes from its own log of
when it had each request and made each write, and from when requests were due.
"""

import asyncio
import io
import math
import time
from operator import attrgetter

import attrs
import numpy as np
import pytest
from rich.console import Console

from benchmarks.bench_truth import read_log
from benchmarks.freeze import stop_process, true_waits
from benchmarks.server import truth_process
from chatstream.bench import Conversation, Load, Log, Plan, Prompts, Target, Turn
from chatstream.bench.output.terminal import show_summary
from chatstream.bench.runner import Job, Runner
from chatstream.bench.summary import Facts, summarised

RATE = 60
SECONDS = 1.5
BEFORE = 0.3
STOPPED = 1.0
ANY_NUMBER, A_FEW = None, 5
S = 1_000_000_000

PROFILE = {"time_to_first_token": 0.01, "gap": 0.004}
COUNT = Conversation(turns=(Turn(messages=({"role": "user", "content": "Count to 2"},)),))


def plan_for(url, ceiling):
    return Plan(
        targets=(Target(base_url=url, model="simulated"),),
        load=Load(
            request_rate=RATE, burstiness=math.inf, duration=SECONDS, max_concurrency=ceiling
        ),
        workload=Prompts(conversations=(COUNT,)),
    )


async def both_loads(url, pid):
    """Make both loads on one server, and stop it meanwhile; returns when, and their records."""
    start_ns = time.perf_counter_ns()
    records = {ceiling: [] for ceiling in (ANY_NUMBER, A_FEW)}
    loads = [
        asyncio.create_task(
            Runner(Job(plan=plan_for(url, ceiling), start_ns=start_ns), emitted.append).run()
        )
        for ceiling, emitted in records.items()
    ]
    await asyncio.sleep(BEFORE)
    freeze = await asyncio.to_thread(stop_process, pid, STOPPED)
    await asyncio.gather(*loads)
    return start_ns, freeze, records


@attrs.frozen
class Frozen:
    """A load during which the server stood still."""

    summary: dict
    silence: list
    """The last that it did before and the first after, on the run's clock."""
    late: float
    """How long after its last write the client was done with a stream, at most."""
    waits: list
    """From when requests were due to the first token, and to the last."""

    def true(self, share):
        return [np.quantile(waits, share) for waits in self.waits]

    def told(self, share, origin=""):
        names = ("time_to_first_token", "duration")
        return [self.summary["metrics"][name + origin][share] for name in names]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """Both loads, by their ceiling."""
    file = tmp_path_factory.mktemp("freeze") / "served.jsonl"
    with truth_process(PROFILE, file) as (url, pid):
        start_ns, freeze, records = asyncio.run(both_loads(url, pid))
    did = read_log(file)
    found = {}
    for ceiling, emitted in records.items():
        emitted.sort(key=attrgetter("number"))
        served = [did[record.request_id] for record in emitted]
        # It answers the head of a response at once.
        acts = np.array([at for each in served for at in (each.received_ns, *each.sent_ns)])
        edges = acts[acts < freeze.start_ns].max(), acts[acts > freeze.end_ns].min()
        ends = [each.sent_ns[-1] - start_ns for each in served]
        facts = Facts(loads=(plan_for(url, ceiling).load,))
        found[ceiling] = Frozen(
            summarised(Log.of(emitted), facts),
            [(edge - start_ns) / S for edge in edges],
            max(record.end_ns - end for record, end in zip(emitted, ends, strict=True)) / S,
            true_waits(served, RATE, start_ns / S),
        )
    return found


@pytest.fixture(params=[ANY_NUMBER, A_FEW], ids=["any number open", "a few open"])
def load(frozen, request):
    """One of the loads."""
    return frozen[request.param]


@pytest.mark.thorough
def test_every_request_is_made_and_answered(load):
    """
    What is missing would be missing from the latencies.
    """
    assert {"finished": round(RATE * SECONDS)} == load.summary["outcomes"]


@pytest.mark.parametrize("share", [0.9, 0.99])
def test_percentiles_from_the_schedule_are_what_users_waited(load, share):
    """
    Also where requests weren't made while the server stood still, and so didn't wait for it.
    """
    told = load.told(f"p{share * 100:.0f}", "_from_schedule")

    assert load.true(share) == pytest.approx(told, rel=0.05)


def test_percentiles_from_the_call_are_not(frozen):
    """
    Else these loads would prove nothing: with a few open, nine of ten calls were quick.
    """
    load = frozen[A_FEW]

    for told, true in zip(load.told("p90"), load.true(0.9), strict=True):
        assert told < true / 2


def test_a_stall_is_told_where_the_server_stood_still(load):
    """
    Another one is the machine's, if it is busy; a busy client also sees late that one is over.
    """
    start, end = load.silence
    within = 0.05 + load.late
    nearest = min(load.summary["stalls"], key=lambda stall: abs(stall["start"] - start))

    assert end - start > STOPPED
    assert start == pytest.approx(nearest["start"], abs=within)
    assert end == pytest.approx(nearest["end"], abs=within)


def test_the_report_says_when(load):
    """
    Who reads it must see at a glance that the tail is a freeze.
    """
    shown = io.StringIO()
    show_summary(load.summary, Console(file=shown, width=120))

    for stall in load.summary["stalls"]:
        told = f"the server stalled for {stall['seconds']:.2f} s at {stall['start']:.2f} s"
        assert told in shown.getvalue()
