"""chatstream.report: every figure of DESIGN.md's table, worked out by hand."""

import json

import attrs
import orjson
import pytest

from chatstream.completion import CompletionTokensDetails, Usage, Verdict
from chatstream.marks import NS, ConnectionMarks, Marks
from chatstream.report import (
    ArrivalSource,
    Attempt,
    ChoiceReport,
    Distribution,
    Phases,
    StreamReport,
    report_of,
)

MS = NS // 1000
CREATED = 5_000 * MS


def at(milliseconds):
    """Return the moment so many milliseconds after the call."""
    return CREATED + milliseconds * MS


def usage(completion=None, reasoning=None, prompt=None):
    details = None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning)
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, completion_tokens_details=details
    )


def spoken(*tokens, **fields):
    """Marks of a stream with tokens given as (choice, milliseconds, whether it is output)."""
    marks = Marks(created_ns=CREATED, **fields)
    for index, milliseconds, output in tokens:
        marks.token(index, at(milliseconds), output)
    return marks


def whole():
    """A stream in which everything was seen.

    The call was due 20 ms before it was made; its request was sent after 30 ms,
    headers came at 200, the first byte at 210, a role at 220, reasoning at 300,
    text at 400, 450 and 550, and the end at 600.
    """
    marks = spoken(
        (0, 300, False),
        (0, 400, True),
        (0, 450, True),
        (0, 550, True),
        scheduled_ns=CREATED - 20 * MS,
        connection=ConnectionMarks(
            started_ns=CREATED,
            dns_start_ns=at(2),
            dns_end_ns=at(5),
            connect_start_ns=at(1),
            tcp_connected_ns=at(9),
            secure=True,
            connect_end_ns=at(20),
            reused=False,
            acquired_ns=at(20),
            gate_passed_ns=at(24),
            sent_ns=at(30),
            headers_ns=at(200),
            first_byte_ns=at(210),
        ),
        first_chunk_ns=at(220),
        end_ns=at(600),
        events=7,
        coalesced=2,
    )
    marks.handed_lag_ns.extend([1 * MS, 2 * MS, 3 * MS])
    return marks


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        (0.02, "dispatch_delay"),
        (0.03, "sent"),
        (0.21, "time_to_first_byte"),
        (0.22, "time_to_first_chunk"),
        (0.3, "time_to_first_token"),
        (0.4, "time_to_first_output"),
        (0.55, "duration"),
        (0.6, "stream_end"),
        (0.05, "time_per_output_token"),  # 250 ms for the five tokens after the first
        (0.18, "time_to_first_byte_from_sent"),
        (0.19, "time_to_first_chunk_from_sent"),
        (0.27, "time_to_first_token_from_sent"),
        (0.37, "time_to_first_output_from_sent"),
        (0.52, "duration_from_sent"),
        (0.23, "time_to_first_byte_from_schedule"),
        (0.24, "time_to_first_chunk_from_schedule"),
        (0.32, "time_to_first_token_from_schedule"),
        (0.42, "time_to_first_output_from_schedule"),
        (0.57, "duration_from_schedule"),
        (2 / 7, "coalesced_share"),
    ],
)
def test_each_latency_has_its_formula(expected, name):
    """
    The names are the field's, so they must mean what the field means by them.
    """
    report = report_of(whole(), verdict=Verdict.FINISHED, usage=usage(6, 2))

    assert pytest.approx(expected, rel=1e-12) == getattr(report, name)


def test_a_report_counts_what_it_saw():
    """
    Tokens are the server's count, events are ours; they aren't the same.
    """
    report = report_of(whole(), verdict=Verdict.FINISHED, usage=usage(6, 2, prompt=11))

    assert pytest.approx((0.1, 0.05, 0.1)) == report.inter_chunk_latencies
    assert (11, 6, 2) == (report.prompt_tokens, report.completion_tokens, report.reasoning_tokens)
    assert (7, 4, 2) == (report.events, report.token_events, report.coalesced_events)
    assert Distribution(n=3, p50=0.002, p99=0.00298, max=0.003) == report.client_lag
    assert CREATED == report.created_ns


@pytest.mark.parametrize(
    "name",
    [
        "dispatch_delay",
        "sent",
        "time_to_first_byte",
        "time_to_first_chunk",
        "time_to_first_token",
        "time_to_first_output",
        "time_per_output_token",
        "duration",
        "stream_end",
        "time_to_first_byte_from_sent",
        "time_to_first_chunk_from_sent",
        "time_to_first_token_from_sent",
        "time_to_first_output_from_sent",
        "duration_from_sent",
        "time_to_first_byte_from_schedule",
        "time_to_first_chunk_from_schedule",
        "time_to_first_token_from_schedule",
        "time_to_first_output_from_schedule",
        "duration_from_schedule",
        "coalesced_share",
        "client_lag",
        "prompt_tokens",
        "completion_tokens",
        "reasoning_tokens",
        "source",
    ],
)
def test_what_was_not_observed_is_none(name):
    """
    A connection that was refused has no time to first token, not one of 0.
    """
    report = report_of(Marks(created_ns=CREATED), verdict=Verdict.CONNECT_ERROR)

    assert getattr(report, name) is None


