"""Whatever a server sends gives events or a documented error: tried with made-up streams.

The same claims are put to bytes that coverage leads to; the README tells how.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatstream import FirstTokenTimeoutError, InterruptedStreamError
from tests.fuzz import claims, codec, sse, streams

pytestmark = pytest.mark.thorough

SEEDS = sorted(Path(__file__).parents[1].joinpath("streams").glob("*.sse"))
RESET = InterruptedStreamError(0, "connection reset")
ways = st.sampled_from(["events", "text", "deltas"])
ends = st.sampled_from([None, RESET])
patiently = settings(deadline=None, max_examples=200)


@patiently
@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_documented_error(body):
    """
    Garbage must not take down whoever reads, be it cut here or there.
    """
    claims.json_holds(body)
    claims.reading_holds(body)
    claims.streaming_holds(body)


@patiently
@given(streams.bodies(), st.sampled_from([200, 4096]))
def test_any_broken_stream_is_read_the_same_however_it_is_cut(body, limit):
    """
    Lines lost, doubled, swapped, cut; values of wrong types; any line end.
    """
    sse.check(body)
    claims.reading_holds(body, limit=limit)


@patiently
@given(streams.bodies(), ends, ways)
def test_any_broken_stream_ends_in_an_answer_or_a_documented_error(body, end, way):
    """
    And its connection is free, its partial answer and report at hand.
    """
    claims.streaming_holds(body, end=end, way=way)


@patiently
@given(streams.answers(), ends, ways, st.integers(0, 150))
def test_a_stream_that_is_cut_has_the_beginning_of_its_answer(events, end, way, first):
    """
    And never passes for a whole one before its finish reason came.
    """
    body = streams.wire(events)
    whole = claims.streamed([body], way=way)
    finished = body.index(b"\n", body.index(b'"finish_reason": "')) + 2

    assert whole.error is None
    for at in range(first, len(body), 150):
        part = claims.streamed([body[:at]], end=end, way=way)
        assert part.begins(whole)
        assert part.error or at >= finished
        assert not part.error or end or at < finished


@patiently
@given(streams.bodies(), st.sampled_from([0.001, 130.0]), ways)
def test_any_broken_stream_that_is_too_slow_is_given_up(body, wait, way):
    """
    And what comes in time isn't, whatever it is.
    """
    reads = [body[at : at + 50] for at in range(0, len(body), 50)]
    seen = claims.streamed(reads, wait=wait, way=way)

    late = seen.error is not None and seen.error[0] is FirstTokenTimeoutError
    assert late == (wait > 1 and reads != [])


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.stem)
@pytest.mark.parametrize("target", [sse, codec], ids=["sse", "codec"])
def test_the_targets_of_the_fuzzer_hold_for_their_seeds(target, seed):
    """
    A claim that fails from the start finds nothing.
    """
    target.check(seed.read_bytes())
