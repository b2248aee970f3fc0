import pytest
from attrs import evolve

from chatstream.bench.client import calibration, errors_of, judged
from chatstream.bench.log import Log
from chatstream.bench.plan import Load
from chatstream.bench.workers import WorkerReport
from tests.bench.runs import MS, SimulatedRun

CLOSED = Load(max_concurrency=12, num_prompts=200)
OPEN = Load(request_rate=10, num_prompts=200)
IDLE = WorkerReport(worker=0, cpu=0.2, loop_lag={"n": 100, "p50": 1e-5, "p99": 1e-4, "max": 1e-3})


def spread(p99):
    return {"n": 100, "p50": p99 / 2, "p99": p99, "max": p99 * 2}


def calibrated(first=0.0001, gap=0.00005, streams=12):
    return {
        "streams": streams,
        "time_to_first_token_error": spread(first),
        "inter_chunk_latency_error": spread(gap),
    }


@pytest.fixture
def records():
    return SimulatedRun(warmup=0, faults=0, stall=None).records


def with_truth(records, late_ns):
    """The records of a truth server, whose chunks were stamped *late_ns* early by turns."""
    for record in records:
        for place, arrived in enumerate(record.arrivals_ns):
            record.truth_ns.append(arrived - (late_ns if place % 2 else 0))
    return records


def test_a_client_with_nothing_against_it_is_ok(records):
    found = judged(Log.of(records), CLOSED, [IDLE], calibrated())

    assert ("ok", []) == (found["verdict"], found["reasons"])
    assert 0.2 == found["cpu"]
    assert IDLE.loop_lag == found["loop_lag"]
    assert len(records) == found["dispatch_delay"]["n"]
    assert calibrated() == found["calibration"]


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({"cpu": 0.8}, "suspect", "a worker used 80% of its core"),
        ({"cpu": 0.99}, "limiting", "a worker used 99% of its core"),
        ({"loop_lag": spread(0.02)}, "suspect", "the loop came around 20 ms late at p99"),
        ({"loop_lag": spread(0.2)}, "limiting", "the loop came around 200 ms late at p99"),
        ({"lost": True}, "suspect", "1 of 1 workers were lost"),
    ],
)
def test_a_worker_at_its_limit_shows(records, change, verdict, reason):
    found = judged(Log.of(records), CLOSED, [evolve(IDLE, **change)], None)

    assert (verdict, [reason]) == (found["verdict"], found["reasons"])


def test_the_worst_worker_counts(records):
    found = judged(Log.of(records), CLOSED, [IDLE, evolve(IDLE, cpu=0.99)], None)

    assert ("limiting", 0.99) == (found["verdict"], found["cpu"])


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ({"first": 0.002}, "suspect"),
        ({"first": 0.02}, "limiting"),
        ({"gap": 0.001}, "suspect"),
        ({"gap": 0.01}, "limiting"),
    ],
)
def test_an_error_found_in_calibration_shows(records, errors, verdict):
    found = judged(Log.of(records), CLOSED, [IDLE], calibrated(**errors))

    assert verdict == found["verdict"]
    assert "in calibration" in found["reasons"][0]


def test_an_error_that_is_small_beside_what_was_measured_does_no_harm(records):
    """
    A first token that takes 10 s may be off by 2 ms.
    """
    for record in records:
        for place, arrived in enumerate(record.arrivals_ns):
            record.arrivals_ns[place] = arrived + 10_000 * MS
    found = judged(Log.of(records), CLOSED, [IDLE], calibrated(first=0.002))

    assert "ok" == found["verdict"]


def test_a_calibration_without_answers_is_suspect(records):
    found = judged(
        Log.of(records),
        CLOSED,
        [IDLE],
        {"streams": 12, "time_to_first_token_error": None, "inter_chunk_latency_error": None},
    )

    assert "suspect" == found["verdict"]
    assert "calibration measured no time to first token" in found["reasons"]


def test_requests_that_go_out_late_show(records):
    for record in records:
        record.scheduled_ns = record.created_ns - 200 * MS
    late = Log.of(records)

    assert "limiting" == judged(late, OPEN, [IDLE], None)["verdict"]
    assert "ok" == judged(late, evolve(OPEN, max_concurrency=12), [IDLE], None)["verdict"]
    assert "limiting" == judged(late, evolve(OPEN, max_concurrency=99), [IDLE], None)["verdict"]


def test_events_read_late_by_a_busy_loop_show(records):
    """
    That they came together may be the server's doing, unless the loop was late too.
    """
    for record in records:
        record.coalesced = list(range(len(record.kinds)))
    log = Log.of(records)

    assert "ok" == judged(log, CLOSED, [IDLE], None)["verdict"]
    busy = judged(log, CLOSED, [evolve(IDLE, loop_lag=spread(0.02))], None)
    assert any("read late" in reason for reason in busy["reasons"])


@pytest.mark.parametrize(("change"), [{"paused": 1.5}, {"source": "reader"}])
def test_what_else_makes_times_untrue_shows(records, change):
    for name, value in change.items():
        setattr(records[3], name, value)

    assert "suspect" == judged(Log.of(records), CLOSED, [IDLE], None)["verdict"]


def test_without_requests_nothing_speaks_against_the_client():
    found = judged(Log.of([]), CLOSED, [], None)

    assert "ok" == found["verdict"]
    assert found["cpu"] is found["loop_lag"] is found["dispatch_delay"] is None


def test_the_errors_are_those_of_first_tokens_and_of_gaps(records):
    log = Log.of(with_truth(records, 2 * MS))
    errors = errors_of(log)

    assert len(records) == errors["time_to_first_token_error"]["n"]
    assert pytest.approx(0.002) == errors["inter_chunk_latency_error"]["p50"]


def test_other_servers_tell_no_truth(records):
    assert errors_of(Log.of(records)) is None


def test_a_calibration_tells_what_it_was(records):
    found = calibration(Log.of(with_truth(records, MS)), [IDLE], streams=12)

    assert (12, len(records), 0.2) == (found["streams"], found["requests"], found["cpu"])
    assert found["inter_chunk_latency_error"]["p99"] is not None


def test_a_calibration_with_fewer_streams_says_little(records):
    """
    How many an open load keeps open isn't known beforehand.
    """
    found = judged(Log.of(records), OPEN, [IDLE], calibrated(streams=6))

    assert "suspect" == found["verdict"]
    assert "calibrated with 6 streams, but up to 12 were open" in found["reasons"]
