"""The commands of the page on other languages, as somebody would copy them, and what it says that they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "other-languages.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?:#|//) ([\w.]+)\n")
TOOLS = ("curl", "node")

BLOCKS = BLOCK.findall(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else []
COMMANDS = [text for kind, text in BLOCKS if kind == "sh"]


@pytest.mark.skipif(not PAGE.exists(), reason="docs/ is not installed; run this in a checkout")
def test_the_page_has_commands_and_each_says_what_it_prints():
    """No recipe is left untried."""
    assert len(COMMANDS) == 3
    assert all("\n# claude-tokens: " in command for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=[command.split()[1] + str(at) for at, command in enumerate(COMMANDS)])
def test_a_command_of_the_page_prints_what_it_says(command, tmp_path):
    """Each file of the page is written, the command is run beside them, and its verdict is the one on the page."""
    for tool in TOOLS:
        if re.search(rf"\b{tool}\b", command) and shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    for _, text in BLOCKS:
        if name := NAMED.match(text):
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
    # The program of this installation first, then what else is there.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = ["bash", "-e", "-c", command]
    ended = subprocess.run(
        script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    told = ended.stdout + ended.stderr
    for line in re.findall(r"^# (claude-tokens: .*)$", command, re.MULTILINE):
        assert line in told
    assert ended.returncode == 0, told
