"""Files that are whole or not there, whatever happens meanwhile."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chatstream.bench.log import Log
from chatstream.bench.output import files
from chatstream.bench.output.files import OutputError, Outputs, RunningLog
from chatstream.testing import FakeClock
from tests.bench.runs import SimulatedRun
from tests.disk import room_for

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def outputs(tmp_path):
    """A folder that isn't there yet."""
    return Outputs(tmp_path / "deep" / "out")


def names(folder):
    """All that is in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# --- Whole files -----------------------------------------------------------------


@pytest.mark.parametrize("content", ["größer", "größer".encode()], ids=["text", "bytes"])
def test_a_file_is_written_and_nothing_else_is_left(outputs, content):
    outputs.check("a.json")
    path = outputs.write("a.json", content)

    assert "größer" == path.read_text("utf-8")
    assert ["a.json"] == names(outputs.folder)


def test_what_exists_stays(outputs):
    outputs.check("a")
    outputs.write("a", "old")
    with pytest.raises(OutputError) as caught:
        outputs.write("a", "new")
    path = outputs.folder / "a"

    assert f"can't write {path}: it exists, and overwriting wasn't asked for" == str(caught.value)
    assert (errno.EEXIST, str(path)) == (caught.value.errno, caught.value.filename)
    assert "old" == path.read_text()


def test_what_exists_is_told_before_a_run(outputs):
    """
    A run of an hour whose figures then have no place would be lost.
    """
    outputs.check("a", "b")
    outputs.write("b", "old")

    with pytest.raises(OutputError, match=r"out/b: it exists"):
        outputs.check("a", "b")


def test_what_exists_is_replaced_if_that_is_wanted(tmp_path):
    outputs = Outputs(tmp_path, overwrite=True)
    (tmp_path / "a").write_text("a longer old text")
    outputs.check("a")
    outputs.write("a", "new")

    assert "new" == (tmp_path / "a").read_text()
    assert ["a"] == names(tmp_path)


def test_a_name_taken_in_between_stays(tmp_path, monkeypatch):
    """
    What another process made after the last look is as precious as what was there before.
    """
    monkeypatch.setattr(Outputs, "_check", lambda _, path: path.write_text("theirs"))
    with pytest.raises(OutputError, match="it exists"):
        Outputs(tmp_path).write("a", "ours")

    assert "theirs" == (tmp_path / "a").read_text()
    assert ["a"] == names(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_a_symbolic_link_is_never_written_through(tmp_path, overwrite, there):
    """
    In a folder that others may write to, a link could make us overwrite any file.
    """
    precious = tmp_path / "precious"
    if there:
        precious.write_text("theirs")
    (tmp_path / "a").symlink_to(precious)
    outputs = Outputs(tmp_path, overwrite=overwrite)
    for attempt in (lambda: outputs.check("a"), lambda: outputs.write("a", "ours")):
        with pytest.raises(OutputError, match="it is a symbolic link"):
            attempt()

    assert there == precious.exists()
    assert not there or "theirs" == precious.read_text()


def test_a_link_made_in_between_is_replaced_not_followed(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("theirs")
    monkeypatch.setattr(Outputs, "_check", lambda _, path: path.symlink_to(precious))
    Outputs(tmp_path, overwrite=True).write("a", "ours")

    assert ("theirs", "ours") == (precious.read_text(), (tmp_path / "a").read_text())


def test_a_folder_in_the_way_is_told(tmp_path):
    (tmp_path / "a").mkdir()

    with pytest.raises(OutputError, match=r"/a: there is something that isn't a file"):
        Outputs(tmp_path, overwrite=True).check("a")


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "out").write_text("")

    with pytest.raises(OutputError, match=r"can't write .*/out: File exists"):
        Outputs(tmp_path / "out").check("a")


@pytest.mark.skipif(AS_ROOT, reason="nothing is forbidden to root")
def test_a_forbidden_folder_is_told_before_a_run(tmp_path):
    tmp_path.chmod(0o500)

    with pytest.raises(OutputError, match="Permission denied"):
        Outputs(tmp_path).check("a")


def test_a_folder_without_leave_is_told_before_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda *_: False)

    with pytest.raises(OutputError, match="Permission denied"):
        Outputs(tmp_path).check("a")


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(OutputError, match=r"gone/a: No such file or directory"):
        Outputs(tmp_path / "gone").write("a", "")


@pytest.mark.parametrize(("private", "expected"), [(True, 0o600), (False, 0o640)])
def test_a_private_file_is_its_owners(tmp_path, private, expected):
    """
    Answers of a model are nobody else's business; the rest is as the user set it.
    """
    before = os.umask(0o027)
    try:
        path = Outputs(tmp_path).write("a", "", private=private)
    finally:
        os.umask(before)

    assert expected == mode(path)


def test_a_full_disk_leaves_nothing(tmp_path):
    outputs = Outputs(tmp_path)
    with room_for(1000), pytest.raises(OutputError, match=r"/a: File too large"):
        outputs.write("a", "x" * 2000)

    assert [] == names(tmp_path)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_text("old")
    with room_for(1000), pytest.raises(OutputError):
        Outputs(tmp_path, overwrite=True).write("a", "x" * 2000)

    assert "old" == (tmp_path / "a").read_text()
    assert ["a"] == names(tmp_path)


def test_no_name_is_taken_before_all_is_written(tmp_path, monkeypatch):
    """
    Who looks in the folder meanwhile must not find half a file.
    """
    seen = []
    monkeypatch.setattr(files.os, "fsync", lambda _: seen.append((tmp_path / "a").exists()))
    Outputs(tmp_path).write("a", "x")

    assert [False] == seen


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_links_will_do(tmp_path, monkeypatch, number):
    """
    FAT and some network file systems have none.
    """

    def refuse(source, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "link", refuse)
    outputs = Outputs(tmp_path)
    path = outputs.write("a", "new")

    assert "new" == path.read_text()
    assert ["a"] == names(tmp_path)
    with pytest.raises(OutputError, match="it exists"):
        files._take_name(tmp_path / "temporary", path, overwrite=False)


def test_what_a_link_fails_of_is_told(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "link", refuse)
    with pytest.raises(OutputError, match=r"/a: Input/output error"):
        Outputs(tmp_path).write("a", "new")

    assert [] == names(tmp_path)


# --- The running log -------------------------------------------------------------


def broken_off(log, line):
    """Add a line, and fail for a reason of one's own."""
    with log:
        log.add(line)
        raise ZeroDivisionError


