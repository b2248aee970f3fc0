"""chatstream.bench.goodput: which requests were good enough, counted by hand."""

import pytest

from chatstream.bench.goodput import PRESETS, goals_from, goodput, kept, metric_named
from chatstream.bench.plan import Goals
from chatstream.bench.stats import share_interval
from chatstream.errors import RequestError
from tests.bench.records import log, record

# --- Goals -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        ({"time_to_first_token": 0.2}, ["ttft:200"]),
        (
            {"time_to_first_token": 0.2, "time_per_output_token": 0.05, "duration": 5.0},
            ["ttft:200", "tpot:50", "e2el:5000"],
        ),
        ({"time_to_first_output": 0.0005}, ["ttfo:0.5"]),
        (
            {"time_to_first_token": 0.2, "duration": 1.0},
            ["time_to_first_token:200", "duration:1e3"],
        ),
        ({"time_to_first_token": 2.0, "time_per_output_token": 0.2}, ["llama2-70b"]),
        (
            {"time_to_first_token": 0.5, "time_per_output_token": 0.03, "duration": 9.0},
            ["llama3.1-8b-interactive", "e2el:9000"],
        ),
    ],
)
def test_goals_are_milliseconds_or_a_preset(expected, texts):
    """
    As ``vllm bench serve --goodput`` has them; ours are seconds.
    """
    assert expected == goals_from(texts).limits()


def test_presets_are_mlperfs():
    """
    mlperf.conf: every model with limits for its server and its interactive scenario, the
    latter tighter.
    """
    models = [name for name in PRESETS if not name.endswith("-interactive")]

    assert [
        *[(2000, 200), (450, 40), (6000, 175), (4500, 80), (2000, 100), (500, 30)],
        *[(2000, 80), (1500, 15), (3000, 80), (2000, 15)],
    ] == list(PRESETS.values())
    assert len(PRESETS) == 2 * len(models)
    for model in models:
        usual, tight = PRESETS[model], PRESETS[f"{model}-interactive"]
        assert all(below < above for below, above in zip(tight, usual, strict=True))


def test_the_share_that_is_wanted_can_be_given():
    assert 0.99 == goals_from(["ttft:200"]).attainment
    assert 0.9 == goals_from(["ttft:200"], 0.9).attainment


@pytest.mark.parametrize(
    ("seen", "allowed", "texts"),
    [
        ("'itl:50'", "ttft:MILLISECONDS, ttfo:MILLISECONDS", ["itl:50"]),
        ("'llama2'", "llama2-70b-interactive", ["llama2"]),
        ("''", "ttft:MILLISECONDS", [""]),
        ("'icl:5'", "or a preset", ["icl:5"]),
        ("'ttft'", "ttft: and milliseconds above 0", ["ttft"]),
        ("'ttft:'", "ttft: and milliseconds above 0", ["ttft:"]),
        ("'ttft:fast'", "ttft: and milliseconds above 0", ["ttft:fast"]),
        ("'ttft:0'", "ttft: and milliseconds above 0", ["ttft:0"]),
        ("'ttft:-1'", "ttft: and milliseconds above 0", ["ttft:-1"]),
        ("'tpot:nan'", "tpot: and milliseconds above 0", ["tpot:nan"]),
        ("'tpot:inf'", "tpot: and milliseconds above 0", ["tpot:inf"]),
        ("two goals for time_to_first_token", "one of each", ["ttft:1", "time_to_first_token:2"]),
        ("two goals for time_per_output_token", "one of each", ["gpt-oss-120b", "tpot:50"]),
        ("no goal", "a preset", []),
    ],
)
def test_a_goal_that_cannot_be_read_is_named(seen, allowed, texts):
    """
    What was seen and what is allowed: a goal that is ignored would be kept by all.
    """
    with pytest.raises(RequestError) as caught:
        goals_from(texts)

    assert "goodput" == caught.value.parameter
    assert seen == caught.value.seen
    assert allowed in caught.value.allowed


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        ("time_to_first_token", "ttft"),
        ("inter_chunk_latency", "icl"),
        ("duration", "e2el"),
        ("duration_from_schedule", "duration_from_schedule"),
        ("stream_end", "stream_end"),
    ],
)
def test_latencies_have_short_names(expected, name):
    assert expected == metric_named(name)


@pytest.mark.parametrize("name", ["itl", "", "prompt_tokens"])
def test_what_is_no_latency_has_no_name(name):
    with pytest.raises(RequestError, match="ttft, ttfo, icl"):
        metric_named(name)


# --- Which requests are good -------------------------------------------------


def answered(first, last, tokens=5, **facts):
    """An answer with its first token and its last so many seconds after it was asked for."""
    return record(8 + first, 8 + last, created=8.0, completion_tokens=tokens, **facts)


