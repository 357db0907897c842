"""The journal: events in order, append-only and numbered; with a sink, each is on disk before the reply leaves.

Not thread-safe: the server holds the lock, which makes the order of ``seq`` the order in which the events happened.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from fake_server.events import Event, EventType
from fake_server.secrecy import clean, printable, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fake_server.clock import Clock

__all__ = ["END", "SERVICE", "Journal", "Sink", "lines", "promise"]

SERVICE = "service"
"""The actor of the service's own events."""
END = "end"
"""The note that is the last line of each history that is whole."""


class Sink(Protocol):
    """A text file, or what stands for one."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Journal:
    """The events so far. ``sink``: a text file to which each line is written and flushed before :meth:`add` returns."""

    def __init__(self, clock: Clock, header: dict[str, Any], sink: Sink | None = None) -> None:
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
        self._ended = False
        if sink is not None:
            self._write(promise(self.header))

    def time(self, posix: float) -> float:
        """Convert POSIX seconds of the service's clock to the journal's: seconds since the journal was opened."""
        return round(posix - self._start, 6)

    def operation(self) -> int:
        """The number of a new operation."""
        self._ops += 1
        return self._ops

    def alias(self, actor: str) -> str:
        """The journal's name for ``actor``: its own name, or the kind of secret that was passed in place of a name.

        Different secrets get different names: otherwise the judge would take them for one worker. A name is later
        printed, so characters that a terminal might obey are escaped.
        """
        shown = printable(redact(actor))
        if shown != actor and actor not in self._aliases:
            number = 1 + sum(alias == shown or alias.startswith(f"{shown} ") for alias in self._aliases.values())
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

    @property
    def kept(self) -> bool:
        """Whether the events are written to a file."""
        return self._sink is not None

    def _write(self, event: Event) -> None:
        if self._sink is not None and not self._ended:
            self._ended = event.f == END and event.type == "note"  # what comes later is no part of what was judged
            self._sink.write(event.to_json() + "\n")
            self._sink.flush()


def promise(header: Event) -> Event:
    """``header`` as it is written: with the promise of a note ``end`` as the last line.

    A reader that does not find it knows that the writer was killed, or is still at work.
    """
    return replace(header, data={**header.data, "ends": True})


def lines(header: Event, events: Sequence[Event]) -> Iterator[str]:
    """The lines of a whole history file. If ``events`` were taken before the history ended, its last line says so."""
    for event in (promise(header), *events):
        yield event.to_json() + "\n"
    last = events[-1] if events else header
    if last.f != END:
        end = Event(seq=last.seq + 1, t=last.t, actor=SERVICE, type="note", f=END, data={"so_far": True})
        yield end.to_json() + "\n"


_KNOWN = ("account", "grant", "refresh", "bearer", "issued", "status", "error")
