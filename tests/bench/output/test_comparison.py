"""A comparison as rows and as Markdown: what is shown, in which words, and nothing hostile."""

import pytest

from chatstream.bench.allowance import parse_allowance
from chatstream.bench.compare import Change, Comparison, Estimate, Side
from chatstream.bench.output.comparison import (
    HEAD,
    comparison_markdown,
    comparison_rows,
    reasons,
    title,
)

HOSTILE = "a|b `c` <img src=x onerror=alert(1)> @octocat \x1b[2J"


def change(figure, a=0.1, b=0.11, ci=(0.004, 0.016), *, unit="s", limit=None, **facts):
    """A figure that was *a* and is *b*."""
    absolute = None if b is None else Estimate(b - a, ci)
    relative = None
    if absolute is not None and a and unit != "share":
        relative = absolute.times(1 / a)
    return Change(
        figure=figure,
        unit=unit,
        a=Side(a, 1500),
        b=Side(b, 1500 if b is not None else 0),
        absolute=absolute,
        relative=relative,
        allowance=None if limit is None else parse_allowance(figure, limit),
        **facts,
    )


def comparison(*changes, **facts):
    return Comparison(
        **{
            "a": "run1",
            "b": "run2",
            "changes": changes,
            "paired": None,
            "warnings": (),
            "notes": (),
        }
        | facts
    )


def row(given, **facts):
    (found,) = comparison_rows(comparison(given, **facts), everything=True)
    return found.label, dict(zip(HEAD, found.cells, strict=True))


# --- Rows --------------------------------------------------------------------


def test_a_row_is_a_figure_in_both_runs():
    expected = {
        "A": "100",
        "B": "110",
        "change": "+10.0 %",
        "95 % interval": "+4.0 … +16.0",
        "verdict": "worse",
        "n": "1,500",
        "allowed": "",
    }

    assert ("time to first token p99.9", expected) == row(change("time_to_first_token.p999"))


@pytest.mark.parametrize(
    ("label", "expected", "given"),
    [
        (
            "requests/s",
            ("10.0", "9.00", "-10.0 %", "-20.0 … +0.0"),
            change("requests_per_second", 10.0, 9.0, (-2.0, 0.0), unit="1/s"),
        ),
        (
            "requests that failed",
            ("0 %", "1.5 %", "+1.50 points", "+0.50 … +2.50"),
            change("failed", 0.0, 0.015, (0.005, 0.025), unit="share"),
        ),
        (
            "dispatch delay p50",
            ("0.00", "0.020", "+0.020 ms", "+0.010 … +0.030"),
            change("dispatch_delay.p50", 0.0, 2e-5, (1e-5, 3e-5)),
        ),
        ("duration mean", ("100", "110", "+10.0 %", "–"), change("duration.mean", ci=None)),
        ("duration mean", ("100", "–", "–", "–"), change("duration.mean", b=None)),
    ],
)
def test_a_change_has_the_unit_that_suits_it(label, expected, given):
    seen, cells = row(given)

    assert (label, expected) == (seen, tuple(cells[name] for name in HEAD[:4]))


def test_counts_that_differ_are_both_shown():
    assert "1,500, 0" == row(change("duration.mean", b=None))[1]["n"]


def test_a_percentile_of_too_few_requests_has_a_question_mark():
    assert "duration p99?" == row(change("duration.p99", unsure=True))[0]


def test_an_allowance_is_shown_with_what_became_of_it():
    assert "5%: possible" == row(change("duration.p99", limit="5%"))[1]["allowed"]


def labels(given, **options):
    return [each.label for each in comparison_rows(given, **options)]


def test_the_main_metrics_and_those_with_an_allowance_are_shown():
    given = comparison(
        change("time_to_first_byte.p50"),
        change("time_to_first_chunk.p50", limit="5%"),
        change("time_to_first_token.p50"),
        change("duration.p50"),
        change("duration_from_schedule.p50"),
        change("failed", unit="share"),
    )
    main = ["time to first token p50", "duration p50", "requests that failed"]

    assert [*main, "time to first chunk p50"] == labels(given)
    assert 6 == len(labels(given, everything=True))


