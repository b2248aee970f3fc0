"""Options of ``chatstream bench``: the load, the work, the outputs, the client."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import asdict, evolve, frozen
from cyclopts import Group, Parameter

from chatstream.bench.output.files import OutputError, Outputs
from chatstream.bench.plan import Goals, Load
from chatstream.bench.schedule import read_schedule
from chatstream.bench.sweep import Sweep, parse_sweep
from chatstream.bench.workers import Crew, Processes
from chatstream.bench.workload import (
    Conversation,
    Prompts,
    Synthetic,
    Turn,
    Workload,
    read_jsonl,
    read_sharegpt,
)
from chatstream.cli.exits import UsageError
from chatstream.cli.options import CONNECTION, REQUEST, Connection, RequestParameters

_LOAD = Group("Load", sort_key=10)
_WORK = Group("Work", sort_key=12)
_GOALS = Group("Goals", sort_key=14)
_OUTPUT = Group("Output", sort_key=16)
_CLIENT = Group("Client", sort_key=18)

_SECONDS = "SECONDS"


@Parameter(name="*", group=_LOAD)
@frozen(kw_only=True)
class LoadOptions:
    """How many requests, and when."""

    max_concurrency: Annotated[int | None, Parameter(name=["--max-concurrency", "-c"])] = None
    """So many at a time, each followed by the next at once; a ceiling where a rate is
    given. [default: 8 without a rate]"""

    request_rate: Annotated[float | None, Parameter(name=["--request-rate", "-r"])] = None
    """So many are due in a second, whatever the server does; `inf` is all at once."""

    burstiness: Annotated[float, Parameter(show_default=True)] = 1.0
    """1 is a Poisson process, below it comes in bursts, `inf` is evenly spaced."""

    ramp: Annotated[float, Parameter(metavar=_SECONDS)] = 0.0
    """Let rate or concurrency rise to their value in this time."""

    schedule: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Make requests at the times in this file: seconds, one a line, or JSON lines with a
    `timestamp` in milliseconds."""

    sweep: Annotated[str | None, Parameter(metavar="SPEC")] = None
    """One load after another: `rate=1:32` (doubled), `rate=1:32:6` (6 loads) or
    `concurrency=1,2,4,8`; finds the knee, and the best that meets the goals."""

    num_prompts: Annotated[int | None, Parameter(name=["--num-prompts", "-n"])] = None
    """Stop after so many. [default: 200 without --duration or --schedule]"""

    duration: Annotated[float | None, Parameter(metavar=_SECONDS)] = None
    """Make no new ones after this time; those under way are awaited."""

    warmup: Annotated[int, Parameter(name=["--warmup", "--num-warmups"])] = 0
    """The first so many are in no figure; the load doesn't pause after them."""

    def load(self) -> Load:
        """Return the load, of a sweep the first. Raises ``UsageError`` and ``RequestError``."""
        sweep = self.to_sweep()
        size: dict[str, Any] = {
            "max_concurrency": self.max_concurrency,
            "request_rate": self.request_rate,
            "schedule": self._schedule(),
        }
        if sweep is not None:
            size[sweep.over] = sweep.values[0]
        if set(size.values()) == {None}:
            size["max_concurrency"] = 8
        endless = (self.num_prompts, self.duration, self.schedule) == (None, None, None)
        return Load(
            **size,
            burstiness=self.burstiness,
            ramp=self.ramp,
            num_prompts=200 if endless else self.num_prompts,
            duration=self.duration,
            warmup=self.warmup,
        )

    def to_sweep(self) -> Sweep | None:
        """Return the sweep, if one is wanted. Raises ``UsageError`` and ``RequestError``."""
        if self.sweep is None:
            return None
        sweep = parse_sweep(self.sweep)
        if getattr(self, sweep.over) is not None:
            msg = f"--sweep and --{sweep.over.replace('_', '-')} don't go together: it is varied"
            raise UsageError(msg)
        return sweep

    def _schedule(self) -> tuple[float, ...] | None:
        if self.schedule is None:
            return None
        with _reading("--schedule", self.schedule):
            return read_schedule(self.schedule)


