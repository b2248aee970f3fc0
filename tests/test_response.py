"""chatstream.response: headers, and bodies that are no streams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from chatstream.errors import (
    AuthenticationError,
    BadRequestError,
    NotAnEventStreamError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    ServerError,
    StatusError,
    UpstreamError,
)
from chatstream.response import (
    RateLimit,
    ResponseInfo,
    document_error,
    looks_like_document,
    status_error,
)

NOON = 1_704_110_400.0  # Mon, 01 Jan 2024 12:00:00 GMT


def info(status=200, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return ResponseInfo(status, CIMultiDict(names))


# --- Headers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (None, {}),
        (7.0, {"Retry_After": "7"}),
        (0.0, {"Retry_After": "0"}),
        (0.5, {"Retry_After": "0.5"}),
        (1e9, {"Retry_After": "1e9"}),  # the policy caps it, not the header's reader
        (0.25, {"Retry_After_Ms": "250"}),
        (0.25, {"Retry_After_Ms": "250", "Retry_After": "7"}),  # the finer one
        (7.0, {"Retry_After_Ms": "soon", "Retry_After": "7"}),
        (7.0, {"Retry_After_Ms": "-1", "Retry_After": "7"}),
        (7.0, {"Retry_After_Ms": "nan", "Retry_After": "7"}),
        (None, {"Retry_After_Ms": "soon"}),
        (90.0, {"Retry_After": "Mon, 01 Jan 2024 12:01:30 GMT"}),
        (90.0, {"Retry_After": "Monday, 01-Jan-24 12:01:30 GMT"}),
        (90.0, {"Retry_After": "Mon, 01 Jan 2024 13:01:30 +0100"}),
        (0.0, {"Retry_After": "Mon, 01 Jan 2024 11:59:00 GMT"}),
        (None, {"Retry_After": "-5"}),
        (None, {"Retry_After": "inf"}),
        (None, {"Retry_After": "-inf"}),
        (None, {"Retry_After": "nan"}),
        (None, {"Retry_After": "1e999"}),
        (None, {"Retry_After": ""}),
        (None, {"Retry_After": "soon"}),
        (None, {"Retry_After": "Mon, 32 Jan 2024 12:00:00 GMT"}),
        (None, {"Retry_After": "Mon, 01 Jan 99999999999999999999 12:00:00 GMT"}),
    ],
)
def test_the_wait_is_what_the_server_asked_for(expected, headers):
    """
    Seconds, milliseconds or a date; nonsense is no wish, and the past needs no wait.
    """
    assert expected == info(429, **headers).retry_after(NOON)


@given(st.text(st.sampled_from("0123456789 :,+-.eJanMonGMT\u0663\0"), max_size=40))
def test_any_text_is_a_wait_or_none(text):
    """
    A header must not raise what nobody expects of it.
    """
    wait = info(429, Retry_After=text).retry_after()

    assert wait is None or 0 <= wait < float("inf")


def test_a_date_is_seen_from_now():
    """
    Without a moment given, that of the wall clock counts.
    """
    assert 0.0 == info(429, Retry_After="Mon, 01 Jan 2024 12:00:00 GMT").retry_after()


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (None, {}),
        ("a", {"X_Request_Id": "a", "Cf_Ray": "b"}),
        ("b", {"Apim_Request_Id": "b", "X_Ms_Request_Id": "c"}),
        ("c", {"X_MS_REQUEST_ID": "c"}),
        ("d", {"Request_Id": "d"}),
        ("e", {"X_Generation_Id": "e", "Cf_Ray": "f"}),
        ("f", {"cf_ray": "f"}),
    ],
)
def test_a_request_has_the_name_its_server_gave_it(expected, headers):
    """
    A support ticket needs it; each provider has another header.
    """
    assert expected == info(**headers).request_id


def test_what_is_left_of_the_budgets():
    """
    Requests and tokens are budgets of their own; the reset is the server's text.
    """
    answer = info(
        x_ratelimit_limit_requests="100",
        x_ratelimit_remaining_requests="99",
        x_ratelimit_reset_requests="6m0s",
        x_ratelimit_limit_tokens="many",
        x_ratelimit_remaining_tokens="\u0663",
    )

    assert RateLimit(limit=100, remaining=99, reset="6m0s") == answer.request_limit
    assert RateLimit() == answer.token_limit


def test_the_content_type_is_as_it_was_sent():
    """
    Its parameters may explain what came.
    """
    assert "text/html; charset=x" == info(content_type="text/html; charset=x").content_type
    assert info().content_type is None


def test_headers_are_not_in_the_repr():
    """
    They may hold cookies.
    """
    assert "secret" not in repr(info(set_cookie="secret"))


# --- Errors by status ------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [
        (BadRequestError, 400, False),
        (AuthenticationError, 401, False),
        (PermissionDeniedError, 403, False),
        (NotFoundError, 404, False),
        (StatusError, 408, True),
        (StatusError, 409, True),
        (BadRequestError, 413, False),
        (StatusError, 418, False),
        (BadRequestError, 422, False),
        (RateLimitError, 429, True),
        (ServerError, 500, True),
        (ServerError, 503, True),
        (ServerError, 529, True),
    ],
)
def test_the_class_of_an_error_says_what_to_do(kind, status, retryable):
    """
    One class per thing a caller does differently.
    """
    error = status_error(info(status), b"")

    assert kind is type(error)
    assert (status, retryable) == (error.status, error.retryable)


@pytest.mark.parametrize(
    ("message", "code", "type_", "param", "body"),
    [
        (
            "No such model",
            "model_not_found",
            "invalid_request_error",
            "model",
            (
                b'{"error": {"message": "No such model", "code": "model_not_found",'
                b' "type": "invalid_request_error", "param": "model"}}'
            ),
        ),
        ("No such model", None, None, None, b'{"error": "No such model"}'),
        ("No", "7", None, None, b'{"error": {"message": "No", "code": 7, "param": 7}}'),
        ("No", None, None, None, b'{"detail": "No"}'),
        ("No", None, None, None, b'{"message": "No"}'),
        ('{"error": {}}', None, None, None, b'{"error": {}}'),
        ("[1]", None, None, None, b"[1]"),
        ("Not Found", None, None, None, b"Not Found\n"),
        ("<html> <h1>Bad gateway</h1>", None, None, None, b"<html>\n\n<h1>Bad gateway</h1>"),
        ('{"error": {"mess', None, None, None, b'{"error": {"mess'),
        ("a \ufffd b", None, None, None, b"a \xff\x1b\r\nb"),
        ("", None, None, None, b""),
    ],
)
def test_a_body_says_what_was_wrong_as_well_as_it_can(message, code, type_, param, body):
    """
    JSON of any make, text, a page, or nothing: one printable line at most.
    """
    error = status_error(info(404), body)

    assert (message, code, type_, param) == (error.message, error.code, error.type, error.param)


def test_a_page_is_not_quoted_whole():
    """
    An error is a line in a log.
    """
    assert 300 == len(status_error(info(502), b"<p>" * 10_000).message)


@pytest.mark.parametrize(
    ("expected", "status", "headers"),
    [
        (True, 400, {"x_should_retry": "true"}),
        (False, 500, {"x_should_retry": "false"}),
        (True, 500, {"x_should_retry": "FALSE?"}),
        (False, 503, {"X_Should_Retry": "False"}),
        (False, 400, {}),
    ],
)
def test_a_server_may_say_whether_to_retry(expected, status, headers):
    """
    It knows better than a table of statuses; what isn't a yes or no is ignored.
    """
    assert expected is status_error(info(status, **headers), b"").retryable


def test_an_error_takes_the_wait_along():
    """
    Whoever retries by hand needs it as much.
    """
    assert 7.0 == status_error(info(429, retry_after="7"), b"").retry_after
    assert status_error(info(429), b"").retry_after is None


@pytest.mark.parametrize(
    ("seen", "location"),
    [
        ("https://other.host", "https://other.host/v1/chat?key=secret"),
        ("https://other.host:8443", "https://user:secret@other.host:8443/secret"),
        ("https://other.host", "https://other.host?secret"),
        ("https://other.host", "https://other.host#secret"),
        ("https://other.host", "https://other.host\\secret"),
        ("file://", "file:///etc/secret"),
        ("another path", "/v1/secret"),
        ("another path", "//other.host/secret"),
        ("another path", "1+1://secret"),
        ("another path", "secret"),
        ("nowhere", ""),
    ],
)
def test_a_redirect_shows_where_to_and_nothing_more(seen, location):
    """
    The rest of a URL may hold a signature; the body isn't ours to quote either.
    """
    error = status_error(info(307, location=location), b"secret")

    assert RedirectError is type(error)
    assert f"redirect to {seen} not followed" == error.message
    assert "secret" not in f"{error} {error!r}"
    assert not error.retryable


def test_a_redirect_without_a_place():
    """
    A missing header isn't an empty one, but leads as far.
    """
    assert "redirect to nowhere not followed" == status_error(info(302), b"").message


# --- Bodies that are no streams ----------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "head"),
    [
        (True, b'{"error"'),
        (True, b"[1"),
        (True, b"<!doctype html>"),
        (True, b"\r\n  {"),
        (True, bytearray(b" <")),
        (False, b""),
        (False, b"  "),
        (False, b"data: {"),
        (False, b": ping"),
        (False, b"Not Found"),
    ],
)
def test_a_document_is_known_by_its_first_character(expected, head):
    """
    No line of an event stream begins with these.
    """
    assert expected is looks_like_document(head)


def test_a_document_may_be_an_error():
    """
    Some servers report errors at status 200.
    """
    error = document_error(info(), b'{"error": {"message": "No", "code": "busy"}}')

    assert UpstreamError is type(error)
    assert ("No", "busy") == (error.message, error.code)


@pytest.mark.parametrize(
    ("seen", "body"),
    [
        ("a whole answer of 15 bytes that isn't streamed", b'{"choices": []}'),
        ("[1]", b"[1]"),
        ("<html> Log in", b"<html>\n Log in"),
        ("{ \ufffd", b"{\x1b\xff"),
        ("", b""),
    ],
)
def test_another_document_is_not_an_event_stream(seen, body):
    """
    The error shows the start of it, in one printable line.
    """
    error = document_error(info(content_type="text/html"), body)

    assert NotAnEventStreamError is type(error)
    assert ("text/html", seen) == (error.content_type, error.seen)


def test_a_large_document_is_quoted_in_part():
    """
    At most 512 characters.
    """
    assert 512 == len(document_error(info(), b"<" + b"x" * 100_000).seen)
