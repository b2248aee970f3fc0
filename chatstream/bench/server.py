"""What the server says of itself: its Prometheus page, read before the load and after.

A client sees how long it waited; how much of that was the server's queue, only the server
knows. Its page tells it since its start, so two readings are needed: what lies between
them is the load's.

Pages differ. These are known, from what their makers write of them:

============= ============================================================================
vLLM          ``vllm/v1/metrics/loggers.py``; finish reasons in ``vllm/v1/engine``
SGLang        ``python/sglang/srt/observability/metrics_collector.py``
TGI           ``docs/source/reference/metrics.md``; failures in ``router/src/infer``
llama.cpp     ``tools/server/README.md``: totals, without a count of requests
TensorRT-LLM  ``tensorrt_llm/metrics/collector.py``; older ones through Dynamo had a colon
Dynamo        its Metrics Catalog; ``inflight`` holds the waiting ones too
Triton        ``docs/user_guide/metrics.md``: totals in microseconds
============= ============================================================================

A percentile out of a histogram is a guess: all that is known is the bucket it fell into,
and the rest is a straight line through it. vLLM's first bucket for the time in its queue
ends at 0.3 s, so the median of requests that never waited comes out as 0.15 s. That is
why ``bounds`` stands beside each percentile. Means are exact.
"""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from attrs import Factory, field, frozen

from chatstream.errors import one_line
from chatstream.marks import NS

LARGEST_PAGE = 8 * 1024 * 1024
"""Bytes of a page; more isn't read."""

_LONGEST_LINE = 4096
_MOST_MODELS = 20
_MOST_NAMES = 10
_MICROSECOND = 1e-6

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

Labels: TypeAlias = frozenset[tuple[str, str]]
Samples: TypeAlias = dict[str, dict[Labels, float]]
Figure: TypeAlias = dict[str, Any]


@frozen
class Page:
    """What came of asking for a page."""

    url: str
    """Host and path; a user, a password or a query may be secret."""
    taken_ns: int
    text: str = field(default="", repr=False)
    note: str | None = None
    """Why there is no text."""


class ServerWatch:
    """Looks at a server's page twice, and tells what lies between."""

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, timeout: float = 10.0
    ) -> None:
        self._url = url
        self._headers = headers or {}
        self._timeout = timeout
        self._pages: list[Page] = []

    async def look(self) -> None:
        """Read the page as it is now. ``ModuleNotFoundError`` without the extra ``bench``."""
        self._pages.append(await fetch(self._url, self._headers, self._timeout))

    def figures(self) -> Figure:
        """Return what lies between the first look and the last, see :func:`difference`."""
        return difference(self._pages[0], self._pages[-1])


# --- Reading a page ----------------------------------------------------------------


class _NoPageError(Exception):
    """What came instead of a page."""


async def fetch(
    url: str,
    headers: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 aiohttp's own, which tells its time-outs apart
) -> Page:
    """Ask for a page. What goes wrong is told in its ``note``.

    Raises ``ModuleNotFoundError`` without the extra ``bench``: better before the load than
    after it.
    """
    _parser()
    host, shown = _without_secrets(url)
    text, why = "", None
    try:
        text = await _text(url, headers, timeout)
    except _NoPageError as error:
        why = str(error)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        why = _reason(error, timeout)
    note = None if why is None else f"{host} gave no metrics: {why}"
    return Page(shown, time.perf_counter_ns(), text, note)


async def _text(url: str, headers: Mapping[str, str], timeout: float) -> str:  # noqa: ASYNC109 see fetch
    plain = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}
    limits = aiohttp.ClientTimeout(total=timeout)
    async with (
        aiohttp.ClientSession(timeout=limits) as http,
        # A redirect would take the headers elsewhere, and they may hold a key.
        http.get(url, headers={**plain, **headers}, allow_redirects=False) as response,
    ):
        if response.status != 200:  # noqa: PLR2004
            redirect = " (redirects aren't followed)" if 300 <= response.status < 400 else ""  # noqa: PLR2004
            msg = f"it answered with status {response.status}{redirect}"
            raise _NoPageError(msg)
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > LARGEST_PAGE:
                msg = f"the page is larger than {LARGEST_PAGE // 1024**2} MiB"
                raise _NoPageError(msg)
        return body.decode("utf-8", "replace")


