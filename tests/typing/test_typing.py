"""The public API is typed as its users see it."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_the_api_is_typed_for_its_users() -> None:
    """
    mypy --strict passes a file that uses all of it, where a mistake is expected, too.
    """
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(HERE / "api.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parent.parent,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
