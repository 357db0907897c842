"""Each line of `docs/promises.md` names tests that are there.

A new line is a row of one of the tables: what is promised, and `path/from/tests.py::test_name` as often as needed.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "promises.md"
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="docs/ is not installed; run this in a checkout")


def rows() -> list[tuple[str, str]]:
    """What each line promises, and what holds it."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    heads = {"promise", "limit"}
    return [(said.strip(), held.strip()) for said, held in cells if said.strip() not in heads]


@cache
def names_in(file: Path) -> set[str]:
    """The tests of a file; a commented-out one, or one in a text, is none."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_each_line_is_held_by_tests_that_are_there():
    """A promise without a test is a wish, and a test that was renamed leaves one behind."""
    found = rows()
    assert len(found) > 20
    lost = []
    for said, held in found:
        named = NAMED.findall(held)
        assert named, f"no test is named: {said}"
        assert NAMED.sub("", held).strip() == "", f"this is no test: {held}"
        lost += [name for file, name in named if not (TESTS / file).exists() or name not in names_in(TESTS / file)]
    assert lost == []


def test_no_line_is_there_twice():
    """Two lines of one promise would be changed one at a time."""
    said = [promise for promise, _ in rows()]
    assert len(said) == len(set(said))
