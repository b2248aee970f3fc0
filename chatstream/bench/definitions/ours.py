"""Our own metrics, with their formulas."""

from __future__ import annotations

from chatstream.bench.definitions.entries import Entries
from chatstream.bench.log import Log
from chatstream.bench.metrics import series
from chatstream.bench.plan import Goals
from chatstream.bench.stats import figure

_FORMULAS = {
    "time_to_first_byte": "first byte of the body − {origin}",
    "time_to_first_chunk": "first data event of any kind − {origin}",
    "time_to_first_token": "first event with text, reasoning, refusal, audio or a tool call's name "
    "or arguments − {origin}",
    "time_to_first_output": "first event with a token that isn't reasoning − {origin}",
    "duration": "last event with a token − {origin}",
    "stream_end": "end of the stream − {origin}",
    "time_per_output_token": "(last token − first token) / (N − n₁); N: the server's count, less "
    "reasoning that wasn't streamed; n₁: tokens in the first event, 1 where unknown",
    "dispatch_delay": "{origin} − scheduled",
    "inter_chunk_latency": "each gap between neighbouring events with tokens of one choice, pooled "
    "over requests",
    "prompt_tokens": "usage.prompt_tokens",
    "completion_tokens": "usage.completion_tokens",
    "reasoning_tokens": "usage.completion_tokens_details.reasoning_tokens",
}

_ORIGINS = {"_from_sent": "sent", "_from_schedule": "scheduled"}


def entries(log: Log, _: Goals | None) -> Entries:
    """Return the metrics of :func:`chatstream.bench.metrics.series`."""
    return {
        name: {
            **figure(found),
            "formula": _formula(name),
            "source": "chatstream/bench/metrics.py#series",
            "note": None,
        }
        for name, found in series(log).items()
    }


def _formula(name: str) -> str:
    for suffix, origin in _ORIGINS.items():
        if name.endswith(suffix):
            return _FORMULAS[name.removesuffix(suffix)].format(origin=origin)
    return _FORMULAS[name].format(origin="created")
