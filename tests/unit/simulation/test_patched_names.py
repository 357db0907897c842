"""What a test patches is for its own code: the search finds as much with every name replaced that we use ourselves."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import httpx
import pytest

import fake_server
import pytest_claude_tokens
from fake_server import genuine
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import TOKEN_URL, refreshing
from tests.unit.simulation.worlds import explored, stage

OURS = {
    "fake_server": Path(fake_server.__file__).parent,
    "pytest_claude_tokens": Path(pytest_claude_tokens.__file__).parent,
}
ELSEWHERE = {
    "serve",
    "claude",
    "cli",
    "node",
    "plugin",
    "__main__.py",
    "lease.py",
    "layouts.py",
    "scenarios",
    "workarounds",
}
"""Rooms that take no part in a search: programs of their own, code under test, and locks that belong to it."""
BRIDGES = {"genuine.py", "clock.py", "clocks.py", "patches.py", "native.py", "internals.py"}
"""Modules that look names up on purpose: to hold the real ones, to replace them, or to follow a frozen clock."""


NEEDED_BY_OTHERS = {"os.fspath", "json.JSONEncoder"}
"""From Python 3.13 on ``pathlib`` calls the first, by which pytest looks at each import; httpx needs the other."""


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """The modules that a search is made of."""
    for root in OURS.values():
        for path in sorted(root.glob("**/*.py")):
            if path.relative_to(root).parts[0] not in ELSEWHERE:
                yield path, ast.parse(path.read_text(encoding="utf-8"))


def chain(node: ast.AST) -> str:
    """``os.path.join`` for that expression."""
    if isinstance(node, ast.Attribute):
        return f"{chain(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def names_used() -> list[str]:
    """Each function and class of the watched modules that we use, by its public name."""
    found = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found.add(chain(node))
            elif isinstance(node, ast.ImportFrom) and node.module in genuine.MODULES:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    names = {name.partition(".")[0] for name in found} & set(genuine.MODULES)
    shallow = {name for name in found if name.count(".") == 1 or name.startswith("os.path.")}
    return sorted(name for name in shallow if name.partition(".")[0] in names and callable(value_of(name)))


def value_of(name: str) -> object:
    """What the name stands for; ``None`` if it isn't there, as on another system."""
    first, *rest = name.split(".")
    value: object = importlib.import_module(first)
    for part in rest:
        value = getattr(value, part, None)
    return value


def test_names_are_looked_up_where_nothing_is_replaced():
    """A module of the standard library that tests patch comes from ``genuine``; a name of it is bound at import."""
    watched = set(genuine.MODULES)
    for path, tree in sources():
        if path.name in BRIDGES:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and chain(node.test) == "TYPE_CHECKING":
                node.body.clear()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & watched, f"{path}: {ast.unparse(node)}"
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in watched or node in tree.body, f"{path}: {ast.unparse(node)}"


class Stub:
    """Does nothing."""

    def __call__(self, *args: object, **kwargs: object) -> None:
        pass


def spent_twice_by_tasks(store):
    """A dispatcher without a lock."""

    async def body(claude_tokens, workers):
        store["refresh"] = claude_tokens.account(expired=True).refresh_token

        async def refresh():
            reply = await store["client"].post(TOKEN_URL, json=refreshing(store["refresh"]))
            store["refresh"] = reply.json().get("refresh_token")

        await workers(refresh)

    return body


def spent_twice_by_threads(store):
    """The same in threads."""

    def body(claude_tokens, workers):
        store["refresh"] = claude_tokens.account(expired=True).refresh_token

        def refresh():
            reply = store["client"].post(TOKEN_URL, json=refreshing(store["refresh"]))
            store["refresh"] = reply.json().get("refresh_token")

        workers(refresh)

    return body


@pytest.fixture(scope="module")
def client():
    """Made before anything is patched: what a client needs for that is none of ours, and neither are imports."""
    with httpx.Client() as made:
        with stage(), explored(spent_twice_by_threads({"client": made})) as run:
            run(DEFAULT_ORDER)
        yield made


@pytest.fixture(scope="module")
def async_client():
    """The same for tasks; it opens no connection, so it may be used on any loop."""
    return httpx.AsyncClient()


@pytest.mark.parametrize("module", genuine.MODULES)
def test_planted_bug_is_found_with_the_names_patched_away(module, client, async_client):
    """In tasks and in threads, with stubs that do nothing from before the search to its end."""
    with ExitStack() as stack:
        for name in names_used():
            if name.partition(".")[0] == module and name not in NEEDED_BY_OTHERS:
                stack.enter_context(mock.patch(name, Stub()))
        stack.enter_context(stage())
        for make, made in ((spent_twice_by_tasks, async_client), (spent_twice_by_threads, client)):
            with explored(make({"client": made})) as run:
                outcome = run(DEFAULT_ORDER)
            assert type(outcome.error) is DoubleSpend
