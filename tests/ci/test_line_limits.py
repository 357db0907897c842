"""The lengths of files, which the session `lint` checks."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "line_limits.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason=".ci is not installed; run this in a checkout")


def complaints(root):
    """About the files of a small project that has one of each kind."""
    return list(runpy.run_path(str(SCRIPT))["too_long"](root))


@pytest.fixture
def project(tmp_path):
    """Each file has as many lines as are allowed."""
    for name, lines in {
        "fake_server/deep/er/gate.py": 399,
        "pytest_claude_tokens/plugin/hooks.py": 199,
        "pytest_claude_tokens/lease.py": 399,
        "tests/unit/test_gate.py": 499,
        "tests/conftest.py": 499,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("pass\n" * lines, encoding="utf-8")
    return tmp_path


def test_files_that_keep_to_the_limits_are_passed_over(project):
    """One line less than the limit is allowed."""
    assert complaints(project) == []


@pytest.mark.parametrize(
    ("name", "lines", "limit"),
    [
        ("fake_server/deep/er/gate.py", 400, "a module stays under 400"),
        ("pytest_claude_tokens/lease.py", 400, "a module stays under 400"),
        ("pytest_claude_tokens/plugin/hooks.py", 200, "the module with pytest's hooks stays under 200"),
        ("tests/unit/test_gate.py", 500, "a test file stays under 500"),
        ("noxfile.py", 400, "a module stays under 400"),
    ],
)
def test_a_file_that_is_too_long_is_named_with_its_limit(project, name, lines, limit):
    """At whatever depth it lies."""
    (project / name).write_text("pass\n" * lines, encoding="utf-8")
    assert complaints(project) == [f"{name}: {lines} lines; {limit}"]


def test_a_limit_that_holds_no_file_is_told(project):
    """A folder that was renamed would be checked no more."""
    (project / "pytest_claude_tokens/plugin/hooks.py").unlink()
    (told,) = complaints(project)
    assert told.startswith("the module with pytest's hooks: no file matches pytest_claude_tokens/plugin.py or ")
