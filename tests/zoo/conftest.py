"""Where the stores of the zoo are, and that it is not measured."""

from __future__ import annotations

import os
import sys
import tempfile

import pytest

MEMORY = "/dev/shm"


@pytest.fixture(autouse=True)
def stores_in_memory(monkeypatch):
    """Thousands of folders are made and removed, which a disk makes slow: so in memory where there is such a place."""
    if os.access(MEMORY, os.W_OK):
        monkeypatch.setattr(tempfile, "tempdir", MEMORY)


@pytest.fixture(autouse=True, scope="package")
def unmeasured():
    """Tens of thousands of schedules fire no line that other tests do not; coverage makes each 2.5 times as slow."""
    module = sys.modules.get("coverage")
    measuring = module and module.Coverage.current()
    if measuring:
        measuring.stop()
    yield
    if measuring:
        measuring.start()
