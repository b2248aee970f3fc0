"""Broken answers as hypothesis makes them of bytes, through a whole stream."""

from hypothesis import given
from hypothesis import strategies as st

from chatstream import InterruptedStreamError
from tests.fuzz.claims import reading_holds, streaming_holds
from tests.fuzz.streams import bodies

ENDS = [None, InterruptedStreamError(0, "connection reset")]


@given(bodies(), st.sampled_from(ENDS), st.sampled_from(["events", "text", "deltas"]))
def broken_answers(body, end, way):
    reading_holds(body, limit=4096)
    streaming_holds(body, end=end, way=way)


check = broken_answers.hypothesis.fuzz_one_input
