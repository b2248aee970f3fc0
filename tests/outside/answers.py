"""What models answer to bots in these tests, and the server that does."""

import re
from contextlib import asynccontextmanager

from attrs import evolve

from chatstream import ChatSession, RetryPolicy, user
from chatstream.bots import LiveMessage
from chatstream.testing import Profile, SimulatedServer

SECTION = (
    "## Part {n}\n\n"
    "Here is **part {n}** of *many*, with `code_{n}`, <b>no HTML</b> & a_snake_case_name. "
    "It goes on for a while, so that there is something to cut 😀. And then some more.\n\n"
    "```python\n"
    "def part_{n}(first, second):\n"
    "    total = first * {n} + second ** 2\n"
    "    return [total for _ in range({n}) if total < 10]\n"
    "```\n\n"
    "- one of {n}\n- two of {n}\n\n"
)
ANSWER = "".join(SECTION.format(n=n) for n in range(60)) + "The end."
"""Some 20,000 characters."""
HOSTILE = "@everyone @here <@1> <!channel> <@U1> <b>x</b> <a href='tg://user?id=1'>y</a> &lt; %s {}"


def bare(text):
    """*text* without white space and fences, which are repeated where it is cut."""
    return "".join(re.sub(r"(?m)^```.*$", "", text).split())


class Model:
    """A simulated server that says what it is told to."""

    def __init__(self, server):
        self._server = server
        self._profile = server.profile
        self._own = self.session()

    def session(self, **options):
        return ChatSession(self._server.base_url, "none", retry=RetryPolicy(1), **options)

    def request(self, text):
        return {"model": "m", "messages": [user("say " + text)]}

    def stream(self, text, **profile):
        """An answer that is *text*, in pieces."""
        self._server.profile = evolve(self._profile, **profile)
        return self._own.stream(**self.request(text))

    async def aclose(self):
        await self._own.aclose()


def live_with(sink, platform, **options):
    """A live message on a platform's own clock."""
    return LiveMessage(sink, clock=platform.clock, call_later=platform.clock.call_later, **options)


@asynccontextmanager
async def speaking():
    """A :class:`Model` that takes about a second for a long answer."""
    profile = Profile(time_to_first_token=0.01, gap=0.004, chunk_tokens=20)
    async with SimulatedServer(profile) as server:
        model = Model(server)
        yield model
        await model.aclose()
