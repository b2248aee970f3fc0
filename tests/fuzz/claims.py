"""What holds for whatever a server sends: each function asserts it of one input."""

import asyncio
import json
import random
import re
import zlib
from itertools import pairwise

from attrs import frozen

from chatstream import ChatStreamError, RequestError, RetryPolicy
from chatstream.arrival import Read
from chatstream.codec import (
    MAX_CHOICES,
    load_document,
    read_chunk,
    read_completion,
    read_error,
    to_dict,
)
from chatstream.collector import MessageCollector
from chatstream.errors import DecodeError, EventTooLargeError
from chatstream.events import DeltaEvent, EventTranslator, chunk_events
from chatstream.reader import ChunkReader
from chatstream.response import ResponseInfo
from chatstream.stream import ChatStream
from chatstream.testing.clock import FakeClock
from chatstream.testing.scripted import Scripted

INFO = ResponseInfo(200, {"content-type": "text/event-stream"})
WHEN = {"elapsed", "arrived_ns", "coalesced", "chunk"}
LONGEST = 10
"""Seconds until a stream that should have ended hangs."""


@frozen
class Seen:
    """What a caller sees of an answer."""

    events: list
    error: tuple | None
    completion: dict
    texts: dict
    """What was said, by choice and kind."""

    @classmethod
    def of(cls, events, error, completion):
        indexes = [choice.index for choice in completion.choices]
        assert indexes == sorted(set(indexes) & set(range(MAX_CHOICES)))
        texts = {
            (choice.index, kind): getattr(choice.message, kind) or ""
            for choice in completion.choices
            for kind in ("content", "reasoning", "refusal")
        }
        return cls(events, error, exported(completion), texts)

    def begins(self, whole):
        """Whether *whole* goes on where this ended, be it inside a surrogate pair."""
        return all(
            whole.texts.get(key, "").startswith(text.removesuffix("\ufffd"))
            for key, text in self.texts.items()
        )


def cuts(body):
    """Some ways to cut *body*; always the same ones for the same body."""
    chance = random.Random(zlib.crc32(body))
    for most in (3, 40):
        count = chance.randint(1, most)
        places = sorted(chance.randrange(len(body) + 1) for _ in range(count))
        yield [body[a:b] for a, b in pairwise([0, *places, len(body)])]
    yield re.findall(rb"[^\r]*\r|[^\r]+", body)  # between CR and LF
    if len(body) <= 400:
        yield [body[at : at + 1] for at in range(len(body))]


# --- Reader, collector, typed events -------------------------------------------


def read(reads, *, limit=1 << 20):
    """Drive the pure parts over *reads*; only a documented error may leave them."""
    reader, collector = ChunkReader(max_event_size=limit), MessageCollector()
    translator = EventTranslator(collector)
    events, error = [], None

    def take():
        while (arrived := reader.take()) is not None:
            chunk, at, coalesced = arrived
            collector.add(chunk)
            for choice in chunk.choices:
                index, delta, reason = choice.index, choice.delta, choice.finish_reason
                args = (0.0, at, coalesced, index, delta, delta.content, reason, chunk)
                events.extend(map(plain, translator.delta(DeltaEvent(*args))))
            events.extend(map(plain, chunk_events(chunk, 0.0, at, coalesced=coalesced)))

    try:
        for at, data in enumerate(reads):
            reader.push(Read(data, at))
            if reader.ended:
                break
            take()
        if not reader.done:
            reader.push_end(INFO)
            take()
    except ChatStreamError as raised:
        error = documented(raised)
    else:
        collector.done = reader.done
        events.extend(map(plain, translator.end()))
    return Seen.of(events, error, collector.completion())


def plain(event):
    """A typed event without its moment, each of its lazy parts asked for."""
    said = {
        name: to_dict(getattr(event, name))
        for name in (field.name for field in type(event).__attrs_attrs__)
        if name not in WHEN and not name.startswith("_")
    }
    for name in ("text", "arguments"):
        if name not in said and hasattr(event, name):
            said[name] = getattr(event, name)
    return type(event).__name__, exported(said)


def documented(error):
    """Take an error apart; it is one of ours, and printable on one line."""
    assert not isinstance(error, RequestError), "nobody asked for anything"
    text = str(error)
    assert text.isprintable(), text
    assert len(text) < 2000
    if isinstance(error, EventTooLargeError):
        return type(error), error.limit  # how much had come then is the network's affair
    return type(error), text


def exported(value):
    """A value as JSON: which always works, without loss and in UTF-8."""
    found = to_dict(value)
    text = json.dumps(found, ensure_ascii=False).encode()
    assert json.loads(text) == found
    return found


def reading_holds(body, *, limit=1 << 20):
    """Any bytes are an answer or a documented error, wherever they are cut."""
    whole = read([body], limit=limit)
    for reads in cuts(body):
        assert whole == read(reads, limit=limit), reads
    before = body[: random.Random(zlib.crc32(body)).randrange(len(body) + 1)]
    assert read([before], limit=limit).begins(whole), before


# --- JSON ------------------------------------------------------------------------


def json_holds(text):
    """Any text is a chunk, a completion and an error, or a ``DecodeError``."""
    try:
        raw = load_document(text)
    except DecodeError as error:
        documented(error)
        return
    for read_it in (read_chunk, read_completion):
        try:
            exported(read_it(raw))
        except DecodeError as error:
            documented(error)
    if (error := read_error(raw, is_error=True)) is not None:
        documented(error)
    collector = MessageCollector()
    for _ in range(2):
        try:
            collector.add(raw)
        except DecodeError:
            break
    exported(collector.completion())


# --- The whole stream -------------------------------------------------------------


def streamed(reads, *, end=None, wait=0.0, way="events"):
    """Run a ``ChatStream`` over *reads*; *end* is an error that the connection ends with."""
    return asyncio.run(_streamed(reads, end, wait, way))


async def _streamed(reads, end, wait, way):
    clock = FakeClock()
    steps = [(wait, data) for data in reads if data] + ([] if end is None else [(0.0, end)])
    source = Scripted(clock, tuple(steps))
    stream = ChatStream(
        source, clock=clock, call_later=clock.call_later, retry=RetryPolicy(1), max_event_size=4096
    )
    events, error = [], None
    async with asyncio.timeout(LONGEST):
        try:
            async with stream:
                if way == "events":
                    async for event in stream.events():
                        events.append(plain(event))  # noqa: PERF401 an error keeps those before it
                elif way == "text":
                    events.append("".join([text async for text in stream.text()]))
                else:
                    events.extend([to_dict(event.delta) async for event in stream])
        except ChatStreamError as raised:
            error = documented(raised)
            known = raised.partial, raised.report.verdict
        else:
            known = stream.completion, stream.verdict
    assert known == (stream.completion, stream.verdict)
    body = source.bodies[0]
    assert body.aborted or (body.released and not error), "the connection is open, or used again"
    assert stream.report.to_dict()
    return Seen.of(events, error, stream.completion)


def streaming_holds(body, *, end=None, way="events"):
    """A stream ends in an answer or a documented error, wherever its reads are cut."""
    whole = streamed([body], end=end, way=way)
    for reads in cuts(body):
        assert whole == streamed(reads, end=end, way=way), reads
    return whole
