"""chatstream.bench.definitions.aiperf: by hand, after aiperf 0.13.0.

Each metric is a file in ``aiperf/metrics/types``; what a chunk holds is told by
``aiperf/endpoints/openai_chat.py#extract_chat_response_data``.
"""

import math

import pytest

from chatstream.bench.definitions.aiperf import entries
from chatstream.bench.plan import Goals
from tests.bench.definitions.logs import CUT, asked, log_of


def found(*records, goals=None):
    return entries(log_of(*records), goals)


def test_a_plain_answer():
    """
    start 10; content at 100, 130, 150: the role and the finish reason are none. ttft =
    100 − 10, second token 130 − 100, latency = 150 − 10 = 140, itl = (140 − 90) / (5 − 1) =
    12.5, 1 / itl = 80 and 5 tokens / 0.14 s.
    """
    view = found(asked("-90 c100 c130 c150 f160", at=10, completion_tokens=5))

    assert math.isclose(0.09, view["time_to_first_token"]["mean"])
    assert math.isclose(0.09, view["time_to_first_output_token"]["mean"])
    assert math.isclose(0.03, view["time_to_second_token"]["mean"])
    assert math.isclose(0.14, view["request_latency"]["mean"])
    assert math.isclose(0.0125, view["inter_token_latency"]["mean"])
    assert math.isclose(80.0, view["output_token_throughput_per_user"]["mean"])
    assert math.isclose(5 / 0.14, view["e2e_output_token_throughput"]["mean"])
    assert [2, 0.02, 0.03] == [view["inter_chunk_latency"][name] for name in ("n", "min", "max")]
    assert 5.0 == view["output_sequence_length"]["mean"]


def test_percentiles_are_aiperfs():
    """
    Of 0 to 10 in tenths, p1 is 0.01 and p99 0.99: linear.
    """
    view = found(*(asked(f"c{100 * place}") for place in range(11)))
    first = view["time_to_first_token"]

    assert ["p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99"] == [
        name for name in first if name[1:].isdigit()
    ]
    assert math.isclose(0.01, first["p1"])
    assert math.isclose(0.99, first["p99"])


def test_reasoning_is_content_and_no_output():
    """
    Reasoning at 100, text at 300: ttft 100, ttfo 300. Its tokens count: (300 − 100) / (5 − 1).
    """
    view = found(asked("r100 c300", completion_tokens=5, reasoning_tokens=4))

    assert math.isclose(0.1, view["time_to_first_token"]["mean"])
    assert math.isclose(0.3, view["time_to_first_output_token"]["mean"])
    assert math.isclose(0.05, view["inter_token_latency"]["mean"])


def test_hidden_reasoning_counts_as_well():
    """
    Output 5 − 4 and reasoning 4 are added up again, streamed or not: (200 − 100) / (5 − 1).
    """
    view = found(asked("c100 c200", completion_tokens=5, reasoning_tokens=4))

    assert math.isclose(0.025, view["inter_token_latency"]["mean"])
    assert 5.0 == view["output_sequence_length"]["mean"]


def test_more_reasoning_than_tokens_is_all_there_is():
    """
    The difference is never below 0, so the sum is the reasoning.
    """
    view = found(asked("c100 c200", completion_tokens=5, reasoning_tokens=8))

    assert 8.0 == view["output_sequence_length"]["mean"]


def test_thinking_without_a_word_has_no_first_output():
    view = found(asked("r100 r200"))

    assert 1 == view["time_to_first_token"]["n"]
    assert 0 == view["time_to_first_output_token"]["n"]


def test_a_tool_call_is_output():
    view = found(asked("t100 t200"))

    assert math.isclose(0.1, view["time_to_first_output_token"]["mean"])


@pytest.mark.parametrize("kind", ["x", "a"])
def test_refusals_and_audio_are_no_content(kind):
    """
    Only content, reasoning and tool_calls are looked at: the record isn't valid.
    """
    view = found(asked(f"{kind}100 {kind}200"))

    assert (0, 1) == (view["request_count"]["value"], view["error_request_count"]["value"])


def test_the_first_chunks_own_tokens_are_taken_off():
    """
    The server counts along: 3 tokens by the first chunk, 7 in all. (200 − 100) / (7 − 3).
    """
    view = found(asked("-90 c100 c200", tokens=[-1, 3, 7], completion_tokens=7))

    assert math.isclose(0.025, view["inter_token_latency"]["mean"])
    assert "1 of 1 requests have the server's count" in view["inter_token_latency"]["note"]


@pytest.mark.parametrize("tokens", [[7, 7], [9, 9], [0, 7]])
def test_a_first_chunk_with_all_tokens_or_none_is_taken_for_one(tokens):
    """
    "inconsistent … falling back to (OSL - 1)": (200 − 100) / (7 − 1).
    """
    view = found(asked("c100 c200", tokens=tokens, completion_tokens=7))

    assert math.isclose(0.1 / 6, view["inter_token_latency"]["mean"])


@pytest.mark.parametrize("usage", [{}, {"completion_tokens": 1}, {"completion_tokens": 0}])
def test_less_than_two_tokens_have_no_gap(usage):
    """
    "Output sequence length must be at least 2".
    """
    view = found(asked("c100 c200", **usage))

    assert 0 == view["inter_token_latency"]["n"]
    assert 0 == view["output_token_throughput_per_user"]["n"]
    assert 1 == view["inter_chunk_latency"]["n"]


