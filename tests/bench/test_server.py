"""chatstream.bench.server."""

import asyncio
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bench.server import METRICS, Page, ServerWatch, difference, fetch

S = 1_000_000_000


def between(before, after, seconds=2.0):
    """The difference of two pages, of which only the text matters."""
    taken = (
        Page("host/metrics", 5 * S, before),
        Page("host/metrics", int((5 + seconds) * S), after),
    )
    return difference(*taken)


def metrics(before, after):
    return between(before, after)["metrics"]


def histogram(name, buckets, total, labels='model_name="m"'):
    """Lines of a histogram: *buckets* are bounds, and how many weren't above each."""
    lines = [f"# HELP {name} Time.", f"# TYPE {name} histogram"]
    lines += [f'{name}_bucket{{le="{le}",{labels}}} {count}' for le, count in buckets.items()]
    count = list(buckets.values())[-1]
    lines += [f"{name}_count{{{labels}}} {count}", f"{name}_sum{{{labels}}} {total}", ""]
    return "\n".join(lines)


QUEUE = "vllm:request_queue_time_seconds"
NOTHING = {"0.3": 0, "0.5": 0, "1.0": 0, "+Inf": 0}


def queue(before, after, total=1.0):
    """The time in vLLM's queue between two states of its buckets."""
    return metrics(histogram(QUEUE, before, 0), histogram(QUEUE, after, total))["queue_time"]


# --- Pages of each server ----------------------------------------------------------

LABELS = 'engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"'


def vllm(ok=0, aborted=0, running=0, kv=0.0, queued=None, started=1.76e9):
    return f"""\
# HELP python_info Python platform information
# TYPE python_info gauge
python_info{{implementation="CPython",major="3",minor="12",patchlevel="11"}} 1.0
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds {started}
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{{LABELS}}} {running}
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{{LABELS}}} 0.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{{LABELS}}} {kv}
# HELP vllm:num_preemptions_total Cumulative number of preemption from the engine.
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{{{LABELS}}} 0.0
# HELP vllm:num_preemptions_created Cumulative number of preemption from the engine.
# TYPE vllm:num_preemptions_created gauge
vllm:num_preemptions_created{{{LABELS}}} {started}
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{{LABELS}}} {100.0 * ok}
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{{LABELS}}} {20.0 * ok}
# HELP vllm:request_success_total Count of successfully processed requests.
# TYPE vllm:request_success_total counter
vllm:request_success_total{{finished_reason="stop",{LABELS}}} {ok - 1 if ok else 0}
vllm:request_success_total{{finished_reason="length",{LABELS}}} {1 if ok else 0}
vllm:request_success_total{{finished_reason="abort",{LABELS}}} {aborted}
vllm:request_success_total{{finished_reason="error",{LABELS}}} 0.0
{histogram(QUEUE, queued or NOTHING, 0.004 * ok, LABELS)}\
{histogram("vllm:request_prefill_time_seconds", queued or NOTHING, 0.1 * ok, LABELS)}\
{histogram("vllm:request_decode_time_seconds", queued or NOTHING, 0.9 * ok, LABELS)}\
{histogram("vllm:e2e_request_latency_seconds", queued or NOTHING, 1.1 * ok, LABELS)}\
{histogram("vllm:time_to_first_token_seconds", queued or NOTHING, 0.15 * ok, LABELS)}\
{histogram("vllm:inter_token_latency_seconds", queued or NOTHING, 0.2 * ok, LABELS)}\
{histogram("vllm:request_time_per_output_token_seconds", queued or NOTHING, 0.05 * ok, LABELS)}\
"""


def test_vllm():
    """
    Requests that were aborted are in its count of successes, under their reason.
    """
    busy = {"0.3": 12, "0.5": 14, "1.0": 14, "+Inf": 14}
    found = between(vllm(running=1), vllm(14, 2, 3, 0.25, busy))

    told = found["metrics"]
    assert [
        "queue_time",
        "prefill_time",
        "decode_time",
        "time_to_first_token",
        "time_per_output_token",
        "e2e",
        "requests_ok",
        "requests_failed",
        "prompt_tokens",
        "generation_tokens",
        "preemptions",
        "running",
        "waiting",
        "kv_cache_usage",
    ] == list(told)
    assert {"url": "host/metrics", "seconds": 2.0, "notes": []} == {
        name: found[name] for name in ("url", "seconds", "notes")
    }
    assert (14, 0.004) == (told["queue_time"]["n"], pytest.approx(told["queue_time"]["mean"]))
    assert pytest.approx(0.1) == told["prefill_time"]["mean"]
    assert pytest.approx(0.9) == told["decode_time"]["mean"]
    assert pytest.approx(0.15) == told["time_to_first_token"]["mean"]
    assert pytest.approx(1.1) == told["e2e"]["mean"]
    assert pytest.approx(0.05) == told["time_per_output_token"]["mean"]
    assert "vllm:request_time_per_output_token_seconds" == told["time_per_output_token"]["source"]
    assert (14, 2) == (told["requests_ok"]["value"], told["requests_failed"]["value"])
    assert (1400, 280) == (told["prompt_tokens"]["value"], told["generation_tokens"]["value"])
    assert {
        "kind": "gauge",
        "unit": "requests",
        "before": 1,
        "after": 3,
        "source": "vllm:num_requests_running",
    } == told["running"]
    assert ("share", 0.25) == (told["kv_cache_usage"]["unit"], told["kv_cache_usage"]["after"])


