"""Answers the prompts of a file, some at a time, and goes on where it was broken off.

python examples/batch.py prompts.jsonl answers.jsonl --simulate           # no account
OPENAI_API_KEY=… python examples/batch.py prompts.jsonl answers.jsonl --model gpt-4o-mini

A line of the prompts is {"id": …, "prompt": "…"}, or has "messages" in place of the
prompt. A line of the answers has its id, the text, how it ended, tokens and latencies;
or the error, and then it is asked again next time.
"""

import argparse
import asyncio
import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from chatstream import ChatSession, ChatStreamError, user
from chatstream.testing import SimulatedServer


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines that are whole: whoever wrote them may have been killed."""
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def appending(path: Path) -> TextIO:
    """Open the file to go on with, on a line of its own."""
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    file = path.open("a", encoding="utf-8")
    if not whole:
        print(file=file)
    return file


async def answer(session: ChatSession, task: dict[str, Any], model: str) -> dict[str, Any]:
    """Ask for one answer; return its line."""
    messages = task.get("messages") or [user(task["prompt"])]
    try:
        async with session.stream(model=model, messages=messages) as stream:
            completion = await stream.collect()
    except ChatStreamError as error:
        text = error.partial.text if error.partial else ""
        return {"id": task["id"], "error": f"{type(error).__name__}: {error}", "text": text}
    report = stream.report
    return {
        "id": task["id"],
        "text": completion.text,
        "verdict": completion.verdict,
        "completion_tokens": report.completion_tokens,
        "time_to_first_token": report.time_to_first_token,
        "duration": report.duration,
    }


async def work(
    session: ChatSession, tasks: Iterator[dict[str, Any]], model: str, out: TextIO
) -> None:
    """Take one task after the other until there are none; what is done is on disk at once."""
    for task in tasks:  # shared with the other workers
        line = json.dumps(await answer(session, task, model), ensure_ascii=False)
        print(line, file=out, flush=True)


async def run(
    session: ChatSession, tasks: Iterable[dict[str, Any]], model: str, path: Path, workers: int
) -> None:
    """Answer those tasks that have no answer in the file yet."""
    done = {line["id"] for line in lines_of(path) if "error" not in line}
    left = (task for task in tasks if task["id"] not in done)
    with appending(path) as out:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work(session, left, model, out))


async def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompts", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--model", default="simulated")
    parser.add_argument("--workers", type=int, default=8, help="requests at a time")
    parser.add_argument("--simulate", action="store_true", help="ask a server of this process")
    given = parser.parse_args()
    async with contextlib.AsyncExitStack() as stack:
        session = ChatSession()
        if given.simulate:
            server = await stack.enter_async_context(SimulatedServer())
            session = ChatSession(server.base_url, "none")
        await stack.enter_async_context(session)
        tasks = lines_of(given.prompts)
        await run(session, tasks, given.model, given.answers, given.workers)


if __name__ == "__main__":
    asyncio.run(main())
