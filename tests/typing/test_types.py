"""The types that a user's checker sees are exact under pyright, too, and none is left to be guessed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pyright():
    """Runs pyright on this interpreter's packages, and returns what it says as JSON."""
    beside = os.path.dirname(sys.executable)
    path = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    command = shutil.which("pyright", path=path)
    if command is None:
        pytest.skip("pyright is not installed")
    environment = {**os.environ, "PATH": path}  # `--verifytypes` takes the Python that is first in it

    def run(*arguments, cwd=ROOT):
        line = [command, "--outputjson", *arguments]
        done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
        try:
            return json.loads(done.stdout)
        except ValueError:
            pytest.skip(f"pyright does not run here: {(done.stdout + done.stderr)[-300:]}")

    return run


@pytest.mark.timeout(320)
def test_types_are_those_that_are_asserted(pyright, tmp_path):
    """``assert_type`` holds, what is marked as wrong is wrong, and no mark is idle."""
    config = tmp_path / "pyrightconfig.json"
    text = json.dumps({"enableTypeIgnoreComments": False, "reportUnnecessaryTypeIgnoreComment": True})
    for name in ("explored.py", "history.py"):
        (tmp_path / name).write_text((ROOT / "tests/typing" / name).read_text())
    config.write_text(text)
    said = pyright("--pythonpath", sys.executable, "-p", str(config), cwd=tmp_path)
    assert said["summary"]["filesAnalyzed"] == 2
    assert [(one["range"]["start"]["line"] + 1, one["message"]) for one in said["generalDiagnostics"]] == []


@pytest.mark.timeout(320)
@pytest.mark.parametrize("package", ["pytest_claude_tokens", "fake_server"])
def test_every_type_is_known(package, pyright, tmp_path):
    """``pyright --verifytypes``: in inner folders, too, nothing without an underscore has a type that is guessed."""
    said = pyright("--verifytypes", package, "--ignoreexternal", cwd=tmp_path)["typeCompleteness"]
    wrong = {symbol["name"]: symbol["diagnostics"] for symbol in said["symbols"] if not symbol["isTypeKnown"]}
    assert said["packageName"] == package
    assert [f"{name}: {one['message']}" for name, found in wrong.items() for one in found] == []
    assert said["completenessScore"] == 1
