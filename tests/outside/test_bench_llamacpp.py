"""``chatstream bench`` on a real server: llama.cpp's own, with a model that a second writes."""

import json
import subprocess
import sys
from itertools import groupby, pairwise
from operator import itemgetter

import pytest

from tests.outside.tiny_llama import READABLE, serve

pytestmark = pytest.mark.outside

REQUESTS, TOKENS = 24, 12
TOOLS = ("chatstream", "vllm", "aiperf", "mlperf", "otel")
EVERY_TOKEN = json.dumps({"logit_bias": READABLE, "cache_prompt": False})


class Run:
    """What a run left: its files, and what it printed."""

    def __init__(self, out, printed):
        self.files = sorted(file.name for file in out.iterdir())
        self.printed = printed
        self.summary = json.loads((out / "summary.json").read_bytes())
        lines = (out / "requests.jsonl").read_bytes().splitlines()
        self.records = sorted(map(json.loads, lines), key=itemgetter("number", "turn"))
        self.out = out


@pytest.fixture(scope="module")
def origin(outside, tmp_path_factory):
    """Start the server; it ends with the last reference to it."""
    server = serve(tmp_path_factory.mktemp("llama"), outside, metrics=True)
    yield server.listening_address
    del server


@pytest.fixture(scope="module")
def bench(origin, tmp_path_factory):
    """Give a function that measures the server as from a shell."""

    def bench(options, **files):
        out = tmp_path_factory.mktemp("bench") / "out"
        command = [sys.executable, "-m", "chatstream", "bench", "--base-url", f"{origin}/v1"]
        command += ["--model", "tiny", "--extra-body", EVERY_TOKEN, *options.split()]
        for name, file in ({"out": out} | files).items():
            command += [f"--{name}", str(file)]
        done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
        assert 0 == done.returncode, done.stderr
        return Run(out, done.stdout)

    return bench


@pytest.fixture(scope="module")
def run(bench, origin, tmp_path_factory):
    """A closed load with all that can be told of it."""
    vllm = tmp_path_factory.mktemp("vllm") / "vllm.json"
    run = bench(
        f"-c 3 -n {REQUESTS} --input-tokens 20 --output-tokens {TOKENS}"
        f" --metrics-url {origin}/metrics --definitions {' '.join(TOOLS)}",
        **{"save-vllm": vllm},
    )
    run.vllm = json.loads(vllm.read_bytes())
    return run


def test_all_files_are_there(run):
    assert ["report.html", "report.md", "requests.jsonl", "summary.json"] == run.files


def test_every_request_is_answered(run):
    """
    The server closes each connection after its stream, often just when the next request is sent.
    """
    assert {"length": REQUESTS} == run.summary["outcomes"]
    assert [] == run.summary["errors"]
    assert (REQUESTS, REQUESTS) == (run.summary["requests"]["made"], len(run.records))


def test_tokens_are_the_servers_own_count(run):
    """
    Its answers say how many, and so does its page, which counts for itself.
    """
    counted = run.summary["server"]["metrics"]
    told = [(r["prompt_tokens"], r["completion_tokens"]) for r in run.records]

    assert [TOKENS] * REQUESTS == [completion for _, completion in told]
    assert sum(completion for _, completion in told) == counted["generation_tokens"]["value"]
    assert sum(prompt for prompt, _ in told) == counted["prompt_tokens"]["value"]


def test_each_moment_comes_after_the_one_before(run):
    """
    A role, a chunk for each token, and the finish reason.
    """
    for record in run.records:
        names = ("scheduled", "created", "acquired", "sent", "headers")
        moments = [record[f"{name}_ns"] for name in names]
        arrivals = record["arrivals_ns"]

        assert f"-{'c' * TOKENS}f" == record["kinds"]
        assert all(a <= b for a, b in pairwise([*moments, *arrivals]))
        assert arrivals[-1] <= record["end_ns"]


def test_figures_are_plausible(run):
    metrics = run.summary["metrics"]
    first, whole = metrics["time_to_first_token"], metrics["duration"]

    assert REQUESTS == first["n"] == whole["n"] == metrics["time_per_output_token"]["n"]
    assert REQUESTS * (TOKENS - 1) == metrics["inter_chunk_latency"]["n"]
    for share in ("p50", "p90", "p99"):
        assert 0 < metrics["time_to_first_token_from_sent"][share] <= first[share] <= whole[share]
    assert 0 < run.summary["throughput"]["mean_concurrency"] <= 3
    assert 3 == run.summary["throughput"]["peak_concurrency"]


def test_the_servers_own_figures_stand_beside(run):
    server = run.summary["server"]

    assert [] == server["notes"]
    assert 0 < server["metrics"]["time_per_output_token"]["mean"]
    assert 0 < server["metrics"]["time_per_prompt_token"]["mean"]
    assert "the server's own figures, of 127.0.0.1" in run.printed


def test_other_tools_count_the_same_answers(run):
    """
    Where a chunk is a token, they agree on what one takes.
    """
    views = run.summary["definitions"]
    vllm, aiperf = views["vllm"]["metrics"], views["aiperf"]["metrics"]
    per_token = pytest.approx(run.summary["metrics"]["time_per_output_token"]["mean"])

    assert set(TOOLS) == set(views)
    assert REQUESTS == vllm["completed"]["value"] == aiperf["request_count"]["value"]
    assert REQUESTS * TOKENS == vllm["total_output_tokens"]["value"]
    assert per_token == vllm["tpot"]["mean"]
    assert per_token == aiperf["inter_token_latency"]["mean"]
    assert per_token == views["mlperf"]["metrics"]["TPOT"]["mean"]
    assert REQUESTS == run.vllm["completed"] == len(run.vllm["ttfts"])


def test_conversations_go_on_with_what_was_answered(bench):
    run = bench("-c 2 -n 4 --turns 3 --input-tokens 20 --output-tokens 6 --no-calibration")

    assert [(n, turn) for n in range(4) for turn in range(3)] == [
        (record["number"], record["turn"]) for record in run.records
    ]
    for _, turns in groupby(run.records, itemgetter("number")):
        prompts = [record["prompt_tokens"] for record in turns]
        assert all(b > a + 6 for a, b in pairwise(prompts))


def test_a_dataset_says_what_is_asked(bench, tmp_path):
    asked = [
        {"prompt": "Hi", "max_tokens": 3},
        {"messages": [{"role": "user", "content": "Who are you?"}], "output_tokens": 5},
        {"turns": ["Count to 100", "On"], "max_tokens": 4},
    ]
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in asked))
    run = bench("-c 1 -n 3 --no-calibration", dataset=file)

    assert [3, 5, 4, 4] == [record["completion_tokens"] for record in run.records]
    assert {"length": 4} == run.summary["outcomes"]


def test_a_sweep_is_a_load_after_the_other(bench):
    run = bench(
        "--sweep concurrency=1,3 -n 12 --input-tokens 20 --output-tokens 4 --no-calibration"
    )
    stages = run.summary["stages"]

    assert [1, 3] == [stage["value"] for stage in stages]
    assert [12, 12] == [stage["requests"]["good"] for stage in stages]
    assert [1, 3] == [stage["throughput"]["peak_concurrency"] for stage in stages]
    assert [0] * 12 + [1] * 12 == sorted(record["stage"] for record in run.records)
