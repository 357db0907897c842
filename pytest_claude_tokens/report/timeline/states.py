"""What an event changes: the state of tokens, who holds them, what a store says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_server.core.journal import SERVICE

if TYPE_CHECKING:
    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History

__all__ = ["DEAD", "States", "lane_of", "store_name"]

DEAD = frozenset(("spent", "expired", "revoked", "replaced"))
"""States of a token that no request succeeds with any more."""

SPARED = "spent, still accepted"

_ENDS = (("revoked", "revoked"), ("superseded", "replaced"))
"""A note's list of labels, and the state that they are in after it."""


def store_name(event: Event) -> str:
    """The name of the store that a note is about."""
    return f"store {event.get('store') or '?'}"


class States:
    """The state of all that has one, event by event; :meth:`observe` returns what an event changed.

    A change is ``(name, state, holder, expires)``: a token's label or a store's name, its state in a word or two, the
    worker that got it, and when it expires by itself, in the history's seconds. ``None``: as it was, or never.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._now: dict[str, str] = {}
        self._spared: dict[str | None, set[str]] = {}
        self._seen: set[str | None] = set()  # grants that the service itself tells of

    def observe(self, event: Event) -> dict[str, list[Any]]:
        """The changes that ``event`` makes, by name."""
        if event.type == "note":
            if event.f == "store":
                return {store_name(event): [self._content(event), None, None]}
            changes = self._noted(event)
        elif event.type == "ok" and event.issued:
            changes = self._received(event)
        else:
            return {}
        self._now |= {name: change[0] for name, change in changes.items() if change[0]}
        return changes

    def _content(self, event: Event) -> str:
        if event.get("state") != "token":
            return str(event.get("state") or "?")
        return self._history.label(event.grant, event.refresh) + ("" if event.get("accepted") else " (dead)")

    def _noted(self, event: Event) -> dict[str, list[Any]]:
        changes: dict[str, list[Any]] = {}
        if event.f in ("login", "commit"):
            self._seen.add(event.grant)
            if event.f == "commit" and event.get("outcome") in ("rotated", "replayed") and event.refresh:
                changes[self._name(event.grant, event.refresh)] = ["spent", None, None]
            changes |= self._issued(event)
        for member, state in _ENDS:
            changes |= self._all(event, event.get(member), state)
        if event.f in ("expire", "revoke"):
            changes |= self._all(event, event.get("ended"), "expired" if event.f == "expire" else "revoked")
        self._accept(event.grant, event.get("accepts"), changes)
        grants = event.get("grants")
        for grant, told in grants.items() if event.f == "end" and isinstance(grants, dict) else ():
            self._accept(grant, told.get("accepts") if isinstance(told, dict) else None, changes)
        return changes

    def _accept(self, grant: str | None, accepts: object, changes: dict[str, list[Any]]) -> None:
        """What the service says that it accepts is the last word on a token that was spent."""
        if not isinstance(accepts, list | tuple):
            return
        names = {self._name(grant, label) for label in _labels(accepts)}
        for name in sorted(names | self._spared.get(grant, set())):
            state = changes[name][0] if name in changes else self._now.get(name)
            if name in names and state in DEAD:
                changes[name] = [SPARED, None, None]
            elif name not in names and state == SPARED:
                changes[name] = ["spent", None, None]
        self._spared[grant] = {name for name in names if name in changes and changes[name][0] == SPARED} | {
            name for name in names if name not in changes and self._now.get(name) == SPARED
        }

    def _issued(self, event: Event) -> dict[str, list[Any]]:
        issued = {kind: label for kind, label in (event.issued or {}).items() if label}
        expiries = {"access": event.get("expires")}
        return {self._name(event.grant, label): ["live", None, expiries.get(kind)] for kind, label in issued.items()}

    def _received(self, event: Event) -> dict[str, list[Any]]:
        """A worker got a pair. In a history of a service that notes no commits, this is how one learns of it."""
        told = event.grant in self._seen
        labels = [label for label in (event.issued or {}).values() if label]
        changes: dict[str, list[Any]] = {
            self._name(event.grant, label): [None if told else "live", event.actor, None] for label in labels
        }
        if not told and event.refresh and event.refresh not in labels:
            changes[self._name(event.grant, event.refresh)] = ["spent", None, None]
        return changes

    def _all(self, event: Event, labels: object, state: str) -> dict[str, list[Any]]:
        return {self._name(event.grant, label): [state, None, None] for label in _labels(labels)}

    def _name(self, grant: str | None, label: str) -> str:
        return self._history.label(grant, label)

    def is_dead(self, name: str) -> bool:
        """Whether the token of that name was of no use any more after the last event observed."""
        return self._now.get(name) in DEAD


def _labels(value: object) -> list[str]:
    """The labels in a note's field; a file that we did not write may hold anything there."""
    return [label for label in value if isinstance(label, str)] if isinstance(value, list | tuple) else []


def lane_of(event: Event) -> tuple[str, str]:
    """The name and the kind of the lane that an event is drawn in."""
    if event.type == "note" and event.f == "store":
        return store_name(event), "store"
    if event.type == "note" and event.f == "lease":
        return f"lease {event.get('lease') or event.get('path') or ''}".rstrip(), "lease"
    return event.actor, "service" if event.actor == SERVICE else "worker"
