"""chatstream.bench.definitions.vllm: by hand, after vLLM 0.33.0's ``vllm bench serve``.

``async_request_openai_chat_completions`` in ``vllm/benchmarks/lib/endpoint_request_func.py``
tells what a request is, ``calculate_metrics`` in ``vllm/benchmarks/serve.py`` the rest.
"""

import math

import numpy as np
import pytest

from chatstream.bench.definitions.vllm import entries, vllm_requests
from chatstream.bench.plan import Goals
from tests.bench.definitions.logs import CUT, asked, log_of

# Role at 90, tokens at 100, 130, 150, and an end-of-text token at 160, as vLLM's server sends.
ANSWER = "-90 c100 c130 c150 e160"


def found(*records, goals=None):
    return entries(log_of(*records), goals)


def test_a_plain_answer():
    """
    start 10. ttft = 100 − 10 = 90 ms: the chunk with a role alone isn't counted. itl = 30,
    20, 10: one with content "" and no role is. e2el = 160 − 10 = 150;
    tpot = (150 − 90) / (4 − 1) = 20.
    """
    view = found(asked(ANSWER, at=10, completion_tokens=4, prompt_tokens=7))

    assert 1 == view["ttft"]["n"]
    assert math.isclose(0.09, view["ttft"]["mean"])
    assert math.isclose(0.15, view["e2el"]["mean"])
    assert math.isclose(0.02, view["tpot"]["mean"])
    assert [3, 0.01, 0.02, 0.03] == [view["itl"][name] for name in ("n", "min", "p50", "max")]
    assert {"s"} == {view[name]["unit"] for name in ("ttft", "tpot", "itl", "e2el")}


def test_until_0_32_the_role_was_the_first_token():
    """
    vLLM 0.32.0 counts any chunk with a choice: ttft = 90 − 10 = 80 ms, and a gap of 10 more.
    tpot = (150 − 80) / 3 = 23.3.
    """
    view = found(asked(ANSWER, at=10, completion_tokens=4))

    assert math.isclose(0.08, view["ttft_until_0.32"]["mean"])
    assert math.isclose(0.07 / 3, view["tpot_until_0.32"]["mean"])
    assert 4 == view["itl_until_0.32"]["n"]
    assert math.isclose(0.0175, view["itl_until_0.32"]["mean"])


def test_percentiles_are_numpys_and_spread_is_the_populations():
    """
    ttft 100, 200, 400: mean 700 / 3, p50 200, p90 at place 1.8: 200 + 0.8 · 200 = 360.
    """
    view = found(asked("c100"), asked("c200"), asked("c400"))

    assert math.isclose(0.7 / 3, view["ttft"]["mean"])
    assert math.isclose(0.36, view["ttft"]["p90"])
    assert math.isclose(np.std([0.1, 0.2, 0.4]), view["ttft"]["std"])


def test_one_token_has_no_tpot():
    """
    tpots gets only those with output_len > 1.
    """
    view = found(asked("c100 e120", completion_tokens=1))

    assert 0 == view["tpot"]["n"]
    assert view["tpot"]["mean"] is None
    assert 1 == view["itl"]["n"]


def test_without_usage_it_is_one_token():
    """
    ``if tokenizer is None: output_len = 1``, also for a count of 0.
    """
    view = found(asked("c100 c120"), asked("c100 c120", completion_tokens=0))

    assert 2 == view["total_output_tokens"]["value"]
    assert 0 == view["tpot"]["n"]
    assert "2 of 2 requests came without usage" in view["tpot"]["note"]
    assert "2 of 2 requests came without usage" in view["total_output_tokens"]["note"]
    assert "2 of 2 requests came without usage" in view["total_input_tokens"]["note"]


@pytest.mark.parametrize("kind", ["r", "t"])
def test_reasoning_and_tool_calls_are_output(kind):
    """
    A delta counts with content, reasoning, or tool_calls.
    """
    view = found(asked(f"-90 {kind}100 c150", completion_tokens=3))

    assert math.isclose(0.1, view["ttft"]["mean"])
    assert math.isclose(0.025, view["tpot"]["mean"])


