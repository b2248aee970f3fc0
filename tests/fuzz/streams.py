"""Streams as servers send them, and as they shouldn't."""

import json

from hypothesis import strategies as st

texts = st.text(st.characters(), max_size=6)
calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"arguments": texts}, optional={"name": st.just("f")})},
    optional={"index": st.integers(0, 2), "id": st.sampled_from(["a", "b"])},
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": texts,
        "reasoning_content": texts,
        "refusal": texts,
        "tool_calls": st.lists(calls, max_size=2),
        "function_call": st.fixed_dictionaries({"arguments": texts}),
        "audio": st.fixed_dictionaries({"id": st.just("a"), "data": texts}),
        "annotations": st.just([{"type": "url_citation", "url_citation": {"url": "u"}}]),
    },
)
logprobs = st.just({"content": [{"token": "x", "logprob": -1.5, "top_logprobs": []}]})
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
DONE = "[DONE]"


@st.composite
def answers(draw):
    """The ``data`` of each event of an answer that is whole."""
    events = [_choice({"role": "assistant", "content": ""}), _choice({"content": "Hi"})]
    for delta in draw(st.lists(deltas, min_size=1, max_size=6)):
        events.append(_choice(delta))
        if draw(st.booleans()):
            events[-1]["choices"][0]["logprobs"] = draw(logprobs)
    events.append(_choice({}, draw(st.sampled_from(["stop", "length", "tool_calls"]))))
    if draw(st.booleans()):
        events.append(USAGE)
    return [json.dumps(event) for event in events] + [DONE]


def _choice(delta, reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "c", "model": "m", "created": 1, "choices": [choice]}


def wire(events, end=b"\n"):
    """The body in which *events* come, each with a comment before it."""
    lines = [line for event in events for line in (b": ping", b"data: " + event.encode(), b"")]
    return b"".join(line + end for line in lines)


# --- What goes wrong ---------------------------------------------------------------

JUNK = [
    b"",
    b": ping",
    b"event: error",
    b"event: error\ndata: overloaded",
    b"event: ping",
    b"id: 1",
    b"data:",
    b"data: {}",
    b"data: []",
    b"data: null",
    b"data: [DONE]",
    b'data: {"error": {"message": "m", "code": 500}}',
    b'data: {"error": {"message": ["m"], "code": {}, "type": 1}}',
    b'data: {"choices": [{"delta": {"content": ["a", {"text": "b"}, null]}}]}',
    b'data: {"choices": [{"delta": {"annotations": 1}}]}',
    b'data: {"choices": [{"index": -1, "delta": {"content": "x"}}]}',
    b'data: {"error": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}',
    b'error: {"message": "m"}',
    b'{"error": "m"}',
    b"<html>",
    b"\xff\xfe\0",
    b"\xef\xbb\xbf",
    b"data: " + b"x" * 5000,
    b"data: " + b"[" * 4000,
]
ODD = [None, True, -1, 0.5, 10**30, "", "x", "\ud83d", [], ["x"], {}, {"x": 1}, [[]], [None]]


def drop(chance, lines):
    del lines[chance.randrange(len(lines))]


def repeat(chance, lines):
    at = chance.randrange(len(lines))
    lines.insert(chance.randrange(len(lines)), lines[at])


def swap(chance, lines):
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]


def truncate(chance, lines):
    at = chance.randrange(len(lines))
    lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]


def add(chance, lines):
    """Add a line, as an event by itself or in the middle of one."""
    at = chance.randrange(len(lines) + 1)
    blank = chance.choice([[b""], []])
    lines[at:at] = [*blank, chance.choice(JUNK), *blank]


def flip(chance, lines):
    at = chance.randrange(len(lines))
    line = bytearray(lines[at] or b"\0")
    line[chance.randrange(len(line))] = chance.randrange(256)
    lines[at] = bytes(line)


def misfit(chance, lines):
    """Put a value of a wrong type, or none at all, somewhere into the JSON of a line."""
    at = chance.randrange(len(lines))
    try:
        root = [json.loads(lines[at].removeprefix(b"data: "))]
    except ValueError:
        return
    place, key = chance.choice(list(_places(root)))
    if chance.randrange(4):
        place[key] = chance.choice(ODD)
    else:
        del place[key]
    lines[at] = b"data: " + json.dumps(root[0] if root else None).encode()


def _places(value):
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


FAULTS = [drop, repeat, swap, truncate, flip, *3 * [add], *3 * [misfit]]


@st.composite
def bodies(draw):
    """A body with any number of faults, its lines ended in all the ways there are."""
    lines = wire(draw(answers())).split(b"\n")
    chance = draw(st.randoms(use_true_random=False))
    for fault in draw(st.lists(st.sampled_from(FAULTS), max_size=5)):
        if lines:
            fault(chance, lines)
    ends = draw(st.sampled_from([[b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r", b"\r\n"]]))
    body = b"".join(line + chance.choice(ends) for line in lines)
    return chance.choice([b"", b"\xef\xbb\xbf"]) + body[: len(body) - chance.choice([0, 0, 1, 30])]
