"""The words in which all checkers speak."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.violations import HEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["by", "fitted", "joined"]


def joined(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def fitted(sentence: Callable[[int], str], widest: int) -> str:
    """``sentence`` with its names cut to as many characters as make it fit a headline."""
    for width in range(widest, 6, -1):
        if len(text := sentence(width)) <= HEADLINE:
            return text
    return sentence(6)


def by(label: str, deeds: Sequence[tuple[str, str]]) -> str:
    """``rt#1 by w0 (#6) and w1 (#9)``, from the label and each worker with what it did.

    Where that is too long, the middle of the names goes first, then the workers in the middle.
    """

    def sentence(width: int, deeds: Sequence[tuple[str, str]] = deeds) -> str:
        return f"{_cut(label, width)} by {joined([f'{_cut(actor, width)} ({what})' for actor, what in deeds])}"

    widest = max(len(label), *(len(actor) for actor, _ in deeds))
    text = fitted(sentence, widest)
    if len(text) <= HEADLINE or len(deeds) < 3:
        return text
    others = f"{len(deeds) - 1} more"
    return fitted(lambda width: f"{sentence(width, deeds[:1])} and {others}", widest)


def _cut(name: str, width: int) -> str:
    """``name`` in at most ``width`` characters, without its middle where it is longer."""
    if len(name) <= width:
        return name
    tail = (width - 2) // 2
    return f"{name[: width - 2 - tail]}..{name[-tail:]}"
