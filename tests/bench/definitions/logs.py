"""Small logs to work out by hand."""

from array import array

from chatstream.bench.log import Log
from chatstream.bench.record import RequestRecord

MS = 1_000_000

CUT = "stream ended without finish_reason or [DONE], after 3 events"


def asked(stream="", *, at=0, due=None, end=None, first_chunk=None, coalesced=(), **facts):
    """A request made *at* ms; *stream* has a word for each event, as ``c120`` or ``c120:1``.

    That is its kind, its milliseconds, and its choice.
    """
    words = [word.partition(":") for word in stream.split()]
    moments = [int(event[1:]) * MS for event, _, _ in words]
    choices = [int(choice or 0) for _, _, choice in words]
    if first_chunk is None and moments:
        first_chunk = moments[0] // MS
    if end is None:
        end = moments[-1] // MS if moments else at
    return RequestRecord(
        number=facts.pop("number", 0),
        scheduled_ns=(at if due is None else due) * MS,
        created_ns=at * MS,
        first_chunk_ns=None if first_chunk is None else first_chunk * MS,
        end_ns=end * MS,
        arrivals_ns=array("q", moments),
        kinds="".join(event[0] for event, _, _ in words),
        choices=choices if any(choices) else [],
        coalesced=list(coalesced),
        verdict=facts.pop("verdict", "finished"),
        status=facts.pop("status", 200),
        **facts,
    )


def log_of(*records):
    return Log.of(records)
