"""chatstream.retry: what is tried again, how often, and after how long."""

import asyncio

import pytest
import stamina

from chatstream.errors import (
    AuthenticationError,
    ChatStreamError,
    ConnectError,
    FirstTokenTimeoutError,
    InterruptedStreamError,
    NotAnEventStreamError,
    RateLimitError,
    RequestError,
    ServerError,
    TotalTimeoutError,
    UpstreamError,
)
from chatstream.retry import RetryPolicy

LIMITED = RateLimitError(429, retry_after=7.0)
DOWN = ServerError(503)


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, while no time passes."""
    waited = []

    async def sleep(delay):
        waited.append(delay)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waited


class Failing:
    """A server that has some errors to give."""

    def __init__(self, errors):
        self._errors = list(errors)
        self.tries = 0

    async def answer(self):
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)


async def run(policy, *errors, made=0):
    """Try until there is no error left; return how often, and the error at the end."""
    server = Failing(errors)
    try:
        try:
            await server.answer()
        except ChatStreamError as error:
            await policy.again(error, server.answer, made=made + 1)
    except ChatStreamError as error:
        return server.tries, error
    return server.tries, None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 0),
        ("attempts", -1),
        ("attempts", float("nan")),
        ("max_wait", -0.1),
        ("max_wait", float("nan")),
    ],
)
def test_a_policy_makes_sense(name, value):
    """
    No attempt at all is no request.
    """
    with pytest.raises(RequestError) as caught:
        RetryPolicy(**{name: value})

    assert (f"retry.{name}", str(value)) == (caught.value.parameter, caught.value.seen)


def test_the_defaults_are_those_of_the_readme():
    """
    Three attempts, a minute at most in between.
    """
    assert RetryPolicy(attempts=3, max_wait=60) == RetryPolicy()
    assert RetryPolicy(1, 0) == RetryPolicy(attempts=1, max_wait=0)


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (True, ConnectError("refused", "h")),
        (False, ConnectError("tls", "h")),
        (True, DOWN),
        (7.0, LIMITED),
        (True, RateLimitError(429)),
        (0.0, RateLimitError(429, retry_after=0.0)),  # at once, which isn't "no"
        (60, RateLimitError(429, retry_after=1e9)),
        (False, AuthenticationError(401)),
        (True, FirstTokenTimeoutError(1)),
        (False, TotalTimeoutError(1)),
        (True, InterruptedStreamError(0)),
        (True, UpstreamError("busy")),
        (False, NotAnEventStreamError("text/html", "")),
        (False, RequestError("n", "0", "1")),
        (False, ValueError("a bug")),
        (False, OSError("not ours")),
    ],
)
def test_what_can_help_is_tried_again(expected, error):
    """
    The same key won't be right the second time; a server may be.
    """
    found = RetryPolicy()._wait(error)

    assert (type(expected), expected) == (type(found), found)


def test_a_server_may_forbid_and_demand():
    """
    ``x-should-retry`` is in the error's own flag.
    """
    forbidden, demanded = ServerError(503, retry_after=1.0), AuthenticationError(401)
    forbidden.retryable, demanded.retryable = False, True

    assert RetryPolicy()._wait(forbidden) is False
    assert RetryPolicy()._wait(demanded) is True


async def test_the_wait_is_the_servers_to_the_second(waits):
    """
    No jitter on it: the server has spread its clients itself.
    """
    assert (3, None) == await run(RetryPolicy(), LIMITED, RateLimitError(429, retry_after=0.0))
    assert [7.0, 0.0] == waits


async def test_no_wait_is_longer_than_the_policy_allows(waits):
    """
    Neither the server's nor our own.
    """
    policy = RetryPolicy(attempts=20, max_wait=0.75)

    await run(policy, RateLimitError(429, retry_after=1e9), *[DOWN] * 18)

    assert 0.75 == waits[0]
    assert 19 == len(waits)
    assert 0.75 >= max(waits)


async def test_without_any_wait_the_tries_follow_at_once(waits):
    """
    ``max_wait=0`` is for tests, and for callers who can't wait.
    """
    assert (3, None) == await run(RetryPolicy(max_wait=0), LIMITED, DOWN)
    assert {0.0} == set(waits)


async def test_waits_double_from_half_a_second_with_jitter(waits):
    """
    A thousand clients that failed together shouldn't come back together.
    """
    tries, error = await run(RetryPolicy(attempts=8), *[DOWN] * 8)

    assert (8, DOWN) == (tries, error)
    for least, wait in zip([0.5, 1, 2, 4, 8, 8, 8], waits, strict=True):
        assert least <= wait <= min(least + 0.5, 8)


@pytest.mark.parametrize(("least", "made"), [(0.5, 0), (1, 1), (2, 2), (4, 3), (8, 4), (8, 5000)])
async def test_waits_go_on_doubling_where_earlier_tries_left_off(waits, least, made):
    """
    A stream that broke before its first token goes on with the tries it has left.
    """
    await run(RetryPolicy(attempts=made + 2), DOWN, made=made)

    (wait,) = waits
    assert least <= wait <= min(least + 0.5, 8)


@pytest.mark.parametrize(
    ("expected", "attempts", "made"), [(3, 3, 0), (2, 3, 1), (1, 3, 2), (1, 3, 3), (1, 1, 0)]
)
async def test_tries_are_counted_across_all_that_were_made(waits, expected, attempts, made):
    """
    Three attempts are three requests, wherever they failed.
    """
    assert (expected, DOWN) == await run(RetryPolicy(attempts), *[DOWN] * 9, made=made)
    assert expected - 1 == len(waits)


async def test_what_cannot_be_helped_is_tried_once(waits):
    """
    It comes out as it is.
    """
    error = AuthenticationError(401)

    assert (1, error) == await run(RetryPolicy(), error)
    assert [] == waits


async def test_success_ends_it(waits):
    """
    No try more than needed.
    """
    assert (2, None) == await run(RetryPolicy(attempts=5), DOWN)
    assert 1 == len(waits)


async def test_a_service_may_turn_retries_off():
    """
    ``stamina.set_active(False)`` is how its tests do it, for all libraries at once.
    """
    stamina.set_active(False)
    try:
        assert (1, DOWN) == await run(RetryPolicy(), DOWN)
    finally:
        stamina.set_active(True)


@pytest.mark.parametrize("value", [None, "3"])
def test_a_policy_is_made_of_numbers(value):
    """
    ``None`` is no way to turn retries off; 1 is.
    """
    with pytest.raises(RequestError, match=r"retry\.attempts: expected a number from 1 on"):
        RetryPolicy(value)
