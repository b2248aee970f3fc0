"""chatstream.bench.log: lines in, columns out, and nothing that can't be read goes unsaid."""

import random
from array import array

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bench.log import Log, LogError
from chatstream.bench.record import KINDS, RequestRecord
from tests.bench.records import log, record


def line_of(**changes):
    """A line with these facts; those that are ``...`` are left out."""
    facts = orjson.loads(record(0.2, 0.3, created=0.1).to_line()) | changes
    return orjson.dumps({name: fact for name, fact in facts.items() if fact is not ...}) + b"\n"


# --- What was observed, and what wasn't --------------------------------------


def test_moments_are_seconds_and_nan_where_unobserved():
    found = log(record(0.2, created=0.1, sent=0.15, end=0.25))

    assert [0.1] == found.created
    assert [0.15] == found.sent
    assert [0.25] == found.end
    assert np.isnan(found.first_byte)
    assert [200_000_000] == found.arrivals_ns


def test_a_moment_and_an_arrival_of_one_event_are_equal():
    """
    Who compares the two must not find a difference of rounding.
    """
    odd = 1_234_567_891 / 1e9
    found = log(record(odd, first_chunk=odd))

    assert found.first_chunk == found.arrivals_ns / 1_000_000_000


def test_what_a_line_left_out_has_its_usual_value():
    left_out = dict.fromkeys(
        ("turn", "turns_left", "target", "stage", "worker", "attempts", "paused"), ...
    )
    found = Log.of_lines([line_of(**left_out)])

    assert [0, 0, 0, 0] == [*found.turn, *found.target, *found.stage, *found.worker]
    assert [1] == found.attempts
    assert not found.warmup.any()
    assert [""] == found.error
    assert [None] == found.text
    assert [0.0] == found.paused


@pytest.mark.parametrize(("expected", "reused"), [(1, True), (0, False), (np.nan, None)])
def test_whether_a_connection_was_new_may_be_unknown(expected, reused):
    np.testing.assert_equal(log(record(reused=reused)).reused, [expected])


def test_events_have_what_few_of_them_have():
    """
    Requests without choices, counts or a truth server's stamps stand beside some with them.
    """
    found = log(
        record(0.1, number=1),
        record(0.2, 0.3, created=0.1, choices=[0, 1], coalesced=[0], number=2),
        record(0.3, created=0.2, tokens=[4], truth_ns=array("q", [299_000_000]), number=3),
        record(0.4, created=0.3, number=4),
    )

    assert [0, 1, 3, 4, 5] == found.offsets.tolist()
    assert [0, 0, 1, 0, 0] == found.choices.tolist()
    assert [False, True, False, False, False] == found.coalesced.tolist()
    assert [-1, -1, -1, 4, -1] == found.tokens.tolist()
    assert [-1, -1, -1, 299_000_000, -1] == found.truth_ns.tolist()
    assert [0, 1, 1, 2, 3] == found.owner.tolist()


def test_columns_that_no_event_has_take_no_memory():
    """
    Ten million events of a usual server have 200 MB of nothing there.
    """
    found = log(record(*range(1, 100)), record(*range(2, 90), created=1.0))
    part = found.where(np.array([True, False]))

    assert (0,) == found.truth_ns.strides == part.truth_ns.strides
    assert 99 == len(part.truth_ns) == len(part.choices)


def test_no_lines_are_an_empty_log():
    found = log()

    assert 0 == len(found)
    assert [0] == found.offsets.tolist()
    assert [] == found.good.tolist() == found.owner.tolist()
    assert not found.cut


# --- Order and choice --------------------------------------------------------


def test_requests_are_in_the_order_of_their_creation():
    """
    They are written when they end, by several workers.
    """
    found = log(
        record(0.5, 0.9, created=0.3, number=7, text="c", kinds="cf"),
        record(0.2, created=0.1, number=8, text="a", kinds="r"),
        record(created=0.2, number=9, text="b"),
    )

    assert [8, 9, 7] == found.number.tolist()
    assert ["a", "b", "c"] == found.text.tolist()
    assert [0, 1, 1, 3] == found.offsets.tolist()
    assert [200_000_000, 500_000_000, 900_000_000] == found.arrivals_ns.tolist()
    assert "rcf" == bytes(found.kinds).decode()


