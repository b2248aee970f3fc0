"""chatstream.cli.compare."""

import json

import pytest

from tests.bench.compared import answers, plan, saved, skewed, summary, target
from tests.cli.conftest import START

SLOW = ["--allow", "ttft.p50:5%"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with run1, and run2 whose first tokens take twice as long; we are in it."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "run1", answers(skewed(30)))
    saved(tmp_path / "run2", answers(skewed(30) * 2))
    return tmp_path


def test_shows_what_changed(run, runs):
    status, shown, complaint = run("compare", "run1", "run2")

    assert (0, "") == (status, complaint)
    assert shown.startswith("A: run1\nB: run2\n")
    (line,) = (line for line in shown.splitlines() if "first token p50" in line)
    assert " +100.0 % " in line
    assert " worse " in line
    assert "paired: the 30 requests of both are drawn together" in shown
    assert shown.endswith("compared; nothing was held against an allowance\n")
    assert "allowed" not in shown.splitlines()[3]
    assert "first byte" not in shown


def test_shows_every_metric_if_wanted(run, runs):
    _, shown, _ = run("compare", "run1", "run2", "--all")

    assert "dispatch delay p50" in shown


def test_a_regression_ends_with_1(run, runs):
    """
    The reason is on stderr: one line for a log in which the table is long.
    """
    status, shown, complaint = run("compare", "run1", "run2", *SLOW, "--allow", "icl.mean:2ms")

    assert 1 == status
    assert complaint.startswith(
        "chatstream: time to first token p50 got worse by more than is allowed: A "
    )
    assert 1 == complaint.count("\n")
    assert "5%: broken" in shown
    assert "2ms: kept" in shown
    assert "regression: 1 of 2 allowances broken" in shown


def test_an_improvement_ends_with_0(run, runs):
    status, shown, complaint = run("compare", "run2", "run1", *SLOW, "--strict")

    assert (0, "") == (status, complaint)
    assert "no regression: 1 of 1 allowances kept" in shown


def test_strict_asks_for_comparable_runs(run, runs):
    """
    What a plan holds may be hostile, as everything in a file that someone sent.
    """
    told = summary(plan=plan(params={"stop": "\x1b[2J\u202e"}))
    saved(runs / "run3", answers(skewed(30)), told)
    status, shown, complaint = run("compare", "run1", "run3")

    assert (0, "") == (status, complaint)
    assert r"warning: plans differ in params.stop: A nothing, B '\x1b[2J\u202e'" in shown
    status, _, complaint = run("compare", "run1", "run3", "--strict")
    assert 1 == status
    assert complaint.startswith("chatstream: these runs aren't comparable without doubt: plans")


def test_two_targets_of_a_run_are_compared(run, runs):
    records = [*answers(skewed(30)), *answers(skewed(30) * 2, target=1)]
    saved(runs / "both", records, summary(targets=[target("a\x1b"), target("b")]))
    status, shown, _ = run("compare", "both#a\x1b", "both#b", *SLOW, "--strict")

    assert 1 == status
    assert shown.startswith("A: both#a␛\nB: both#b\n")


def test_prints_json(run, runs):
    status, shown, complaint = run("compare", "run1", "run2", "--json", *SLOW)
    document = json.loads(shown)

    assert (1, 1) == (status, complaint.count("\n"))
    assert (True, 30) == (document["failed"], document["paired"])


def test_the_seed_decides_what_is_drawn(run, runs):
    first, same, other = (
        run("compare", "run1", "run2", "--json", "--seed", seed)[1] for seed in "112"
    )

    assert first == same != other


def test_prints_markdown(run, runs):
    status, shown, _ = run("compare", "run1", "run2", "--markdown", "-")

    assert 0 == status
    assert shown.startswith("### Compared; nothing was held against an allowance\n\nA is `run1`")


def test_writes_markdown(run, runs):
    path = runs / "comment.md"
    status, shown, _ = run("compare", "run1", "run2", "--markdown", str(path), "--all")

    assert (0, True) == (status, shown.startswith("A: run1"))
    assert "| dispatch delay p50 |" in path.read_text()
    status, shown, complaint = run("compare", "run1", "run2", "--markdown", str(path))
    assert (2, "") == (status, shown)
    assert complaint.startswith(f"chatstream: --markdown: can't write {path}: ")
    assert 0 == run("compare", "run1", "run2", "--markdown", str(path), "--overwrite")[0]
    assert "| dispatch delay p50 |" not in path.read_text()


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        ("--json and --markdown - don't go together: both print", ("--json", "--markdown", "-")),
        ("--markdown: expected a file, or - to print it, got --all", ("--markdown", "--all")),
        (
            '--allow: expected FIGURE:LIMIT, such as ttft.p99:5%, got "ttft.p99"',
            ("--allow", "ttft.p99"),
        ),
        (
            "--allow: expected FIGURE:LIMIT, such as ttft.p99:5%, got two limits for ttft.p99",
            ("--allow", "ttft.p99:5%", "--allow", "ttft.p99:6%"),
        ),
        (
            "allow: expected a limit such as 5%, 20ms or 0.02s, got 'x' for ttft.p99",
            ("--allow", "ttft.p99:x"),
        ),
        ("allow: expected a figure that A has, got goodput:1%", ("--allow", "goodput:1%")),
    ],
)
def test_wrong_usage_is_one_line(run, runs, expected, options):
    assert (2, "", f"chatstream: {expected}\n") == run("compare", "run1", "run2", *options)


def test_what_cant_be_read_is_one_line(run, runs):
    """
    Status 2: a gate that couldn't look is no regression, and no success.
    """
    (runs / "bad.jsonl").write_text("{}\n")
    saved(runs / "odd", answers([0.1]), {"schema": "\x1b"})
    (runs / "empty").mkdir()

    assert (2, "", "chatstream: can't read nowhere: No such file or directory\n") == run(
        "compare", "run1", "nowhere"
    )
    assert (2, "", "chatstream: can't read empty/requests.jsonl: No such file or directory\n") == (
        run("compare", "empty", "run1")
    )
    assert run("compare", "bad.jsonl", "run1")[2].startswith(
        "chatstream: bad.jsonl, line 1: expected a request's record, got "
    )
    assert run("compare", "odd", "run1")[2].startswith(
        "chatstream: odd/summary.json: expected the schema "
    )
    assert (2, "", "chatstream: target: expected one of '', got 'x'\n") == run(
        "compare", "run1#x", "run1"
    )


def test_at_a_terminal_there_is_colour(run, runs, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    _, shown, _ = run("compare", "run1", "run2")

    assert "\x1b[31m" in shown


def test_numpy_is_named_if_it_is_missing(child, runs):
    """
    It comes with an extra, and only comparing needs it.
    """
    code = "import sys; sys.modules['numpy'] = None\n" + START
    comparing = child("compare", "run1", "run2", code=code)
    helping = child("compare", "--help", code=code)
    expected = "chatstream: this command needs numpy: pip install 'chatstream-sdk[bench]'\n"

    assert ("", expected) == comparing.communicate()
    assert "" == helping.communicate()[1]
    assert (2, 0) == (comparing.returncode, helping.returncode)
