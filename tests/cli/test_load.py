"""chatstream.cli.load: options of a load, and what they come to."""

import json
import math
import re

import attrs
import pytest

from chatstream import RequestError
from chatstream.bench.plan import Goals, Load
from chatstream.bench.sweep import parse_sweep
from chatstream.bench.workers import Processes
from chatstream.bench.workload import Conversation, Prompts, Synthetic, Turn
from chatstream.cli import load as module
from chatstream.cli.exits import UsageError
from chatstream.cli.load import (
    AskedParameters,
    AskedServer,
    ClientOptions,
    GoalOptions,
    LoadOptions,
    OutputOptions,
    WorkOptions,
    outputs_of,
)
from chatstream.cli.options import Connection, RequestParameters


@pytest.fixture
def file(tmp_path):
    """Write a file of this name with this text."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


# --- The load ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (Load(max_concurrency=8, num_prompts=200), {}),
        (Load(max_concurrency=3, num_prompts=200), {"max_concurrency": 3}),
        (Load(max_concurrency=8, duration=2.0), {"duration": 2.0}),
        (Load(max_concurrency=8, duration=2.0, num_prompts=5), {"duration": 2.0, "num_prompts": 5}),
        (Load(request_rate=4.0, num_prompts=200), {"request_rate": 4.0}),
        (
            Load(request_rate=4.0, max_concurrency=2, num_prompts=200),
            {"request_rate": 4.0, "max_concurrency": 2},
        ),
        (Load(request_rate=math.inf, num_prompts=9), {"request_rate": math.inf, "num_prompts": 9}),
        (Load(request_rate=1.0, num_prompts=200), {"sweep": "rate=1:4"}),
        (Load(max_concurrency=2, num_prompts=200), {"sweep": "concurrency=2,4"}),
        (
            Load(request_rate=1.0, max_concurrency=9, num_prompts=200),
            {"sweep": "rate=1:4", "max_concurrency": 9},
        ),
        (
            Load(request_rate=3.0, max_concurrency=1, num_prompts=200),
            {"sweep": "concurrency=1,2", "request_rate": 3.0},
        ),
    ],
)
def test_a_load_is_closed_unless_a_rate_is_given_and_has_an_end(expected, given):
    assert expected == LoadOptions(**given).load()


def test_a_schedule_is_a_load_with_an_end(file):
    path = file("times", "2.5\n3\n")

    assert Load(schedule=(0.0, 0.5)) == LoadOptions(schedule=path).load()
    assert Load(schedule=(0.0, 0.5), max_concurrency=1, num_prompts=1) == (
        LoadOptions(schedule=path, max_concurrency=1, num_prompts=1).load()
    )


def test_a_sweep_is_there_if_one_is_wanted():
    assert LoadOptions().to_sweep() is None
    assert parse_sweep("rate=1:8") == LoadOptions(sweep="rate=1:8").to_sweep()


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("max_concurrency: expected .*, got 0", {"max_concurrency": 0}),
        ("num_prompts: expected .*, got 0", {"num_prompts": 0}),
        ("duration: expected .*, got 0", {"duration": 0.0}),
        ("request_rate: expected .*, got 0", {"request_rate": 0.0}),
        ("warmup: expected .*, got -1", {"warmup": -1}),
        ("ramp: expected .*, got -1", {"ramp": -1.0}),
        ("burstiness: expected .*, got 0", {"burstiness": 0.0}),
        ("num_prompts: .*, got no end", {"request_rate": math.inf, "duration": 1.0}),
        ("sweep: .*, got 'speed=1:2'", {"sweep": "speed=1:2"}),
    ],
)
def test_a_load_that_there_is_none_of_is_refused(words, given):
    """
    0 isn't what it would be without the option.
    """
    with pytest.raises(RequestError, match=words):
        LoadOptions(**given).load()


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--request-rate", {"sweep": "rate=1:4", "request_rate": 2.0}),
        ("--max-concurrency", {"sweep": "concurrency=1:4", "max_concurrency": 2}),
    ],
)
def test_what_is_swept_cant_be_given_too(option, given):
    with pytest.raises(UsageError, match=f"--sweep and {option} don't go together: it is varied"):
        LoadOptions(**given).load()


# --- The work --------------------------------------------------------------------


def asking(*texts):
    return tuple(
        Conversation(turns=(Turn(messages=({"role": "user", "content": text},)),)) for text in texts
    )


def test_without_options_prompts_are_synthetic():
    assert Synthetic(input_tokens=256, output_tokens=128) == WorkOptions().workload()


def test_options_shape_synthetic_prompts():
    wanted = Synthetic(
        input_tokens=3,
        output_tokens=4,
        input_spread=0.5,
        output_spread=0.5,
        prefix_tokens=6,
        prefixes=2,
        turns=5,
        delay=0.25,
    )

    assert wanted == (
        WorkOptions(
            input_tokens=3,
            output_tokens=4,
            length_spread=0.5,
            prefix_tokens=6,
            prefixes=2,
            turns=5,
            think_time=0.25,
        ).workload()
    )


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("input_tokens", 256),
        ("output_tokens", 128),
        ("length_spread", 0),
        ("prefix_tokens", 0),
        ("prefixes", 1),
        ("turns", 1),
        ("think_time", 0),
    ],
)
def test_the_help_tells_the_default(name, default):
    """
    An option that isn't given must not be known as given.
    """
    source = module.__loader__.get_source(module.__name__)
    told = re.search(rf"    {name}: .*?\[default: (.*?)\]", source, re.DOTALL)

    assert str(default) == told[1]
    assert WorkOptions().workload() == WorkOptions(**{name: default}).workload()


def test_a_prompt_is_asked_each_time():
    assert Prompts(conversations=asking("hi")) == WorkOptions(prompt="hi").workload()


def test_a_dataset_is_lines_of_json(file):
    path = file("work.jsonl", '"one"\n{"prompt": "two"}\n')
    wanted = Prompts(conversations=asking("one", "two"), source="work.jsonl")

    assert wanted == WorkOptions(dataset=path).workload()
    assert attrs.evolve(wanted, shuffle=True) == WorkOptions(dataset=path, shuffle=True).workload()


def test_a_dataset_whose_name_ends_in_json_is_sharegpts(file):
    said = [{"from": who, "value": who} for who in ("human", "gpt", "human", "gpt")]
    path = file("sharegpt.json", json.dumps([{"conversations": said}]))
    one = WorkOptions(dataset=path).workload()
    both = WorkOptions(dataset=path, max_turns=2).workload()

    assert [1, 2] == [len(work.conversations[0].turns) for work in (one, both)]


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("--dataset doesn't go with --prompt", {"prompt": "hi", "dataset": "a.jsonl"}),
        ("--input-tokens doesn't go with --prompt", {"prompt": "hi", "input_tokens": 256}),
        ("--prefix-tokens doesn't go with --prompt", {"prompt": "hi", "prefix_tokens": 0}),
        ("--shuffle doesn't go with --prompt", {"prompt": "hi", "shuffle": True}),
        ("--shuffle doesn't go with synthetic prompts", {"shuffle": True}),
        ("--max-turns doesn't go with synthetic prompts", {"max_turns": 2}),
        ("--turns doesn't go with --dataset a.json", {"turns": 2, "dataset": "a.json"}),
        ("--max-turns doesn't go with --dataset a.jsonl", {"max_turns": 2, "dataset": "a.jsonl"}),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused(file, words, given):
    """
    Whoever gives it believes that it does something.
    """
    if "dataset" in given:
        given = {**given, "dataset": file(given["dataset"], "x")}
    with pytest.raises(UsageError, match=re.escape(words)):
        WorkOptions(**given).workload()


@pytest.mark.parametrize("name", ["none.jsonl", "none.json"])
def test_a_dataset_that_isnt_there_is_named(tmp_path, name):
    words = re.escape(f"--dataset: can't read {tmp_path / name}: No such file or directory")
    with pytest.raises(UsageError, match=words):
        WorkOptions(dataset=tmp_path / name).workload()


def test_a_schedule_that_isnt_there_is_named(tmp_path):
    words = re.escape(f"--schedule: can't read {tmp_path}: Is a directory")
    with pytest.raises(UsageError, match=words):
        LoadOptions(schedule=tmp_path).load()


def test_a_dataset_that_cant_be_understood_is_told_with_its_line(file):
    path = file("work.jsonl", '"one"\n{"promt": "two"}\n')
    with pytest.raises(RequestError, match=re.escape(f"{path}, line 2")):
        WorkOptions(dataset=path).workload()


# --- Goals -----------------------------------------------------------------------


def test_goals_are_milliseconds_and_a_share():
    assert GoalOptions().goals() is None
    assert Goals(time_to_first_token=0.2, time_per_output_token=0.05) == (
        GoalOptions(goodput=("ttft:200", "tpot:50")).goals()
    )
    assert Goals(duration=1.0, attainment=0.5) == (
        GoalOptions(goodput=("e2el:1000",), attainment=0.5).goals()
    )


def test_a_share_without_goals_is_refused():
    with pytest.raises(UsageError, match=r"--attainment .*: give --goodput too"):
        GoalOptions(attainment=0.5).goals()


# --- The client --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "given", "cores"), [(1, "1", 4), (12, "12", 4), (3, "auto", 4), (1, "auto", 1)]
)
def test_workers_are_processes(monkeypatch, workers, given, cores):
    """
    ``auto`` leaves a core to whoever adds up.
    """
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores), raising=False)
    crew = ClientOptions(workers=given).crew()

    assert isinstance(crew, Processes)
    assert workers == crew.workers


def test_where_nobody_tells_which_cores_are_ours_all_are(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)

    assert 2 == ClientOptions(workers="auto").crew().workers


@pytest.mark.parametrize("given", ["0", "-1", "two", "", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(given):
    words = re.escape(f"--workers: expected a number from 1 on or auto, got {given!r}")
    with pytest.raises(UsageError, match=words):
        ClientOptions(workers=given).crew()


@pytest.mark.parametrize(("workers", "given"), [(3, "3"), (None, "auto")])
def test_a_cluster_has_its_workers_too(monkeypatch, workers, given):
    """
    ``auto`` is as many as there are cores, which the cluster tells when it is there.
    """
    monkeypatch.setattr("chatstream.bench.cluster.Cluster", lambda *told: told)

    assert ("ray://h:10001", workers) == (
        ClientOptions(cluster="ray://h:10001", workers=given).crew()
    )


def test_an_address_that_is_no_clusters_is_refused():
    with pytest.raises(RequestError, match="cluster"):
        ClientOptions(cluster="h:1").crew()


# --- The request and the server --------------------------------------------------------


def test_what_is_asked_is_what_one_request_may_ask():
    given = RequestParameters(n=2, seed=3, temperature=0.5)

    assert given.to_request() == AskedParameters(n=2, seed=3, temperature=0.5).to_request()


def test_a_request_is_tried_once():
    """
    Another try would hide that the first failed. All else is as for one request.
    """
    assert 1 == AskedServer().retry().attempts
    assert 1 == AskedServer(base_url="http://h").retry().attempts
    assert attrs.asdict(Connection(retries=0)) == attrs.asdict(AskedServer())


# --- Outputs ---------------------------------------------------------------------------


def test_nothing_is_written_unless_it_is_asked_for():
    assert outputs_of(OutputOptions(), ["a"]) is None


def test_a_folder_is_made_and_must_have_room(tmp_path):
    outputs = outputs_of(OutputOptions(out=tmp_path / "new" / "run"), ["a"])
    outputs.write("a", "x")

    with pytest.raises(UsageError, match=r"--out: can't write .*/run/a: it exists"):
        outputs_of(OutputOptions(out=tmp_path / "new" / "run"), ["a"])
    assert outputs_of(OutputOptions(out=tmp_path / "new" / "run", overwrite=True), ["a"]).overwrite
    assert outputs_of(OutputOptions(out=tmp_path / "new" / "run"), ["b"]) == outputs


def test_a_file_for_vllm_must_have_room(tmp_path, file):
    path = file("vllm.json", "x")

    with pytest.raises(UsageError, match=r"--save-vllm: can't write .*/vllm\.json: it exists"):
        outputs_of(OutputOptions(save_vllm=path), ["a"])
    assert outputs_of(OutputOptions(save_vllm=path, overwrite=True), ["a"]) is None


def test_a_file_for_vllm_is_none_of_the_runs_own(tmp_path):
    with pytest.raises(UsageError, match=r"--save-vllm: .*/a is what --out writes"):
        outputs_of(OutputOptions(out=tmp_path, save_vllm=tmp_path / "a"), ["a"])


def test_a_page_needs_plotly_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError) as missing:
        outputs_of(OutputOptions(out=tmp_path / "run"), ["a"])

    assert "plotly" == missing.value.name
    assert not (tmp_path / "run").exists()
