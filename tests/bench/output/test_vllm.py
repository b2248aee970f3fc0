"""chatstream.bench.output.vllm: the file that vLLM's benchmark would have written."""

import math

import orjson
import pytest

from chatstream.bench.output.vllm import PERCENTILES, vllm_result
from chatstream.bench.plan import Goals, Load, Plan, Target, plan_described
from chatstream.bench.workload import Synthetic
from tests.bench.definitions.logs import asked, log_of

# vLLM 0.33.0, vllm/benchmarks/serve.py: main_async() sets up, benchmark() adds the rest.
SETUP = [
    "date",
    "endpoint_type",
    "backend",
    "label",
    "model_id",
    "tokenizer_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
]
RESULT = [
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "latencies",
    "start_times",
    "queue_times",
    "generated_texts",
    "errors",
    "max_output_tokens_per_s",
    "max_concurrent_requests",
    "rtfx",
]
STATISTICS = ["mean", "median", "std", *(f"p{word}" for word in PERCENTILES)]

LOG = log_of(
    asked("c900", warmup=True),
    asked("-90 c100 c130 c150", at=10, completion_tokens=3, prompt_tokens=7, text="hello"),
    asked("c100 c120", at=20, due=15, verdict="timeout", error="IdleTimeoutError", detail="why"),
    asked("", at=30, verdict="empty", text="lost"),
    asked("f100", at=40),
)


def summary_of(load=None, goals=None, models=("m",), **facts):
    plan = Plan(
        targets=tuple(Target(base_url="http://here/v1", model=model) for model in models),
        load=load or Load(max_concurrency=8, num_prompts=4),
        workload=Synthetic(input_tokens=8, output_tokens=8),
        goals=goals,
    )
    return {
        "started": "2026-11-25T03:04:05.678+00:00",
        "plan": plan_described(plan),
        "shown": 0,
        "stages": [],
        **facts,
    }


def test_its_keys_are_vllms_in_vllms_order():
    """
    As with --percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,90,95,99,99.9;
    by default vLLM has the first three of these metrics and 99.
    """
    statistics = [
        f"{statistic}_{name}_ms"
        for name in ("ttft", "tpot", "itl", "e2el")
        for statistic in STATISTICS
    ]
    result = vllm_result(LOG, summary_of())

    assert [*SETUP, *RESULT, *statistics] == [*result]
    assert {"p99_ttft_ms", "p99_tpot_ms", "p99_itl_ms", "p99.9_e2el_ms"} < result.keys()
    assert result == orjson.loads(orjson.dumps(result))


def test_lists_have_an_entry_for_each_request():
    """
    In the order of their creation. A failed one has what came before it failed, and 0 for the
    rest: that is what vLLM's RequestFuncOutput begins with.
    """
    result = vllm_result(LOG, summary_of())

    assert [7, 0, 0, 0] == result["input_lens"]
    assert [3, 0, 0, 0] == result["output_lens"]
    assert [0.09, 0.08, 0.0, 0.0] == [round(value, 9) for value in result["ttfts"]]
    assert [[0.03, 0.02], [0.02], [], []] == result["itls"]
    assert [0.14, 0.0, 0.0, 0.0] == [round(value, 9) for value in result["latencies"]]
    assert [0.01, 0.02, 0.03, 0.04] == [round(value, 9) for value in result["start_times"]]
    assert [0.0, 0.005, 0.0, 0.0] == [round(value, 9) for value in result["queue_times"]]
    assert ["hello", "", "", ""] == result["generated_texts"]
    assert [
        "",
        "IdleTimeoutError: why",
        "empty",
        "Never received a valid chunk to calculate TTFT.",
    ] == result["errors"]


def test_statistics_are_in_milliseconds():
    """
    One good request: ttft 90 ms, itl 30 and 20, tpot (140 − 90) / 2.
    """
    result = vllm_result(LOG, summary_of())

    assert math.isclose(90.0, result["mean_ttft_ms"])
    assert math.isclose(25.0, result["median_itl_ms"])
    assert math.isclose(5.0, result["std_itl_ms"])
    assert math.isclose(29.99, result["p99.9_itl_ms"])
    assert math.isclose(25.0, result["p99_tpot_ms"])
    assert math.isclose(140.0, result["mean_e2el_ms"])


