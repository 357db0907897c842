"""What the documents say of the folders is true: each is named once, and none is left out."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PACKAGES = ("fake_server", "pytest_claude_tokens")
ARCHITECTURE_LINES = 80

in_checkout = pytest.mark.skipif(
    not (ROOT / "ARCHITECTURE.md").exists(), reason="ARCHITECTURE.md is not installed; run this in a checkout"
)


def folders_below(folder: Path) -> list[str]:
    """The folders below this one that hold files, as paths from it."""
    below = (path for path in folder.rglob("*") if path.is_dir() and path.name != "__pycache__")
    return sorted(
        path.relative_to(folder).as_posix()
        for path in below
        if any(file.is_file() and file.suffix != ".pyc" for file in path.iterdir())
    )


def tables(text: str) -> dict[str, list[tuple[str, str]]]:
    """The rows of each table of a document, by the first cell of its head."""
    found: dict[str, list[tuple[str, str]]] = {}
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        head, _, *rows = [re.split(r"(?<!\\)\|", line.strip().strip("|"), maxsplit=1) for line in table.splitlines()]
        found[head[0].strip()] = [(first.strip(), rest.strip()) for first, rest in rows]
    return found


def check_named(rows: list[tuple[str, str]], there: list[str]) -> None:
    """Each folder that is there has one row, which says something of it; and no row is of one that isn't there."""
    named = Counter(match[1] for first, _ in rows if (match := re.fullmatch(r"`([\w/-]+)/`", first)))
    assert {name: count for name, count in named.items() if count > 1} == {}, "named twice"
    assert sorted(set(there) - set(named)) == [], "not named"
    assert sorted(set(named) - set(there)) == [], "named, but not there"
    assert [first for first, rest in rows if not rest] == [], "nothing is said of it"


def test_each_folder_of_tests_is_named_once_in_its_readme():
    """Whoever looks for the place of a test finds it there, and nothing that has gone."""
    check_named(tables((TESTS / "README.md").read_text(encoding="utf-8"))["folder"], folders_below(TESTS))


@in_checkout
@pytest.mark.parametrize("package", PACKAGES)
def test_each_folder_of_a_package_is_named_once_in_the_architecture(package):
    """A folder is one layer, and the table of its package says which; what lies flat is listed in the last row."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = tables(text)[f"`{package}/`"]
    below = folders_below(ROOT / package)
    check_named(rows, [folder for folder in below if "/" not in folder])
    for nested in (folder for folder in below if "/" in folder):
        assert f"`{nested}`" in text, f"{nested} is not named"
    listed = {name for first, rest in rows if not first.endswith("/`") for name in re.findall(r"`(\w+)`", first + rest)}
    flat = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
    assert listed == flat


@in_checkout
def test_the_architecture_is_short():
    """It is read whole, or not at all."""
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < ARCHITECTURE_LINES


def test_tests_are_no_packages():
    """They are imported by path, so that two files of one name don't hide each other."""
    assert sorted(TESTS.rglob("__init__.py")) == []


@in_checkout
def test_each_module_that_the_architecture_names_is_there():
    """`judge/history` is a file or a folder of one of the packages; a star stands for several."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_*]+)+)`", text))
    assert len(named) > 10
    lost = {
        name
        for name in named
        if not any(list((ROOT / place).glob(name + ending)) for place in ("", *PACKAGES) for ending in ("", ".py"))
    }
    assert lost == set()