def test_requests_created_at_once_stay_in_the_order_of_the_file():
    found = log(*(record(number=number) for number in (4, 2, 9, 1)))

    assert [4, 2, 9, 1] == found.number.tolist()


requests = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.lists(st.tuples(st.integers(50, 99), st.sampled_from(sorted(KINDS))), max_size=5),
    ),
    max_size=8,
)


@given(requests=requests, seed=st.integers(0, 9))
def test_any_choice_of_requests_is_as_if_the_others_had_never_been(requests, seed):
    records = [
        record(
            *(at for at, _ in events),
            created=created,
            kinds="".join(kind for _, kind in events),
            number=number,
            coalesced=[len(events) - 1] if events else [],
            tokens=[number] * len(events) if number % 2 else [],
        )
        for number, (created, events) in enumerate(requests)
    ]
    chosen = [random.Random(seed + each.number).random() < 0.6 for each in records]
    whole = log(*records)
    part = whole.where(np.array([chosen[number] for number in whole.number], np.bool_))
    alone = log(*(each for each, take in zip(records, chosen, strict=True) if take))

    for name in ("number", "offsets", "arrivals_ns", "kinds", "coalesced", "tokens", "owner"):
        assert getattr(alone, name).tolist() == getattr(part, name).tolist()


def test_all_requests_are_the_log_itself():
    """
    A run without warm-up isn't copied.
    """
    whole = log(record(0.1), record(0.2))

    assert whole is whole.where(np.array([True, True]))


def test_events_are_told_by_kind_and_by_request():
    found = log(record(0.1, 0.2, 0.3, kinds="-rc"), record(0.5, created=0.4))

    assert [False, True, True, True] == found.of_kinds("cr").tolist()
    assert [False] * 4 == found.of_kinds("").tolist()
    assert [False, False, False, True] == found.of_requests(np.array([False, True])).tolist()


@pytest.mark.parametrize(
    ("expected", "verdict"),
    [
        (True, "finished"),
        (True, "length"),
        (True, "content_filter"),
        (False, "truncated"),
        (False, "cancelled"),
        (False, "timeout"),
    ],
)
def test_streams_that_ended_by_themselves_are_good(expected, verdict):
    assert [expected] == log(record(verdict=verdict)).good.tolist()


# --- Files -------------------------------------------------------------------


def test_a_file_gives_what_was_written(tmp_path):
    path = tmp_path / "requests.jsonl"
    records = [record(0.2, 0.3, created=0.1), RequestRecord(
        number=5, turn=1, turns_left=6, target=2, stage=3, worker=4, warmup=True,
        scheduled_ns=1, created_ns=2, acquired_ns=3, gate_passed_ns=4, sent_ns=5,
        headers_ns=6, first_byte_ns=7, first_chunk_ns=8, end_ns=9, reused=True,
        verdict="timeout", error="IdleTimeoutError", detail="no token within 3 s",
        status=200, attempts=2, prompt_tokens=11, completion_tokens=12, reasoning_tokens=13,
        source="kernel", paused=0.5, text="é",
    )]  # fmt: skip
    path.write_bytes(b"".join(each.to_line() for each in records))

    found = Log.read(path)
    first = {
        name: getattr(found, name)[0]
        for name in ("turn", "turns_left", "target", "stage", "worker", "warmup", "reused",
                     "verdict", "error", "detail", "status", "attempts",
                     "prompt_tokens", "completion_tokens", "reasoning_tokens",
                     "source", "paused", "text")
    }  # fmt: skip
    moments = [
        getattr(found, name)[0]
        for name in ("scheduled", "created", "acquired", "gate_passed", "sent", "headers",
                     "first_byte", "first_chunk", "end")
    ]  # fmt: skip

    assert {
        "turn": 1, "turns_left": 6, "target": 2, "stage": 3, "worker": 4, "warmup": True,
        "reused": 1, "verdict": "timeout", "error": "IdleTimeoutError",
        "detail": "no token within 3 s", "status": 200, "attempts": 2,
        "prompt_tokens": 11, "completion_tokens": 12, "reasoning_tokens": 13,
        "source": "kernel", "paused": 0.5, "text": "é",
    } == first  # fmt: skip
    assert [place / 1e9 for place in range(1, 10)] == moments
    assert [5, 0] == found.number.tolist()
    assert not found.cut


