"""The workarounds as tests of pytest's: those built in, and a user's own in his own suite."""

from __future__ import annotations

import re
from pathlib import Path

from tests.plugin.inner import settle

MINE = Path(__file__).with_name("mine.py")

OWN = """
from hypothesis import settings
from mine import Impatient, Patient
from pytest_claude_tokens.workarounds import as_test

test_patient = settings(max_examples=4)(as_test(Patient))
test_impatient = settings(max_examples=60)(as_test(Impatient))
"""


def test_both_ways(pytester, monkeypatch):
    """Those built in pass or fail as expected, with a plugin's among them; in a suite of one's own, a bug is found."""
    pytester.makepyfile(mine=MINE.read_text(), test_own=OWN)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.syspathinsert()
    settle(monkeypatch, "-p no:cacheprovider")
    done = pytester.runpytest_inprocess(
        "--pyargs",
        "pytest_claude_tokens.workarounds",
        "test_own.py",
        "-p",
        "mine",
        "-p",
        "no:randomly",
        "-k",
        "dispatch_queue or patient",
        "--claude-tokens-seed=1",
        "--claude-tokens-examples=8",
        "-v",
    )
    out = done.stdout.str()
    assert re.search(r"test_workarounds\.py::test_dispatch_queue\[live\] PASSED", out)
    assert "test_patient[expired]" not in out  # it refreshes nothing
    assert re.search(r"test_own\.py::test_patient\[scarce\] PASSED", out)
    assert re.search(r"test_own\.py::test_impatient\[live\] PASSED", out)
    assert re.search(r"test_own\.py::test_impatient\[scarce\] FAILED", out)
    token = re.search(r"--claude-tokens-replay=(ct1-\S+)", out)[1]
    again = pytester.runpytest_inprocess("test_own.py", "-k", "impatient and scarce", f"--claude-tokens-replay={token}")
    assert "claude_tokens.CoSchedule" in again.stdout.str()
