"""The workflows name what the repository promises, and are valid, where this machine has a program that can tell."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis.database import DirectoryBasedExampleDatabase, MultiplexedDatabase

from fake_server.policy import PRESETS
from pytest_claude_tokens.claude.dialects import DIALECTS

ROOT = Path(__file__).parents[2]
OURS = ROOT / ".github" / "workflows" / "ci.yml"
YOURS = ROOT / "examples" / "ci" / "claude-tokens.yml"

pytestmark = pytest.mark.skipif(not OURS.exists(), reason="the workflows are not installed; run this in a checkout")


def listed(text: str, key: str) -> list[str]:
    """The values of a list in one line of YAML."""
    (values,) = re.findall(rf"^ +{key}: \[(.*)\]$", text, re.MULTILINE)
    return [value.strip().strip('"') for value in values.split(",")]


def test_ours_runs_each_promised_python_and_the_sessions_of_nox():
    """A version that a classifier promises is tested; a session that was renamed is noticed."""
    text = OURS.read_text(encoding="utf-8")
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert listed(text, "python") == promised
    nox = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    for session in ("lint", "build", "lowest", "newest", "nightly"):
        assert re.search(rf"nox -s (build )?(\$\{{\{{ matrix.session }}}}|{session})|session: {session}", text)
        assert f"def {session}(session" in nox
    assert "continue-on-error: true" in text
    assert "git+https://github.com/pytest-dev/pytest" in text


def test_yours_has_policies_and_dialects_that_there_are():
    """And gives away what a failure leaves behind."""
    text = YOURS.read_text(encoding="utf-8")
    assert set(listed(text, "policy")) <= set(PRESETS)
    dialects = {*listed(text, "dialect"), *re.findall(r'^ +dialect: "(.*)"$', text, re.MULTILINE)}
    assert dialects == set(DIALECTS)
    for needed in ("-n auto", "--junitxml=", "--claude-tokens-html=failed", ".claude-tokens/", "hypothesis-example-db"):
        assert needed in text


@pytest.mark.parametrize("path", [OURS, YOURS], ids=["ours", "yours"])
def test_a_workflow_is_valid(path):
    """By actionlint, or else by the published schema, offline."""
    if shutil.which("actionlint"):
        command = ["actionlint", str(path)]
    elif importlib.util.find_spec("check_jsonschema"):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    else:
        pytest.skip("neither actionlint nor check-jsonschema is installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_examples_are_shared_where_there_is_a_repository_to_share_them_with():
    """Elsewhere they stay on this machine; nothing is fetched before a test asks."""
    spec = importlib.util.spec_from_file_location("ci_conftest", YOURS.with_name("conftest.py"))
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    assert isinstance(conftest.shared_examples({}), DirectoryBasedExampleDatabase)
    shared = conftest.shared_examples({"GITHUB_REPOSITORY": "me/mine", "GITHUB_TOKEN": "a token"})
    assert isinstance(shared, MultiplexedDatabase)
