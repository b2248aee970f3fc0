"""Event streams as the HTML standard reads them, however the network cuts them."""

import gc
import random
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatstream.errors import EventTooLargeError
from chatstream.sse import DEFAULT_MAX_EVENT_SIZE, ServerSentEvent, SSEParser

ENDS = {"LF": b"\n", "CR": b"\r", "CRLF": b"\r\n"}


def parse(*reads):
    """The events of these reads."""
    return feed_all(SSEParser(), reads)


def said(*reads):
    """The type and the data of each event."""
    return [(event.event, event.data) for event in parse(*reads)]


def data_of(*reads):
    return [event.data for event in parse(*reads)]


def bytewise(body):
    return [body[at : at + 1] for at in range(len(body))]


def cut(body, places):
    """*body* in reads that end at these places."""
    edges = [0, *sorted(place for place in places if place < len(body)), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


def feed_all(parser, reads):
    return [event for read in reads for event in parser.feed(read)]


def outcome(reads, *, limit=DEFAULT_MAX_EVENT_SIZE):
    """All that can be seen of a parser: events, an error, what is left, comments."""
    parser = SSEParser(max_event_size=limit)
    events = []
    try:
        for read in reads:
            events += parser.feed(read)
    except EventTooLargeError as error:
        return [*events, *error.events], "too large", None, None
    left = parser.finish()
    return events, bool(left), left, parser.comments


# --- What the standard says, one case each -----------------------------------

CASES = {
    # The BOM.
    "a BOM at the start is no part of the first line": (b"\xef\xbb\xbfdata: 1\n\n", ["1"]),
    "only the very first BOM is dropped": (
        b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\ndata: 2\n\n",
        ["2"],
    ),
    "a BOM later on is a part of its field's name": (
        b"data: 1\n\n\xef\xbb\xbfdata: 2\n\ndata: 3\n\n",
        ["1", "3"],
    ),
    "a BOM on the second line isn't dropped": (b"\n\xef\xbb\xbfdata: 1\n\n", []),
    "a BOM and a blank line": (b"\xef\xbb\xbf\ndata: 1\n\n", ["1"]),
    "a BOM in the data stays": (b"data: \xef\xbb\xbf1\n\n", ["\ufeff1"]),
    "two of a BOM's three bytes are no BOM": (b"\xef\xbbdata: 1\n\n", []),
    # Comments.
    "comments between data lines are skipped": (
        b"data: 1\n: a comment\ndata: 2\n:\n:: three\ndata: 3\n\n",
        ["1\n2\n3"],
    ),
    "a comment may hold what looks like a field": (b":data: 1\n\ndata: 2\n\n", ["2"]),
    "a long comment is skipped like a short one": (
        b"data: 1\n:" + b"x" * 5000 + b"\ndata: 2\n\n",
        ["1\n2"],
    ),
    "a comment with NUL and invalid UTF-8": (b":\0\xff\ndata: 1\n\n", ["1"]),
    # The end of the stream.
    "an event without its blank line is not dispatched": (b"data: 1\n\ndata: 2\n", ["1"]),
    "a line without its end is not read": (b"data: 1\n\ndata: 2", ["1"]),
    # data.
    "data without a value is an empty line": (
        b"data:\n\ndata\ndata\n\ndata:1\n\n",
        ["", "\n", "1"],
    ),
    "data lines are joined by LF": (b"data: a\ndata\ndata: b\n\n", ["a\n\nb"]),
    "a trailing empty data line leaves one LF": (b"data: a\ndata:\n\n", ["a\n"]),
    "one space after the colon is dropped": (b"data:1\ndata: 2\ndata:  3\n\n", ["1\n2\n 3"]),
    "a space before the colon is a part of the name": (b"data : 1\n\ndata: 2\n\n", ["2"]),
    "a space before the name is a part of the name": (b" data: 1\n\ndata: 2\n\n", ["2"]),
    "a tab is no space": (b"data:\t1\n\n", ["\t1"]),
    "a no-break space is no space": (b"data:\xc2\xa01\n\n", ["\xa01"]),
    "blanks at the end stay": (b"data: 1 \t \n\n", ["1 \t "]),
    "only the first colon parts name and value": (b"data: a:b: c\n\n", ["a:b: c"]),
    "a field's name is compared as it is": (b"Data: 1\nDATA: 2\ndata: 3\n\n", ["3"]),
    "a longer name is another field": (b"data1: 1\ndatax\ndata: 2\n\n", ["2"]),
    "a shorter name is another field": (b"dat: 1\ndat\nd\ndata: 2\n\n", ["2"]),
    # Unknown fields.
    "unknown fields are ignored": (
        b"data: 1\nfoo: 2\nfoo\ndatum:3\nerror: 4\njustsome text\ndata: 5\n\n",
        ["1\n5"],
    ),
    "a colon alone is a comment, a name alone a field": (b":\nx\n\ndata: 1\n\n", ["1"]),
    # NUL and UTF-8.
    "NUL is a character like any other": (b"data: \0\n\ndata: a\0b\n\n", ["\0", "a\0b"]),
    "NUL in a name makes another field": (b"data\0: 1\n\ndata: 2\n\n", ["2"]),
    "text is UTF-8": ("data: grüße, 世界 🎉\n\n".encode(), ["grüße, 世界 🎉"]),
    "U+2028, U+0085 and the like end no line": (
        "data: a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n\n".encode(),
        ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"],
    ),
    "a byte that isn't UTF-8 becomes U+FFFD": (b"data: a\xffb\n\n", ["a\ufffdb"]),
    "a character cut by the line's end becomes U+FFFD": (b"data: \xe2\x82\n\n", ["\ufffd"]),
    "a character cut by another becomes U+FFFD": (b"data: \xe2\x82a\n\n", ["\ufffda"]),
    "an overlong form is invalid, byte by byte": (b"data: \xc0\xaf\n\n", ["\ufffd\ufffd"]),
    "an encoded surrogate is invalid, byte by byte": (b"data: \xed\xa0\xbd\n\n", ["\ufffd" * 3]),
    "beyond U+10FFFF is invalid, byte by byte": (b"data: \xf4\x90\x80\x80\n\n", ["\ufffd" * 4]),
    "halves of a character in two lines don't meet": (
        b"data: \xc3\ndata: \xbc\n\n",
        ["\ufffd\n\ufffd"],
    ),
    "windows-1252 is not guessed": (b"data: caf\xe9\n\n", ["caf\ufffd"]),
    # Blank lines.
    "blank lines alone are nothing": (b"\n\n\n\n", []),
    "a comment block dispatches nothing": (b": ping\n\n: ping\n\n", []),
    "many blank lines between events": (b"data: 1\n\n\n\n\ndata: 2\n\n\n", ["1", "2"]),
    "a line of one space isn't blank": (b"data: 1\n \n\n", ["1"]),
    # What chat servers send.
    "a chat stream": (
        b'data: {"choices":[]}\n\ndata: [DONE]\n\n',
        ['{"choices":[]}', "[DONE]"],
    ),
}


@pytest.mark.parametrize("feed", [lambda body: [body], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("name", CASES)
def test_data_is_read_as_the_standard_says(name, end, feed):
    """
    HTML Living Standard, 9.2.6; the line end must change nothing.
    """
    body, expected = CASES[name]

    assert expected == data_of(*feed(body.replace(b"\n", end)))


TYPES = {
    "a type names its event alone": (
        b"event: test\ndata: 1\n\ndata: 2\n\n",
        [("test", "1"), ("message", "2")],
    ),
    "an empty type is message": (
        b"event:\ndata: 1\n\nevent\ndata: 2\n\nevent: \ndata: 3\n\n",
        [("message", "1"), ("message", "2"), ("message", "3")],
    ),
    "the last type counts": (b"event: a\nevent: b\ndata: 1\n\n", [("b", "1")]),
    "an empty type takes an earlier one back": (
        b"event: a\nevent:\ndata: 1\n\n",
        [("message", "1")],
    ),
    "a type may come after the data": (b"data: 1\nevent: a\n\n", [("a", "1")]),
    "a type without data is forgotten": (
        b"event: a\n\ndata: 1\n\n",
        [("message", "1")],
    ),
    "one space is dropped, more are kept": (b"event:  a \ndata: 1\n\n", [(" a ", "1")]),
    "a type is UTF-8 with replacement": (
        b"event: \xc3\xbc\xff\ndata: 1\n\n",
        [("ü\ufffd", "1")],
    ),
    "a type is compared as it is": (b"event: Message\ndata: 1\n\n", [("Message", "1")]),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("name", TYPES)
def test_an_event_has_the_type_of_its_own_block(name, end):
    """
    9.2.6: the event type buffer is emptied by each blank line.
    """
    body, expected = TYPES[name]
    body = body.replace(b"\n", end)

    assert expected == said(body)
    assert expected == said(*bytewise(body))


IDS = {
    "an id lasts until it changes": (
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\ndata: d\n\n",
        ["1", "1", "2", "2"],
    ),
    "an empty id takes it back": (
        b"id: 1\ndata: a\n\nid\ndata: b\n\nid: 2\ndata: c\n\nid:\ndata: d\n\n",
        ["1", "", "2", ""],
    ),
    "an id of a block without data counts for the next": (b"id: 7\n\ndata: a\n\n", ["7"]),
    "an id after the data counts": (b"data: a\nid: 3\n\n", ["3"]),
    "an id with NUL is ignored, and changes nothing": (
        b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid: \0\ndata: c\n\nid:\0003\ndata: d\n\n",
        ["1", "1", "1", "1"],
    ),
    "an id is any text": ("id:  ü 1\ndata: a\n\n".encode(), [" ü 1"]),
    "an id is UTF-8 with replacement": (b"id: \xff\ndata: a\n\n", ["\ufffd"]),
    "without an id it is empty": (b"data: a\n\n", [""]),
    "a longer name is no id": (b"idx: 1\nid : 2\nID: 3\ndata: a\n\n", [""]),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("name", IDS)
def test_the_last_event_id_lasts(name, end):
    """
    9.2.6: the last event ID buffer is never emptied, only set.
    """
    body, expected = IDS[name]
    body = body.replace(b"\n", end)

    assert expected == [event.id for event in parse(body)]
    assert expected == [event.id for event in parse(*bytewise(body))]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"retry:3000", 3000),
        (b"retry: 3000", 3000),
        (b"retry: 0", 0),
        (b"retry: 0003", 3),
        (b"retry:1\nretry:2", 2),
        (b"retry:5\nretry:x", 5),
        (b"retry:5\nretry", 5),
        (b"retry:999999999999999999", 999_999_999_999_999_999),
        (b"retry", None),
        (b"retry:", None),
        (b"retry: ", None),
        (b"retry:  1", None),
        (b"retry: 1 ", None),
        (b"retry:1000x", None),
        (b"retry:x", None),
        (b"retry:-1", None),
        (b"retry:+1", None),
        (b"retry:1.5", None),
        (b"retry:1e3", None),
        (b"retry:0x10", None),
        (b"retry:1_000", None),
        (b"retry:\xd9\xa3", None),  # an Arabic digit three
        (b"retry:\xc2\xb2", None),  # a superscript two
        (b"retry:" + b"9" * 19, None),
        (b"retry:" + b"9" * 5000, None),  # int() itself would raise
        (b"Retry: 1", None),
    ],
)
def test_retry_counts_if_it_is_all_ascii_digits(field, expected):
    """
    9.2.6. Numbers beyond 64 bits are no waiting time for anyone.
    """
    body = field + b"\ndata: 1\n\ndata: 2\n\n"

    assert [expected, None] == [event.retry for event in parse(body)]


def test_retry_without_data_makes_no_event():
    """
    Servers begin with a lone ``retry:`` block; it isn't the next event's.
    """
    assert [ServerSentEvent("message", "1", "", None)] == parse(b"retry: 1\n\ndata: 1\n\n")


def test_comments_are_counted():
    """
    Keep-alives show that the server lives, though they are no events.
    """
    parser = SSEParser()
    parser.feed(b": ping\n\n:\r\r: no end")

    assert 2 == parser.comments


# --- Line ends and cuts ------------------------------------------------------

SAMPLE = (
    "\ufeff: hello\nid: 1\nevent: größe\ndata: 世\ndata\ndata:  界 🎉\n\n"
    "data: x\nretry: 10\n\n\nfoo: 1\n: again\ndata: [DONE]\n\nevent: left\ndata: over\ndata: ü"
).encode()
SAMPLE_EVENTS = [
    ServerSentEvent("größe", "世\n\n 界 🎉", "1", None),
    ServerSentEvent("message", "x", "1", 10),
    ServerSentEvent("message", "[DONE]", "1", None),
]
SAMPLE_LEFT = "event: left\ndata: over\ndata: ü".encode()


def randomly(body):
    rng = random.Random(len(body))
    return cut(body, {rng.randrange(1, len(body)) for _ in range(20)})


@pytest.mark.parametrize(
    "feed", [lambda body: [body], bytewise, randomly], ids=["whole", "bytewise", "random"]
)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_each_line_end_and_each_cut_give_the_same(end, feed):
    """
    Servers use all three line ends, networks all cuts.
    """
    body = SAMPLE.replace(b"\n", end)

    assert (SAMPLE_EVENTS, True, SAMPLE_LEFT, 2) == outcome(feed(body))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_each_single_cut_gives_the_same(end):
    """
    Every place once: inside characters, the BOM, field names and CRLF.
    """
    body = SAMPLE.replace(b"\n", end)

    for place in range(1, len(body)):
        assert (SAMPLE_EVENTS, True, SAMPLE_LEFT, 2) == outcome(cut(body, [place]))


def test_line_ends_may_be_mixed():
    """
    Proxies add their own lines; CR CR LF is two ends, LF CR too.
    """
    body = b"data: 1\r\ndata: 2\rdata: 3\n\rdata: 4\r\r\ndata: 5\n\r\ndata: 6\r\n\n"

    assert ["1\n2\n3", "4", "5", "6"] == data_of(body)
    assert ["1\n2\n3", "4", "5", "6"] == data_of(*bytewise(body))


def test_an_empty_read_between_cr_and_lf_changes_nothing():
    """
    A read of nothing must not be taken for the byte after the CR.
    """
    assert ["1"] == data_of(b"data: 1\r", b"", b"\n", b"", b"\r", b"", b"\n")
    assert [] == data_of(b"data: 1\r", b"", b"\n")


def test_only_one_lf_after_a_cr_is_dropped():
    """
    CR at the end of a read, then LF LF: a line end and a blank line.
    """
    assert ["1"] == data_of(b"data: 1\r", b"\n\n")
    assert ["1", "2"] == data_of(b"data: 1\r\r", b"\ndata: 2\n\n")


fragments = st.sampled_from(
    [
        b"data",
        b"data:",
        b"data: ",
        b"data: x",
        b"event: e",
        b"event",
        b"id: 1",
        b"id",
        b"id: \0",
        b"retry: 5",
        b"retry: x",
        b": c",
        b":",
        b" ",
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\r\r",
        b"\r\n\r\n",
        b"\xef\xbb\xbf",
        b"\xe2\x82",
        b"\xac",
        b"\xff",
        b"\0",
        "ü€🎉".encode(),
        b"foo",
        b"[DONE]",
        b"",
    ]
)
bodies = st.one_of(
    st.lists(fragments, max_size=30).map(b"".join),
    st.lists(fragments, max_size=30).map(lambda parts: b"\xef\xbb\xbf" + b"".join(parts)),
    st.binary(max_size=60),
)


@given(bodies, st.sets(st.integers(1, 200), max_size=20))
@example(b"\xef\xbb\xbfdata: 1\r\n\r\n", {1, 2, 9, 11, 12, 13})
def test_any_cut_gives_the_same_events_leftovers_and_comments(body, places):
    """
    Network reads may end anywhere, even inside a character.
    """
    whole = outcome([body])

    assert whole == outcome(cut(body, places))
    assert whole == outcome(bytewise(body))


@given(bodies, st.sets(st.integers(1, 200), max_size=20), st.integers(1, 40))
@example(b"data: 123456\n\n", {3}, 12)
@example(b":123456789012\ndata: 1\n\n", {3}, 10)
@example(b"data:123\ndata:456\ndata:789\n\n", set(), 11)
def test_any_cut_breaks_the_limit_at_the_same_event(body, places, limit):
    """
    Whether an event is too large must not depend on the network.
    """
    body = body.replace(b"\xef\xbb\xbf", b"")
    whole = outcome([body], limit=limit)

    assert whole == outcome(cut(body, places), limit=limit)
    assert whole == outcome(bytewise(body), limit=limit)


# --- An independent reading of the standard ----------------------------------


def reference(body):
    """9.2.5 and 9.2.6 word by word, on the whole text; (type, data, last id)s."""
    text = body.decode("utf-8", "replace")
    text = text[1:] if text[:1] == "\ufeff" else text
    lines, line, at = [], "", 0
    while at < len(text):
        if text[at] in "\r\n":
            at += text[at : at + 2] == "\r\n"
            lines.append(line)
            line = ""
        else:
            line += text[at]
        at += 1

    dispatched = []
    data_buffer, type_buffer, last_id = "", "", ""
    for line in lines:
        if line == "":
            if data_buffer != "":
                dispatched.append((type_buffer or "message", data_buffer[:-1], last_id))
            data_buffer, type_buffer = "", ""
            continue
        field, colon, value = line.partition(":")
        if colon and not field:
            continue
        value = value[1:] if value[:1] == " " else value
        if field == "event":
            type_buffer = value
        elif field == "data":
            data_buffer += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id = value
    return dispatched


@given(bodies)
def test_the_standards_own_steps_give_the_same(body):
    """
    The standard splits decoded text; we split bytes and decode what is left.
    """
    assert reference(body) == [(event.event, event.data, event.id) for event in parse(body)]


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(0, 100))
def test_arbitrary_bytes_never_raise_anything_but_too_large(reads, limit):
    """
    Garbage gives events or a documented error, nothing else.
    """
    events, unfinished, left, comments = outcome(reads, limit=limit)

    assert all(type(event.data) is str for event in events)
    assert unfinished in {True, False, "too large"}
    assert left is None or isinstance(left, bytes)
    assert comments is None or comments >= 0


# --- When an event leaves ----------------------------------------------------


def when(body):
    """Feed byte by byte; the number of bytes after which each event appeared."""
    parser = SSEParser()
    return [at for at, byte in enumerate(bytewise(body), 1) for _ in parser.feed(byte)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: 1\n\n", [9]),
        (b"data: 1\r\r", [9]),
        (b"data: 1\r\n\r\n", [10]),  # at the CR: the LF isn't waited for
        (b"data: 1\r\n\n", [10]),
        (b"data: 1\n\r\n", [9]),
        (b"data: 1\r\rdata: 2\r\r", [9, 18]),
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [10, 21]),
        (b": x\n\ndata: 1\n\n", [14]),
    ],
)
def test_an_event_leaves_with_the_byte_that_completes_it(body, expected):
    """
    Its arrival is the event's arrival: one byte late is one network wait late.
    """
    assert expected == when(body)


