"""``chatstream compare``: what changed from one run to another, and whether it may."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatstream.cli.exits import DONE, FAILED, UsageError, complain, needing
from chatstream.cli.terminal import neutralise

if TYPE_CHECKING:
    from chatstream.bench.compare import Comparison
    from chatstream.bench.saved import SavedRun

_OUTPUT = Group("Output", sort_key=10)

_STDOUT = Path("-")
_STYLES = {"worse": "red", "better": "green", "unclear": "dim", "same": ""}
_WIDTH = 140
"""Of what isn't a terminal: so that no table is folded."""


def compare(
    a: Annotated[str, Parameter(metavar="A")],
    b: Annotated[str, Parameter(metavar="B")],
    /,
    *,
    allow: Annotated[tuple[str, ...], Parameter(metavar="FIGURE:LIMIT")] = (),
    strict: bool = False,
    seed: int = 0,
    everything: Annotated[bool, Parameter(name="--all", group=_OUTPUT)] = False,
    markdown: Annotated[
        Path | None, Parameter(group=_OUTPUT, metavar="FILE", allow_leading_hyphen=True)
    ] = None,
    overwrite: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    as_json: Annotated[bool, Parameter(name="--json", group=_OUTPUT)] = False,
) -> int:
    """Compare two runs: what changed, how sure that is, and whether it is allowed.

    A is the run before, B the one after: folders written by `chatstream bench --out`, or
    their requests.jsonl. A run of several targets has each as `folder#name`.

    ```
    chatstream compare run1 run2
    chatstream compare run1 run2 --allow ttft.p99:5% --allow rps:3%
    chatstream compare run1 run2 --allow goodput:1% --strict --markdown comment.md
    chatstream compare run#old-model run#new-model
    ```

    Each change has a 95 % confidence interval, from resampling requests in blocks. If both
    runs asked the same (seed, workload and parameters), the same requests are drawn from
    both, so that neither prompts nor answers' lengths blur the change. How much a server
    differs from one hour to the next shows when two runs of the same are compared.

    The exit status is 0; 1 if a figure surely got worse by more than its --allow, which is
    to say that the whole interval lies beyond; 2 for wrong usage and unreadable runs.
    Without --allow nothing is held against the runs: some hundred figures are compared,
    and a few always seem changed by chance.

    Parameters
    ----------
    a
        The run before.
    b
        The run after.
    allow
        How much worse a figure may become: `ttft.p99:5%`, `icl.mean:2ms`, `rps:3%` or
        `tps:3%` of throughput; of `goodput` and `failed`, points of a percent. Statistics
        are mean, p50, p90, p95, p99 and p999. Repeatable.
    strict
        End with 1 also if a figure possibly got worse by more than is allowed, or if
        there is a warning: that the plans differ, a client was suspect, or requests too few.
    seed
        Decides which requests are drawn.
    everything
        Show every metric, not only the main ones and those with an --allow.
    markdown
        Write the comparison as Markdown there, for a comment on a change; `-` prints it.
    overwrite
        Let that file take the place of an earlier one.
    as_json
        Print the comparison as JSON, times in seconds.
    """
    with needing("bench"):  # numpy, which --help and other commands don't need
        from chatstream.bench.compare import compare as compared  # noqa: PLC0415
        from chatstream.bench.output.comparison import comparison_markdown, reasons  # noqa: PLC0415

    if as_json and markdown == _STDOUT:
        msg = "--json and --markdown - don't go together: both print"
        raise UsageError(msg)
    if markdown != _STDOUT and str(markdown).startswith("-"):
        msg = f"--markdown: expected a file, or - to print it, got {markdown}"
        raise UsageError(msg)
    limits = _limits(allow)
    comparison = compared(saved_run(a), saved_run(b), allow=limits, strict=strict, seed=seed)
    document = comparison_markdown(comparison, everything=everything)
    if markdown == _STDOUT:
        sys.stdout.write(document)
    elif markdown is not None:
        _write(markdown, document, overwrite=overwrite)
    if as_json:
        sys.stdout.write(json.dumps(comparison.to_dict(), indent=2) + "\n")
    elif markdown != _STDOUT:
        _show(comparison, everything=everything)
    for reason in reasons(comparison):
        complain(reason)
    return FAILED if comparison.failed else DONE


def _limits(texts: Iterable[str]) -> dict[str, str]:
    """Return the limits by figure. Raises ``UsageError``."""
    limits: dict[str, str] = {}
    for text in texts:
        figure, colon, limit = text.rpartition(":")
        if not colon or figure in limits:
            seen = f"two limits for {figure}" if colon else f'"{text}"'
            msg = f"--allow: expected FIGURE:LIMIT, such as ttft.p99:5%, got {seen}"
            raise UsageError(msg)
        limits[figure] = limit
    return limits


def saved_run(place: str) -> SavedRun:
    """Return a run. Raises ``UsageError``."""
    from chatstream.bench.log import LogError  # noqa: PLC0415 needs the extra
    from chatstream.bench.saved import SavedRunError, read_run  # noqa: PLC0415

    try:
        return read_run(place)
    except OSError as error:
        msg = f"can't read {error.filename or place}: {error.strerror or error}"
        raise UsageError(msg) from error
    except (LogError, SavedRunError) as error:
        raise UsageError(str(error)) from error


def _write(path: Path, document: str, *, overwrite: bool) -> None:
    """Write the Markdown. Raises ``UsageError``."""
    from chatstream.bench.output.files import OutputError, Outputs  # noqa: PLC0415

    try:
        Outputs(path.parent, overwrite=overwrite).write(path.name, document)
    except OutputError as error:
        msg = f"--markdown: {error}"
        raise UsageError(msg) from error


def _show(comparison: Comparison, *, everything: bool) -> None:
    """Print the table, the warnings before it and the notes after it."""
    from chatstream.bench.output.comparison import HEAD, comparison_rows, title  # noqa: PLC0415

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)

    def say(text: str, style: str = "") -> None:
        console.print(Text(neutralise(text), style), soft_wrap=True)

    say(f"A: {comparison.a}")
    say(f"B: {comparison.b}")
    for warning in comparison.warnings:
        say(f"warning: {warning}", "yellow")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("milliseconds")
    rows = comparison_rows(comparison, everything=everything)
    columns = len(HEAD) if any(row.cells[-1] for row in rows) else len(HEAD) - 1
    for heading in HEAD[:columns]:
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        table.add_row(row.label, *row.cells[:columns], style=_STYLES[row.verdict])
    console.print(table)
    for note in comparison.notes:
        say(note)
    say(title(comparison), "red" if comparison.failed else "")
