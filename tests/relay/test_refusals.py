"""chatstream.relay.refusals: what a client may know of what went wrong upstream."""

import json

import pytest

from chatstream import (
    AuthenticationError,
    BadRequestError,
    ConnectError,
    FirstTokenTimeoutError,
    InterruptedStreamError,
    NotFoundError,
    RateLimitError,
    RequestError,
    ServerError,
    UpstreamError,
)
from chatstream.relay import refusal_of

SECRET = "sk-secret at https://upstream.internal, org-4711"


@pytest.mark.parametrize(
    ("status", "type_", "error"),
    [
        (429, "rate_limit_error", RateLimitError(429, SECRET, retry_after=2.2)),
        (504, "timeout", FirstTokenTimeoutError(3.0)),
        (503, "server_error", ServerError(503, SECRET)),
        (502, "server_error", ServerError(500, SECRET)),
        (502, "server_error", AuthenticationError(401, SECRET)),
        (502, "server_error", NotFoundError(404, SECRET)),
        (502, "server_error", ConnectError("refused", "upstream.internal", SECRET)),
        (502, "server_error", InterruptedStreamError(3, SECRET)),
        (502, "server_error", UpstreamError(SECRET)),
    ],
)
def test_upstreams_own_words_stay_here(status, type_, error):
    refusal = refusal_of(error)

    assert (status, type_) == (refusal.status, refusal.type)
    for word in ("secret", "upstream.internal", "4711"):
        assert word not in json.dumps([refusal.body, refusal.headers])


def test_what_a_client_can_mend_is_passed_on():
    long = BadRequestError(
        400, "at most 8192 tokens", code="context_length_exceeded", param="messages"
    )
    hot = RequestError("temperature", "3", "a number from 0 to 2")

    assert {
        "message": "at most 8192 tokens",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    } == refusal_of(long).body["error"]
    assert (400, "temperature") == (refusal_of(hot).status, refusal_of(hot).param)
    assert str(hot) == refusal_of(hot).message


def test_a_wait_is_told_in_whole_seconds():
    """
    And never in fewer than there are.
    """
    assert {"Retry-After": "3"} == refusal_of(RateLimitError(429, "", retry_after=2.2)).headers
    assert {} == refusal_of(RateLimitError(429, "")).headers