def test_a_log_gets_its_name_when_it_is_whole(outputs):
    with outputs.log("log") as log:
        log.add(b"one\n")
        assert ["log.part"] == names(outputs.folder)
        log.add(b"two\n")

    assert "one\ntwo\n" == (outputs.folder / "log").read_text()
    assert ["log"] == names(outputs.folder)


def test_a_log_can_be_finished_inside_its_block(outputs):
    with outputs.log("log") as log:
        log.add(b"one\n")
        path = log.finish()

    assert path == log.finish() == outputs.folder / "log"
    assert "one\n" == path.read_text()


def test_lines_are_written_many_at_a_time(tmp_path):
    log = RunningLog(tmp_path / "log", clock=FakeClock())
    line = b"x" * 999 + b"\n"
    for _ in range(65):
        log.add(line)
    before = log.part.stat().st_size
    log.add(line)

    assert (0, 66_000) == (before, log.part.stat().st_size)
    log.finish()


def test_lines_dont_wait_for_others_for_long(tmp_path):
    """
    Of a run that is killed all but the last second is there.
    """
    moments = iter([0.0, 0.5, 1.0, 1.0, 1.9])
    log = RunningLog(tmp_path / "log", clock=lambda: next(moments))
    sizes = []
    for _ in range(3):
        log.add(b"x\n")
        sizes.append(log.part.stat().st_size)

    assert [0, 4, 4] == sizes
    os.close(log._file)


def test_a_run_that_fails_leaves_its_log_unfinished(outputs):
    log = outputs.log("log")
    with pytest.raises(ZeroDivisionError):
        broken_off(log, b"one\n")

    assert ["log.part"] == names(outputs.folder)
    assert "one\n" == log.part.read_text()


