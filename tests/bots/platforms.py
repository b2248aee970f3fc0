"""Chat platforms in memory that enforce their limits, on a clock that is moved."""

import asyncio

from chatstream.bots import ExpiredError, FloodError, Limits, utf16_length


async def passing(clock, seconds):
    """Sleep on the clock; others take their turn in any case."""
    over = asyncio.Event()
    if seconds:
        timer = clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()
    else:
        await asyncio.sleep(0)


async def finish(clock, coroutine, *, within=600.0, step=0.05):
    """Move the clock until *coroutine* is done; its result."""
    task = asyncio.ensure_future(coroutine)
    end_ns = clock() + within * 1e9
    while not task.done():
        await settled()
        if clock() > end_ns:
            task.cancel()
            await asyncio.wait([task])
            raise AssertionError(f"not done within {within} s")
        if not task.done():
            clock.advance(step)
    return task.result()


async def settled():
    """Let everybody go on until they wait for the clock."""
    for _ in range(20):
        await asyncio.sleep(0)


class Platform:
    """What a chat shows, and who wrote when.

    A write takes *takes* seconds. Within *window* seconds *most* are allowed, the next
    is a flood. The calls numbered in *failures* raise what stands there.
    """

    def __init__(
        self, clock, *, length=400, takes=0.0, interval=1.0, most=None, window=60.0, typing=5.0,
        failures=None, draft=None,
    ):  # fmt: skip
        self.limits = Limits(
            length=length, measure=utf16_length, interval=interval, typing=typing, draft=draft
        )
        self.clock = clock
        self.takes = takes
        self.most, self.window = most, window
        self.failures = failures or {}
        self.chat = []
        self.calls = []
        """Each with its moment in seconds, whether it was accepted or not."""
        self.typed = []
        self.writing = 0
        self.together = 0
        """How many writes were under way at most."""

    @property
    def now(self):
        return self.clock() / 1e9

    async def typing(self):
        self.typed.append(self.now)

    async def _call(self, name, text, *, empty=False):
        number = len(self.calls)
        self.calls.append((self.now, name, text))
        self.writing += 1
        self.together = max(self.together, self.writing)
        try:
            await passing(self.clock, self.takes)
        finally:
            self.writing -= 1
        failure = self.failures.get(number, self.failures.get("always"))
        if failure is not None:
            raise failure
        recent = [when for when, *_ in self.calls if when > self.now - self.window]
        if self.most is not None and len(recent) > self.most:
            raise FloodError(recent[-1 - self.most] + self.window - self.now + 0.01)
        assert empty or text.strip(), "an empty message"
        assert utf16_length(text) <= self.limits.length, "too long"


class Edits(Platform):
    """As Discord: an edit that changes nothing is refused."""

    async def send(self, text):
        await self._call("send", text)
        self.chat.append(text)
        return len(self.chat) - 1

    async def edit(self, message, text):
        await self._call("edit", text)
        assert text != self.chat[message], "not modified"
        self.chat[message] = text


class Drafts(Platform):
    """As Telegram's private chats."""

    drafted = None

    async def draft(self, text):
        await self._call("draft", text)
        self.drafted = text

    async def send(self, text):
        await self._call("send", text)
        self.drafted = None
        self.chat.append(text)
        return len(self.chat) - 1


class Streams(Platform):
    """As Slack: what was written stays, and a message that pauses for *lasts* is closed."""

    lasts = float("inf")
    open = None
    appended = 0.0

    async def start(self, text):
        await self._call("start", text)
        self.chat.append(text)
        self.open, self.appended = len(self.chat) - 1, self.now
        return self.open

    async def append(self, message, text):
        await self._add("append", message, text)

    async def stop(self, message, text):
        await self._add("stop", message, text)
        self.open = None

    async def _add(self, name, message, text):
        await self._call(name, text, empty=name == "stop")
        if self.now - self.appended > self.lasts:
            self.open = None
        if message != self.open:
            raise ExpiredError("not in streaming state")
        assert utf16_length(self.chat[message] + text) <= self.limits.length, "too long"
        self.chat[message] += text
        self.appended = self.now


KINDS = [Edits, Drafts, Streams]
