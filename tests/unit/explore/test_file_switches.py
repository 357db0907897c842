"""Which files the interpreter opens for itself: only at those, threads are not switched."""

from __future__ import annotations

import sys

import pytest

from pytest_claude_tokens.simulation.files import _is_ours


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/tmp/claude-tokens-1/.credentials.json", False),
        ("/dev/shm/claude-tokens-1/.credentials.json", False),  # TMPDIR may be there: a replay must not depend on it
        ("/dev/urandom", True),
        ("/proc/self/stat", True),
        (f"{sys.base_prefix}/lib/python3/zoneinfo/UTC", True),
        ("/home/somebody/dispatcher.py", True),
        (3, False),
    ],
)
def test_only_code_and_the_interpreters_own_files_are_no_switch_points(path, ours):
    """A store is a switch point wherever it is."""
    assert _is_ours(path) is ours