def test_without_usage_there_is_no_length():
    view = found(asked("c100"))

    assert 0 == view["output_sequence_length"]["n"]
    assert "1 of 1 requests came without usage" in view["output_sequence_length"]["note"]


def test_one_chunk_has_no_second():
    """
    Nor a rate: its latency after the first token is 0, and 1 / 0 is no value.
    """
    view = found(asked("c100", completion_tokens=4))

    assert 0 == view["time_to_second_token"]["n"]
    assert 0.0 == view["inter_token_latency"]["mean"]
    assert 0 == view["output_token_throughput_per_user"]["n"]


def test_choices_are_one_stream():
    """
    Whichever choice comes first in a chunk: gaps of 10, 20, 10.
    """
    view = found(asked("c100:0 c110:1 c130:0 c140:1"))

    assert [3, 0.01, 0.02] == [view["inter_chunk_latency"][name] for name in ("n", "p50", "max")]
    assert math.isclose(0.01, view["time_to_second_token"]["mean"])


def test_a_run_lasts_from_the_first_start_to_the_last_content():
    """
    Starts 100 and 200, content until 600: 0.5 s for 2 requests with 10 tokens in, 30 out. The
    failed one, from 0 to 900, isn't in it.
    """
    view = found(
        asked("c300 c600", at=100, completion_tokens=10, prompt_tokens=4, end=700),
        asked("c300 c500 f650", at=200, completion_tokens=20, prompt_tokens=6, end=700),
        asked("c300 c900", verdict="timeout", completion_tokens=5),
    )

    assert math.isclose(0.5, view["benchmark_duration"]["value"])
    assert math.isclose(4.0, view["request_throughput"]["value"])
    assert math.isclose(60.0, view["output_token_throughput"]["value"])
    assert math.isclose(80.0, view["total_token_throughput"]["value"])
    assert (2, 1) == (view["request_count"]["value"], view["error_request_count"]["value"])


def test_failed_requests_are_in_no_latency():
    """
    Not even with what they had before.
    """
    view = found(asked("c100 c200", verdict="timeout", completion_tokens=2, prompt_tokens=3))

    assert {0} == {
        entry["n"] for name, entry in view.items() if "mean" in entry and name[:4] != "adj_"
    }


@pytest.mark.parametrize(
    "facts",
    [
        {"verdict": "upstream_error", "error": "UpstreamError", "detail": "overloaded"},
        {"verdict": "truncated", "error": "InterruptedStreamError", "detail": CUT},
    ],
)
def test_an_error_object_inside_the_stream_is_not_seen(facts):
    """
    Its ``object`` isn't a chunk's; only an ``event: error`` would be.
    """
    view = found(asked("c100 c120", **facts))

    assert 1 == view["request_count"]["value"]
    assert "1 of 1 requests ended in an error" in view["time_to_first_token"]["note"]


def test_failed_requests_are_endless_in_the_adjusted_latencies():
    """
    Latencies 100, 200, ∞: of places 0 to 2 p25 is nearest to 0 (0.5, to the even), p50 is 1
    and p75 (1.5) 2. Percentiles are ``method="nearest"``.
    """
    view = found(asked("c100"), asked("c200"), asked("c300", verdict="timeout"))
    adjusted = view["adj_request_latency"]

    assert 3 == adjusted["n"]
    assert [0.1, 0.1, 0.2, None, None] == [
        adjusted[name] for name in ("min", "p25", "p50", "p75", "p99")
    ]
    assert [None, None] == [adjusted["mean"], adjusted["max"]]
    assert {"adj_time_to_first_token", "adj_inter_token_latency"} < view.keys()
    assert 2 == view["request_latency"]["n"]


def test_if_none_failed_nothing_is_adjusted():
    assert not any(name.startswith("adj_") for name in found(asked("c100")))


@pytest.mark.parametrize(
    ("good", "goals"),
    [
        (3, {"time_to_first_token": 0.2}),
        (2, {"time_to_first_token": 0.1}),
        (2, {"time_to_first_output": 0.2}),
        (1, {"time_per_output_token": 0.1}),
        (2, {"duration": 0.2}),
        (0, {"time_to_first_token": 0.1, "time_per_output_token": 0.01}),
    ],
)
def test_goodput_is_of_those_that_meet_every_goal(good, goals):
    """
    The run takes 400 ms. One without the metric isn't good: no output, no tokens; failed ones
    count among those that were tried.
    """
    view = found(
        asked("c100 c200", completion_tokens=2),
        asked("r100 r150"),
        asked("c200 c400", completion_tokens=1),
        asked("c100", verdict="timeout"),
        goals=Goals(**goals),
    )

    assert math.isclose(good / 0.4, view["goodput"]["value"], abs_tol=1e-9)
    assert good / 4 == view["good_request_fraction"]["value"]


@pytest.mark.parametrize("goals", [None, Goals()])
def test_without_goals_there_is_no_goodput(goals):
    assert "goodput" not in found(asked("c100"), goals=goals)


def test_no_request_at_all():
    view = found(goals=Goals(duration=1.0))

    assert view["benchmark_duration"]["value"] is None
    assert view["request_throughput"]["value"] is None
    assert view["goodput"]["value"] is None
    assert 0.0 == view["good_request_fraction"]["value"]
