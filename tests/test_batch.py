"""examples/batch.py: prompts in, answers out, over and over until all are there."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent / "examples" / "batch.py"


@pytest.fixture(scope="module")
def batch():
    spec = importlib.util.spec_from_file_location("batch", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tasks(*names):
    return [{"id": name, "prompt": f"say {name}"} for name in names]


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def test_each_prompt_gets_a_line_with_its_latencies(batch, session, tmp_path):
    out = tmp_path / "answers.jsonl"
    await batch.run(session, tasks("one", "two", "drei"), "m", out, workers=2)

    found = {line["id"]: line for line in lines(out)}
    assert {"one": "one", "two": "two", "drei": "drei"} == {
        name: line["text"] for name, line in found.items()
    }
    assert all(line["verdict"] == "finished" for line in found.values())
    assert all(0 < line["time_to_first_token"] <= line["duration"] for line in found.values())
    assert 1 == found["one"]["completion_tokens"]


async def test_what_is_answered_is_not_asked_again(batch, session, server, tmp_path):
    """
    Nor is what was being written when the last run was killed taken for an answer.
    """
    out = tmp_path / "answers.jsonl"
    out.write_text('{"id": "one", "text": "one"}\n{"id": "two", "te', "utf-8")
    await batch.run(session, tasks("one", "two"), "m", out, workers=2)
    await batch.run(session, tasks("one", "two"), "m", out, workers=2)

    asked = [request.body["messages"][0]["content"] for request in server.requests]
    assert ["say two"] == asked
    assert ["one", "two"] == [line["id"] for line in batch.lines_of(out)]


async def test_what_failed_is_told_and_asked_again(batch, session, server, tmp_path):
    out = tmp_path / "answers.jsonl"
    await batch.run(session, tasks("one"), "no-such-model", out, workers=1)
    [failed] = lines(out)
    await batch.run(session, tasks("one"), "m", out, workers=1)

    assert failed["error"].startswith("NotFoundError: HTTP 404")
    assert ["one"] == [line["text"] for line in lines(out)[1:]]


async def test_messages_go_out_as_they_are(batch, session, server, tmp_path):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say a"}]
    out = tmp_path / "answers.jsonl"
    await batch.run(session, [{"id": 1, "messages": messages}], "m", out, workers=1)

    assert messages == server.requests[0].body["messages"]


async def test_no_more_requests_at_a_time_than_workers(batch, session, server, tmp_path):
    most = 0
    ask = session.stream

    def counting(**params):
        nonlocal most
        most = max(most, server.open_streams)
        return ask(**params)

    session.stream = counting
    names = [str(number) for number in range(20)]
    await batch.run(session, tasks(*names), "m", tmp_path / "answers.jsonl", workers=3)

    assert most <= 3


def test_it_is_a_command_that_needs_no_account(tmp_path):
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text("".join(json.dumps(task) + "\n" for task in tasks("one", "two")), "utf-8")
    command = [sys.executable, "-W", "error", str(PATH), str(prompts), str(out), "--simulate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert {"one", "two"} == {line["text"] for line in lines(out)}
