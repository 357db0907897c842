"""Published token managers, as they are: what the judge says of each. The page is ``docs/field-report.md``.

Each runs in a process of its own with an empty HOME, and meets the service at the names that it knows. They are no
dependencies: ``CLAUDE_TOKENS_FIELD_PYTHON`` names the Python of an environment with the packages, at these versions,
and ``CLAUDE_TOKENS_NODE_MODULES`` the folder of those in Node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fake_server import Fault
from pytest_claude_tokens import ClaudeTokens, node

CLIENTS = Path(__file__).with_name("clients")
PYTHON = os.path.abspath(os.environ["CLAUDE_TOKENS_FIELD_PYTHON"]) if "CLAUDE_TOKENS_FIELD_PYTHON" in os.environ else ""
MODULES = os.path.abspath(os.environ.get("CLAUDE_TOKENS_NODE_MODULES", ""))
PATIENCE = 90


def in_python(package: str, version: str) -> None:
    """Skip the test where the package is not there at that version."""
    if not PYTHON:
        pytest.skip(f"needs CLAUDE_TOKENS_FIELD_PYTHON: the Python of an environment with {package} {version}")
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    found = subprocess.run([PYTHON, "-I", "-c", ask], capture_output=True, text=True, check=False).stdout.strip()
    if found != version:
        pytest.skip(f"needs {package} {version}, and {PYTHON} has {found or 'none'}")


def in_node(package: str, version: str) -> None:
    """The same for a package of Node's."""
    described = Path(MODULES, package, "package.json")
    if shutil.which("node") is None or not described.is_file():
        pytest.skip(f"needs node, and CLAUDE_TOKENS_NODE_MODULES naming a folder with {package} {version}")
    found = json.loads(described.read_bytes())["version"]
    if found != version:
        pytest.skip(f"needs {package} {version}, and there is {found}")


def verdict(tokens: ClaudeTokens) -> tuple[list[str], int]:
    """The invariants that are broken, and the number of token requests."""
    asked = [operation for operation in tokens.history.operations if operation.f == "token"]
    return [violation.invariant for violation in tokens.violations()], len(asked)


@pytest.fixture
def tokens():
    """A handle that is judged here, and raises nothing."""
    handle = ClaudeTokens(allow=[])
    handle.open()
    yield handle
    handle.close()


def test_ccproxy_spends_a_token_once_for_each_task(tokens):
    """ccproxy-api 0.2.10: no lock between the tasks of one process."""
    in_python("ccproxy-api", "0.2.10")
    account = tokens.account(expired=True)
    file = tokens.config_dir(account) / ".credentials.json"

    process = tokens.spawn([PYTHON, str(CLIENTS / "field_ccproxy.py"), str(file), "2"], "w0")

    assert process.wait(PATIENCE) == 0, process.stderr
    broken, asked = verdict(tokens)
    assert broken[0] == "double-spend"
    assert asked == 2


def stored_for_mysubs(tokens: ClaudeTokens) -> Path:
    """A login in the format of litellm-mysubs, its store watched."""
    account = tokens.account(expired=True)
    file: Path = tokens.tmp_path / "credentials.json"
    entry = {"access_token": account.access_token, "refresh_token": account.refresh_token, "expires_at": 1.0}
    file.touch(mode=0o600)
    file.write_text(json.dumps({"anthropic": entry}), encoding="utf-8")
    tokens.watch_store(file, account, read="anthropic.refresh_token")
    return file


@pytest.mark.parametrize("processes", [1, 3])
def test_mysubs_refreshes_once(tokens, processes):
    """litellm-mysubs 0.1.19: one exchange in a process, and one among processes."""
    in_python("litellm-mysubs", "0.1.19")
    file = stored_for_mysubs(tokens)

    command = [PYTHON, str(CLIENTS / "field_mysubs.py"), str(file), "4"]
    running = [tokens.spawn(command, f"w{number}") for number in range(processes)]

    assert [process.wait(PATIENCE) for process in running] == [0] * processes
    assert verdict(tokens) == ([], 1)


def test_mysubs_sends_a_token_again_whose_reply_was_lost(tokens):
    """litellm-mysubs 0.1.19: the next attempt takes what is stored, which was spent."""
    in_python("litellm-mysubs", "0.1.19")
    file = stored_for_mysubs(tokens)
    tokens.fail_next("token", Fault.LOST_REPLY)

    for _ in range(2):
        process = tokens.spawn([PYTHON, str(CLIENTS / "field_mysubs.py"), str(file), "1"], "w0")
        assert process.wait(PATIENCE) == 0, process.stderr

    broken, asked = verdict(tokens)
    assert broken[0] == "blind-replay"
    assert asked == 2


def test_opencode_spends_a_token_once_for_each_request(tokens):
    """opencode-anthropic-auth 0.0.13: no lock between the requests of one process."""
    in_node("opencode-anthropic-auth", "0.0.13")
    file = tokens.env(tokens.account(expired=True))["CLAUDE_TOKENS_LOGIN"]

    command = ["node", str(CLIENTS / "field_opencode.mjs"), MODULES, file, "2"]
    process = tokens.spawn(command, "w0", env={"NODE_OPTIONS": node.node_options()})

    assert process.wait(PATIENCE) == 0, process.stderr
    broken, asked = verdict(tokens)
    assert broken[0] == "double-spend"
    assert asked == 2