def test_a_report_of_nothing_has_empty_lists():
    """
    They are there to be looped over.
    """
    report = report_of(Marks(created_ns=CREATED), verdict=Verdict.CONNECT_ERROR)

    assert ((), (), ()) == (report.inter_chunk_latencies, report.choices, report.attempts)
    # No connection was asked for, and that took no time.
    assert attrs.evolve(Phases(), pool=report.phases.pool) == report.phases


def test_a_latency_is_unknown_from_a_moment_that_is():
    """
    Without a load generator nothing was due; without a send stamp nothing was sent.
    """
    report = report_of(spoken((0, 100, True)), verdict=Verdict.FINISHED)

    assert 0.1 == report.time_to_first_token
    assert report.time_to_first_token_from_sent is None
    assert report.time_to_first_token_from_schedule is None


def test_a_figure_of_the_class_is_nothing():
    """
    Tools that look at the class, as documentation does, get no error.
    """
    assert StreamReport.duration_from_sent is None


def test_each_choice_has_its_own_latencies():
    """
    Two choices take turns on the wire; each is an answer of its own.
    """
    marks = spoken((1, 200, True), (0, 100, False), (0, 150, True), (1, 260, True))

    report = report_of(
        marks, verdict=Verdict.LENGTH, usage=usage(9), finish_reasons={0: "stop", 1: "length"}
    )

    first = ChoiceReport(
        index=0,
        time_to_first_token=0.1,
        time_to_first_output=0.15,
        inter_chunk_latencies=(0.05,),
        duration=0.15,
        finish_reason="stop",
    )
    second = ChoiceReport(
        index=1,
        time_to_first_token=0.2,
        time_to_first_output=0.2,
        inter_chunk_latencies=(0.06,),
        duration=0.26,
        finish_reason="length",
    )
    assert (first, second) == report.choices
    assert (0.05, 0.06) == report.inter_chunk_latencies  # never from one choice to another
    assert (0.1, 0.15, 0.26) == (
        report.time_to_first_token,
        report.time_to_first_output,
        report.duration,
    )
    assert report.time_per_output_token is None  # the server counts all choices together


def test_a_choice_that_did_not_finish_has_no_reason():
    """
    None says so, rather than a missing key.
    """
    report = report_of(spoken((0, 100, True)), verdict=Verdict.TRUNCATED)

    assert report.choices[0].finish_reason is None


@pytest.mark.parametrize(
    ("expected", "tokens", "counted", "first_event_tokens"),
    [
        (0.1, "TTT", usage(5), 1),
        (0.2, "TTT", usage(5), 3),  # the server counts along: three came with the first event
        (0.1, "RTT", usage(5, 3), 1),  # reasoning was streamed, so it counts
        (0.1, "TTT", usage(105, 100), 1),  # reasoning was counted and never seen
        (None, "TTT", usage(101, 100), 1),
        (None, "TTT", usage(5), 5),
        (None, "TTT", usage(4), 5),
        (None, "TTT", usage(None), 1),
        (None, "TTT", None, 1),
        (0.1, "TTT", usage(5, 0), 1),
        (None, "", usage(5), 1),
    ],
)
def test_time_per_output_token_counts_the_tokens_that_were_streamed(
    expected, tokens, counted, first_event_tokens
):
    """
    N is the server's count, less reasoning that nobody saw; n1 came with the first event.
    """
    marks = spoken(*((0, 100 + 200 * n, kind == "T") for n, kind in enumerate(tokens)))
    marks.first_event_tokens = first_event_tokens

    report = report_of(marks, verdict=Verdict.FINISHED, usage=counted)

    assert expected == report.time_per_output_token


def test_reasoning_in_the_read_of_the_first_text_was_streamed_all_the_same():
    """
    Equal stamps come of one read; they don't say that there was no reasoning.
    """
    marks = spoken((0, 100, False), (0, 100, True), (0, 500, True))

    report = report_of(marks, verdict=Verdict.FINISHED, usage=usage(5, 3))

    assert 0.1 == report.time_per_output_token


# --- Phases --------------------------------------------------------------------


def test_the_phases_of_a_new_connection():
    """
    Each ends where the next begins, up to the first byte.
    """
    phases = report_of(whole(), verdict=Verdict.FINISHED).phases

    expected = Phases(
        reused=False,
        pool=0.001,
        dns=0.003,
        tcp=0.004,
        tls=0.011,
        connect=0.015,
        gate=0.004,
        send=0.006,
        headers=0.17,
        body=0.01,
    )
    assert pytest.approx(attrs.asdict(expected)) == attrs.asdict(phases)


