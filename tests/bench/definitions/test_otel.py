"""chatstream.bench.definitions.otel: by hand, after the semantic conventions for GenAI.

``docs/gen-ai/gen-ai-metrics.md`` of open-telemetry/semantic-conventions-genai.
"""

import math

import pytest

from chatstream.bench.definitions.otel import BOUNDS, entries
from tests.bench.definitions.logs import asked, log_of

DURATION = "gen_ai.client.operation.duration"
FIRST = "gen_ai.client.operation.time_to_first_chunk"
CHUNK = "gen_ai.client.operation.time_per_output_chunk"


def found(*records):
    return entries(log_of(*records), None)


def buckets(entry):
    """The buckets that hold something, by their upper bound."""
    bounds = [*entry["buckets"]["bounds"], math.inf]
    counts = entry["buckets"]["counts"]
    return {bound: count for bound, count in zip(bounds, counts, strict=True) if count}


def test_the_bounds_are_those_of_the_conventions():
    assert (
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    ) == BOUNDS  # fmt: skip


def test_a_plain_answer():
    """
    Made at 10: the role's chunk at 90 is the first, after 80 ms. Each chunk after it has its
    gap: 10, 30, 20, 10. The operation ends with the stream, at 200.
    """
    view = found(asked("-90 c100 c130 c150 f160", at=10, end=200))

    assert math.isclose(0.08, view[FIRST]["mean"])
    assert 4 == view[CHUNK]["n"]
    assert math.isclose(0.0175, view[CHUNK]["mean"])
    assert math.isclose(0.19, view[DURATION]["mean"])
    assert {} == view[DURATION]["error.type"]


def test_a_bound_belongs_to_the_bucket_below_it():
    """
    Explicit buckets are (lower, upper]: 10 ms is in the first, 20 in the second, 90 s beyond.
    """
    view = found(asked("c100 c110 c130 c151 c90151"))

    assert {0.01: 1, 0.02: 1, 0.04: 1, math.inf: 1} == buckets(view[CHUNK])


def test_quantiles_are_read_off_the_buckets():
    """
    Ten values in (80, 160] and none elsewhere: rank 5 of 10 is in the middle, 120; rank 9.9
    at 80 + 0.99 · 80 = 159.2, whatever the values were.
    """
    first = found(*[asked("c100")] * 10)[FIRST]

    assert {0.16: 10} == buckets(first)
    assert math.isclose(0.12, first["p50"])
    assert math.isclose(0.1592, first["p99"])
    assert math.isclose(0.1, first["mean"])


def test_the_first_bucket_begins_at_0():
    """
    Two values in [0, 10]: rank 1 of 2 is 5.
    """
    assert math.isclose(0.005, found(asked("c1"), asked("c1"))[FIRST]["p50"])


def test_beyond_the_last_bound_nothing_is_known():
    assert 81.92 == found(asked("c100000"))[FIRST]["p50"]


def test_a_quantile_counts_the_buckets_below_it():
    """
    Five values in (10, 20] and five in (40, 80]: p90 is rank 9, so 4 of 5 into the second:
    40 + 0.8 · 40 = 72.
    """
    first = found(*[asked("c15")] * 5, *[asked("c50")] * 5)[FIRST]

    assert math.isclose(0.072, first["p90"])
    assert math.isclose(0.02, first["p50"])


def test_failed_operations_are_in_it_with_their_error():
    """
    ``error.type`` is the error's class, and the outcome where nothing was raised.
    """
    view = found(
        asked("c100", end=100),
        asked("c100 c200", verdict="timeout", error="IdleTimeoutError", end=300),
        asked("c100", verdict="timeout", error="IdleTimeoutError", end=300),
        asked("", verdict="empty", end=300),
    )

    assert [4, 0.1, 0.3] == [view[DURATION][name] for name in ("n", "min", "max")]
    assert {"IdleTimeoutError": 2, "empty": 1} == view[DURATION]["error.type"]
    assert 3 == view[FIRST]["n"]
    assert 1 == view[CHUNK]["n"]


def test_a_first_chunk_without_choices_has_a_gap_after_it():
    """
    Azure's tells of the prompt's filter: no event of the log, but its moment is known.
    """
    view = found(asked("c100 c130", first_chunk=60))

    assert math.isclose(0.06, view[FIRST]["mean"])
    assert [2, 0.03] == [view[CHUNK]["n"], view[CHUNK]["min"]]
    assert math.isclose(0.04, view[CHUNK]["max"])


@pytest.mark.parametrize("kind", ["r", "t", "x", "a", "-", "f"])
def test_each_chunk_counts_whatever_it_holds(kind):
    view = found(asked(f"c100 {kind}150 c200"))

    assert 2 == view[CHUNK]["n"]


def test_choices_of_one_chunk_count_once():
    view = found(asked("c100:0 c100:1 c150:0 c150:1"))

    assert [1, 0.05] == [view[CHUNK]["n"], view[CHUNK]["mean"]]


def test_no_request_at_all():
    view = found()

    assert 0 == view[DURATION]["n"]
    assert view[DURATION]["p50"] is None
    assert {} == buckets(view[DURATION])
