"""chatstream.bench.pytest_plugin: a server held to its goals by a test."""

import re

import pytest

from chatstream import RequestError
from chatstream.bench import client, truth
from chatstream.bench.workload import Synthetic
from chatstream.testing import Profile

pytest_plugins = ["pytester", "chatstream.bench.pytest_plugin"]


async def complaint(measured):
    """What the test that awaits *measured* fails with, line by line."""
    with pytest.raises(pytest.fail.Exception) as failed:
        await measured
    return str(failed.value).splitlines()


async def test_goals_that_are_kept_give_the_result(chat_bench, server):
    goals = {"ttft.p99": 20, "inter_chunk_latency.max": 20, "e2el.mean": 20}
    result = await chat_bench(server.base_url, "m", num_prompts=4, goals=goals)

    assert 4 == result.figure("time_to_first_token")["n"] == len(server.requests)
    assert {"m"} == {request.body["model"] for request in server.requests}
    assert result.summary["calibration_seconds"] is None


async def test_what_is_asked_is_the_callers_affair(chat_bench, server):
    await chat_bench(
        server.base_url,
        "m",
        api_key="its-own",
        params={"temperature": 0.5},
        workload=Synthetic(input_tokens=1, output_tokens=2),
        max_concurrency=1,
        num_prompts=3,
        goals={},
    )

    assert {"Bearer its-own"} == {each.headers["authorization"] for each in server.requests}
    assert {(0.5, 2)} == {
        (each.body["temperature"], each.body["max_tokens"]) for each in server.requests
    }


async def test_a_missed_goal_is_told_with_its_figure_and_how_sure_it_is(chat_bench, server):
    server.profile = Profile.preset("instant", time_to_first_token=0.03)
    goals = {"ttft.p90": 0.02, "duration.min": 0.01, "tpot.p50": 20}
    lines = await complaint(chat_bench(server.base_url, "m", num_prompts=4, goals=goals))
    first, second = lines[:2]

    assert re.fullmatch(
        r"time_to_first_token\.p90: 0\.\d+ s, the goal is 0\.02 s"
        r" \(n 4, 95 % interval 0\.\d+ to 0\.\d+ s\)",
        first,
    )
    assert re.fullmatch(r"duration\.min: 0\.\d+ s, the goal is 0\.01 s \(n 4\)", second)
    assert not [line for line in lines[2:] if not line.startswith("client: ")]


async def test_a_figure_of_one_request_has_no_interval(chat_bench, server):
    measured = chat_bench(server.base_url, "m", num_prompts=1, goals={"ttft.p50": 1e-9})
    line, *_ = await complaint(measured)

    assert line.endswith("the goal is 1e-09 s (n 1)")


async def test_a_goal_that_nothing_was_measured_of_is_missed(chat_bench, server):
    """
    An answer of one token has no time per output token; that is no reason to be glad.
    """
    workload = Synthetic(input_tokens=1, output_tokens=1)
    measured = chat_bench(
        server.base_url, "m", num_prompts=2, workload=workload, goals={"tpot.p99": 20}
    )
    line, *_ = await complaint(measured)

    assert "time_per_output_token.p99: nothing was measured, the goal is 20 s" == line


async def test_failed_requests_fail_the_test(chat_bench, server):
    server.profile = Profile.preset("instant", error_rate=1.0)
    lines = await complaint(chat_bench(server.base_url, "m", num_prompts=3, goals={}))

    assert "3 of 3 requests failed (3 http_error)" == lines[0]


async def test_as_many_may_fail_as_the_caller_says(chat_bench, server):
    server.profile = Profile.preset("instant", error_rate=1.0)
    result = await chat_bench(server.base_url, "m", num_prompts=3, goals={}, max_failed=1.0)

    assert 0 == result.summary["requests"]["good"]


async def test_a_test_without_a_request_fails(chat_bench, server):
    lines = await complaint(chat_bench(server.base_url, "m", num_prompts=1, warmup=1, goals={}))

    assert "no request was made that counts" == lines[0]


async def test_a_client_that_may_be_the_cause_is_told_of(chat_bench, server, monkeypatch):
    monkeypatch.setattr(client, "_CPU", (-1, 99))
    measured = chat_bench(server.base_url, "m", num_prompts=2, goals={"ttft.p50": 1e-9})
    *_, line = await complaint(measured)

    assert re.match(r"client: suspect \(a worker used \d+% of its core", line)


async def test_the_client_can_be_calibrated(chat_bench, server, monkeypatch):
    monkeypatch.setattr(truth, "SECONDS", 0.05)
    monkeypatch.setattr(truth, "STREAM", 0.05)
    result = await chat_bench(server.base_url, "m", num_prompts=2, goals={}, calibrate=True)

    assert 2 == result.summary["client"]["calibration"]["streams"]


@pytest.mark.parametrize(
    ("words", "goal"),
    [
        (r"goals\['ttft'\]: expected mean min max p50 .*, got no percentile", "ttft"),
        (r"goals\['ttft.p42'\]: .*, got p42", "ttft.p42"),
        ("metric: expected a latency: .*, got 'speed'", "speed.p50"),
    ],
)
async def test_a_goal_that_there_is_none_of_is_refused_before_anything_is_sent(
    chat_bench, server, words, goal
):
    with pytest.raises(RequestError, match=words):
        await chat_bench(server.base_url, "m", num_prompts=1, goals={goal: 1})

    assert [] == server.requests


SUITE = """
import pytest
from chatstream.testing import Profile, SimulatedServer

@pytest.mark.parametrize("goal", [20, 1e-9])
async def test_it_answers_in_time(chat_bench, goal):
    async with SimulatedServer(Profile.preset("instant")) as server:
        await chat_bench(server.base_url, "m", num_prompts=2, goals={"ttft.p99": goal})
"""


def test_a_suite_has_the_fixture_by_naming_the_plugin(pytester):
    """
    What fails is shown as what was missed, not as our lines of Python.
    """
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    pytester.makeconftest('pytest_plugins = ["chatstream.bench.pytest_plugin"]')
    pytester.makepyfile(SUITE)
    done = pytester.runpytest_inprocess("-p", "no:randomly")
    shown = done.stdout.str()

    done.assert_outcomes(passed=1, failed=1)
    assert "\ntime_to_first_token.p99: " in shown
    assert "pytest_plugin.py" not in shown