@Parameter(name="*", group=_WORK)
@frozen(kw_only=True)
class WorkOptions:
    """What is asked. Without any of these: synthetic prompts."""

    prompt: Annotated[str | None, Parameter(metavar="TEXT")] = None
    """Ask this, each time."""

    dataset: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Ask what is in this file: JSON lines with a `prompt`, `messages` or `turns` each, or
    ShareGPT's JSON (a name that ends in .json)."""

    shuffle: bool | None = None
    """Take the dataset's entries in another order (which the seed decides)."""

    max_turns: int | None = None
    """So many turns of each of ShareGPT's conversations. [default: 1]"""

    input_tokens: int | None = None
    """The length of a synthetic prompt: words, of about one token each. [default: 256]"""

    output_tokens: int | None = None
    """The length that is asked for, as max_tokens. [default: 128]"""

    length_spread: Annotated[float | None, Parameter(metavar="SHARE")] = None
    """Both lengths vary by up to this share, 0 to 1. [default: 0]"""

    prefix_tokens: int | None = None
    """A text of this length, shared by several prompts, comes before the prompt. [default: 0]"""

    prefixes: int | None = None
    """There are so many such texts. [default: 1]"""

    turns: int | None = None
    """Questions in a synthetic conversation, each with all that was said before. [default: 1]"""

    think_time: Annotated[float | None, Parameter(metavar=_SECONDS)] = None
    """The pause between an answer and the next question. [default: 0]"""

    def workload(self) -> Workload:
        """Return what is asked. Raises ``UsageError`` and ``RequestError``."""
        if self.prompt is not None:
            self._refuse_others("--prompt", "prompt")
            turn = Turn(messages=({"role": "user", "content": self.prompt},))
            return Prompts(conversations=(Conversation(turns=(turn,)),))
        if self.dataset is None:
            self._refuse_others("synthetic prompts", *_SYNTHETIC)
            return self._synthetic()
        sharegpt = self.dataset.suffix == ".json"
        known = ("dataset", "shuffle", "max_turns") if sharegpt else ("dataset", "shuffle")
        self._refuse_others(f"--dataset {self.dataset.name}", *known)
        with _reading("--dataset", self.dataset):
            if sharegpt:
                turns = 1 if self.max_turns is None else self.max_turns
                prompts = read_sharegpt(self.dataset, max_turns=turns)
            else:
                prompts = read_jsonl(self.dataset)
        return evolve(prompts, shuffle=bool(self.shuffle))

    def _refuse_others(self, what: str, *known: str) -> None:
        """Refuse options that this work knows nothing of. Raises ``UsageError``."""
        for name, value in asdict(self).items():
            if value is not None and name not in known:
                msg = f"--{name.replace('_', '-')} doesn't go with {what}"
                raise UsageError(msg)

    def _synthetic(self) -> Synthetic:
        given = {
            field: value
            for name, fields in _SYNTHETIC.items()
            for field in fields
            if (value := getattr(self, name)) is not None
        }
        return Synthetic(**{"input_tokens": 256, "output_tokens": 128, **given})


_SYNTHETIC = {
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "length_spread": ("input_spread", "output_spread"),
    "prefix_tokens": ("prefix_tokens",),
    "prefixes": ("prefixes",),
    "turns": ("turns",),
    "think_time": ("delay",),
}
"""The options that shape synthetic prompts, and what they are of them."""


@contextmanager
def _reading(option: str, path: Path) -> Iterator[None]:
    """Say whose file can't be read. Raises ``UsageError``."""
    try:
        yield
    except OSError as error:
        msg = f"{option}: can't read {path}: {error.strerror or error}"
        raise UsageError(msg) from error


@Parameter(name="*", group=_GOALS)
@frozen(kw_only=True)
class GoalOptions:
    """What makes a request good."""

    goodput: Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="GOAL")] = ()
    """What makes a request good, in milliseconds: `ttft:200 tpot:50 e2el:5000`, or the name
    of one of MLPerf's presets, such as `llama3.1-8b`."""

    attainment: Annotated[float | None, Parameter(metavar="SHARE")] = None
    """The share of requests that must be good. [default: 0.99]"""

    def goals(self) -> Goals | None:
        """Return the goals, if there are some. Raises ``UsageError`` and ``RequestError``."""
        from chatstream.bench.goodput import goals_from  # noqa: PLC0415 needs the extra

        if not self.goodput:
            if self.attainment is not None:
                msg = "--attainment is the share that keeps the goals: give --goodput too"
                raise UsageError(msg)
            return None
        return goals_from(self.goodput, 0.99 if self.attainment is None else self.attainment)


