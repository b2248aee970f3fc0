"""The example's chat page in a real browser, and the service behind it."""

import os
from pathlib import Path

import pytest
from aiohttp import web

from chatstream import ChatSession, RetryPolicy
from chatstream.completion import Verdict
from chatstream.testing import Profile, SimulatedServer
from tests.outside.chromium import Chromium
from tests.outside.services import example
from tests.waiting import until

pytestmark = pytest.mark.outside

HOSTILE = '<script>document.title = "pwned"</script><img src=x onerror="document.title=1">**b**'
LAST = "[...document.querySelectorAll('article.assistant')].at(-1)"
SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""A folder to leave pictures in, for who wants to look."""


@pytest.fixture(scope="module")
def chromium(program):
    browser = Chromium(program("chromium"))
    yield browser
    browser.close()


class Site:
    """The service on a port of its own, its model simulated."""

    def __init__(self, upstream, session, example):
        self.upstream = upstream
        self.session = session
        self.app = example.service()
        self.app[example.SESSION] = session
        self.app[example.MODEL] = "simulated"

    async def start(self):
        self.runner = web.AppRunner(self.app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/"


@pytest.fixture
async def site():
    async with (
        SimulatedServer(Profile(time_to_first_token=0.01, gap=0.01)) as upstream,
        ChatSession(upstream.base_url, "none", retry=RetryPolicy(1)) as session,
    ):
        site = Site(upstream, session, example("web_service"))
        await site.start()
        yield site
        await site.runner.cleanup()


@pytest.fixture
async def page(chromium, site):
    async with chromium.page() as page:
        await page.goto(site.url)
        yield page


def keep(picture, name):
    Path(SCREENSHOTS, name).write_bytes(picture)


async def ask(page, text):
    await page.run("document.getElementById('question').focus()")
    await page.write(text)
    await page.press("Enter")


async def answered(page):
    """Wait until the answer doesn't grow any more, and return it and the note below."""
    await page.until("document.getElementById('send').textContent === 'Send'")
    return await page.run(f"[{LAST}.textContent, {LAST}.nextElementSibling?.textContent]")


async def test_an_answer_grows_as_it_comes(page, site):
    await ask(page, "Count to 40")
    lengths = set()
    while await page.run("document.getElementById('send').textContent") == "Stop":
        lengths.add(await page.run(f"{LAST}.textContent.length"))
    text, note = await answered(page)
    focused = await page.run("document.activeElement.id")

    assert ", ".join(map(str, range(1, 41))) == text
    assert "First words after 0.0" == note[:21]
    assert len(lengths) > 3
    assert "question" == focused
    assert [] == page.problems


async def test_a_conversation_goes_on(page, site):
    await ask(page, "Count to 2")
    await answered(page)
    await ask(page, "say so")
    await answered(page)
    told = site.upstream.requests[-1].body["messages"]

    assert ["system", "user", "assistant", "user"] == [message["role"] for message in told]
    assert "1, 2" == told[2]["content"]


@pytest.mark.parametrize("how", ["button", "escape"])
async def test_an_answer_can_be_stopped(page, site, how):
    """
    The model stops too: nobody pays for what nobody reads.
    """
    site.upstream.profile = Profile(time_to_first_token=0.01, gap=0.05)
    await ask(page, "Count to 1000")
    await page.until(f"{LAST}.textContent.length > 6")
    (stream,) = site.session._streams
    if how == "button":
        await page.run("document.getElementById('send').click()")
    else:
        await page.press("Escape")
    text, note = await answered(page)
    await until(lambda: stream.verdict is Verdict.CLOSED)

    assert "Stopped." == note
    assert text.startswith("1, 2")
    assert [] == page.problems


@pytest.mark.parametrize("when", ["upstream", "service"])
async def test_a_connection_that_drops_is_shown(page, site, when):
    site.upstream.profile = Profile(time_to_first_token=0.01, gap=0.05)
    await ask(page, "Count to 1000")
    await page.until(f"{LAST}.textContent.length > 6")
    if when == "upstream":
        await site.upstream.aclose()
    else:
        for connection in list(site.runner.server.connections):
            connection.transport.abort()
    text, note = await answered(page)

    said = {"upstream": "the model can't be reached or broke off"}
    assert said.get(when, "The connection was lost.") == note
    assert text.startswith("1, 2")


async def test_a_refusal_is_told(page, site):
    site.upstream.profile = Profile(error_rate=1.0, error_status=429)
    await ask(page, "Count to 3")
    text, note = await answered(page)

    assert ("", "too many requests at the moment") == (text, note)


async def test_hostile_text_is_text(page, site):
    await ask(page, f"say {HOSTILE}")
    text, _ = await answered(page)
    title = await page.run("document.title")
    made = await page.run("document.querySelectorAll('article *').length")

    assert HOSTILE == text
    assert ("Chat", 0) == (title, made)
    assert [] == page.problems


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_it_fits(chromium, site, width, dark):
    """
    Whatever the screen: nothing to scroll sideways.
    """
    async with chromium.page(width=width, height=800, touch=width < 500, dark=dark) as page:
        await page.goto(site.url)
        await ask(page, "Count to 60")
        await answered(page)
        await ask(page, "say " + "a" * 300)
        await answered(page)
        wide = await page.run("document.documentElement.scrollWidth")
        if SCREENSHOTS:
            keep(await page.screenshot(), f"chat-{width}-{'dark' if dark else 'light'}.png")

        assert width == wide
        assert [] == page.problems