def _reason(error: Exception, timeout: float) -> str:
    """Return what went wrong; an error's own words may quote the URL or what came."""
    match error:
        case TimeoutError():
            return f"no whole page within {timeout:g} s"
        case aiohttp.ClientConnectorDNSError():
            return "no address found"
        case aiohttp.ClientSSLError():
            return "no trusted TLS connection"
        case aiohttp.ClientConnectorError():
            return f"no connection ({one_line(error.os_error.strerror or 'refused', 80)})"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | OSError():
            return "the connection was closed before the page was whole"
        case aiohttp.ClientResponseError():
            return "the answer isn't HTTP"
        case _:
            return "expected an http or https URL, and headers of one line"


def _without_secrets(url: str) -> tuple[str, str]:
    """Return a URL's host, and its host and path."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    if not host:
        return "the URL", ""
    return one_line(host, 100), one_line(f"{host}{parts.path}", 200)


# --- The samples of a page ---------------------------------------------------------


def _parser() -> Callable[[str], Iterable[Any]]:
    try:
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = "reading metrics needs prometheus-client: pip install 'chatstream-sdk[bench]'"
        raise ModuleNotFoundError(msg, name=error.name) from None
    return text_string_to_metric_families


_NAME = re.compile(r"\s*([A-Za-z_:][A-Za-z0-9_:]*)")


def _samples(text: str) -> tuple[Samples, int]:
    """Return the samples that are known, and how many of them can't be read.

    Each line is parsed by itself: one that is broken takes no other with it, and types,
    which rename samples, don't matter. OpenMetrics differs from Prometheus' format in
    nothing that is left then.
    """
    parse = _parser()
    found: Samples = {}
    unread = 0
    for line in text.split("\n"):
        name = _NAME.match(line)
        if name is None or name[1] not in _WANTED:
            continue
        try:
            if len(line) > _LONGEST_LINE:
                raise ValueError  # noqa: TRY301 time grows with the square of labels
            [sample] = [sample for family in parse(line) for sample in family.samples]
            value = float(sample.value)
        except (ValueError, OverflowError, IndexError):
            unread += 1
            continue
        found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = value
    return found, unread


class _OddError(Exception):
    """Samples that no figure can be made of."""


@frozen
class _Change:
    """The samples before and after, and what was odd about them."""

    before: Samples
    after: Samples
    notes: dict[str, None] = Factory(dict)
    """In the order they were made, each once."""

    def has(self, name: str) -> bool:
        """Return whether there are such samples on either page."""
        return name in self.before or name in self.after

    def grown(self, name: str, only: Mapping[str, frozenset[str]]) -> dict[Labels, float]:
        """Return how much each of these counters grew. Raises ``_OddError``.

        One that wasn't there before has grown from 0: servers make them when they are
        first needed.
        """
        if self._restarted:
            msg = "the server was started anew between the two looks at its metrics"
            raise _OddError(msg)
        before, after = self.before.get(name, {}), self.after.get(name, {})
        grown = {}
        for labels in before | after:
            if not _fits(labels, only):
                continue
            old, new = before.get(labels, 0.0), after.get(labels, -1.0)
            if not (math.isfinite(old) and math.isfinite(new)):
                msg = f"{name} holds what isn't a number"
                raise _OddError(msg)
            if new < old:
                msg = f"{name} went back: the server was started anew, or counts no more"
                raise _OddError(msg)
            grown[labels] = new - old
        return grown

    @property
    def _restarted(self) -> bool:
        name = "process_start_time_seconds"
        return name in self.before and self.before[name] != self.after.get(name)

    def models(self) -> list[str]:
        """Return the models that samples are about."""
        labels = itertools.chain.from_iterable(self.after.values())
        return sorted({model for model in map(_model, labels) if model})

    def of(self, model: str) -> _Change:
        """Return the change of one model's samples."""

        def chosen(samples: Samples) -> Samples:
            return {
                name: {labels: value for labels, value in series.items() if _model(labels) == model}
                for name, series in samples.items()
                if any(_model(labels) == model for labels in series)
            }

        return _Change(chosen(self.before), chosen(self.after), self.notes)


def _fits(labels: Labels, only: Mapping[str, frozenset[str]]) -> bool:
    values = dict(labels)
    return all(values.get(label, "") in allowed for label, allowed in only.items())


def _model(labels: Labels) -> str:
    values = dict(labels)
    return values.get("model_name") or values.get("model") or ""


# --- Figures -----------------------------------------------------------------------


def _only(only: Mapping[str, Iterable[str]]) -> Mapping[str, frozenset[str]]:
    return {label: frozenset(values) for label, values in only.items()}


