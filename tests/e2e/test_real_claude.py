"""The real CLI against the fake service, where ``CLAUDE_TOKENS_REAL_CLAUDE`` names one: four processes, one login.

Nothing here runs where a packet could leave: each test runs itself again in a network namespace without a route out, by
``claude-tokens run --real-claude``, or is skipped where this machine has none to give.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from fake_server.transports import proxy
from pytest_claude_tokens import ClaudeTokens
from pytest_claude_tokens.processes import namespace
from pytest_claude_tokens.violations import DoubleSpend

CLAUDE = os.environ.get("CLAUDE_TOKENS_REAL_CLAUDE", "")
WORKERS = ("w0", "w1", "w2", "w3")
PATIENCE = 120
"""Seconds for each of the processes; alone on an idle machine one takes two."""
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "2",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
}

pytestmark = [
    pytest.mark.real_claude,
    pytest.mark.timeout(5 * PATIENCE),
    pytest.mark.skipif(
        not os.access(CLAUDE, os.X_OK) or not proxy.available(),
        reason='needs CLAUDE_TOKENS_REAL_CLAUDE, naming a `claude` executable, and the extra "proxy"',
    ),
]


def alone(test):
    """Run the test where nothing can leave: here, if this is such a place, else as a process that is brought there."""

    @functools.wraps(test)
    def checked():
        if namespace.isolated():
            test()
        else:
            bring(f"{__file__}::{test.__name__}")

    return checked


def bring(test):
    """Run that one test in a namespace; skip where that is refused."""
    inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    outer = [sys.executable, "-m", "pytest_claude_tokens", "run", "--real-claude", "--", *inner]
    ended = subprocess.run(outer, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode == 2:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout


def launch(tokens, folders):
    """All four processes at once, each with its folder; what they have ended with."""
    made = [
        tokens.spawn([CLAUDE, "-p", "Reply: A"], worker, config_dir=folder, env=QUIET)
        for worker, folder in zip(WORKERS, folders, strict=True)
    ]
    codes = [process.wait(PATIENCE) for process in made]
    for process in made:
        print(process.worker, process.returncode, process.stdout, process.stderr)
    for operation in tokens.history.operations:
        print(operation.actor, operation.f, operation.invoke.get("path"), operation.refresh, operation.status)
    return codes


def refreshes(tokens):
    return [operation.status for operation in tokens.history.operations if operation.f == "token"]


@alone
def test_four_processes_that_share_a_directory_make_one_token_request():
    """The CLI's lock does what it is for: an expired login is refreshed once, everybody is answered, all is valid."""
    with ClaudeTokens() as tokens:
        account = tokens.account(expired=True)
        codes = launch(tokens, [tokens.config_dir(account)] * 4)
        assert refreshes(tokens) == [200]
        assert codes == [0, 0, 0, 0]


@alone
def test_four_processes_with_copies_of_a_login_spend_it_twice():
    """Locks in different places exclude nobody: one refresh succeeds, the others are refused, and those log out."""
    with pytest.raises(DoubleSpend, match="rt#1 by"), ClaudeTokens() as tokens:
        account = tokens.account(expired=True)
        codes = launch(tokens, [tokens.config_dir(account, worker) for worker in WORKERS])
        assert sorted(refreshes(tokens)) == [200, 400, 400, 400]
        assert sorted(codes) == [0, 1, 1, 1]
