"""Where the stores of the zoo are."""

from __future__ import annotations

import os
import tempfile

import pytest

MEMORY = "/dev/shm"


@pytest.fixture(autouse=True)
def stores_in_memory(monkeypatch):
    """Thousands of folders are made and removed, which a disk makes slow: so in memory where there is such a place."""
    if os.access(MEMORY, os.W_OK):
        monkeypatch.setattr(tempfile, "tempdir", MEMORY)
