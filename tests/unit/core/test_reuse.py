"""Every policy in every situation of a used refresh token, against the table that ``docs/policies.md`` shows.

``python -m tests.unit.core.test_reuse`` writes the table in ``docs/policies.md`` anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fake_server.core import reuse
from fake_server.policy import PRESETS
from tests.unit.core.reuse_situations import SITUATIONS, played

DOCUMENT = Path(__file__).parents[3] / "docs" / "policies.md"
TABLE = re.compile(r"^\| policy \|.*\n(?:\|.*\n)+", re.MULTILINE)
WORDS = re.compile(r"(?<=^\|---\|---\|\n)(?:\| `[a-z-]+` \|.*\n)+", re.MULTILINE)


@pytest.mark.parametrize("situation", reuse.SITUATIONS)
@pytest.mark.parametrize("policy", reuse.POLICIES)
def test_each_cell_is_what_the_service_does(policy: str, situation: str) -> None:
    """The reply to the token, and what of its login is dead afterwards."""
    assert played(reuse.POLICIES[policy], situation) == reuse.REACTIONS[policy][situation]


def test_the_table_is_whole() -> None:
    """Each situation is played, each preset is in it, by itself or as the variants of its kind."""
    assert list(SITUATIONS) == list(reuse.SITUATIONS)
    assert list(reuse.POLICIES) == list(reuse.REACTIONS)
    assert set(PRESETS) == {policy.name for policy in reuse.POLICIES.values()} - {"at-once"}
    assert all(list(reactions) == list(reuse.SITUATIONS) for reactions in reuse.REACTIONS.values())


def described() -> str:
    """The situations as rows."""
    return "".join(f"| `{name}` | {text} |\n" for name, text in reuse.SITUATIONS.items())


@pytest.mark.skipif(not DOCUMENT.exists(), reason="docs/ is not installed; run this in a checkout")
def test_the_page_shows_the_table() -> None:
    """And the situations in words."""
    text = DOCUMENT.read_text(encoding="utf-8")
    again = "docs/policies.md is out of date; run: python -m tests.unit.core.test_reuse"
    assert TABLE.findall(text) == [reuse.table()], again
    assert described() in text, again


if __name__ == "__main__":
    page = DOCUMENT.read_text(encoding="utf-8").replace("SITUATIONS\n", described()).replace("TABLE\n", reuse.table())
    page = TABLE.sub(lambda _: reuse.table(), page)
    DOCUMENT.write_text(WORDS.sub(lambda _: described(), page), encoding="utf-8")
