"""What the tests of the plugin share: an inner pytest whose output is the same everywhere."""

from __future__ import annotations

import pytest

import pytest_claude_tokens.guard  # noqa: F401 - imported out here once, or each inner run would add an audit hook

PLAIN = "-p no:cacheprovider -p no:randomly -o asyncio_default_fixture_loop_scope=function"


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """`pytester` at 100 columns, without colours, outside of CI."""
    for name in ("CI", "BUILD_NUMBER", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", PLAIN)
    return pytester