def test_older_vllm():
    """
    The cache and the time per token had other names.
    """
    buckets = {"0.01": 0, "0.025": 40, "+Inf": 40}
    old = 'vllm:gpu_cache_usage_perc{model_name="m"} 0.5\n'
    name = "vllm:time_per_output_token_seconds"
    told = metrics(old, old + histogram(name, buckets, 0.8))

    assert 0.5 == told["kv_cache_usage"]["before"]
    assert (name, 0.02) == (
        told["time_per_output_token"]["source"],
        told["time_per_output_token"]["mean"],
    )


SGLANG = 'engine_type="unified",model_name="qwen",moe_ep_rank="0",pp_rank="0",tp_rank="0"'


def sglang(requests):
    zero = {"0.0": requests, "0.001": requests, "+Inf": requests}
    stages = ("prefill_forward", "decode_forward", "request_process")
    return f"""\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{{SGLANG}}} {requests}
sglang:num_running_reqs{{{SGLANG},priority="0"}} {requests}
# HELP sglang:num_queue_reqs The number of requests in the waiting queue.
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{{{SGLANG}}} 0.0
# HELP sglang:token_usage The token usage.
# TYPE sglang:token_usage gauge
sglang:token_usage{{{SGLANG}}} 0.28
# HELP sglang:num_retracted_requests_total Total number of retracted requests.
# TYPE sglang:num_retracted_requests_total counter
sglang:num_retracted_requests_total{{{SGLANG}}} 0.0
# HELP sglang:num_requests_total Number of requests processed.
# TYPE sglang:num_requests_total counter
sglang:num_requests_total{{is_streaming="true",model_name="qwen"}} {requests}
# HELP sglang:num_aborted_requests_total Number of requests aborted.
# TYPE sglang:num_aborted_requests_total counter
sglang:num_aborted_requests_total{{model_name="qwen"}} 0.0
# HELP sglang:prompt_tokens_total Number of prefill tokens processed.
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{{is_streaming="true",model_name="qwen"}} 8.128902e+06
# HELP sglang:generation_tokens_total Number of generation tokens processed.
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{{is_streaming="true",model_name="qwen"}} {7.5e6 + requests}
{histogram("sglang:queue_time_seconds", zero, 0.0, SGLANG)}\
{histogram("sglang:time_to_first_token_seconds", zero, 0.2 * requests, 'is_streaming="true"')}\
{histogram("sglang:inter_token_latency_seconds", zero, 0.01 * requests)}\
{histogram("sglang:e2e_request_latency_seconds", zero, 1.5 * requests, 'is_streaming="true"')}\
""" + "".join(
        histogram("sglang:per_stage_req_latency_seconds", zero, place, f'stage="{stage}"')
        for place, stage in enumerate(stages, requests)
    )


def test_sglang():
    """
    Running requests are told again for each priority; prefill is one stage of several.
    """
    told = metrics(sglang(4), sglang(9))

    assert {9} == {told["running"]["after"]}
    assert (5, 1.0) == (told["prefill_time"]["n"], told["prefill_time"]["mean"])
    assert (5, 0.0) == (told["queue_time"]["n"], told["queue_time"]["mean"])
    assert pytest.approx(0.2) == told["time_to_first_token"]["mean"]
    assert pytest.approx(0.01) == told["time_per_output_token"]["mean"]
    assert pytest.approx(1.5) == told["e2e"]["mean"]
    assert (5, 0) == (told["requests_ok"]["value"], told["requests_failed"]["value"])
    assert (0, 5) == (told["prompt_tokens"]["value"], told["generation_tokens"]["value"])
    assert 0 == told["preemptions"]["value"]
    assert (0, 0.28) == (told["waiting"]["before"], told["kv_cache_usage"]["before"])


