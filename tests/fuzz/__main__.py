"""``python -m tests.fuzz TARGET [libFuzzer's options]``; see the README."""

import importlib
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).parent
SEEDS = HERE.parent / "streams"


def main(name, *options):
    with atheris.instrument_imports(include=["chatstream"]):
        target = importlib.import_module(f"tests.fuzz.{name}")
    arguments = [name, f"-dict={HERE / 'words.dict'}", "-timeout=10", *options]
    if not any(Path(option).is_file() for option in options):  # else just these are run
        found = Path(tempfile.gettempdir()) / "chatstream-fuzz" / name
        found.mkdir(parents=True, exist_ok=True)
        arguments += [str(found), str(SEEDS)]
    atheris.Setup(arguments, target.check)
    atheris.Fuzz()


if len(sys.argv) < 2:
    sys.exit("usage: python -m tests.fuzz sse|codec|stream [-max_total_time=60 …]")
main(*sys.argv[1:])