@pytest.mark.parametrize("rest", [b'{"v":1,"numb', b'{"v":1}', b" "])
def test_a_last_line_without_its_end_is_left_out_and_told(tmp_path, rest):
    """
    A run that was killed in the middle of a line has all its other requests.
    """
    path = tmp_path / "requests.jsonl"
    path.write_bytes(line_of() + rest)

    found = Log.read(path)

    assert 1 == len(found)
    assert found.cut
    assert found.where(np.array([False])).cut


def test_empty_lines_are_nothing(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"\n" + line_of() + b"  \r\n")

    assert 1 == len(Log.read(path))


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Log.read(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"{\n", "unexpected end"),
        (b"[1]\n", "a JSON list"),
        (b"null\n", "a JSON NoneType"),
        (b'{"verdict":"finished"}\n', "version None, and only 1 is known"),
        (line_of(v=2), "version 2, and only 1 is known"),
        (line_of(created_ns=..., verdict=...), "none with created_ns, verdict"),
        (line_of(created_ns=None), "must be real number, not NoneType"),
        (line_of(number="seven"), "must be real number, not str"),
        (line_of(verdict=7), "verdict 7"),
        (line_of(text=["a"]), "must be str"),
        (line_of(kinds="c"), "2 arrivals and the kinds 'c'"),
        (line_of(kinds="cz"), "2 arrivals and the kinds 'cz'"),
        (line_of(kinds=["c", "c"]), "2 arrivals and the kinds ['c', 'c']"),
        (line_of(kinds=7), "2 arrivals and the kinds 7"),
        (line_of(arrivals_ns=7), "has no len()"),
        (line_of(arrivals_ns=[1, "2"]), "str"),
        (line_of(choices=[0]), "2 arrivals and 1 choices"),
        (line_of(tokens=[1, 2, 3]), "2 arrivals and 3 tokens"),
        (line_of(choices=[0, 99_999]), "short"),
        (line_of(coalesced=[2]), "2 arrivals and a coalesced one at 2"),
        (line_of(coalesced=[-1]), "2 arrivals and a coalesced one at -1"),
    ],
)
def test_a_line_that_is_no_record_is_pointed_at(tmp_path, line, seen):
    """
    Which file, which line, and what was there instead.
    """
    path = tmp_path / "requests.jsonl"
    path.write_bytes(line_of() + b"\n" + line)

    with pytest.raises(LogError) as caught:
        Log.read(path)

    assert f"{path}, line 3: expected a request's record, got " in str(caught.value)
    assert seen in str(caught.value)
    assert (str(path), 3) == (caught.value.source, caught.value.line)


@pytest.mark.parametrize(
    "change",
    [{"target": 200_000_000}, {"target": -3}, {"stage": -1}, {"turn": 10**6}, {"verdict": "weird"}],
)
def test_places_and_verdicts_that_there_are_none_of_are_refused(change):
    """
    There is something for each target: a damaged number must not make 200 million of them.
    """
    line = {"v": 1, "number": 0, "scheduled_ns": 0, "created_ns": 0, "end_ns": 1}
    whole = orjson.dumps(line | {"verdict": "finished"} | change) + b"\n"

    with pytest.raises(LogError, match=str(next(iter(change)))):
        Log.of_lines([whole])


def test_a_count_of_tokens_may_be_absurd():
    line = {"v": 1, "number": 0, "scheduled_ns": 0, "created_ns": 0, "end_ns": 1, "kinds": "c"}
    line |= {"arrivals_ns": [1], "tokens": [3_000_000_000], "verdict": "finished"}

    assert [3_000_000_000] == Log.of_lines([orjson.dumps(line) + b"\n"]).tokens.tolist()
