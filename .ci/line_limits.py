"""Refuse files of Python that have grown too long to be read in one go."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LIMITS", "Limit", "too_long"]


@dataclass(frozen=True, slots=True)
class Limit:
    """Files that match one of ``patterns`` (from the root of the checkout) have fewer than ``lines`` lines."""

    what: str
    lines: int
    patterns: Sequence[str]


LIMITS = (
    Limit(
        "the module with pytest's hooks",
        200,
        ("pytest_claude_tokens/plugin.py", "pytest_claude_tokens/plugin/hooks.py"),
    ),
    Limit(
        "a module",
        400,
        ("fake_server/**/*.py", "pytest_claude_tokens/**/*.py", "benchmarks/**/*.py", ".ci/*.py", "*.py"),
    ),
    Limit("a test file", 500, ("tests/**/*.py", "examples/**/*.py")),
)


def too_long(root: Path, limits: Sequence[Limit] = LIMITS) -> Iterator[str]:
    """A complaint for each file under ``root`` that is too long, and for each limit that holds no file at all."""
    for limit in limits:
        files = sorted({path for pattern in limit.patterns for path in root.glob(pattern)})
        if not files:  # a folder was renamed: the limit would hold nothing, and say so to nobody
            yield f"{limit.what}: no file matches {' or '.join(limit.patterns)}"
        for path in files:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines >= limit.lines:
                yield f"{path.relative_to(root)}: {lines} lines; {limit.what} stays under {limit.lines}"


if __name__ == "__main__":
    complaints = list(too_long(Path(__file__).parents[1]))
    print(*complaints, sep="\n")
    sys.exit(bool(complaints))
