"""Programs that aren't Python's."""

import os
import shutil

import pytest


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