def test_an_event_leaves_with_a_cr_at_the_end_of_a_read():
    """
    The LF may be a network wait away.
    """
    parser = SSEParser()

    assert ["1"] == [event.data for event in parser.feed(b"data: 1\r\n\r")]
    assert [] == parser.feed(b"\n")
    assert ["2"] == [event.data for event in parser.feed(b"data: 2\r\r")]


# --- What was left -----------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b"", b""),
        (b"data: 1\n\n", b""),
        (b"data: 1\r\n\r\n", b""),
        (b": comment\n", b""),
        (b"id: 1\nretry: 2\n", b""),
        (b"data: 1\n\n\n", b""),
        (b"dat", b"dat"),
        (b"\n: comm", b": comm"),
        (b"data: [DONE]", b"data: [DONE]"),
        (b"data: [DONE]\n", b"data: [DONE]\n"),
        (b"data:[DONE]\r", b"data: [DONE]\n"),
        (b"data\n", b"data: \n"),
        (b"data: 1\ndata: 2\nda", b"data: 1\ndata: 2\nda"),
        (b"event: e\n", b"event: e\n"),
        (b"event: e\ndata: 1\n", b"event: e\ndata: 1\n"),
        (b"data: \xe2\x82", b"data: \xe2\x82"),
        (b"\xef\xbb\xbf", b""),
        (b"\xef\xbb\xbfdata: 1", b"data: 1"),
        (b"\xef\xbb", b"\xef\xbb"),
        (b"\n\xef\xbb\xbfx", b"\xef\xbb\xbfx"),
    ],
)
def test_what_is_left_tells_that_the_stream_was_cut(body, left):
    """
    The standard discards it. A chat stream ends with a blank line or was cut.
    """
    parser = SSEParser()
    parser.feed(body)

    assert left == parser.finish()
    assert b"" == parser.finish()