def test_tgi():
    """
    Its counters don't end in _total, and tokens are sums of histograms.
    """
    before = "# TYPE tgi_queue_size gauge\ntgi_queue_size 2\n"
    after = f"""\
# TYPE tgi_request_success counter
tgi_request_success 7

# TYPE tgi_request_failure counter
tgi_request_failure{{err="overloaded"}} 2
tgi_request_failure{{err="validation"}} 1

# TYPE tgi_queue_size gauge
tgi_queue_size 0

# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 0

# TYPE tgi_request_queue_duration histogram
tgi_request_queue_duration_bucket{{le="0.0001"}} 5
tgi_request_queue_duration_bucket{{le="0.00015000000000000001"}} 7
tgi_request_queue_duration_bucket{{le="+Inf"}} 7
tgi_request_queue_duration_sum 0.00056
tgi_request_queue_duration_count 7
{histogram("tgi_request_duration", {"1": 7, "+Inf": 7}, 3.5, "")}\
{histogram("tgi_request_mean_time_per_token_duration", {"1": 7, "+Inf": 7}, 0.14, "")}\
{histogram("tgi_request_input_length", {"100": 7, "+Inf": 7}, 140, "")}\
{histogram("tgi_request_generated_tokens", {"100": 7, "+Inf": 7}, 350, "")}\
"""
    told = metrics(before, after)

    assert (7, 3) == (told["requests_ok"]["value"], told["requests_failed"]["value"])
    assert (140, 350) == (told["prompt_tokens"]["value"], told["generation_tokens"]["value"])
    assert (2, 0) == (told["waiting"]["before"], told["waiting"]["after"])
    assert (None, 0) == (told["running"]["before"], told["running"]["after"])
    assert pytest.approx(0.00008) == told["queue_time"]["mean"]
    assert [0.0001, 0.00015] == pytest.approx(told["queue_time"]["bounds"]["p90"])
    assert (0.5, 0.02) == pytest.approx(
        (told["e2e"]["mean"], told["time_per_output_token"]["mean"])
    )


LLAMACPP = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total {prompt}
# HELP llamacpp:prompt_seconds_total Total time spent processing prompts
# TYPE llamacpp:prompt_seconds_total counter
llamacpp:prompt_seconds_total {prompt_seconds}
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total {predicted}
# HELP llamacpp:tokens_predicted_seconds_total Total time spent generating tokens
# TYPE llamacpp:tokens_predicted_seconds_total counter
llamacpp:tokens_predicted_seconds_total {predicted_seconds}
# HELP llamacpp:prompt_tokens_seconds Average prompt throughput in tokens/s
# TYPE llamacpp:prompt_tokens_seconds gauge
llamacpp:prompt_tokens_seconds 566.994
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 0
# HELP llamacpp:requests_deferred Number of requests deferred
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 0
"""


def test_llamacpp():
    """
    Of totals there is a mean, for each token, and nothing about single requests.
    """
    before = LLAMACPP.format(prompt=61, prompt_seconds=0.1, predicted=60, predicted_seconds=0.02)
    after = LLAMACPP.format(prompt=101, prompt_seconds=0.3, predicted=160, predicted_seconds=1.02)
    told = metrics(before, after)

    assert {
        "kind": "mean",
        "unit": "s",
        "n": 40,
        "mean": pytest.approx(0.005),
        "p50": None,
        "p90": None,
        "p99": None,
        "bounds": {"p50": None, "p90": None, "p99": None},
        "source": "llamacpp:prompt_seconds_total / llamacpp:prompt_tokens_total",
    } == told["time_per_prompt_token"]
    assert (100, pytest.approx(0.01)) == (
        told["time_per_output_token"]["n"],
        told["time_per_output_token"]["mean"],
    )
    assert (40, 100) == (told["prompt_tokens"]["value"], told["generation_tokens"]["value"])
    assert (0, 0) == (told["running"]["after"], told["waiting"]["after"])


@pytest.mark.parametrize("mark", ["_", ":"])
def test_tensorrt_llm(mark):
    """
    Its names had a colon while Dynamo passed them on.
    """
    labels = 'engine_type="trtllm",model_name="nemotron"'
    histograms = {
        "request_queue_time_seconds": 0.25,
        "request_prefill_time_seconds": 0.5,
        "request_decode_time_seconds": 4.0,
        "time_to_first_token_seconds": 0.75,
        "time_per_output_token_seconds": 0.125,
        "e2e_request_latency_seconds": 5.0,
    }
    after = "".join(
        histogram(f"trtllm{mark}{name}", {"0.3": 2, "+Inf": 2}, 2 * mean, labels)
        for name, mean in histograms.items()
    )
    after += f'trtllm{mark}request_success_total{{finished_reason="stop",{labels}}} 2\n'
    told = metrics("", after)

    assert [*histograms.values()] == [
        told[name]["mean"]
        for name in (
            "queue_time",
            "prefill_time",
            "decode_time",
            "time_to_first_token",
            "time_per_output_token",
            "e2e",
        )
    ]
    assert 2 == told["requests_ok"]["value"]


def test_dynamo():
    """
    Good and bad requests have one name and a status.
    """
    labels = 'endpoint="chat_completions",model="qwen"'
    after = f"""\
