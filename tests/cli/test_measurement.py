"""chatstream.cli.measurement and delivery: a run from the command line to its files."""

import asyncio
import json
import math
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from chatstream.bench import client
from chatstream.bench.output.files import FILES, OutputError
from chatstream.bench.workers import Here
from chatstream.cli.load import ClientOptions
from chatstream.testing import Profile
from tests.bench.shapes import misfits
from tests.canaries import KEY
from tests.cli.conftest import event
from tests.processes import children, ends, grown

ANSWER = (
    event({"role": "assistant"}),
    event({"content": "Hi"}),
    event({"content": " there"}),
    event(finish_reason="stop"),
    "data: [DONE]\n\n",
)
HANGING = Profile(time_to_first_token=0, gap=60)


@pytest.fixture
def here(monkeypatch):
    """Make the load in this process: starting another takes most of such a run."""
    monkeypatch.setattr(ClientOptions, "crew", lambda _: Here())


@pytest.fixture
def answering(serve, here):
    """A server that answers every request."""
    return serve(*ANSWER)


@pytest.fixture
def bench(run):
    """Measure a server with three requests: status, what was printed, what was told."""

    def measure(server, *options):
        plain = ("--base-url", server.url, "-m", "m", "-n", "3", "--no-calibration")
        return run("bench", *plain, *options)

    return measure


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- What is printed and written ---------------------------------------------------


def test_figures_go_to_stdout_and_progress_to_stderr(answering, bench):
    status, shown, told = bench(answering)

    assert (0, "load: 8 at a time, 3 requests\n") == (status, told)
    assert re.search(r"^ time to first token +3 +\d", shown, re.MULTILINE)
    assert re.search(r"^3 requests; [\d,.]+ requests/s", shown, re.MULTILINE)
    assert re.search(r"^client: \w+  \(not calibrated", shown, re.MULTILINE)
    assert 3 == len(answering.requests)


def test_json_is_the_summary_and_nothing_else(answering, bench):
    status, shown, told = bench(answering, "--json")
    summary = json.loads(shown)

    assert (0, "load: 8 at a time, 3 requests\n") == (status, told)
    assert [] == list(misfits(summary))
    assert {"planned": 3, "made": 3, "good": 3, "warmup": 0} == summary["requests"]


def test_a_folder_has_the_files_of_the_run(answering, bench, tmp_path):
    out = tmp_path / "new" / "run"
    status, shown, _ = bench(answering, "--json", "--out", str(out))

    assert 0 == status
    assert sorted(FILES) == names(out)
    assert shown == json.dumps(json.loads((out / "summary.json").read_text()), indent=2) + "\n"
    assert 3 == len((out / "requests.jsonl").read_text().splitlines())


def test_what_exists_is_refused_before_anything_is_sent(answering, bench, tmp_path):
    (tmp_path / "report.md").write_text("precious")
    status, shown, complaint = bench(answering, "--out", str(tmp_path))

    assert (2, "") == (status, shown)
    assert (
        f"chatstream: --out: can't write {tmp_path}/report.md:"
        " it exists, and overwriting wasn't asked for\n"
    ) == complaint
    assert [] == answering.requests
    assert ["report.md"] == names(tmp_path)


def test_what_exists_is_replaced_if_that_is_wanted(answering, bench, tmp_path):
    (tmp_path / "report.md").write_text("old")
    status, _, _ = bench(answering, "--out", str(tmp_path), "--overwrite")

    assert 0 == status
    assert "Latency of `m`" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("kept", [True, False])
def test_answers_are_kept_only_if_that_is_wanted_and_then_for_nobody_else(
    answering, bench, tmp_path, kept
):
    status, _, _ = bench(answering, "-o", str(tmp_path), *["--save-text"][:kept])
    log = tmp_path / "requests.jsonl"

    assert 0 == status
    assert kept == ("Hi there" in log.read_text())
    assert kept == ("Hi there" in (tmp_path / "report.html").read_text())
    assert kept != bool(log.stat().st_mode & 0o044)