@frozen
class _Histogram:
    """Seconds in buckets."""

    name: str
    only: Mapping[str, frozenset[str]] = field(factory=dict, converter=_only)
    """Values that a label may have; no label is the same as an empty one."""

    @property
    def samples(self) -> tuple[str, ...]:
        return f"{self.name}_count", f"{self.name}_sum", f"{self.name}_bucket"

    def figure(self, change: _Change) -> Figure:
        count, total, buckets = (change.grown(name, self.only) for name in self.samples)
        figure = _mean(self.name, sum(count.values()), sum(total.values()))
        figure["kind"] = "histogram"
        try:
            ladder = _ladder(buckets)
        except _OddError as error:
            change.notes[f"{self.name} has {error}: no percentiles"] = None
            ladder = []
        for name, share in _SHARES.items():
            figure[name], figure["bounds"][name] = _quantile(ladder, share)
        return figure


@frozen
class _Mean:
    """A total that is divided by another."""

    name: str
    per: str
    seconds: float = 1.0
    """What the total counts in."""

    @property
    def samples(self) -> tuple[str, ...]:
        return self.name, self.per

    def figure(self, change: _Change) -> Figure:
        total, count = (sum(change.grown(name, {}).values()) for name in self.samples)
        return _mean(f"{self.name} / {self.per}", count, total * self.seconds)


@frozen
class _Counter:
    """A number that only grows."""

    name: str
    unit: str
    only: Mapping[str, frozenset[str]] = field(factory=dict, converter=_only)

    @property
    def samples(self) -> tuple[str, ...]:
        return (self.name,)

    def figure(self, change: _Change) -> Figure:
        value = sum(change.grown(self.name, self.only).values())
        return {"kind": "counter", "unit": self.unit, "value": value, "source": self.name}


@frozen
class _Gauge:
    """A number as it is just now, at both looks."""

    name: str
    unit: str = "requests"
    only: Mapping[str, frozenset[str]] = field(factory=dict, converter=_only)

    @property
    def samples(self) -> tuple[str, ...]:
        return (self.name,)

    def figure(self, change: _Change) -> Figure:
        before, after = self._now(change.before), self._now(change.after)
        figure = {"kind": "gauge", "unit": self.unit, "before": before, "after": after}
        return {**figure, "source": self.name}

    def _now(self, samples: Samples) -> float | None:
        """Return the sum of all, or the largest share; ``None`` where there is none."""
        series = samples.get(self.name, {}).items()
        values = [value for labels, value in series if _fits(labels, self.only)]
        if not values or not all(map(math.isfinite, values)):
            return None
        return max(values) if self.unit == "share" else sum(values)


def _mean(source: str, count: float, total: float) -> Figure:
    return {
        "kind": "mean",
        "unit": "s",
        "n": round(count),
        "mean": total / count if count else None,
        **dict.fromkeys(_SHARES),
        "bounds": dict.fromkeys(_SHARES),
        "source": source,
    }


_Rung: TypeAlias = tuple[float, float]


def _ladder(buckets: Mapping[Labels, float]) -> list[_Rung]:
    """Return bounds, and how many observations were not above each; those of all series.

    Raises ``_OddError``.
    """
    series: dict[Labels, dict[float, float]] = {}
    for labels, grown in buckets.items():
        le = dict(labels).get("le")
        try:
            bound = float("" if le is None else le)
        except ValueError:
            bound = math.nan
        if math.isnan(bound):
            msg = "a bucket without a bound"
            raise _OddError(msg)
        series.setdefault(labels - {("le", str(le))}, {})[bound] = grown
    if len({frozenset(one) for one in series.values()}) > 1:
        msg = "series of different buckets"
        raise _OddError(msg)
    bounds = sorted(next(iter(series.values()), {}))
    if math.inf not in bounds[1:]:
        msg = "no bucket with an end, or none without"
        raise _OddError(msg)
    counts = (sum(one[bound] for one in series.values()) for bound in bounds)
    # The page may have been written while the server counted.
    return list(zip(bounds, itertools.accumulate(counts, max), strict=True))


def _quantile(ladder: list[_Rung], share: float) -> tuple[float | None, list[float | None] | None]:
    """Return where *share* of the observations lies, and the bounds of its bucket.

    As PromQL's ``histogram_quantile``: on a straight line through the bucket. In the last
    one, which has no end, it is the start.
    """
    if not ladder or not ladder[-1][1]:
        return None, None
    rank = share * ladder[-1][1]
    place = next(place for place, (_, count) in enumerate(ladder) if count >= rank)
    bound, count = ladder[place]
    low, below = ladder[place - 1] if place else (0.0, 0.0)
    if bound == math.inf:
        return low, [low, None]
    return low + (bound - low) * (rank - below) / (count - below), [low, bound]


# --- What is known -----------------------------------------------------------------

_Source: TypeAlias = _Histogram | _Mean | _Counter | _Gauge


