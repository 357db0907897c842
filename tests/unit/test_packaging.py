"""What an installation promises: names, entry points, types, and dependencies that the extras spell out."""

from __future__ import annotations

import re
from importlib import metadata, resources

import pytest

DISTRIBUTION = "pytest-claude-tokens"
PACKAGES = ["fake_server", "pytest_claude_tokens"]


def requirements(extra: str | None = None) -> set[str]:
    """The names that the installed distribution requires, always or for one extra."""
    found = set()
    for line in metadata.requires(DISTRIBUTION) or []:
        requirement, _, marker = line.partition(";")
        of_extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if (of_extra[1] if of_extra else None) == extra:
            name = re.match(r"[\w.-]+", requirement)
            assert name, line
            found.add(name[0].lower())
    return found


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("pytest11", "claude_tokens", "pytest_claude_tokens.plugin"),
        ("fake_server.judge", "claude_tokens", "pytest_claude_tokens.cli.serve:ServiceJudge"),
        ("console_scripts", "claude-tokens", "pytest_claude_tokens.cli.main:main"),
    ],
)
def test_an_entry_point_is_named_as_documented_and_loads(group: str, name: str, value: str) -> None:
    (entry,) = metadata.distribution(DISTRIBUTION).entry_points.select(group=group, name=name)

    assert entry.value == value
    assert entry.load()


@pytest.mark.parametrize("package", PACKAGES)
def test_both_packages_are_marked_as_typed(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


def test_only_four_libraries_are_required() -> None:
    assert requirements() == {"httptools", "hypothesis", "pytest", "respx"}


@pytest.mark.parametrize(
    ("extra", "library"),
    [("freezegun", "freezegun"), ("httpx2", "pytest-httpx2"), ("proxy", "trustme"), ("xdist", "pytest-xdist")],
)
def test_each_extra_brings_one_library(extra: str, library: str) -> None:
    assert requirements(extra) == {library}


def test_the_metadata_says_which_python_and_which_licence() -> None:
    about = metadata.metadata(DISTRIBUTION)

    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "MIT"
