"""What went wrong, in a sentence, as facts, and after a journey through pickle."""

import copy
import inspect
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import errors
from chatstream.completion import ChatCompletion, CompletionChoice, Message
from chatstream.errors import (
    AuthenticationError,
    BadRequestError,
    ChatStreamError,
    ConnectError,
    ConnectTimeoutError,
    DecodeError,
    EventTooLargeError,
    FirstTokenTimeoutError,
    IdleTimeoutError,
    InterruptedStreamError,
    NotAnEventStreamError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    RequestError,
    ResponseTooLargeError,
    ServerError,
    StatusError,
    StreamTimeoutError,
    TotalTimeoutError,
    UpstreamError,
    one_line,
)
from chatstream.sse import ServerSentEvent

# An error, its sentence, whether to try again.
ALL = [
    (ChatStreamError("something"), "something", False),
    (RequestError("n", "0", "1 or more"), "n: expected 1 or more, got 0", False),
    (ConnectError("refused", "host:1"), "connection refused by host:1", True),
    (ConnectError("unreachable", "host"), "can't reach host", True),
    (
        ConnectError("dns", "host", "no such name"),
        "can't find the address of host: no such name",
        True,
    ),
    (ConnectError("tls", "host"), "no trusted TLS connection to host", False),
    (ConnectError("proxy", "host", "407"), "the proxy gave no connection to host: 407", True),
    (ConnectError("disconnected", "host"), "connection closed before an answer by host", True),
    (StreamTimeoutError(1.5), "no answer within 1.5 s", True),
    (ConnectTimeoutError(10), "no connection within 10 s", True),
    (FirstTokenTimeoutError(120), "no first token within 120 s", True),
    (IdleTimeoutError(0.25), "no further token within 0.25 s", True),
    (TotalTimeoutError(600.0), "the answer wasn't finished within 600 s", False),
    (StatusError(418), "HTTP 418", False),
    (StatusError(418, "teapot"), "HTTP 418: teapot", False),
    (StatusError(408), "HTTP 408", True),
    (StatusError(409), "HTTP 409", True),
    (StatusError(425, code="c"), "HTTP 425 (c)", False),
    (
        BadRequestError(400, "too long", code="c", type="t", param="p"),
        "HTTP 400 (t, c): too long",
        False,
    ),
    (AuthenticationError(401, type="t"), "HTTP 401 (t)", False),
    (PermissionDeniedError(403), "HTTP 403", False),
    (NotFoundError(404), "HTTP 404", False),
    (RateLimitError(429, "slow down", retry_after=2.5), "HTTP 429: slow down", True),
    (ServerError(500), "HTTP 500", True),
    (ServerError(499), "HTTP 499", False),
    (RedirectError(307, "to https://host"), "HTTP 307: to https://host", False),
    (ProtocolError("bad chunk size"), "bad chunk size", True),
    (
        NotAnEventStreamError("text/html", "<html>"),
        "expected text/event-stream, got text/html: <html>",
        False,
    ),
    (
        NotAnEventStreamError(None, ""),
        "expected text/event-stream, got no content type, and no event at all",
        False,
    ),
    (EventTooLargeError(11, 10), "event has 11 bytes and no end, limit is 10", False),
    (
        ResponseTooLargeError(10),
        "the response has more than 10 bytes, which was the limit",
        False,
    ),
    (DecodeError("$.choices", "array", "str"), "$.choices: expected array, got str", True),
    (
        InterruptedStreamError(0),
        "stream ended without finish_reason or [DONE], after 0 events",
        True,
    ),
    (InterruptedStreamError(1, "connection reset"), "connection reset, after 1 event", True),
    (UpstreamError("broken"), "the server reported an error in the stream: broken", True),
    (
        UpstreamError("", code="502", type="overloaded"),
        "the server reported an error in the stream: no message (overloaded, 502)",
        True,
    ),
    (
        UpstreamError("a", code="7"),
        "the server reported an error in the stream: a (7)",
        True,
    ),
]
NAMES = [f"{type(error).__name__}: {sentence[:40]}" for error, sentence, _ in ALL]
STATUS_ERRORS = [error for error, _, _ in ALL if isinstance(error, StatusError)]


