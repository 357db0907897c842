"""What can go wrong while ``serve`` starts: each error says what failed, and nothing is left behind."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

from fake_server.serve import service as serving
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
