"""The README's Python examples are run as they stand."""

import ast
import asyncio
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import chatstream
from chatstream.bench import pytest_plugin
from chatstream.testing import Profile, SimulatedServer

ROOT = Path(__file__).parent.parent


def blocks_of(name):
    """The Python blocks of a document."""
    return re.findall(
        r"^```python\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL
    )


BLOCKS = blocks_of("README.md")
BENCH = blocks_of("docs/bench.md")


@pytest.fixture
async def server():
    async with SimulatedServer(Profile(time_to_first_token=0, gap=0)) as server:
        yield server


DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
EVERY = [pytest.param(block, id=name) for name in DOCUMENTS for block in blocks_of(name)]


@pytest.mark.parametrize("block", EVERY)
def test_every_example_is_python(block):
    """
    Fragments may await at the top, as in a notebook.
    """
    compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def test_the_first_example_prints_the_deltas_and_the_report(server):
    """
    It is a whole program: run as one, warnings as errors.
    """
    environment = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "any"}

    done = await _run(BLOCKS[0], environment)

    lines = done.stdout.splitlines()
    assert "" == done.stderr
    assert lines[0].endswith(' seconds after request: {"role": "assistant"}')
    assert lines[1].endswith(' seconds after request: {"content": "1"}')
    assert any(line.endswith("98, 99, 100") for line in lines)
    assert any(line.startswith("time to first token") for line in lines)


async def test_the_testing_example_passes():
    """
    The last block is a test of the reader's own.
    """
    namespace: dict = {}
    exec(compile(BLOCKS[-1], "README.md", "exec"), namespace)

    await namespace["test_counts"]()


async def _run(program, environment):
    """Run a program without blocking the loop that serves it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, err = await process.communicate()
    return subprocess.CompletedProcess([], process.returncode, out.decode(), err.decode())


async def test_the_conversation_with_a_tool_ends_with_words(server):
    """
    A message of a completion goes back as it is, and so does a tool's result.
    """
    (block,) = (block for block in BLOCKS if "parse_arguments" in block)
    asked = []

    def weather(**arguments):
        asked.append(arguments)
        return "Sunny."

    async with chatstream.ChatSession(server.base_url, "any") as session:
        namespace = vars(chatstream) | {"session": session, "weather": weather}
        code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await types.FunctionType(code, namespace)()

    assert 1 == len(asked)
    assert namespace["message"].content
    assert ["system", "user", "assistant", "tool"] == [
        message["role"] for message in server.requests[-1].body["messages"]
    ]


async def test_the_example_of_a_load_gives_figures(server):
    """
    As it stands, but for the server.
    """
    source = BENCH[0].replace("http://127.0.0.1:8000/v1", server.base_url)
    namespace = {}
    code = compile(source, "bench.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await types.FunctionType(code, namespace)()

    assert 200 == namespace["result"].figure("time_to_first_token")["n"]


async def test_the_example_of_a_latency_test_passes(server):
    source = BENCH[1].replace("http://127.0.0.1:8000/v1", server.base_url)
    source = source.replace("num_prompts=400", "num_prompts=20").replace(
        '"ttft.p99": 0.2', '"ttft.p99": 20'
    )
    namespace = {}
    exec(compile(source, "bench.md", "exec"), namespace)

    await namespace["test_it_answers_in_time"](pytest_plugin._measure)
