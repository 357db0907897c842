"""``docs/workarounds.md`` says what a run says: its prices to the letter, its verdicts by a small run."""

from __future__ import annotations

import re

import pytest

from pytest_claude_tokens.workarounds import table
from pytest_claude_tokens.workarounds.catalogue import BREAKS, BUILT_IN
from pytest_claude_tokens.workarounds.cost import cost_of
from pytest_claude_tokens.workarounds.registry import named
from tests.unit.workarounds import page

AGAIN = "docs/workarounds.md is out of date; run: python -m tests.unit.workarounds.page"
pytestmark = pytest.mark.skipif(not page.DOCUMENT.exists(), reason="docs/ is not installed; run this in a checkout")


@pytest.fixture(scope="module")
def text() -> str:
    return page.DOCUMENT.read_text(encoding="utf-8")


def test_the_page_has_each_row_with_its_price_and_says_when_it_was_run(text: str) -> None:
    """The price is the same on every machine; which rows break at all, the soak looks at on ten seeds."""
    rows = page.rows_of(text)
    assert list(rows) == list(BUILT_IN), AGAIN
    assert {name for name, cells in rows.items() if "breaks" in cells[:2] or cells[2] != "–"} == set(BREAKS), AGAIN
    for name, cells in rows.items():
        cost = cost_of(named(name))
        assert cost is not None
        assert cells[4:] == [f"{cost.p50:g} s", f"{cost.p100:g} s", f"{cost.throughput:g}"], AGAIN
        assert f"* **{name}**: {named(name).summary}\n" in text, AGAIN
    assert re.search(
        r"^Run on 20\d\d-\d\d-\d\d with `claude-tokens workarounds --seed \d+`, on Python ", text, re.MULTILINE
    )


@pytest.mark.parametrize("name", [name for name in BUILT_IN if named(name).layout is None])
def test_a_small_run_gives_the_verdicts_of_the_page(text: str, name: str) -> None:
    """Of those in one program: what breaks is found within a few schedules."""
    cells = page.cells(table.made(named(name), schedules=4, seed=1))
    assert cells[:2] == page.rows_of(text)[name][:2], AGAIN


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_whole_run_gives_the_verdicts_of_the_page(text: str) -> None:
    """Those of processes, too."""
    made = page.rows_of(page.made())
    assert {name: cells[:2] for name, cells in made.items() if name in BUILT_IN} == {
        name: cells[:2] for name, cells in page.rows_of(text).items()
    }
