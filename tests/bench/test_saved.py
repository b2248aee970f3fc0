"""chatstream.bench.saved: a run read back from its files."""

import pytest

from chatstream.bench.log import LogError
from chatstream.bench.plan import Goals
from chatstream.bench.saved import SavedRunError, read_run
from chatstream.errors import RequestError
from tests.bench.compared import GOALS, LOAD, PLAN, answers, plan, saved, summary, target

LATENCIES = [0.1, 0.2, 0.3]


def test_a_folder_is_its_log_and_its_summary(tmp_path):
    run = read_run(saved(tmp_path, answers(LATENCIES), summary(goodput=GOALS)))

    assert 3 == len(run.counted())
    assert (str(tmp_path), (tmp_path / "requests.jsonl").resolve()) == (run.name, run.source)
    assert (PLAN, LOAD, ["m"]) == (run.plan, run.load, run.models)
    assert Goals(time_to_first_token=0.2, attainment=0.99) == run.goals
    assert not run.open_load


def test_a_log_is_known_with_its_summary_beside_it(tmp_path):
    saved(tmp_path, answers(LATENCIES))
    other = (tmp_path / "requests.jsonl").rename(tmp_path / "other.jsonl")

    assert read_run(other).summary is None
    other.rename(tmp_path / "requests.jsonl")
    assert PLAN == read_run(str(tmp_path / "requests.jsonl")).plan


def test_without_a_summary_only_the_log_is_known(tmp_path):
    run = read_run(saved(tmp_path, answers(LATENCIES), None))

    assert (None, None, None, [], None) == (run.summary, run.plan, run.load, run.models, run.goals)
    assert not run.open_load
    assert 3 == len(run.counted())


def test_a_summary_may_not_know_the_plan(tmp_path):
    """
    It can be made from a log alone.
    """
    run = read_run(saved(tmp_path, answers(LATENCIES), summary(plan=None)))

    assert (None, None) == (run.plan, run.load)


@pytest.mark.parametrize("change", [{"request_rate": 8.0}, {"schedule": [0.0, 0.1]}])
def test_a_load_with_times_of_its_own_is_open(tmp_path, change):
    told = summary(plan=plan(load=LOAD | change))

    assert read_run(saved(tmp_path, answers(LATENCIES), told)).open_load


def test_what_warmed_up_doesnt_count(tmp_path):
    records = [*answers(LATENCIES), *answers([9.0], warmup=True)]

    assert [0, 1, 2] == read_run(saved(tmp_path, records)).counted().number.tolist()


def test_one_of_several_targets_can_be_looked_at(tmp_path):
    records = [*answers([0.1, 0.2]), *answers([0.3], target=1)]
    told = summary(targets=[target("a", "m1"), target("b#c", "m2")])
    saved(tmp_path, records, told)
    whole, first, second = (read_run(f"{tmp_path}{end}") for end in ("", "#a", "#b#c"))

    assert [3, 2, 1] == [len(run.counted()) for run in (whole, first, second)]
    assert [["m1", "m2"], ["m1"], ["m2"]] == [run.models for run in (whole, first, second)]
    assert f"{tmp_path}#a" == first.name


def test_a_folder_may_have_the_sign_in_its_name(tmp_path):
    folder = saved(tmp_path / "run#1", answers(LATENCIES), summary(targets=[target("a")]))

    assert str(folder) == read_run(folder).name
    assert 0 == read_run(f"{folder}#a").target


@pytest.mark.parametrize(
    ("allowed", "told"),
    [
        ("one of 'a', 'b'", summary(targets=[target("a"), target("b")])),
        (r"one of 'a\x1bb'", summary(targets=[target("a\x1bb")])),
        ("a run that names targets", None),
    ],
)
def test_an_unknown_target_is_named(tmp_path, allowed, told):
    saved(tmp_path, answers(LATENCIES), told)

    with pytest.raises(RequestError) as wrong:
        read_run(f"{tmp_path}#x\x1b")
    assert ("target", r"'x\x1b'", allowed) == (
        wrong.value.parameter,
        wrong.value.seen,
        wrong.value.allowed,
    )


def test_of_a_sweep_the_load_is_looked_at_that_its_summary_shows(tmp_path):
    records = [*answers([0.1, 0.2], stage=0), *answers([0.3], stage=1)]
    stages = [{"value": rate, "load": LOAD | {"request_rate": rate}} for rate in (2, 4)]
    told = summary(stages=stages, shown=0, sweep={"over": "request_rate"})
    run = read_run(saved(tmp_path, records, told))

    assert [0, 0] == run.counted().stage.tolist()
    assert 2 == run.load["request_rate"]


