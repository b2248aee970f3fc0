"""What is made of a run's log: its summary, its page, its tables, other tools' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from chatstream.bench.definitions import view
from chatstream.bench.log import Log
from chatstream.bench.output.files import MARKDOWN, PAGE, SUMMARY, Outputs
from chatstream.bench.output.html import report_html
from chatstream.bench.output.markdown import report_markdown
from chatstream.bench.output.vllm import vllm_result
from chatstream.bench.plan import Goals


def write_reports(outputs: Outputs, log: Log, summary: Mapping[str, Any]) -> None:
    """Write :data:`REPORTS`. Raises ``OutputError``, and ``ImportError`` without plotly.

    The page shows the answers if the log kept them, and then nobody else may read it.
    """
    outputs.write(SUMMARY, pretty(summary))
    outputs.write(PAGE, report_html(log, summary), private=any(log.text))
    outputs.write(MARKDOWN, report_markdown(summary))


def write_vllm(path: Path, log: Log, summary: Mapping[str, Any], *, overwrite: bool) -> None:
    """Write what vLLM's benchmark would have written. Raises ``OutputError``."""
    result = vllm_result(log, summary)
    private = any(result["generated_texts"])
    Outputs(path.parent, overwrite=overwrite).write(path.name, pretty(result), private=private)


def viewed(log: Log, summary: Mapping[str, Any], tools: Sequence[str]) -> dict[str, Any]:
    """Return by the formulas of other tools the figures of the load that the summary shows."""
    shown = log.where(log.stage == summary["shown"])
    goodput = summary["goodput"]
    goals = None if goodput is None else Goals(**goodput["goals"], attainment=goodput["wanted"])
    return {tool: view(shown, tool, goals=goals) for tool in tools}


def pretty(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON to be read by people, too."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
