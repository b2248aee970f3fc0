"""Streams to be handed on, from a script."""

from __future__ import annotations

import json

from chatstream import ChatStream, RetryPolicy
from chatstream.testing.scripted import Scripted

DONE = b"data: [DONE]\n\n"


def chunk(content=None, finish_reason=None):
    """The event of one chunk."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()


ANSWER = (chunk("a"), chunk("b"), chunk(finish_reason="stop"), DONE)


def reads(*parts, wait=0.1):
    """Steps of a script: each part comes a while after the one before."""
    return tuple((wait, part) for part in parts)


def stream_of(clock, *attempts, **options):
    """A stream over scripted attempts, each given as steps or as an error."""
    return ChatStream(
        Scripted(clock, *attempts),
        clock=clock,
        call_later=clock.call_later,
        retry=RetryPolicy(1),
        **options,
    )
