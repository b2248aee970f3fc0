"""Writes and shows what came of a run."""

from __future__ import annotations

import json
import sys
from typing import Any

from attrs import evolve
from rich.console import Console

from chatstream.bench.log import Log
from chatstream.bench.output.files import REPORTS, OutputError, Outputs
from chatstream.bench.output.folder import viewed, write_reports, write_vllm
from chatstream.bench.output.terminal import show_summary
from chatstream.bench.plan import Goals
from chatstream.bench.summary import Facts, summarised
from chatstream.cli.compare import saved_run
from chatstream.cli.exits import DONE, FAILED, UsageError, complain
from chatstream.cli.load import OutputOptions, outputs_of
from chatstream.cli.terminal import neutralise


def show_again(place: str, *, goals: Goals | None, output: OutputOptions) -> int:
    """Show and write what comes of a log that is there, and return the exit status.

    Raises ``UsageError`` if there is none.
    """
    outputs = outputs_of(output, REPORTS)
    saved = saved_run(place)
    if saved.target is not None:
        msg = f"a report is of all targets: give the folder without #, got {place}"
        raise UsageError(msg)
    facts = Facts() if saved.summary is None else Facts.in_summary(saved.summary)
    if goals is not None:
        facts = evolve(facts, goals=goals)
    summary = summarised(saved.log, facts)
    return DONE if deliver(saved.log, summary, outputs, output) else FAILED


def deliver(
    log: Log, summary: dict[str, Any], outputs: Outputs | None, output: OutputOptions
) -> bool:
    """Write and show what came of a run; return whether all could be written."""
    summary["definitions"] = viewed(log, summary, output.definitions)
    problem = None
    try:
        if outputs is not None:
            write_reports(outputs, log, summary)
        if output.save_vllm is not None:
            write_vllm(output.save_vllm, log, summary, overwrite=output.overwrite)
    except OutputError as error:
        problem = error
    _show(summary, as_json=output.as_json)
    if problem is not None:
        complain(str(problem))
    return problem is None


def _show(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    else:
        # A pipe has no width of its own, and rich would take 80.
        width = None if sys.stdout.isatty() else 120
        show_summary(summary, Console(highlight=False, width=width), neutralise)
    sys.stdout.flush()
