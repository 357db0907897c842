"""The pytest plugin: hooks only. What they do is in the modules that they import when they are called.

Loading it costs next to nothing: pytest and the standard library, without asyncio and ssl.
"""

from __future__ import annotations

import pytest

# An editable install rewrites the asserts of the package with the entry point only.
pytest.register_assert_rewrite("fake_server")

from pytest_claude_tokens import options  # noqa: E402 - after the line above, or it has no effect


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and refuse bad options before anything runs."""
    config.addinivalue_line("markers", options.MARKER_HELP)
    options.check_options(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse bad markers before anything runs."""
    options.check_markers(items)
