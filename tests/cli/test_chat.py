"""chatstream.cli.chat."""

import contextlib
import io
import json
import signal
import socket
import sys
import threading

import pytest

from chatstream.cli.answer import TextDisplay
from chatstream.cli.chat import _line
from chatstream.cli.options import Connection
from tests.cli.conftest import event

ANSWER = (event({"content": "Hi"}), event(finish_reason="stop"), "data: [DONE]\n\n")


@pytest.fixture
def stdin(monkeypatch):
    """Pipe bytes to the command."""

    def stdin_(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))

    return stdin_


@pytest.mark.parametrize("prompt", [("count to 3",), ("count", "to", "3"), ("--", "count to 3")])
def test_the_prompt_is_what_was_typed(ask, prompt):
    assert (0, "1, 2, 3\n", "") == ask(*prompt)


def test_the_prompt_may_come_from_stdin(ask, stdin):
    """
    UTF-8, whatever the locale, and without the newline that echo puts there.
    """
    stdin("\ufeffsay naïve ✓\r\n".encode())

    assert (0, "naïve ✓\n", "") == ask()


def test_an_argument_leaves_stdin_alone(ask, stdin):
    stdin(b"say no")

    assert (0, "yes\n", "") == ask("say yes")


@pytest.mark.parametrize("data", [b"", b" \n"])
def test_no_prompt_is_wrong_usage(ask, stdin, data):
    stdin(data)
    status, shown, complaint = ask()

    assert (2, "") == (status, shown)
    assert complaint.startswith("chatstream: no prompt: give one")


def test_a_closed_stdin_is_no_prompt(ask, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

    assert 2 == ask()[0]


def test_stdin_that_is_no_text_is_wrong_usage(ask, stdin):
    stdin(b"ab\xff")

    assert (2, "", "chatstream: the prompt on stdin isn't UTF-8, at byte 2\n") == ask()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("don't go together", ("--json", "--timings")),
        ("--base-url and --simulate", ("--base-url", "http://h")),
        ("--api-key-file and --simulate", ("--api-key-file", "f")),
        ("--header and --simulate", ("--header", "A: b")),
        ("--trust-env and --simulate", ("--trust-env",)),
        ("--gap must be >= 0", ("--gap", "-1")),
        ("--retries", ("--retries", "-1")),
        ("timeouts.idle: expected seconds above 0", ("--idle-timeout", "-1")),
        ("temperature: expected a number from 0 to 2, got 9", ("--temperature", "9")),
    ],
)
def test_wrong_usage_is_one_line(ask, words, options):
    status, shown, complaint = ask("hi", *options)

    assert (2, "") == (status, shown)
    assert complaint.startswith("chatstream: ")
    assert words in complaint
    assert 1 == complaint.count("\n")


def test_shaping_what_isnt_simulated_is_wrong_usage(run):
    status, _, complaint = run("chat", "hi", "--time-to-first-token", "1")

    assert 2 == status
    assert "--time-to-first-token shapes the simulated server" in complaint


def test_without_a_key_the_user_is_told_where_it_goes(run):
    assert (
        2,
        "",
        "chatstream: no API key: set OPENAI_API_KEY or give --api-key-file, or try --simulate\n",
    ) == run("chat", "hi")


def test_what_is_asked_for_is_sent(run, serve, tmp_path):
    server = serve(*ANSWER)
    key = tmp_path / "key"
    key.write_text("sk-1\n")
    options = [
        *("--base-url", server.url, "--api-key-file", str(key), "-m", "m", "-s", "Be brief."),
        *("--header", "X-Team:  blue ", "--stop", "a", "--stop", "b", "--presence-penalty", "-1"),
        *("--extra-body", '{"top_k": 1}'),
    ]

    assert (0, "Hi\n", "") == run("chat", "hello", *options)
    ((path, headers, body),) = server.requests
    assert "/v1/chat/completions" == path
    assert "Bearer sk-1" == headers["authorization"]
    assert "blue" == headers["x-team"]
    assert {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello"},
        ],
        "stop": ["a", "b"],
        "presence_penalty": -1.0,
        "top_k": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    } == body


