"""The situations of the table of reuse, each played under one policy: the reply, and what is dead then."""

from __future__ import annotations

from collections.abc import Callable

from fake_server.policy import Policy
from tests.unit.core.harness import START, Answer, World, refresh


class Case:
    """One login, `newest` its newest refresh token, and what a token request says in words."""

    def __init__(self, policy: Policy) -> None:
        self.world = World(policy)
        self.grant = self.world.server.login("alice")
        self.first = self.newest = self.grant.refresh[0].secret
        self.pairs: list[tuple[str, str | None]] = []

    def rotate(self) -> None:
        """A refresh as it should be, with the newest token."""
        assert self.said(self.world.refresh(self.newest)) == "new pair" or not self.world.server.policy.rotate
        self.newest = self.pairs[-1][1] or self.newest

    def at(self, seconds: float) -> None:
        """So long after the login."""
        self.world.time = START + seconds

    def said(self, answer: Answer) -> str:
        """A reply in words."""
        if answer.status != 200:
            return f"{answer.status} {answer.json['error']}"
        pair = answer.json["access_token"], answer.json.get("refresh_token")
        known = pair in self.pairs
        self.pairs.append(pair)
        return "same pair" if known else "new access token" if pair[1] is None else "new pair"

    def died(self) -> str:
        """What is dead of the login, in words."""
        authority, now = self.world.server.authority, self.world.time
        refresh_lives = authority.accepts(authority.refresh_token(self.newest), now)  # type: ignore[arg-type]
        access_lives = self.grant.access[-1].state(now) == "live"
        if refresh_lives:
            return "" if access_lives else "; access tokens die"
        return "; refresh token dies" if access_lives else "; all tokens die"


def _spent(case: Case) -> str:
    case.rotate()
    case.at(1)
    return case.said(case.world.refresh(case.first))


def _again(case: Case) -> str:
    _spent(case)
    case.at(2)
    return case.said(case.world.refresh(case.first))


def _late(case: Case) -> str:
    case.rotate()
    case.at(31)
    return case.said(case.world.refresh(case.first))


def _ancestor(case: Case) -> str:
    case.rotate()
    case.rotate()
    case.at(1)
    return case.said(case.world.refresh(case.first))


def _at_once(case: Case) -> str:
    first, second = case.world.begin(refresh(case.first)), case.world.begin(refresh(case.first), "w1")
    first.step()
    second.step()
    case.said(case.world.run(first))
    case.newest = case.pairs[-1][1] or case.newest
    return case.said(case.world.run(second))


def _unknown(case: Case) -> str:
    return case.said(case.world.refresh("sk-ant-ort01-FAKE-never-minted"))


SITUATIONS: dict[str, Callable[[Case], str]] = {
    "at-once": _at_once,
    "spent": _spent,
    "again": _again,
    "late": _late,
    "ancestor": _ancestor,
    "unknown": _unknown,
}


def played(policy: Policy, situation: str) -> str:
    """What the service does, in the words of the table."""
    case = Case(policy)
    return SITUATIONS[situation](case) + case.died()
