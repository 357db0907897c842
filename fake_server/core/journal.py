"""The journal: events in order, append-only and numbered; with a sink, each is on disk before the reply leaves.

Not thread-safe: the server holds the lock, which makes the order of ``seq`` the order in which the events happened.
"""

from __future__ import annotations

from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from fake_server.events import Event, EventType
from fake_server.secrecy import clean, redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.clock import Clock

__all__ = ["SERVICE", "Journal"]

SERVICE = "service"
"""The actor of the service's own events."""


class Journal:
    """The events so far. ``sink``: a text file to which each line is written and flushed before :meth:`add` returns."""

    def __init__(self, clock: Clock, header: dict[str, Any], sink: IO[str] | None = None) -> None:
        self._clock = clock
        self._sink = sink
        self._start = clock.now()
        self._ops = 0
        self._aliases: dict[str, str] = {}
        self.observers: list[Callable[[Event], None]] = []
        # Its values were checked when they were given (the policy, names of invariants), and a search makes one a run:
        # the header is not cleaned again.
        clock_facts = {"kind": clock.kind, "start": round(self._start, 6)}
        self.header: Event = Event(
            seq=0, t=0.0, actor=SERVICE, type="header", f="header", data={"clock": clock_facts, **header}
        )
        self.events: list[Event] = []
        if sink is not None:
            # In the file only: a reader that finds no note `end` knows that its writer was killed, or still writes.
            self._write(replace(self.header, data={**self.header.data, "ends": True}))

    def time(self, posix: float) -> float:
        """Convert POSIX seconds of the service's clock to the journal's: seconds since the journal was opened."""
        return round(posix - self._start, 6)

    def operation(self) -> int:
        """The number of a new operation."""
        self._ops += 1
        return self._ops

    def alias(self, actor: str) -> str:
        """The journal's name for ``actor``: its own name, or the kind of secret that was passed in place of a name.

        Different secrets get different names: otherwise the judge would take them for one worker.
        """
        shown = redact(actor)
        if shown != actor and actor not in self._aliases:
            number = 1 + sum(alias.startswith(shown) for alias in self._aliases.values())
            self._aliases[actor] = shown if number == 1 else f"{shown} {number}"
        return self._aliases.get(actor, shown)

    def add(
        self, kind: EventType, f: str, *, actor: str = SERVICE, data: dict[str, Any] | None = None, **known: Any
    ) -> Event:
        """Append one event, and write it to the sink before any consequence of it can happen.

        Nothing is redacted: all texts must be the service's own (labels, words), or names that were checked when they
        were given. For other texts there is :meth:`note`.
        """
        event = Event(
            seq=len(self.events) + 1,
            t=self.time(self._clock.now()),
            actor=actor,
            type=kind,
            f=f,
            data=data or {},
            **known,
        )
        self.events.append(event)
        self._write(event)
        for observer in self.observers:
            observer(event)
        return event

    def note(self, f: str, *, actor: str = SERVICE, op: int | None = None, **data: Any) -> Event:
        """Append a fact that is neither start nor end of an operation. Texts that look like secrets are redacted."""
        known = {name: data.pop(name) for name in _KNOWN if name in data}
        return self.add("note", f, actor=self.alias(actor), op=op, data=clean(data), **known)

    def _write(self, event: Event) -> None:
        if self._sink is not None:
            self._sink.write(event.to_json() + "\n")
            self._sink.flush()


_KNOWN = ("account", "grant", "refresh", "bearer", "issued", "status", "error")
