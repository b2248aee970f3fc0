"""What tests with outside parts share: programs that aren't Python's, models."""

import os
import shutil

import pytest

from chatstream import ChatSession, RetryPolicy
from tests.outside.answers import speaking
from tests.outside.tiny_llama import serve


@pytest.fixture(scope="session")
def program():
    """Give a function that finds a program which may be missing.

    Without it the test is skipped, or fails if ``CHATSTREAM_REQUIRE_ALL=1``.
    """

    def find(name):
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found is None and os.environ.get("CHATSTREAM_REQUIRE_ALL") == "1":
            pytest.fail(f"CHATSTREAM_REQUIRE_ALL=1, but {name} is not installed")
        if found is None:
            pytest.skip(f"{name} is not installed")
        return found

    return find


@pytest.fixture
async def model():
    """A model that says what a test wants a bot to show."""
    async with speaking() as model:
        yield model


@pytest.fixture(scope="module")
def llama_url(outside, tmp_path_factory):
    """Start llama.cpp's server; it ends with the last reference to it."""
    server = serve(tmp_path_factory.mktemp("llama"), outside)
    yield f"{server.listening_address}/v1"
    del server


@pytest.fixture
async def llama(llama_url):
    """A session that tries again at most once: the server closes connections unannounced."""
    async with ChatSession(llama_url, retry=RetryPolicy(2)) as session:
        yield session
