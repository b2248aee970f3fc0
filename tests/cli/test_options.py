"""chatstream.cli.options."""

import inspect

import attrs
import pytest

from chatstream import RequestError, RetryPolicy, Timeouts
from chatstream.bench.plan import Target
from chatstream.cli.exits import UsageError
from chatstream.cli.options import Connection, RequestParameters, host_of, key_in
from chatstream.request import ChatParams


def test_nothing_given_asks_for_nothing():
    """
    The server's own defaults hold.
    """
    assert {} == RequestParameters().to_request()


def test_everything_given_is_asked_for():
    parameters = RequestParameters(
        temperature=0.5,
        top_p=1,
        n=2,
        stop=("a", "b"),
        max_tokens=3,
        max_completion_tokens=4,
        presence_penalty=-1,
        frequency_penalty=1,
        logit_bias=("5=-100", "07=3"),
        seed=0,
        user="me",
        reasoning_effort="low",
        verbosity="high",
        service_tier="flex",
        response_format="json",
        logprobs=True,
        top_logprobs=2,
        extra_body='{"top_k": 4}',
    )

    request = parameters.to_request()
    assert {field.name for field in attrs.fields(RequestParameters)} - {"no_validate"} == {*request}
    assert {**ChatParams.__annotations__, "extra_body": None}.keys() >= request.keys()
    assert ["a", "b"] == request["stop"]
    assert {"5": -100, "7": 3} == request["logit_bias"]
    assert {"type": "json_object"} == request["response_format"]
    assert {"top_k": 4} == request["extra_body"]


@pytest.mark.parametrize(
    ("sent", "given"),
    [
        ({"type": "text"}, "text"),
        ({"type": "json_schema", "json_schema": {}}, '{"type": "json_schema", "json_schema": {}}'),
    ],
)
def test_a_response_format_has_short_names(sent, given):
    assert sent == RequestParameters(response_format=given).to_request()["response_format"]


def test_likely_tokens_come_with_log_probabilities():
    """
    Servers refuse one without the other.
    """
    assert RequestParameters(top_logprobs=0).to_request()["logprobs"] is True


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("expected ID=BIAS", {"logit_bias": ("5",)}),
        ("expected ID=BIAS", {"logit_bias": ("a=5",)}),
        ("--extra-body: not JSON", {"extra_body": "{"}),
        ("--extra-body: expected a JSON object", {"extra_body": "[]"}),
        ("--response-format: not JSON", {"response_format": "xml"}),
    ],
)
def test_what_makes_no_sense_is_refused(words, given):
    with pytest.raises(UsageError, match=words):
        RequestParameters(**given).to_request()


def test_defaults_are_the_librarys():
    """
    The help names them; so they must not change unseen.
    """
    assert Timeouts() == Connection().timeouts() == Timeouts(10, 120, 60, None)
    assert RetryPolicy() == Connection().retry()
    for words in ("[default: 10]", "[default: 120]", "[default: 60]"):
        assert words in inspect.getsource(Connection)


def test_zero_waits_for_ever():
    given = Connection(connect_timeout=0, first_token_timeout=0, idle_timeout=5, timeout=7)

    assert Timeouts(None, None, 5, 7) == given.timeouts()


def test_retries_are_further_attempts():
    assert RetryPolicy(attempts=1) == Connection(retries=0).retry()
    with pytest.raises(UsageError, match="--retries: expected 0 or more, got -1"):
        Connection(retries=-1).retry()


def test_a_key_file_holds_the_key(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"\xef\xbb\xbfsk-1 \r\n")

    assert "sk-1" == key_in(path)


@pytest.mark.parametrize(
    ("words", "content"), [("not text", b"\xff"), ("is empty", b"\n"), ("No such file", None)]
)
def test_a_key_file_without_a_key_is_refused(tmp_path, words, content):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=words):
        key_in(path)


@pytest.mark.parametrize("line", ["X-A", ": v", "a b: c", "X: a\r\nY: b", "X: \x00"])
def test_a_header_that_is_none_is_refused(line):
    with pytest.raises(UsageError, match='expected "Name: value"'):
        Connection(header=(line,)).session()


def test_a_refused_header_keeps_its_value_secret():
    with pytest.raises(UsageError) as caught:
        Connection(header=("Bad Name: sk-secret",)).session()

    assert "sk-secret" not in str(caught.value)


# --- A server to be measured -----------------------------------------------------


def test_a_target_is_the_server_that_a_session_would_ask(tmp_path):
    path = tmp_path / "key"
    path.write_text("sk-1\n")
    given = Connection(
        base_url="http://127.0.0.1:1/v1",
        api_key_file=path,
        api_version="v",
        header=("A: b",),
        proxy="http://127.0.0.1:2",
        trust_env=True,
    )

    assert given.session().base_url == given.target("m").base_url
    assert given.target("m") == Target(
        base_url="http://127.0.0.1:1/v1",
        model="m",
        api_key="sk-1",
        api_version="v",
        headers={"A": "b"},
        proxy="http://127.0.0.1:2",
        trust_env=True,
    )


def test_the_environment_names_the_server_and_the_key(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    (tmp_path / "key").write_text("sk-file")
    found = Connection().target("m")

    assert ("http://127.0.0.1:1/v1", "sk-env") == (found.base_url, found.api_key)
    assert "sk-file" == Connection(api_key_file=tmp_path / "key").target("m").api_key
    assert "http://h" == Connection(base_url="http://h").target("m").base_url


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": "http://127.0.0.1:1/v1"},
        {"base_url": "https://api.openai.com.example/v1"},
        {"header": ("Authorization: Bearer x",)},
    ],
)
def test_not_every_server_asks_for_a_key(given):
    assert Connection(**given).target("m").api_key is None


def test_without_a_key_openai_isnt_worth_the_wait():
    """
    A run would calibrate first, and then be refused.
    """
    with pytest.raises(RequestError, match="api_key: expected a key, got nothing"):
        Connection().target("m")


@pytest.mark.parametrize(
    ("host", "url"), [("h:1", "http://h:1/v1"), ("", "http://["), ("", "nothing")]
)
def test_what_is_no_url_has_no_host(host, url):
    assert host == host_of(url)
