"""chatstream.bench.definitions: one log under the formulas of several tools."""

import math

import orjson
import pytest

from chatstream.bench.definitions import TOOLS, view
from chatstream.bench.plan import Goals
from chatstream.errors import RequestError
from tests.bench.definitions.logs import asked, log_of

GOALS = Goals(
    time_to_first_token=0.2, time_to_first_output=0.2, time_per_output_token=0.1, duration=1.0
)

LOG = log_of(
    asked("c5000", warmup=True),
    asked("-80 r100 c120 c150 f160", completion_tokens=4, prompt_tokens=3),
    asked("c110", verdict="timeout", error="IdleTimeoutError"),
    asked("", verdict="connect_error", error="ConnectError", status=None),
)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("log", [LOG, log_of()], ids=["some", "none"])
def test_a_view_is_json_that_says_where_each_number_comes_from(tool, log):
    """
    Also without a request, where there is no number. orjson would write NaN as null: that
    there is none is seen by reading it back.
    """
    found = view(log, tool, goals=GOALS)

    assert found == orjson.loads(orjson.dumps(found))
    assert ["tool", "version", "source", "requests", "percentiles", "metrics"] == [*found]
    assert tool == found["tool"]
    for entry in found["metrics"].values():
        assert {"unit", "n", "formula", "source", "note"} <= entry.keys()
        assert entry["formula"]
        assert "#" in entry["source"]


def test_tools_disagree_on_the_first_token_of_one_stream():
    """
    The role's chunk after 80 ms, reasoning after 100, text after 120.
    """
    firsts = {
        ("chatstream", "time_to_first_token"): 0.1,
        ("chatstream", "time_to_first_output"): 0.12,
        ("vllm", "ttft"): 0.1,
        ("vllm", "ttft_until_0.32"): 0.08,
        ("aiperf", "time_to_first_token"): 0.1,
        ("aiperf", "time_to_first_output_token"): 0.12,
        ("mlperf", "TTFT"): 0.1,
        ("otel", "gen_ai.client.operation.time_to_first_chunk"): 0.08,
    }
    for (tool, name), expected in firsts.items():
        assert math.isclose(expected, view(LOG, tool)["metrics"][name]["min"]), (tool, name)


@pytest.mark.parametrize("tool", TOOLS)
def test_requests_that_warmed_up_are_in_no_figure(tool):
    """
    The one of 5 s would show as the maximum.
    """
    found = view(LOG, tool)["metrics"].values()

    assert 5 > max(entry.get("max") or 0 for entry in found if entry["unit"] == "s")


def test_an_unknown_tool_is_refused_with_those_that_are_known():
    with pytest.raises(RequestError) as caught:
        view(LOG, "wrk")

    assert "'wrk'" in str(caught.value)
    assert "chatstream, vllm, aiperf, mlperf, otel" in str(caught.value)
