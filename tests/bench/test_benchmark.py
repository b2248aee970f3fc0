"""chatstream.bench.benchmark, and the package itself: a plan that is run."""

import asyncio
import json
import os
import signal

import pytest

from chatstream import RequestError, bench
from chatstream.bench import truth
from chatstream.bench.benchmark import Run, run
from chatstream.bench.log import Log
from chatstream.bench.output.files import FILES, LOG, OutputError, Outputs, RunningLog
from chatstream.bench.output.folder import viewed, write_reports, write_vllm
from chatstream.bench.plan import Goals, Load, Target
from chatstream.bench.summary import Facts, summarised
from chatstream.bench.sweep import Sweep
from chatstream.bench.workers import Here, Processes
from chatstream.bench.workload import Conversation, Prompts, Synthetic, Turn
from chatstream.testing import Profile, SimulatedServer
from chatstream.timeouts import Timeouts
from tests.bench.shapes import misfits
from tests.bench.test_runner import plan_for
from tests.canaries import KEY, OUTPUT, PROMPT

HANGING = Profile(time_to_first_token=0, gap=60)
"""Of a server whose streams begin and don't end."""


def nothing(*_):
    """What most tests do when they are told something."""


class Told:
    """A listener that keeps what it is told, and does what a test wants then."""

    def __init__(self, *, loading=nothing, requested=nothing):
        self.streams = []
        self.loads = []
        self.lines = []
        self.when_calibrating = nothing
        self._when_loading = loading
        self._when_requested = requested

    def calibrating(self, streams):
        self.streams.append(streams)
        self.when_calibrating()

    def loading(self, load, stage):
        self.loads.append((stage, load))
        self._when_loading(load)

    def requested(self, line):
        self.lines.append(line)
        self._when_requested(self.lines)


@pytest.fixture
def short(monkeypatch):
    """Calibrating takes no longer than it must."""
    monkeypatch.setattr(truth, "SECONDS", 0.1)
    monkeypatch.setattr(truth, "STREAM", 0.05)


async def result_of(plan, **options):
    return await run(plan, **({"calibrate": False} | options))


# --- A load ------------------------------------------------------------------


async def test_a_plan_is_run_and_summed_up(server):
    plan = plan_for(server, goals=Goals(duration=30))
    result = await result_of(plan)

    assert [] == list(misfits(result.summary))
    assert {"planned": 6, "made": 6, "good": 6, "warmup": 0} == result.summary["requests"]
    assert 6 == len(result.log) == len(server.requests)
    assert 6 == result.figure("time_to_first_token")["n"]
    assert result.summary["metrics"]["duration"] == result.figure("duration")
    assert result.summary["goodput"]["met"]
    assert 0 < result.summary["load_seconds"] < 30
    assert result.summary["interrupted"] is False
    assert bench.plan.plan_described(plan) == result.summary["plan"]


async def test_a_summary_can_be_made_again_from_the_log(server):
    plan = plan_for(server, load=Load(request_rate=200, num_prompts=8, warmup=2), seed=3)
    result = await result_of(plan)
    facts = Facts.in_summary(json.loads(json.dumps(result.summary)))

    assert result.summary == summarised(result.log, facts)


async def test_the_log_may_grow_in_a_file_instead_of_memory(server, tmp_path):
    """
    What is in it is what else would be in memory, and so are all figures.
    """
    told = Told()
    with Outputs(tmp_path).log(LOG) as file:
        result = await result_of(plan_for(server), log_file=file, listener=told)
    facts = Facts.in_summary(result.summary)

    assert b"".join(told.lines) == (tmp_path / LOG).read_bytes()
    assert result.summary == summarised(Log.of_lines(told.lines), facts)


async def test_several_targets_are_measured_side_by_side(server):
    async with SimulatedServer(Profile.preset("instant", error_rate=1.0)) as other:
        targets = [
            Target(base_url=each.base_url, model=name, name=name, api_key="any")
            for each, name in ((server, "good"), (other, "bad"))
        ]
        result = await result_of(plan_for(server, targets=targets))
    good, bad = result.summary["targets"]

    assert [] == list(misfits(result.summary))
    assert ("good", server.base_url, 6) == (
        good["name"],
        good["base_url"],
        good["requests"]["good"],
    )
    assert ("bad", {"http_error": 6}) == (bad["name"], bad["outcomes"])
    assert 6 == good["metrics"]["duration"]["n"] == result.figure("duration")["n"]
    assert 12 == result.summary["requests"]["made"]


