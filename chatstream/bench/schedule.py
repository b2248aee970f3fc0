"""When requests are due, and whose they are; all of it follows from the load and a seed.

The clock starts with the first request, which is due at once. The gaps after it are
gamma-distributed with a mean of one, and the sum of them is the *work* that must have
become due; the moment is where the integral of the rate reaches it. So a ramp is exact,
and the same seed gives the same pattern at any rate: in a sweep only the speed differs.

The process is left as it was drawn. Stretching it so that the last request comes at
``num_prompts / request_rate``, as vLLM does, would make every arrival depend on how many
there are, and take out the long waves that a Poisson load has. The price is that so many
requests take longer or shorter, by a share of about ``1 / sqrt(num_prompts)``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import accumulate, count, islice, repeat, takewhile
from pathlib import Path

from chatstream.bench.plan import Load
from chatstream.bench.workload import MILLISECONDS, SECONDS, parsed, read_lines
from chatstream.errors import RequestError, one_line


def arrivals(load: Load, seed: int) -> Iterator[float]:
    """Yield when the requests of an open load are due, in seconds from the start.

    They never decrease, and end before ``duration`` and with ``num_prompts``, whichever
    comes first. With a rate of ``inf`` all are due at once, or evenly over the ramp.
    Raises ``RequestError`` for a closed load.
    """
    due = _drawn(load, seed) if load.schedule is None else iter(load.schedule)
    due = islice(due, load.num_prompts)
    if (end := load.duration) is not None:
        due = takewhile(lambda moment: moment < end, due)
    return due


def _drawn(load: Load, seed: int) -> Iterator[float]:
    rate, ramp = load.request_rate, load.ramp
    if rate is None:
        raise RequestError("load", "a closed one", "one with a request_rate or a schedule")
    if rate == math.inf:
        assert load.num_prompts is not None  # noqa: S101 Load wants it then
        return iter(_spread(load.num_prompts, ramp))
    works = accumulate(_gaps(load.burstiness, seed), initial=0.0)
    return (_moment(work, rate, ramp) for work in works)


def _gaps(burstiness: float, seed: int) -> Iterator[float]:
    if burstiness == math.inf:
        return repeat(1.0)
    chance = random.Random(f"arrivals {seed}")
    return (chance.gammavariate(burstiness, 1 / burstiness) for _ in count())


def _moment(work: float, rate: float, ramp: float) -> float:
    """Return when the integral of the rate, which rises from 0 to *rate*, reaches *work*."""
    if work < rate * ramp / 2:
        return math.sqrt(2 * work * ramp / rate)
    return work / rate + ramp / 2


def _spread(number: int, ramp: float) -> list[float]:
    return [ramp * place / number for place in range(number)]


def slot_starts(load: Load) -> list[float]:
    """Return when each slot of a closed load begins: at once, or one by one over the ramp."""
    assert load.max_concurrency is not None  # noqa: S101 a closed load has it
    return _spread(load.max_concurrency, load.ramp)


def planned(load: Load, seed: int | None = None) -> int | None:
    """Return how many requests a load has, ``None`` if that isn't known.

    The server's pace decides it for a closed load with a ``duration``; for an open one
    chance does, that is, the seed.
    """
    if load.duration is None and load.schedule is None:
        return load.num_prompts
    if load.closed or (seed is None and load.schedule is None):
        return None
    return sum(1 for _ in arrivals(load, seed or 0))


# --- Shared among workers ----------------------------------------------------


def worker_of(load: Load, number: int, workers: int) -> int:
    """Return the worker whose request *number* is.

    The places of ``max_concurrency`` are dealt out to the workers, and the requests to
    the places: who may have more at a time gets more. Without it all get the same.
    """
    return number % (load.max_concurrency or workers) % workers


def arrivals_of(load: Load, seed: int, worker: int, workers: int) -> Iterator[tuple[int, float]]:
    """Yield the number of each request of an open load that is *worker*'s, and when it is due."""
    return (
        (number, due)
        for number, due in enumerate(arrivals(load, seed))
        if worker_of(load, number, workers) == worker
    )


def slots_of(load: Load, worker: int, workers: int) -> list[float]:
    """Return when the slots of a closed load begin that are *worker*'s."""
    return slot_starts(load)[worker::workers]


def numbers_of(load: Load, worker: int, workers: int) -> Iterator[int]:
    """Yield the numbers of the requests of a closed load that are *worker*'s.

    Without ``num_prompts`` they don't end; a worker without a slot has none.
    """
    if not slots_of(load, worker, workers):
        return iter(())
    numbers = islice(count(), load.num_prompts)
    return (number for number in numbers if worker_of(load, number, workers) == worker)


# --- A schedule from a file --------------------------------------------------


def read_schedule(path: Path) -> tuple[float, ...]:
    """Return the arrival times in a file, in order, counted from the first.

    Each line is a number of seconds, or an object with a ``timestamp`` in milliseconds,
    as traces of Mooncake and aiperf have it; those are often a little out of order, and
    begin late. Raises ``RequestError`` with the line, and ``OSError``.
    """
    moments = sorted(read_lines(path, _seconds))
    if not moments:
        raise RequestError(str(path), "no lines", "an arrival time on each line")
    return tuple(moment - moments[0] for moment in moments)


def _seconds(line: bytes, where: str) -> float:
    if line.startswith(b"{"):
        timestamp: float = parsed(line, where).get("timestamp")
        return MILLISECONDS.of(timestamp, f"{where}, timestamp") / 1000
    try:
        return SECONDS.of(float(line), where)
    except ValueError:
        text = one_line(line.decode("utf-8", "replace"), 40)
        raise RequestError(where, text, f"{SECONDS.allowed}, or an object") from None
