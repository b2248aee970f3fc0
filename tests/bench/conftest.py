"""Runs that several tests look at."""

import pytest

from chatstream.bench.log import Log
from tests.bench.runs import SimulatedRun, summary_of


@pytest.fixture(scope="session")
def a_log():
    """The log of a closed load with a stall, failures and a warm-up."""
    return Log.of(SimulatedRun().records)


@pytest.fixture(scope="session")
def a_summary(a_log):
    """Its summary."""
    return summary_of(a_log)
