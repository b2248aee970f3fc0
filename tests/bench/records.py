"""Records written by hand, in seconds."""

from array import array

from chatstream.bench.log import Log
from chatstream.bench.record import RequestRecord

NS = 1_000_000_000


def ns(seconds):
    return None if seconds is None else round(seconds * NS)


def record(*arrivals, created=0.0, end=None, kinds=None, scheduled=None, number=0, **facts):
    """A request whose events came at *arrivals*, each with content if *kinds* doesn't say.

    Facts named after a moment are seconds, too; by default the stream ended well with its
    last event, and was due when it was made.
    """
    moments = ("acquired", "gate_passed", "sent", "headers", "first_byte", "first_chunk")
    given = {f"{name}_ns": ns(facts.pop(name)) for name in moments if name in facts}
    last = max([created, *arrivals])
    return RequestRecord(
        number=number,
        scheduled_ns=ns(created if scheduled is None else scheduled),
        created_ns=ns(created),
        end_ns=ns(last if end is None else end),
        arrivals_ns=array("q", map(ns, arrivals)),
        kinds="c" * len(arrivals) if kinds is None else kinds,
        **({"verdict": "finished"} | given | facts),
    )


def log(*records):
    return Log.of(records)