def test_the_environment_is_asked_where_nothing_is_given(run, serve, monkeypatch):
    server = serve(*ANSWER)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-2")
    monkeypatch.setenv("OPENAI_MODEL", "mine")
    run("chat", "hello")
    monkeypatch.setenv("OPENAI_MODEL", "")
    run("chat", "hello", "--api-version", "2024-10-21")
    (_, first, body), (path, second, other) = server.requests

    assert ("Bearer sk-2", "mine") == (first["authorization"], body["model"])
    assert ("sk-2", "gpt-4o-mini") == (second["api-key"], other["model"])
    assert path.endswith("?api-version=2024-10-21")


def test_unchecked_parameters_reach_the_server(run, serve):
    server = serve(*ANSWER)

    assert (
        0
        == run("chat", "hello", "--base-url", server.url, "--temperature", "9", "--no-validate")[0]
    )
    assert 9 == server.requests[0][2]["temperature"]


def test_the_simulation_gets_no_key_of_the_users(ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/")

    assert 0 == ask("hi")[0]


def test_the_simulation_has_its_shape(ask):
    assert (0, "a b\n", "") == ask("say a b c d", "--tokens", "2")


def test_a_doubtful_request_is_noted(ask):
    status, _, complaint = ask("hi", "--temperature", "1", "--top-p", "1", "--max-tokens", "999")

    assert 0 == status
    assert (
        "chatstream: note: temperature and top_p are both given, change one of them\n" == complaint
    )


def test_a_refused_connection_is_one_line(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert (1, "", "chatstream: connection refused by 127.0.0.1\n") == run(
        "chat", "hi", "--base-url", f"http://127.0.0.1:{port}", "--retries", "0"
    )


def test_a_refused_key_says_where_it_comes_from(run, serve):
    body = json.dumps({"error": {"message": "bad key", "code": "invalid_api_key"}})
    server = serve(body, status=401, kind="application/json")
    hint = "set OPENAI_API_KEY or give --api-key-file"

    assert (
        1,
        "",
        f"chatstream: HTTP 401 (invalid_api_key): bad key ({hint})\n",
    ) == run("chat", "hi", "--base-url", server.url)


def test_attempts_are_counted(run, serve):
    body = json.dumps({"error": {"message": "busy"}})
    server = serve(body, status=503, kind="application/json", headers=[("retry-after", "0")])

    assert (1, "", "chatstream: HTTP 503: busy (2 attempts)\n") == run(
        "chat", "hi", "--base-url", server.url, "--retries", "1"
    )


def test_json_reports_a_failure_too(run, serve):
    server = serve("{}", status=404, kind="application/json")
    status, shown, complaint = run("chat", "hi", "--base-url", server.url, "--json")
    document = json.loads(shown)

    assert 1 == status
    assert "HTTP 404" in complaint
    assert "NotFoundError" == document["error"]["type"]
    assert "http_error" == document["report"]["verdict"]


@pytest.mark.parametrize("options", [(), ("--timings",), ("--json",)])
def test_ctrl_c_stops_the_answer_and_keeps_the_text(child, serve, options):
    """
    K16: status 130, and no traceback.
    """
    server = serve(event({"content": "Hello"}), hold=True)
    process = child("chat", "hi", "--base-url", server.url, *options)
    begun = "" if "--json" in options else process.stdout.read(5)
    server.asked.wait()
    process.send_signal(signal.SIGINT)
    shown, complaint = process.communicate()
    shown = begun + shown

    assert (130, "[stopped]\n") == (process.returncode, complaint)
    if options == ("--timings",):
        assert "\nFull message received: Hello\n" in shown
        assert "cancelled" in shown
    elif options:
        assert "cancelled" == json.loads(shown)["report"]["verdict"]
    else:
        assert "Hello\n" == shown


def test_a_connection_closed_between_two_questions_is_noticed():
    """
    In a conversation the loop stands still while the user types.
    """
    answered, closed = threading.Event(), threading.Event()
    body = "".join(ANSWER).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}"

    def answer_once_per_connection(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as request:
                    while request.readline().strip():
                        pass
                    connection.sendall(f"{head}\r\n\r\n".encode() + body)
                    answered.wait()
                closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_once_per_connection, args=(listener,))
        thread.start()
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        question = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        outcomes = []
        with _line(Connection(base_url=base_url, retries=0), None) as line:
            for _ in range(2):
                outcomes.append(line.ask(question, TextDisplay(), validate=True).status)
                answered.set()
                closed.wait()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert [0, 0] == outcomes