def test_a_run_that_fails_before_it_begins_leaves_nothing(outputs):
    """
    It would be in the way of the next one.
    """
    with pytest.raises(ZeroDivisionError):
        broken_off(outputs.log("log"), b"")

    assert [] == names(outputs.folder)


def test_an_unfinished_log_is_not_overwritten_by_chance(outputs):
    """
    It may be all that is left of a long run.
    """
    outputs.check()
    (outputs.folder / "log.part").write_text("precious\n")
    with pytest.raises(OutputError, match=r"log\.part: it holds a run that was cut off"):
        outputs.log("log")

    assert "precious\n" == (outputs.folder / "log.part").read_text()


@pytest.mark.parametrize("name", ["log", "log.part"])
def test_an_old_log_is_replaced_if_that_is_wanted(tmp_path, name):
    (tmp_path / name).write_text("old\n")
    with Outputs(tmp_path, overwrite=True).log("log") as log:
        log.add(b"new\n")

    assert "new\n" == (tmp_path / "log").read_text()
    assert ["log"] == names(tmp_path)


def test_a_log_whose_name_was_taken_keeps_the_other(outputs):
    log = outputs.log("log")
    log.add(b"ours\n")
    log.path.write_text("theirs\n")
    with pytest.raises(OutputError, match="it exists"), log:
        log.finish()

    assert ("theirs\n", "ours\n") == (log.path.read_text(), log.part.read_text())


def test_a_part_made_in_between_is_not_written_to(tmp_path):
    """
    A link by that name would let us write into somebody else's file.
    """
    precious = tmp_path / "precious"
    (tmp_path / "log.part").symlink_to(precious)
    with pytest.raises(OutputError, match=r"log\.part: it holds a run"):
        RunningLog(tmp_path / "log")

    assert not precious.exists()


@pytest.mark.parametrize(("private", "expected"), [(True, 0o600), (False, 0o640)])
def test_a_private_log_is_its_owners_from_the_start(outputs, private, expected):
    before = os.umask(0o027)
    try:
        with outputs.log("log", private=private) as log:
            early = mode(log.part)
    finally:
        os.umask(before)

    assert (expected, expected) == (early, mode(outputs.folder / "log"))


def test_a_full_disk_ends_no_line_twice(tmp_path):
    """
    What was written when the disk was full isn't written again when there is room.
    """
    log = RunningLog(tmp_path / "log")
    log.add(b"a" * 1500)
    with room_for(1000), pytest.raises(OutputError, match=r"log\.part: File too large"):
        log.flush()
    log.add(b"b\n")

    assert b"a" * 1500 + b"b\n" == log.finish().read_bytes()


def test_a_full_disk_doesnt_hide_why_a_run_failed(tmp_path):
    log = RunningLog(tmp_path / "log")
    with room_for(1000), pytest.raises(ZeroDivisionError):
        broken_off(log, b"a" * 1500)

    assert 1000 == log.part.stat().st_size
    assert not log.path.exists()


def test_a_full_disk_at_the_end_gives_no_name(tmp_path):
    log = RunningLog(tmp_path / "log")
    log.add(b"a" * 1500)
    with room_for(1000), pytest.raises(OutputError), log:
        pass

    assert ["log.part"] == names(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from chatstream.bench.output.files import RunningLog
log = RunningLog(Path(sys.argv[1]))
lines = sys.stdin.buffer.readlines()
for line in lines[:-1]:
    log.add(line)
log.add(lines[-1][:20])
log.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_log_of_a_killed_run_can_be_read(tmp_path):
    lines = [record.to_line() for record in SimulatedRun(requests=20, warmup=0).records]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "log")],
        input=b"".join(lines),
        check=False,
        cwd=Path(files.__file__).parents[3],
    )
    log = Log.read(tmp_path / "log.part")

    assert -signal.SIGKILL == done.returncode
    assert (19, True) == (len(log), log.cut)
    assert ["log.part"] == names(tmp_path)