async def test_a_server_that_fails_every_request_has_empty_figures(server):
    server.profile = Profile.preset("instant", error_rate=1.0)
    result = await result_of(plan_for(server, goals=Goals(time_to_first_token=1.0)))
    [error] = result.summary["errors"]

    assert [] == list(misfits(result.summary))
    assert {"http_error": 6} == result.summary["outcomes"]
    assert ("ServerError", 503, 6) == (error["error"], error["status"], error["count"])
    assert (0, None) == (result.figure("duration")["n"], result.figure("duration")["p50"])
    assert (0, False) == (result.summary["goodput"]["good"], result.summary["goodput"]["met"])


async def test_turns_are_requests_and_those_of_a_warm_up_dont_count(server):
    load = Load(max_concurrency=1, num_prompts=4, warmup=1)
    workload = Synthetic(input_tokens=4, output_tokens=3, turns=2)
    result = await result_of(plan_for(server, load=load, workload=workload))

    assert {"planned": 4, "made": 8, "good": 6, "warmup": 2} == result.summary["requests"]
    assert 6 == sum(result.summary["outcomes"].values()) == result.figure("duration")["n"]


async def test_what_cant_be_asked_is_refused_at_once(server):
    with pytest.raises(RequestError, match="temperature"):
        Run(plan=plan_for(server, params={"temperature": 3}))


# --- Calibration ---------------------------------------------------------------


async def test_the_client_is_measured_first_and_as_hard(server, short):
    told = Told()
    load = Load(max_concurrency=3, num_prompts=6)
    result = await result_of(plan_for(server, load=load), calibrate=True, listener=told)
    summary = result.summary
    found = summary["client"]["calibration"]

    assert [] == list(misfits(summary))
    assert [3] == told.streams == [found["streams"]]
    assert 3 <= found["requests"]
    assert 0 < found["time_to_first_token_error"]["p50"] < 1
    assert found["time_to_first_token_error"]["n"] == found["requests"]
    assert 0 < summary["calibration_seconds"]
    assert 6 == len(result.log) == len(server.requests) == len(told.lines)
    assert not (summary["client"]["reasons"] or [""])[0].startswith("calibration measured no")


async def test_a_sweep_is_calibrated_at_its_largest_load(server, short):
    """
    A client that can follow one stream may not follow a hundred.
    """
    told = Told()
    sweep = Sweep(over="max_concurrency", values=(1, 5))
    plan = plan_for(server, load=Load(max_concurrency=1, num_prompts=8))
    measured = Run(plan=plan, sweep=sweep, listener=told)
    told.when_calibrating = measured.stop
    await measured.result()

    assert [5] == told.streams


async def test_calibration_can_be_left_out(server):
    told = Told()
    summary = (await result_of(plan_for(server), listener=told)).summary

    assert (None, None) == (summary["calibration_seconds"], summary["client"]["calibration"])
    assert [] == told.streams


# --- Stopped -------------------------------------------------------------------


async def test_stopping_keeps_what_was_measured(server):
    def hang(lines):
        if len(lines) == 4:
            server.profile = HANGING

    plan = plan_for(server, load=Load(max_concurrency=2, num_prompts=10), goals=Goals(duration=30))
    measured = Run(plan=plan, calibrate=False, listener=Told(requested=hang))
    running = asyncio.create_task(measured.result())
    await server.until(lambda s: s.profile is HANGING and s.open_streams == 2)
    measured.stop()
    result = await running
    outcomes = result.summary["outcomes"]

    assert result.summary["interrupted"] is True
    assert len(result.log) == 10 - outcomes["not_attempted"]
    assert 4 <= result.summary["requests"]["good"] == result.figure("duration")["n"]
    assert 1 <= outcomes["cancelled"] <= 2
    assert [] == result.summary["errors"]
    assert len(result.log) == result.summary["goodput"]["attempted"]


async def test_stopped_while_it_calibrates_a_run_asks_nothing(server, short):
    told = Told()
    measured = Run(plan=plan_for(server), listener=told)
    told.when_calibrating = measured.stop
    summary = (await measured.result()).summary

    assert [] == server.requests == told.loads
    assert ({"not_attempted": 6}, True) == (summary["outcomes"], summary["interrupted"])
    assert (None, None) == (summary["calibration_seconds"], summary["client"]["calibration"])
    assert [] == list(misfits(summary))


async def test_stopped_in_the_middle_of_calibrating_it_ends_that(server, short, monkeypatch):
    class Impatient(Here):
        """Stops with the first answer."""

        async def run(self, plan, emit, **how):
            def last(line):
                emit(line)
                measured.stop()

            return await super().run(plan, last, **how)

    monkeypatch.setattr(truth, "SECONDS", 20)
    measured = Run(plan=plan_for(server), crew=Impatient())
    summary = (await measured.result()).summary

    assert [] == server.requests
    assert 2 == summary["client"]["calibration"]["streams"]
    assert 0 < summary["calibration_seconds"] < 15


