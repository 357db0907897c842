"""Turns notes in the history into violations: jobs that never ended, and leaked tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.core.journal import SERVICE
from pytest_claude_tokens.judge.violations import Deadlock, Starvation, TokenLeak

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History

__all__ = ["check_starvation", "check_token_leak"]


def check_starvation(history: History) -> Iterator[Starvation | Deadlock]:
    """Every job ends, and no workers wait for one another."""
    for note in history.noted("deadlock"):
        waits = [str(wait) for wait in note.get("waits") or ()]
        gone = [
            f"{end.actor} was {'cancelled' if end.f == 'cancel' else 'killed'} (#{end.seq})"
            for end in (*history.noted("cancel"), *history.noted("kill"))
            if end.seq < note.seq
        ]
        prefix = f"nobody can go on{', and ' * bool(gone)}{' and '.join(gone)}: " if gone or len(waits) > 1 else ""
        yield Deadlock(
            "; ".join(waits) or "nothing can happen any more",
            seq=note.seq,
            cause=prefix + "; ".join(waits),
        )
    for note in history.noted("starved"):
        why = note.get("why") or "no end"
        actors = () if note.actor == SERVICE else (note.actor,)  # the service's note is about all workers
        yield Starvation(": ".join((*actors, why)), seq=note.seq, actors=actors, cause=why)


def check_token_leak(history: History) -> Iterator[TokenLeak]:
    """No live token is in an argv, a log, or a file that others may read. Each token counts once for each place."""
    places: dict[tuple[str | None, str | None, str | None], list[Event]] = {}
    for note in history.noted("leak"):
        places.setdefault((note.grant, note.get("token"), note.get("where")), []).append(note)
    for (grant, token, where), notes in places.items():
        label = history.label(grant, token)
        what = notes[0].get("what")
        place = f"{where or 'the open'}: {what}" if what else where or "the open"
        yield TokenLeak(
            f"{label} in {place}",
            seq=notes[0].seq,
            labels=(label,),
            grant=grant,
            cause=f"{label} was seen in {place}, where others can read it",
            more=len(notes) - 1,
        )
