"""The shell command of a replay line: as short as means the same environment where it is pasted."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from pytest_claude_tokens.plugin import exploring


@pytest.fixture
def environments(tmp_path, monkeypatch):
    """Two environments with an interpreter that both link to, the first being ours; and a folder of shims."""
    (tmp_path / "python3.11").write_text("")
    for name in ("ours", "other"):
        folder = tmp_path / name
        folder.mkdir()
        for program in ("python", "python3"):
            (folder / program).symlink_to(tmp_path / "python3.11")
        (folder / "pytest").write_text("")
    (tmp_path / "shims").mkdir()
    (tmp_path / "shims" / "python").write_text("")
    (tmp_path / "ours" / "python2").write_text("")
    for path in tmp_path.rglob("p*"):
        path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "ours" / "python3"))
    return tmp_path


def program(environments, monkeypatch, path, called):
    monkeypatch.setenv("PATH", os.pathsep.join(str(environments / folder) for folder in path))
    return exploring._program(called).replace(str(environments), "…")


@pytest.mark.parametrize(
    ("path", "called", "told"),
    [
        (["ours", "other"], "/x/bin/pytest", "pytest"),
        (["ours"], "-c", "pytest"),
        (["ours"], "/x/pytest/__main__.py", "python -m pytest"),
        (["other", "ours"], "/x/bin/pytest", "…/ours/python3 -m pytest"),
        (["other"], "/x/pytest/__main__.py", "…/ours/python3 -m pytest"),
        (["shims"], "/x/pytest/__main__.py", "…/ours/python3 -m pytest"),
        (["shims", "ours"], "/x/pytest/__main__.py", "python3 -m pytest"),
        ([], "/x/bin/pytest", "…/ours/python3 -m pytest"),
    ],
)
def test_the_command_means_this_environment(environments, monkeypatch, path, called, told):
    """By the name that the shell finds first. Another environment has other packages, though its interpreter is one."""
    assert program(environments, monkeypatch, path, called) == told


def test_another_interpreter_in_the_same_folder_is_not_meant(environments, monkeypatch):
    """A system's folder has several."""
    (environments / "ours" / "python").unlink()
    (environments / "ours" / "python2").rename(environments / "ours" / "python")

    assert program(environments, monkeypatch, ["ours"], "/x/pytest/__main__.py") == "python3 -m pytest"


def test_a_worker_of_xdist_knows_what_was_called(monkeypatch):
    """By its controller."""
    monkeypatch.setattr(sys, "argv", ["-c"])

    assert exploring._called_as(SimpleNamespace()) == "-c"
    assert exploring._called_as(SimpleNamespace(workerinput={"mainargv": ["/bin/pytest", "x"]})) == "/bin/pytest"