async def test_stopped_before_it_begins_a_run_asks_nothing(server):
    told = Told()
    sweep = Sweep(over="max_concurrency", values=(1, 2))
    measured = Run(plan=plan_for(server), sweep=sweep, listener=told)
    measured.stop()
    result = await measured.result()

    assert [] == server.requests == result.summary["stages"] == told.streams == told.loads
    assert [] == list(misfits(result.summary))
    assert result.summary == summarised(result.log, Facts.in_summary(result.summary))


# --- A sweep -------------------------------------------------------------------


async def test_a_sweep_makes_its_loads_and_some_between(server):
    """
    Between the best that meets the goals and the next, where the limit is.
    """

    def overload(load):
        slow = load.max_concurrency > 4
        server.profile = Profile.preset("instant", time_to_first_token=0.4 if slow else 0.0)

    told = Told(loading=overload)
    sweep = Sweep(over="max_concurrency", values=(2, 8), refine=2)
    goals = Goals(time_to_first_token=0.35)
    plan = plan_for(server, load=Load(max_concurrency=2, num_prompts=6), goals=goals)
    result = await result_of(plan, sweep=sweep, listener=told)
    summary = result.summary

    assert [2, 8, 4, 6] == [stage["value"] for stage in summary["stages"]]
    assert [0, 1, 2, 3] == [stage for stage, _ in told.loads]
    assert [2, 8, 4, 6] == [load.max_concurrency for _, load in told.loads]
    assert [True, False, True, False] == [s["goodput"]["met"] for s in summary["stages"]]
    assert (2, 2) == (summary["sweep"]["best"], summary["shown"])
    assert summary["stages"][2]["metrics"] == summary["metrics"]
    assert [6] * 4 == [stage["requests"]["good"] for stage in summary["stages"]]
    assert 24 == len(result.log) == sum(worker["requests"] for worker in summary["workers"])
    assert [] == list(misfits(summary))
    assert summary == summarised(result.log, Facts.in_summary(summary))


async def test_a_sweep_that_is_stopped_keeps_the_loads_it_made(server):
    def hang(load):
        if load.max_concurrency == 3:
            server.profile = HANGING

    sweep = Sweep(over="max_concurrency", values=(1, 3, 9))
    plan = plan_for(
        server, load=Load(max_concurrency=1, num_prompts=6), goals=Goals(time_to_first_token=30)
    )
    measured = Run(plan=plan, sweep=sweep, calibrate=False, listener=Told(loading=hang))
    running = asyncio.create_task(measured.result())
    await server.until(lambda s: s.open_streams == 3)
    measured.stop()
    result = await running
    summary = result.summary

    assert [1, 3] == [stage["value"] for stage in summary["stages"]]
    assert {"cancelled": 3, "not_attempted": 3} == summary["stages"][1]["outcomes"]
    assert [6, 3] == [stage["goodput"]["attempted"] for stage in summary["stages"]]
    assert (0, True) == (summary["shown"], summary["interrupted"])
    assert summary == summarised(result.log, Facts.in_summary(summary))


# --- Workers -------------------------------------------------------------------


async def test_the_share_of_a_lost_worker_counts_as_never_made(server):
    server.profile = HANGING
    load = Load(max_concurrency=2, num_prompts=10)
    plan = plan_for(server, load=load, timeouts=Timeouts(idle=0.2), goals=Goals(duration=30))
    crew = Processes(2)
    running = asyncio.create_task(result_of(plan, crew=crew))
    await server.until(lambda s: s.open_streams == 2)
    server.profile = Profile.preset("instant")
    os.kill(crew.pids[1], signal.SIGKILL)
    summary = (await running).summary
    [kept, lost] = summary["workers"]

    assert [] == list(misfits(summary))
    assert (1, 5) == (summary["outcomes"]["timeout"], summary["outcomes"]["not_attempted"])
    assert (10, 4) == (summary["goodput"]["attempted"], summary["goodput"]["good"])
    assert [(5, False, None), (0, True, "SIGKILL")] == [
        (worker["requests"], worker["lost"], worker["error"]) for worker in (kept, lost)
    ]
    assert summary["client"]["verdict"] != "ok"
    assert "1 of 2 workers were lost" in summary["client"]["reasons"]
    assert summary["interrupted"] is False


class Full(RunningLog):
    """A log on a disk that is full."""

    def add(self, line):
        raise OutputError(self.part, "No space left on device")


@pytest.mark.parametrize("crew", [Here(), Processes(2)], ids=["here", "processes"])
async def test_a_log_that_cant_be_written_ends_the_run(server, tmp_path, crew):
    plan = plan_for(server, load=Load(max_concurrency=2, duration=60))
    with pytest.raises(OutputError, match="No space left"), Full(tmp_path / LOG) as file:
        await result_of(plan, crew=crew, log_file=file)
    await server.until(lambda s: s.open_connections == 0)

    assert [] == list(tmp_path.iterdir())


