"""An inner pytest whose output is the same wherever the outer one runs."""

from __future__ import annotations

import pytest


def settle(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    """Run an inner pytest at 100 columns, without colours, outside of CI and of xdist, and with these options."""
    for name in (
        "CI",
        "BUILD_NUMBER",
        "PYTEST_XDIST_WORKER",
        "PYTEST_XDIST_WORKER_COUNT",
        "FORCE_COLOR",
        "GITHUB_ACTIONS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", options)
