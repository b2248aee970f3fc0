"""chatstream.bench.allowance: how much worse a figure may become."""

import pytest

from chatstream.bench.allowance import Allowance, figure_named, parse_allowance, parse_allowances
from chatstream.errors import RequestError


@pytest.mark.parametrize(
    ("expected", "name", "limit"),
    [
        (Allowance("time_to_first_token.p99", 0.05, True, "5%"), "ttft.p99", "5%"),
        (Allowance("time_to_first_token.p99", 0.05, True, "5 %"), "ttft.p99", " 5 % "),
        (Allowance("duration.mean", 0.0, True, "0%"), "e2el.mean", "0%"),
        (Allowance("inter_chunk_latency.p50", 0.002, False, "2ms"), "icl.p50", "2ms"),
        (Allowance("duration.p999", 1.5, False, "1.5s"), "duration.p999", "1.5s"),
        (Allowance("requests_per_second", 0.03, True, "3%"), "rps", "3%"),
        (Allowance("goodput", 0.01, False, "1%"), "goodput", "1%"),
        (Allowance("failed", 0.005, False, "0.5%"), "failed", "0.5%"),
    ],
)
def test_a_limit_is_relative_or_in_the_unit_of_the_figure(expected, name, limit):
    """
    1 % of a share is a hundredth of all requests: relative to a failed share of 0, nothing
    would ever be allowed.
    """
    assert expected == parse_allowance(name, limit)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("time_to_first_token.p99", "ttft.p99"),
        ("time_to_first_token.p99", " time_to_first_token.p99 "),
        ("time_to_first_token.p999", "time-to-first-token.p99.9"),
        ("time_to_first_token_from_schedule.p50", "ttft_from_schedule.p50"),
        ("duration_from_sent.mean", "e2el-from-sent.mean"),
        ("dispatch_delay.p95", "dispatch_delay.p95"),
        ("output_tokens_per_second", "tps"),
        ("failed", "failed"),
    ],
)
def test_a_figure_has_a_short_and_a_whole_name(expected, text):
    assert expected == figure_named(text)


@pytest.mark.parametrize(
    ("allowed", "text"),
    [
        ("a metric: ttfb, ttfc, ttft", "itl.p99"),
        ("a metric: ", ""),
        ("a metric: ", "prompt_tokens.mean"),
        ("a metric: ", "rps_from_sent"),
        ("ttft.mean, ttft.p50, ttft.p90, ttft.p95, ttft.p99, ttft.p999", "ttft"),
        ("ttft.mean, ttft.p50", "ttft.p98"),
        ("requests_per_second, which has no 'mean'", "rps.mean"),
    ],
)
def test_an_unknown_figure_is_named(allowed, text):
    with pytest.raises(RequestError) as wrong:
        figure_named(text)

    assert ("allow", repr(text)) == (wrong.value.parameter, wrong.value.seen)
    assert wrong.value.allowed.startswith(allowed)


@pytest.mark.parametrize(
    ("allowed", "name", "limit"),
    [
        ("a limit such as 5%, 20ms or 0.02s", "ttft.p99", "5"),
        ("a limit such as 5%, 20ms or 0.02s", "ttft.p99", "-5%"),
        ("a limit such as 5%, 20ms or 0.02s", "ttft.p99", ""),
        ("a limit such as 5%, 20ms or 0.02s", "ttft.p99", "nan%"),
        ("a limit such as 5%", "rps", "20ms"),
        ("a limit such as 5%", "failed", "1s"),
    ],
)
def test_an_odd_limit_is_named(allowed, name, limit):
    with pytest.raises(RequestError) as wrong:
        parse_allowance(name, limit)

    assert (f"{limit!r} for {name}", allowed) == (wrong.value.seen, wrong.value.allowed)


def test_a_figure_has_one_limit():
    """
    Under its two names, too.
    """
    limits = {"ttft.p99": "5%", "time_to_first_token.p99": "20ms"}

    with pytest.raises(RequestError, match=r"expected one limit .* got time_to_first_token.p99"):
        parse_allowances(limits)
    assert {"failed", "goodput"} == set(parse_allowances({"failed": "1%", "goodput": "1%"}))