def test_totals_are_of_the_requests_that_succeeded():
    """
    From 10, when the first was due, to 150.
    """
    result = vllm_result(LOG, summary_of())

    assert [1, 3, 7, 3] == [
        result[name]
        for name in ("completed", "failed", "total_input_tokens", "total_output_tokens")
    ]
    assert math.isclose(0.14, result["duration"])
    assert math.isclose(3 / 0.14, result["output_throughput"])
    assert (3.0, 1, 0.0) == (
        result["max_output_tokens_per_s"],
        result["max_concurrent_requests"],
        result["rtfx"],
    )


@pytest.mark.parametrize(
    ("expected", "load"),
    [
        # A closed load is one that is all due at once, under a ceiling.
        (("inf", 1.0, 8, 4), Load(max_concurrency=8, num_prompts=4)),
        ((5.0, 0.5, None, 4), Load(request_rate=5.0, burstiness=0.5, num_prompts=4)),
        (("inf", 1.0, None, 4), Load(request_rate=math.inf, num_prompts=4)),
        ((5.0, "inf", None, 4), Load(request_rate=5.0, burstiness=math.inf, num_prompts=4)),
        (("inf", 1.0, 3, 4), Load(schedule=(0.0, 1.0), max_concurrency=3)),
        # How many it will be isn't known before: it is those that were made.
        ((5.0, 1.0, None, 4), Load(request_rate=5.0, duration=60.0)),
    ],
)
def test_the_load_is_told_in_vllms_words(expected, load):
    """
    ``request_rate`` is "inf" if it is: JSON has no such number.
    """
    result = vllm_result(LOG, summary_of(load))
    names = ("request_rate", "burstiness", "max_concurrency", "num_prompts")

    assert expected == tuple(result[name] for name in names)


def test_the_rest_of_the_setup():
    result = vllm_result(LOG, summary_of())

    assert "20261125-030405" == result["date"]
    assert ("openai-chat", "openai-chat") == (result["backend"], result["endpoint_type"])
    assert ("m", None, None) == (result["model_id"], result["tokenizer_id"], result["label"])


@pytest.mark.parametrize(("expected", "models"), [("a,b", ("a", "b")), ("a", ("a", "a"))])
def test_several_models_are_all_named(expected, models):
    assert expected == vllm_result(LOG, summary_of(models=models))["model_id"]


def test_goodput_needs_goals():
    """
    ``request_goodput`` is None without any.
    """
    goals = Goals(time_to_first_token=0.1)

    assert vllm_result(LOG, summary_of())["request_goodput"] is None
    assert math.isclose(1 / 0.14, vllm_result(LOG, summary_of(goals=goals))["request_goodput"])


def test_of_a_sweep_it_is_the_load_that_is_shown():
    log = log_of(asked("c100"), asked("c300", stage=1), asked("c300", stage=1))
    stages = [{"load": {"max_concurrency": size}} for size in (1, 2)]
    summary = summary_of(shown=1, stages=stages)
    result = vllm_result(log, summary)

    assert 2 == result["completed"]
    assert math.isclose(300.0, result["mean_ttft_ms"])
    assert (2, 2) == (result["max_concurrency"], result["num_prompts"])


def test_of_a_sweep_of_which_only_the_log_is_left_it_is_the_last_load():
    log = log_of(asked("c100"), asked("c300", stage=1))
    summary = {"started": None, "plan": None, "shown": 1, "stages": []}

    assert 1 == vllm_result(log, summary)["completed"]


def test_a_sweep_may_end_before_its_first_load():
    summary = summary_of(sweep={"over": "request_rate", "best": None})

    assert 0 == vllm_result(log_of(), summary)["completed"]


def test_a_log_alone_leaves_the_setup_open():
    """
    Where no plan is left, there is no model and no time.
    """
    summary = {"started": None, "plan": None, "shown": 0, "stages": []}
    result = vllm_result(LOG, summary)

    assert [*SETUP, *RESULT] == [*result][: len(SETUP) + len(RESULT)]
    assert [None, None, 4, "inf"] == [
        result[name] for name in ("date", "model_id", "num_prompts", "request_rate")
    ]


def test_no_request_at_all():
    """
    ``np.mean(ttfts or 0)`` is 0.
    """
    result = vllm_result(log_of(), summary_of())

    assert [] == result["itls"]
    assert 0.0 == result["mean_ttft_ms"]
    assert result["request_throughput"] is None
