"""Benchmarks of servers as they are run from a shell, and what they report of each request."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from chatstream.bench.record import TOKENS

SECONDS_PER_RUN = 180

NS = 1e9
MS = 1e3


class ToolError(Exception):
    """A tool that failed, with its last words."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """How a server is asked: so many streams at a time, each answer followed by a request."""

    streams: int
    gap: float
    count_to: int
    requests: int
    ramp: float = 0.0
    """Seconds in which the streams begin."""
    workers: int = 1
    """Processes that chatstream makes the load from; aiperf decides that by itself."""

    @property
    def prompt(self) -> str:
        """What is asked."""
        return f"Count to {self.count_to}"

    @property
    def tokens(self) -> int:
        """Chunks with text, in one answer."""
        return 2 * self.count_to - 1


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a tool reports of one request; seconds."""

    key: str
    """The server's name for it, or the client's."""
    first: float
    """Its time to first token."""
    waited: float | None
    """What it reports of the time from having sent the request on."""
    late: Callable[[int], float]
    """How long after it was written, in ``perf_counter_ns``, the first token arrived."""
    gaps: list[float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a tool reports of a run."""

    heard: list[Heard]
    first: dict[str, float]
    """Of its time to first token: ``mean``, ``p50``, ``p99``."""
    waited: dict[str, float]
    beyond: float
    """Seconds it took beyond its load, and what it calls calibration."""


def chatstream(url: str, level: Level, folder: Path) -> Report:
    """Run ``chatstream bench`` as it comes, but for its length."""
    out = folder / "out"
    command = [sys.executable, "-m", "chatstream", "bench", "--base-url", url]
    command += ["--model", "simulated", "--prompt", level.prompt, "--out", str(out)]
    command += ["--max-concurrency", str(level.streams), "--num-prompts", str(level.requests)]
    command += ["--ramp", str(level.ramp), "--workers", str(level.workers)]
    took = _run(command, {"OPENAI_API_KEY": "none"}, folder)
    summary = json.loads((out / "summary.json").read_bytes())
    metrics = summary["metrics"]
    with (out / "requests.jsonl").open("rb") as lines:
        heard = [record for line in lines if (record := _of_record(json.loads(line)))]
    return Report(
        heard=heard,
        first=_told(metrics["time_to_first_token"], "mean", 1.0),
        waited=_told(metrics["time_to_first_token_from_sent"], "mean", 1.0),
        beyond=took - summary["load_seconds"] - (summary["calibration_seconds"] or 0.0),
    )


def _of_record(record: dict[str, Any]) -> Heard | None:
    """Read a line of ``requests.jsonl``; ``None`` for a request without a token."""
    places = [place for place, kind in enumerate(record.get("kinds", "")) if kind in TOKENS]
    if not places:
        return None
    arrivals = [record["arrivals_ns"][place] for place in places]
    # The run's clock begins with the run; the server's stamps in the chunks came with it.
    late = (arrivals[0] - record["truth_ns"][places[0]]) / NS
    return Heard(
        key=record["request_id"],
        first=(arrivals[0] - record["created_ns"]) / NS,
        waited=(arrivals[0] - record["sent_ns"]) / NS,
        late=lambda _: late,
        gaps=[(b - a) / NS for a, b in pairwise(arrivals)],
    )


def aiperf(program: Path) -> Callable[[str, Level, Path], Report]:
    """Return what runs aiperf, which wants an environment of its own."""

    def run(url: str, level: Level, folder: Path) -> Report:
        out, prompts, tokenizer = folder / "out", folder / "prompts.jsonl", folder / "tokenizer"
        # It wants one, also where the server counts.
        _run([str(program.parent / "python"), "-c", _TOKENIZER, str(tokenizer)], {}, folder)
        prompts.write_text(f"{json.dumps({'text': level.prompt})}\n" * 50, encoding="ascii")
        command = [str(program), "profile", "--model", "simulated"]
        command += ["--url", url.removesuffix("/v1"), "--endpoint-type", "chat", "--streaming"]
        command += ["--tokenizer", str(tokenizer), "--use-server-token-count"]
        command += ["--input-file", str(prompts), "--custom-dataset-type", "single_turn"]
        command += ["--concurrency", str(level.streams), "--request-count", str(level.requests)]
        if level.ramp:
            command += ["--concurrency-ramp-duration", str(level.ramp)]
        command += ["--no-server-metrics", "--no-gpu-telemetry", "--ui", "none"]
        # Its times are the wall clock's; what the wall clock is ahead may change meanwhile.
        ahead = time.time_ns() - time.perf_counter_ns()
        took = _run([*command, "--artifact-dir", str(out)], {}, folder)
        ahead = (ahead + time.time_ns() - time.perf_counter_ns()) // 2
        summary = json.loads((out / "profile_export_aiperf.json").read_bytes())
        with (out / "profile_export.jsonl").open("rb") as lines:
            heard = [record for line in lines if (record := _of_export(json.loads(line), ahead))]
        return Report(
            heard=heard,
            first=_told(summary["time_to_first_token"], "avg", MS),
            waited=_told(summary["http_req_waiting"], "avg", MS),
            beyond=took - summary["benchmark_duration"]["avg"],
        )

    return run


def _of_export(line: dict[str, Any], ahead: int) -> Heard | None:
    """Read a line of ``profile_export.jsonl``; ``None`` for a request without a token."""
    about, metrics = line["metadata"], line["metrics"]
    if "time_to_first_token" not in metrics:
        return None
    first = metrics["time_to_first_token"]["value"] / MS
    started = about["request_start_ns"] - ahead
    return Heard(
        key=about["x_request_id"],
        first=first,
        waited=metrics["http_req_waiting"]["value"] / MS,
        late=lambda sent_ns: (started - sent_ns) / NS + first,
        gaps=[gap / MS for gap in metrics["inter_chunk_latency"]["value"]],
    )


def _told(figure: dict[str, float], mean: str, per_second: float) -> dict[str, float]:
    """Return a figure of a summary in seconds, its mean under one name."""
    names = {"mean": mean, "p50": "p50", "p99": "p99"}
    return {name: figure[theirs] / per_second for name, theirs in names.items()}


_TOKENIZER = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
bpe = models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[])
tokenizer = Tokenizer(bpe)
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(sys.argv[1])
"""


def _run(command: list[str], environment: dict[str, str], folder: Path) -> float:
    """Run a command to its end; returns the seconds it took. Raises ``ToolError``."""
    log = folder / "output.txt"
    began = time.perf_counter()
    with log.open("wb") as output:
        try:
            done = subprocess.run(  # noqa: S603 what the caller asked for
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                timeout=SECONDS_PER_RUN,
                check=False,
            )
        except subprocess.TimeoutExpired:
            msg = f"not done after {SECONDS_PER_RUN} s"
            raise ToolError(msg) from None
    took = time.perf_counter() - began
    if done.returncode:
        words = [*_words(log), f"status {done.returncode}"]
        raise ToolError(words[0])
    return took


def _words(log: Path) -> Iterator[str]:
    """Yield the lines of an output that say something, the last first."""
    for line in reversed(log.read_text("utf-8", "replace").splitlines()):
        if re.search(r"\w", line):
            yield line.strip()
