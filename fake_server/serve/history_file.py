"""The file to which a journal writes its lines as they come."""

from __future__ import annotations

import errno
import fcntl
import stat
from contextlib import suppress
from typing import Self
from weakref import WeakSet

from fake_server.genuine import os

__all__ = ["HistoryFile", "check_kind"]

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of ``flock`` on a file system that has no locks."""


_open: WeakSet[HistoryFile] = WeakSet()
"""Those that are open in this process."""


class HistoryFile:
    """A text file for the history; each line is written at once, or buffered until the file is opened.

    A disk that fills up must not stop the service: once it is open, a failed write sets ``error`` instead of raising.
    A process that is forked meanwhile writes nothing to it, and does not keep its lock.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = os.fspath(path)
        self.error: str = ""
        self._file: int | None = None
        self._forked = False
        self._held: list[str] = []

    def open(self) -> None:
        """Open the file, overwriting it, and write the buffered lines. Waits for nobody.

        Raises ``OSError`` whose ``strerror`` says why it can't be written: it is no regular file, another history is
        being written to it, the disk is full, … A history that another process writes there stays untouched.
        """
        check_kind(self.path)
        # Without O_NONBLOCK, opening a FIFO that took the file's place just now would wait for a reader.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        file = os.open(self.path, flags, 0o666)
        try:
            _lock(file, self.path)
            os.ftruncate(file, 0)
            _write(file, "".join(self._held))
        except OSError:
            os.close(file)
            raise
        self._file = file
        self._held.clear()
        _open.add(self)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, text: str) -> None:
        if self._forked:
            return
        if self._file is None:
            self._held.append(text)
        elif not self.error:
            try:
                _write(self._file, text)
            except OSError as error:
                self.error = error.strerror or str(error)

    def flush(self) -> None:
        """Do nothing: each line is written at once."""

    def close(self) -> None:
        """Close the file, and so release its lock. Does nothing if it is not open."""
        file, self._file = self._file, None
        _open.discard(self)
        if file is not None:
            with suppress(OSError):  # the error of the write is kept
                os.close(file)

    def leave(self) -> None:
        """In a process that was forked: leave the file to its writer. An open descriptor would keep the lock."""
        self._forked = True
        self.close()


def _leave_all() -> None:
    for file in tuple(_open):
        file.leave()


os.register_at_fork(after_in_child=_leave_all)


def check_kind(path: str) -> None:
    """Refuse what is no regular file before it is opened: opening alone makes some devices act."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    for is_of, kind in _KINDS:
        if is_of(mode):
            raise OSError(errno.EINVAL, f"it is {kind}; name a regular file", path)


def _lock(file: int, path: str) -> None:
    """Lock the open file for as long as it is open: the kernel drops the lock when its holder dies, however it dies."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        why = "another history is being written to it; end its writer, or name another file"
        raise OSError(errno.EWOULDBLOCK, why, path) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _write(file: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(file, data) :]
