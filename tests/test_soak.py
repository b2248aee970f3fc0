"""benchmarks.soak, in small: each fault ends as it should, and what doesn't is noticed."""

import pytest

from benchmarks import faults, soak
from chatstream import Verdict


@pytest.fixture
def impatient(monkeypatch):
    """Two seconds without a token are a long time: here one comes each 20 ms."""
    monkeypatch.setattr(soak, "PATIENCE", 2.0)


@pytest.fixture(scope="module")
def url():
    """The server that fails as it is told."""
    with soak.serving() as url:
        yield url


async def soaked(url, **options):
    return await soak.soak(url, seconds=0.5, share=1.0, seed=1, pace=0.02, **options)


@pytest.mark.thorough
@pytest.mark.usefixtures("impatient")
async def test_every_fault_ends_as_it_should(url):
    outcome = await soaked(url, streams=150)

    assert [] == outcome.faults() == outcome.told
    assert {fault.name for fault in faults.FAULTS} == set(outcome.streams)
    assert "all as it should be" == [*soak.lines(outcome)][-1]


async def test_a_stream_that_ends_otherwise_is_told(url, monkeypatch):
    """
    A soak that can't fail proves nothing.
    """
    wrong = faults.Fault("HTML page", None, Verdict.FINISHED, "whole")
    monkeypatch.setattr(soak, "FAULTS", [wrong])
    monkeypatch.setitem(faults.BY_NAME, wrong.name, wrong)
    outcome = await soaked(url, streams=1)

    count = outcome.streams[wrong.name]
    assert [f"HTML page: {count} ended otherwise"] == outcome.faults()
    assert "NotAnEventStreamError" in outcome.told[0]


def test_what_is_left_behind_is_told():
    outcome = soak.Outcome(files=(10, 11), tasks=(1, 1))
    outcome.memory = [(at, 100 if at < 200 else 106) for at in range(600)]

    assert [
        "11 files left, 10 at the start",
        "memory grew from 100.0 to 106.0 MB",
    ] == outcome.faults()
