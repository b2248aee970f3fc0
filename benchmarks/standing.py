"""What needs no server: time to import, time to reassemble, size on disk."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.server import pin
from benchmarks.works import OPENAI, OURS, Column, Goal, Row

IMPORT = Row(
    name="import",
    title="Import, wall time in a fresh process",
    columns=(Column("ms", "ms", 0),),
    goals=(Goal("ms", 1.25, "aiohttp"),),
    ratios=("aiohttp",),
    clients=(OURS, "aiohttp", "httpx_sse", "openai"),
)
REASSEMBLY = Row(
    name="reassembly",
    title="Reassembly: time of 100,000 deltas over that of 1,000",
    columns=(
        Column("growth", "times", 1),
        Column("few", "µs/delta of 1,000"),
        Column("many", "of 100,000"),
        Column("collecting_few", "collector alone, of 1,000"),
        Column("collecting_many", "of 100,000"),
    ),
    goals=(Goal("growth", 110),),
    clients=(OURS,),
)
BASE, BENCH = f"{OURS}, base", f"{OURS}, with bench"
SIZE = Row(
    name="size",
    title="Installed size with all requirements, without bytecode",
    columns=(Column("mb", "MB", 1), Column("distributions", "distributions", 0)),
    goals=(Goal("mb", 16, unit="MB"), Goal("mb_bench", 150, unit="MB")),
    clients=(BASE, BENCH, "aiohttp", OPENAI, "openai[aiohttp]", "aiperf"),
)


def import_time(module: str) -> dict[str, float]:
    """Return the milliseconds one import takes in a process that has imported nothing."""
    code = f"import time; start = time.perf_counter(); import {module}"
    done = subprocess.run(  # noqa: S603 our own
        [sys.executable, "-c", f"{code}; print(time.perf_counter() - start)"],
        capture_output=True,
        text=True,
        check=True,
        # Bytecode is kept, as it is where something is installed: the first run, which
        # doesn't count, may have to compile.
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        # There, not in the process itself, which would import modules for it.
        preexec_fn=lambda: pin(-1),
    )
    return {"ms": float(done.stdout) * 1e3}


def reassembly_time() -> dict[str, float]:
    """Return how the time to reassemble grows with the number of deltas."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reassembly"], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def sizes() -> Iterator[tuple[str, dict[str, float] | str]]:
    """Yield what each distribution takes, with all it needs; or why that isn't known."""
    for client, (name, extra) in _DISTRIBUTIONS.items():
        found: dict[str, int] = {}
        try:
            if extra and extra not in (metadata.metadata(name).get_all("Provides-Extra") or ()):
                yield client, f"has no extra {extra!r}"
                continue
            lost = _add(name, frozenset({extra}) if extra else frozenset(), found, set())
        except metadata.PackageNotFoundError:
            yield client, "not installed"
            continue
        if lost:
            yield client, f"not installed: {', '.join(sorted(lost))}"
            continue
        yield client, {"mb": sum(found.values()) / 1e6, "distributions": len(found)}


_DISTRIBUTIONS = {
    BASE: ("chatstream-sdk", ""),
    BENCH: ("chatstream-sdk", "bench"),
    "aiohttp": ("aiohttp", ""),
    OPENAI: ("openai", ""),
    "openai[aiohttp]": ("openai", "aiohttp"),
    "aiperf": ("aiperf", ""),
}


def _add(
    name: str, extras: frozenset[str], found: dict[str, int], seen: set[tuple[str, frozenset[str]]]
) -> set[str]:
    """Add the sizes of *name* and its requirements; return those that aren't there."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if (key, extras) in seen:
        return set()
    seen.add((key, extras))
    distribution = metadata.distribution(name)
    found[key] = _size(distribution)
    lost: set[str] = set()
    for text in distribution.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            continue
        try:
            lost |= _add(requirement.name, frozenset(requirement.extras), found, seen)
        except metadata.PackageNotFoundError:
            lost.add(requirement.name)
    return lost


def _size(distribution: metadata.Distribution) -> int:
    if distribution.metadata["Name"] == "chatstream-sdk":  # maybe installed to be edited
        spec = importlib.util.find_spec("chatstream")
        paths = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
        files = [file for path in paths for file in path.rglob("*")]
    else:
        files = [Path(str(file.locate())) for file in distribution.files or ()]
    return sum(f.stat().st_size for f in files if f.suffix != ".pyc" and f.is_file())
