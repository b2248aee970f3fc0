"""A run as Markdown: what it says, and that it says it whatever a server sent."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bench.log import Log
from chatstream.bench.output.markdown import code, report_markdown
from chatstream.bench.summary import Facts, summarised
from tests.bench.runs import SimulatedRun, summary_of

HOSTILE = "a|b `c` <img src=x onerror=alert(1)> @octocat #1 [x](javascript:1) **b**\n\n# x \\| $1$"


@pytest.fixture(scope="module")
def text(a_summary):
    return report_markdown(a_summary)


@pytest.fixture(scope="module")
def swept():
    log = Log.of(SimulatedRun(stages=(4, 8, 16), requests=60, stall=None, warmup=0).records)
    return summary_of(log)


def rows_of(text, head):
    """The rows of the table with this first cell in its head."""
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line:
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_it_begins_with_what_was_measured(text):
    title, sentence = text.split("\n\n")[:2]

    assert "### Latency of `model-0`" == title
    assert re.fullmatch(
        r"228 requests in \d+\.\d s, \d+ output tokens/s \(\d+–\d+\), "
        r"[\d.]+ answers/s \([\d.]+–[\d.]+\), [\d.]+ in flight on average\.",
        sentence,
    )


def test_latencies_have_intervals_and_doubts(a_summary, text):
    rows = rows_of(text, "latency, ms")
    figure = a_summary["metrics"]["time_to_first_token"]

    assert ["time to first token", "209"] == rows[0][:2]
    assert re.fullmatch(rf"{figure['p50'] * 1000:.1f} \([\d.]+–[\d.]+\)", rows[0][2])
    assert re.fullmatch(r"149\? \(\d+–[\d,]+\)", rows[0][4])
    assert "A figure with ? is from too few requests" in text


def test_it_says_whether_the_client_was_good_enough(text):
    told = (
        "- **Client: ok** (calibrated: off by 0.040 ms in the time to first token"
        " and 0.030 ms in gaps at p99; 41 % of its core in use)"
    )

    assert told in text.splitlines()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"verdict": "limiting", "reasons": ["the loop | was late"], "calibration": None},
            "**Client: limiting** (<code>the loop &#124; was late</code>; not calibrated; 41 %",
        ),
        ({"cpu": None, "calibration": None}, "**Client: ok** (not calibrated)"),
    ],
)
def test_it_says_why_the_client_was_not(a_summary, changes, expected):
    summary = a_summary | {"client": a_summary["client"] | changes}

    assert expected in report_markdown(summary)


def test_a_calibration_that_measured_nothing_is_none(a_summary):
    nothing = {"time_to_first_token_error": None, "inter_chunk_latency_error": None}
    client = a_summary["client"]
    calibration = client["calibration"] | nothing
    summary = a_summary | {"client": client | {"calibration": calibration}}

    assert "(not calibrated;" in report_markdown(summary)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"interrupted": True}, "- **The run was interrupted**"),
        (
            {"workers": [{"worker": 0, "lost": True}, {"worker": 1, "lost": False}]},
            "- **1 of 2 workers got lost**",
        ),
        (
            {"stalls": [{"start": 1.0, "end": 3.0, "seconds": 2.0, "open_streams": 37}]},
            "- **The server stalled once**, at most for 2.00 s from 1.00 s on, while 37 were open.",
        ),
        (
            {
                "stalls": [
                    {"start": 1, "end": 2, "seconds": each, "open_streams": 2} for each in (1, 3)
                ]
            },
            "- **The server stalled 2 times**, at most for 3.00 s",
        ),
        (
            {"steady_state": {"stable": False, "why": "it drifts"}},
            "- **The steady state isn't steady**: `it drifts`",
        ),
    ],
)
def test_what_a_reader_must_know_comes_first(a_summary, changes, expected):
    text = report_markdown(a_summary | changes)

    assert expected in text
    assert text.index(expected) < text.index("| latency, ms |")


def test_a_calm_run_has_nothing_to_say(a_summary):
    quiet = {"stalls": [], "steady_state": None, "interrupted": False}
    text = report_markdown(a_summary | quiet)

    assert ["Client"] == re.findall(r"^- \*\*(\w+)", text, re.MULTILINE)


def test_goals_tell_who_kept_them(a_summary, text):
    goodput = a_summary["goodput"]
    rows = rows_of(text, "goal")

    assert ["time to first token ≤ 100 ms", f"{goodput['by_goal']['time_to_first_token']:.1%}"] == [
        rows[0][0],
        rows[0][1].replace(" %", "%"),
    ]
    assert "**all, by 99 %: not met**" == rows[-1][0]
    assert re.fullmatch(r"[\d.]+ % \([\d.]+ %–[\d.]+ %\)", rows[-1][1])


def test_goals_that_were_met(a_summary):
    goodput = a_summary["goodput"] | {"met": True, "ci": None, "attainment": 1.0}
    rows = rows_of(report_markdown(a_summary | {"goodput": goodput}), "goal")

    assert ["**all, by 99 %: met**", "100 %"] == rows[-1]


def test_without_goals_there_is_no_table(a_summary):
    assert "| goal |" not in report_markdown(a_summary | {"goodput": None})


def test_outcomes_and_errors_are_counted(a_summary, text):
    outcomes = {row[0]: row[1] for row in rows_of(text, "outcome")}
    errors = dict(rows_of(text, "error"))

    assert str(a_summary["outcomes"]["connect_error"]) == outcomes["no connection"]
    assert (
        str(a_summary["outcomes"]["timeout"])
        == (errors["`IdleTimeoutError: no token for 3.0 s after 41 events`"])
    )


def test_many_kinds_of_errors_are_cut(a_summary):
    errors = [{"error": "E", "detail": str(each), "count": 10 - each} for each in range(8)]
    rows = rows_of(report_markdown(a_summary | {"errors": errors}), "error")

    assert ["others", "12"] == rows[-1]
    assert 6 == len(rows)


def test_a_run_without_failures_says_so(a_summary):
    text = report_markdown(a_summary | {"outcomes": {"finished": 9, "length": 1}, "errors": []})

    assert "All 10 requests ended well." in text
    assert "| error |" not in text


def test_a_run_without_latencies_says_so(a_summary):
    nothing = dict.fromkeys(a_summary["metrics"])
    throughput = dict.fromkeys(a_summary["throughput"]) | {"seconds": 1.0}
    text = report_markdown(a_summary | {"metrics": nothing, "throughput": throughput})

    assert "No request has a latency." in text
    assert "A figure with ?" not in text


def test_a_log_alone_has_a_report(a_log):
    """
    Of a run that was killed neither plan nor version is left.
    """
    text = report_markdown(summarised(a_log, Facts()))

    assert text.startswith("### Latency of a run\n")
    assert "Measured with" not in text


def test_targets_stand_side_by_side():
    log = Log.of(SimulatedRun(targets=2, requests=60, stall=None).records)
    summary = summary_of(log)
    summary["targets"][1]["name"] = "the new one"
    summary["targets"][1]["goodput"] = None
    summary["targets"][1]["metrics"]["inter_chunk_latency"] = None
    summary["targets"][1]["throughput"]["output_tokens_per_second"] = None
    rows = rows_of(report_markdown(summary), "target")

    assert ["`model-0`", "`the new one`"] == [row[0] for row in rows]
    assert ["–"] * 4 == [rows[1][place] for place in (2, 5, 6, 7)]


def test_loads_of_a_sweep_stand_below_each_other(swept):
    swept["sweep"] |= {"best": 1, "knee": 1, "over": "max_concurrency"}
    text = report_markdown(swept)
    rate = report_markdown(
        swept | {"sweep": swept["sweep"] | {"over": "request_rate", "knee": None}}
    )

    assert ["12", "24 **best** **knee**", "48"] == [row[0] for row in rows_of(text, "at a time")]
    assert ["12", "24 **best**", "48"] == [row[0] for row in rows_of(rate, "requests/s")]


# --- Foreign text ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("`gpt-4.1`", "gpt-4.1"),
        ("`<b>@octocat</b>`", "<b>@octocat</b>"),
        ("`one two`", "one\ntwo"),
        ("` `", ""),
        ("<code>a&#124;b</code>", "a|b"),
        ("<code>&#96;&#64;x&#95;&#92;</code>", "`@x_\\"),
    ],
)
def test_foreign_text_is_code(expected, text):
    """
    In code there are no mentions, no links, no markup; a pipe ends a cell even there.
    """
    assert expected == code(text)


@given(st.text())
def test_foreign_text_stays_in_its_cell(text):
    shown = code(text)

    assert "|" not in shown
    assert "\n" not in shown
    if shown.startswith("`"):
        assert 2 == shown.count("`")
    else:
        assert re.fullmatch(r"<code>[^<>`\\@]*</code>", shown)


def test_a_hostile_server_changes_no_table(a_summary):
    errors = [{"error": HOSTILE, "detail": HOSTILE, "count": 1}]
    targets = [{**a_summary["targets"][0], "model": HOSTILE}]
    expected = report_markdown(a_summary | {"errors": [{"error": "E", "detail": "", "count": 1}]})
    text = report_markdown(a_summary | {"errors": errors, "targets": targets})
    outside = re.sub(r"`[^`\n]*`|<code>.*?</code>", "", text)

    assert text.count("|") == expected.count("|")
    assert not re.search(r"octocat|onerror|javascript", outside)