@pytest.mark.parametrize("kind", ["x", "a"])
def test_refusals_and_audio_are_not(kind):
    """
    0.33.0 looks for neither, so such an answer has no token and fails; 0.32.0 counted both.
    """
    view = found(asked(f"-90 {kind}100 f150"))

    assert 1 == view["failed"]["value"]
    assert 0 == view["ttft"]["n"]
    assert 1 == view["ttft_until_0.32"]["n"]


def test_a_finish_reason_alone_is_no_token():
    """
    OpenAI's last chunk has an empty delta: 0.33.0 ends at 140, 0.32.0 at 200.
    """
    view = found(asked("-90 c100 c140 f200", completion_tokens=3))

    assert math.isclose(0.14, view["e2el"]["mean"])
    assert math.isclose(0.2, view["e2el_until_0.32"]["mean"])


def test_an_empty_content_is_a_token():
    """
    A special token decodes to content "" without a role, also as the first.
    """
    view = found(asked("-80 e100 c130 e140", completion_tokens=3))

    assert math.isclose(0.1, view["ttft"]["mean"])
    assert (2, 0.03) == (view["itl"]["n"], view["itl"]["max"])


def test_gaps_mix_the_choices():
    """
    n = 2: vLLM knows one stream of chunks. 100, 110, 130, 140 are gaps of 10, 20, 10.
    """
    view = found(asked("c100:0 c110:1 c130:0 c140:1", completion_tokens=4))

    assert (3, 0.01, 0.02) == (view["itl"]["n"], view["itl"]["p50"], view["itl"]["max"])
    assert math.isclose(0.04 / 3, view["tpot"]["mean"])


def test_of_two_choices_in_a_chunk_the_first_counts():
    """
    ``choices[0]``: the first chunk has a role in it, the second one token.
    """
    view = found(asked("-90:0 c90:1 c100:0 c100:1 c120:0 c120:1"))

    assert math.isclose(0.1, view["ttft"]["mean"])
    assert 1 == view["itl"]["n"]


def test_failed_requests_are_in_no_latency():
    """
    Their chunks aren't either; the run lasts until the last of them is over.
    """
    view = found(
        asked("c100 c120", completion_tokens=2, end=130),
        asked("c500 c900", verdict="timeout", error="IdleTimeoutError", end=1000),
    )

    assert (1, 1) == (view["completed"]["value"], view["failed"]["value"])
    assert (1, 1, 1) == (view["ttft"]["n"], view["itl"]["n"], view["e2el"]["n"])
    assert math.isclose(1.0, view["duration"]["value"])
    assert math.isclose(2.0, view["output_throughput"]["value"])


@pytest.mark.parametrize(
    "facts",
    [
        {"verdict": "upstream_error", "error": "UpstreamError", "detail": "overloaded"},
        {"verdict": "truncated", "error": "InterruptedStreamError", "detail": CUT},
    ],
)
def test_an_error_inside_the_stream_is_a_success(facts):
    """
    Nothing looks for it, nor for a finish reason: a chunk came, and the body ended.
    """
    view = found(asked("c100 c120", **facts))

    assert 1 == view["completed"]["value"]
    assert 1 == view["ttft"]["n"]
    for name in ("ttft", "ttft_until_0.32", "completed"):
        assert "1 of 1 requests ended in an error inside the stream" in view[name]["note"]


def test_without_a_token_a_request_failed():
    """
    "Never received a valid chunk to calculate TTFT."
    """
    view = found(asked("-90 f100", completion_tokens=0), asked("", verdict="empty"))

    assert (0, 2) == (view["completed"]["value"], view["failed"]["value"])


