import asyncio
import io
import math

import pytest
from rich.console import Console

from chatstream.bench.output import live
from chatstream.bench.output.live import LiveView, described
from chatstream.bench.plan import Load
from tests.bench.runs import SimulatedRun

LOAD = Load(max_concurrency=12, num_prompts=250, warmup=12)


def console(*, terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def shown(view):
    return view._console.file.getvalue()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """It draws, and says, as often as the loop turns."""
    monkeypatch.setattr(live, "_DRAWN", 0)
    monkeypatch.setattr(live, "_TOLD", 0)


@pytest.fixture
def lines():
    return [record.to_line() for record in SimulatedRun(requests=240, warmup=12).records]


async def tell(view, lines):
    """Let it hear of a whole run, and show it."""
    async with view:
        view.calibrating(12)
        await asyncio.sleep(0.0)
        view.loading(LOAD, 0)
        for line in lines:
            view.requested(line)
        for _ in range(5):
            await asyncio.sleep(0)


async def test_without_a_terminal_it_says_lines(lines):
    view = LiveView(console(terminal=False))
    await tell(view, lines)
    told = shown(view).splitlines()

    assert "calibrating: 12 streams of the built-in truth server" == told[0]
    assert "load: 12 at a time, 250 requests, the first 12 to warm up" == told[1]
    assert "240 of 250 requests (12 to warm up)" in told[-1]
    assert "failed; TTFT p50 " in told[-1]
    assert "\x1b" not in shown(view)


async def test_at_a_terminal_it_draws(lines):
    view = LiveView(console(terminal=True))
    await tell(view, lines)

    assert "measuring the client itself with 12 streams" in shown(view)
    assert "240 of 250 requests" in shown(view)
    assert "time to first token" in shown(view)
    assert "http_error" in shown(view)


async def test_it_shows_a_load_that_has_no_answers_yet():
    view = LiveView(console(terminal=True))
    await tell(view, [])

    assert "0 of 250 requests, 0 failed" in shown(view)


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (Load(max_concurrency=3, num_prompts=1000), "3 at a time, 1,000 requests"),
        (Load(request_rate=2.5, duration=60), "2.5 a second, Poisson, for 60 s"),
        (
            Load(request_rate=2, burstiness=math.inf, num_prompts=9, ramp=5),
            "2 a second, constant, ramp of 5 s, 9 requests",
        ),
        (
            Load(request_rate=2, burstiness=0.5, num_prompts=9, max_concurrency=4),
            "2 a second, gamma with shape 0.5, at most 4 at a time, 9 requests",
        ),
        (Load(request_rate=math.inf, num_prompts=9), "all at once, 9 requests"),
        (Load(schedule=(0.0, 1.0)), "2 requests at recorded times"),
    ],
)
def test_a_load_in_words(load, words):
    assert words == described(load)


@pytest.mark.parametrize(
    ("load", "share"),
    [
        (Load(max_concurrency=1, num_prompts=480), 0.5),
        (Load(max_concurrency=1, num_prompts=100), 1.0),
        (Load(max_concurrency=1, duration=20), 0.25),
        (Load(schedule=(0.0, 10.0)), 0.5),
        (Load(schedule=()), 0.0),
    ],
)
def test_progress_is_by_whatever_ends_the_load(load, share, lines):
    view = LiveView(console(terminal=False))
    view.loading(load, 0)
    for line in lines:
        view.requested(line)

    assert pytest.approx(share) == view._progress(5.0)


def test_a_conversation_counts_once(lines):
    """
    What was planned are conversations: three turns of one aren't three of them.
    """
    view = LiveView(console(terminal=False))
    view.loading(LOAD, 0)
    for line in lines[:3]:
        view.requested(line)
        view.requested(line.replace(b'"turn":0', b'"turn":1'))

    assert view._counted().startswith("3 of 250 requests")
