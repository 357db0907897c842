"""The hooks that differ in a worker of pytest-xdist.

There is only one: results travel with the reports, and each worker has its own services.
"""

from __future__ import annotations

import pytest

from pytest_claude_tokens.plugin import marker

__all__ = ["Worker", "is_worker", "plain_id"]


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for a controller."""
    return hasattr(config, "workerinput")


def plain_id(item: pytest.Item) -> str:
    """The id by which a person names the test: with ``--dist loadgroup`` a worker adds the names of its groups."""
    marks = item.iter_markers("xdist_group") if getattr(item.config.option, "loadgroup", False) else ()
    groups = {str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) for mark in marks}
    return item.nodeid.removesuffix(f"@{'_'.join(sorted(groups))}")


class Worker:
    """Hooks of a worker. A usage error during collection would crash it, so a bad marker fails its own test instead."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Refuse a test whose marker is wrong."""
        __tracebackhide__ = True
        try:
            marker.marked(item)
        except pytest.UsageError as error:
            pytest.fail(str(error), pytrace=False)