# TYPE dynamo_frontend_requests_total counter
dynamo_frontend_requests_total{{{labels},request_type="stream",status="success"}} 8
dynamo_frontend_requests_total{{{labels},request_type="stream",status="error"}} 1
# TYPE dynamo_frontend_inflight_requests gauge
dynamo_frontend_inflight_requests{{model="qwen"}} 3
# TYPE dynamo_frontend_queued_requests gauge
dynamo_frontend_queued_requests{{model="qwen"}} 2
# TYPE dynamo_frontend_output_tokens_total counter
dynamo_frontend_output_tokens_total{{model="qwen"}} 800
{histogram("dynamo_frontend_time_to_first_token_seconds", {"1": 8, "+Inf": 8}, 2, labels)}\
{histogram("dynamo_frontend_inter_token_latency_seconds", {"1": 8, "+Inf": 8}, 1, labels)}\
{histogram("dynamo_frontend_request_duration_seconds", {"1": 8, "+Inf": 8}, 4, labels)}\
{histogram("dynamo_frontend_input_sequence_tokens", {"1000": 8, "+Inf": 8}, 96, labels)}\
"""
    told = metrics("", after)

    assert (8, 1) == (told["requests_ok"]["value"], told["requests_failed"]["value"])
    assert (3, 2) == (told["running"]["after"], told["waiting"]["after"])
    assert (96, 800) == (told["prompt_tokens"]["value"], told["generation_tokens"]["value"])
    assert (0.25, 0.125, 0.5) == (
        told["time_to_first_token"]["mean"],
        told["time_per_output_token"]["mean"],
        told["e2e"]["mean"],
    )


def test_triton():
    """
    Its totals are microseconds.
    """
    page = """\