def test_of_an_unknown_sweep_the_last_load_is_looked_at(tmp_path):
    records = [*answers([0.1, 0.2], stage=0), *answers([0.3], stage=1)]

    assert [1] == read_run(saved(tmp_path, records, None)).counted().stage.tolist()


def test_of_a_sweep_that_was_killed_it_is_the_load_that_a_summary_of_its_log_shows(tmp_path):
    records = [*answers([0.1, 0.2], stage=0), *answers([0.3], stage=1)]
    told = summary(plan=None, shown=1)

    assert [1] == read_run(saved(tmp_path, records, told)).counted().stage.tolist()


@pytest.mark.parametrize(
    ("seen", "damage"),
    [
        ("KeyError: 'goals'", {"plan": {"load": LOAD}}),
        ("While structuring Load", {"plan": plan(load={"max_concurrency": "many"})}),
        ("KeyError: 'load'", {"stages": [{"value": 1}], "sweep": {"over": "request_rate"}}),
        ("IndexError", {"stages": [{"value": 1, "load": LOAD}], "shown": 3}),
        ("TypeError", {"workers": [1]}),
        ("KeyError: 'model'", {"targets": [{"name": ""}]}),
        ("TypeError", {"targets": ["a"]}),
        ("KeyError: 'wanted'", {"goodput": {"goals": {}}}),
        ("TypeError", {"goodput": {"goals": {"speed": 1}, "wanted": 0.9}}),
        ("KeyError: 'calibration'", {"client": {}}),
        ("TypeError", {"client": {"verdict": "ok", "reasons": None, "calibration": None}}),
    ],
)
def test_a_damaged_summary_is_named(tmp_path, seen, damage):
    with pytest.raises(SavedRunError, match="expected a summary as a run has it") as wrong:
        read_run(saved(tmp_path, answers(LATENCIES), summary(**damage)))
    assert seen in wrong.value.seen


@pytest.mark.parametrize("key", ["server", "interrupted"])
def test_a_summary_without_a_part_is_named(tmp_path, key):
    told = summary()
    del told[key]

    with pytest.raises(SavedRunError, match=f"KeyError: '{key}'"):
        read_run(saved(tmp_path, answers(LATENCIES), told))


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        read_run(tmp_path)
    (tmp_path / "requests.jsonl").write_bytes(b"[]\n")
    with pytest.raises(LogError, match="line 1"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("seen", "records"), [("none", []), ("only 3 to warm up", answers(LATENCIES, warmup=True))]
)
def test_a_run_needs_requests_that_count(tmp_path, seen, records):
    with pytest.raises(SavedRunError) as wrong:
        read_run(saved(tmp_path, records))

    assert f"expected requests that count, got {seen}" in str(wrong.value)


def test_of_a_run_that_was_killed_there_is_a_part(tmp_path):
    """
    What was left beside it is of another run.
    """
    saved(tmp_path, answers(LATENCIES), summary(goodput=GOALS))
    log = tmp_path / "requests.jsonl"
    log.rename(tmp_path / "requests.jsonl.part")
    run = read_run(tmp_path)

    assert (3, None) == (len(run.counted()), run.summary)
    saved(tmp_path, answers(LATENCIES[:2]), summary(goodput=GOALS))
    assert log.resolve() == read_run(tmp_path).source


@pytest.mark.parametrize(
    ("seen", "expected", "text"),
    [
        ("unexpected end", "JSON", b"{"),
        ("'list'", "the schema chatstream.bench.summary/1", b"[]"),
        ("None", "the schema chatstream.bench.summary/1", b"{}"),
        ("'x'", "the schema chatstream.bench.summary/1", b'{"schema": "x"}'),
        ("nothing", "an entry 'plan' as a run has it", b'{"schema": "chatstream.bench.summary/1"}'),
        (
            "list",
            "an entry 'plan' as a run has it",
            b'{"schema": "chatstream.bench.summary/1", "plan": []}',
        ),
    ],
)
def test_what_isnt_a_summary_is_named(tmp_path, seen, expected, text):
    saved(tmp_path, answers(LATENCIES), None)
    path = tmp_path / "summary.json"
    path.write_bytes(text)

    with pytest.raises(SavedRunError) as wrong:
        read_run(tmp_path)
    assert (path, expected) == (wrong.value.source, wrong.value.expected)
    assert seen in wrong.value.seen
    assert f"{path}: expected {expected}, got " in str(wrong.value)
