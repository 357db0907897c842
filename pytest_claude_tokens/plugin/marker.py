"""The marker ``claude_tokens``: reads its keywords and merges several markers. Also recognizes explored tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from pytest_claude_tokens.late_secrecy import safe_text, shown
from pytest_claude_tokens.plugin.usage import discreet_usage

__all__ = ["KEYWORDS", "MARKER", "MARKER_HELP", "check_markers", "completed", "is_explored", "marked", "merge"]

MARKER = "claude_tokens"
MARKER_HELP = (
    "claude_tokens(*, policy, service, allow, limit, latency, accounts, hosts): configure the fake token service; "
    "`allow` names invariants that are reported and don't fail."
)

_JOINED = ("allow", "accounts", "hosts")
KEYWORDS = ("policy", "service", "allow", "limit", "latency", "accounts", "hosts")
_FIXTURES = ("policy", "service")
_TAKES = f"it takes {', '.join(KEYWORDS)}"


@discreet_usage
def marked(item: pytest.Item) -> dict[str, Any]:
    """The settings in the markers of ``item``, from module to function: lists are joined, other values replaced.

    Raises :class:`pytest.UsageError` that names the test, the wrong keyword or value, and the valid ones.
    """
    merged: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers(MARKER))):
        try:
            if mark.args:
                raise ValueError(f"has no positional argument such as {shown(mark.args[0])}; {_TAKES}")
            merged = merge(merged, mark.kwargs)
        except ValueError as error:
            raise pytest.UsageError(safe_text(f"{item.nodeid}: the marker claude_tokens {error}")) from None
    return merged


@discreet_usage
def merge(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``outer`` with those of ``inner``: lists are joined, other values replaced.

    Raises ``ValueError`` that names the wrong keyword or value of ``inner`` and the valid ones.
    """
    merged = dict(outer)
    for name, value in inner.items():
        if name not in KEYWORDS:
            raise ValueError(f"has no argument {shown(name)}{_nearest(name)}; {_TAKES}")
        merged[name] = _read(name, value)
        if name in _JOINED:
            merged[name] = list(dict.fromkeys([*outer.get(name, ()), *value]))
    return merged


def _nearest(name: str) -> str:
    """The argument that was probably meant, as a question; ``""`` where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), KEYWORDS, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def completed(settings: Mapping[str, Any], fixture: Callable[[str], Any]) -> dict[str, Any]:
    """``settings``, completed by the overridable fixtures; ``fixture`` returns the value of one."""
    missing = [name for name in _FIXTURES if name not in settings]
    return merge(settings, {name: value for name in missing if (value := fixture(f"claude_tokens_{name}")) is not None})


def check_markers(items: Iterable[pytest.Item]) -> None:
    """Read every marker once, so that a bad one is refused before any test runs."""
    for item in items:
        marked(item)


def is_explored(item: pytest.Item) -> bool:
    """Whether the test is decorated by ``@explore``."""
    function = getattr(item, "obj", None)
    return bool(getattr(function, "is_claude_tokens_exploration", False))


def _read(name: str, value: Any) -> Any:
    """One setting's value, checked in the same way as by the handle that gets it."""
    if name in _JOINED and not isinstance(value, list | tuple | set | frozenset):
        raise ValueError(f"{name}={shown(value)}: must be a list")
    if value is None:
        return None
    from pytest_claude_tokens.handle import settings

    return settings.READERS[name](value)
