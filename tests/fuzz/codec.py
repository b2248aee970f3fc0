"""Any bytes as JSON, and as the body of a stream: an answer or a documented error."""

from tests.fuzz.claims import json_holds, reading_holds


def check(data):
    """Nothing else ever leaves the codec, the reader, the collector or the typed events."""
    json_holds(data)
    reading_holds(data)
    reading_holds(b"data: %b\n\n" % data)
