"""Reports of hostile texts, and files where they can't or mustn't be written: K17 and K18.

In a real browser the page is opened by tests/outside/test_report_page.py.
"""

import asyncio
import io
import itertools
import json
import os
import re
import signal
import stat
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from chatstream.cli import main
from chatstream.cli.exits import DONE, FAILED, USAGE
from tests.bench.records import record
from tests.conftest import DONE as END
from tests.conftest import RawServer, chunk, response
from tests.disk import room_for
from tests.faults.acts import OUTPUT, UNTIL_CLOSED, child, frame

BENCH = "import sys; from chatstream.cli import main; sys.exit(main())"
QUICKLY = ("--no-calibration", "--prompt", "Hi", "-c", "1")

LOG, PAGE, SUMMARY, MARKDOWN = "requests.jsonl", "report.html", "summary.json", "report.md"
REPORTS = (SUMMARY, PAGE, MARKDOWN)

HOSTILE = (
    "</script><script>pwned()</script><!--<img src=x onerror=pwned()>"
    "\x1b]52;c;cHduZWQ=\x07\x9b31m\r\u2028\u202epwned\u2029"
    "[pwned](javascript:pwned())|`pwned`|**pwned** @pwned ${pwned} {{data}}"
)
FORMULA = "=cmd|' /C calc'!pwned"
COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]"
)
"""What a terminal obeys instead of showing it."""


# --- Hostile texts ---------------------------------------------------------------------


def refused(text):
    """A refusal whose every word is the server's."""
    words = {"error": {"message": text, "type": HOSTILE, "code": FORMULA}}
    return response(json.dumps(words).encode(), "400 Bad Request", "application/json")


ANSWERS = (
    response(
        chunk(HOSTILE + OUTPUT) + chunk(finish_reason="stop") + frame(END),
        x_request_id="<script>pwned()</script>",
    ),
    refused(HOSTILE),
    response(chunk(FORMULA) + frame({"error": {"message": HOSTILE, "type": FORMULA}})),
)


async def measured(out):
    """Measure a server by hostile names; returns what was printed on both outputs."""
    turns = itertools.cycle(ANSWERS)

    async def answer(connection):
        while await connection.request() is not None:
            await connection.send(next(turns))

    server = await RawServer(answer).start()
    try:
        process = await child(
            BENCH,
            *("bench", "--base-url", server.base_url, "-m", HOSTILE, "-m", FORMULA),
            *(*QUICKLY, "-n", "6", "--out", out, "--save-text", "--save-vllm", out / "vllm.json"),
            *("--definitions", "vllm"),
        )
        printed = await process.communicate()
    finally:
        await server.aclose()
    assert DONE == process.returncode, printed
    return "".join(text.decode() for text in printed)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The folder of such a run, and what it printed."""
    out = tmp_path_factory.mktemp("hostile") / "out"
    printed = asyncio.run(measured(out))
    return SimpleNamespace(out=out, printed=printed)


class Terminal(io.StringIO):
    """Standard output, if somebody looks at it."""

    def isatty(self):
        return True


def without_styles(text):
    """What is left without the colours that we set ourselves."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_what_a_run_prints_is_shown_and_not_obeyed(hostile):
    """
    K17: names, errors and their details, on its way through a pipe.
    """
    assert "pwned" in hostile.printed
    assert not COMMANDS.search(hostile.printed)


@pytest.mark.parametrize("command", ["report", "compare"])
def test_what_is_shown_again_is_not_obeyed(hostile, monkeypatch, command):
    """
    K17: at a terminal.
    """
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", Terminal())
    runs = {"report": [hostile.out], "compare": [f"{hostile.out}#{HOSTILE}", hostile.out]}
    status = main([command, *map(str, runs[command])])
    shown = without_styles(sys.stdout.getvalue())

    assert DONE == status
    assert "pwned" in shown
    assert not COMMANDS.search(shown)


def foreign(markdown):
    """What of a text stands as code, and the rest."""
    code = r"`[^`|\n]*`|<code>[^<>`|\n]*</code>"
    return re.findall(code, markdown), re.sub(code, "", markdown)


