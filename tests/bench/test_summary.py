"""chatstream.bench.summary: what a log and the facts about its run come to."""

import json

import attrs
import pytest

from chatstream.bench.log import Log
from chatstream.bench.metrics import series
from chatstream.bench.plan import Goals, Load, load_to_json
from chatstream.bench.stats import figure
from chatstream.bench.summary import SCHEMA, Facts, lost_workers, staged, summarised
from chatstream.bench.sweep import knee
from chatstream.bench.windows import stalls
from chatstream.bench.workers import WorkerReport
from tests.bench.records import log, record
from tests.bench.runs import SimulatedRun, summary_of
from tests.bench.shapes import misfits

RUNS = {
    "a closed load": {"requests": 60},
    "a sweep": {"stages": (4, 8, 16), "requests": 40, "faults": 0, "warmup": 2},
    "two targets": {"targets": 2, "requests": 40},
    "two targets in a sweep": {"targets": 2, "stages": (4, 8), "requests": 24, "warmup": 2},
    "nothing good": {"faults": 1.0, "warmup": 0, "requests": 20},
    "answers that are kept": {"reasoning": True, "text": "a secret", "requests": 20},
}


def answered(count, *, first=0, gap=0.1, **facts):
    """Requests one after another, each with its two tokens; numbered from *first* on."""
    return [
        record(
            *(number * gap + at for at in (0.02, 0.05)),
            created=number * gap,
            number=number,
            **facts,
        )
        for number in range(first, first + count)
    ]


def of(records, *loads, **facts):
    """The summary of these records, made by such loads."""
    return summarised(log(*records), Facts(loads=loads, **facts))


# --- Its shape ---------------------------------------------------------------


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS)
def run(request):
    """A log and its summary."""
    found = Log.of(SimulatedRun(**request.param).records)
    return found, summary_of(found)


def test_it_has_the_shape_that_is_promised(run):
    """
    Of plain JSON values: no scalar of numpy, no NaN, no tuple.
    """
    _, summary = run

    assert SCHEMA == summary["schema"]
    assert [] == list(misfits(summary))
    assert summary == json.loads(json.dumps(summary, allow_nan=False))


def test_a_log_and_what_its_summary_knows_give_it_again(run):
    found, summary = run

    assert summary == summarised(found, Facts.in_summary(json.loads(json.dumps(summary))))


def test_a_log_by_itself_has_a_summary_of_the_same_shape(run):
    found, summary = run
    bare = summarised(found, Facts())

    assert [] == list(misfits(bare))
    assert bare == summarised(found, Facts.in_summary(bare))
    assert (None, []) == (bare["plan"], bare["workers"])
    assert len(summary["targets"]) == len(bare["targets"])


def test_no_request_at_all_has_a_summary_of_the_same_shape():
    goals = Goals(time_to_first_token=0.1)
    summary = of([], Load(max_concurrency=1, num_prompts=3), goals=goals)

    assert [] == list(misfits(summary))
    assert {"not_attempted": 3} == summary["outcomes"]
    assert {"planned": 3, "made": 0, "good": 0, "warmup": 0} == summary["requests"]
    assert (0, 3, False) == tuple(summary["goodput"][key] for key in ("good", "attempted", "met"))
    assert all(found["n"] == 0 and found["p99"] is None for found in summary["metrics"].values())


# --- What is counted -----------------------------------------------------------


def test_what_warmed_up_is_in_no_figure():
    """
    It is counted by itself, whatever became of it.
    """
    slow = answered(2, warmup=True, verdict="timeout", error="IdleTimeoutError", detail="slow")
    load = Load(max_concurrency=1, num_prompts=30, warmup=2)
    goals = Goals(duration=1.0)
    summary = of([*slow, *answered(28, first=2)], load, goals=goals)
    without = of(answered(28, first=2), Load(max_concurrency=1, num_prompts=28), goals=goals)

    assert {"planned": 30, "made": 30, "good": 28, "warmup": 2} == summary["requests"]
    assert {"finished": 28} == summary["outcomes"]
    assert [] == summary["errors"]
    for part in ("metrics", "throughput", "goodput", "steady_state", "outcomes"):
        assert without[part] == summary[part]
    for key in ("dispatch_delay", "coalesced_share", "sources"):
        assert without["client"][key] == summary["client"][key]