ALL = Goals(
    time_to_first_token=0.25,
    time_to_first_output=0.375,
    time_per_output_token=0.0625,
    duration=0.75,
)


@pytest.mark.parametrize(
    ("expected", "stream"),
    [
        (True, answered(0.25, 0.5)),  # a limit is kept by what reaches it
        (False, answered(0.251, 0.5)),
        (False, answered(0.25, 0.501)),  # 0.251 s for four tokens
        (True, answered(0.25, 0.75, 9)),
        (False, answered(0.25, 0.751, 10)),
        (False, answered(0.125, 0.5, 9, kinds="rc")),  # nothing to see for half a second
        (True, answered(0.125, 0.375, kinds="rc")),
        (False, answered(0.125, 0.25, verdict="timeout")),
        (True, answered(0.125, 0.25, verdict="length")),
    ],
)
def test_a_request_is_good_that_ended_well_and_kept_every_goal(expected, stream):
    assert [expected] == kept(log(stream), ALL).tolist()


def test_an_answer_of_one_token_keeps_any_time_per_token():
    """
    There is nothing after it that could be slow; vLLM says 0.
    """
    goals = Goals(time_per_output_token=0.001)
    one, slow = record(0.9, completion_tokens=1), answered(0.1, 0.9)

    assert [True, False] == kept(log(one, slow), goals).tolist()


@pytest.mark.parametrize(
    ("goals", "kinds"),
    [
        (Goals(time_to_first_token=9), "-f"),
        (Goals(duration=9), "-f"),
        (Goals(time_to_first_output=9), "rr"),
    ],
)
def test_who_waits_for_what_never_came_was_not_served_in_time(goals, kinds):
    """
    An answer without a token, or all of whose tokens went into reasoning.
    """
    found = log(record(0.1, 0.2, kinds=kinds), answered(0.1, 0.2))

    assert [False, True] == kept(found, goals).tolist()


def test_without_a_goal_what_ended_well_is_good():
    assert [True, False] == kept(log(record(0.1), record(verdict="empty")), Goals()).tolist()


# --- What share of all -------------------------------------------------------


def test_goodput_is_a_share_of_all_that_was_to_be_made():
    """
    Four were made, of which one failed and one was slow, and one never was.
    """
    found = log(
        answered(0.1, 0.3),
        answered(0.1, 0.7),
        answered(0.1, 0.3, 2),
        answered(0.1, 0.2, verdict="truncated"),
    )
    goals = Goals(time_to_first_token=0.2, time_per_output_token=0.1, attainment=0.3)
    figures = goodput(found, goals, 4.0, not_attempted=1)
    ci = share_interval(kept(log(*[answered(0.1, 0.3)], *[record(verdict="empty")] * 4), goals))

    assert {
        "goals": {"time_to_first_token": 0.2, "time_per_output_token": 0.1},
        "attempted": 5,
        "good": 1,
        "attainment": 0.2,
        "ci": ci,
        "requests_per_second": 0.25,
        "by_goal": {"time_to_first_token": 0.6, "time_per_output_token": 0.2},
        "wanted": 0.3,
        "met": False,
    } == figures


@pytest.mark.parametrize(("expected", "wanted"), [(True, 0.75), (False, 0.76)])
def test_a_load_is_met_by_the_share_that_is_wanted(expected, wanted):
    found = log(*[answered(0.1, 0.2)] * 3, answered(0.3, 0.4))
    figures = goodput(found, Goals(time_to_first_token=0.2, attainment=wanted), 1.0)

    assert (4, 3) == (figures["attempted"], figures["good"])
    assert expected is figures["met"]


def test_a_goal_of_which_nothing_is_known_is_not_met():
    """
    A server that doesn't count its tokens has no time per token, good or bad.
    """
    found = log(*[record(0.1, 0.2)] * 3)
    figures = goodput(found, Goals(time_to_first_token=1, time_per_output_token=1), 1.0)

    assert 1.0 == figures["attainment"]
    assert {"time_to_first_token": 1.0, "time_per_output_token": None} == figures["by_goal"]
    assert figures["met"] is False


def test_failed_streams_do_not_tell_a_latency_that_good_ones_lack():
    found = log(record(0.1, 0.2), answered(0.1, 0.2, verdict="timeout"))
    figures = goodput(found, Goals(time_per_output_token=1), 1.0)

    assert {"time_per_output_token": None} == figures["by_goal"]


def test_nothing_attempted_is_no_share():
    figures = goodput(log(), Goals(time_to_first_token=1), 0.0)

    assert (0, 0, None, None) == tuple(
        figures[name] for name in ("attempted", "good", "attainment", "ci")
    )
    assert figures["requests_per_second"] is None
    assert {"time_to_first_token": None} == figures["by_goal"]
    assert figures["met"] is False