def test_every_class_is_in_the_table():
    """
    So that what holds below holds for each of them.
    """
    classes = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}

    assert {k for k in classes if issubclass(k, ChatStreamError)} == {type(e) for e, _, _ in ALL}


@pytest.mark.parametrize(("error", "sentence", "retryable"), ALL, ids=NAMES)
def test_an_error_says_what_was_seen_and_expected(error, sentence, retryable):
    """
    The sentence goes to a log; ``retryable`` to whoever decides what to do.
    """
    assert sentence == str(error)
    assert retryable is error.retryable


@pytest.mark.parametrize(("error", "sentence", "retryable"), ALL, ids=NAMES)
@pytest.mark.parametrize(
    "journey",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_an_error_survives_a_journey(error, sentence, retryable, journey):
    """
    Process pools and error trackers send errors around; each fact must arrive.
    """
    error = copy.copy(error)
    error.partial = ChatCompletion("c", (CompletionChoice(0, Message(content="Hal")),))
    error.request_id = "req-1"
    there = journey(error)

    assert type(error) is type(there)
    assert sentence == str(there)
    assert vars(error) == vars(there)
    assert "Hal" == there.partial.text
    assert retryable is there.retryable


def test_a_new_error_knows_nothing_of_a_stream():
    """
    These are filled in when an error leaves a stream.
    """
    error = ChatStreamError()

    assert (None, None, None, ()) == (
        error.partial,
        error.report,
        error.request_id,
        error.attempts,
    )


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (RequestError, ValueError),
        (StreamTimeoutError, TimeoutError),
        (ConnectTimeoutError, StreamTimeoutError),
        (FirstTokenTimeoutError, StreamTimeoutError),
        (IdleTimeoutError, StreamTimeoutError),
        (TotalTimeoutError, StreamTimeoutError),
        (NotAnEventStreamError, ProtocolError),
        (EventTooLargeError, ProtocolError),
        (ResponseTooLargeError, ProtocolError),
        (DecodeError, ProtocolError),
        *((type(error), StatusError) for error in STATUS_ERRORS),
    ],
)
def test_an_error_can_be_caught_by_what_it_is(kind, base):
    """
    The tree of the docstring; ``except TimeoutError`` works as with the library's own.
    """
    assert issubclass(kind, base)
    assert issubclass(kind, ChatStreamError)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (300, RedirectError),
        (307, RedirectError),
        (399, RedirectError),
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, StatusError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (405, StatusError),
        (408, StatusError),
        (409, StatusError),
        (413, BadRequestError),
        (418, StatusError),
        (422, BadRequestError),
        (429, RateLimitError),
        (499, StatusError),
        (500, ServerError),
        (502, ServerError),
        (529, ServerError),
        (999, ServerError),
        (299, StatusError),
    ],
)
def test_a_status_gives_the_class_that_says_what_to_do(status, expected):
    """
    One class per thing a caller would do differently.
    """
    assert expected is StatusError.of(status)


def test_facts_are_attributes():
    """
    So that nobody has to read them out of a sentence.
    """
    request = RequestError("n", "0", "1 or more")
    connect = ConnectError("dns", "host", "detail")
    status = StatusError(429, "m", code="c", type="t", param="p", retry_after=1.5)
    stream = NotAnEventStreamError("text/html", "<p>")
    large = EventTooLargeError(2, 1)
    decode = DecodeError("$.a", "int", "str")
    cut = InterruptedStreamError(3, "reset")
    upstream = UpstreamError("m", code="c", type="t")

    assert ("n", "0", "1 or more") == (request.parameter, request.seen, request.allowed)
    assert ("dns", "host", "detail") == (connect.reason, connect.host, connect.detail)
    assert 0.5 == IdleTimeoutError(0.5).limit
    assert (429, "m") == (status.status, status.message)
    assert ("c", "t", "p", 1.5) == (status.code, status.type, status.param, status.retry_after)
    assert ("text/html", "<p>") == (stream.content_type, stream.seen)
    assert (2, 1, []) == (large.size, large.limit, large.events)
    assert ("$.a", "int", "str") == (decode.path, decode.expected, decode.seen)
    assert (3, "reset") == (cut.events, cut.detail)
    assert ("m", "c", "t") == (upstream.message, upstream.code, upstream.type)