def _trtllm(name: str) -> tuple[_Histogram, _Histogram]:
    return _Histogram(f"trtllm_{name}"), _Histogram(f"trtllm:{name}")


_VLLM_OK = {"finished_reason": ("stop", "length", "repetition")}
_VLLM_FAILED = {"finished_reason": ("abort", "error")}
_NO_PRIORITY = {"priority": ("",)}
"""SGLang tells the sum, and beside it what each priority has of it."""

METRICS: dict[str, tuple[_Source, ...]] = {
    "queue_time": (
        _Histogram("vllm:request_queue_time_seconds"),
        _Histogram("sglang:queue_time_seconds"),
        _Histogram("tgi_request_queue_duration"),
        *_trtllm("request_queue_time_seconds"),
        _Mean("nv_inference_queue_duration_us", "nv_inference_request_success", _MICROSECOND),
    ),
    "prefill_time": (
        _Histogram("vllm:request_prefill_time_seconds"),
        _Histogram("sglang:per_stage_req_latency_seconds", {"stage": ("prefill_forward",)}),
        *_trtllm("request_prefill_time_seconds"),
    ),
    "decode_time": (
        _Histogram("vllm:request_decode_time_seconds"),
        *_trtllm("request_decode_time_seconds"),
    ),
    "time_to_first_token": (
        _Histogram("vllm:time_to_first_token_seconds"),
        _Histogram("sglang:time_to_first_token_seconds"),
        *_trtllm("time_to_first_token_seconds"),
        _Histogram("dynamo_frontend_time_to_first_token_seconds"),
    ),
    "time_per_prompt_token": (
        _Mean("llamacpp:prompt_seconds_total", "llamacpp:prompt_tokens_total"),
    ),
    # Of vLLM and SGLang the first that is there: requests' means, then tokens' gaps.
    "time_per_output_token": (
        _Histogram("vllm:request_time_per_output_token_seconds"),
        _Histogram("vllm:inter_token_latency_seconds"),
        _Histogram("vllm:time_per_output_token_seconds"),
        _Histogram("sglang:inter_token_latency_seconds"),
        _Histogram("sglang:time_per_output_token_seconds"),
        _Histogram("tgi_request_mean_time_per_token_duration"),
        *_trtllm("time_per_output_token_seconds"),
        _Histogram("dynamo_frontend_inter_token_latency_seconds"),
        _Mean("llamacpp:tokens_predicted_seconds_total", "llamacpp:tokens_predicted_total"),
    ),
    "e2e": (
        _Histogram("vllm:e2e_request_latency_seconds"),
        _Histogram("sglang:e2e_request_latency_seconds"),
        _Histogram("tgi_request_duration"),
        *_trtllm("e2e_request_latency_seconds"),
        _Histogram("dynamo_frontend_request_duration_seconds"),
        _Mean("nv_inference_request_duration_us", "nv_inference_request_success", _MICROSECOND),
    ),
    "requests_ok": (
        _Counter("vllm:request_success_total", "requests", _VLLM_OK),
        _Counter("sglang:num_requests_total", "requests"),
        _Counter("tgi_request_success", "requests"),
        _Counter("trtllm_request_success_total", "requests"),
        _Counter("trtllm:request_success_total", "requests"),
        _Counter("dynamo_frontend_requests_total", "requests", {"status": ("success",)}),
        _Counter("nv_inference_request_success", "requests"),
    ),
    "requests_failed": (
        _Counter("vllm:request_success_total", "requests", _VLLM_FAILED),
        _Counter("sglang:num_aborted_requests_total", "requests"),
        _Counter("tgi_request_failure", "requests"),
        _Counter("trtllm_request_error_total", "requests"),
        _Counter("dynamo_frontend_requests_total", "requests", {"status": ("error",)}),
        _Counter("nv_inference_request_failure", "requests"),
    ),
    "prompt_tokens": (
        _Counter("vllm:prompt_tokens_total", "tokens"),
        _Counter("sglang:prompt_tokens_total", "tokens"),
        _Counter("tgi_request_input_length_sum", "tokens"),
        _Counter("trtllm_prompt_tokens_total", "tokens"),
        _Counter("dynamo_frontend_input_sequence_tokens_sum", "tokens"),
        _Counter("llamacpp:prompt_tokens_total", "tokens"),
    ),
    "generation_tokens": (
        _Counter("vllm:generation_tokens_total", "tokens"),
        _Counter("sglang:generation_tokens_total", "tokens"),
        _Counter("tgi_request_generated_tokens_sum", "tokens"),
        _Counter("trtllm_generation_tokens_total", "tokens"),
        _Counter("dynamo_frontend_output_tokens_total", "tokens"),
        _Counter("dynamo_frontend_output_sequence_tokens_sum", "tokens"),
        _Counter("llamacpp:tokens_predicted_total", "tokens"),
    ),
    "preemptions": (
        _Counter("vllm:num_preemptions_total", "preemptions"),
        _Counter("sglang:num_retracted_requests_total", "preemptions"),
    ),
    "running": (
        _Gauge("vllm:num_requests_running"),
        _Gauge("sglang:num_running_reqs", only=_NO_PRIORITY),
        _Gauge("tgi_batch_current_size"),
        _Gauge("trtllm_num_requests_running"),
        _Gauge("dynamo_frontend_inflight_requests"),
        _Gauge("llamacpp:requests_processing"),
    ),
    "waiting": (
        _Gauge("vllm:num_requests_waiting"),
        _Gauge("sglang:num_queue_reqs", only=_NO_PRIORITY),
        _Gauge("tgi_queue_size"),
        _Gauge("trtllm_num_requests_waiting"),
        _Gauge("dynamo_frontend_queued_requests"),
        _Gauge("llamacpp:requests_deferred"),
        _Gauge("nv_inference_pending_request_count"),
    ),
    "kv_cache_usage": (
        _Gauge("vllm:kv_cache_usage_perc", "share"),
        _Gauge("vllm:gpu_cache_usage_perc", "share"),
        _Gauge("sglang:token_usage", "share"),
        _Gauge("trtllm_kv_cache_utilization", "share"),
        _Gauge("dynamo_component_gpu_cache_usage_percent", "share"),
        _Gauge("dynamo_component_kvstats_gpu_cache_usage_percent", "share"),
        _Gauge("llamacpp:kv_cache_usage_ratio", "share"),
    ),
}
"""Our names, and where servers tell it: the first that is on a page counts."""

