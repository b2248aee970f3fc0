"""chatstream.cli.exits."""

import re

import pytest

from chatstream import AuthenticationError, InterruptedStreamError, RequestError, ServerError
from chatstream.cli.exits import UsageError, complain, explain, needing
from chatstream.report import Attempt


@pytest.mark.parametrize(
    ("sentence", "error"),
    [
        ("what to do", UsageError("what to do")),
        ("n: expected 1, got 0", RequestError("n", "0", "1")),
        ("cut, after 1 event", InterruptedStreamError(1, "cut")),
        (
            "no API key: set OPENAI_API_KEY or give --api-key-file, or try --simulate",
            RequestError("api_key", "nothing", "a key"),
        ),
        (
            "HTTP 401: no (set OPENAI_API_KEY or give --api-key-file)",
            AuthenticationError(401, "no"),
        ),
    ],
)
def test_an_error_is_its_sentence_and_what_helps(sentence, error):
    assert sentence == explain(error)


def test_what_support_asks_for_stands_beside_the_error():
    error = ServerError(500, "oh")
    error.attempts = (Attempt(number=1, started=0.0), Attempt(number=2, started=1.0))
    error.request_id = "req-7"

    assert "HTTP 500: oh (2 attempts, request req-7)" == explain(error)


def test_a_complaint_is_one_harmless_line(capsys):
    complain("a\nb \x1b[2J\u202e")

    assert ("", "chatstream: a b \u241b[2J\ufffd\n") == capsys.readouterr()


@pytest.mark.parametrize(
    ("part", "extra", "name"),
    [
        ("numpy", "bench", "numpy"),
        ("prometheus_client", "bench", "prometheus_client.parser"),
        ("ray", "ray", "ray"),
    ],
)
def test_a_missing_part_names_the_extra_that_has_it(part, extra, name):
    words = f"this command needs {part}: pip install 'chatstream-sdk[{extra}]'"
    with pytest.raises(UsageError, match=re.escape(words)), needing("bench"):
        raise ModuleNotFoundError(name=name)


@pytest.mark.parametrize("name", ["chatstream.nothing", None])
def test_no_extra_has_what_is_ours(name):
    with pytest.raises(ModuleNotFoundError), needing("bench"):
        raise ModuleNotFoundError(name=name)


def test_nothing_is_missing_where_all_is_there():
    with needing("bench"):
        done = True

    assert done