# TYPE nv_inference_request_success counter
nv_inference_request_success{{model="ensemble",version="1"}} {}
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{{model="ensemble",reason="OTHER",version="1"}} 0
# TYPE nv_inference_request_duration_us counter
nv_inference_request_duration_us{{model="ensemble",version="1"}} {}
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{{model="ensemble",version="1"}} {}
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{{model="ensemble",version="1"}} 4
"""
    told = metrics(page.format(100, 5e6, 1e6), page.format(200, 25e6, 1.5e6))

    assert (100, pytest.approx(0.005)) == (told["queue_time"]["n"], told["queue_time"]["mean"])
    assert pytest.approx(0.2) == told["e2e"]["mean"]
    assert (100, 0) == (told["requests_ok"]["value"], told["requests_failed"]["value"])
    assert 4 == told["waiting"]["after"]


def test_of_two_servers_on_a_page_one_is_told():
    """
    A worker of Dynamo shows its engine's metrics beside its own: summed, they would count
    twice.
    """
    both = 'vllm:kv_cache_usage_perc{model_name="m"} 0.5\n'
    both += 'dynamo_component_gpu_cache_usage_percent{model="m"} 0.6\n'

    assert 0.5 == metrics(both, both)["kv_cache_usage"]["after"]


# --- Percentiles -------------------------------------------------------------------


def test_a_percentile_lies_on_a_line_through_its_bucket():
    """
    By hand, as histogram_quantile does: of 20 requests, the 10th is the 2nd of the 5 between
    0.3 and 0.5, so two fifths on; the 18th the 5th of the 7 from there to 1.
    """
    found = queue(NOTHING, {"0.3": 8, "0.5": 13, "1.0": 20, "+Inf": 20}, total=9.0)

    assert "histogram" == found["kind"]
    assert (20, 0.45) == (found["n"], found["mean"])
    assert pytest.approx(0.3 + 0.2 * 2 / 5) == found["p50"]
    assert pytest.approx(0.5 + 0.5 * 5 / 7) == found["p90"]
    assert {"p50": [0.3, 0.5], "p90": [0.5, 1.0], "p99": [0.5, 1.0]} == found["bounds"]


def test_what_came_before_the_load_is_left_out():
    """
    A server that has run for a week has another week's requests in its buckets.
    """
    old = {"0.3": 1000, "0.5": 1000, "1.0": 1000, "+Inf": 1000}
    new = {"0.3": 1000, "0.5": 1000, "1.0": 1010, "+Inf": 1010}

    assert (10, [0.5, 1.0]) == ((found := queue(old, new))["n"], found["bounds"]["p50"])


def test_the_first_bucket_starts_at_zero():
    """
    vLLM's is 0.3 s wide: half of it is no median, and the bounds say so.
    """
    found = queue(NOTHING, {"0.3": 10, "0.5": 10, "1.0": 10, "+Inf": 10}, total=0.001)

    assert (0.15, [0.0, 0.3]) == (found["p50"], found["bounds"]["p50"])
    assert 0.0001 == found["mean"]


def test_the_last_bucket_has_no_end():
    """
    All that is known is that it was longer.
    """
    found = queue(NOTHING, {"0.3": 0, "0.5": 0, "1.0": 1, "+Inf": 10})

    assert (1.0, [1.0, None]) == (found["p50"], found["bounds"]["p50"])


def test_requests_that_never_waited_fall_into_a_bucket_without_width():
    """
    SGLang's first bucket for its queue ends at 0.
    """
    found = metrics(sglang(4), sglang(9))["queue_time"]

    assert (0.0, [0.0, 0.0]) == (found["p99"], found["bounds"]["p99"])


def test_without_requests_there_are_no_figures():
    """
    Not zeros: nothing was observed.
    """
    found = queue(NOTHING, NOTHING, total=0)

    assert (0, None, None, None) == (
        found["n"],
        found["mean"],
        found["p50"],
        found["bounds"]["p50"],
    )


def test_buckets_that_were_read_while_they_were_written_are_put_in_order():
    """
    A bucket can't hold more than a wider one; PromQL lifts the wider one, too.
    """
    found = queue(NOTHING, {"0.3": 9, "0.5": 8, "1.0": 10, "+Inf": 10})

    assert [0.0, 0.3] == found["bounds"]["p90"]
    assert pytest.approx(0.5 + 0.5 * 0.9) == found["p99"]


@given(waits=st.lists(st.floats(0, 3, allow_subnormal=False), min_size=1, max_size=60))
def test_the_bounds_hold_the_percentile(waits):
    """
    The estimate may be off; that the true one lies within its bounds must be right.
    """
    buckets = {edge: sum(wait <= float(edge) for wait in waits) for edge in NOTHING}
    found = queue(NOTHING, buckets, sum(waits))
    ordered = sorted(waits)

    for name, share in {"p50": 0.5, "p90": 0.9, "p99": 0.99}.items():
        true = ordered[math.ceil(share * len(waits)) - 1]
        low, high = found["bounds"][name]
        assert low <= true <= (math.inf if high is None else high)
        assert low <= found[name] <= (math.inf if high is None else high)


# --- Several series ----------------------------------------------------------------


def test_engines_are_summed():
    """
    A server with several engines answers as one; its fullest cache is what hurts.
    """

    def page(first, second):
        return "".join(
            f'vllm:num_requests_running{{engine="{engine}",model_name="m"}} {running}\n'
            f'vllm:kv_cache_usage_perc{{engine="{engine}",model_name="m"}} {running / 10}\n'
            + histogram(QUEUE, {"1": running, "+Inf": running}, running, f'engine="{engine}"')
            for engine, running in enumerate((first, second))
        )

    told = metrics(page(1, 1), page(3, 5))

    assert (2, 8) == (told["running"]["before"], told["running"]["after"])
    assert 0.5 == told["kv_cache_usage"]["after"]
    assert 6 == told["queue_time"]["n"]
    assert "by_model" not in told["queue_time"]


def test_models_are_told_apart_too():
    """
    A mean over two models describes neither.
    """
    fast, slow = 'model_name="fast"', 'model_name="slow"'
    after = histogram(QUEUE, {"1": 3, "+Inf": 3}, 0.3, fast)
    after += histogram(QUEUE, {"1": 1, "+Inf": 1}, 0.9, slow)
    after += f"vllm:num_requests_running{{{fast}}} 2\nvllm:num_requests_waiting 1\n"
    told = metrics("", after)

    assert pytest.approx(0.3) == told["queue_time"]["mean"]
    assert {"fast": (3, pytest.approx(0.1)), "slow": (1, 0.9)} == {
        model: (figure["n"], figure["mean"])
        for model, figure in told["queue_time"]["by_model"].items()
    }
    assert ["fast"] == list(told["running"]["by_model"])
    assert "by_model" not in told["waiting"]


def test_a_model_may_be_labelled_model():
    """
    As in Dynamo and Triton.
    """
    page = "".join(f'dynamo_frontend_queued_requests{{model="{name}"}} 2\n' for name in "ab")
    told = metrics(page, page)["waiting"]

    assert {"a": 2, "b": 2} == {model: one["after"] for model, one in told["by_model"].items()}


def test_of_very_many_models_only_the_sum_is_told():
    """
    A server with an adapter for each customer would fill the report.
    """
    page = "".join(f'vllm:num_requests_running{{model_name="{n}"}} 1\n' for n in range(21))
    found = between(page, page)

    assert 21 == found["metrics"]["running"]["after"]
    assert "by_model" not in found["metrics"]["running"]
    assert ["21 models: only the sum of all is shown"] == found["notes"]


def test_a_series_that_is_new_has_grown_from_nothing():
    """
    Servers make a series when it is first needed: with the load's first error, say.
    """
    before = 'tgi_request_failure{err="overloaded"} 3\n'
    after = before + 'tgi_request_failure{err="validation"} 2\n'

    assert 2 == metrics(before, after)["requests_failed"]["value"]


# --- A server that was started anew ------------------------------------------------


def test_a_counter_that_went_back_tells_nothing():
    """
    The difference would be of two lives of the server.
    """
    found = between("vllm:prompt_tokens_total 500\n", "vllm:prompt_tokens_total 20\n")

    assert {"prompt_tokens": None} == found["metrics"]
    assert [
        "vllm:prompt_tokens_total went back: the server was started anew, or counts no more"
    ] == found["notes"]


def test_a_bucket_that_went_back_spoils_its_histogram_alone():
    """
    Others may be right, as one engine of several was started anew.
    """
    before = histogram(QUEUE, {"1": 5, "+Inf": 5}, 1) + "vllm:prompt_tokens_total 5\n"
    after = histogram(QUEUE, {"1": 4, "+Inf": 6}, 2) + "vllm:prompt_tokens_total 9\n"
    found = between(before, after)

    assert (None, 4) == (
        found["metrics"]["queue_time"],
        found["metrics"]["prompt_tokens"]["value"],
    )
    assert 1 == len(found["notes"])


def test_a_counter_that_is_gone_tells_nothing():
    """
    Where it was there is no way to know how far it went.
    """
    found = between(vllm(ok=4), "vllm:num_requests_running 0\n")

    assert found["metrics"]["queue_time"] is None
    assert 0 == found["metrics"]["running"]["after"]


def test_a_server_with_another_start_tells_nothing_but_its_state():
    """
    It may have answered more since than before, so that no counter went back.
    """
    found = between(vllm(ok=2), vllm(ok=40, running=2, started=1.77e9))

    assert found["metrics"]["requests_ok"] is None
    assert found["metrics"]["e2e"] is None
    assert 2 == found["metrics"]["running"]["after"]
    assert ["the server was started anew between the two looks at its metrics"] == found["notes"]


# --- Pages that are odd ------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "9" * 4000])
def test_a_counter_that_is_no_number_tells_nothing(value):
    """
    A sum with NaN would be NaN, and JSON has none.
    """
    found = between("vllm:prompt_tokens_total 0\n", f"vllm:prompt_tokens_total {value}\n")

    if value.isdigit():  # too large a number can't be read at all
        assert "1 lines couldn't be read" in found["notes"]
    else:
        assert "vllm:prompt_tokens_total holds what isn't a number" in found["notes"]
    assert found["metrics"]["prompt_tokens"] is None


def test_a_gauge_that_is_no_number_is_not_known():
    """
    SGLang writes NaN where it hasn't measured yet.
    """
    page = 'sglang:token_usage{model_name="m"} NaN\n'

    assert metrics(page, page)["kv_cache_usage"]["after"] is None


@pytest.mark.parametrize("label", ["", 'le="wide",', 'le="NaN",'])
def test_a_bucket_without_a_bound_leaves_the_mean(label):
    """
    Percentiles need every bound; count and sum don't.
    """
    after = histogram(QUEUE, {"1": 4, "+Inf": 4}, 2)
    after += f'{QUEUE}_bucket{{{label}model_name="m"}} 4\n'
    found = between("", after)

    told = found["metrics"]["queue_time"]
    assert (4, 0.5, None, None) == (told["n"], told["mean"], told["p50"], told["bounds"]["p50"])
    assert [f"{QUEUE} has a bucket without a bound: no percentiles"] == found["notes"]


@pytest.mark.parametrize("buckets", [{"0.3": 4, "0.5": 4}, {"+Inf": 4}, {}])
def test_buckets_must_end_and_hold_all(buckets):
    """
    With one of them missing nobody knows how many there were, or how long they took.
    """
    lines = "".join(f'{QUEUE}_bucket{{le="{le}"}} {count}\n' for le, count in buckets.items())
    found = between("", f"{lines}{QUEUE}_count 4\n{QUEUE}_sum 2\n")

    told = found["metrics"]["queue_time"]
    assert (4, 0.5, None) == (told["n"], told["mean"], told["p99"])
    assert [f"{QUEUE} has no bucket with an end, or none without: no percentiles"] == found["notes"]


def test_engines_with_other_buckets_are_not_mixed():
    """
    Bounds that only some have would make counts fall from one bucket to the next.
    """
    after = histogram(QUEUE, {"1": 3, "+Inf": 3}, 1, 'engine="0"')
    after += histogram(QUEUE, {"2": 3, "+Inf": 3}, 2, 'engine="1"')
    found = between("", after)

    told = found["metrics"]["queue_time"]
    assert (6, 0.5, None) == (told["n"], told["mean"], told["p50"])
    assert [f"{QUEUE} has series of different buckets: no percentiles"] == found["notes"]


@pytest.mark.parametrize(
    "line",
    [
        'vllm:prompt_tokens_total{model_name="m} 7',
        "vllm:prompt_tokens_total",
        "vllm:prompt_tokens_total seven",
        'vllm:prompt_tokens_total{ "-=#\\i{" ,\t=N_N}f#eI{n',
        f'vllm:prompt_tokens_total{{model_name="{"m" * 5000}"}} 7',
    ],
)
def test_a_line_that_is_broken_takes_no_other_with_it(line):
    """
    One odd label would leave a whole run without figures.
    """
    found = between("", f"vllm:num_requests_running 1\n{line}\nvllm:num_requests_waiting 2\n")

    assert (1, 2) == (
        found["metrics"]["running"]["after"],
        found["metrics"]["waiting"]["after"],
    )
    assert ["1 lines couldn't be read"] == found["notes"]


def test_lines_of_no_interest_are_not_read():
    """
    Nor complained of: there are thousands of them.
    """
    assert [] == between("", 'http_requests{path="} 1\nvllm:num_requests_running 1\n')["notes"]


def test_openmetrics():
    """
    Units, exemplars, seconds for time stamps, and a mark at the end.
    """
    page = f"""\
