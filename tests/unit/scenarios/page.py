"""The page ``docs/scenarios.md``, made from the catalogue: ``python -m tests.unit.scenarios.page``."""

from __future__ import annotations

from pathlib import Path

from pytest_claude_tokens.scenarios.catalogue import SCENARIOS

DOCUMENT = Path(__file__).parents[3] / "docs" / "scenarios.md"
HEAD = """# Scenarios

Known failures of clients that share logins, each by a name. `claude-tokens scenario R4` plays one in simulated time,
the same every time, tells the story, and exits 1; `--twin` plays the client that survives it, and exits 0.
`--history FILE` keeps the history, `--json` is for programs. Tests play all of them, both ways. This page is made by
`tests/unit/scenarios/page.py`.

R: a refresh done twice. F: file systems. W: the store. N: answers. S: logins that end. T: time. C: calls that meet.
M: credentials of two kinds.

| name | failure | breaks | seen in |
|---|---|---|---|
"""


def made() -> str:
    """The page."""
    rows = [f"| `{one.name}` | {one.title} | `{one.breaks}` | {one.seen_in} |" for one in SCENARIOS.values()]
    stand_ins = [f"* `{one.name}`: {one.stand_in}." for one in SCENARIOS.values() if one.stand_in]
    return HEAD + "\n".join([*rows, "", "## Stand-ins", "", "What can't be had on one machine:", "", *stand_ins]) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(made(), encoding="utf-8")