@Parameter(name="*", group=_OUTPUT)
@frozen(kw_only=True)
class OutputOptions:
    """Where the figures go, besides standard output."""

    out: Annotated[Path | None, Parameter(name=["--out", "-o"], metavar="DIR")] = None
    """Write summary.json, report.html and report.md there, beside a run's requests.jsonl."""

    overwrite: bool = False
    """Let files take the place of earlier ones."""

    save_vllm: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Write what `vllm bench serve --save-result --save-detailed` would."""

    definitions: Annotated[
        tuple[Literal["chatstream", "vllm", "aiperf", "mlperf", "otel"], ...],
        Parameter(consume_multiple=True),
    ] = ()
    """Show the figures by these tools' formulas, too."""

    as_json: Annotated[bool, Parameter(name="--json")] = False
    """Print summary.json's content instead of a table."""


@Parameter(name="*", group=_OUTPUT)
@frozen(kw_only=True)
class RunOutputOptions(OutputOptions):
    """The same of a run."""

    save_text: bool = False
    """Keep the answers' text in requests.jsonl, and show it in report.html."""


@Parameter(name="*", group=_CLIENT)
@frozen(kw_only=True)
class ClientOptions:
    """Who makes the load, and how it looks after itself."""

    workers: Annotated[str, Parameter(metavar="N|auto", show_default=True)] = "1"
    """So many processes; `auto` is one for each core but one."""

    cluster: Annotated[str | None, Parameter(metavar="ray://HOST:PORT|auto")] = None
    """Make the load from this Ray cluster, with --workers tasks."""

    no_calibration: bool = False
    """Don't measure the client itself before the load."""

    strict: bool = False
    """Exit with 1 unless the client was good enough for its figures."""

    metrics_url: Annotated[str | None, Parameter(metavar="URL")] = None
    """The server's Prometheus page, to put its own figures beside the client's."""

    def crew(self) -> Crew:
        """Return the workers. Raises ``UsageError``."""
        auto = self.workers == "auto"
        if not auto and not (self.workers.isdecimal() and int(self.workers) > 0):
            msg = f"--workers: expected a number from 1 on or auto, got {self.workers!r}"
            raise UsageError(msg)
        if self.cluster is not None:
            from chatstream.bench.cluster import Cluster  # noqa: PLC0415 needs the extra

            return Cluster(self.cluster, None if auto else int(self.workers))
        return Processes(max(1, _cores() - 1) if auto else int(self.workers))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@Parameter(name="*", group=REQUEST)
@frozen(kw_only=True)
class AskedParameters(RequestParameters):
    """The same parameters as for one request, where ``-n`` and ``--seed`` mean the load's."""

    n: Annotated[int | None, Parameter(name="--choices")] = None
    """How many answers to each request."""

    seed: Annotated[int | None, Parameter(name="--request-seed")] = None
    """Ask for the same answer each time."""


@Parameter(name="*", group=CONNECTION)
@frozen(kw_only=True)
class AskedServer(Connection):
    """The same server as for one request, which is asked once."""

    retries: Annotated[int, Parameter(show_default=True)] = 0
    """How often to try a request again; its latencies count from the first try."""


def outputs_of(output: OutputOptions, names: Sequence[str]) -> Outputs | None:
    """See that there is room for what will be written. Raises ``UsageError``."""
    if output.save_vllm is not None:
        path = output.save_vllm
        if output.out is not None and path.absolute() in (output.out.absolute() / n for n in names):
            msg = f"--save-vllm: {path} is what --out writes"
            raise UsageError(msg)
        with _named("--save-vllm"):
            Outputs(path.parent, overwrite=output.overwrite).check(path.name)
    if output.out is None:
        return None
    if find_spec("plotly") is None:
        raise ModuleNotFoundError(name="plotly")
    outputs = Outputs(output.out, overwrite=output.overwrite)
    with _named("--out"):
        outputs.check(*names)
    return outputs


@contextmanager
def _named(option: str) -> Iterator[None]:
    """Say which option asks for what can't be written. Raises ``UsageError``."""
    try:
        yield
    except OutputError as error:
        msg = f"{option}: {error}"
        raise UsageError(msg) from error
