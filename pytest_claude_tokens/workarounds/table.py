"""The rows of the table, as JSON and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.judge.wording import count
from pytest_claude_tokens.report.wording import ascii_only
from pytest_claude_tokens.workarounds.cost import cost_of
from pytest_claude_tokens.workarounds.examine import examine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_claude_tokens.workarounds.cost import Cost
    from pytest_claude_tokens.workarounds.examined import Examined
    from pytest_claude_tokens.workarounds.registry import Workaround

__all__ = ["Row", "head", "made", "text"]

_RED, _GREEN, _YELLOW, _PLAIN = "\033[31m", "\033[32m", "\033[33m", "\033[0m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: a workaround, what its examination found, and what it costs (``None``: that can't be told)."""

    workaround: Workaround
    found: Examined
    cost: Cost | None

    @property
    def broken(self) -> list[str]:
        """The invariants that it breaks, in the order of the judge's table."""
        return [name for name, judged in self.found.invariants.items() if judged == "breaks"]

    @property
    def state(self) -> str:
        """``breaks``, ``unknown`` or ``holds``."""
        return "breaks" if self.broken else "unknown" if self.found.failed else "holds"

    @property
    def says(self) -> str:
        """The result in one sentence."""
        found = self.found
        much = (
            f"{count(found.schedules, 'schedule')}, {count(found.histories, 'distinct history', 'distinct histories')}"
        )
        play = f"in play: {', '.join(found.in_play)}"
        if self.broken:
            text = f"breaks {_listed(self.broken)}: {found.broken[self.broken[0]]}"
            if found.failed:
                text += f"; of the rest nothing is known: {found.failed}"
        elif found.failed:
            text = f"no verdict: {found.failed}"
        else:
            text = f"nothing broke in {much}; {play}"
        return ascii_only("; ".join([text, *([found.stand_in] if found.stand_in else [])]))

    def to_json(self) -> dict[str, Any]:
        """The row as ``--json`` prints it."""
        found, cost = self.found, self.cost
        return {
            "workaround": self.workaround.name,
            "examined": found.examined,
            "schedules": found.schedules,
            "histories": found.histories,
            "in_play": found.in_play,
            "invariants": found.invariants,
            "replay": {name: found.replay[name] for name in self.broken},
            "reasons": {name: found.broken[name] for name in self.broken},
            "latency": {"p50": None if cost is None else cost.p50, "p100": None if cost is None else cost.p100},
            "throughput": None if cost is None else cost.throughput,
            "says": self.says,
        }


def made(workaround: Workaround, *, schedules: int, seed: int | None) -> Row:
    """Examine a workaround, and measure its cost."""
    return Row(
        workaround=workaround, found=examine(workaround, schedules=schedules, seed=seed), cost=cost_of(workaround)
    )


_COLUMNS = ("examined", "schedules", "histories", "p50", "p100", "jobs/min", "verdict")
_WIDTHS = (9, 9, 9, 7, 7, 8, 0)


def head(names: Iterable[str]) -> str:
    """The first line of the text, for rows of these names."""
    return _line("workaround", _COLUMNS, _width(names))


def text(row: Row, names: Sequence[str], again: str, *, colour: bool = False) -> list[str]:
    """The lines of one row; ``again`` is the command that makes the table, and replays."""
    cost, found = row.cost, row.found
    times = ("-", "-", "-") if cost is None else (f"{cost.p50:g} s", f"{cost.p100:g} s", f"{cost.throughput:g}")
    verdict = f"breaks {_listed(row.broken)}" if row.broken else row.state
    cells = (found.examined, f"{found.schedules}", f"{found.histories}", *times, _coloured(verdict, row.state, colour))
    lines = [_line(row.workaround.name, cells, _width(names))]
    for name in row.broken:
        lines.append(f"    {name}: {ascii_only(found.broken[name])}")
        lines.append(f"        {again} --only {row.workaround.name} --replay {found.replay[name]}")
    if row.state == "holds":
        lines.append(f"    in play: {ascii_only(', '.join(found.in_play))}")
    if found.failed:
        lines.append(f"    no verdict: {ascii_only(found.failed)}")
    if found.stand_in:
        lines.append(f"    {ascii_only(found.stand_in)}")
    return lines


def _width(names: Iterable[str]) -> int:
    return max([len("workaround"), *map(len, names)])


def _line(name: str, cells: Sequence[str], width: int) -> str:
    padded = [cell.ljust(size) for cell, size in zip(cells, _WIDTHS, strict=True)]
    return "  ".join([name.ljust(width), *padded]).rstrip()


def _coloured(words: str, state: str, colour: bool) -> str:
    if not colour:
        return words
    return f"{ {'breaks': _RED, 'holds': _GREEN}.get(state, _YELLOW) }{words}{_PLAIN}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
