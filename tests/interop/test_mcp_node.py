"""The SDK of the Model Context Protocol for Node, in processes that share one stored login."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from pytest_claude_tokens import ClaudeTokens, node
from pytest_claude_tokens.violations import DoubleSpend

CLIENT = Path(__file__).with_name("clients") / "mcp.cjs"
MODULES = os.environ.get("CLAUDE_TOKENS_NODE_MODULES", "")
PATIENCE = 60

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not Path(MODULES, "@modelcontextprotocol", "sdk").is_dir(),
    reason="needs node, and CLAUDE_TOKENS_NODE_MODULES naming a node_modules folder with @modelcontextprotocol/sdk",
)


def begun(tokens, account, worker):
    """A client on the account's stored login, its store watched: it asks the service at its own host."""
    file = Path(tokens.env(account)["CLAUDE_TOKENS_LOGIN"])
    env = {"NODE_OPTIONS": node.node_options(), "NODE_PATH": MODULES}
    return tokens.spawn(["node", str(CLIENT), str(file), "https://mcp.example.com/mcp"], worker, env=env)


def test_one_refreshes_and_calls():
    """From the 401 over metadata to a new token, which it stores."""
    with ClaudeTokens(service="mcp") as tokens:
        account = tokens.account(expired=True)
        file = tokens.env(account)["CLAUDE_TOKENS_LOGIN"]
        tokens.watch_store(file, account, read="tokens.refresh_token")
        process = begun(tokens, account, "w0")
        assert process.wait(PATIENCE) == 0, process.stderr
        assert process.stdout == "hi\n"
        with open(file, encoding="utf-8") as stored:
            assert json.load(stored)["tokens"]["refresh_token"] != account.refresh_token


def test_two_on_one_login_spend_its_token_twice():
    """Neither knows of the other."""
    with pytest.raises(DoubleSpend), ClaudeTokens(service="mcp") as tokens:
        account = tokens.account(expired=True)
        with tokens.hold("token", 2):
            processes = [begun(tokens, account, worker) for worker in ("w0", "w1")]
            for process in processes:
                process.wait(PATIENCE)
