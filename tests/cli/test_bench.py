"""chatstream.cli.bench: what the command line says is what is run."""

from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from chatstream import RequestError, Timeouts
from chatstream.bench.plan import Load
from chatstream.bench.sweep import parse_sweep
from chatstream.bench.workers import Processes
from chatstream.bench.workload import Synthetic
from chatstream.cli.app import build
from chatstream.cli.bench import bench
from chatstream.cli.exits import UsageError
from chatstream.cli.load import (
    AskedParameters,
    AskedServer,
    ClientOptions,
    GoalOptions,
    LoadOptions,
    RunOutputOptions,
    WorkOptions,
)
from chatstream.cli.simulation import Pace
from chatstream.testing import Profile

URL = "http://127.0.0.1:1/v1"
SERVER = ("--base-url", URL)
HERE = AskedServer(base_url=URL)


@pytest.fixture
def calls(monkeypatch):
    """What is measured: the plan, its first target, and how."""
    seen = []

    def measure(plan, **how):
        seen.append(SimpleNamespace(plan=plan, target=plan.targets[0], **how))
        return 0

    monkeypatch.setattr("chatstream.cli.measurement.measure", measure)
    return seen


@pytest.fixture
def told(run, calls):
    """What a command line has measured."""

    def tell(*arguments):
        assert (0, "", "") == run("bench", *arguments)
        return calls.pop()

    return tell


def value_of(told, path):
    for name in path.split("."):
        told = told[name] if isinstance(told, dict) else getattr(told, name)
    return told


# --- Every option ----------------------------------------------------------------

LINES = {
    "the server": {
        "--model m": ("target.model", "m"),
        "--base-url http://127.0.0.1:2/v1": ("target.base_url", "http://127.0.0.1:2/v1"),
        "--against http://127.0.0.1:3/v1": ("plan.targets", 2),
        "--api-key-file KEY": ("target.api_key", "sk-1"),
        "--api-version v": ("target.api_version", "v"),
        "--header A:b": ("target.headers", {"A": "b"}),
        "--proxy http://127.0.0.1:4": ("target.proxy", "http://127.0.0.1:4"),
        "--trust-env": ("target.trust_env", True),
        "--connect-timeout 1": ("plan.timeouts.connect", 1),
        "--first-token-timeout 2": ("plan.timeouts.first_token", 2),
        "--idle-timeout 0": ("plan.timeouts.idle", None),
        "--timeout 4": ("plan.timeouts.total", 4),
        "--retries 2": ("plan.attempts", 3),
        "--seed 5": ("plan.seed", 5),
    },
    "an open load": {
        "--max-concurrency 3": ("plan.load.max_concurrency", 3),
        "--request-rate 2.5": ("plan.load.request_rate", 2.5),
        "--burstiness 0.5": ("plan.load.burstiness", 0.5),
        "--ramp 2": ("plan.load.ramp", 2),
        "--num-prompts 7": ("plan.load.num_prompts", 7),
        "--duration 3": ("plan.load.duration", 3),
        "--warmup 2": ("plan.load.warmup", 2),
    },
    "short": {
        "-m m": ("target.name", "m"),
        "-c 3": ("plan.load.max_concurrency", 3),
        "-r inf": ("plan.load.request_rate", float("inf")),
        "-n 7": ("plan.load.num_prompts", 7),
        "--num-warmups 2": ("plan.load.warmup", 2),
        "-o DIR": ("output.out.name", "DIR"),
    },
    "a schedule": {"--schedule TIMES": ("plan.load.schedule", (0.0, 1.0))},
    "a sweep": {"--sweep rate=1:4": ("sweep", parse_sweep("rate=1:4"))},
    "a prompt": {"--prompt hi": ("plan.workload.conversations", 1)},
    "a dataset": {
        "--dataset WORK": ("plan.workload.source", "work.jsonl"),
        "--shuffle": ("plan.workload.shuffle", True),
    },
    "ShareGPT": {
        "--dataset SHAREGPT": ("plan.workload.source", "work.json"),
        "--max-turns 2": ("plan.workload.conversations", 1),
    },
    "synthetic prompts": {
        "--input-tokens 3": ("plan.workload.input_tokens", 3),
        "--output-tokens 4": ("plan.workload.output_tokens", 4),
        "--length-spread 0.5": ("plan.workload.output_spread", 0.5),
        "--prefix-tokens 5": ("plan.workload.prefix_tokens", 5),
        "--prefixes 6": ("plan.workload.prefixes", 6),
        "--turns 7": ("plan.workload.turns", 7),
        "--think-time 0.25": ("plan.workload.delay", 0.25),
    },
    "the request": {
        "--temperature 0.5": ("plan.params.temperature", 0.5),
        "--top-p 0.25": ("plan.params.top_p", 0.25),
        "--choices 2": ("plan.params.n", 2),
        "--stop a --stop b": ("plan.params.stop", ["a", "b"]),
        "--max-tokens 3": ("plan.params.max_tokens", 3),
        "--max-completion-tokens 4": ("plan.params.max_completion_tokens", 4),
        "--presence-penalty 1": ("plan.params.presence_penalty", 1),
        "--frequency-penalty 2": ("plan.params.frequency_penalty", 2),
        "--logit-bias 5=1": ("plan.params.logit_bias", {"5": 1}),
        "--request-seed 9": ("plan.params.seed", 9),
        "--user me": ("plan.params.user", "me"),
        "--reasoning-effort low": ("plan.params.reasoning_effort", "low"),
        "--verbosity high": ("plan.params.verbosity", "high"),
        "--service-tier flex": ("plan.params.service_tier", "flex"),
        "--response-format json": ("plan.params.response_format", {"type": "json_object"}),
        "--logprobs": ("plan.params.logprobs", True),
        "--top-logprobs 2": ("plan.params.top_logprobs", 2),
        '--extra-body {"top_k":4}': ("plan.extra_body", {"top_k": 4}),
        "--no-validate": ("plan.validate", False),
    },
    "goals and outputs": {
        "--goodput ttft:200 tpot:50": ("plan.goals.time_per_output_token", 0.05),
        "--attainment 0.5": ("plan.goals.attainment", 0.5),
        "--out DIR": ("output.out.name", "DIR"),
        "--overwrite": ("output.overwrite", True),
        "--save-vllm FILE": ("output.save_vllm.name", "FILE"),
        "--save-text": ("plan.keep_text", True),
        "--definitions vllm aiperf": ("output.definitions", ("vllm", "aiperf")),
        "--json": ("output.as_json", True),
    },
    "the client": {
        "--workers 3": ("crew.workers", 3),
        "--no-calibration": ("calibrate", False),
        "--strict": ("strict", True),
        "--metrics-url http://h/metrics": ("metrics_url", "http://h/metrics"),
    },
    "a cluster": {"--cluster ray://h:1": ("crew.address", "ray://h:1")},
    "the simulated server": {
        "--simulate": ("target.base_url", "http://127.0.0.1"),
        "--preset slow": ("profile.jitter", Profile.preset("slow", jitter=0.5).jitter),
        "--time-to-first-token 0.75": ("profile.time_to_first_token", 0.75),
        "--gap 0.5": ("profile.gap", 0.5),
        "--jitter 0.5": ("profile.jitter", 0.5),
        "--tokens 5": ("profile.tokens", 5),
        "--chunk-tokens 6": ("profile.chunk_tokens", 6),
        "--reasoning-tokens 7": ("profile.reasoning_tokens", 7),
    },
}


