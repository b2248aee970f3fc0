"""``vllm bench serve`` with the backend ``openai-chat``."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from chatstream.bench.definitions.chunks import came_whole, chunks, gaps, mistaken
from chatstream.bench.definitions.entries import Entries, Formula, finite, per_second, seen, told
from chatstream.bench.log import Bools, Floats, Ints, Log
from chatstream.bench.metrics import Series, first, last
from chatstream.bench.plan import Goals
from chatstream.marks import NS


@frozen(eq=False, kw_only=True)
class VllmRequests:
    """What vLLM's client keeps of each request: seconds, NaN where it has none."""

    success: Bools
    start: Floats
    ttft: Floats
    latency: Floats
    itl: Series
    """The gaps of all requests, also of those that failed later."""
    prompt_len: Ints
    """0 where the server didn't say."""
    output_len: Ints
    """0 for those that failed."""
    queue_time: Floats
    duration: float
    """Of the run."""
    max_output_tokens_per_s: float

    @property
    def tpot(self) -> Floats:
        """Mean seconds per token after the first; NaN with less than two tokens."""
        return (self.latency - self.ttft) / np.where(
            self.output_len > 1, self.output_len - 1, np.nan
        )

    @property
    def pooled_itl(self) -> Floats:
        """The gaps of those that succeeded."""
        return self.itl.values[self.success[self.itl.owners]]

    @property
    def max_concurrent_requests(self) -> int:
        """The most requests that touch one of the seconds since the first start."""
        if not self.success.any():
            return 0
        begun = self.start[self.success] - self.start[self.success].min()
        ended = begun + self.latency[self.success]
        changes = np.zeros(int(ended.max()) + 2, np.int64)
        np.add.at(changes, begun.astype(np.int64), 1)
        np.add.at(changes, ended.astype(np.int64) + 1, -1)
        return int(np.cumsum(changes).max())

    def good(self, goals: Goals | None) -> int | None:
        """Count those that meet each goal that vLLM knows; ``None`` without such a goal."""
        if goals is None:
            return None
        limits = (
            (self.ttft, goals.time_to_first_token),
            (np.nan_to_num(self.tpot), goals.time_per_output_token),
            (self.latency, goals.duration),
        )
        met = [values <= limit for values, limit in limits if limit is not None]
        return int(np.sum(self.success & np.logical_and.reduce(met))) if met else None

    def totals(self, goals: Goals | None) -> dict[str, float | None]:
        """Return what the run amounts to, under vLLM's names."""
        completed = int(self.success.sum())
        inputs, outputs = int(self.prompt_len[self.success].sum()), int(self.output_len.sum())
        good = self.good(goals)
        return {
            "duration": self.duration,
            "completed": completed,
            "failed": len(self.success) - completed,
            "total_input_tokens": inputs,
            "total_output_tokens": outputs,
            "request_throughput": self._rate(completed),
            "request_goodput": None if good is None else self._rate(good),
            "output_throughput": self._rate(outputs),
            "total_token_throughput": self._rate(inputs + outputs),
            "max_output_tokens_per_s": self.max_output_tokens_per_s,
            "max_concurrent_requests": self.max_concurrent_requests,
        }

    def _rate(self, amount: int) -> float | None:
        return finite(per_second(amount, self.duration))


def vllm_requests(log: Log, *, role_chunks: bool = False) -> VllmRequests:
    """Return what vLLM's client would have kept of a log's requests.

    *role_chunks*: up to 0.32 any chunk with a choice was a token's, also the one with a role
    alone by which most servers begin, and the one with a finish reason alone.
    """
    counted = chunks(log)
    if not role_chunks:
        counted &= log.of_kinds("crte")
    ttft = first(log, counted) - log.created
    success = came_whole(log) & ~np.isnan(ttft)
    tokens = np.where(log.completion_tokens > 0, log.completion_tokens, 1)
    return VllmRequests(
        success=success,
        start=log.created,
        ttft=ttft,
        latency=np.where(success, last(log, counted) - log.created, np.nan),
        itl=gaps(log, counted),
        prompt_len=np.nan_to_num(log.prompt_tokens).astype(np.int64),
        output_len=np.where(success, tokens, 0).astype(np.int64),
        queue_time=log.created - log.scheduled,
        duration=float(log.end.max() - log.scheduled.min()) if len(log) else 0.0,
        max_output_tokens_per_s=_most_in_a_second(log, counted & success[log.owner], success),
    )


