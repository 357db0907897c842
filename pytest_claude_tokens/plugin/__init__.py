"""The pytest plugin: hooks, fixtures, options and the marker. pytest loads it by the entry point ``claude_tokens``.

No other package uses pytest. Importing this one loads only pytest and the standard library, without asyncio and ssl.
"""

from __future__ import annotations

import pytest

# In an editable install pytest rewrites asserts only in the package with the entry point. Before the first import:
pytest.register_assert_rewrite("fake_server")

from pytest_claude_tokens.plugin.fixtures import (  # noqa: E402 - after the line above, or it has no effect
    claude_server,
    claude_shared_server,
    claude_tokens,
    claude_tokens_policy,
    claude_tokens_service,
    fake_claude,
    make_claude_tokens,
)
from pytest_claude_tokens.plugin.hooks import (  # noqa: E402
    pytest_addoption,
    pytest_assertrepr_compare,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_report_header,
    pytest_runtest_call,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_terminal_summary,
    pytest_unconfigure,
)

__all__ = [
    "claude_server",
    "claude_shared_server",
    "claude_tokens",
    "claude_tokens_policy",
    "claude_tokens_service",
    "fake_claude",
    "make_claude_tokens",
    "pytest_addoption",
    "pytest_assertrepr_compare",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_report_header",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_terminal_summary",
    "pytest_unconfigure",
]
