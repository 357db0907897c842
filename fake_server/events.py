"""One line of the journal, as a value.

Only ``seq`` orders events: under simulated time many events share one instant. An operation has exactly two events,
its ``invoke`` and one of ``ok``, ``fail`` and ``info`` (outcome unknown: the reply was lost); any other fact is a
``note``. No event ever holds a secret, only labels.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from fake_server.genuine import json
from fake_server.secrecy import clean, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FORMAT", "Event", "EventType", "worker_of"]

FORMAT = 1
"""Version of the line format, the ``v`` of every line."""

EventType = Literal["header", "invoke", "ok", "fail", "info", "note"]


_PROCESS = re.compile(r"(.+)\.[0-9]+")


def worker_of(actor: str) -> str:
    """The worker that an actor belongs to: the processes of a worker ``w0`` are the actors ``w0.1``, ``w0.2``, …"""
    found = _PROCESS.fullmatch(actor)
    return found[1] if found else actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event: its type, its actor and its place in the order.

    ``t`` is in seconds of the service's clock since the journal was opened (it may go backwards when that clock
    does). ``grant`` is ``g#1``; ``refresh``, ``bearer`` and the values of ``issued`` are labels within that grant
    (``rt#1``, ``at#2``). ``data`` holds fields that only some kinds of event have; they are top-level keys in the file.
    """

    seq: int
    t: float
    actor: str
    type: EventType
    f: str
    op: int | None = None
    account: str | None = None
    grant: str | None = None
    refresh: str | None = None
    bearer: str | None = None
    issued: Mapping[str, str | None] | None = None
    status: int | None = None
    error: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """The extra field ``name``, or ``default`` if this event lacks it."""
        return self.data.get(name, default)

    def to_json(self) -> str:
        """The event as one line of JSON, without the newline."""
        # ASCII only, so that no name sent by a client can split a line or fail to encode.
        return _encode({"v": FORMAT, **dict(zip(_ORDER, _values_of(self), strict=True)), **self.data})

    @classmethod
    def from_json(cls, text: str) -> Event:
        """Parse one line. Raises ``ValueError`` for anything that is not an event of this format."""
        try:
            line = clean(json.loads(text))  # a file that we did not write may hold secrets
        except RecursionError:
            raise ValueError("an event is not nested so deeply") from None
        if not isinstance(line, dict):
            raise ValueError("an event is a JSON object")
        if line.pop("v", None) != FORMAT:
            raise ValueError(f'an event of format {FORMAT} has "v": {FORMAT}')
        known = {name: line.pop(name) for name in _ORDER if name in line}
        for name in _ORDER:
            if not _fits(name, known.get(name)):
                raise ValueError(f'not an event: its "{name}" is {shown(known.get(name))}')
        return cls(**known, data=line)


_ORDER = tuple(f.name for f in fields(Event) if f.name != "data")
_values_of = attrgetter(*_ORDER)
_encode: Callable[[object], str] = json.JSONEncoder(separators=(",", ":")).encode
_TYPES = frozenset(("header", "invoke", "ok", "fail", "info", "note"))
_REQUIRED = frozenset(("seq", "t", "actor", "type", "f"))


def _fits(name: str, value: object) -> bool:
    """Whether ``value`` is of the type that the field ``name`` has."""
    if value is None:
        return name not in _REQUIRED
    if name in ("seq", "op", "status"):
        return type(value) is int
    if name == "t":
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if name == "type":
        return isinstance(value, str) and value in _TYPES
    if name == "issued":
        return isinstance(value, dict) and all(label is None or isinstance(label, str) for label in value.values())
    return isinstance(value, str)
