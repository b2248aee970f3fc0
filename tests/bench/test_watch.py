import asyncio
import time

from chatstream.bench.watch import INTERVAL, Watch


async def until(watch, looks):
    """Wait until it has looked so often."""
    for _ in range(1000):
        if len(watch._lags) >= looks:
            break
        await asyncio.sleep(INTERVAL)


async def test_an_idle_loop_has_hardly_any_lag():
    with Watch() as watch:
        await until(watch, 5)
    figures = watch.figures()

    assert 5 <= figures["loop_lag"]["n"]
    assert 0 <= figures["loop_lag"]["p50"] < 0.05
    assert 0 <= figures["cpu"]


async def test_a_blocked_loop_shows():
    with Watch() as watch:
        await until(watch, 1)
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:  # as a callback does that computes
            pass
        await until(watch, 3)
    figures = watch.figures()

    assert 0.03 < figures["loop_lag"]["max"]
    assert 0.1 < figures["cpu"]


async def test_without_a_look_there_is_no_lag():
    with Watch() as watch:
        pass
    figures = watch.figures()

    assert {"n": 0, "p50": None, "p99": None, "max": None} == figures["loop_lag"]


async def test_it_stops_looking():
    with Watch() as watch:
        await until(watch, 1)
    looks = len(watch._lags)
    await asyncio.sleep(2 * INTERVAL)

    assert looks == len(watch._lags)
