import asyncio
import math
import statistics
import time

import pytest
from attrs import evolve

from chatstream import RequestError
from chatstream.bench.plan import Load, Plan, Target
from chatstream.bench.runner import Job, Runner, check
from chatstream.bench.workload import Conversation, Prompts, Synthetic, Turn
from chatstream.testing import Profile, SimulatedServer
from chatstream.timeouts import Timeouts

NS = 1_000_000_000


def plan_for(server, **changes):
    """A small load of short answers."""
    defaults = {
        "targets": (Target(base_url=server.base_url, model="m", api_key="any"),),
        "load": Load(max_concurrency=2, num_prompts=6),
        "workload": Synthetic(input_tokens=4, output_tokens=3),
    }
    return Plan(**(defaults | changes))


async def made(plan, **part):
    """Run *plan* to its end; its records by number, and what it cost."""
    records = []
    job = Job(plan=plan, start_ns=time.perf_counter_ns(), **part)
    figures = await Runner(job, records.append).run()
    return sorted(records, key=lambda record: (record.number, record.turn)), figures


def asked(*texts):
    """A conversation with these questions."""
    turns = (Turn(messages=({"role": "user", "content": text},)) for text in texts)
    return Prompts(conversations=(Conversation(turns=tuple(turns)),))


async def test_a_closed_load_asks_each_number_once(server):
    records, figures = await made(plan_for(server))

    assert [0, 1, 2, 3, 4, 5] == [record.number for record in records]
    assert {"finished", "length"} >= {record.verdict for record in records}
    assert 6 == len(server.requests)
    assert 0 <= figures["cpu"]


async def test_no_more_are_open_than_there_are_slots(server):
    server.profile = Profile(time_to_first_token=0.01, gap=0.001)
    records, _ = await made(plan_for(server, load=Load(max_concurrency=3, num_prompts=12)))
    moments = sorted(
        [(record.created_ns, 1) for record in records] + [(record.end_ns, -1) for record in records]
    )
    open_now = peak = 0
    for _, step in moments:
        open_now += step
        peak = max(peak, open_now)

    assert 3 == peak


async def test_a_slot_is_due_again_when_its_answer_was_whole(server):
    """
    So the delay of a closed load is the client's own share, not the server's.
    """
    records, _ = await made(plan_for(server, load=Load(max_concurrency=1, num_prompts=3)))

    assert [0, records[0].end_ns, records[1].end_ns] == [r.scheduled_ns for r in records]


