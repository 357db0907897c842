"""The page ``docs/workarounds.md``: its table is made from a run of the whole table.

``python -m tests.unit.workarounds.page`` makes it anew, which takes a minute.
"""

from __future__ import annotations

import datetime as dt
import platform
import re
from pathlib import Path

from pytest_claude_tokens.workarounds import table
from pytest_claude_tokens.workarounds.catalogue import all_workarounds

DOCUMENT = Path(__file__).parents[3] / "docs" / "workarounds.md"
BEGIN, END = "<!-- made by tests/unit/workarounds/page.py -->\n", "<!-- end -->\n"
GENERATED = re.compile(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", re.DOTALL)
SCHEDULES = 60
SEED = 0


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of the page's table, by workaround."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"\| `([a-z-]+)` \|", line):
            found[match[1]] = [cell.strip() for cell in line.strip("|").split("|")[1:]]
    return found


def cells(row: table.Row) -> list[str]:
    """One row: what it breaks, how it was examined, what it costs."""
    found, cost = row.found, row.cost
    judged = {"double-spend": "", "co-schedule": ""} | {name: found.invariants[name] for name in found.invariants}
    others = [name for name in row.broken if name not in ("double-spend", "co-schedule")]
    prices = ["–"] * 3 if cost is None else [f"{cost.p50:g} s", f"{cost.p100:g} s", f"{cost.throughput:g}"]
    return [
        judged["double-spend"],
        judged["co-schedule"],
        ", ".join(others) or "–",
        f"{found.examined}, {found.schedules}",
        *prices,
    ]


def made() -> str:
    """The generated part."""
    rows = [table.made(one, schedules=SCHEDULES, seed=SEED) for one in all_workarounds()]
    when = dt.datetime.now(tz=dt.UTC).date().isoformat()
    where = f"Python {platform.python_version()}, {platform.system()}"
    lines = [
        f"Run on {when} with `claude-tokens workarounds --seed {SEED}`, on {where}.",
        "",
        "| workaround | double-spend | co-schedule | breaks besides | examined, schedules | p50 | p100 | jobs/min |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [f"| `{row.workaround.name}` | {' | '.join(cells(row))} |" for row in rows]
    lines += ["", 'What each is, and the reason of each "breaks":', ""]
    for row in rows:
        lines.append(f"* **{row.workaround.name}**: {row.workaround.summary}")
        lines += [f"  * {name}: {row.found.broken[name]}" for name in row.broken]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(GENERATED.sub(lambda _: made(), DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
