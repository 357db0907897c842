"""The copy of the working tree on which `.ci/run` and the session `readme` work."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "copy_tree.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason=".ci is not installed; run this in a checkout")


def copied(root, target):
    """The files of the copy, by their paths."""
    runpy.run_path(str(SCRIPT))["copy_tree"](root, target)
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())


@pytest.fixture
def tree(tmp_path):
    """A program, what it was tested with, and what tools have left."""
    for name in (".gitignore", "it.py", "sub/more.py", ".mypy_cache/x.json", "sub/__pycache__/more.pyc", ".venv/it"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text("/.mypy_cache/\n__pycache__/\n.venv\n", encoding="utf-8")
    return tmp_path / "tree"


def test_without_a_repository_all_is_copied_but_what_tools_leave(tree, tmp_path):
    """An unpacked archive has no git to ask."""
    assert copied(tree, tmp_path / "copy") == [".gitignore", "it.py", "sub/more.py"]


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_says_what_belongs_to_the_tree(tree, tmp_path):
    """What is tracked or new, as it is now; neither what is ignored nor what was deleted."""
    (tree / "gone.py").touch()
    for command in (["init", "-q"], ["add", "it.py", "gone.py", ".gitignore"]):
        subprocess.run(["git", "-C", tree, *command], check=True)
    (tree / "gone.py").unlink()
    (tree / "it.py").write_text("changed", encoding="utf-8")
    assert copied(tree, tmp_path / "copy") == [".gitignore", "it.py", "sub/more.py"]
    assert (tmp_path / "copy" / "it.py").read_text(encoding="utf-8") == "changed"
