"""chatstream.testing.backend."""

import orjson
import pytest

from chatstream.testing import FakeClock, Profile
from chatstream.testing.backend import Backend
from chatstream.testing.payloads import Script
from chatstream.testing.refusals import Refusal
from chatstream.testing.wire import RequestReader

BODY = {"model": "m", "messages": [{"role": "user", "content": "Count to 2"}]}


def backend(profile=None, **options):
    options = {"api_key": None, "truth": False, "models": ("a", "b"), **options}
    return Backend(profile or Profile(), clock=FakeClock(7), **options)


def ask(server, path="/v1/chat/completions", method="POST", body=BODY, headers=""):
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    reader = RequestReader()
    length = f"Content-Length: {len(raw)}\r\n"
    reader.feed(f"{method} {path} HTTP/1.1\r\nHost: h\r\n{length}{headers}\r\n".encode() + raw)
    return server.answer(server.record(reader.take(), 3))


def refusal(*args, **options):
    with pytest.raises(Refusal) as caught:
        ask(*args, **options)
    return caught.value


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/v1/chat/completions"])
def test_chats(path):
    whole = ask(backend(), path)
    streamed = ask(backend(), path, body=BODY | {"stream": True})

    assert isinstance(whole, Script)
    assert (1, 0) == (len(whole.parts), whole.opening)
    assert (5, 1) == (len(streamed.parts), streamed.opening)


def test_a_deployment_names_the_model():
    path = "/openai/deployments/gpt-x/chat/completions"
    without = {"messages": BODY["messages"]}

    assert "gpt-x" == ask(backend(), path, body=without).model
    assert "m" == ask(backend(), path).model


def test_models_and_health():
    models = orjson.loads(ask(backend(), "/v1/models", "GET"))

    assert ["a", "b"] == [model["id"] for model in models["data"]]
    assert {"status": "ok"} == orjson.loads(ask(backend(), "/health", "HEAD"))


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("POST", "/health", 405, "GET, HEAD"),
        ("DELETE", "/v1/models", 405, "GET, HEAD"),
        ("GET", "/", 404, None),
        ("POST", "/v1/chat/completions/", 404, None),
    ],
)
def test_other_methods_and_paths(method, path, status, allow):
    refused = refusal(backend(), path, method)

    assert status == refused.status
    assert allow == refused.headers.get("allow")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", 401),
        ("Authorization: Bearer wrong\r\n", 401),
        ("Authorization: Basic secret\r\n", 401),
        ("api-key: wröng\r\n", 401),
        ("Authorization: bearer secret\r\n", None),
        ("Api-Key: secret\r\n", None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_the_key_is_asked_for(headers, status, path):
    server = backend(api_key="secret")
    method = "GET" if "models" in path else "POST"
    if status is None:
        assert ask(server, path, method, headers=headers)
        return
    refused = refusal(server, path, method, headers=headers)

    assert 401 == refused.status
    assert b"invalid_api_key" in refused.body()
    assert b"secret" not in refused.body()


def test_health_needs_no_key():
    assert ask(backend(api_key="secret"), "/health", "GET")


def test_a_header_forces_a_status():
    headers = "x-simulate-status: 429\r\nx-simulate-retry-after: soon\r\n"
    refused = refusal(backend(), headers=headers)

    assert 429 == refused.status
    assert {"retry-after": "soon"} == refused.headers
    assert 301 == refusal(backend(), headers="x-simulate-status: 301\r\n").status
    assert 400 == refusal(backend(), headers="x-simulate-status: 200\r\n").status
    assert 400 == refusal(backend(), headers="x-simulate-status: oops\r\n").status


def test_a_share_of_requests_fails():
    server = backend(Profile(error_rate=0.5, error_status=500, retry_after=1.5))
    outcomes = []
    for _ in range(200):
        try:
            outcomes.append(ask(server).model)
        except Refusal as refused:
            outcomes.append((refused.status, refused.headers["retry-after"]))

    assert {"m", (500, "1.5")} == {*outcomes}
    assert 60 < outcomes.count("m") < 140
    assert 503 == refusal(backend(Profile(error_rate=1))).status
    assert {} == refusal(backend(Profile(error_rate=1))).headers


def test_the_same_body_is_composed_once():
    server = backend()
    first = ask(server)

    assert first is ask(server)
    server.profile = Profile(tokens=1)
    assert first is not ask(server)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr("chatstream.testing.backend._MOST_SCRIPTS", 2)
    monkeypatch.setattr("chatstream.testing.backend._MOST_KEPT_PARTS", 12)
    server = backend()
    bodies = [BODY | {"seed": seed} for seed in range(3)]
    first = ask(server, body=bodies[0])
    second = ask(server, body=bodies[1])
    ask(server, body=bodies[0])
    ask(server, body=bodies[2])

    assert first is ask(server, body=bodies[0])
    assert second is not ask(server, body=bodies[1])
    long = BODY | {"stream": True, "messages": [{"role": "user", "content": "Count to 9"}]}
    assert ask(server, body=long) is not ask(server, body=long)


def test_requests_are_remembered():
    server = backend()
    ask(server, "/v1/chat/completions?api-version=1", headers="X-Some: thing\r\n")
    refusal(server, body=b"{")
    first, second = server.recorded()

    assert ("POST", "/v1/chat/completions", "api-version=1") == (
        first.method,
        first.path,
        first.query,
    )
    assert BODY == first.body
    assert second.body is None
    assert "thing" == first.headers["x-some"]
    assert (3, 1, 7) == (first.connection, first.number, first.received_ns)
    server.forget()
    assert [] == server.recorded()


def test_only_the_newest_requests_are_remembered(monkeypatch):
    monkeypatch.setattr("chatstream.testing.backend._MOST_RECORDED", 3)
    monkeypatch.setattr("chatstream.testing.backend._MOST_RECORDED_BYTES", 100)
    server = backend()
    for _ in range(5):
        ask(server, "/health", "GET", body=b"")

    assert [3, 4, 5] == [request.number for request in server.recorded()]
    ask(server, "/health", "GET", body=b"x" * 90)
    ask(server, "/health", "GET", body=b"x" * 90)
    assert [7] == [request.number for request in server.recorded()]
