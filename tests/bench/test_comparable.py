"""chatstream.bench.comparable: which requests are the same, and what speaks against it."""

import attrs
import pytest

from chatstream.bench.comparable import doubts, pairs
from chatstream.bench.log import Log
from chatstream.bench.saved import SavedRun
from tests.bench.compared import LOAD, answers, plan, run_of, summary, target
from tests.bench.records import record

SOME = [0.1] * 20


def numbered(*records):
    return SavedRun(name="run", log=Log.of(records), summary=summary())


# --- Pairs -------------------------------------------------------------------


def test_the_same_requests_have_the_same_number_wherever_they_stand():
    """
    A log is in the order of creation, which differs: the plan's number tells.
    """
    a = numbered(*(record(created=at, number=number) for at, number in ((0, 7), (1, 5), (2, 6))))
    b = numbered(*(record(created=at, number=number) for at, number in ((0, 5), (1, 6), (2, 7))))
    found = pairs(a, b)

    assert ([2, 0, 1], [0, 1, 2], 3) == (found.a.tolist(), found.b.tolist(), found.common)


def test_turns_of_a_conversation_are_requests_of_their_own():
    records = [record(created=place, number=place // 2, turn=place % 2) for place in range(4)]
    found = pairs(numbered(*records), numbered(*records[::-1]))

    assert ([0, 1, 2, 3], 4) == (found.b.tolist(), found.common)


def test_two_targets_of_a_run_are_asked_the_same():
    records = [*answers(SOME), *answers(SOME, target=1)]
    told = summary(targets=[target("a"), target("b")])
    run = SavedRun(name="run", log=Log.of(records), summary=told)
    found = pairs(run.of_target("a"), run.of_target("b"))

    assert list(range(20)) == found.a.tolist() == found.b.tolist()


def test_targets_together_are_told_apart():
    records = [*answers(SOME), *answers(SOME, target=1)]
    run = SavedRun(name="run", log=Log.of(records), summary=summary())

    assert 40 == pairs(run, run).common


def test_a_few_requests_that_one_run_made_more_do_no_harm():
    """
    A run that is ended by its time makes some more or less.
    """
    found = pairs(run_of([0.1] * 90), run_of([0.1] * 100))

    assert 90 == found.common
    assert list(range(100)) == found.b.tolist()


def test_runs_that_share_too_little_are_independent():
    expected = "of 100 requests both made only 89"

    assert expected == pairs(run_of([0.1] * 89), run_of([0.1] * 100))


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("their seed differs", {"seed": 1}),
        ("their workload differs", {"workload": {"kind": "prompts"}}),
        ("their params differs", {"params": {"max_tokens": 9}}),
        ("their extra body differs", {"extra_body": {"top_k": 1}}),
    ],
)
def test_runs_that_asked_something_else_are_independent(expected, change):
    assert expected == pairs(run_of(SOME), run_of(SOME, told=summary(plan=plan(**change))))


@pytest.mark.parametrize("told", [None, summary(plan=None)])
def test_runs_of_which_nobody_knows_what_they_asked_are_independent(told):
    expected = "without summaries nobody knows whether both asked the same"

    assert expected == pairs(run_of(SOME), run_of(SOME, told=told))
    assert expected == pairs(run_of(SOME, told=told), run_of(SOME))


def test_another_load_asks_the_same():
    told = summary(plan=plan(load=LOAD | {"max_concurrency": 16}))

    assert 20 == pairs(run_of(SOME), run_of(SOME, told=told)).common


# --- Doubts ------------------------------------------------------------------


def test_two_runs_of_one_plan_leave_no_doubt():
    assert [] == doubts(run_of(SOME), run_of(SOME))


def test_runs_may_differ_in_server_and_seed():
    """
    These are what one compares, or the chance that one averages over.
    """
    other = summary(plan=plan(seed=1, targets=[{"base_url": "http://other/v1"}]))

    assert [] == doubts(run_of(SOME), run_of(SOME, told=other))


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("load.max_concurrency: A 8, B 16", {"load": LOAD | {"max_concurrency": 16}}),
        ("load.request_rate: A nothing, B 2.0", {"load": LOAD | {"request_rate": 2.0}}),
        ("workload.input_tokens: A 256, B nothing", {"workload": {"kind": "synthetic"}}),
        ("params.max_tokens: A nothing, B 9", {"params": {"max_tokens": 9}}),
        ("extra_body.x: A nothing, B '\\x1b[2J'", {"extra_body": {"x": "\x1b[2J"}}),
        ("timeouts.idle: A 60, B 1", {"timeouts": {"idle": 1}}),
        ("attempts: A 1, B 3", {"attempts": 3}),
    ],
)
def test_plans_that_differ_are_told(expected, change):
    told = summary(plan=plan(**change))

    assert [f"plans differ in {expected}"] == doubts(run_of(SOME), run_of(SOME, told=told))


def test_a_long_value_is_shown_in_short():
    told = summary(plan=plan(params={"stop": "x" * 1000}))
    (doubt,) = doubts(run_of(SOME), run_of(SOME, told=told))

    assert doubt.endswith("xxx…")
    assert len(doubt) < 120


def test_the_loads_of_two_sweeps_are_those_that_are_looked_at():
    stages = [{"value": rate, "load": LOAD | {"request_rate": rate}} for rate in (2, 4)]
    told = summary(stages=stages, shown=0, sweep={"over": "request_rate"})
    first = SavedRun(name="run", log=Log.of(answers(SOME)), summary=told)
    second = attrs.evolve(first, stage=1)

    assert [] == doubts(first, first)
    assert ["plans differ in load.request_rate: A 2, B 4"] == doubts(first, second)


def test_other_models_are_told_unless_they_are_what_is_compared(tmp_path):
    told = summary(targets=[target("a", "m1"), target("b", "m2")])
    run = SavedRun(name="run", log=Log.of(answers(SOME)), summary=told, source=tmp_path / "a")
    other = attrs.evolve(run, source=tmp_path / "b")

    assert [] == doubts(run.of_target("a"), run.of_target("b"))
    assert [] == doubts(run.of_target("a"), other.of_target("a"))
    assert ["plans differ in models: A ['m1'], B ['m2']"] == doubts(
        run.of_target("a"), other.of_target("b")
    )


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        (
            "'s client was limiting: a core; all [2J of it",
            {"client": {"verdict": "limiting", "reasons": ["a core", "all \x1b[2J of it"]}},
        ),
        (" was interrupted", {"interrupted": True}),
        (
            " lost 1 of its 2 workers",
            {"workers": [{"worker": 0, "lost": True}, {"worker": 1, "lost": False}]},
        ),
    ],
)
def test_what_went_wrong_in_a_run_is_told_of_that_run(expected, change):
    good, bad = run_of(SOME), run_of(SOME, told=summary(**change))

    assert [f"B{expected}"] == doubts(good, bad)
    assert [f"A{expected}"] == doubts(bad, good)


def test_a_run_without_a_summary_is_doubtful():
    bare = run_of(SOME, told=None)
    expected = "A has no summary: its plan and the state of its client aren't known"

    assert [expected] == doubts(bare, run_of(SOME))


def test_a_log_that_was_cut_is_doubtful():
    run = run_of(SOME)
    cut = attrs.evolve(run, log=attrs.evolve(run.log, cut=True))

    assert ["B's log ends in the middle of a line: the run was killed"] == doubts(run, cut)
