"""Both event loops, for the tests that use a real one."""

import asyncio

import pytest

try:
    import uvloop
except ImportError:
    uvloop = None


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    """Only this folder's tests; an older pytest-asyncio doesn't ask."""
    factories = {"asyncio": asyncio.new_event_loop}
    return factories if uvloop is None else factories | {"uvloop": uvloop.new_event_loop}