def test_figures_by_other_tools_are_shown_and_saved(answering, bench, tmp_path):
    saved = tmp_path / "vllm.json"
    status, shown, _ = bench(answering, "--definitions", "vllm", "otel", "--save-vllm", str(saved))
    result = json.loads(saved.read_text())

    assert 0 == status
    assert "By the definitions of vllm (vllm-project/vllm):" in shown
    assert "By the definitions of otel" in shown
    assert (3, "m") == (result["num_prompts"], result["model_id"])
    assert 3 == len(result["ttfts"])


def test_figures_are_shown_also_if_a_file_cant_be_written(answering, bench, tmp_path, monkeypatch):
    """
    The disk may be full by now; the figures are there.
    """

    def full(*_):
        raise OutputError(tmp_path / "report.html", "No space left on device")

    monkeypatch.setattr("chatstream.cli.delivery.write_reports", full)
    status, shown, complaint = bench(answering, "--out", str(tmp_path))

    assert 1 == status
    assert "time to first token" in shown
    assert f"chatstream: can't write {tmp_path}/report.html: No space left on device\n" in complaint


# --- The exit status -----------------------------------------------------------------


def test_without_an_answer_it_fails_and_has_written_why(serve, here, bench, tmp_path):
    failing = serve('{"error": {"message": "overloaded"}}', status=503, kind="application/json")
    status, shown, complaint = bench(failing, "--out", str(tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())

    assert 1 == status
    assert "3 requests, of which 3 HTTP error" in shown
    assert "  3 × ServerError: HTTP 503: overloaded" in shown
    assert complaint.endswith("chatstream: no request got its answer\n")
    assert {"http_error": 3} == summary["outcomes"]
    assert sorted(FILES) == names(tmp_path)


def test_answers_to_a_warm_up_are_none(answering, bench):
    status, _, complaint = bench(answering, "--warmup", "3")

    assert 1 == status
    assert "no request got its answer" in complaint


def test_a_sweep_may_end_with_a_load_that_is_too_much(serve, here, bench):
    """
    To find that out is what it is for.
    """
    status, shown, _ = bench(serve(*ANSWER, good=3), "--sweep", "concurrency=1,2")

    assert 0 == status
    assert "the last load, 2 at a time" in shown


@pytest.mark.parametrize(
    ("status", "limit", "options"),
    [(1, -1.0, ("--strict",)), (0, -1.0, ()), (0, math.inf, ("--strict",))],
)
def test_who_is_strict_wants_a_good_client(answering, bench, monkeypatch, status, limit, options):
    for name in ("_LOOP_LAG", "_LATENESS"):
        monkeypatch.setattr(client, name, (math.inf, math.inf))
    monkeypatch.setattr(client, "_CPU", (limit, math.inf))
    complaint = "chatstream: the client was suspect, and --strict asks for more\n"
    found, _, told = bench(answering, *options)

    assert status == found
    assert (complaint in told) == bool(status)


@pytest.mark.parametrize(
    ("extra", "module", "options"),
    [
        ("bench", "numpy", ()),
        ("bench", "plotly", ("--out", "nowhere")),
        ("bench", "prometheus_client.parser", ("--metrics-url", "http://127.0.0.1:1/metrics")),
        ("ray", "ray", ("--cluster", "auto")),
    ],
)
def test_a_missing_part_names_its_extra_before_anything_is_sent(
    serve, run, request, monkeypatch, extra, module, options
):
    if module != "ray":
        request.getfixturevalue("here")
    server = serve(*ANSWER)
    monkeypatch.setitem(sys.modules, module, None)
    part = module.partition(".")[0]
    status, shown, complaint = run("bench", "--base-url", server.url, "--no-calibration", *options)

    assert (2, "") == (status, shown)
    assert f"chatstream: this command needs {part}: pip install 'chatstream-sdk[{extra}]'\n" == (
        complaint
    )
    assert [] == server.requests


def test_workers_that_cant_start_are_one_line_and_leave_nothing(serve, run, monkeypatch, tmp_path):
    """
    An empty log would be in the way of the next try.
    """
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    url = serve(*ANSWER).url
    status, shown, complaint = run("bench", "--base-url", url, "--out", str(tmp_path))

    assert (1, "") == (status, shown)
    assert re.fullmatch(r"chatstream: worker 0 didn't start: exit status 1: .*\n", complaint)
    assert [] == names(tmp_path)


# --- Processes -----------------------------------------------------------------------


def test_a_simulated_server_is_measured_from_another_process(run):
    before = children()
    status, shown, _ = run(
        "bench", "--simulate", "--preset", "instant", "-n", "4", "--no-calibration", "--json"
    )
    summary = json.loads(shown)
    [target] = summary["targets"]

    assert (0, 4) == (status, summary["requests"]["good"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", target["base_url"])
    assert summary["plan"]["targets"][0]["base_url"] == target["base_url"]
    assert [4] == [worker["requests"] for worker in summary["workers"]]
    assert before == children()


def arguments_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text("utf-8").split("\0")


async def ended(process):
    """Wait until a child has ended, while a server here goes on; what it printed."""
    return await asyncio.to_thread(process.communicate)


async def test_ctrl_c_ends_a_run_with_what_was_measured(child, server, tmp_path, monkeypatch):
    """
    No traceback, no process that is left, and no key in what `ps` shows. A terminal tells
    the whole group; workers wait for what they are told.
    """
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.profile = HANGING
    line = (
        f"bench --base-url {server.base_url} -c 2 -n 9 --workers 2 --no-calibration -o {tmp_path}"
    )
    process = child(*line.split(), start_new_session=True)
    await server.until(lambda s: s.open_streams == 2)
    workers = children(process.pid)
    told = [arguments_of(pid) for pid in workers]
    os.killpg(process.pid, signal.SIGINT)
    shown, complaint = await ended(process)
    summary = json.loads((tmp_path / "summary.json").read_text())

    assert 130 == process.returncode
    assert [
        "load: 2 at a time, 9 requests",
        "ending with what was measured; Ctrl-C again ends at once",
    ] == complaint.splitlines()
    assert "the run was interrupted" in shown
    assert (True, {"not_attempted": 7, "cancelled": 2}) == (
        summary["interrupted"],
        summary["outcomes"],
    )
    assert sorted(FILES) == names(tmp_path)
    assert [False, False] == [worker["lost"] for worker in summary["workers"]]
    assert all(map(ends, workers))
    assert {f"Bearer {KEY}"} == {each.headers["authorization"] for each in server.requests}
    assert KEY not in "".join(word for arguments in told for word in arguments)


async def test_ctrl_c_ends_calibration_too(child, server):
    process = child("bench", "--base-url", server.base_url, "--json")
    first = await asyncio.to_thread(process.stderr.readline)
    started = children(process.pid)
    process.send_signal(signal.SIGINT)
    shown, complaint = await ended(process)

    assert "calibrating: 8 streams of the built-in truth server\n" == first
    assert (130, {"not_attempted": 200}) == (process.returncode, json.loads(shown)["outcomes"])
    assert "ending with what was measured; Ctrl-C again ends at once\n" == complaint
    assert all(map(ends, started))
    assert [] == server.requests


async def test_a_second_ctrl_c_ends_at_once(child, server, raw_server, tmp_path):
    """
    Here the server's own page doesn't come, which is awaited for ten seconds.
    """

    async def never(connection):
        await connection.request()
        process.send_signal(signal.SIGINT)
        await connection.gone()

    metrics = await raw_server(never)
    line = f"bench --base-url {server.base_url} --no-calibration --metrics-url {metrics.origin}/x"
    process = child(*line.split(), "-o", str(tmp_path))
    told = await asyncio.to_thread(process.stderr.readline)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    shown, complaint = await ended(process)

    assert told.startswith("ending with what was measured")
    assert (130, "", "") == (process.returncode, shown, complaint)
    assert [] == names(tmp_path)
    assert 1 == len(workers)
    assert all(map(ends, workers))


def test_a_run_that_is_killed_leaves_a_log_and_no_process(child, run, tmp_path):
    line = f"bench --simulate --preset instant --no-calibration -n 90000 -c 1 -o {tmp_path}"
    process = child(*line.split(), "--output-tokens", "900")
    log = tmp_path / "requests.jsonl.part"
    assert grown(log)
    started = children(process.pid)
    process.kill()
    assert all(map(ends, started))
    status, shown, complaint = run("report", str(tmp_path), "--json")
    summary = json.loads(shown)

    assert 2 == len(started)
    assert (0, "") == (status, complaint)
    assert 1 <= summary["requests"]["made"] == summary["metrics"]["duration"]["n"]
    assert [log.name] == names(tmp_path)
