import asyncio
import os
import sys
import time

import pytest

from chatstream.bench import deadlines
from chatstream.bench.deadlines import Deadlines

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="timerfd is Linux's")


@pytest.fixture(params=["timerfd", "asyncio"])
def timer(request, monkeypatch):
    """Both ways to wait: the kernel's timer, and asyncio's where there is none."""
    if request.param == "asyncio":
        monkeypatch.setattr(deadlines, "_timer", lambda: None)
    return request.param


async def test_it_returns_after_its_time(timer):
    with Deadlines() as wait:
        for _ in range(3):
            due_ns = time.perf_counter_ns() + 2_000_000
            await wait.until(due_ns)

            assert due_ns <= time.perf_counter_ns()


async def test_what_is_past_isnt_waited_for(timer):
    """
    Not even for a turn of the loop: who is late should catch up.
    """
    with Deadlines() as wait:
        coroutine = wait.until(time.perf_counter_ns() - 1)
        with pytest.raises(StopIteration):
            coroutine.send(None)


async def test_a_wait_can_be_cancelled_and_another_begun(timer):
    with Deadlines() as wait:
        waiting = asyncio.create_task(wait.until(time.perf_counter_ns() + 60_000_000_000))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        due_ns = time.perf_counter_ns() + 2_000_000
        await wait.until(due_ns)

        assert due_ns <= time.perf_counter_ns()


@linux
async def test_the_timer_is_closed():
    with Deadlines() as wait:
        descriptor = wait._timer
        os.fstat(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


async def test_elsewhere_there_is_no_such_timer(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    assert deadlines._timer() is None


@linux
@pytest.mark.parametrize("due_ns", [2**62, 10**40])
async def test_a_moment_beyond_the_kernels_range_is_waited_for_all_the_same(due_ns):
    with Deadlines() as wait:
        waiting = asyncio.create_task(wait.until(due_ns))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
