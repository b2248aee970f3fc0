"""What ``summary.json`` is like, and a look at whether a value is."""

from chatstream.bench.metrics import LATENCIES
from chatstream.bench.record import NOT_ATTEMPTED
from chatstream.bench.stats import PERCENTILES
from chatstream.completion import Verdict

NOTHING = type(None)
NUMBER = (int, float)
ANYTHING = object()
"""Of plain JSON values."""


class Maybe:
    """That shape, or null."""

    def __init__(self, shape):
        self.shape = shape


class Each:
    """A list of that shape."""

    def __init__(self, shape):
        self.shape = shape


class Keyed:
    """An object of values of that shape; *keys* are those it may have."""

    def __init__(self, shape, keys=None):
        self.shape = shape
        self.keys = keys


INTERVAL = [float, float]
OUTCOMES = Keyed(int, {*(verdict.value for verdict in Verdict), NOT_ATTEMPTED})
RATE = {"value": float, "ci": Maybe(INTERVAL)}
SPREAD = {"n": int, "p50": float, "p99": float, "max": float}
ERRORS = {
    "time_to_first_token_error": Maybe(SPREAD),
    "inter_chunk_latency_error": Maybe(SPREAD),
}
FIGURE = {
    "unit": str,
    "n": int,
    **dict.fromkeys(("mean", "min", "max", *PERCENTILES), Maybe(float)),
    "ci": Maybe(dict.fromkeys(("mean", *PERCENTILES), INTERVAL)),
    "unsure": Each(str),
}
TOKENS = ("prompt_tokens", "completion_tokens", "reasoning_tokens")
METRICS = dict.fromkeys((*LATENCIES, *TOKENS), FIGURE)
THROUGHPUT = {
    "seconds": float,
    "requests_per_second": Maybe(RATE),
    "output_tokens_per_second": Maybe(RATE),
    "prompt_tokens_per_second": Maybe(RATE),
    "mean_concurrency": Maybe(float),
    "peak_concurrency": Maybe(int),
}
GOODPUT = {
    "goals": Keyed(NUMBER),
    "attempted": int,
    "good": int,
    "attainment": Maybe(float),
    "ci": Maybe(INTERVAL),
    "requests_per_second": Maybe(float),
    "by_goal": Keyed(Maybe(float)),
    "wanted": NUMBER,
    "met": bool,
}
PART = {
    "requests": {"planned": Maybe(int), "made": int, "good": int, "warmup": int},
    "outcomes": OUTCOMES,
    "errors": Each(
        {
            "outcome": str,
            "error": str,
            "detail": str,
            "status": Maybe(int),
            "count": int,
            "first": float,
        }
    ),
    "metrics": METRICS,
    "throughput": THROUGHPUT,
    "goodput": Maybe(GOODPUT),
    "steady_state": Maybe(
        {
            "start": float,
            "end": float,
            "requests": int,
            "stable": bool,
            "why": str,
            "metrics": METRICS,
            "throughput": THROUGHPUT,
        }
    ),
    "stalls": Each({"start": float, "end": float, "seconds": float, "open_streams": int}),
}
LAG = {"n": int, **dict.fromkeys(("p50", "p99", "max"), Maybe(NUMBER))}
SUMMARY = {
    "schema": str,
    "chatstream": Maybe(str),
    "started": Maybe(str),
    "python": Maybe(str),
    "platform": Maybe(str),
    "cores": Maybe(int),
    "load_seconds": Maybe(float),
    "calibration_seconds": Maybe(float),
    "interrupted": Maybe(bool),
    "plan": Maybe(Keyed(ANYTHING)),
    **PART,
    "client": {
        "verdict": str,
        "reasons": Each(str),
        "cpu": Maybe(float),
        "loop_lag": Maybe(LAG),
        "dispatch_delay": Maybe(SPREAD),
        "coalesced_share": Maybe(float),
        "paused": float,
        "sources": Keyed(int, {"kernel", "transport", "reader"}),
        "calibration": Maybe(
            {
                "streams": int,
                "requests": int,
                "coalesced_share": Maybe(NUMBER),
                "cpu": Maybe(float),
                **ERRORS,
            }
        ),
    },
    "truth": Maybe(ERRORS),
    "server": Maybe(Keyed(ANYTHING, {"url", "seconds", "metrics", "notes"})),
    "targets": Each({"name": str, "base_url": Maybe(str), "model": Maybe(str), **PART}),
    "shown": int,
    "sweep": Maybe({"over": str, "knee": Maybe(int), "best": Maybe(int)}),
    "stages": Each({"value": NUMBER, "load": Keyed(ANYTHING), "targets": int, **PART}),
    "workers": Each(
        {
            "worker": int,
            "stage": int,
            "host": str,
            "requests": int,
            "lost": bool,
            "error": Maybe(str),
            "cpu": Maybe(float),
            "loop_lag": Maybe(LAG),
            "start_error": Maybe(float),
        }
    ),
    "definitions": Keyed(ANYTHING),
}


def misfits(value, shape=SUMMARY, where="$"):
    """Say where a value isn't of that shape; types must be just these, so numpy's aren't."""
    match shape:
        case Maybe():
            if value is not None:
                yield from misfits(value, shape.shape, where)
        case Each() if type(value) is list:
            for place, each in enumerate(value):
                yield from misfits(each, shape.shape, f"{where}[{place}]")
        case Keyed() if type(value) is dict:
            for key, each in value.items():
                if type(key) is not str or (shape.keys is not None and key not in shape.keys):
                    yield f"{where}: the key {key!r}"
                yield from misfits(each, shape.shape, f"{where}.{key}")
        case dict() if type(value) is dict:
            if shape.keys() != value.keys():
                yield f"{where}: {shape.keys() ^ value.keys()} too many or too few"
            for key in shape.keys() & value.keys():
                yield from misfits(value[key], shape[key], f"{where}.{key}")
        case list() if type(value) is list and len(shape) == len(value):
            for place, (each, wanted) in enumerate(zip(value, shape, strict=True)):
                yield from misfits(each, wanted, f"{where}[{place}]")
        case type() if type(value) is shape and value == value:  # noqa: PLR0124 NaN isn't
            pass
        case tuple():
            if type(value) not in shape:
                yield f"{where}: {value!r}, a {type(value).__name__}"
        case _ if shape is ANYTHING:
            yield from _not_plain(value, where)
        case _:
            yield f"{where}: {value!r}, a {type(value).__name__}"


def _not_plain(value, where):
    match value:
        case dict():
            yield from misfits(value, Keyed(ANYTHING), where)
        case list():
            yield from misfits(value, Each(ANYTHING), where)
        case _ if type(value) not in (str, int, float, bool, NOTHING):
            yield f"{where}: {value!r}, a {type(value).__name__}"