def test_a_plain_connection_has_no_tls():
    """
    What little passes between the two moments then is no handshake.
    """
    phases = Phases.of(
        ConnectionMarks(
            started_ns=CREATED,
            connect_start_ns=at(2),
            tcp_connected_ns=at(12),
            connect_end_ns=at(13),
            acquired_ns=at(13),
        )
    )

    assert Phases(pool=0.002, tcp=0.01, connect=0.011) == phases


def test_the_phases_of_a_pooled_connection():
    """
    Nothing was opened, so that has no duration; the wait was for the pool.
    """
    phases = Phases.of(
        ConnectionMarks(
            started_ns=CREATED,
            reused=True,
            acquired_ns=at(7),
            sent_ns=at(8),
            headers_ns=at(20),
            first_byte_ns=at(21),
        )
    )

    assert Phases(reused=True, pool=0.007, send=0.001, headers=0.012, body=0.001) == phases


def test_the_phases_of_an_address_that_needs_no_lookup():
    """
    TCP then begins with the connection.
    """
    phases = Phases.of(
        ConnectionMarks(
            started_ns=CREATED, connect_start_ns=at(2), connect_end_ns=at(12), acquired_ns=at(12)
        )
    )

    assert Phases(pool=0.002, connect=0.01) == phases


# --- Out into the world ----------------------------------------------------------


def full():
    marks = whole()
    phases = Phases.of(marks.connection)
    return report_of(
        marks,
        verdict=Verdict.UPSTREAM_ERROR,
        usage=usage(6, 2, prompt=11),
        finish_reasons={0: None},
        stream_id=3,
        model="gpt",
        error="UpstreamError",
        attempts=(
            Attempt(number=1, started=0.0, status=500, error="HTTP 500"),
            Attempt(number=2, started=1.5, waited=0.5, status=200, request_id="r", phases=phases),
        ),
        source=ArrivalSource.KERNEL,
    )


def test_a_report_as_a_dict_is_json():
    """
    It goes to files and queues; an enum or a tuple as a key would stop it there.
    """
    plain = full().to_dict()

    assert plain == json.loads(orjson.dumps(plain))
    assert ("upstream_error", "kernel") == (plain["verdict"], plain["source"])
    assert str is type(plain["verdict"])


def test_a_report_as_a_dict_has_every_figure():
    """
    Also those that are worked out when asked for.
    """
    report = full()
    plain = report.to_dict()

    figures = {name for name in dir(report) if not name.startswith("_")} - {"to_dict"}
    assert figures == plain.keys()
    assert all(plain[name] == getattr(report, name) for name in figures if "_from_" in name)
    assert 2 / 7 == plain["coalesced_share"]
    assert 0.5 == plain["attempts"][1]["waited"]
    assert 0.003 == pytest.approx(plain["phases"]["dns"])
    assert 3 == plain["client_lag"]["n"]
    assert 0.3 == plain["choices"][0]["time_to_first_token"]


def test_a_report_as_a_dict_says_null_where_nothing_was_seen():
    """
    A missing key would be a question.
    """
    plain = report_of(Marks(created_ns=0), verdict=Verdict.CONNECT_ERROR).to_dict()

    assert full().to_dict().keys() == plain.keys()
    assert plain["time_to_first_token"] is None
    assert plain["client_lag"] is None


def test_a_report_as_text_is_a_table():
    """
    Milliseconds are for people, and only here.
    """
    expected = """\
verdict                upstream_error (UpstreamError)
attempts               2
request sent           30.00 ms
time to first byte     210.00 ms
time to first chunk    220.00 ms
time to first token    300.00 ms
time to first output   400.00 ms
time per output token  50.00 ms
duration               550.00 ms
inter-chunk latency    p50 100.00 ms, p99 100.00 ms, n 3
tokens                 11 in, 6 out
arrival                kernel stamps, 28.6% of events coalesced"""

    assert expected == str(full())


def test_a_table_leaves_out_what_is_unknown():
    """
    A row of dashes tells nothing.
    """
    marks = Marks(created_ns=0)

    assert "verdict  connect_error" == str(report_of(marks, verdict=Verdict.CONNECT_ERROR))


def test_a_table_of_a_stream_with_little_to_tell():
    """
    One attempt isn't worth a row, nor are prompt tokens nobody counted.
    """
    report = report_of(
        Marks(created_ns=0),
        verdict=Verdict.FINISHED,
        usage=usage(6),
        attempts=(Attempt(number=1, started=0.0),),
        source=ArrivalSource.TRANSPORT,
    )

    expected = """\
verdict  finished
tokens   6 out
arrival  transport stamps, 0.0% of events coalesced"""
    assert expected == str(report)


def test_a_distribution_in_short():
    """
    A percentile comes with its n.
    """
    assert Distribution(n=1, p50=2.0, p99=2.0, max=2.0) == Distribution.of([2.0])
    assert Distribution(n=3, p50=2.0, p99=2.98, max=3.0) == Distribution.of([3.0, 1.0, 2.0])
    assert Distribution.of([]) is None


def test_a_report_stays_as_it_was():
    """
    It is handed to observers while others read it.
    """
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        full().verdict = Verdict.FINISHED