def test_what_failed_is_counted_and_in_no_latency():
    failed = record(
        9.0, created=1.0, number=5, verdict="truncated", error="InterruptedStreamError", detail="x"
    )
    summary = of([*answered(5), failed], Load(max_concurrency=1, num_prompts=6))

    assert {"finished": 5, "truncated": 1} == summary["outcomes"]
    assert (6, 5) == (summary["requests"]["made"], summary["requests"]["good"])
    assert 5 == summary["metrics"]["duration"]["n"]
    assert pytest.approx(0.05) == summary["metrics"]["duration"]["max"]


def test_every_turn_is_a_request_and_a_conversation_is_planned_once():
    turns = [
        attrs.evolve(one, turn=turn)
        for turn, half in enumerate((answered(4, gap=0.2), answered(4, gap=0.25)))
        for one in half
    ]
    summary = of(turns, Load(max_concurrency=1, num_prompts=5))

    assert {"planned": 5, "made": 8, "good": 8, "warmup": 0} == summary["requests"]
    assert {"finished": 8, "not_attempted": 1} == summary["outcomes"]


def test_what_was_never_made_is_counted_and_misses_its_goals():
    """
    As where a worker got lost: the share it had is no good request.
    """
    load = Load(max_concurrency=1, num_prompts=10, warmup=2)
    warm, counted = answered(1, warmup=True), answered(6, first=2)
    goodput = {"good": 6, "attempted": 8, "attainment": 0.75}
    summary = of([*warm, *counted], load, goals=Goals(duration=1.0))

    assert {"finished": 6, "not_attempted": 2} == summary["outcomes"]
    assert goodput == {key: summary["goodput"][key] for key in goodput}
    assert 10 == summary["requests"]["planned"]


def test_who_stops_a_run_doesnt_want_the_rest_of_it():
    goals = Goals(duration=1.0)
    load = Load(max_concurrency=1, num_prompts=10)
    summary = of(answered(6), load, goals=goals, place={"interrupted": True})

    assert {"finished": 6, "not_attempted": 4} == summary["outcomes"]
    assert (6, 1.0) == (summary["goodput"]["attempted"], summary["goodput"]["attainment"])


def test_turns_that_a_failure_left_are_never_made():
    """
    Else the longer conversations a server breaks off, the better its share would be.
    """
    failed = attrs.evolve(answered(1, first=1)[0], verdict="timeout", turns_left=3)
    goals = Goals(duration=1)
    summary = of([*answered(1), failed], Load(max_concurrency=1, num_prompts=2), goals=goals)

    assert {"finished": 1, "timeout": 1, "not_attempted": 3} == summary["outcomes"]
    assert 0.2 == summary["goodput"]["attainment"]


def test_only_the_last_load_of_a_sweep_was_stopped():
    first, second = answered(2), [attrs.evolve(one, stage=1) for one in answered(2)]
    loads = [Load(max_concurrency=n, num_prompts=3) for n in (1, 2)]
    summary = of(
        [*first, *second],
        *loads,
        over="max_concurrency",
        goals=Goals(duration=1.0),
        place={"interrupted": True},
    )

    assert [3, 2] == [stage["goodput"]["attempted"] for stage in summary["stages"]]
    assert [1, 1] == [stage["outcomes"]["not_attempted"] for stage in summary["stages"]]


@pytest.mark.parametrize(
    ("expected", "load"),
    [
        (12, Load(max_concurrency=1, num_prompts=12)),
        (None, Load(max_concurrency=1, duration=1.0)),
        (None, Load(max_concurrency=1, duration=1.0, num_prompts=12)),
        (3, Load(schedule=(0.0, 0.1, 0.2))),
        (10, Load(request_rate=10, burstiness=float("inf"), duration=1.0)),
    ],
)
def test_what_was_planned_is_known_unless_the_server_decides(expected, load):
    summary = of(answered(2), load)

    assert expected == summary["requests"]["planned"]
    assert max(0, (expected or 2) - 2) == summary["outcomes"].get("not_attempted", 0)


