"""The Python examples of docs/tools.md are run as they stand."""

import ast
import re
import types
from pathlib import Path

import pytest

pytest.importorskip("jiter")
PATH = Path(__file__).parent.parent / "docs" / "tools.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PATH.read_text("utf-8"), re.MULTILINE | re.DOTALL)


async def test_all_examples_run_one_after_the_other(session, server, capsys):
    names = {"session": session}
    for block in BLOCKS:
        code = compile(block, PATH.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        pending = types.FunctionType(code, names)()
        if pending is not None:  # there was something to await
            await pending
    await names["reply"]("say hello")

    shown = capsys.readouterr().out
    assert 'calling weather({"city":"city","unit":"celsius"})' in shown
    assert 'weather: {"celsius":21.5}' in shown
    assert names["recipe"].title in shown
    assert shown.endswith("hello")
    assert ["Be brief.", "say hello", "hello"] == [
        message["content"] for message in names["conversation"].messages
    ]
