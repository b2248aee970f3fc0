"""chatstream.bots.words."""

import pytest

import chatstream
from chatstream import (
    AuthenticationError,
    BadRequestError,
    ChatStreamError,
    ConnectError,
    DecodeError,
    FirstTokenTimeoutError,
    InterruptedStreamError,
    NotAnEventStreamError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestError,
    ServerError,
    UpstreamError,
    Verdict,
)
from chatstream.bots import english

SECRET = "sk-secret at 10.0.0.1"

ERRORS = [
    (RequestError("messages", SECRET, SECRET), "can't be answered"),
    (ConnectError("refused", SECRET, SECRET), "can't be reached"),
    (FirstTokenTimeoutError(120), "too long"),
    (BadRequestError(413, SECRET), "can't be answered"),
    (AuthenticationError(401, SECRET), "set up"),
    (PermissionDeniedError(403, SECRET), "set up"),
    (NotFoundError(404, SECRET), "set up"),
    (RateLimitError(429, SECRET), "later"),
    (RateLimitError(429, SECRET, retry_after=0), "later"),
    (RateLimitError(429, SECRET, retry_after=0.2), "in 1 second."),
    (RateLimitError(429, SECRET, retry_after=59.6), "in 60 seconds."),
    (RateLimitError(429, SECRET, retry_after=200), "in 3 minutes."),
    (RateLimitError(429, SECRET, retry_after=90), "in 2 minutes."),
    (ServerError(503, SECRET), "can't be reached"),
    (NotAnEventStreamError("text/html", SECRET), "went wrong"),
    (DecodeError("$", SECRET, SECRET), "went wrong"),
    (InterruptedStreamError(3, SECRET), "broke off"),
    (UpstreamError(SECRET), "broke off"),
    (ZeroDivisionError(SECRET), "went wrong"),
]


@pytest.mark.parametrize(("error", "hint"), ERRORS)
def test_an_error_is_told_in_plain_words(error, hint):
    """
    What to do, and nothing of what the server said.
    """
    words = english(error)

    assert hint in words
    assert words.endswith(".")
    assert not {"secret", "10.0", "HTTP", "Error"} & set(words.replace(".", " ").split())
    assert SECRET not in words


@pytest.mark.parametrize("verdict", Verdict)
def test_a_good_end_needs_no_words(verdict):
    """
    An early one that nobody asked for does, and so does one that somebody did.
    """
    told = {
        Verdict.CLOSED,
        Verdict.CANCELLED,
        Verdict.LENGTH,
        Verdict.CONTENT_FILTER,
        Verdict.EMPTY,
    }

    assert (verdict in told) == bool(english(verdict))


def test_every_error_of_the_library_has_words():
    """
    Also those to come.
    """
    classes = [value for value in vars(chatstream).values() if isinstance(value, type)]
    errors = [kind for kind in classes if issubclass(kind, ChatStreamError)]

    assert all(english(kind.__new__(kind)) for kind in errors if kind is not RateLimitError)