@pytest.fixture
def files(tmp_path):
    """Files that some options need, by the words that stand for them."""
    said = '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}'
    texts = {
        "KEY": ("key", "sk-1\n"),
        "TIMES": ("times", "0\n1\n"),
        "WORK": ("work.jsonl", '"hi"\n'),
        "SHAREGPT": ("work.json", f"[{said}]"),
    }
    for name, text in texts.values():
        (tmp_path / name).write_text(text, "utf-8")
    return {word: str(tmp_path / name) for word, (name, _) in texts.items()}


@pytest.mark.parametrize("options", LINES.values(), ids=LINES)
def test_every_option_reaches_what_is_run(told, files, options):
    server = () if {"--simulate", "--base-url http://127.0.0.1:2/v1"} & options.keys() else SERVER
    found = told(*server, *(files.get(word, word) for each in options for word in each.split()))

    for option, (path, wanted) in options.items():
        value = value_of(found, path)
        assert wanted == (len(value) if path in COUNTED else value), option


COUNTED = ("plan.targets", "plan.workload.conversations")


def test_no_option_is_forgotten_here():
    known = build("bench")["bench"].assemble_argument_collection()
    named = {argument.name for argument in known} - {"*"}
    tested = {word for options in LINES.values() for each in options for word in each.split()}

    assert set() == named - tested


def test_nothing_given_is_what_the_help_says(told):
    found = told("--simulate")

    assert Load(max_concurrency=8, num_prompts=200) == found.plan.load
    assert Synthetic(input_tokens=256, output_tokens=128) == found.plan.workload
    assert (Timeouts(), 1, 0, None) == (
        found.plan.timeouts,
        found.plan.attempts,
        found.plan.seed,
        found.plan.goals,
    )
    assert ({}, {}, True, False) == (
        found.plan.params,
        found.plan.extra_body,
        found.plan.validate,
        found.plan.keep_text,
    )
    assert (RunOutputOptions(), None, None) == (found.output, found.sweep, found.metrics_url)
    assert (True, False, 1) == (found.calibrate, found.strict, found.crew.workers)
    assert isinstance(found.crew, Processes)


# --- Who is asked ------------------------------------------------------------------


@pytest.fixture
def asked(calls):
    """Who is asked, when the command gets these arguments."""

    def ask(*urls, **arguments):
        if urls:
            arguments["connection"] = AskedServer(base_url=urls[0])
        bench(**arguments)
        return calls.pop().plan.targets

    return ask


