"""What the stand-ins have in common: a site at a free port, floods, haste."""

import asyncio
import time
from collections import defaultdict, deque

from aiohttp import web


class Haste:
    """A clock that runs *times* as fast as the real one, for who would wait for minutes."""

    def __init__(self, times):
        self.times = times

    def __call__(self):
        return time.perf_counter_ns() * self.times

    @property
    def now(self):
        """Seconds."""
        return self() / 1e9

    def call_later(self, delay, callback):
        return asyncio.get_running_loop().call_later(delay / self.times, callback)


class Window:
    """So many calls within so many seconds, for each key by itself."""

    def __init__(self, most, seconds, clock):
        self.most = most
        self.seconds = seconds
        self._clock = clock
        self._calls = defaultdict(deque)

    def wait(self, key):
        """Count a call and return 0, or the seconds until there may be one."""
        calls, now = self._calls[key], self._clock.now
        while calls and calls[0] <= now - self.seconds:
            calls.popleft()
        if len(calls) >= self.most:
            return calls[0] + self.seconds - now
        calls.append(now)
        return 0

    def left(self, key):
        """Return how many more may follow now, and in how many seconds all may."""
        calls = self._calls[key]
        reset = calls[0] + self.seconds - self._clock.now if calls else 0
        return self.most - len(calls), max(reset, 0)


class Site:
    """A web site; ``async with`` starts and closes it. *clock* is a :class:`Haste`."""

    def __init__(self, clock=None):
        self.clock = clock or Haste(1)
        self.calls = []
        """The names of the calls that wrote something, refused ones too."""
        self.floods = 0
        """How many were refused as too many."""
        self.failures = deque()
        """Responses for the next calls that write."""
        self._called = asyncio.Event()

    def routes(self):
        raise NotImplementedError

    async def __aenter__(self):
        app = web.Application(middlewares=[self._notice])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.origin = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    @web.middleware
    async def _notice(self, request, handler):
        try:
            return await handler(request)
        finally:
            self._called.set()
            self._called = asyncio.Event()

    async def until(self, condition):
        """Return when *condition* is true, which is asked again after each call."""
        while not condition():
            await self._called.wait()

    def fail(self, *responses):
        """Answer the next calls that write with *responses*, each a function that makes one."""
        self.failures.extend(responses)


def page(status):
    """A proxy's page, in place of the platform's JSON."""
    return lambda: web.Response(status=status, text="<h1>Bad</h1>", content_type="text/html")


def utf16(text):
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