@pytest.mark.parametrize("command", ["report", "compare"])
def test_in_markdown_it_is_code(hostile, tmp_path, capsys, command):
    """
    K17: no markup, no link, no mention of somebody, no cell of its own.
    """
    if command == "compare":
        file = tmp_path / "comment.md"
        run = f"{hostile.out}#{FORMULA}"
        main(["compare", f"{hostile.out}#{HOSTILE}", run, "--markdown", str(file)])
    else:
        file = hostile.out / MARKDOWN
    text = file.read_text("utf-8")
    code, rest = foreign(text)

    assert any("pwned" in each for each in code)
    assert "pwned" not in rest
    assert "cmd" not in rest
    assert not COMMANDS.search(text)


class Tags(HTMLParser):
    """What a page consists of, as far as it decides itself."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.texts = {}
        """What is in the elements that have an id."""
        self.comments = 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        known.pop("content", None)  # the policy has hashes in it
        self.tags.append((tag, known))

    def handle_data(self, data):
        if identity := self.tags and self.tags[-1][1].get("id"):
            self.texts[identity] = self.texts.get(identity, "") + data

    def handle_comment(self, data):
        self.comments += 1


def test_in_the_page_it_is_data(hostile, saved, tmp_path, capsys):
    """
    K17: no tag, attribute, script or comment that a page of harmless texts doesn't have.
    """
    main(["report", str(saved), "--out", str(tmp_path / "harmless")])
    harmless = Tags((tmp_path / "harmless" / PAGE).read_text("utf-8"))
    text = (hostile.out / PAGE).read_text("utf-8")
    page = Tags(text)
    [data] = [each for each in page.texts.values() if "pwned" in each]

    assert harmless.tags == page.tags
    assert harmless.comments == page.comments
    assert not re.search("[<>&\u2028\u2029]", data)
    assert any(str(each).startswith(HOSTILE[:30]) for each in json.loads(data)["requests"]["text"])
    assert not COMMANDS.search(data)


def test_files_for_programs_keep_it_as_it_was(hostile):
    """
    K17: they escape what JSON says, so a line is a line.
    """
    lines = (hostile.out / LOG).read_bytes().splitlines()
    records = list(map(json.loads, lines))
    vllm = json.loads((hostile.out / "vllm.json").read_bytes())
    models = [t["model"] for t in json.loads((hostile.out / SUMMARY).read_bytes())["targets"]]

    assert 12 == len(records)
    assert HOSTILE + OUTPUT in [record.get("text") for record in records]
    assert HOSTILE + OUTPUT in vllm["generated_texts"]
    assert [HOSTILE, FORMULA] == models
    for file in hostile.out.iterdir():
        assert not {0x1B, 0x07, 0x0D} & set(file.read_bytes())


# --- Files ------------------------------------------------------------------------------


def names(folder):
    """What is in a folder."""
    return [file.name for file in folder.iterdir()]


@pytest.fixture
def saved(tmp_path):
    """A log, to be reported on."""
    log = tmp_path / "log" / LOG
    log.parent.mkdir()
    log.write_bytes(b"".join(record(0.1, 0.2, number=n).to_line() for n in range(3)))
    return log


BEGINNING = ("bench", "--simulate", *QUICKLY, "-n", "1")


@pytest.fixture(
    params=[
        (BEGINNING, LOG),
        (BEGINNING, f"{LOG}.part"),
        (BEGINNING, PAGE),
        (("report", "{log}"), SUMMARY),
        (("report", "{log}"), MARKDOWN),
    ],
    ids=lambda param: f"{param[0][0]} {param[1]}",
)
def writing(request, saved, tmp_path, capsys):
    """A command that writes a file; its folder, and a function that runs it."""
    words, name = request.param
    words = [word.format(log=saved) for word in words]
    out = tmp_path / "out"
    out.mkdir()

    def run(*options):
        status = main([*words, "--out", str(out), *options])
        return status, capsys.readouterr().err

    return SimpleNamespace(file=out / name, out=out, run=run)


def test_nothing_is_written_through_a_link(writing, tmp_path):
    """
    K18: with leave to overwrite, either; and a run doesn't begin if that is how it would end.
    """
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    writing.file.symlink_to(theirs)

    for options in ((), ("--overwrite",)):
        status, told = writing.run(*options)

        assert USAGE == status
        assert f"{writing.file}: it is a symbolic link" in told
        assert "theirs" == theirs.read_text()
        assert [writing.file.name] == names(writing.out)


def test_nothing_takes_the_place_of_a_file_unasked(writing):
    """
    K18: of a run that took an hour, maybe.
    """
    writing.file.write_text("an hour")
    status, told = writing.run()

    assert USAGE == status
    assert f"{writing.file}: it " in told
    assert "overwriting wasn't asked for" in told
    assert "an hour" == writing.file.read_text()
    assert [writing.file.name] == names(writing.out)


def test_it_does_if_asked(saved, tmp_path, capsys):
    """
    K18: and a link that names it, too, keeps what was there.
    """
    out = tmp_path / "out"
    main(["report", str(saved), "--out", str(out)])
    for name in REPORTS:
        os.link(out / name, tmp_path / name)
        (out / name).write_text("an hour")
    status = main(["report", str(saved), "--out", str(out), "--overwrite"])

    assert DONE == status
    for name in REPORTS:
        assert "an hour" == (tmp_path / name).read_text()
        assert "an hour" != (out / name).read_text("utf-8")


def test_a_report_that_finds_no_room_leaves_no_half_file(saved, tmp_path, capsys):
    """
    K18: the page is the one with some megabytes.
    """
    out = tmp_path / "out"
    with room_for(1_000_000):
        status = main(["report", str(saved), "--out", str(out)])

    assert FAILED == status
    assert f"can't write {out / PAGE}: File too large" in capsys.readouterr().err
    assert PAGE not in names(out)
    assert not [name for name in names(out) if name.startswith(".")]
    json.loads((out / SUMMARY).read_bytes())


def test_a_run_that_finds_no_room_says_so_and_leaves_what_it_has(tmp_path, capsys, monkeypatch):
    """
    K18: under the name of a log that was cut off, and it can be reported on.
    """
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    out = tmp_path / "out"
    instant = ("--preset", "instant", "--tokens", "2000")
    with room_for(100_000):
        status = main(["bench", "--simulate", *instant, *QUICKLY, "-n", "40", "--out", str(out)])
    told = capsys.readouterr().err
    again = main(["report", str(out)])

    assert FAILED == status
    assert f"can't write {out / LOG}.part: File too large" in told
    assert [f"{LOG}.part"] == names(out)
    assert DONE == again


async def test_a_run_that_is_killed_leaves_its_log_as_a_part(raw_server, tmp_path, capsys):
    """
    K18: nobody takes it for a whole one, nor overwrites it unasked; what is there can be read.
    """
    out = tmp_path / "out"
    long = response(chunk("pwned" * 30_000) + chunk(finish_reason="stop") + frame(END))
    left = [long]

    async def answer(connection):
        while await connection.request() is not None:
            await connection.send(left.pop() if left else UNTIL_CLOSED)

    server = await raw_server(answer)
    words = ("bench", "--base-url", server.base_url, "-m", "m", *QUICKLY, "-n", "2")
    process = await child(BENCH, *words, "--out", str(out), "--save-text")
    part = out / f"{LOG}.part"
    # A file tells nobody that it grows.
    while process.returncode is None and not (part.exists() and part.stat().st_size):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    process.kill()
    await process.communicate()

    assert -signal.SIGKILL == process.returncode
    assert [part.name] == names(out)
    assert USAGE == main([*words, "--out", str(out)])
    assert DONE == main(["report", str(out)])
    assert 0o600 == stat.S_IMODE(part.stat().st_mode)


async def test_a_report_that_is_killed_leaves_no_file_by_its_name(saved, tmp_path, capsys):
    """
    K18: at the last moment before the first one would have its name.
    """
    out = tmp_path / "out"
    dying = "import os, signal; os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
    process = await child(dying + BENCH, "report", str(saved), "--out", str(out))
    await process.communicate()

    assert -signal.SIGKILL == process.returncode
    [left] = names(out)
    assert left.startswith(f".{SUMMARY}.")
    assert DONE == main(["report", str(saved), "--out", str(out)])


def test_answers_are_for_nobody_else_to_read(hostile):
    """
    K18: where they are kept at all.
    """
    telling = [file for file in hostile.out.iterdir() if OUTPUT in file.read_text("utf-8")]

    assert {LOG, PAGE, "vllm.json"} == {file.name for file in telling}
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in telling}


def test_without_answers_a_report_is_for_everybody(saved, tmp_path, capsys):
    """
    K18: else nobody could serve it.
    """
    out = tmp_path / "out"
    before = os.umask(0o022)
    try:
        main(["report", str(saved), "--out", str(out)])
    finally:
        os.umask(before)

    assert {0o644} == {stat.S_IMODE(file.stat().st_mode) for file in out.iterdir()}
