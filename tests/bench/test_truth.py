"""chatstream.bench.truth: the server that a client is measured against, and how hard."""

import asyncio
import math
import signal
import sys

import pytest
from attrs import evolve

from chatstream import ChatSession
from chatstream.bench import truth
from chatstream.bench.plan import Load, Plan, Target
from chatstream.bench.truth import (
    MOST_AT_ONCE,
    STREAM,
    StartError,
    calibration_plan,
    concurrency_of,
    gap_for,
    served,
    truth_profile,
)
from chatstream.bench.workload import Synthetic
from chatstream.testing import Profile
from tests.processes import children

TARGET = Target(base_url="http://127.0.0.1:1/v1", model="m", api_key="a secret")


def plan_of(targets=1, **load):
    return Plan(
        targets=(TARGET,) * targets,
        load=Load(**load),
        workload=Synthetic(input_tokens=4, output_tokens=3),
        seed=7,
    )


# --- As large as the load ------------------------------------------------------


@pytest.mark.parametrize(
    ("streams", "load"),
    [
        (8, {"max_concurrency": 8, "num_prompts": 100}),
        (8, {"max_concurrency": 8, "duration": 60}),
        (5, {"max_concurrency": 8, "num_prompts": 5}),
        (16, {"max_concurrency": 8, "num_prompts": 100, "targets": 2}),
        (MOST_AT_ONCE, {"max_concurrency": 9000, "duration": 60}),
        (round(50 * STREAM), {"request_rate": 50, "duration": 60}),
        (4, {"request_rate": 50, "duration": 60, "max_concurrency": 4}),
        (2, {"request_rate": 50, "num_prompts": 2}),
        (1, {"request_rate": 0.1, "duration": 60}),
        (300, {"request_rate": math.inf, "num_prompts": 300}),
        (round(40 * STREAM), {"schedule": (*(at / 40 for at in range(400)), 10.0)}),
        (2, {"schedule": (0.0, 0.0, 0.0)}),
        (1, {"schedule": ()}),
    ],
)
def test_it_is_as_many_streams_as_the_load_has_at_a_time(streams, load):
    assert streams == concurrency_of(plan_of(**load))


@pytest.mark.parametrize(
    ("gap", "streams"), [(0.01, 1), (0.01, 100), (0.02, 200), (0.05, 500), (0.05, 2000)]
)
def test_many_streams_get_their_chunks_more_slowly(gap, streams):
    """
    The truth server has one core, too; at 10,000 chunks a second it still has time.
    """
    assert gap == gap_for(streams)
    assert Profile(time_to_first_token=0.05, gap=gap) == truth_profile(streams)


def test_a_closed_load_is_calibrated_by_one():
    plan = calibration_plan(plan_of(max_concurrency=50, num_prompts=1000), "http://127.0.0.1:2/v1")

    assert Load(max_concurrency=50, duration=1.5) == plan.load
    assert STREAM == pytest.approx(plan.workload.output_tokens * gap_for(50))


def test_an_open_load_is_calibrated_by_as_many_requests_in_a_second():
    plan = calibration_plan(plan_of(request_rate=50, duration=60, ramp=9), "http://127.0.0.1:2/v1")

    assert Load(request_rate=50, duration=1.5) == plan.load


def test_calibrating_needs_nothing_of_the_load_but_its_size():
    """
    The key is for another server, and so may be a proxy.
    """
    asked = evolve(plan_of(max_concurrency=1, num_prompts=1), params={"n": 2}, keep_text=True)
    plan = calibration_plan(asked, "http://127.0.0.1:2/v1")

    assert (Target(base_url="http://127.0.0.1:2/v1", model="truth", api_key="none"),) == (
        plan.targets
    )
    assert ({}, False, 1, 7) == (plan.params, plan.keep_text, plan.attempts, plan.seed)


# --- The server's process --------------------------------------------------------


async def test_the_server_behaves_as_its_profile_says_and_tells_when_it_sent():
    before = children()
    async with served(Profile.preset("instant", tokens=2)) as base_url:
        started = children()
        async with (
            ChatSession(base_url, "any") as session,
            session.stream(model="m", messages=[{"role": "user", "content": "hi"}]) as stream,
        ):
            events = [event async for event in stream]

    sent = [event.chunk.envelope.extra["sent_ns"] for event in events]
    assert 2 == stream.report.completion_tokens
    assert all(0 <= event.arrived_ns - at for event, at in zip(events, sent, strict=True))
    assert 1 == len(started) - len(before)
    assert before == children()


async def test_a_server_that_cant_start_says_so(monkeypatch, capfd):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")

    with pytest.raises(StartError, match="the built-in server didn't start"):
        async with served(Profile()):
            pass
    assert "encodings" in capfd.readouterr().err


async def test_a_process_that_doesnt_end_with_its_input_is_killed(monkeypatch):
    monkeypatch.setattr(truth, "PATIENCE", 0)
    deaf = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import time; time.sleep(60)", stdin=asyncio.subprocess.PIPE
    )
    await truth.ended(deaf)

    assert -signal.SIGKILL == deaf.returncode
