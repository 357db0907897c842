"""Histories from a few words: one line of text for each event, so that a table of them can be read.

Events are numbered from 1, by their lines; a line ``t 5`` is no event but sets the clock. Tokens are those of the
grant ``g#1`` unless written ``g#2/rt#1``. Anything written ``key=value`` becomes a field; values are JSON where they
can be, else text with ``~`` for a space.

    login                            the grant g#1 of `work`, with rt#1 and at#1 (expired, or expires=100)
    a: w0 token rt#1                 w0 sends the token request `a`
    a commit rotated at#2 rt#2       the service decides
    a ok at#2 rt#2                   its end: ok, fail or info
    b: w1 call at#2                  also: other
    note kill actor=w1               any other note
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fake_server.events import Event
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge

ACCOUNTS = {"g#1": "work", "g#2": "home", "g#3": "work"}
GRACE = {"name": "grace", "grace_seconds": 30.0, "reuse": "revoke-family"}
NO_ROTATION = {"name": "no-rotation", "rotate": False}
_FIELDS = ("account", "grant", "refresh", "bearer", "issued", "status", "error")


def history(text: str, policy: dict[str, Any] | str | None = None, **header: Any) -> History:
    """The history that ``text`` tells, under a policy's settings."""
    return History(_header(policy, header), events(text))


def _header(policy: dict[str, Any] | str | None, more: dict[str, Any]) -> Event:
    data = {"policy": {"name": "anthropic"} if policy is None else policy, "clock": {"kind": "virtual"}, **more}
    return Event(seq=0, t=0.0, actor="service", type="header", f="header", data=data)


def events(text: str) -> list[Event]:
    """The events that ``text`` tells."""
    writer = _Writer()
    for line in text.strip().splitlines():
        if words := line.split():
            writer.write(words)
    return writer.events


class _Writer:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ops: dict[str, Event] = {}
        self.t = 0.0

    def write(self, words: list[str]) -> None:
        given = dict(_pair(word) for word in words if "=" in word)
        words = [word for word in words if "=" not in word]
        if words[0] == "t":
            self.t = float(words[1])
        elif words[0] == "login":
            self._login(words[1] if len(words) > 1 else "g#1", given)
        elif words[0] == "note":
            self._note(words[1], given)
        elif words[0].endswith(":"):
            self._invoke(words[0][:-1], *words[1:], **given)
        elif words[1] == "commit":
            self._commit(self.ops[words[0]], words[2:], given)
        else:
            self._end(self.ops[words[0]], words[1], words[2:], given)

    def _add(self, type: Any, f: str, fields: dict[str, Any]) -> Event:
        known = {name: fields.pop(name) for name in (*_FIELDS, "actor", "op") if name in fields}
        known.setdefault("actor", "service")
        event = Event(seq=len(self.events) + 1, t=self.t, type=type, f=f, data=fields, **known)
        self.events.append(event)
        return event

    def _login(self, grant: str, given: dict[str, Any]) -> None:
        setup = given.get("setup_token", False)
        fields = {
            "account": ACCOUNTS[grant],
            "grant": grant,
            "issued": {"access": "at#1", "refresh": None if setup else "rt#1"},
            "setup_token": setup,
            "expires": 0.0,
            "accepts": [] if setup else ["rt#1"],
        }
        self._add("note", "login", fields | given)

    def _note(self, f: str, given: dict[str, Any]) -> None:
        if f in ("store", "leak", "expire", "revoke"):
            given.setdefault("grant", "g#1")
            given.setdefault("account", ACCOUNTS.get(given["grant"]))
        self._add("note", f, given)

    def _invoke(self, name: str, actor: str, f: str, token: str | None = None, **given: Any) -> None:
        fields: dict[str, Any] = {"actor": actor, "op": len(self.ops) + 1}
        if f == "token":
            fields["grant_type"] = "refresh_token"
        if token is not None:
            grant, _, label = token.rpartition("/")
            grant = grant or "g#1"
            fields["refresh" if f == "token" else "bearer"] = label
            if label != "unknown":
                fields |= {"grant": grant, "account": ACCOUNTS[grant]}
        self.ops[name] = self._add("invoke", f, fields | given)

    def _end(self, invoke: Event, how: str, words: list[str], given: dict[str, Any]) -> None:
        fields = {name: getattr(invoke, name) for name in ("actor", "op", "account", "grant", "refresh", "bearer")}
        if words and words[0].isdigit():
            fields["status"] = int(words.pop(0))
        elif how != "info":
            fields["status"] = 200 if how == "ok" else 400
        if words:
            fields["issued"] = _issued(words)
        self._add(how, invoke.f, fields | given)

    def _commit(self, invoke: Event, words: list[str], given: dict[str, Any]) -> None:
        fields = {name: getattr(invoke, name) for name in ("op", "account", "grant", "refresh")}
        fields["outcome"] = words.pop(0)
        if words:
            fields |= {"issued": _issued(words), "expires": self.t + 28800}
        self._add("note", "commit", fields | given)


def _issued(words: list[str]) -> dict[str, str | None]:
    return {"access": words[0], "refresh": words[1] if len(words) > 1 else None}


def _pair(word: str) -> tuple[str, Any]:
    name, _, text = word.partition("=")
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text.replace("~", " ")


def told(verdict: Any) -> list[str]:
    """The violations of a verdict, in one line each."""
    return [f"{violation.invariant}: {violation}" for violation in verdict.violations]


def noted(verdict: Any) -> list[str]:
    """The notes of a verdict: why, and of which invariant."""
    return [f"{note.why} {note.violation.invariant}" if note.violation else note.why for note in verdict.notes]


def end(
    accepts: Sequence[str] = ("rt#2",),
    death: str | None = None,
    stores: Sequence[str] = ("s",),
    grant: str = "g#1",
    **more: Any,
) -> str:
    """The line of the note ``end``: what one grant has by then."""
    facts = {"account": "work", "setup_token": False, "accepts": accepts, "death": death, "stores": stores} | more
    return "note end grants=" + json.dumps({grant: facts}, separators=(",", ":"))


def store(
    refresh: str | None = None, *, accepted: bool = False, state: str | None = None, name: str = "s", **more: Any
) -> str:
    """The line of a look at a store: the token that it has, or none."""
    fields: dict[str, Any] = {
        "store": name,
        "state": state or ("token" if refresh else "blank"),
        "accepted": accepted,
    } | more
    fields |= {"refresh": refresh} if refresh else {}
    return "note store " + " ".join(f"{key}={json.dumps(value)}" for key, value in fields.items())


REFRESHED = """
    login
    a: w0 token rt#1
    a commit rotated at#2 rt#2
    a ok at#2 rt#2
"""
STORED = REFRESHED + store("rt#2", accepted=True, previous="rt#1") + "\n"


def invariants(text: str, **how: Any) -> list[str]:
    """What the history of ``text`` breaks, by name."""
    return [violation.invariant for violation in judge(history(text, **how)).violations]
