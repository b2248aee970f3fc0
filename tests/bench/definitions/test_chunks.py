"""chatstream.bench.definitions.chunks: the log as other clients would have seen it."""

import numpy as np
import pytest

from chatstream.bench.definitions.chunks import (
    came_whole,
    chunks,
    first_places,
    gaps,
    mistaken,
)
from tests.bench.definitions.logs import CUT, asked, log_of


def test_choices_of_one_chunk_are_one_chunk():
    """
    They have one moment and rising choices, and none but the read's last chunk is whole.
    """
    log = log_of(asked("c100:0 c100:1 c120:0 c120:1 c130:1"))

    assert [True, False, True, False, True] == chunks(log).tolist()


def test_chunks_of_one_read_stay_apart():
    """
    They share their moment, too, but all except the last are coalesced.
    """
    log = log_of(asked("c100:0 c100:1 c100:2", coalesced=[0]))

    assert [True, True, False] == chunks(log).tolist()


def test_a_choice_that_comes_again_is_another_chunk():
    """
    A chunk has each choice once, in order.
    """
    log = log_of(asked("c100:1 c100:1 c100:0"))

    assert [True, True, True] == chunks(log).tolist()


def test_the_first_event_of_a_request_begins_a_chunk():
    """
    Whatever the request before ended with, at the same moment.
    """
    log = log_of(asked("c100:0"), asked("c100:1"))

    assert [True, True] == chunks(log).tolist()


def test_first_places_are_one_past_the_end_without_one():
    log = log_of(asked("-90 c100 c110"), asked(), asked("-90"), asked("c100"))

    assert [1, 5, 5, 4] == first_places(log, log.of_kinds("c")).tolist()


def test_gaps_are_of_one_request_whatever_the_choice():
    """
    100 → 130 → 150 of the first; the second begins anew.
    """
    log = log_of(asked("c100:0 -110:0 c130:1 c150:0"), asked("c160"), asked("c170 c175"))
    found = gaps(log, log.of_kinds("c"))

    assert [0.03, 0.02, 0.005] == found.values.tolist()
    assert [0, 0, 2] == found.owners.tolist()


@pytest.mark.parametrize(
    ("expected", "facts"),
    [
        (True, {"verdict": "finished"}),
        (True, {"verdict": "length"}),
        (True, {"verdict": "content_filter"}),
        (True, {"verdict": "upstream_error", "error": "UpstreamError", "detail": "overloaded"}),
        (True, {"verdict": "truncated", "error": "InterruptedStreamError", "detail": CUT}),
        # A finish reason such as "abort" is no error.
        (True, {"verdict": "truncated"}),
        (
            False,
            {
                "verdict": "truncated",
                "error": "InterruptedStreamError",
                "detail": "connection reset, after 3 events",
            },
        ),
        (False, {"verdict": "timeout", "error": "IdleTimeoutError"}),
        (False, {"verdict": "http_error", "error": "ServerError", "status": 500}),
        (False, {"verdict": "connect_error", "error": "ConnectError", "status": None}),
        (False, {"verdict": "malformed", "error": "DecodeError"}),
        (False, {"verdict": "closed"}),
        (False, {"verdict": "cancelled"}),
        (False, {"verdict": "empty"}),
    ],
)
def test_a_transfer_is_whole_if_its_body_came_to_an_end(expected, facts):
    """
    vLLM 0.33.0 (endpoint_request_func.py) and aiperf 0.13.0 (aiohttp_client.py) fail a
    request for its status or an exception; an error object inside the stream and a missing
    finish reason are neither.
    """
    assert [expected] == came_whole(log_of(asked("c100", **facts))).tolist()


def test_what_is_taken_for_a_success_and_is_none_is_told():
    log = log_of(asked("c100"), asked("c100", verdict="upstream_error"))
    both, one = np.array([True, True]), np.array([True, False])

    assert mistaken(log, both).startswith("1 of 2 requests ended in an error inside the stream")
    assert "" == mistaken(log, one)