def _most_in_a_second(log: Log, counted: Bools, success: Bools) -> float:
    if not success.any():
        return 0.0
    start_ns = round(float(log.created[success].min()) * NS)
    return float(np.bincount((log.arrivals_ns[counted] - start_ns) // NS).max())


_METRICS = "vllm/benchmarks/serve.py#calculate_metrics"
_BENCHMARK = "vllm/benchmarks/serve.py#benchmark"
_CHAT = "vllm/benchmarks/lib/endpoint_request_func.py#async_request_openai_chat_completions"

_COUNTED = (
    "counted: a chunk whose first choice has content, reasoning or tool_calls, or content "
    '"" without a role'
)
_ANY = "counted: any chunk with a choice, also with a role or a finish reason alone"
_TTFT = "first counted chunk − start; "
_ITL = (
    "each gap between neighbouring counted chunks, whatever their choice and number of "
    "tokens, pooled over requests; "
)
_TPOT = "(latency − ttft) / (output_len − 1), where output_len > 1; "
_E2EL = "latency: last counted chunk − start; "
_OUTPUT_LEN = "output_len: usage.completion_tokens"
_REASONING = (
    "vLLM sees reasoning in `reasoning`, not in `reasoning_content`; the log has both as one."
)
_FINAL = "Up to 0.32 usage in a chunk with choices wasn't read; the log doesn't tell where it came."

_FORMULAS = {
    "ttft": Formula("s", _TTFT + _COUNTED, _CHAT, _REASONING),
    "tpot": Formula("s", _TPOT + _OUTPUT_LEN, _METRICS),
    "itl": Formula("s", _ITL + _COUNTED, _CHAT),
    "e2el": Formula("s", _E2EL + _COUNTED, _CHAT),
    "client_queue_time": Formula(
        "s",
        "start − when the request was due",
        _BENCHMARK,
        "Given by vLLM with --max-concurrency, if asked for.",
    ),
    "e2el_including_client_queue": Formula(
        "s",
        "latency + client_queue_time",
        _BENCHMARK,
        "Given by vLLM with --max-concurrency and --request-rate, if asked for.",
    ),
    "ttft_until_0.32": Formula("s", _TTFT + _ANY, _CHAT),
    "tpot_until_0.32": Formula("s", f"{_TPOT}{_ANY}; {_OUTPUT_LEN}", _METRICS, _FINAL),
    "itl_until_0.32": Formula("s", _ITL + _ANY, _CHAT),
    "e2el_until_0.32": Formula("s", _E2EL + _ANY, _CHAT),
    "duration": Formula(
        "s",
        "all requests are over − the run began",
        _BENCHMARK,
        "Here it begins when the first request was due; vLLM's waits for it as long as for others.",
    ),
    "completed": Formula("requests", "status 200, a counted chunk, and no broken transfer", _CHAT),
    "failed": Formula("requests", "all others", _METRICS),
    "total_input_tokens": Formula("tokens", "Σ usage.prompt_tokens of completed", _METRICS),
    "total_output_tokens": Formula("tokens", f"Σ output_len of completed; {_OUTPUT_LEN}", _METRICS),
    "request_throughput": Formula("requests/s", "completed / duration", _METRICS),
    "request_goodput": Formula(
        "requests/s",
        "completed with ttft, tpot (0 for one token) and latency up to their goals / duration",
        _METRICS,
        "vLLM has no goal for the first output.",
    ),
    "output_throughput": Formula("tokens/s", "total_output_tokens / duration", _METRICS),
    "total_token_throughput": Formula(
        "tokens/s", "(total_input_tokens + total_output_tokens) / duration", _METRICS
    ),
    "max_output_tokens_per_s": Formula(
        "tokens/s",
        "most counted chunks in one of the seconds since the first start",
        _METRICS,
        "Chunks, not tokens.",
    ),
    "max_concurrent_requests": Formula(
        "requests",
        "most requests that touch one of the seconds since the first start",
        _METRICS,
        "Also those that ended before the other began.",
    ),
}


def entries(log: Log, goals: Goals | None) -> Entries:
    """Return the metrics, those that changed with 0.33 as they were before, too."""
    now, before = vllm_requests(log), vllm_requests(log, role_chunks=True)
    error, error_before = mistaken(log, now.success), mistaken(log, before.success)
    output, output_before = _uncounted(log, now), _uncounted(log, before)
    queue, latency = now.queue_time[now.success], now.latency[now.success]
    notes = {
        "ttft": error,
        "tpot": output,
        "ttft_until_0.32": error_before,
        "tpot_until_0.32": output_before,
        "completed": error,
        "total_input_tokens": told(
            now.success & np.isnan(log.prompt_tokens),
            "came without usage and count 0 here; vLLM knows its prompts.",
        ),
        "total_output_tokens": output,
    }
    values = {
        "ttft": now.ttft[now.success],
        "tpot": seen(now.tpot),
        "itl": now.pooled_itl,
        "e2el": latency,
        "client_queue_time": queue,
        "e2el_including_client_queue": latency + queue,
        "ttft_until_0.32": before.ttft[before.success],
        "tpot_until_0.32": seen(before.tpot),
        "itl_until_0.32": before.pooled_itl,
        "e2el_until_0.32": before.latency[before.success],
    }
    found = {
        name: _FORMULAS[name].spread(each, notes.get(name, "")) for name, each in values.items()
    }
    for name, total in now.totals(goals).items():
        if name != "request_goodput" or now.good(goals) is not None:
            found[name] = _FORMULAS[name].value(total, len(queue), notes.get(name, ""))
    return found


def _uncounted(log: Log, requests: VllmRequests) -> str:
    return told(
        requests.success & ~(log.completion_tokens > 0),
        "came without usage and count as one token, as with vLLM without a tokenizer; with one "
        "it counts the text's tokens.",
    )