_WANTED = frozenset(
    {"process_start_time_seconds"}
    | {name for sources in METRICS.values() for source in sources for name in source.samples}
)


# --- The difference ----------------------------------------------------------------


def difference(before: Page, after: Page) -> Figure:
    """Return what the server did between two pages: ``url, seconds, metrics, notes``.

    Of ``metrics`` there are those that the server tells, under the names of
    :data:`METRICS`; ``None`` for one that is there and can't be used, which a note
    explains. Each has its ``kind``, ``unit`` and ``source``; a *histogram* or *mean* has
    ``n``, ``mean``, percentiles and their ``bounds`` in seconds (``None`` for what isn't
    known, and for a last bucket's end), a *counter* its ``value``, a *gauge* what it was
    ``before`` and ``after``. With several models ``by_model`` holds the same of each.
    """
    notes = [page.note for page in (before, after) if page.note is not None]
    metrics: dict[str, Figure | None] = {}
    if not notes:
        (old, unread_before), (new, unread_after) = _samples(before.text), _samples(after.text)
        change = _Change(old, new)
        metrics = _metrics(change)
        notes += change.notes
        if unread := unread_before + unread_after:
            notes.append(f"{unread} lines couldn't be read")
        if not metrics:
            notes.append(_unknown(after.text))
    return {
        "url": after.url,
        "seconds": (after.taken_ns - before.taken_ns) / NS,
        "metrics": metrics,
        "notes": list(dict.fromkeys(notes)),
    }


def _metrics(change: _Change) -> dict[str, Figure | None]:
    models = change.models()
    if len(models) > _MOST_MODELS:
        change.notes[f"{len(models)} models: only the sum of all is shown"] = None
        models = []
    parts = {model: change.of(model) for model in models} if len(models) > 1 else {}
    metrics: dict[str, Figure | None] = {}
    for name, sources in METRICS.items():
        source = next((source for source in sources if change.has(source.samples[0])), None)
        if source is None:
            continue
        try:
            metrics[name] = figure = source.figure(change)
            by_model = {
                model: source.figure(part)
                for model, part in parts.items()
                if part.has(source.samples[0])
            }
        except _OddError as error:
            metrics[name] = None
            change.notes[str(error)] = None
            continue
        if by_model:
            figure["by_model"] = by_model
    return metrics


def _unknown(text: str) -> str:
    """Return what can be said of a page without anything we know."""
    names = list(dict.fromkeys(re.findall(r"^# TYPE ([A-Za-z_:][\w:]*) ", text, re.MULTILINE)))
    if names:
        more = ", …" if len(names) > _MOST_NAMES else ""
        return f"no metrics of a server that is known; there are {', '.join(names[:10])}{more}"
    return f"not a page of metrics; it begins with {one_line(text, 60)!r}"