def test_throughput_is_over_the_whole_run():
    """
    Due at 0, over at 2000: 2 s. 2 requests, 30 tokens out, 10 in.
    """
    view = found(
        asked("c100 c900", completion_tokens=10, prompt_tokens=4, end=1000),
        asked("c1200 c1900", at=1050, due=1000, completion_tokens=20, prompt_tokens=6, end=2000),
    )

    assert math.isclose(2.0, view["duration"]["value"])
    assert math.isclose(1.0, view["request_throughput"]["value"])
    assert math.isclose(15.0, view["output_throughput"]["value"])
    assert math.isclose(20.0, view["total_token_throughput"]["value"])
    assert (10, 30) == (view["total_input_tokens"]["value"], view["total_output_tokens"]["value"])


def test_waiting_for_the_client_is_apart_from_latency():
    """
    Due at 1000, made at 1050: 50 ms in the queue, e2el 850 without and 900 with them. The run
    goes on meanwhile.
    """
    view = found(asked("c1200 c1900", at=1050, due=1000))

    assert math.isclose(0.05, view["client_queue_time"]["mean"])
    assert math.isclose(0.85, view["e2el"]["mean"])
    assert math.isclose(0.9, view["e2el_including_client_queue"]["mean"])
    assert math.isclose(0.9, view["duration"]["value"])


def test_seconds_are_counted_from_the_first_start():
    """
    Starts at 500: second 0 is 500–1500 with chunks at 600, 700, 1400, second 1 has 1600. The
    requests touch 500–1400 and 1450–1600: both second 0, though one after the other.
    """
    view = found(asked("c600 c700 c1400", at=500), asked("c1600", at=1450))

    assert 3.0 == view["max_output_tokens_per_s"]["value"]
    assert 2 == view["max_concurrent_requests"]["value"]


def test_a_request_touches_each_second_from_start_to_end():
    """
    From 0: 0–2100 touches seconds 0, 1, 2; 2000–2050 second 2; 3000–3100 second 3.
    """
    view = found(asked("c2100"), asked("c2050", at=2000), asked("c3100", at=3000))

    assert 2 == view["max_concurrent_requests"]["value"]


@pytest.mark.parametrize(
    ("good", "goals"),
    [
        (2, {"time_to_first_token": 0.1}),
        (1, {"time_to_first_token": 0.09}),
        # tpot 50 and, of one token, 0.
        (2, {"time_per_output_token": 0.05}),
        (1, {"time_per_output_token": 0.049}),
        (1, {"duration": 0.15}),
        (1, {"time_to_first_token": 0.1, "time_per_output_token": 0.049}),
        (0, {"time_to_first_token": 0.08, "time_per_output_token": 0.049}),
    ],
)
def test_goodput_is_of_those_that_meet_every_goal(good, goals):
    """
    A value up to its goal meets it; tpot of one token is 0. The run takes 200 ms.
    """
    view = found(
        asked("c100 c200", completion_tokens=3),
        asked("c90", completion_tokens=1),
        asked("c10", verdict="timeout"),
        goals=Goals(**goals),
    )

    assert math.isclose(good / 0.2, view["request_goodput"]["value"], abs_tol=1e-9)


@pytest.mark.parametrize("goals", [None, Goals(), Goals(time_to_first_output=0.1)])
def test_without_a_goal_that_vllm_knows_there_is_no_goodput(goals):
    assert "request_goodput" not in found(asked("c100"), goals=goals)


def test_no_request_at_all():
    view = found()

    assert 0.0 == view["duration"]["value"]
    assert view["request_throughput"]["value"] is None
    assert view["ttft"]["mean"] is None
    assert 0 == view["max_concurrent_requests"]["value"]
    assert 0.0 == view["max_output_tokens_per_s"]["value"]


def test_what_a_failed_request_had_is_kept_for_the_lists():
    """
    ttft and itl are noted as they come, the latency only at the end.
    """
    requests = vllm_requests(log_of(asked("c100 c130", verdict="timeout", completion_tokens=2)))

    assert [0.1] == requests.ttft.tolist()
    assert [0.03] == requests.itl.values.tolist()
    assert [] == requests.pooled_itl.tolist()
    assert np.isnan(requests.latency).all()
    assert [0] == requests.output_len.tolist()