def test_of_open_loads_latencies_from_the_schedule_are_shown():
    given = comparison(change("duration_from_schedule.p50"), open_load=True)

    assert ["duration from schedule p50"] == labels(given)


@pytest.mark.parametrize(("expected", "b"), [(1, 0.11), (2, 0.2)])
def test_the_first_output_is_shown_where_something_reasoned(expected, b):
    token, output = change("time_to_first_token.p50"), change("time_to_first_output.p50", b=b)

    assert expected == len(labels(comparison(token, output)))


# --- Sentences ---------------------------------------------------------------


def test_a_comparison_that_holds_has_no_reasons():
    given = comparison(change("duration.p50", limit="50%"), strict=True)

    assert [] == list(reasons(given))
    assert "no regression: 1 of 1 allowances kept" == title(given)


def test_a_regression_is_told_with_its_figures():
    given = comparison(change("duration.p50", limit="2%"), change("duration.p99", limit="5%"))
    expected = (
        "duration p50 got worse by more than is allowed: "
        "A 100, B 110, +10.0 % (+4.0 … +16.0), allowed 2%"
    )

    assert [expected] == list(reasons(given))
    assert "regression: 1 of 2 allowances broken" == title(given)


def test_what_cant_be_told_is_a_regression_for_that_reason():
    given = comparison(change("duration.p99", limit="5%", ci=None, undecided="nobody knows"))
    expected = "duration p99 counts as worse, nobody knows: A 100, B 110, +10.0 % (–), allowed 5%"

    assert [expected] == list(reasons(given))


def test_a_possible_regression_is_a_reason_if_that_is_wanted():
    possible = change("duration.p99", limit="5%")

    assert [] == list(reasons(comparison(possible)))
    assert "no regression for sure: 1 of 1 allowances possibly broken" == title(
        comparison(possible)
    )
    (told,) = reasons(comparison(possible, strict=True))
    assert told.startswith("duration p99 may have got worse by more than is allowed: A 100")


def test_a_warning_is_a_reason_if_that_is_wanted():
    assert [] == list(reasons(comparison(warnings=("a", "b"))))
    assert ["these runs aren't comparable without doubt: a"] == list(
        reasons(comparison(warnings=("a", "b"), strict=True))
    )


def test_without_allowances_nothing_is_claimed():
    given = comparison(change("duration.p50"))

    assert "compared; nothing was held against an allowance" == title(given)


# --- Markdown ----------------------------------------------------------------


def test_markdown_has_a_title_a_table_and_notes():
    given = comparison(
        change("time_to_first_token.p50", limit="2%"),
        change("duration.p50", b=0.09, ci=(-0.016, -0.004)),
        notes=("paired",),
    )

    assert comparison_markdown(given) == (
        "### Regression: 1 of 1 allowances broken\n"
        "\n"
        "A is `run1`, B is `run2`.\n"
        "\n"
        "|  | A | B | change | 95 % interval | verdict | n | allowed |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| time to first token p50 | 100 | 110 | +10.0 % | +4.0 … +16.0 | **worse** | 1,500 "
        "| 2%: broken |\n"
        "| duration p50 | 100 | 90.0 | -10.0 % | -16.0 … -4.0 | *better* | 1,500 |  |\n"
        "\n"
        "- paired\n"
        "\n"
        "<sub>Latencies are milliseconds; ? marks percentiles of too few requests.</sub>\n"
    )


def test_markdown_of_everything_has_every_metric():
    given = comparison(change("time_to_first_byte.p50"))

    assert "first byte" not in comparison_markdown(given)
    assert "| time to first byte p50 |" in comparison_markdown(given, everything=True)


def test_foreign_text_is_no_markup():
    """
    Runs are named by their folders, and warnings quote plans and other people's errors.
    """
    text = comparison_markdown(comparison(a=HOSTILE, b=HOSTILE, warnings=(HOSTILE,)))

    assert "<img" not in text
    assert "\x1b" not in text
    assert "- **Warning**: <code>a&#124;b " in text
