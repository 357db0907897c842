"""Words for the checkers' headlines: names, lists, plurals, and shortening to the length of a headline."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["HEADLINE_LENGTH", "by", "clip", "count", "fitted", "joined"]

HEADLINE_LENGTH = 60
"""Characters of the longest headline: those that pytest's summary line shows beside a test's name."""


def clip(text: str, length: int) -> str:
    """``text`` in at most ``length`` characters; a longer one ends in ``...``."""
    return text if len(text) <= length else text[: length - 3] + "..."


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 request``, ``2 requests``, ``1,000 requests``; ``plural`` if it is not formed by an added s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def joined(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def fitted(sentence: Callable[[int], str], widest: int) -> str:
    """``sentence(width)`` with the largest ``width`` of names, up to ``widest``, that fits a headline."""
    for width in range(widest, 6, -1):
        if len(text := sentence(width)) <= HEADLINE_LENGTH:
            return text
    return sentence(6)


def by(label: str, deeds: Sequence[tuple[str, str]]) -> str:
    """``rt#1 by w0 (#6) and w1 (#9)``, from the label and each worker with its deed.

    If that is too long, first the middle of each name is cut, then all workers but the first are only counted.
    """

    def sentence(width: int, deeds: Sequence[tuple[str, str]] = deeds) -> str:
        return f"{_cut(label, width)} by {joined([f'{_cut(actor, width)} ({what})' for actor, what in deeds])}"

    widest = max(len(label), *(len(actor) for actor, _ in deeds))
    text = fitted(sentence, widest)
    if len(text) <= HEADLINE_LENGTH or len(deeds) < 3:
        return text
    others = f"{len(deeds) - 1} more"
    return fitted(lambda width: f"{sentence(width, deeds[:1])} and {others}", widest)


def _cut(name: str, width: int) -> str:
    """``name`` in at most ``width`` characters; the middle of a longer one is cut."""
    if len(name) <= width:
        return name
    tail = (width - 2) // 2
    return f"{name[: width - 2 - tail]}..{name[-tail:]}"
