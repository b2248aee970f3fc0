"""Where the text of an answer comes from: a stream of ours, or any texts that come one by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, Callable
from typing import Protocol

from chatstream.bots.answer import Answer
from chatstream.completion import ChatCompletion, Verdict
from chatstream.report import StreamReport
from chatstream.stream import ChatStream


class Source(Protocol):
    """Something that is read once, and can be closed meanwhile."""

    @property
    def verdict(self) -> Verdict:
        """How it ended, or would have if it ended now."""

    @property
    def completion(self) -> ChatCompletion | None:
        """The answer, if it is known as one."""

    @property
    def report(self) -> StreamReport | None:
        """Its latencies, if they are known."""

    async def read(self, answer: Answer, changed: Callable[[], None]) -> None:
        """Add to *answer* what comes, and call *changed*. Raises whatever ends it early."""

    async def close(self) -> None:
        """End it now: :meth:`read` returns."""


def source_of(stream: ChatStream | AsyncIterable[str]) -> Source:
    """Return the source that reads *stream*."""
    return StreamSource(stream) if isinstance(stream, ChatStream) else TextSource(stream)


class StreamSource:
    """The first choice of a chat stream: its content, its refusal."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    @property
    def verdict(self) -> Verdict:
        """The stream's own."""
        return self._stream.verdict

    @property
    def completion(self) -> ChatCompletion | None:
        """The stream's own."""
        return self._stream.completion

    @property
    def report(self) -> StreamReport | None:
        """The stream's own."""
        return self._stream.report

    async def read(self, answer: Answer, changed: Callable[[], None]) -> None:
        """Enter the stream, unless who gave it has, and leave it at the end."""
        stream = self._stream
        async with contextlib.nullcontext() if stream.entered else stream:
            async for event in stream:
                if event.index != 0:
                    continue
                delta = event.delta
                if delta.reasoning:
                    answer.think()
                for text in (delta.content, delta.refusal):
                    if text:
                        answer.add(text)
                changed()

    async def close(self) -> None:
        """End the stream."""
        await self._stream.aclose()


class TextSource:
    """Texts of whoever makes them."""

    completion = None
    report = None

    def __init__(self, texts: AsyncIterable[str]) -> None:
        self._texts = texts
        self._scope: asyncio.Timeout | None = None
        self._verdict: Verdict | None = None

    @property
    def verdict(self) -> Verdict:
        """Finished, closed or cancelled, and truncated until then."""
        return self._verdict or Verdict.TRUNCATED

    async def read(self, answer: Answer, changed: Callable[[], None]) -> None:
        """Take one text after another."""
        if self._verdict is not None:
            return
        # Without a limit of its own: close() sets it.
        self._scope = scope = asyncio.timeout(None)
        try:
            async with scope:
                async for text in self._texts:
                    answer.add(text)
                    changed()
                self._verdict = Verdict.FINISHED
        except TimeoutError:
            if not scope.expired():
                raise
        except asyncio.CancelledError:
            self._verdict = Verdict.CANCELLED
            raise

    async def close(self) -> None:
        """Cancel the wait for the next text."""
        if self._verdict is not None:
            return
        self._verdict = Verdict.CLOSED
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())
