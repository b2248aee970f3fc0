"""Runs as they might have been: records of requests, and the summary of a run."""

import heapq
import random
from array import array

from chatstream.bench.plan import Goals, Load, Plan, Target, plan_described
from chatstream.bench.record import RequestRecord
from chatstream.bench.summary import Facts, summarised
from chatstream.bench.workers import WorkerReport
from chatstream.bench.workload import Synthetic
from chatstream.completion import Verdict

MS = 1_000_000
S = 1_000_000_000

FAULTS = {
    "http_error": ("RateLimitError", "HTTP 429 rate_limit_exceeded: slow down", 429),
    "timeout": ("IdleTimeoutError", "no token for 3.0 s after 41 events", 200),
    "truncated": ("InterruptedStreamError", "ended without finish_reason or [DONE]", 200),
    "connect_error": ("ConnectError", "connection refused by 127.0.0.1:8000", None),
}


class SimulatedRun:
    """A closed load on a server that is made up: its records, in order of their numbers.

    *stall* is when the server freezes, from and to, in seconds. Faults come to a share of
    requests, never to one that warms up. Each of *stages* is a number of slots; more slots
    make answers slower.
    """

    def __init__(
        self,
        *,
        requests=240,
        stages=(12,),
        targets=1,
        warmup=12,
        stall=(2.0, 3.2),
        faults=0.06,
        reasoning=False,
        text=None,
        seed=7,
    ):
        self._random = random.Random(seed)
        self._stall = stall
        self._faults = faults
        self._reasoning = reasoning
        self._text = text
        self.records = []
        start = 0.0
        for stage, slots in enumerate(stages):
            for target in range(targets):
                self._load(start, stage, target, slots, requests // targets, warmup)
            start = max(record.end_ns for record in self.records) / S + 0.05
        self.records.sort(key=lambda record: record.created_ns)
        for number, record in enumerate(self.records):
            record.number = number

    def _load(self, start, stage, target, slots, requests, warmup):
        free = [start] * slots
        for place in range(requests):
            due = heapq.heappop(free)
            record = self._request(due, stage, target, slots, place < warmup)
            heapq.heappush(free, record.end_ns / S)
            self.records.append(record)

    def _thawed(self, moment):
        """When what is due at *moment* comes, if the server may be frozen."""
        if self._stall is None or not self._stall[0] <= moment < self._stall[1]:
            return moment
        return self._stall[1] + self._random.uniform(0, 0.002)

    def _request(self, due, stage, target, slots, warmup):
        draw = self._random
        created = due + draw.expovariate(1 / 0.0002)
        sent = created + draw.uniform(0.0002, 0.0006)
        busy = 1 + slots / 40
        at = self._thawed(sent + draw.lognormvariate(-2.9, 0.25) * busy * (1 + target / 2))
        moments = [at]
        for _ in range(draw.randint(24, 64)):
            at += draw.lognormvariate(-4.6, 0.3) * busy * (1 + target / 4)
            moments.append(self._thawed(at))
        fault = None
        if not warmup and draw.random() < self._faults:
            fault = draw.choice(list(FAULTS))
        return self._record(
            fault or ("length" if draw.random() < 0.1 else "finished"),
            sorted(moments),
            scheduled_ns=int(due * S),
            created_ns=int(created * S),
            sent_ns=int(sent * S),
            target=target,
            stage=stage,
            warmup=warmup,
        )

    def _record(self, verdict, moments, **known):
        error, detail, status = FAULTS.get(verdict, (None, None, 200))
        if verdict in ("http_error", "connect_error"):
            end, moments = moments[0], []
        elif verdict == "timeout":
            moments = moments[: self._random.randint(1, 9)]
            end = moments[-1] + 3.0
        elif verdict == "truncated":
            moments = moments[: len(moments) // 2]
            end = moments[-1] + 0.01
        else:
            end = moments[-1] + 0.012
        arrivals = array("q", (int(moment * S) for moment in moments))
        thought = len(arrivals) // 3 if self._reasoning else 0
        good = Verdict(verdict).good
        return RequestRecord(
            number=0,
            acquired_ns=known["created_ns"] + 50_000,
            gate_passed_ns=known["created_ns"] + 80_000,
            headers_ns=None if verdict == "connect_error" else known["sent_ns"] + 2 * MS,
            first_byte_ns=arrivals[0] if arrivals else None,
            first_chunk_ns=arrivals[0] if arrivals else None,
            end_ns=int(end * S),
            reused=True,
            arrivals_ns=arrivals,
            kinds="r" * thought + "c" * (len(arrivals) - thought),
            coalesced=[1] if len(arrivals) > 1 and self._random.random() < 0.1 else [],
            verdict=verdict,
            error=error,
            detail=detail,
            status=status,
            prompt_tokens=self._random.randint(80, 120) if good else None,
            completion_tokens=len(arrivals) if good else None,
            reasoning_tokens=thought if good else None,
            source="kernel",
            text=self._text if good else None,
            **known,
        )


# --- Summaries -------------------------------------------------------------------


def summary_of(log, **changes):
    """What a run with this log would have found, with goals it doesn't quite keep."""
    stages = sorted(set(log.stage.tolist()))
    parts = len(stages) * len(set(log.target.tolist()))
    each = {"num_prompts": len(log) // parts, "warmup": int(log.warmup.sum()) // parts}
    loads = [Load(max_concurrency=12 * 2**stage, **each) for stage in stages]
    goals = Goals(time_to_first_token=0.1, duration=1.5)
    targets = [
        Target(base_url=f"http://127.0.0.1:{8000 + place}/v1", model=f"model-{place}")
        for place in sorted(set(log.target.tolist()))
    ]
    workload = Synthetic(input_tokens=100, output_tokens=64)
    plan = Plan(targets=tuple(targets), load=loads[0], workload=workload, goals=goals)
    errors = {
        "time_to_first_token_error": {"n": 48, "p50": 1e-5, "p99": 4e-5, "max": 6e-5},
        "inter_chunk_latency_error": {"n": 900, "p50": 8e-6, "p99": 3e-5, "max": 9e-5},
    }
    lag = {"n": 400, "p50": 0.0001, "p99": 0.0012, "max": 0.004}
    facts = Facts(
        plan=plan_described(plan),
        loads=tuple(loads),
        goals=goals,
        over="max_concurrency" if len(stages) > 1 else None,
        workers=[
            WorkerReport(
                worker=0,
                stage=stage,
                host="here",
                requests=int((log.stage == stage).sum()),
                cpu=0.41,
                loop_lag=lag,
            )
            for stage in range(len(loads))
        ],
        calibration={"streams": 12, "requests": 48, "coalesced_share": 0, "cpu": 0.2, **errors},
        place={
            "chatstream": "0.1.0",
            "started": "2026-11-25T03:00:00Z",
            "python": "3.11.7",
            "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
            "cores": 2,
            "load_seconds": float(log.end.max()),
            "calibration_seconds": 2.1,
            "interrupted": False,
        },
    )
    return summarised(log, facts) | changes
