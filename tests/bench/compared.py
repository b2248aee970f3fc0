"""Runs to compare: requests of given latencies, and the summary they may have."""

import numpy as np
import orjson

from chatstream.bench.log import Log
from chatstream.bench.output.files import LOG, SUMMARY
from chatstream.bench.plan import Load, load_to_json
from chatstream.bench.saved import SavedRun
from chatstream.bench.summary import PLACE, SCHEMA
from tests.bench.records import record

LOAD = load_to_json(Load(max_concurrency=8, num_prompts=100))
PLAN = {
    "load": LOAD,
    "goals": None,
    "seed": 0,
    "workload": {"kind": "synthetic", "input_tokens": 256},
    "params": {},
    "extra_body": {},
    "timeouts": {"idle": 60},
    "attempts": 1,
}
GOALS = {"goals": {"time_to_first_token": 0.2}, "wanted": 0.99}


def plan(**changes):
    return PLAN | changes


def target(name="", model="m"):
    return {"name": name, "model": model}


def summary(**changes):
    """What of a summary a comparison looks at."""
    return {
        "schema": SCHEMA,
        **dict.fromkeys(PLACE),
        "plan": PLAN,
        "client": {"verdict": "ok", "reasons": [], "calibration": None},
        "server": None,
        "goodput": None,
        "interrupted": False,
        "workers": [{"worker": 0, "lost": False}],
        "targets": [target()],
        "stages": [],
        "shown": 0,
        "sweep": None,
    } | changes


def answers(latencies, *, gap=0.01, chunks=4, **facts):
    """Requests, one a tenth of a second, whose first tokens came after these latencies.

    One whose latency is NaN failed.
    """
    return [
        record(created=place / 10, end=place / 10 + 1, number=place, verdict="timeout", **facts)
        if np.isnan(latency)
        else record(
            *(place / 10 + latency + gap * chunk for chunk in range(chunks)),
            created=place / 10,
            number=place,
            sent=place / 10,
            **({"completion_tokens": chunks} | facts),
        )
        for place, latency in enumerate(latencies)
    ]


def run_of(latencies, name="run", *, told=..., **facts):
    """A run whose first tokens came after these latencies."""
    log = Log.of(answers(latencies, **facts))
    return SavedRun(name=name, log=log, summary=summary() if told is ... else told)


def saved(folder, records, told=...):
    """Write a run into a folder, as ``chatstream bench --out`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).write_bytes(b"".join(each.to_line() for each in records))
    if told is not None:
        (folder / SUMMARY).write_bytes(orjson.dumps(summary() if told is ... else told))
    return folder


def skewed(count, seed=0, scale=0.1, width=0.3):
    """Latencies with the long tail that those of servers have."""
    return scale * np.exp(width * np.random.default_rng(seed).standard_normal(count))