def test_nothing_of_the_rest_reaches_the_next_event():
    """
    After ``finish`` the parser begins a new event, as after a blank line.
    """
    parser = SSEParser()
    parser.feed(b"event: e\nretry: 1\ndata: 1\nda")
    parser.finish()

    assert [ServerSentEvent("message", "2")] == parser.feed(b"data: 2\n\n")


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([b"error: {}\n\n"], [(0, b"error: {}")]),
        ([b"data: 1\n\nerror: {}\n\n"], [(1, b"error: {}")]),
        ([b"data: 1\n\ndata: 2\n\nerror\n"], [(2, b"error")]),
        ([b"a: 1\nb: 2\n"], [(0, b"a: 1"), (0, b"b: 2")]),
        ([b"err", b"or: 1\n"], [(0, b"error: 1")]),
        ([b"error: 1\n", b"data: 1\n\n"], []),
        ([b"error: 1"], []),
        ([b"data: 1\n\n: c\nid: 1\nevent: e\nretry: x\n"], []),
    ],
)
def test_ignored_fields_of_the_last_feed_can_be_found(reads, expected):
    """
    llama.cpp reports errors in a field ``error`` that the standard ignores.
    """
    parser = SSEParser()
    for read in reads:
        parser.feed(read)

    assert expected == parser.unknown_fields


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([b"data: 1\n\n"], False),
        ([b"data: 1\r\n\r\n"], False),
        ([b"data: 1\n\n\n\n"], False),
        ([b"data: 1\n\ndata: 2\n\n"], False),
        ([b"data: 1\n\nd"], True),
        ([b"data: 1\n\ndata: 2\n"], True),
        ([b"data: 1\n\n: comment\n\n"], True),
        ([b"data: 1\n\nid: 1\n"], True),
        ([b": comment\ndata: 1\n\n"], False),
        ([b"data: 1", b"\n\n"], False),
        ([b"data: ", b"1"], True),
    ],
)
def test_bytes_after_the_last_event_are_told(reads, expected):
    """
    An event followed by more in the same read may have come before the rest.
    """
    parser = SSEParser()
    for read in reads:
        parser.feed(read)

    assert expected is parser.trailing


