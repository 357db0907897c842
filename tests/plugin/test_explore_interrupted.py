"""What pytest makes of a search that is ended: exit 2 for Ctrl-C, the error of whoever ends the test otherwise."""

from __future__ import annotations

import pytest

FILE = """
import os, signal, sys, time
import httpx, pytest
from hypothesis import settings
from pytest_claude_tokens import explore

runs = []

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)

def exits():
    pytest.exit("enough", returncode=7)

def system_exit():
    raise SystemExit(3)

def time_out():
    time.sleep(0)
    until = time.thread_time() + 60
    while time.thread_time() < until:
        pass

@pytest.mark.timeout({seconds}, method="signal", func_only=True)
@settings(database=None)
@explore(workers=2)
def test_ended(claude_tokens, workers):
    def job():
        httpx.get("https://api.anthropic.com/api/hello")
        runs.append(1)
        if len(runs) == 2:
            {end}()

    workers(job)

def test_afterwards(claude_tokens):
    assert time.time() > 1.7e9 and not isinstance(time.sleep, type(ctrl_c))
    assert httpx.get("https://api.anthropic.com/api/hello").status_code == 200
"""


@pytest.mark.parametrize(
    ("end", "status", "outcomes", "line"),
    [
        ("ctrl_c", 2, {}, "*KeyboardInterrupt*"),
        ("exits", 7, {}, "*_pytest.outcomes.Exit: enough*"),
        ("system_exit", 1, {"failed": 1, "passed": 1}, "FAILED *::test_ended - SystemExit: 3*"),
        ("time_out", 1, {"failed": 1, "passed": 1}, "FAILED *::test_ended - Failed: Timeout*"),
    ],
)
def test_a_search_ends_as_any_test_would(pytester, end, status, outcomes, line):
    """Nothing is told as found; where the session goes on, everything is restored for the next test."""
    pytester.makepyfile(FILE.replace("{end}", end).replace("{seconds}", "1" if end == "time_out" else "0"))
    result = pytester.runpytest_inprocess(no_reraise_ctrlc=True)
    assert result.ret == status
    result.stdout.fnmatch_lines([line])
    result.stdout.no_fnmatch_line("*claude_tokens.*:*")
    if outcomes:
        result.assert_outcomes(**outcomes)
