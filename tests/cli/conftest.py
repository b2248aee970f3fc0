"""A command line to run, in this process or in one of its own, and servers to talk to."""

import json
import math
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chatstream.cli import main

# A child that can be interrupted, even if our own parent ignores SIGINT.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from chatstream.cli import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No key, server or model of the developer's own."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys):
    """Run a command line here: its status, what it printed, what it complained of."""

    def run_(*arguments):
        status = main(arguments)
        return status, *capsys.readouterr()

    return run_


@pytest.fixture
def ask(run):
    """Chat with a simulated server that never waits."""

    def ask_(*arguments):
        return run("chat", "--simulate", "--preset", "instant", *arguments)

    return ask_


@pytest.fixture
def child():
    """Run a command line in a process of its own, which is ended with the test."""
    processes = []

    def start(*arguments, code=START, **options):
        command = [sys.executable, "-W", "error", "-c", code, *arguments]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {**os.environ, "COVERAGE_PROCESS_START": "", "TERM": "xterm"}
        process = subprocess.Popen(
            command, **{"env": environment, "encoding": "utf-8", **pipes, **options}
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def event(delta=None, finish_reason=None, index=0, **fields):
    """One event of a stream."""
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish_reason}
    return f"data: {json.dumps({'id': 'c', 'choices': [choice], **fields})}\n\n"


@pytest.fixture
def serve():
    """Serve the same body to every request; with *hold* it doesn't end.

    After *good* requests it has none. ``url``, ``requests`` and ``asked`` of the server tell
    the rest.
    """
    servers = []

    def serve_(
        *events, status=200, kind="text/event-stream", headers=(), hold=False, good=math.inf
    ):
        body = "".join(events).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                sent = self.rfile.read(int(self.headers["content-length"]))
                server.requests.append((self.path, self.headers, json.loads(sent)))
                self.send_response(status if len(server.requests) <= good else 503)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body) + hold))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                server.asked.set()
                if hold:
                    self.rfile.read()  # until the client leaves

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.requests = []
        server.asked = threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server

    yield serve_
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
