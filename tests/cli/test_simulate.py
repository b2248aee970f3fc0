"""chatstream.cli.simulate."""

import json
import signal
import socket
import urllib.request

import pytest


def completion(base_url, key=None):
    """Ask the server for a whole answer."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "say hi"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(
        f"{base_url}/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request) as response:
        return response.read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_told_to_stop(child, number):
    process = child(
        "simulate", "--port", "0", "--preset", "instant", "--truth", "--chunk-tokens", "9"
    )
    base_url = process.stdout.readline().strip()

    assert base_url.startswith("http://127.0.0.1:")
    answer = completion(base_url)
    assert '"content":"hi"' in answer
    assert '"sent_ns":' in answer
    process.send_signal(number)
    assert ("", "") == process.communicate()
    assert 0 == process.returncode


def test_asks_for_the_key_in_a_file(child, tmp_path):
    path = tmp_path / "key"
    path.write_text("sk-1\n")
    process = child("simulate", "--port", "0", "--preset", "instant", "--api-key-file", str(path))
    base_url = process.stdout.readline().strip()

    assert "hi" in completion(base_url, "sk-1")
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        completion(base_url, "sk-2")
    refused.value.close()


def test_lists_the_models_it_is_given(child):
    process = child("simulate", "--port", "0", "--model", "a", "--model", "b")
    with urllib.request.urlopen(f"{process.stdout.readline().strip()}/models") as response:
        listed = json.load(response)

    assert ["a", "b"] == [model["id"] for model in listed["data"]]


def test_a_taken_port_is_one_line(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, shown, complaint = run("simulate", "--port", str(port))

    assert (1, "") == (status, shown)
    assert complaint.startswith(f"chatstream: can't listen on 127.0.0.1, port {port}: ")
    assert "ddress already in use" in complaint
    assert 1 == complaint.count("\n")


@pytest.mark.parametrize("options", [("--port", "70000"), ("--host", "no.such.host.invalid")])
def test_a_place_that_isnt_there_is_one_line(run, options):
    status, _, complaint = run("simulate", *options)

    assert 1 == status
    assert complaint.startswith("chatstream: can't listen on ")
    assert 1 == complaint.count("\n")


def test_a_wrong_profile_is_wrong_usage(run):
    status, _, complaint = run("simulate", "--jitter", "2")

    assert (2, "chatstream: --jitter must be <= 1.0: 2.0\n") == (status, complaint)


def test_at_a_terminal_it_tells_what_to_do_next(monkeypatch, run):
    async def serve(*_, announce, **__):
        announce("http://127.0.0.1:8000/v1")

    monkeypatch.setattr("chatstream.cli.simulate.serve", serve)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    status, shown, hint = run("simulate")

    assert (0, "http://127.0.0.1:8000/v1\n") == (status, shown)
    assert 'chatstream chat --base-url http://127.0.0.1:8000/v1 "Count to 10"' in hint


def test_nobody_to_read_the_url_ends_it(child):
    process = child("simulate", "--port", "0")
    process.stdout.close()
    status = process.wait()

    assert (141, "") == (status, process.stderr.read())
