"""How far a search has come: shown now and then, within the line, and gone at the end."""

from __future__ import annotations

from pytest_claude_tokens.report.progress import Progress


def test_a_long_search_says_now_and_then_how_far_it_is():
    """Not in its first second, then twice a second, in the columns that are left; at the end nothing is left of it."""
    written, now = [], [100.0]
    progress = Progress(written.append, lambda: now[0], lambda: 47)

    for second in (0.5, 0.9, 1.0, 1.2, 1.4, 1.5, 3.0):
        now[0] = 100.0 + second
        progress(int(second * 1000), 7)

    assert written == [
        "\x1b7\x1b[K 1,000 schedules, 1,000/s, 7 distinct historie\x1b8",
        "\x1b7\x1b[K 1,500 schedules, 1,000/s, 7 distinct historie\x1b8",
        "\x1b7\x1b[K 3,000 schedules, 1,000/s, 7 distinct historie\x1b8",
    ]
    progress.close()
    assert written[3:] == ["\x1b[K"]


def test_a_short_search_writes_nothing():
    """Not even what would erase it; and on a line that is full there is no room."""
    written, now = [], [0.0]
    progress = Progress(written.append, lambda: now[0], lambda: 0)
    progress(1, 1)
    progress.close()
    assert written == []
    now[0] = 2.0
    progress(1, 1)
    assert written == ["\x1b7\x1b[K\x1b8"]
