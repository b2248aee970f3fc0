"""chatstream.cli.report: a run shown again from its files."""

import json
import re
import shutil
import sys

import pytest

from chatstream.bench.log import Log
from chatstream.bench.output.files import LOG, REPORTS, Outputs
from chatstream.bench.output.folder import write_reports
from chatstream.bench.workers import Here
from chatstream.cli.load import ClientOptions
from tests.bench.records import record
from tests.bench.runs import SimulatedRun, summary_of
from tests.bench.shapes import misfits
from tests.cli.conftest import event


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Write a run like that into a folder of this name."""
    root = tmp_path_factory.mktemp("runs")

    def save(name, **like):
        records = SimulatedRun(**{"requests": 30, "warmup": 3, "stall": None, **like}).records
        log = Log.of(records)
        with Outputs(root / name).log(LOG) as file:
            for record in records:
                file.add(record.to_line())
        write_reports(Outputs(root / name), log, summary_of(log))
        return root / name

    return save


@pytest.fixture(scope="module")
def folder(saved):
    """A run."""
    return saved("run")


def summary_in(path):
    return json.loads((path / "summary.json").read_text("utf-8"))


def test_a_report_is_what_the_run_showed_and_wrote(run, serve, tmp_path, monkeypatch):
    monkeypatch.setattr(ClientOptions, "crew", lambda _: Here())
    answer = (event({"content": "Hi"}), event({"content": "."}), event(finish_reason="stop"))
    url = serve(*answer, "data: [DONE]\n\n").url
    line = f"bench --base-url {url} -m m -n 8 --no-calibration --goodput ttft:900 -o {tmp_path}/run"
    assert 0 == (first := run(*line.split(), "--definitions", "vllm"))[0]
    again = run("report", f"{tmp_path}/run", "-o", f"{tmp_path}/again", "--definitions", "vllm")

    assert (0, first[1], "") == again
    for name in REPORTS:
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "again" / name).read_text()


@pytest.mark.parametrize(
    ("name", "like"), [("swept", {"stages": (4, 8)}), ("paired", {"targets": 2})]
)
def test_a_sweep_and_several_targets_come_out_as_they_were(run, saved, name, like):
    path = saved(name, **like)
    status, shown, _ = run("report", str(path), "--json")

    assert (0, summary_in(path)) == (status, json.loads(shown))


def test_a_run_is_held_against_other_goals(run, folder):
    options = ("--goodput", "ttft:1", "--attainment", "0.5", "--json")
    status, shown, _ = run("report", str(folder), *options)
    found, before = json.loads(shown), summary_in(folder)

    assert 0 == status
    assert ({"time_to_first_token": 0.001}, 0.5) == (
        found["goodput"]["goals"],
        found["goodput"]["wanted"],
    )
    assert {"time_to_first_token": 0.1, "duration": 1.5} == before["goodput"]["goals"]
    assert found["metrics"] == before["metrics"]


def test_a_log_by_itself_can_be_shown(run, folder, tmp_path):
    shutil.copy(folder / LOG, tmp_path / "other.jsonl")
    status, shown, _ = run("report", str(tmp_path / "other.jsonl"), "--json")
    found = json.loads(shown)

    assert (0, [], None) == (status, list(misfits(found)), found["plan"])
    assert found["metrics"] == summary_in(folder)["metrics"]


def test_the_log_of_a_run_that_was_killed_is_read_to_its_last_whole_line(run, folder, tmp_path):
    whole = (folder / LOG).read_bytes()
    (tmp_path / f"{LOG}.part").write_bytes(whole[:-20])
    status, shown, _ = run("report", str(tmp_path), "--json", "--out", str(tmp_path))

    assert (0, 29) == (status, json.loads(shown)["requests"]["made"])
    assert sorted([f"{LOG}.part", *REPORTS]) == sorted(path.name for path in tmp_path.iterdir())


def test_a_log_from_elsewhere_moves_no_cursor(run, tmp_path):
    failed = record(created=0.0, verdict="http_error", error="ServerError", detail="\x1b[2J")
    (tmp_path / LOG).write_bytes(failed.to_line())
    status, shown, _ = run("report", str(tmp_path))

    assert 0 == status
    assert "  1 × ServerError: ␛[2J\n" in shown


def test_vllms_file_can_be_made_later(run, folder, tmp_path):
    (tmp_path / "r.json").write_text("old")
    options = ("report", str(folder), "--save-vllm", str(tmp_path / "r.json"))

    assert 2 == run(*options)[0]
    assert 0 == run(*options, "--overwrite")[0]
    assert 27 == len(json.loads((tmp_path / "r.json").read_text())["ttfts"])


def test_a_report_doesnt_take_the_place_of_another_by_chance(run, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "run")
    before = (copy / "summary.json").read_bytes()
    options = ("report", str(copy), "--out", str(copy), "--goodput", "ttft:1")
    status, shown, complaint = run(*options)

    assert (2, "") == (status, shown)
    assert re.fullmatch(
        r"chatstream: --out: can't write .*/summary\.json: it exists, .*\n", complaint
    )
    assert before == (copy / "summary.json").read_bytes()
    assert 0 == run(*options, "--overwrite")[0]
    assert {"time_to_first_token": 0.001} == summary_in(copy)["goodput"]["goals"]
    assert (folder / LOG).read_bytes() == (copy / LOG).read_bytes()


def broken(path):
    (path / LOG).write_text('{"v":1,"number":0}\n')
    return path


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (r"can't read .*/nowhere: No such file or directory", lambda path: path / "nowhere"),
        (r"can't read .*/requests\.jsonl: No such file or directory", lambda path: path),
        (r".*/requests\.jsonl, line 1: expected a request's record, got none with .*", broken),
    ],
)
def test_what_is_no_run_is_named(run, tmp_path, words, place):
    status, shown, complaint = run("report", str(place(tmp_path)))

    assert (2, "") == (status, shown)
    assert re.fullmatch(f"chatstream: {words}\n", complaint)


def test_one_target_has_no_report_of_its_own(run, folder):
    name = summary_in(folder)["targets"][0]["name"]
    status, _, complaint = run("report", f"{folder}#{name}")

    assert 2 == status
    assert "a report is of all targets: give the folder without #" in complaint


def test_a_page_needs_plotly(run, folder, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "plotly", None)
    status, shown, complaint = run("report", str(folder), "--out", str(tmp_path))

    assert (2, "") == (status, shown)
    assert (
        "chatstream: this command needs plotly: pip install 'chatstream-sdk[bench]'\n" == complaint
    )
    assert 0 == run("report", str(folder))[0]
