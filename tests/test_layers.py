"""The house: imports run one way, the core is pure, and `import chatstream` stays light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import chatstream

PACKAGE = Path(chatstream.__file__).parent

# A module knows the ones before it, never those after. Those in one row don't
# know each other.
ROWS = [
    ["values", "errors", "marks"],
    ["completion"],
    ["sse", "messages", "report", "codec", "auth", "sockets", "timeouts", "retry"],
    ["collector", "rules", "request"],
    ["events", "response", "phases", "arrival", "observing"],
    ["reader", "attempts"],
    ["exchange", "stream"],
    ["whole"],
    ["session"],
    ["observers"],
    ["chatstream"],  # the public names
    ["schema", "relay"],
    ["tools", "structured"],
    ["bots"],
    ["testing"],
    ["bench"],
    ["cli"],
    ["__main__"],
]
ROW = {name: number for number, names in enumerate(ROWS) for name in names}

# The same inside of bench/. How files are written is known to who keeps a log, so it
# stands before the other outputs.
BENCH_ROWS = [
    ["record", "workload", "deadlines", "watch", "files"],
    ["plan"],
    ["schedule"],
    ["runner"],
    ["truth"],
    ["workers"],
    ["cluster"],
    ["log"],
    ["metrics"],
    ["stats", "windows"],
    ["goodput", "client", "definitions", "sweep", "allowance"],
    ["server"],
    ["summary"],
    ["saved"],
    ["comparable"],
    ["compare"],
    ["output"],
    ["benchmark"],
    ["bench"],  # the public names
    ["pytest_plugin"],
]
BENCH_ROW = {name: number for number, names in enumerate(BENCH_ROWS) for name in names}

PURE = [
    "sse", "messages", "rules", "request", "completion", "codec", "collector", "marks", "report",
    "events", "errors", "values",
]  # fmt: skip
IMPURE = {"asyncio", "aiohttp", "time", "logging", "socket", "ssl", "threading", "selectors", "os"}


def modules():
    """Every file of the package, with the room it belongs to."""
    for path in sorted(PACKAGE.rglob("*.py")):
        first = path.relative_to(PACKAGE).parts[0]
        room = "chatstream" if path == PACKAGE / "__init__.py" else first.removesuffix(".py")
        yield path, room


def bench_room_of(name):
    """The room inside of bench/ of one of its modules."""
    _, _, *parts = name.split(".")
    if parts[:2] == ["output", "files"]:
        return "files"
    return parts[0] if parts else "bench"


def bench_modules():
    """Every file of bench/, with the room it belongs to."""
    for path, room in modules():
        if room == "bench":
            inside = path.relative_to(PACKAGE).with_suffix("").parts
            name = ".".join(("chatstream", *inside)).removesuffix(".__init__")
            yield path, bench_room_of(name)


def imports(path):
    """Names of the modules that *path* imports when it runs, also inside functions."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if is_module(whole) else node.module


def is_module(name):
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def room_of(name):
    """The room of an imported module of ours."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "chatstream"


def fresh(code):
    """Run *code* in an interpreter of its own and return the names of what is loaded then."""
    code += "\nimport sys; print(*sys.modules)"
    search = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": search.rstrip(os.pathsep)},
    )
    return set(done.stdout.split())


def test_every_module_has_its_place():
    assert {room for _, room in modules()} <= set(ROW), "give it a row in ROWS"
    assert {room for _, room in bench_modules()} == set(BENCH_ROW), "give it a row in BENCH_ROWS"


@pytest.mark.parametrize(("path", "room"), [pytest.param(p, r, id=str(p)) for p, r in modules()])
def test_imports_run_one_way(path, room):
    ours = {room_of(name) for name in imports(path) if name.split(".")[0] == "chatstream"}
    wrong = {other for other in ours if ROW[other] >= ROW[room] and other != room}

    assert set() == wrong, f"{room} comes before them"


@pytest.mark.parametrize(
    ("path", "room"), [pytest.param(p, r, id=str(p)) for p, r in bench_modules()]
)
def test_imports_of_the_bench_run_one_way(path, room):
    ours = {bench_room_of(name) for name in imports(path) if name.startswith("chatstream.bench")}
    wrong = {other for other in ours if BENCH_ROW[other] >= BENCH_ROW[room] and other != room}

    assert set() == wrong, f"{room} comes before them"


@pytest.mark.parametrize("name", PURE)
def test_the_core_is_pure(name):
    """
    No await, no socket, no clock, no logging: time is an argument.
    """
    path = PACKAGE / f"{name}.py"
    found = {module.split(".")[0] for module in imports(path)}
    waits = [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]

    assert set() == found & IMPURE
    assert [] == waits


def test_importing_chatstream_loads_only_what_it_needs():
    loaded = fresh("import chatstream")
    ours = {room_of(name) for name in loaded if name.split(".")[0] == "chatstream"}
    foreign = {"cyclopts", "rich", "jiter", "opentelemetry", "prometheus_client", "uvloop"}

    assert "chatstream.session" in loaded
    assert set() == foreign & {name.split(".")[0] for name in loaded}
    optional = {"testing", "cli", "bench", "bots", "relay", "schema", "tools", "structured"}
    assert set() == optional & ours


def test_who_makes_a_load_computes_nothing():
    """
    A worker's start is time that a run takes, and its memory is there once for each.
    """
    loaded = fresh("import chatstream.bench.workers, chatstream.bench.truth")
    foreign = {"numpy", "rich", "plotly", "prometheus_client", "cyclopts"}

    assert "chatstream.bench.runner" in loaded
    assert set() == foreign & {name.split(".")[0] for name in loaded}


LINES = """
import io, sys
from chatstream.cli import main
shown, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
for line in ("--help", "bench --help", "bench -c 0", "chat --simulate --preset instant hi"):
    main(line.split())
sys.stdout = shown
"""


def test_a_command_loads_only_what_it_needs():
    """
    Importing numpy takes longer than a short answer.
    """
    loaded = fresh(LINES)

    assert "chatstream.cli.bench" in loaded
    assert "chatstream.testing" in loaded
    assert set() == {"numpy", "plotly", "prometheus_client", "ray"} & {
        name.split(".")[0] for name in loaded
    }


def test_every_public_name_is_there():
    assert sorted(chatstream.__all__) == sorted(set(chatstream.__all__))
    assert all(hasattr(chatstream, name) for name in chatstream.__all__)
