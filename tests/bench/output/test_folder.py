"""The folder of a run: what is in its files, and who may read them."""

import json

import pytest

from chatstream.bench.definitions import TOOLS, view
from chatstream.bench.log import Log
from chatstream.bench.output.files import FILES, REPORTS, OutputError, Outputs
from chatstream.bench.output.folder import pretty, viewed, write_reports, write_vllm
from chatstream.bench.output.html import report_html
from chatstream.bench.output.markdown import report_markdown
from chatstream.bench.output.vllm import vllm_result
from chatstream.bench.plan import Goals
from tests.bench.runs import SimulatedRun, summary_of


@pytest.fixture(scope="module")
def telling():
    """A log with the answers' texts, and its summary."""
    found = Log.of(SimulatedRun(requests=20, warmup=0, text="the answer").records)
    return found, summary_of(found)


def readable_by_others(path):
    return bool(path.stat().st_mode & 0o044)


def test_a_folder_has_the_summary_the_page_and_the_markdown(tmp_path, a_log, a_summary):
    write_reports(Outputs(tmp_path), a_log, a_summary)

    assert sorted(REPORTS) == sorted(path.name for path in tmp_path.iterdir())
    assert {"requests.jsonl", *REPORTS} == set(FILES)
    assert a_summary == json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert report_html(a_log, a_summary) == (tmp_path / "report.html").read_text("utf-8")
    assert report_markdown(a_summary) == (tmp_path / "report.md").read_text("utf-8")
    assert all(map(readable_by_others, tmp_path.iterdir()))


def test_a_page_with_answers_is_nobody_elses(tmp_path, telling):
    """
    As is the log that they are from.
    """
    write_reports(Outputs(tmp_path), *telling)

    assert ["report.html"] == [
        path.name for path in tmp_path.iterdir() if not readable_by_others(path)
    ]


@pytest.mark.parametrize("kept", [True, False])
def test_vllms_file_is_what_vllm_would_have_written(tmp_path, a_log, a_summary, telling, kept):
    found, summary = telling if kept else (a_log, a_summary)
    write_vllm(tmp_path / "r.json", found, summary, overwrite=False)

    assert vllm_result(found, summary) == json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert kept != readable_by_others(tmp_path / "r.json")
    with pytest.raises(OutputError, match="it exists"):
        write_vllm(tmp_path / "r.json", found, summary, overwrite=False)
    write_vllm(tmp_path / "r.json", found, summary, overwrite=True)


def test_a_summary_is_json_that_people_can_read():
    assert b'{\n  "a": [\n    1\n  ]\n}\n' == pretty({"a": [1]})


def test_each_tool_looks_at_what_the_summary_shows(a_log, a_summary):
    goals = Goals(time_to_first_token=0.1, duration=1.5)

    assert {tool: view(a_log, tool, goals=goals) for tool in TOOLS} == (
        viewed(a_log, a_summary, TOOLS)
    )
    assert {} == viewed(a_log, a_summary, ())


def test_of_a_sweep_each_tool_looks_at_the_load_that_is_shown():
    swept = Log.of(SimulatedRun(stages=(4, 8), requests=20, stall=None, warmup=0).records)
    summary = summary_of(swept) | {"goodput": None}
    summary["shown"] = 1

    expected = {"vllm": view(swept.where(swept.stage == 1), "vllm")}
    assert expected == viewed(swept, summary, ["vllm"])
    assert expected == viewed(swept, summary | {"sweep": None}, ["vllm"])  # only the log is left
