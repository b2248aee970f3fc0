"""MLPerf's loadgen in its server scenario, with token latencies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chatstream.bench.definitions.entries import Entries, Formula, per_second, seen, told
from chatstream.bench.log import Floats, Log
from chatstream.bench.metrics import first, last
from chatstream.bench.plan import Goals
from chatstream.bench.record import TOKENS
from chatstream.bench.stats import nearest_rank

RANKS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p97": 0.97, "p99": 0.99, "p999": 0.999}
_CONFIDENCE = 0.99

_RESULTS = "loadgen/results.cc"

_FORMULAS = {
    "TTFT": Formula(
        "s",
        "first token − scheduled",
        f"{_RESULTS}#ProcessTokenLatencies",
        "It comes when the system under test says so; here with the first event that has a token, "
        "be it reasoning's.",
    ),
    "TPOT": Formula(
        "s",
        "(sample_latency − TTFT) / (tokens − 1); tokens: usage.completion_tokens",
        "loadgen/logging.cc#RecordSampleCompletion",
    ),
    "sample_latency": Formula(
        "s",
        "sample complete − scheduled",
        f"{_RESULTS}#ProcessLatencies",
        "Here it is with the last token; a system under test may await the stream's end.",
    ),
    "completed_samples_per_second": Formula(
        "samples/s",
        "(samples − 1) / (the query issued last is complete − start)",
        f"{_RESULTS}#LogSummary",
    ),
    "completed_tokens_per_second": Formula(
        "tokens/s",
        "Σ tokens / (the query issued last is complete − start)",
        f"{_RESULTS}#LogSummary",
    ),
}


def entries(log: Log, goals: Goals | None) -> Entries:
    """Return the metrics, and of those with a goal whether loadgen would take them for met."""
    good = log.where(log.good)
    bearing = good.of_kinds(TOKENS)
    complete = last(good, bearing)
    ttft, latency = first(good, bearing) - good.scheduled, complete - good.scheduled
    tokens = np.where(good.completion_tokens > 1, good.completion_tokens, np.nan)
    values = {
        "TTFT": seen(ttft),
        "TPOT": seen((latency - ttft) / (tokens - 1)),
        "sample_latency": seen(latency),
    }
    targets: dict[str, float | None] = {}
    if goals is not None:
        targets = {"TTFT": goals.time_to_first_token, "TPOT": goals.time_per_output_token}
    failed = told(~log.good, "failed: left out. loadgen knows no failure, and would wait on.")
    single = told(
        ~np.isnan(latency) & np.isnan(tokens),
        "have one token, or no usage: left out. To loadgen that is an error.",
    )
    found = {
        name: _FORMULAS[name].entry(
            _ranked(each, targets.get(name)), single if name == "TPOT" else "", failed
        )
        for name, each in values.items()
    }
    seconds = math.nan
    if len(good):
        seconds = float(complete[np.argmax(good.scheduled)] - log.scheduled.min())
    samples = len(values["sample_latency"])
    rates = {
        "completed_samples_per_second": per_second(samples - 1, seconds),
        "completed_tokens_per_second": per_second(float(np.nansum(tokens)), seconds),
    }
    return found | {
        name: _FORMULAS[name].value(rate, samples, failed) for name, rate in rates.items()
    }


def _ranked(values: Floats, target: float | None) -> dict[str, Any]:
    """Return loadgen's statistics, and what its early stopping makes of them."""
    ordered, n = np.sort(values), len(values)
    found: dict[str, Any] = {"n": n, **dict.fromkeys(("mean", "min", "max", *RANKS))}
    if n:
        found |= {"mean": float(ordered.mean())}
        found |= {"min": float(ordered[0]), "max": float(ordered[-1])}
        found |= {name: nearest_rank(ordered, share) for name, share in RANKS.items()}
    found["early_stopping"] = {
        name: early_stopping_estimate(ordered, RANKS[name]) for name in ("p90", "p99")
    }
    if target is not None:
        over = int(np.sum(ordered > target))
        found["target"] = {
            "seconds": target,
            "over": over,
            "met": n > 0 and found["p99"] <= target,
            "early_stopping_met": _sure(n, over, RANKS["p99"]),
        }
    return found


def early_stopping_estimate(ordered: Floats, share: float) -> float | None:
    """Return what a percentile is below with 99 % confidence; ``None`` with too few values.

    The t-th highest value, with the greatest t ≥ 1 for which it had a chance below 1 % that
    at most t of n lie over the percentile. p90 takes 64 values, p99 662. As in
    ``loadgen/results.cc#EarlyStopping``, whose tolerance is 0.
    """
    sure = int(np.sum(_chances(len(ordered), share) < 1 - _CONFIDENCE))
    return float(ordered[len(ordered) - sure + 1]) if sure > 1 else None


def _sure(n: int, over: int, share: float) -> bool:
    """Whether so few over the target had a chance below 1 %, were the percentile over it."""
    chances = _chances(n, share)
    return over < len(chances) and bool(chances[over] < 1 - _CONFIDENCE)


def _chances(n: int, share: float) -> Floats:
    """Return the chances that at most 0, 1, 2, … of *n* lie over the percentile, up to the mean.

    The sums of the binomial distribution, by logarithms: share**n is too small for a float.
    """
    counts = np.arange(int(n * (1 - share)) + 1)
    ratios = np.log((n - counts[:-1]) / (counts[:-1] + 1)) + math.log((1 - share) / share)
    chances = np.exp(n * math.log(share) + np.concatenate(([0.0], np.cumsum(ratios))))
    return np.cumsum(chances)