def test_a_too_large_events_forerunners_travel_with_it():
    """
    They are attributes beyond what the constructor takes.
    """
    error = EventTooLargeError(2, 1)
    error.events = [ServerSentEvent(data="a")]

    assert error.events == pickle.loads(pickle.dumps(error)).events


HOSTILE = "a\x1b[31mred\x07\r\nb\x9b2J\u202ec\u2028d\ud83d\0\te" + "x" * 9000

FOREIGN = {
    "ConnectError.detail": lambda text: ConnectError("proxy", "host", text),
    "StatusError.message": lambda text: StatusError(500, text),
    "StatusError.code": lambda text: StatusError(500, code=text),
    "StatusError.type": lambda text: StatusError(500, type=text),
    "NotAnEventStreamError.seen": lambda text: NotAnEventStreamError("text/html", text),
    "NotAnEventStreamError.content_type": lambda text: NotAnEventStreamError(text, "x"),
    "DecodeError.seen": lambda text: DecodeError("$", "object", text),
    "InterruptedStreamError.detail": lambda text: InterruptedStreamError(1, text),
    "UpstreamError.message": UpstreamError,
    "UpstreamError.code": lambda text: UpstreamError("m", code=text),
    "UpstreamError.type": lambda text: UpstreamError("m", type=text),
}


@pytest.mark.parametrize("made", FOREIGN.values(), ids=FOREIGN)
def test_what_a_server_sent_is_one_short_printable_line(made):
    """
    It may hold sequences that a terminal obeys, or fake a line of a log.
    """
    sentence = str(made(HOSTILE))

    assert "[31mred b" in sentence
    assert sentence.isprintable()
    assert len(sentence) < 650
    assert sentence.encode()
    assert sentence in "".join(traceback.format_exception_only(made(HOSTILE)))


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("", 300, ""),
        ("plain", 300, "plain"),
        ("grüße 世界 🎉", 300, "grüße 世界 🎉"),
        ("  a \n\t b\r\n", 300, "a b"),
        ("a\x1bb\x00c\x7fd\x85e", 300, "a b c d e"),
        ("a\u202eb\u200fc\ufeffd\u2028e", 300, "a b c d e"),
        ("a\ud83db", 300, "a b"),
        ("\x1b\x1b", 300, ""),
        ("x" * 10, 10, "x" * 10),
        ("x" * 11, 10, "x" * 9 + "…"),
        (" " * 25 + "x" * 30, 10, "x" * 9 + "…"),
        (" " * 41 + "x", 10, "…"),  # what is far out isn't looked for
    ],
)
def test_one_line_is_clean_and_short(text, limit, expected):
    """
    A megabyte of page is cut before it is cleaned.
    """
    assert expected == one_line(text, limit)


@given(st.text(st.characters()), st.integers(1, 50))
def test_one_line_always_is_one_printable_line(text, limit):
    """
    Whatever a server sends.
    """
    line = one_line(text, limit)

    assert len(line) <= limit
    assert line.isprintable()
    assert [line] == (line.splitlines() or [""])
    assert line == line.encode().decode()


def test_a_cut_says_after_how_many_events_wherever_it_is_shown():
    """
    A log shows the repr, a pickle is made from the arguments.
    """
    error = InterruptedStreamError(0, "connection reset")
    error.after(3)

    assert (3, "connection reset") == error.args
    assert "after 3 events" in str(error)
    assert 3 == pickle.loads(pickle.dumps(error)).events
