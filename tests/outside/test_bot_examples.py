"""The example bots with their real libraries, as the examples say that they can be tried."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.outside

ROOT = Path(__file__).parents[2]
LIBRARIES = {"telegram": "aiogram", "discord": "discord", "slack": "slack_sdk"}


def simulate(*arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "examples.simulate", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("platform", LIBRARIES)
def test_a_bot_answers_and_can_be_stopped(outside, platform):
    """
    The message that has the button in Slack is gone in the end.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of discord.py
        outside(LIBRARIES[platform])
    with simulate(platform, "Count to 20") as whole, simulate(platform, "--stop") as stopped:
        said, complaints = whole.communicate(timeout=60)
        stopped_said, stopped_complaints = stopped.communicate(timeout=60)
    shown = stopped_said.split("\n\n", 1)[1]

    assert ("", "") == (complaints, stopped_complaints)
    assert ", ".join(map(str, range(1, 21))) == said.splitlines()[-1]
    assert "(Stopped.)" == stopped_said.splitlines()[-1]
    assert shown.splitlines()[-3].startswith("1, 2, 3, 4, 5, 6")
    assert "100" not in shown
    assert "Answering" not in said.split("\n\n", 1)[1] + shown
