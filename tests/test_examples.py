"""The examples run as they are, without an account."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import aiohttp

EXAMPLES = Path(__file__).parent.parent / "examples"


async def started(name, *arguments, **environment):
    """Run an example; its output can be read."""
    without_key = {name: value for name, value in os.environ.items() if "OPENAI" not in name}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        str(EXAMPLES / name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=without_key | environment | {"PYTHONUNBUFFERED": "1"},
    )


async def test_count():
    process = await started("count.py")
    output, complaint = await process.communicate()

    assert (0, b"") == (process.returncode, complaint)
    assert b'request: {"content": "100"}' in output
    assert b"time to first token" in output


async def test_the_web_service():
    process = await started("web_service.py", PORT="0")
    line = await process.stdout.readline()
    url = re.search(rb"http://\S+", line)[0].decode()
    asked = {"messages": [{"role": "user", "content": "Count to 3"}]}
    async with aiohttp.ClientSession() as http:
        async with http.get(url) as response:
            page = await response.text()
        async with http.get(f"{url}/chat.js") as response:
            script = await response.text()
        async with http.post(f"{url}/chat", json=asked) as response:
            answer = await response.text()
        async with http.post(f"{url}/chat", json={"messages": [{"role": "no"}]}) as response:
            refused = response.status, await response.json()
    process.terminate()
    await process.communicate()

    assert "chat.js" in page
    assert "textContent" in script
    texts = [json.loads(data) for data in re.findall(r"event: delta\ndata: (.*)", answer)]
    assert "1, 2, 3" == "".join(each["text"] for each in texts)
    assert '"verdict":"finished"' in answer
    assert 400 == refused[0]
    assert "messages" in refused[1]["error"]["param"]
