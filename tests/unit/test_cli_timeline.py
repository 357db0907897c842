"""``claude-tokens timeline``, ``run --html`` and ``serve --html``: a page of a history, and what is refused."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from fake_server.serve.judging import Unjudged
from fake_server.serve.page_file import write_page
from fake_server.serve.service import _draw
from pytest_claude_tokens.cli import main
from pytest_claude_tokens.cli import run as running
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.report.timeline import timeline

FOLDER = Path(__file__).parents[1] / "histories"


def draw(*arguments) -> int:
    return main.main(["timeline", *map(str, arguments)])


@pytest.fixture
def file(tmp_path):
    """A history with a double-spend, alone in a folder."""
    return Path(shutil.copy(FOLDER / "double-spend-overlap.jsonl", tmp_path / "history.jsonl"))


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("double-spend-overlap", 1, "INVALID, 8 events"),
        ("refreshed-when-due", 0, "VALID, "),
        ("torn-before-anything-happened", 3, "UNKNOWN, "),
        ("torn-after-a-violation", 1, "INVALID, "),
    ],
)
def test_any_history_is_drawn_and_judged(name, status, says, tmp_path, capsys):
    """The page lies beside the history, and the exit status is that of `check`; a torn one is no exception."""
    path = Path(shutil.copy(FOLDER / f"{name}.jsonl", tmp_path / "h.jsonl"))

    assert draw(path) == status

    assert sorted(os.listdir(tmp_path)) == ["h.html", "h.jsonl"]
    assert (tmp_path / "h.html").read_text() == timeline(History.load(path))
    said = capsys.readouterr()
    assert said.out.startswith(f"{tmp_path / 'h.html'}: {says}")
    assert said.err == ""


def test_the_page_goes_where_one_wants_it(file, tmp_path):
    """Also over an older page, and behind a link; what is around an event of a long history is drawn on demand."""
    page, link = tmp_path / "page.htm", tmp_path / "link"
    page.write_text("old")
    link.symlink_to(page)

    assert draw(file, "--output", link, "--around", "2") == 1

    assert link.is_symlink()
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("nowhere/page.html", "nowhere/page.html can't be written: its folder is not there"),
        ("folder", "folder can't be written: it is a folder"),
        ("/dev/null", "/dev/null can't be written: it is a device; name a regular file"),
        ("a.jsonl", "a page is no history: name a file that doesn't end in .jsonl"),
        ("same.html", "same.html is the history itself; name another file with --output"),
        ("sk-ant-oat01-" + "aB3" * 30, "is not the name of a file"),
        ("", "'' is not the name of a file"),
    ],
)
def test_what_can_not_be_a_page_is_refused(output, says, file, monkeypatch, capsys):
    """With exit status 2 and one sentence; the history is as it was, and a device is still a device."""
    monkeypatch.chdir(file.parent)
    os.mkdir("folder")
    os.link("history.jsonl", "same.html")
    before = file.read_bytes()
    status = None
    with suppress(SystemExit):  # of argparse
        status = draw("history.jsonl", "--output", output)
    assert status in (2, None)
    said = capsys.readouterr().err
    assert says in said
    assert "aB3aB3" not in said
    assert file.read_bytes() == before
    assert sorted(os.listdir()) == ["folder", "history.jsonl", "same.html"]
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("content", "says"), [(None, "can't be read: No such file"), ("", "is empty"), ("x\n{}\n", "line 1 is not JSON")]
)
def test_what_is_no_history_is_refused(content, says, tmp_path, capsys):
    """In the words of `check`."""
    path = tmp_path / "h.jsonl"
    if content is not None:
        path.write_text(content)
    assert draw(path) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "h.html").exists()


def test_a_page_that_is_cut_short_leaves_the_old_one(tmp_path, monkeypatch):
    """The disk fills up while it is written: nothing half is left."""
    page = tmp_path / "page.html"
    page.write_text("old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_page(str(page), "new")
    assert (page.read_text(), os.listdir(tmp_path)) == ("old", ["page.html"])


def test_a_folder_that_is_not_ours_is_refused(tmp_path, monkeypatch):
    """Before the work is done. (Root may write anywhere, so the system's answer is played.)"""
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(OSError, match="its folder can't be written to"):
        write_page(str(tmp_path / "page.html"), "new")


# The commands that serve.


def test_run_draws_what_it_judged(tmp_path, capfd):
    """At the end, whatever the verdict; a place that can't be written is refused before anything runs."""
    page = tmp_path / "page.html"
    assert running.main(["--html", str(page), "--", "true"]) == 3
    assert 'class="UNKNOWN">UNKNOWN<' in page.read_text()

    assert running.main(["--html", str(tmp_path / "no" / "page.html"), "--", "touch", str(tmp_path / "ran")]) == 2
    assert "page.html can't be written: its folder is not there" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()

    gone = tmp_path / "gone"
    gone.mkdir()
    assert running.main(["--html", str(gone / "page.html"), "--", "rmdir", str(gone)]) == 3
    assert "claude-tokens: " + str(gone / "page.html") + " can't be written" in capfd.readouterr().err


def test_serve_draws_what_it_served(tmp_path, capsys, monkeypatch):
    """Where a judge is installed that can draw; else it says so. The verdict stands either way."""
    page = tmp_path / "page.html"
    monkeypatch.setattr(signal, "sigwait", lambda signals: None)

    assert main.main(["serve", "--html", str(page)]) == 3
    assert 'class="UNKNOWN">UNKNOWN<' in page.read_text()
    assert main.main(["serve", "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "page.html can't be written: its folder is not there" in capsys.readouterr().err

    _draw(str(page), Unjudged().page(None), "serve")
    assert capsys.readouterr().err == f"serve: {page} can't be written: no installed package draws histories\n"