def test_a_log_of_several_targets_has_the_share_of_each():
    """
    Each was to get the whole load.
    """
    both = [*answered(4), *(attrs.evolve(one, target=1) for one in answered(3))]
    load = Load(max_concurrency=1, num_prompts=4)
    plan = {"seed": 0, "targets": [{"name": n, "base_url": n, "model": "m"} for n in "ab"]}
    summary = summarised(log(*both), Facts(plan=plan, loads=(load,)))

    assert {"finished": 7, "not_attempted": 1} == summary["outcomes"]
    assert [4, 4, 8] == [part["requests"]["planned"] for part in (*summary["targets"], summary)]
    assert [{"finished": 4}, {"finished": 3, "not_attempted": 1}] == [
        part["outcomes"] for part in summary["targets"]
    ]
    assert ["a", "b"] == [part["name"] for part in summary["targets"]]
    assert summary["steady_state"] is None


# --- Errors ----------------------------------------------------------------------


def failures(*details, error="IdleTimeoutError", verdict="timeout", **facts):
    return [
        record(created=at, number=at, verdict=verdict, error=error, detail=detail, **facts)
        for at, detail in enumerate(details)
    ]


def test_the_same_error_is_listed_once_however_its_numbers_differ():
    details = ["no token for 3.0 s after 41 events", "no token for 2.9 s after 7 events"]
    summary = of(failures(*details), Load(max_concurrency=1, num_prompts=2))

    assert [
        {
            "outcome": "timeout",
            "error": "IdleTimeoutError",
            "detail": details[0],
            "status": None,
            "count": 2,
            "first": 0.0,
        }
    ] == summary["errors"]


def test_the_most_frequent_error_comes_first():
    rare = failures("gone", error="ConnectError", verdict="connect_error")
    often = failures("HTTP 503: a", "HTTP 503: a", error="ServerError", status=503)
    other = failures("HTTP 500: a", error="ServerError", status=500)
    found = of([*rare, *often, *other], Load(max_concurrency=1, num_prompts=4))["errors"]

    assert [("ServerError", 503, 2), ("ConnectError", None, 1), ("ServerError", 500, 1)] == [
        (each["error"], each["status"], each["count"]) for each in found
    ]


def test_what_ended_without_an_error_is_none():
    """
    Those that Ctrl-C cancelled are outcomes, and nothing went wrong.
    """
    summary = of([record(created=0.0, verdict="cancelled")], Load(max_concurrency=1, num_prompts=1))

    assert ({"cancelled": 1}, []) == (summary["outcomes"], summary["errors"])


# --- Figures -----------------------------------------------------------------------


def test_metrics_are_the_figures_of_the_series(a_log, a_summary):
    counted = a_log.where(~a_log.warmup)

    assert {name: figure(found) for name, found in series(counted).items()} == a_summary["metrics"]


def test_throughput_is_what_good_requests_amount_to_from_the_first_call_to_the_last_end():
    requests = answered(20, completion_tokens=2, prompt_tokens=10)
    requests.append(record(5.0, created=1.0, end=5.0, number=20, verdict="empty"))
    found = of(requests, Load(max_concurrency=2, num_prompts=21))["throughput"]

    assert 5.0 == found["seconds"]
    assert pytest.approx(20 / 5.0) == found["requests_per_second"]["value"]
    assert pytest.approx(40 / 5.0) == found["output_tokens_per_second"]["value"]
    assert pytest.approx(200 / 5.0) == found["prompt_tokens_per_second"]["value"]
    assert pytest.approx((20 * 0.05 + 4) / 5.0) == found["mean_concurrency"]
    assert 2 == found["peak_concurrency"]


def test_without_counts_nothing_is_said_of_tokens():
    found = of(answered(3), Load(max_concurrency=1, num_prompts=3))["throughput"]

    assert found["requests_per_second"] is not None
    assert found["output_tokens_per_second"] is None


def test_the_steady_state_counts_all_that_was_in_flight_then(a_log, a_summary):
    """
    Also what ended after it: a window that ends isn't idle before.
    """
    steady = a_summary["steady_state"]
    inside = (a_log.created >= steady["start"]) & (a_log.created <= steady["end"])

    assert int((inside & ~a_log.warmup).sum()) == steady["requests"]
    assert pytest.approx(12, rel=0.02) == steady["throughput"]["mean_concurrency"]
    assert steady["end"] - steady["start"] == steady["throughput"]["seconds"]
    assert steady["metrics"]["duration"]["n"] < a_summary["metrics"]["duration"]["n"]


