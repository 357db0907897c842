"""Seconds of processor that a pytest run takes which has nothing to do with the plugin: with it, and without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["WAYS"]

_TESTS = "import pytest\n\n\n@pytest.mark.parametrize('n', range(200))\ndef test_it(n):\n    assert n >= 0\n"


def _run(*options: str) -> Callable[[], float]:
    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "test_it.py").write_text(_TESTS, encoding="utf-8")
            before = os.times()
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    return measure


WAYS = {"200 tests, the plugin installed": _run(), "the same with -p no:claude_tokens": _run("-p", "no:claude_tokens")}
