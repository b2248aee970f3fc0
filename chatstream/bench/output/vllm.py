"""A run as ``vllm bench serve --save-result --save-detailed`` would have written it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from chatstream.bench.definitions.entries import seen
from chatstream.bench.definitions.vllm import VllmRequests, vllm_requests
from chatstream.bench.log import Floats, Log
from chatstream.bench.plan import goals_from_json

PERCENTILES = ("50", "90", "95", "99", "99.9")
"""Given of each metric, as with ``--metric-percentiles``; without it vLLM gives 99."""

_BACKEND = "openai-chat"
_UNCOUNTED = "Never received a valid chunk to calculate TTFT."


def vllm_result(log: Log, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return vLLM's keys in its order, with values by its definitions.

    As with ``--percentile-metrics ttft,tpot,itl,e2el``; without it vLLM leaves e2el out.
    Of a sweep it is the load that the summary shows. What vLLM takes from its tokenizer and
    its dataset is told by the server or is 0, as is a latency that wasn't observed: vLLM's
    readers expect numbers. ``start_times`` are seconds since the run began.
    """
    plan, stages, shown = summary["plan"], summary["stages"], summary["shown"]
    load = None if plan is None else plan["load"]
    if stages:  # else it is no sweep, or one that was ended before its first load
        load = stages[shown]["load"]
    log = log.where(~log.warmup & (log.stage == shown))
    goals = None if plan is None or plan["goals"] is None else goals_from_json(plan["goals"])
    requests = vllm_requests(log)
    totals = requests.totals(goals)
    # These two follow the lists.
    peaks = {
        name: totals.pop(name) for name in ("max_output_tokens_per_s", "max_concurrent_requests")
    }
    return {
        **_setup(log, summary, load or {}),
        **totals,
        **_details(log, requests),
        **peaks,
        "rtfx": 0.0,
        **_statistics("ttft", requests.ttft[requests.success]),
        **_statistics("tpot", seen(requests.tpot)),
        **_statistics("itl", requests.pooled_itl),
        **_statistics("e2el", requests.latency[requests.success]),
    }


def _setup(log: Log, summary: Mapping[str, Any], load: Mapping[str, Any]) -> dict[str, Any]:
    started = summary["started"]
    targets = () if summary["plan"] is None else summary["plan"]["targets"]
    rate = load.get("request_rate")
    return {
        "date": started and f"{datetime.fromisoformat(started):%Y%m%d-%H%M%S}",
        "endpoint_type": _BACKEND,
        "backend": _BACKEND,
        "label": None,
        "model_id": ",".join(dict.fromkeys(target["model"] for target in targets)) or None,
        "tokenizer_id": None,
        "num_prompts": load.get("num_prompts") or len(log),
        # vLLM's closed load is one that is all due at once, under a ceiling.
        "request_rate": "inf" if rate is None else rate,
        "burstiness": load.get("burstiness", 1.0),
        "max_concurrency": load.get("max_concurrency"),
    }


def _details(log: Log, requests: VllmRequests) -> dict[str, Any]:
    """Return the lists that have one entry for each request."""
    starts = np.searchsorted(requests.itl.owners, np.arange(1, len(log)))
    itls = np.split(requests.itl.values, starts) if len(log) else []
    return {
        "input_lens": requests.prompt_len.tolist(),
        "output_lens": requests.output_len.tolist(),
        "ttfts": np.nan_to_num(requests.ttft).tolist(),
        "itls": [gaps.tolist() for gaps in itls],
        "latencies": np.nan_to_num(requests.latency).tolist(),
        "start_times": requests.start.tolist(),
        "queue_times": requests.queue_time.tolist(),
        "generated_texts": [
            (success and text) or ""
            for success, text in zip(requests.success.tolist(), log.text, strict=True)
        ],
        "errors": [
            "" if success else _error(log, place) for place, success in enumerate(requests.success)
        ],
    }


def _error(log: Log, place: int) -> str:
    if log.error[place]:
        return f"{log.error[place]}: {log.detail[place]}"
    return _UNCOUNTED if log.good[place] else str(log.verdict[place])


def _statistics(name: str, values: Floats) -> dict[str, float]:
    """Return a metric's statistics in milliseconds; 0 without a value, as vLLM has it."""
    values = values * 1000 if len(values) else np.zeros(1)
    return {
        f"mean_{name}_ms": float(values.mean()),
        f"median_{name}_ms": float(np.median(values)),
        f"std_{name}_ms": float(values.std()),
        **{f"p{word}_{name}_ms": float(np.percentile(values, float(word))) for word in PERCENTILES},
    }