def test_stalls_are_those_of_whoever_was_open():
    """
    Streams that warm up wait, too, and say of the server what others would.
    """
    run = SimulatedRun(requests=60, warmup=50, stall=(0.5, 1.7))
    found = Log.of(run.records)
    counted = found.where(~found.warmup)

    assert stalls(found) == summary_of(found)["stalls"] != stalls(counted)


@pytest.mark.parametrize("goals", [None, Goals()])
def test_without_goals_nothing_is_good_or_bad(goals):
    load = Load(max_concurrency=1, num_prompts=2)

    assert of(answered(2), load, goals=goals)["goodput"] is None


def test_a_server_that_tells_when_it_sent_shows_our_error():
    told = [attrs.evolve(one, truth_ns=one.arrivals_ns) for one in answered(3)]

    assert 0 == of(told)["truth"]["time_to_first_token_error"]["p99"]
    assert of(answered(3))["truth"] is None


# --- Sweeps ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep():
    return Log.of(SimulatedRun(**RUNS["a sweep"]).records)


LOADS = tuple(Load(max_concurrency=slots, num_prompts=40, warmup=2) for slots in (4, 8, 16))


@pytest.mark.parametrize(("goal", "best"), [(0.9, 1), (0.001, None)])
def test_of_a_sweep_the_best_load_is_shown_or_else_the_last(sweep, goal, best):
    facts = Facts(loads=LOADS, over="max_concurrency", goals=Goals(duration=goal, attainment=0.95))
    summary = summarised(sweep, facts)
    stages = summary["stages"]
    shown = 2 if best is None else best
    same = ("requests", "outcomes", "metrics", "throughput", "goodput", "steady_state", "stalls")

    assert {"over": "max_concurrency", "knee": knee(stages), "best": best} == summary["sweep"]
    assert shown == summary["shown"]
    assert {name: stages[shown][name] for name in same} == {name: summary[name] for name in same}
    assert [(4, load_to_json(LOADS[0])), (8, load_to_json(LOADS[1]))] == [
        (stage["value"], stage["load"]) for stage in stages[:2]
    ]
    assert staged(sweep, facts, 0) == stages[0]
    assert summary == summarised(sweep, facts, stages)


def test_of_a_sweep_of_which_only_the_log_is_left_it_is_the_last_load(sweep):
    """
    Loads aren't mixed; how large they were isn't known.
    """
    summary = summarised(sweep, Facts())

    assert (40, None, 2) == (summary["requests"]["made"], summary["sweep"], summary["shown"])


def test_a_sweep_that_was_stopped_before_it_began_has_no_stage():
    plan = {"seed": 0, "targets": [{"name": "", "base_url": "u", "model": "m"}]}
    facts = Facts(plan=plan, over="request_rate", place={"interrupted": True})
    summary = summarised(log(), facts)

    assert [] == list(misfits(summary))
    assert ([], {}) == (summary["stages"], summary["outcomes"])
    assert (None, 0) == (summary["sweep"]["best"], summary["shown"])


# --- Workers and the client ----------------------------------------------------------


@pytest.mark.parametrize(("goal", "shown"), [(0.9, 1), (0.001, 2)])
def test_the_client_is_judged_by_the_load_that_is_shown(sweep, goal, shown):
    """
    A sweep goes on until the client is at its end; the best load came before that.
    """
    workers = [
        WorkerReport(worker=0, stage=stage, cpu=cpu, lost=stage == 2)
        for stage, cpu in enumerate((0.2, 0.5, 0.99))
    ]
    goals = Goals(duration=goal, attainment=0.95)
    facts = Facts(loads=LOADS, over="max_concurrency", goals=goals, workers=workers)
    summary = summarised(sweep, facts)

    assert shown == summary["shown"]
    assert workers[shown].cpu == summary["client"]["cpu"]
    assert workers[shown].lost == ("1 of 1 workers were lost" in summary["client"]["reasons"])
    assert (1, 1) == lost_workers(summary)


def test_workers_and_the_clients_verdict_are_told():
    workers = [
        WorkerReport(worker=0, host="a", requests=2, cpu=0.5),
        WorkerReport(worker=1, host="b", lost=True, error="SIGKILL"),
    ]
    summary = of(answered(2), Load(max_concurrency=1, num_prompts=2), workers=workers)

    assert [attrs.asdict(worker) for worker in workers] == summary["workers"]
    assert ("suspect", ["1 of 2 workers were lost"]) == (
        summary["client"]["verdict"],
        summary["client"]["reasons"],
    )
