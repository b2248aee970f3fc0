"""The parser against the standard's own steps, and against itself on other cuts."""

from tests.fuzz.claims import cuts
from tests.test_sse import outcome, parse, reference

BOM = b"\xef\xbb\xbf"
LIMIT = 40


def check(data):
    """Events are those of the standard, and neither they nor an error depend on the cuts."""
    events = [(event.event, event.data, event.id) for event in parse(data)]
    assert reference(data) == events

    # A BOM at the start is no part of an event, but is it kept until the line ends.
    limited = data.replace(BOM, b"")
    whole, tight = outcome([data]), outcome([limited], limit=LIMIT)
    for reads in cuts(data):
        assert whole == outcome(reads), reads
    for reads in cuts(limited):
        assert tight == outcome(reads, limit=LIMIT), reads
