"""What can go wrong while ``serve`` starts: each error says what failed, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fake_server.serve import service as serving
from fake_server.serve.history_file import HistoryFile
from fake_server.serve.service import serve
from tests.unit.test_serve import AJudge


def broken(monkeypatch, owner, name):
    """As if the disk were full when that is called."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize(
    ("owner", "name", "says"),
    [
        (tempfile, "mkdtemp", "a temporary folder can't be made"),
        (serving, "ProxyServer", "the proxy's certificate can't be written"),
        (Path, "mkdir", "a folder for an account can't be made"),
    ],
)
def test_each_error_says_what_failed(capsys, monkeypatch, tmp_path, *, owner, name, says):
    """In one sentence, with exit status 2; the history is as it was, no thread runs and no folder stays."""
    history = tmp_path / "h.jsonl"
    history.write_text("another's")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = threading.active_count()
    with monkeypatch.context() as patch:
        broken(patch, owner, name)
        status = serve(["--history", str(history)], AJudge())
    assert status == 2
    assert capsys.readouterr() == ("", f"claude-tokens serve: {says}: No space left on device\n")
    assert history.read_text() == "another's"
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["h.jsonl"]


def test_a_signal_is_obeyed_while_a_file_is_being_opened(capsys, monkeypatch, tmp_path):
    """A disk that never answers does not keep the service from its end."""
    opening, never = threading.Event(), threading.Event()

    def hang(_):
        opening.set()
        never.wait()

    def end():
        opening.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    monkeypatch.setattr(HistoryFile, "open", hang)
    with ThreadPoolExecutor() as pool:
        pool.submit(end)
        assert serve(["--history", str(tmp_path / "h")], AJudge()) == 2
    never.set()
    assert capsys.readouterr() == ("", f"claude-tokens serve: it was ended before {tmp_path / 'h'} was opened\n")


def test_a_slow_disk_is_waited_for(monkeypatch, tmp_path):
    """As long as nobody asks for the end."""
    looked = threading.Event()
    pending, open_it = signal.sigpending, HistoryFile.open

    def looking():
        looked.set()
        return pending()

    def late(file):
        looked.wait()
        open_it(file)

    monkeypatch.setattr(signal, "sigpending", looking)
    monkeypatch.setattr(HistoryFile, "open", late)
    serving._in_time(HistoryFile(tmp_path / "h").open, "it was opened")
    assert (tmp_path / "h").exists()


@pytest.mark.parametrize("what", ["another's", "a FIFO"])
def test_a_history_that_is_not_ours_to_write_is_told(capsys, tmp_path, what):
    """The file and the remedy are named, and whoever writes there goes on."""
    history = tmp_path / "h.jsonl"
    if what == "a FIFO":
        os.mkfifo(history)
        status, why = serve(["--history", str(history)], AJudge()), "it is a FIFO; name a regular file"
    else:
        why = "another history is being written to it; end its writer, or name another file"
        with HistoryFile(history) as first:
            first.write("mine\n")
            status = serve(["--history", str(history)], AJudge())
            assert history.read_text() == "mine\n"
    assert status == 2
    assert capsys.readouterr() == (
        "",
        f"claude-tokens serve: the history can't be written to {history}: {why}\n",
    )