# TYPE {QUEUE} histogram
# UNIT {QUEUE} seconds
{QUEUE}_bucket{{le="0.3"}} 2 # {{trace_id="a b"}} 0.2 1700000000.5
{QUEUE}_bucket{{le="+Inf"}} 2 1700000000.5
{QUEUE}_count 2
{QUEUE}_sum 0.5
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{{model_name="a\\"b\\\\c, d}}"}} 12.0
# EOF
"""
    told = metrics("", page)

    assert (0.25, [0.0, 0.3]) == (told["queue_time"]["mean"], told["queue_time"]["bounds"]["p50"])
    assert 12 == told["prompt_tokens"]["value"]


def test_lines_may_end_in_crlf():
    """
    The format says LF; proxies and hand-written pages differ.
    """
    assert 3 == metrics("", "vllm:prompt_tokens_total 3\r\n")["prompt_tokens"]["value"]


def test_a_server_that_is_not_known_is_named_by_what_it_tells():
    """
    So that whoever wonders sees whether the address was right.
    """
    few = "# TYPE http_requests_total counter\nhttp_requests_total 4\n"
    many = "".join(f"# TYPE m{n} gauge\nm{n} 1\n" for n in range(11))

    assert ({}, ["no metrics of a server that is known; there are http_requests_total"]) == (
        (found := between(few, few))["metrics"],
        found["notes"],
    )
    assert between(many, many)["notes"][0].endswith("m8, m9, …")


@pytest.mark.parametrize(
    "text", ["<!doctype html><title>\x1b[2JHi</title>", "\x00\x01\ufffd{\x07}", "", '{"a": 1}']
)
def test_what_is_no_page_is_shown_by_its_beginning(text):
    """
    In one printable line: whatever it is goes to a terminal.
    """
    found = between(text, text)

    assert {} == found["metrics"]
    [note] = found["notes"]
    assert note.startswith("not a page of metrics; it begins with ")
    assert note.isprintable()


def test_without_one_of_the_pages_there_is_only_a_note():
    """
    A load's own figures don't depend on it.
    """
    lost = Page("host/metrics", 5 * S, note="host gave no metrics: it answered with status 503")
    found = difference(lost, Page("host/metrics", 9 * S, vllm(ok=4)))

    assert {
        "url": "host/metrics",
        "seconds": 4.0,
        "metrics": {},
        "notes": ["host gave no metrics: it answered with status 503"],
    } == found
    assert 1 == len(difference(lost, lost)["notes"])


def test_each_source_is_asked_for_once():
    """
    A name that stands twice in a row of the table is never reached.
    """
    for sources in METRICS.values():
        names = [(source.name, getattr(source, "only", None)) for source in sources]
        assert len(names) == len({name for name, _ in names})


# --- Asking for pages --------------------------------------------------------------


async def why(url, headers=None, seconds=5.0):
    """Why there is no page."""
    page = await fetch(url, headers or {}, seconds)
    assert "" == page.text
    return page.note.partition(" gave no metrics: ")[2]


async def test_a_page(raw_server, wire):
    """
    Asked for as Prometheus does, with the headers given.
    """
    server = await raw_server(wire.response(vllm(ok=3).encode(), content_type="text/plain"))
    url = f"http://me:secret@127.0.0.1:{server.port}/metrics?key=secret"
    page = await fetch(url, {"X-Team": "blue"}, 5.0)

    assert (f"127.0.0.1:{server.port}/metrics", None) == (page.url, page.note)
    assert vllm(ok=3) == page.text
    assert page.taken_ns > 0
    [request] = server.requests
    assert "GET /metrics?key=secret HTTP/1.1" == request.line
    for header in ("X-Team: blue", "Authorization: Basic", "Accept: text/plain;version=0.0.4"):
        assert header in request.head


async def test_a_look_before_the_load_and_one_after(raw_server, wire):
    """
    Looks between them don't matter.
    """
    pages = [vllm(ok=3), vllm(ok=5), vllm(ok=10)]

    async def answer(connection):
        await connection.request()
        await connection.send(wire.response(pages.pop(0).encode()))

    watch = ServerWatch((await raw_server(answer)).origin)
    for _ in range(3):
        await watch.look()
    found = watch.figures()

    assert 7 == found["metrics"]["requests_ok"]["value"]
    assert found["seconds"] > 0


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "204 No Content"])
async def test_a_status_is_no_page(raw_server, wire, status):
    """
    Whose page it is, stands in the note; a user or a query, which may be secret, doesn't.
    """
    server = await raw_server(wire.response(b"", status=status))
    page = await fetch(f"http://me:secret@127.0.0.1:{server.port}/x?key=secret", {}, 5.0)

    assert (
        f"127.0.0.1:{server.port} gave no metrics: it answered with status {status[:3]}"
        == page.note
    )


async def test_redirects_are_not_followed(raw_server, wire):
    """
    They would take a key in the headers elsewhere.
    """
    server = await raw_server(wire.response(b"", "302 Found", location="http://127.0.0.1:1/"))

    assert "it answered with status 302 (redirects aren't followed)" == await why(server.origin)
    assert 1 == server.connections


async def test_a_page_without_end_is_left(raw_server, wire, monkeypatch):
    """
    An address that is a download must not fill the memory.
    """
    monkeypatch.setattr("chatstream.bench.server.LARGEST_PAGE", 1024 * 1024)

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await connection.send(wire.http_chunk(b"x" * 65536))

    server = await raw_server(answer)

    assert "the page is larger than 1 MiB" == await why(server.origin)


async def test_a_page_may_be_as_large_as_the_limit(raw_server, wire, monkeypatch):
    """
    Off by one would leave out what is allowed.
    """
    monkeypatch.setattr("chatstream.bench.server.LARGEST_PAGE", 100)
    server = await raw_server(wire.response(b"x" * 100))

    assert (await fetch(server.origin, {}, 5.0)).note is None


async def test_bytes_that_are_no_text_are_read_all_the_same(raw_server, wire):
    """
    A page with one odd label is a page.
    """
    body = b'vllm:prompt_tokens_total{model_name="\xff\xfe"} 3\n'
    page = await fetch((await raw_server(wire.response(body))).origin, {}, 5.0)

    assert 3 == difference(Page("", 0), page)["metrics"]["prompt_tokens"]["value"]


async def test_a_server_that_says_nothing(raw_server):
    """
    The load waits for the page, so it must not wait for ever.
    """

    async def answer(_):
        await asyncio.Event().wait()

    server = await raw_server(answer)

    assert "no whole page within 0.05 s" == await why(server.origin, seconds=0.05)


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nvllm:"])
async def test_a_connection_that_breaks(raw_server, came):
    """
    Half a page would look as if counters were gone.
    """
    server = await raw_server(came)

    assert "the connection was closed before the page was whole" == await why(server.origin)


async def test_a_connection_that_is_reset(raw_server):
    """
    The same, told by the system.
    """

    async def answer(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n")
        connection.reset()

    server = await raw_server(answer)

    assert "the connection was closed before the page was whole" == await why(server.origin)


async def test_what_is_not_http(raw_server):
    """
    A port of something else.
    """
    server = await raw_server(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    assert "the answer isn't HTTP" == await why(server.origin)


async def test_nobody_listens(raw_server):
    """
    The page's port isn't always the API's.
    """
    server = await raw_server(b"")
    await server.aclose()

    assert (await why(server.origin)).startswith("no connection (Connect call failed")


async def test_a_name_without_an_address():
    """
    Then the name is the first thing to look at.
    """
    assert "no address found" == await why("http://no-such-host.invalid/metrics")


async def test_a_certificate_that_is_not_trusted(raw_server, server_tls):
    """
    A stranger could get the headers.
    """
    server = await raw_server(b"", tls=server_tls)

    assert "no trusted TLS connection" == await why(server.origin)


@pytest.mark.parametrize(
    "url", ["localhost:8000/metrics", "/metrics", "", "http://", "http://[::1/", "ftp://h/m"]
)
async def test_what_is_no_url(url):
    """
    An address that was typed in a hurry costs the server's figures, not the run.
    """
    assert "expected an http or https URL, and headers of one line" == await why(url)


async def test_a_header_of_two_lines(raw_server):
    """
    It would be two headers; and what is said of it must not show the key in it.
    """
    server = await raw_server(b"")
    reason = await why(server.origin, {"Authorization": "Bearer secret\r\nx: y"})

    assert "expected an http or https URL, and headers of one line" == reason


async def test_what_is_missing_is_said_before_the_load(monkeypatch):
    """
    After it, the page from before would be gone.
    """
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)

    with pytest.raises(ModuleNotFoundError, match=r"prometheus-client.*chatstream-sdk\[bench\]"):
        await fetch("http://127.0.0.1:1/metrics", {}, 1.0)
