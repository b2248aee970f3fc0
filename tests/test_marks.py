"""chatstream.marks: moments in, latencies out, against numbers worked out by hand."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.marks import NS, ChoiceMarks, Marks, percentile, seconds

MS = NS // 1000


def marks_of(*tokens, created_ms=0):
    """Marks of tokens given as (choice, milliseconds, whether it is output)."""
    marks = Marks(created_ns=created_ms * MS)
    for index, at_ms, output in tokens:
        marks.token(index, at_ms * MS, output)
    return marks


@pytest.mark.parametrize(
    ("expected", "start_ns", "end_ns"),
    [
        (0.25, 1_000_000_000, 1_250_000_000),
        (0.0, 5, 5),
        (None, None, 5),
        (None, 5, None),
        (None, None, None),
        (1e-9, 0, 1),
        (0.5, 0, NS // 2),
    ],
)
def test_a_latency_is_the_time_between_two_moments_that_were_seen(expected, start_ns, end_ns):
    """
    What wasn't observed is None: 0 would be a latency, and a good one. The moment 0 is one.
    """
    assert expected == seconds(start_ns, end_ns)


def test_nothing_came_so_nothing_is_known():
    """
    Each figure of a stream without tokens is None, or empty.
    """
    marks = Marks(created_ns=7)
    choice = ChoiceMarks()

    assert marks.first_token_ns is None
    assert marks.last_token_ns is None
    assert marks.first_output_ns is None
    assert marks.newest_token_ns is None
    assert 0 == marks.token_events
    assert choice.first_token_ns is None
    assert choice.last_token_ns is None
    assert () == choice.inter_chunk_latencies()
    assert choice.time_per_output_token(10) is None


def test_gaps_are_between_neighbouring_tokens_of_one_choice():
    """
    The choices of one stream take turns; a gap between two of them means nothing.
    """
    marks = marks_of((0, 100, True), (1, 110, True), (0, 150, True), (1, 190, True), (0, 160, True))

    assert (0.05, 0.01) == marks.choices[0].inter_chunk_latencies()
    assert (0.08,) == marks.choices[1].inter_chunk_latencies()


def test_one_token_has_no_gap():
    """
    It takes two for one.
    """
    assert () == marks_of((0, 100, True)).choices[0].inter_chunk_latencies()


def test_first_and_last_token_are_those_of_any_choice():
    """
    Whoever waits for an answer waits for its first choice to speak and its last to end.
    """
    marks = marks_of((1, 120, True), (0, 100, True), (1, 180, True), (0, 150, True))

    assert 100 * MS == marks.first_token_ns
    assert 180 * MS == marks.last_token_ns
    assert 150 * MS == marks.newest_token_ns
    assert 4 == marks.token_events


def test_reasoning_is_a_token_but_no_output():
    """
    Time to first output ends when there is something to show.
    """
    marks = marks_of((0, 100, False), (0, 200, False), (0, 300, True), (0, 400, True))

    assert 100 * MS == marks.first_token_ns
    assert 300 * MS == marks.first_output_ns
    assert marks.choices[0].reasoned


def test_first_output_is_that_of_the_choice_that_has_one():
    """
    A choice that is still reasoning doesn't hide another's output.
    """
    marks = marks_of((0, 100, False), (1, 150, False), (1, 250, True))

    assert 250 * MS == marks.first_output_ns
    assert marks.choices[0].first_output_ns is None


def test_only_reasoning_is_no_output_at_all():
    """
    The limit may cut an answer before its first output.
    """
    assert marks_of((0, 100, False)).first_output_ns is None


def test_output_without_reasoning_is_known_as_such():
    """
    The report subtracts reasoning tokens that were counted and never shown.
    """
    assert not marks_of((0, 100, True)).choices[0].reasoned


@pytest.mark.parametrize(
    ("expected", "output_tokens", "first_event_tokens"),
    [
        (0.1, 5, 1),  # 0.4 s for the four tokens after the first
        (0.4, 2, 1),
        (0.2, 5, 3),  # the first event held three
        (None, 1, 1),  # nothing after the first
        (None, 3, 3),
        (None, 2, 3),  # a count that contradicts itself
        (None, 0, 1),
        (None, None, 1),  # the server didn't count
    ],
)
def test_time_per_output_token_is_what_came_after_the_first_event(
    expected, output_tokens, first_event_tokens
):
    """
    (last - first) / (N - n1), and None when N <= n1: never a division by 0 or less.
    """
    choice = marks_of((0, 100, True), (0, 300, True), (0, 500, True)).choices[0]

    assert expected == choice.time_per_output_token(output_tokens, first_event_tokens)


def test_all_tokens_in_one_read_took_no_time():
    """
    0.0 is observed here, not made up.
    """
    choice = marks_of((0, 100, True), (0, 100, True)).choices[0]

    assert 0.0 == choice.time_per_output_token(2)


@pytest.mark.parametrize(
    ("expected", "values", "share"),
    [
        (None, [], 0.5),
        (3.0, [3.0], 0.0),
        (3.0, [3.0], 0.5),
        (3.0, [3.0], 1.0),
        (1.5, [1.0, 2.0], 0.5),
        (2.0, [3.0, 1.0, 2.0], 0.5),  # in any order
        (1.0, [3.0, 1.0, 2.0], 0.0),
        (3.0, [3.0, 1.0, 2.0], 1.0),
        (1.3, [1.0, 2.0, 3.0, 4.0], 0.1),  # place 0.3
        (3.7, [1.0, 2.0, 3.0, 4.0], 0.9),
        (99.01, [float(n) for n in range(1, 101)], 0.99),
    ],
)
def test_a_percentile_is_linear_between_neighbours(expected, values, share):
    """
    As numpy's default and ``statistics``' inclusive method are.
    """
    found = percentile(values, share)

    assert found is None if expected is None else pytest.approx(expected, rel=1e-12) == found


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50), st.integers(2, 100))
def test_percentiles_agree_with_the_standard_library(values, parts):
    """
    Two implementations that don't know of each other.
    """
    expected = statistics.quantiles(values, n=parts, method="inclusive")

    found = [percentile(values, k / parts) for k in range(1, parts)]

    assert pytest.approx(expected, rel=1e-9, abs=1e-9) == found


def test_a_percentile_leaves_its_values_alone():
    """
    Recorders pass the lists they go on filling.
    """
    values = [3.0, 1.0, 2.0]

    percentile(values, 0.5)

    assert [3.0, 1.0, 2.0] == values
