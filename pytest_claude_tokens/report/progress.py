"""How far a long search has come, shown behind the test's name on a terminal."""

from __future__ import annotations

from collections.abc import Callable

from pytest_claude_tokens.judge.wording import count

__all__ = ["Progress"]

_FIRST_SECONDS = 1.0
"""A search that is over by then shows nothing."""
_INTERVAL_SECONDS = 0.5
_SAVE, _RESTORE, _ERASE = "\x1b7", "\x1b8", "\x1b[K"
"""Controls of the terminal: the cursor's place is kept, returned to, and what stands behind it erased."""


class Progress:
    """Called after each schedule. ``write`` shows a text; ``now`` reads real seconds; ``room``: the columns left."""

    def __init__(self, write: Callable[[str], object], now: Callable[[], float], room: Callable[[], int]) -> None:
        self._write = write
        self._now = now
        self._room = room
        self._began = self._shown = now()
        self._anything = False

    def __call__(self, schedules: int, histories: int) -> None:
        """Show the numbers so far, if it is time to."""
        now = self._now()
        if now - self._began < _FIRST_SECONDS or now - self._shown < _INTERVAL_SECONDS:
            return
        self._shown = now
        self._anything = True
        rate = schedules / (now - self._began)
        distinct = count(histories, "distinct history", "distinct histories")
        text = f" {count(schedules, 'schedule')}, {rate:,.0f}/s, {distinct}"
        self._write(f"{_SAVE}{_ERASE}{text[: max(0, self._room() - 1)]}{_RESTORE}")

    def close(self) -> None:
        """Erase what was shown."""
        if self._anything:
            self._write(_ERASE)