# --- What the server says of itself ----------------------------------------------

PAGE = """\
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{le="0.5",model_name="m"} {count}
vllm:request_queue_time_seconds_bucket{le="+Inf",model_name="m"} {count}
vllm:request_queue_time_seconds_sum{model_name="m"} {sum}
vllm:request_queue_time_seconds_count{model_name="m"} {count}
"""


async def test_the_servers_own_page_is_read_before_and_after(server, raw_server, wire):
    """
    What lies between is the load's.
    """
    seen = []

    async def page(connection):
        await connection.request()
        seen.append(len(server.requests))
        text = PAGE.replace("{count}", str(seen[-1])).replace("{sum}", str(seen[-1] / 4))
        await connection.send(wire.response(text.encode(), content_type="text/plain"))

    metrics = await raw_server(page)
    summary = (await result_of(plan_for(server), metrics_url=f"{metrics.origin}/metrics")).summary
    found = summary["server"]["metrics"]["queue_time"]

    assert [0, 6] == seen
    assert (6, 0.25) == (found["n"], found["mean"])
    assert [] == list(misfits(summary))


async def test_a_page_that_isnt_there_harms_nothing(server):
    result = await result_of(plan_for(server), metrics_url=f"{server.origin}/nowhere")

    assert {} == result.summary["server"]["metrics"]
    assert "404" in result.summary["server"]["notes"][0]
    assert 6 == result.summary["requests"]["good"]


# --- Secrets -------------------------------------------------------------------

ASKED = Prompts(
    conversations=(
        Conversation(turns=(Turn(messages=({"role": "user", "content": f"Say {OUTPUT}"},)),)),
        Conversation(
            turns=(
                Turn(
                    messages=(
                        {"role": "system", "content": PROMPT},
                        {"role": "user", "content": "Say hi"},
                    )
                ),
            )
        ),
    )
)


@pytest.fixture
async def telling(server, tmp_path):
    """Run, and write down all that can be; what is in each file."""

    async def tell(**changes):
        target = Target(
            base_url=server.base_url,
            model="m",
            api_key=KEY,
            headers={"x-team": "canary header"},
            proxy=None,
        )
        plan = plan_for(server, targets=(target,), workload=ASKED, **changes)
        with Outputs(tmp_path).log(LOG) as file:
            result = await result_of(plan, log_file=file)
        tools = bench.definitions.TOOLS
        result.summary["definitions"] = viewed(result.log, result.summary, tools)
        write_reports(Outputs(tmp_path), result.log, result.summary)
        write_vllm(tmp_path / "vllm.json", result.log, result.summary, overwrite=False)
        return {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}

    return tell


async def test_nothing_tells_prompts_answers_or_keys(server, telling):
    """
    K23: whoever shows a report to others shows figures.
    """
    files = await telling()

    assert {*FILES, "vllm.json"} == files.keys()
    assert any(PROMPT.encode() in request.raw for request in server.requests)
    assert {f"Bearer {KEY}"} == {each.headers["authorization"] for each in server.requests}
    for name, text in files.items():
        for secret in (PROMPT, OUTPUT, KEY, "canary header"):
            assert secret not in text, f"{secret} in {name}"


async def test_answers_are_told_if_that_is_wanted_and_nothing_else(telling):
    files = await telling(keep_text=True)

    assert {LOG, "report.html", "vllm.json"} == {name for name in files if OUTPUT in files[name]}
    for text in files.values():
        for secret in (PROMPT, KEY, "canary header"):
            assert secret not in text


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_answers_that_cant_be_read_arent_told_either(raw_server, wire, kind):
    """
    K23: what was wrong with them is.
    """
    body = wire.COMPLETION.replace(b"Hi", OUTPUT.encode())
    if kind == "text/event-stream":
        body = b"data: " + wire.chunk(OUTPUT)[6:-6] + b"\n\n"
    raw = await raw_server(wire.always(wire.response(body, content_type=kind)))
    result = await result_of(plan_for(raw, load=Load(max_concurrency=1, num_prompts=1)))

    assert {"malformed": 1} == result.summary["outcomes"]
    assert OUTPUT not in json.dumps(result.summary)


# --- The package -----------------------------------------------------------------


def test_the_package_gives_what_it_names():
    assert sorted(bench.__all__) == sorted(set(bench.__all__))
    assert all(hasattr(bench, name) for name in bench.__all__)
    assert run is bench.run
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bench.nothing  # noqa: B018 it is asked for
