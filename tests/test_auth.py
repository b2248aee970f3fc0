"""chatstream.auth: where keys come from, and where they never go."""

import traceback

import pytest

from chatstream.auth import auth_headers, key_of, redact, secrets_in
from chatstream.errors import ChatStreamError, RequestError, UpstreamError

KEY = "sk-canary"


async def later():
    return KEY


class Awaitable:
    def __await__(self):
        yield from ()
        return KEY


@pytest.mark.parametrize(
    ("expected", "source"),
    [
        (None, None),
        ("", ""),
        ("", "   "),
        (KEY, KEY),
        (KEY, f" {KEY} "),  # as copied from a web page
        (KEY, lambda: KEY),
        (KEY, later),
        (KEY, Awaitable),
        (None, lambda: None),
        ("", lambda: ""),
    ],
)
async def test_a_key_is_a_string_or_what_gives_one(expected, source):
    """
    A callable, sync or async, is how keys are rotated.
    """
    assert expected == await key_of(source)


async def test_a_callable_is_asked_each_time():
    """
    So that a new key holds from the next attempt on.
    """
    keys = iter(["first", "second"])

    assert ["first", "second"] == [await key_of(keys.__next__) for _ in range(2)]


def raising():
    msg = f"can't renew {KEY}"
    raise OSError(msg)


async def raising_later():
    raising()


@pytest.mark.parametrize(
    "source",
    [
        f"{KEY}\r\nX-Evil: 1",
        f"{KEY}\n",
        f"{KEY}\t",
        f"{KEY}\0",
        f"{KEY}\x7f",
        f"{KEY} {KEY}",
        f"{KEY}é",
        f"{KEY}\u2028",
        f"{KEY}\ud800",
        f"{KEY}\u00a0",
        KEY.encode(),
        KEY.encode,
        lambda: f"{KEY}\n",
        raising,
        raising_later,
    ],
)
async def test_a_key_that_cannot_be_sent_is_refused_unseen(source):
    """
    A line end would write headers; a message with the key would end in a log.
    """
    with pytest.raises(RequestError) as caught:
        await key_of(source)

    error = caught.value
    shown = "".join(traceback.format_exception_only(error))
    assert "api_key" == error.parameter
    assert KEY not in f"{error!r} {error} {error.args} {shown}"
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_what_failed_in_a_callable_is_named():
    """
    Its class is no secret, and a start.
    """
    with pytest.raises(RequestError, match="OSError"):
        await key_of(raising)


@pytest.mark.parametrize(
    ("expected", "key", "azure", "given"),
    [
        ({"Authorization": f"Bearer {KEY}"}, KEY, False, {}),
        ({"api-key": KEY}, KEY, True, {}),
        ({}, None, False, {}),
        ({}, "", True, {}),
        ({}, KEY, False, {"authorization": "Basic x"}),
        ({}, KEY, True, {"AUTHORIZATION": "Bearer token"}),  # Azure with Entra
        ({}, KEY, False, {"Api-Key": "x"}),
        ({"Authorization": f"Bearer {KEY}"}, KEY, False, {"X-Other": "x"}),
    ],
)
def test_the_callers_own_headers_come_first(expected, key, azure, given):
    """
    Whoever gives one of the two knows which one the server wants.
    """
    assert expected == auth_headers(key, azure=azure, given=given)


@pytest.mark.parametrize(
    ("expected", "text", "key"),
    [
        ("Wrong key: ***, ***", f"Wrong key: {KEY}, {KEY}", KEY),
        ("all is well", "all is well", KEY),
        ("abc", "abc", ""),  # which is in every text
    ],
)
def test_a_key_quoted_back_is_hidden(expected, text, key):
    """
    Some servers do.
    """
    error = UpstreamError(text)

    redact(error, [key])

    assert expected == error.message
    assert (expected,) == error.args
    assert expected in str(error)


def test_the_start_of_a_key_is_hidden_where_a_message_was_cut():
    """
    Messages are shortened before anybody knows what is secret in them.
    """
    for kept in range(6, len(KEY)):
        error = UpstreamError("x" * (299 - kept) + KEY + " is wrong")

        redact(error, [KEY])

        assert KEY[:6] not in str(error)
        assert KEY[:6] not in repr(error)


def test_headers_that_carry_keys_are_known():
    """
    Whoever brings a header of their own wants it hidden as well.
    """
    headers = {
        "Authorization": "Bearer a",
        "api-key": "b",
        "X-API-Key": "c",
        "Cookie": "d",
        "Accept": "e",
    }

    assert ["a", "b", "c", "d"] == secrets_in(headers)


def test_a_tail_that_begins_inside_a_key_shows_none_of_it():
    """
    It begins anywhere.
    """
    error = ChatStreamError()
    for cut in range(len(KEY) - 5):
        error.tail = f"{KEY[cut:]} was your key".encode()
        redact(error, [KEY])

        assert b"*** was your key" == error.tail
