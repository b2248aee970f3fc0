"""``chatstream report``: the figures of a run, from its log."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from chatstream.cli.exits import needing
from chatstream.cli.load import GoalOptions, OutputOptions


def report(
    run: Annotated[str, Parameter(metavar="RUN")],
    /,
    *,
    goals: GoalOptions = GoalOptions(),  # noqa: B008 frozen
    output: OutputOptions = OutputOptions(),  # noqa: B008 frozen
) -> int:
    """Show a run again, by other goals than its own, or by other tools' definitions.

    Everything is computed anew from the log. That of a run that was killed is read up to
    its last whole line.

    ```
    chatstream report run1
    chatstream report run1 --definitions vllm aiperf
    chatstream report run1 --goodput ttft:200 tpot:50 --out run1-goals
    chatstream report requests.jsonl --json
    ```

    The exit status is 0, 1 if a file can't be written, or 2 if there is no run to be read.

    Parameters
    ----------
    run
        A folder written by `chatstream bench --out`, or its requests.jsonl.
    """
    with needing("bench"):  # numpy and others, which --help and other commands don't need
        from chatstream.cli.delivery import show_again  # noqa: PLC0415

        return show_again(run, goals=goals.goals(), output=output)