async def test_an_open_load_asks_when_it_is_due(server):
    load = Load(schedule=(0.0, 0.02, 0.02, 0.05))
    records, _ = await made(plan_for(server, load=load))

    assert [0, NS // 50, NS // 50, NS // 20] == [record.scheduled_ns for record in records]
    assert all(record.created_ns >= record.scheduled_ns for record in records)


async def test_who_waits_for_the_ceiling_is_late(server):
    """
    The time between is told, so nothing of it is lost to the figures.
    """
    server.profile = Profile(time_to_first_token=0.02, gap=0)
    load = Load(schedule=(0.0, 0.0, 0.0), max_concurrency=1)
    records, _ = await made(plan_for(server, load=load))
    records.sort(key=lambda record: record.created_ns)

    assert [0, 0, 0] == [record.scheduled_ns for record in records]
    assert records[1].created_ns >= records[0].end_ns
    assert records[2].created_ns >= records[1].end_ns


async def test_after_its_duration_a_load_makes_no_new_requests(server):
    server.profile = Profile(time_to_first_token=0.03, gap=0)
    records, _ = await made(plan_for(server, load=Load(max_concurrency=2, duration=0.05)))

    assert 4 == len(records)
    assert all(record.verdict in {"finished", "length"} for record in records)


async def test_workers_share_the_numbers(server):
    plan = plan_for(server)
    first, _ = await made(plan, worker=0, workers=2)
    second, _ = await made(plan, worker=1, workers=2)
    numbers = [record.number for record in first + second]

    assert [0, 1, 2, 3, 4, 5] == sorted(numbers)
    assert {0, 1} == {record.worker for record in first + second}


async def test_the_moments_are_in_order_and_since_the_run_began(server):
    records, _ = await made(plan_for(server), offset_ns=5 * NS, stage=2)

    for record in records:
        moments = [
            record.scheduled_ns,
            record.created_ns,
            record.acquired_ns,
            record.gate_passed_ns,
            record.sent_ns,
            record.headers_ns,
            record.first_byte_ns,
            record.first_chunk_ns,
            record.arrivals_ns[0],
            record.end_ns,
        ]
        assert 5 * NS <= moments[0] < 15 * NS
        assert moments[1:] == sorted(moments[1:])
        assert 2 == record.stage


async def test_a_record_tells_what_came(server):
    plan = plan_for(
        server, workload=asked("Count to 2"), load=Load(max_concurrency=1, num_prompts=1)
    )
    (record,), _ = await made(plan)

    assert "-cccf" == record.kinds
    assert 5 == len(record.arrivals_ns)
    assert ([], [], []) == (record.choices, record.tokens, record.truth_ns.tolist())
    assert 3 == record.completion_tokens
    assert 200 == record.status
    assert record.request_id.startswith("req_")
    assert record.source in {"kernel", "transport"}
    assert record.text is None


async def test_text_is_kept_only_if_asked_for(server):
    plan = plan_for(
        server, workload=asked("Count to 2"), load=Load(max_concurrency=1, num_prompts=1)
    )
    (record,), _ = await made(evolve(plan, keep_text=True))

    assert "1, 2" == record.text


async def test_several_choices_and_running_counts_are_told_apart(server):
    plan = plan_for(
        server,
        workload=asked("Count to 2"),
        load=Load(max_concurrency=1, num_prompts=1),
        params={
            "n": 2,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        },
    )
    (record,), _ = await made(plan)

    assert {0, 1} == set(record.choices)
    assert len(record.kinds) == len(record.choices) == len(record.tokens)
    assert 6 == max(record.tokens)


async def test_a_truth_server_tells_when_it_sent_what():
    async with SimulatedServer(Profile.preset("instant"), truth=True) as server:
        records, _ = await made(plan_for(server))

    for record in records:
        pairs = list(zip(record.arrivals_ns, record.truth_ns, strict=True))
        assert pairs
        assert all(0 <= arrived - sent < NS for arrived, sent in pairs)


async def test_a_conversation_goes_on_with_what_was_answered(server):
    plan = plan_for(
        server, workload=asked("Count to 2", "Say yes"), load=Load(max_concurrency=1, num_prompts=1)
    )
    records, _ = await made(plan)
    (first, second) = (request.body["messages"] for request in server.requests)

    assert [(0, 0), (1, 0)] == [(record.turn, record.turns_left) for record in records]
    assert records[0].end_ns == records[1].scheduled_ns
    assert ["user"] == [message["role"] for message in first]
    assert ["user", "assistant", "user"] == [message["role"] for message in second]
    assert "1, 2" == second[1]["content"]


async def test_a_turn_waits_as_long_as_its_reader_would(server):
    first, second = asked("Count to 2", "Say yes").conversations[0].turns
    workload = Prompts(conversations=(Conversation(turns=(first, evolve(second, delay=0.01))),))
    records, _ = await made(
        plan_for(server, workload=workload, load=Load(max_concurrency=1, num_prompts=1))
    )

    assert records[0].end_ns + NS // 100 == records[1].scheduled_ns
    assert records[1].created_ns >= records[1].scheduled_ns


async def test_a_failed_request_is_recorded_and_the_load_goes_on(server):
    server.profile = Profile.preset("instant", error_rate=1.0, error_status=503)
    records, _ = await made(plan_for(server))

    assert 6 == len(records)
    assert {("http_error", "ServerError", 503)} == {(r.verdict, r.error, r.status) for r in records}
    assert all(record.detail for record in records)


async def test_a_connection_that_was_closed_while_idle_costs_no_try(raw_server, wire):
    """
    llama.cpp's server closes each after its stream, without saying so.
    """

    async def once(connection):
        await connection.request()
        await connection.send(wire.response(wire.ANSWER))
        await connection.request()

    raw = await raw_server(once)
    load = Load(max_concurrency=1, num_prompts=3)
    records, _ = await made(plan_for(raw, load=load))

    assert ["finished"] * 3 == [record.verdict for record in records]
    assert [1, 2, 2] == [record.attempts for record in records]


async def test_a_new_connection_that_is_closed_costs_the_only_try(raw_server, wire):
    """
    That is the server's failure, also if it comes after one that was closed while idle.
    """
    left = [wire.response(wire.ANSWER)]

    async def once(connection):
        await connection.request()
        if left:
            await connection.send(left.pop())
            await connection.request()

    raw = await raw_server(once)
    load = Load(max_concurrency=1, num_prompts=3)
    records, _ = await made(plan_for(raw, load=load))

    assert ["finished", "connect_error", "connect_error"] == [r.verdict for r in records]
    assert [1, 2, 1] == [record.attempts for record in records]


async def test_a_failed_answer_ends_its_conversation(server):
    server.profile = Profile.preset("instant", error_rate=1.0)
    plan = plan_for(
        server, workload=asked("Count to 2", "Say yes"), load=Load(max_concurrency=1, num_prompts=1)
    )
    records, _ = await made(plan)

    assert [(0, 1)] == [(record.turn, record.turns_left) for record in records]


async def test_a_timeout_keeps_what_had_come(server):
    server.profile = Profile(time_to_first_token=0, gap=60)
    plan = plan_for(
        server, timeouts=Timeouts(idle=0.05), load=Load(max_concurrency=1, num_prompts=1)
    )
    (record,), _ = await made(plan)

    assert ("timeout", "IdleTimeoutError") == (record.verdict, record.error)
    assert "-c" == record.kinds


async def test_stopping_keeps_what_is_under_way_as_cancelled(server):
    server.profile = Profile(time_to_first_token=0, gap=60)
    records = []
    plan = plan_for(server, load=Load(max_concurrency=2, num_prompts=100))
    runner = Runner(Job(plan=plan, start_ns=time.perf_counter_ns()), records.append)
    running = asyncio.create_task(runner.run())
    await server.until(lambda s: s.open_streams == 2)
    runner.stop()
    await running
    await server.until(lambda s: s.open_connections == 0)

    assert ["cancelled", "cancelled"] == [record.verdict for record in records]


async def test_stopped_before_it_began_it_asks_nothing(server):
    runner = Runner(Job(plan=plan_for(server), start_ns=time.perf_counter_ns()), lambda _: None)
    runner.stop()
    await runner.run()

    assert [] == server.requests


async def test_a_cancelled_runner_leaves_nothing_behind(server):
    server.profile = Profile(time_to_first_token=60)
    runner = Runner(Job(plan=plan_for(server), start_ns=time.perf_counter_ns()), lambda _: None)
    running = asyncio.create_task(runner.run())
    await server.until(lambda s: s.open_streams == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await server.until(lambda s: s.open_connections == 0)

    assert running.cancelled()


async def test_what_the_plan_says_of_all_requests_goes_before_a_turns_own(server):
    await made(plan_for(server, params={"max_tokens": 7}))

    assert {7} == {request.body["max_tokens"] for request in server.requests}


async def test_models_that_know_no_max_tokens_are_told_none(server):
    await made(plan_for(server, params={"max_completion_tokens": 7}))

    assert {7} == {request.body["max_completion_tokens"] for request in server.requests}
    assert not any("max_tokens" in request.body for request in server.requests)


async def test_several_targets_are_asked_the_same(server):
    async with SimulatedServer(Profile.preset("instant")) as other:
        targets = tuple(Target(base_url=s.base_url, model="m") for s in (server, other))
        records, _ = await made(plan_for(server, targets=targets))
        bodies = [[request.raw for request in s.requests] for s in (server, other)]

    assert sorted(bodies[0]) == sorted(bodies[1])
    assert 6 == sum(record.target == 0 for record in records)
    assert 6 == sum(record.target == 1 for record in records)


async def test_warming_up_is_marked(server):
    records, _ = await made(plan_for(server, load=Load(max_concurrency=1, num_prompts=4, warmup=2)))

    assert [True, True, False, False] == [record.warmup for record in records]


def test_a_plan_that_cant_be_asked_is_refused_beforehand():
    target = Target(base_url="http://127.0.0.1:1/v1", model="m")
    plan = Plan(
        targets=(target,),
        load=Load(max_concurrency=1, num_prompts=1),
        workload=Synthetic(input_tokens=4, output_tokens=3),
        params={"temperature": 3},
    )

    with pytest.raises(RequestError, match="temperature"):
        check(plan)
    with pytest.raises(RequestError, match="base_url"):
        check(evolve(plan, params={}, targets=(evolve(target, base_url="ftp://x"),)))
    check(evolve(plan, params={}))


async def test_requests_are_called_as_they_can_be_sent(server):
    """
    Of fifty that are due at once, none waits inside of its call for the others to be sent:
    that is lateness, and no latency of the server's.
    """
    load = Load(request_rate=math.inf, num_prompts=50)
    records, _ = await made(plan_for(server, load=load))
    waits = [record.gate_passed_ns - record.acquired_ns for record in records]
    late = [record.created_ns - record.scheduled_ns for record in records]

    assert max(late) > 3 * statistics.median(waits)
    assert 2 >= sum(wait > max(late) / 4 for wait in waits)


@pytest.mark.parametrize("stamp", ['"abc"', "18446744073709551615", "-1", "1.5", "true"])
async def test_what_another_server_means_by_sent_ns_is_no_matter(raw_server, wire, stamp):
    chunk = wire.chunk("Hi").replace(b'{"id"', b'{"sent_ns":%b,"id"' % stamp.encode(), 1)
    body = chunk + wire.chunk(finish_reason="stop") + wire.DONE
    server = await raw_server(wire.always(wire.response(body)))
    (record,), _ = await made(plan_for(server, load=Load(max_concurrency=1, num_prompts=1)))

    assert ("finished", []) == (record.verdict, record.truth_ns.tolist())


async def test_an_answer_that_was_cut_ends_its_conversation(raw_server, wire):
    """
    Part of an answer is nothing to go on from.
    """
    server = await raw_server(wire.response(wire.chunk("Hi")))
    plan = plan_for(
        server,
        workload=asked("Count to 2", "Say yes"),
        load=Load(max_concurrency=1, num_prompts=1),
    )
    records, _ = await made(plan)

    assert [("truncated", 0)] == [(record.verdict, record.turn) for record in records]


async def test_cancelled_after_it_was_stopped_a_runner_is_cancelled(server):
    """
    A time limit around a run that is ending holds.
    """
    server.profile = Profile(time_to_first_token=60)
    runner = Runner(Job(plan=plan_for(server), start_ns=time.perf_counter_ns()), lambda _: None)
    running = asyncio.create_task(runner.run())
    await server.until(lambda s: s.open_streams == 2)
    runner.stop()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await server.until(lambda s: s.open_connections == 0)

    assert running.cancelled()
