"""Reads the file of a history, line by line."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from fake_server.events import FORMAT, Event
from fake_server.genuine import json, os
from fake_server.secrecy import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Broken", "Lines", "Sieve", "read", "unreadable"]


class Broken(ValueError):
    """An event that is impossible at its position."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(f"event #{seq} {why}")
        self.seq = seq
        self.why = why


class Sieve(Protocol):
    """Decides which lines are kept."""

    def begin(self, header: Event) -> None:
        """Take the header into account, before any other line."""
        ...

    def drops(self, line: bytes) -> bool:
        """Whether a line, with its end, needs no event: it is known from its bytes alone."""
        ...

    def sees(self, event: Event) -> None:
        """Take an event into account; it is kept."""
        ...


@dataclass(slots=True)
class Lines:
    """What a file holds. ``numbers``: the line of each event, by its ``seq``; ``notes``: how it is torn."""

    header: Event
    events: list[Event] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(path: str | os.PathLike[str], sieve: Sieve | None = None) -> Lines:
    """Read the file of a history; with a sieve, only the events that it does not drop.

    Raises ``ValueError`` for an unreadable line that is not the last one, and ``OSError`` for an unreadable file.
    """
    found: Lines | None = None
    last, ended = 0, False
    torn: list[str] = []
    with open(path, "rb") as file:
        lines = enumerate(file, 1)
        for number, line in lines:
            if sieve is not None and found is not None and sieve.drops(line):
                last, ended = number, False
                continue
            if not line.strip():
                continue
            last = number
            event = _read_event(path, number, line, lines, first=found is None)
            if event is None:
                torn = [f"line {number} is torn (its writer was killed) and was skipped"]
                break
            ended = event.f == "end"
            if found is None:
                found = Lines(event)
                if sieve is not None:
                    sieve.begin(event)
                continue
            found.events.append(event)
            found.numbers[event.seq] = number
            if sieve is not None:
                sieve.sees(event)
    if not last:
        raise ValueError(f"{path} is empty: a history begins with a header; was its writer ever started?")
    found = found or Lines(Event(seq=0, t=0.0, actor="service", type="header", f="header"))
    if found.header.get("ends") and not torn and not ended:
        torn = [f"it is torn after line {last}: its writer was killed, or is still at work"]
    found.notes = torn
    return found


def _read_event(
    path: str | os.PathLike[str], number: int, line: bytes, further: Iterable[tuple[int, bytes]], *, first: bool
) -> Event | None:
    """The event of one line; ``None`` for an incomplete last line. ``further``: the lines after it."""
    try:
        event = Event.from_json(line.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        if not any(one.strip() for _, one in further) and (not first or _begins_header(line.rstrip(b"\n"))):
            return None
        raise ValueError(unreadable(path, number, "is not JSON", begun=not first)) from None
    except ValueError as error:
        raise ValueError(unreadable(path, number, f"is not an event: {error}", begun=not first)) from None
    if not event.actor.isprintable():
        event = replace(event, actor=printable(event.actor))
    if first and event.type != "header":
        raise ValueError(unreadable(path, number, "is not the header", begun=False))
    return event


def _begins_header(line: bytes) -> bool:
    """Whether a line is the beginning of a header, whose writer was killed before it wrote the rest."""
    begin = f'{{"v":{FORMAT},"seq":0,'.encode()
    return line[: len(begin)] == begin[: len(line)]


def unreadable(path: str | os.PathLike[str], number: int, what: str, *, begun: bool) -> str:
    """What is wrong with a line of the file, and what to do; ``begun``: its header could be read."""
    remedy = (
        "only a last line may be torn; take the file as it was written, or cut it before this line"
        if begun
        else "a history file begins with a header line; is this one, and is it whole?"
    )
    return f"{path}: line {number} {what}: {remedy}"
