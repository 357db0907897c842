"""The file to which a journal is written: it belongs to one writer, and to nobody who is dead."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fake_server import genuine
from fake_server.serve import history_file
from fake_server.serve.history_file import HistoryFile

HOLD = """
import sys
from fake_server.serve.history_file import HistoryFile
file = HistoryFile(sys.argv[1])
file.write("mine\\n")
file.open()
print("open", flush=True)
sys.stdin.read()
"""
BUSY = "another history is being written to it; end its writer, or name another file"


def test_lines_wait_for_the_file_and_then_are_there_at_once(tmp_path: Path) -> None:
    """What was in the file before is gone; nothing is kept back until it is closed."""
    path = tmp_path / "h"
    path.write_text("an older one, which was longer")
    file = HistoryFile(path)
    file.write("a\n")
    with file:
        assert path.read_text() == "a\n"
        file.write("b\n")
        file.flush()
        assert path.read_text() == "a\nb\n"
    file.close()
    assert (path.read_text(), file.error) == ("a\nb\n", "")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """By whatever name; the first one goes on, and when it has ended another may write."""
    path, link = tmp_path / "h", tmp_path / "link"
    first, second = HistoryFile(path), HistoryFile(link)
    link.symlink_to(path)
    with first:
        first.write("a\n")
        with pytest.raises(OSError, match=re.escape(BUSY)) as refused:
            second.open()
        assert refused.value.filename == str(link)
        first.write("b\n")
        assert path.read_text() == "a\nb\n"
    with second:
        assert path.read_text() == ""


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    """Another process is refused while it lives, and not after it was killed."""
    path = tmp_path / "h"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(OSError, match="another history is being written"):
            HistoryFile(path).open()
        assert path.read_text() == "mine\n"
        holder.send_signal(signal.SIGKILL)
    with HistoryFile(path):
        assert path.read_text() == ""


def test_a_forked_process_is_no_writer(tmp_path: Path) -> None:
    """It writes nothing, whatever it inherits, and keeps nobody from the file when its parent has ended."""
    path = tmp_path / "h"
    reading, writing = os.pipe()
    with HistoryFile(path) as file:
        child = os.fork()
        if not child:
            os.close(writing)
            file.write("theirs\n")
            file.close()
            os.read(reading, 1)
            os._exit(0)
        file.write("mine\n")
    assert path.read_text() == "mine\n"
    with HistoryFile(path):
        os.close(writing)
        assert os.waitpid(child, 0)[1] == 0
    os.close(reading)


def test_what_a_forked_process_does(tmp_path: Path) -> None:
    """The same without a fork: each open file is left."""
    path = tmp_path / "h"
    with HistoryFile(path) as file:
        file.write("mine\n")
        history_file._leave_all()
        file.write("theirs\n")
        with HistoryFile(path) as other:
            other.write("others\n")
            assert path.read_text() == "others\n"


@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device", "a folder"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """Without waiting for a reader, and without opening it."""
    path = tmp_path / "h"
    with socket.socket(socket.AF_UNIX) as sock:
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a socket":
            sock.bind(str(path))
        elif kind == "a folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/full")
        with pytest.raises(OSError, match=r"name a regular file|Is a directory") as refused:
            HistoryFile(path).open()
    assert refused.value.strerror == ("Is a directory" if kind == "a folder" else f"it is {kind}; name a regular file")


def test_a_fifo_that_takes_the_place_of_the_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it came between the look and the opening."""
    os.mkfifo(tmp_path / "h")
    monkeypatch.setattr(history_file, "check_kind", lambda path: None)
    with pytest.raises(OSError, match="No such device"):
        HistoryFile(tmp_path / "h").open()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EIO])
def test_a_disk_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Some disks of a network have none; any other error is one."""

    def flock(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    file = HistoryFile(tmp_path / "h")
    file.write("a\n")
    if code == errno.ENOLCK:
        with file:
            assert (tmp_path / "h").read_text() == "a\n"
    else:
        with pytest.raises(OSError, match=os.strerror(code)):
            file.open()


def test_a_disk_that_is_full_is_an_error_at_the_start_and_a_fact_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't begin is not begun; what has begun goes on. No descriptor is lost."""

    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = len(os.listdir("/proc/self/fd"))
    file = HistoryFile(tmp_path / "h")
    file.write("a\n")
    with monkeypatch.context() as full:
        full.setattr(genuine.os, "write", write)
        with pytest.raises(OSError, match="No space left on device"):
            file.open()
    with file:
        with monkeypatch.context() as full:
            full.setattr(genuine.os, "write", write)
            file.write("b\n")
        file.write("c\n")
        assert (file.error, (tmp_path / "h").read_text()) == ("No space left on device", "a\n")
    assert len(os.listdir("/proc/self/fd")) == before
