"""Files that are whole or not there, and never in the place of somebody else's.

A file is written under a temporary name in its own folder, and takes its name when it is
whole and on the disk. Without leave, it takes no name that is taken; with leave it takes a
plain file's place, and never writes through a symbolic link.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import frozen

LOG = "requests.jsonl"
SUMMARY = "summary.json"
PAGE = "report.html"
MARKDOWN = "report.md"
REPORTS = (SUMMARY, PAGE, MARKDOWN)
"""What is made of a run's log."""
FILES = (LOG, *REPORTS)
"""What a run leaves in its folder."""

PART = ".part"
"""Ends the name of a log while its run goes on."""

_BUFFERED, _DELAY = 1 << 16, 1.0
"""So many bytes of a log wait to be written, and for so many seconds."""

_PUBLIC, _PRIVATE = 0o666, 0o600
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class OutputError(OSError):
    """A file that can't be written: which one, and why."""

    def __init__(self, path: Path, reason: str, number: int | None = None) -> None:
        super().__init__(number, reason, str(path))
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"can't write {self.path}: {self.reason}"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let what the system says name *path*, not a temporary file."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(path, error.strerror or str(error), error.errno) from error


@frozen
class Outputs:
    """The files of one run, in one folder. All methods raise ``OutputError``."""

    folder: Path
    overwrite: bool = False
    """Whether they may take the place of what an earlier run left."""

    def check(self, *names: str) -> None:
        """Make the folder, and see that files of these names can be written in it.

        To be told after a run that its figures have no place would be late.
        """
        with _naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise OutputError(self.folder, os.strerror(errno.EACCES), errno.EACCES)
        for name in names:
            self._check(self.folder / name)
            self._check(self.folder / (name + PART))

    def _check(self, path: Path) -> None:
        with _naming(path):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                return
        if stat.S_ISLNK(mode):
            raise OutputError(path, "it is a symbolic link", errno.ELOOP)
        if not stat.S_ISREG(mode):
            raise OutputError(path, "there is something that isn't a file", errno.EEXIST)
        if not self.overwrite:
            raise _taken(path)

    def write(self, name: str, content: str | bytes, *, private: bool = False) -> Path:
        """Write a whole file and return its path; *private*: nobody else may read it."""
        path = self.folder / name
        self._check(path)
        temporary = path.with_name(f".{name}.{secrets.token_hex(4)}")
        with _naming(path):
            file = _create(temporary, private=private)
            try:
                try:
                    _write_all(file, content.encode() if isinstance(content, str) else content)
                    os.fsync(file)
                finally:
                    os.close(file)
                _take_name(temporary, path, overwrite=self.overwrite)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return path

    def log(self, name: str, *, private: bool = False) -> RunningLog:
        """Begin a file that grows while a run goes on."""
        self.check(name)
        return RunningLog(self.folder / name, overwrite=self.overwrite, private=private)


class RunningLog:
    """A file of lines that has its own name only when it is whole.

    Until then it ends in ``.part``, and what is in it can be read, also after the process
    was killed: but for the newest lines, and with half a line at its end. As a context
    manager it gets its name at the end of the block, unless that ends in an exception: then
    it stays what it is, or goes if nothing was added.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        private: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.part = path.with_name(path.name + PART)
        self._overwrite = overwrite
        self._clock = clock
        self._due = clock() + _DELAY
        self._buffer = bytearray()
        self._named = False
        with _naming(self.part):
            if overwrite:
                self.part.unlink(missing_ok=True)
            self._file: int | None = _create(self.part, private=private)

    def add(self, line: bytes) -> None:
        """Add a line, with its end. It is in the file with a later one, within seconds."""
        self._buffer += line
        if len(self._buffer) >= _BUFFERED or self._clock() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write what was added. If that fails, it can be tried again."""
        self._due = self._clock() + _DELAY
        if self._file is not None:
            with _naming(self.part):
                _write_all(self._file, self._buffer)

    def finish(self) -> Path:
        """Give the file its name, if it hasn't got it, and return it."""
        if self._file is not None:
            self.flush()
            with _naming(self.path):
                os.fsync(self._file)
                self._close()
                _take_name(self.part, self.path, overwrite=self._overwrite)
        return self.path

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
            elif self._file is not None:
                with suppress(OutputError):  # what ended the block is worth more
                    self.flush()
                if not os.fstat(self._file).st_size:
                    self.part.unlink(missing_ok=True)
        finally:
            self._close()


def _taken(path: Path) -> OutputError:
    what = "it holds a run that was cut off" if path.suffix == PART else "it exists"
    return OutputError(path, f"{what}, and overwriting wasn't asked for", errno.EEXIST)


def _create(path: Path, *, private: bool) -> int:
    """Open a new file. A link by its name, too, means that it isn't new."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(path, flags, _PRIVATE if private else _PUBLIC)
    except FileExistsError:
        raise _taken(path) from None


def _write_all(file: int, content: bytes | bytearray) -> None:
    """Write *content*; of a buffer, take out what was written, also if the rest fails."""
    written = 0
    try:
        with memoryview(content) as view:
            while written < len(content):
                written += os.write(file, view[written:])
    finally:
        if isinstance(content, bytearray):
            del content[:written]


def _take_name(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give a file its name. Renaming would take a taken one without asking."""
    if overwrite:
        temporary.replace(path)  # a link's own place, not that of what it points to
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise _taken(path) from None
        temporary.replace(path)
        return
    temporary.unlink()
