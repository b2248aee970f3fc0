"""aiperf with ``--use-server-token-count``: by default it counts with a tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from chatstream.bench.definitions.chunks import came_whole, chunks, first_places, gaps, mistaken
from chatstream.bench.definitions.entries import Entries, Formula, finite, per_second, seen, told
from chatstream.bench.log import Bools, Floats, Ints, Log
from chatstream.bench.metrics import Series, first, last
from chatstream.bench.plan import Goals

PERCENTILES = {
    "p1": 1.0,
    "p5": 5.0,
    "p10": 10.0,
    "p25": 25.0,
    "p50": 50.0,
    "p75": 75.0,
    "p90": 90.0,
    "p95": 95.0,
    "p99": 99.0,
}

_TYPES = "src/aiperf/metrics/types"
_COUNTS = "The server's count, as with --use-server-token-count; by default aiperf tokenizes."

_FORMULAS = {
    "time_to_first_token": Formula(
        "s",
        "first content chunk − start; content: text, reasoning, or a tool call's name or arguments "
        "in the chunk's first choice",
        f"{_TYPES}/ttft_metric.py#TTFTMetric",
    ),
    "time_to_second_token": Formula(
        "s", "second content chunk − first", f"{_TYPES}/ttst_metric.py#TTSTMetric"
    ),
    "time_to_first_output_token": Formula(
        "s",
        "first content chunk with text or a tool call − start",
        f"{_TYPES}/time_to_first_output_token_metric.py#TimeToFirstOutputTokenMetric",
    ),
    "request_latency": Formula(
        "s",
        "last content chunk − start",
        f"{_TYPES}/request_latency_metric.py#RequestLatencyMetric",
    ),
    "inter_token_latency": Formula(
        "s",
        "(request_latency − time_to_first_token) / (output_sequence_length − tokens in the first "
        "content chunk, 1 where unknown), where output_sequence_length ≥ 2",
        f"{_TYPES}/inter_token_latency_metric.py#InterTokenLatencyMetric",
    ),
    "inter_chunk_latency": Formula(
        "s",
        "each gap between neighbouring content chunks, whatever their choice, pooled over requests",
        f"{_TYPES}/inter_chunk_latency_metric.py#InterChunkLatencyMetric",
        "Percentiles are exact here; aiperf's are a t-digest's.",
    ),
    "output_token_throughput_per_user": Formula(
        "tokens/s/user",
        "1 / inter_token_latency",
        f"{_TYPES}/output_token_throughput_metrics.py#OutputTokenThroughputPerUserMetric",
    ),
    "e2e_output_token_throughput": Formula(
        "tokens/s/user",
        "output_sequence_length / request_latency",
        f"{_TYPES}/e2e_output_throughput_metric.py#E2EOutputTokenThroughputMetric",
    ),
    "output_sequence_length": Formula(
        "tokens",
        "usage.completion_tokens, reasoning included",
        f"{_TYPES}/output_sequence_length_metric.py#OutputSequenceLengthMetric",
        _COUNTS,
    ),
    "input_sequence_length": Formula(
        "tokens",
        "usage.prompt_tokens",
        f"{_TYPES}/input_sequence_length_metric.py#InputSequenceLengthMetric",
        _COUNTS,
    ),
    "benchmark_duration": Formula(
        "s",
        "last content chunk of any request − first start",
        f"{_TYPES}/benchmark_duration_metric.py#BenchmarkDurationMetric",
    ),
    "request_count": Formula(
        "requests",
        "requests with a content chunk and without an error",
        f"{_TYPES}/request_count_metric.py#RequestCountMetric",
    ),
    "error_request_count": Formula(
        "requests", "all others", f"{_TYPES}/error_request_count.py#ErrorRequestCountMetric"
    ),
    "request_throughput": Formula(
        "requests/s",
        "request_count / benchmark_duration",
        f"{_TYPES}/request_throughput_metric.py#RequestThroughputMetric",
    ),
    "output_token_throughput": Formula(
        "tokens/s",
        "Σ output_sequence_length / benchmark_duration",
        f"{_TYPES}/output_token_throughput_metrics.py#OutputTokenThroughputMetric",
    ),
    "total_token_throughput": Formula(
        "tokens/s",
        "(Σ input_sequence_length + Σ output_sequence_length) / benchmark_duration",
        f"{_TYPES}/total_token_throughput.py#TotalTokenThroughputMetric",
    ),
    "goodput": Formula(
        "requests/s",
        "requests that meet every goal / benchmark_duration; one without the metric doesn't",
        f"{_TYPES}/goodput_metric.py#GoodputMetric",
    ),
    "good_request_fraction": Formula(
        "1",
        "requests that meet every goal / (request_count + error_request_count)",
        f"{_TYPES}/good_request_fraction_metric.py#GoodRequestFractionMetric",
    ),
}

_ADJUSTED = ("time_to_first_token", "request_latency", "inter_token_latency")
"""The latencies that aiperf also gives with failed requests in them."""


def entries(log: Log, goals: Goals | None) -> Entries:
    """Return the metrics of those requests that aiperf takes for valid."""
    content = chunks(log) & log.of_kinds("crt")
    ttft = first(log, content) - log.created
    valid = came_whole(log) & ~np.isnan(ttft)

    def of_valid(values: Floats) -> Floats:
        return np.where(valid, values, np.nan)

    ttft, latency = of_valid(ttft), of_valid(last(log, content) - log.created)
    # Visible tokens and reasoning's are told apart and added up again.
    osl = of_valid(np.fmax(log.completion_tokens, log.reasoning_tokens))
    bundled = _first_tokens(log, content)
    itl = (latency - ttft) / _later_tokens(osl, bundled)
    apart = gaps(log, content)
    per_request = {
        "time_to_first_token": ttft,
        "time_to_second_token": _first_of_each(apart, valid),
        "time_to_first_output_token": of_valid(
            first(log, content & log.of_kinds("ct")) - log.created
        ),
        "request_latency": latency,
        "inter_token_latency": itl,
        "output_token_throughput_per_user": 1 / np.where(itl > 0, itl, np.nan),
        "e2e_output_token_throughput": osl / np.where(latency > 0, latency, np.nan),
        "output_sequence_length": osl,
        "input_sequence_length": of_valid(log.prompt_tokens),
    }
    notes = {
        "time_to_first_token": mistaken(log, valid),
        "inter_token_latency": told(
            valid & (bundled > 0),
            "have the server's count at the first chunk; it is taken off as with "
            "--per-chunk-usage, without which aiperf takes off 1.",
        ),
        "output_sequence_length": told(valid & np.isnan(osl), "came without usage: left out."),
    }
    values = {name: seen(each) for name, each in per_request.items()}
    values["inter_chunk_latency"] = apart.values[valid[apart.owners]]
    found = {
        name: _FORMULAS[name].spread(each, notes.get(name, ""), percentiles=PERCENTILES)
        for name, each in values.items()
    }
    seconds = _seconds(log.created[valid], latency[valid])
    found |= _totals(values, seconds, int(np.sum(~valid)))
    found |= _adjusted(values, int(np.sum(~valid)))
    return found | _goodput(per_request, goals, seconds)


def _first_tokens(log: Log, content: Bools) -> Ints:
    """Return the server's count at each request's first content chunk, -1 if unknown."""
    return np.append(log.tokens, -1)[first_places(log, content)]


def _later_tokens(osl: Floats, bundled: Ints) -> Floats:
    """Return the tokens after the first chunk; NaN with less than two in all."""
    later = np.where((bundled > 0) & (osl - bundled >= 1), osl - bundled, osl - 1)
    return np.where(osl > 1, later, np.nan)


def _first_of_each(apart: Series, valid: Bools) -> Floats:
    return apart.values[(np.diff(apart.owners, prepend=-1) > 0) & valid[apart.owners]]


def _seconds(start: Floats, latency: Floats) -> float:
    return float((start + latency).max() - start.min()) if len(start) else math.nan


def _totals(values: Mapping[str, Floats], seconds: float, failed: int) -> Entries:
    count = len(values["time_to_first_token"])
    outputs = float(values["output_sequence_length"].sum())
    inputs = float(values["input_sequence_length"].sum())
    totals = {
        "benchmark_duration": seconds,
        "request_count": count,
        "error_request_count": failed,
        "request_throughput": per_second(count, seconds),
        "output_token_throughput": per_second(outputs, seconds),
        "total_token_throughput": per_second(inputs + outputs, seconds),
    }
    return {name: _FORMULAS[name].value(total, count) for name, total in totals.items()}


def _adjusted(values: Mapping[str, Floats], failed: int) -> Entries:
    """Return the latencies with each failed request taken for an endless one."""
    found: Entries = {}
    for name in _ADJUSTED if failed else ():
        formula = Formula(
            "s",
            f"{name}, and ∞ for each failed request; percentiles are the nearest value",
            "src/aiperf/metrics/derived_latency.py#inject_adjusted_latency_metrics",
            "null is ∞.",
        )
        endless = np.concatenate((values[name], np.full(failed, np.inf)))
        nearest = np.percentile(endless, list(PERCENTILES.values()), method="nearest")
        figures = {
            "n": len(endless),
            "mean": None,
            "min": finite(float(endless.min())),
            "max": None,
        }
        figures |= zip(PERCENTILES, map(finite, nearest.tolist()), strict=True)
        found[f"adj_{name}"] = formula.entry(figures)
    return found


def _goodput(per_request: Mapping[str, Floats], goals: Goals | None, seconds: float) -> Entries:
    if goals is None or not goals.limits():
        return {}
    limits = {
        "time_to_first_token": goals.time_to_first_token,
        "time_to_first_output_token": goals.time_to_first_output,
        "inter_token_latency": goals.time_per_output_token,
        "request_latency": goals.duration,
    }
    met = [per_request[name] <= limit for name, limit in limits.items() if limit is not None]
    attempted = len(met[0])
    good = int(np.sum(np.logical_and.reduce(met)))
    return {
        "goodput": _FORMULAS["goodput"].value(per_second(good, seconds), attempted),
        "good_request_fraction": _FORMULAS["good_request_fraction"].value(
            good / attempted if attempted else 0.0, attempted
        ),
    }