def names(targets):
    return [(each.name, each.base_url, each.model) for each in targets]


def test_the_environment_says_who_is_asked(asked, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", URL)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    monkeypatch.setenv("OPENAI_MODEL", "env-model")
    [target] = asked()

    assert [("env-model", URL, "env-model")] == names([target])
    assert "sk-env" == target.api_key


def test_without_a_model_the_usual_one_is_asked(asked):
    assert [("gpt-4o-mini", URL, "gpt-4o-mini")] == names(asked(URL))


def test_several_models_are_asked_side_by_side(asked):
    assert [("a", URL, "a"), ("b", URL, "b")] == names(asked(URL, model=("a", "b")))


def test_several_servers_are_asked_side_by_side(asked):
    found = asked(URL, model=("a",), against=("http://h:2/v1",))

    assert [("127.0.0.1:1", URL, "a"), ("h:2", "http://h:2/v1", "a")] == names(found)


def test_each_model_is_asked_on_each_server(asked):
    found = asked(URL, model=("a", "b"), against=("http://h:2/v1",))

    assert ["a at 127.0.0.1:1", "b at 127.0.0.1:1", "a at h:2", "b at h:2"] == [
        each.name for each in found
    ]


def test_all_servers_get_the_same_key_and_headers(calls):
    connection = AskedServer(base_url=URL, header=("A: b",))
    bench(connection=connection, against=("http://127.0.0.1:2",))

    assert [{"A": "b"}] * 2 == [each.headers for each in calls.pop().plan.targets]


def test_the_simulated_server_is_never_told_a_key(asked, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    monkeypatch.setenv("OPENAI_MODEL", "env-model")
    found = asked(simulate=True, model=("a", "b"))

    assert ["a", "b"] == [each.name for each in found]
    assert {"simulated"} == {each.api_key for each in found}
    assert ["simulated"] == [each.model for each in asked(simulate=True)]


def test_what_looks_random_in_the_simulation_follows_from_the_seed(calls):
    bench(simulate=True, seed=4)

    assert attrs.evolve(Profile(), seed=4) == calls.pop().profile


# --- Wrong usage ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--gap shapes the simulated server", {"pace": Pace(gap=1)}),
        ("--base-url and --simulate don't", {"simulate": True, "connection": HERE}),
        ("--against and --simulate don't", {"simulate": True, "against": ("http://h",)}),
        ("api_key: expected a key", {}),
        ("n: expected", {"parameters": AskedParameters(n=0)}),
        ("temperature: expected", {"parameters": AskedParameters(temperature=3)}),
        ("base_url: expected", {"connection": AskedServer(base_url="ftp://h")}),
        ("base_url: expected", {"connection": AskedServer(base_url="http://[")}),
        ("base_url: expected", {"against": ("h:2",)}),
        ("base_url: expected", {"against": ("http://[",)}),
        ("proxy: expected", {"connection": AskedServer(base_url=URL, proxy="socks5://h")}),
        ("max_concurrency: expected", {"load": LoadOptions(max_concurrency=0)}),
        ("input_tokens: expected", {"work": WorkOptions(input_tokens=0)}),
        ("sweep: expected", {"load": LoadOptions(sweep="rate=9:1")}),
        ("goodput: expected", {"goals": GoalOptions(goodput=("speed:1",))}),
        ("attainment: expected", {"goals": GoalOptions(goodput=("ttft:1",), attainment=2)}),
        ("--workers: expected a number", {"client": ClientOptions(workers="0")}),
        ("--retries: expected 0 or more", {"connection": AskedServer(base_url=URL, retries=-1)}),
        ("--dataset: can't read nowhere", {"work": WorkOptions(dataset=Path("nowhere"))}),
        ("--save-vllm: can't write", {"output": RunOutputOptions(save_vllm=Path("/dev/null/x"))}),
        ("--out: can't write", {"output": RunOutputOptions(out=Path("/dev/null/x"))}),
    ],
)  # fmt: skip
def test_wrong_usage_names_what_was_wrong(words, arguments):
    """
    And no process is started for it.
    """
    if arguments and "simulate" not in arguments:
        arguments = {"connection": HERE} | arguments
    with pytest.raises((UsageError, RequestError), match=f"^{words}"):
        bench(**arguments)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("no API key: set OPENAI_API_KEY or give --api-key-file, or try --simulate", ()),
        ("max_concurrency: expected", ("--simulate", "-c", "0")),
        ("--workers: expected a number", ("--simulate", "--workers", "0")),
        ('Invalid value "x" for --definitions', ("--simulate", "--definitions", "x")),
        ("Unknown option: --concurrency", ("--simulate", "--concurrency", "3")),
    ],
)
def test_wrong_usage_is_one_sentence(run, words, arguments):
    status, shown, complaint = run("bench", *arguments)

    assert (2, "") == (status, shown)
    assert complaint.startswith(f"chatstream: {words}")
    assert 1 == complaint.count("\n")
