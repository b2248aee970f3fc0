"""A summary for a terminal: what it says, whatever a run was like."""

import io
import re

import pytest
from rich.console import Console

from chatstream.bench.definitions import view
from chatstream.bench.log import Log
from chatstream.bench.output.terminal import show_summary
from chatstream.bench.plan import Goals, Load
from chatstream.bench.summary import Facts, summarised
from chatstream.cli.terminal import neutralise
from tests.bench.records import log, record
from tests.bench.runs import SimulatedRun, summary_of


def shown(summary, clean=str, **console):
    """What is printed of a summary, as lines without what stands at their ends."""
    out = Console(file=io.StringIO(), width=160, **console)
    show_summary(summary, out, clean)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


def starting(lines, words):
    """The only line that begins so."""
    (line,) = (line for line in lines if line.startswith(words))
    return line


def bare(*records, **facts):
    """The summary of records written by hand."""
    return summarised(log(*records), Facts(**facts))


@pytest.fixture(scope="module")
def lines(a_summary):
    return shown(a_summary)


@pytest.fixture(scope="module")
def swept():
    run = SimulatedRun(stages=(4, 8), requests=30, stall=None, faults=0, warmup=0)
    return Log.of(run.records)


def test_latencies_are_milliseconds_with_intervals_and_doubts(a_summary, lines):
    head = next(line.split() for line in lines if "milliseconds" in line)
    row = starting(lines, " time to first token").split()
    figure = a_summary["metrics"]["time_to_first_token"]

    assert ["milliseconds", "n", "p50", "p90", "p99", "p99.9", "p99,", "95", "%", "interval"] == (
        head
    )
    assert ["209", f"{figure['p50'] * 1000:.1f}"] == row[4:6]
    assert row[7].endswith("?")
    assert re.fullmatch(r"\d+–[\d,]+", row[-1])
    assert "? is from too few requests to be sure" in lines


def test_it_counts_what_failed_and_why(lines):
    told = starting(lines, "228 requests, of which ")

    assert re.search(r"of which .*\d timeout.*; \d+\.\d requests/s; \d+ output tokens/s; ", told)
    assert " at a time on average" in told
    assert [] != [line for line in lines if re.match(r"  \d+ × RateLimitError: HTTP 429 ", line)]


def test_only_the_most_frequent_errors_are_listed():
    errors = [
        record(created=n, number=n, verdict="timeout", error=f"Error{'abcdefg'[n]}", detail="x")
        for n in range(7)
    ]

    assert 5 == sum(line.startswith("  1 × Error") for line in shown(bare(*errors)))


def test_it_says_how_many_kept_the_goals(a_summary, lines):
    goodput = a_summary["goodput"]
    told = starting(lines, "goals not met: ")

    assert f"{goodput['attainment'] * 100:.1f} % of requests kept all, 99 % were wanted" in told
    assert "(time to first token ≤ 100 ms by " in told
    assert "duration ≤ 1,500 ms by " in told


def test_goals_that_are_met_are_called_so():
    summary = bare(record(0.1, 0.2), goals=Goals(duration=1.0))

    assert (
        "goals met: 100 % of requests kept all, 99 % were wanted (duration ≤ 1,000 ms by 100 %)"
        in (shown(summary))
    )


def test_it_tells_of_the_steady_state_and_of_stalls(a_summary, lines):
    steady = a_summary["steady_state"]

    assert starting(lines, f"steady state from {steady['start']:.1f} to ").endswith(" ms")
    for stall in a_summary["stalls"]:
        assert (
            f"the server stalled for {stall['seconds']:.2f} s at {stall['start']:.2f} s,"
            f" with {stall['open_streams']} streams open"
        ) in lines


def test_a_steady_state_that_isnt_steady_is_called_so(a_summary):
    target = a_summary["targets"][0]
    unsteady = {**target, "steady_state": {**target["steady_state"], "stable": False}}

    assert ", not stable (" in starting(
        shown(a_summary | {"targets": [unsteady]}), "steady state from"
    )


def test_without_an_answer_there_is_no_table():
    failed = record(created=0.0, verdict="connect_error", error="ConnectError", detail="refused")
    lines = shown(bare(failed))

    assert ["1 requests, of which 1 no connection", "  1 × ConnectError: refused"] == lines[:2]
    assert not any("milliseconds" in line for line in lines)


def test_no_request_at_all_is_said(a_summary):
    assert "0 requests" == shown(bare())[0]


def test_an_interrupted_run_is_called_so(a_summary):
    words = "the run was interrupted: these are the figures up to then"

    assert words in shown(a_summary | {"interrupted": True})
    assert words not in shown(a_summary)


def test_each_target_has_its_figures():
    found = Log.of(SimulatedRun(targets=2, requests=40, warmup=0, stall=None).records)
    summary = summary_of(found)
    summary["targets"][0]["name"] = "the first"
    lines = shown(summary)

    assert ["the first", "target 1"] == [
        line for line in lines if line in ("the first", "target 1")
    ]
    assert 2 == sum(line.startswith(" time to first token") for line in lines)


# --- Sweeps ----------------------------------------------------------------------


LOADS = tuple(Load(max_concurrency=slots, num_prompts=30) for slots in (4, 8))