# --- Limits ------------------------------------------------------------------

LIMITED = {
    "a line without an end": (b"x" * 32, 32),
    "a data line without an end": (b"data: " + b"x" * 26, 32),
    "a data line with its end": (b"data: " + b"x" * 26 + b"\n\n", 32),
    "a comment": (b":" + b"x" * 31 + b"\n", 32),
    "an unknown field": (b"foo:" + b"x" * 28 + b"\n\n", 32),
    # "aaaa" + LF is kept of the first two lines when the third begins.
    "data lines": (b"data: aa\ndata: a\ndata: " + b"x" * 22 + b"\n\n", 32),
    "a comment after data": (b"data: 1234\n:" + b"x" * 27 + b"\n\n", 32),
}


@pytest.mark.parametrize("feed", [lambda body: [body], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("name", LIMITED)
def test_the_limit_is_allowed_and_one_byte_more_is_not(name, end, feed):
    """
    What is kept of an event is its data and the line that hasn't ended.
    """
    body, size = LIMITED[name]
    body = b"data: before\n\n" + body
    reads = feed(body.replace(b"\n", end))
    before = ServerSentEvent("message", "before")

    events, unfinished, *_ = outcome(reads, limit=size)

    assert before == events[0]
    assert unfinished != "too large"
    assert ([before], "too large") == outcome(reads, limit=size - 1)[:2]


def test_events_before_a_too_large_one_are_kept():
    """
    They came whole, and the caller has a right to them.
    """
    parser = SSEParser(max_event_size=100)
    with pytest.raises(EventTooLargeError) as caught:
        parser.feed(b"data: 1\n\ndata: 2\n\ndata: " + b"x" * 200)

    assert ["1", "2"] == [event.data for event in caught.value.events]
    assert (206, 100) == (caught.value.size, caught.value.limit)


def test_events_after_a_too_large_one_are_not_read():
    """
    What follows can't be told apart from the rest of it.
    """
    parser = SSEParser(max_event_size=20)
    with pytest.raises(EventTooLargeError) as caught:
        parser.feed(b"data: 1\n\ndata: " + b"x" * 50 + b"\n\ndata: 2\n\n")

    assert ["1"] == [event.data for event in caught.value.events]


def test_many_small_events_in_one_read_are_below_the_limit():
    """
    The limit is an event's, not a read's.
    """
    assert 1000 == len(SSEParser(max_event_size=16).feed(b"data: 0123456789\n\n" * 1000))


def test_an_event_of_megabytes_is_accepted():
    """
    Images in base64 are legitimate; the default leaves room for them.
    """
    data = b"x" * (8 * 1024 * 1024 + 1)

    assert 16 * 1024 * 1024 == DEFAULT_MAX_EVENT_SIZE
    assert [len(data)] == [len(event.data) for event in parse(b"data: ", data, b"\n\n")]


@pytest.mark.parametrize(
    "read",
    [b"x" * 1000, b"data: " + b"x" * 994 + b"\n", b"data\n" * 500, b"data: \n" * 500],
    ids=["no newline", "long data lines", "bare data lines", "empty data lines"],
)
def test_an_event_without_an_end_stops_at_the_limit(read):
    """
    A line or an event that never ends must not eat the memory.
    """
    limit = 20_000
    parser = SSEParser(max_event_size=limit)
    with pytest.raises(EventTooLargeError) as caught:
        feed_all(parser, [read] * 100)

    assert limit == caught.value.limit
    assert limit < caught.value.size <= limit + len(read)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "line",
    [
        b": ping\n\n",
        b":\n",
        b"foo: bar\n",
        b"\n",
        b"id: 1\n",
        b"retry: 1\n",
        b"event: x\n",
        b"data: 1\n\n",
        b"\r\n",
    ],
)
def test_memory_stays_flat_however_many_lines_come(line):
    """
    An hour of heartbeats is no reason to grow.
    """
    read = line * (16_000 // len(line))
    parser = SSEParser(max_event_size=1000)
    parser.feed(read)
    tracemalloc.start()
    try:
        parser.feed(read)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10):
            parser.feed(read)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 2_000


# --- Linear time -------------------------------------------------------------

SHAPES = {
    "one long line": lambda n: b"data: " + b"x" * (16 * n) + b"\n\n",
    "one event of many lines": lambda n: b"data: 0123456789\n" * n + b"\n",
    "many events": lambda n: b"data: 0123456789\n\n" * n,
    "many comments": lambda n: b": 0123456789012\n" * n,
}


def seconds(reads):
    """Least CPU seconds of three to parse these, without Python's own housekeeping."""
    taken = []
    gc.disable()
    try:
        for _ in range(3):
            parser = SSEParser()
            start = time.process_time()
            for read in reads:
                parser.feed(read)
            taken.append(time.process_time() - start)
    finally:
        gc.enable()
    return min(taken)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, 64, None], ids=["bytewise", "by 64", "whole"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_time_grows_as_the_input_does(shape, size):
    """
    Eight times the input is allowed thirty times the time; squared it'd be 64.
    """
    n = 300 if size == 1 else 3000
    short, long = shape(n), shape(8 * n)

    def reads(body):
        return [
            body[at : at + (size or len(body))] for at in range(0, len(body), size or len(body))
        ]

    assert seconds(reads(long)) < 30 * seconds(reads(short)) + 0.01
