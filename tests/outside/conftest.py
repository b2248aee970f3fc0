"""What tests with outside parts share: programs that aren't Python's, a model for bots."""

import os
import shutil

import pytest

from tests.outside.answers import speaking


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