def test_the_loads_of_a_sweep_stand_below_each_other(swept):
    goals = Goals(duration=20.0)
    summary = summarised(swept, Facts(loads=LOADS, over="max_concurrency", goals=goals))
    summary["stages"][0]["steady_state"] = {"stable": False}
    summary["sweep"]["knee"] = 0
    lines = shown(summary)
    start = lines.index(
        "These are the figures of the best load that meets the goals, 8 at a time."
        " The loads of the sweep:"
    )
    first, second = (line.split() for line in lines[start + 4 : start + 6])
    ttft = summary["stages"][0]["metrics"]["time_to_first_token"]

    assert "at a time" in lines[start + 2]
    assert ["4", "30"] == first[:2]
    assert f"{ttft['p50'] * 1000:.1f}" == first[4]
    assert ["100", "%", "knee,", "not", "stable"] == first[-5:]
    assert ["8", "30"] == second[:2]
    assert ["100", "%", "best"] == second[-3:]


def test_of_a_sweep_without_goals_the_last_load_is_shown(swept):
    facts = Facts(loads=LOADS, over="request_rate")
    loads = [Load(request_rate=rate, num_prompts=30) for rate in (4, 8)]
    summary = summarised(swept, Facts(loads=tuple(loads), over=facts.over))
    for stage in summary["stages"]:
        stage["throughput"] = dict.fromkeys(stage["throughput"])
    told = starting(lines := shown(summary), "These are the figures of ")

    assert "the last load, 8 requests/s: none is known to meet goals." in told
    row = next(line.split() for line in lines if line.startswith(" 8  "))
    assert ["–", "–"] == row[2:4]


# --- The rest --------------------------------------------------------------------


def test_the_client_is_judged_with_its_figures(a_summary, lines):
    told = starting(lines, "client: ")

    assert told.startswith(f"client: {a_summary['client']['verdict']}  (")
    assert "time to first token off by 0.040 ms at p99 in calibration" in told
    assert "gaps off by 0.030 ms at p99 in calibration" in told
    assert "41 % of a core used; loop lag p99 1.20 ms; requests late by " in told


def test_what_isnt_known_of_the_client_isnt_said():
    assert "client: ok  (not calibrated)" == shown(bare())[-1]


def test_a_calibration_without_answers_says_nothing_false(a_summary):
    unknown = {"time_to_first_token_error": None, "inter_chunk_latency_error": None}
    client = {**a_summary["client"], "calibration": unknown, "reasons": ["it is so"]}
    lines = shown(a_summary | {"client": client})

    assert "off by" not in starting(lines, "client: ")
    assert "  it is so" == lines[-1]


@pytest.mark.parametrize(
    ("verdict", "colour"), [("ok", "32"), ("suspect", "33"), ("limiting", "31")]
)
def test_the_verdict_has_its_colour(a_summary, verdict, colour):
    client = {**a_summary["client"], "verdict": verdict}
    lines = shown(a_summary | {"client": client}, force_terminal=True, color_system="standard")

    assert f"\x1b[{colour}mclient: {verdict}" in "\n".join(lines)


def test_other_tools_figures_have_their_formulas(a_log, a_summary):
    views = {"vllm": view(a_log, "vllm"), "mlperf": view(a_log.where(a_log.stage > 9), "mlperf")}
    lines = shown(a_summary | {"definitions": views})
    start = lines.index("By the definitions of vllm (vllm-project/vllm):")
    name, entry = next(iter(views["vllm"]["metrics"].items()))

    assert lines[start + 1].startswith(f"  {name}: ")
    assert lines[start + 1].endswith(f" {entry['unit']}")
    assert f"      = {entry['formula']}" == lines[start + 2]
    assert any(": none " in line for line in lines)


SERVER = {
    "url": "h/metrics",
    "seconds": 3.0,
    "metrics": {
        "queue_time": {"kind": "histogram", "unit": "s", "n": 1200, "mean": 0.01, "p50": 0.004,
                       "p99": 0.05},
        "prefill_time": {"kind": "mean", "unit": "s", "n": 3, "mean": 0.02, "p50": None,
                         "p99": None},
        "e2e": {"kind": "mean", "unit": "s", "n": 0, "mean": None, "p50": None, "p99": None},
        "running": {"kind": "gauge", "unit": "requests", "before": 0, "after": 3},
        "odd": None,
    },
    "notes": ["2 lines couldn't be read"],
}  # fmt: skip


def test_the_servers_own_figures_stand_beside_ours(a_summary):
    lines = shown(a_summary | {"server": SERVER})
    start = lines.index("the server's own figures, of h/metrics:")

    assert [
        "  queue time: mean 10.0 ms, p50 4.00, p99 50.0 (n 1,200)",
        "  prefill time: mean 20.0 ms, p50 –, p99 – (n 3)",
        "  2 lines couldn't be read",
    ] == lines[start + 1 : start + 4]


def test_foreign_text_is_cleaned_and_is_no_markup(a_summary):
    """
    A server words its errors, a user names models: neither may move the cursor.
    """
    detail = "[bold]x[/bold] \x1b[2J"
    failed = record(created=0.0, verdict="http_error", error="ServerError", detail=detail)
    lines = shown(bare(failed), neutralise)

    assert "  1 × ServerError: [bold]x[/bold] ␛[2J" in lines
