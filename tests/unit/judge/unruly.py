"""Histories of the real service, and of workers without any manners: any token at any time, half of it abandoned."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from fake_server.faults import Fault
from fake_server.policy import PRESETS
from tests.unit.judge.drive import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fake_server.core.authority import Grant
    from fake_server.exchange import Exchange
    from pytest_claude_tokens.judge.history import History

ACTORS = ("w0", "w1", "w2")
FAULTS = (Fault.LOST_REPLY, Fault.RESET, Fault.TRUNCATED, Fault.status(503), Fault.status(401), Fault.delay(5))
NAMES = (["work"], ["work", "home"], ["work", "work"])
STEPS = ("token", "token", "call", "call", "other", "fault", "advance", "expire", "finish", "finish", "decide", "leave")
MORE_STEPS = (*STEPS, "whole call", "whole call", "whole token", "bare", "kill", "store", "revoke", "leak", "back")
"""With requests that nothing interrupts, and with what only a handle notes: stores, leaks, workers that we killed."""


class Rabble:
    """One service, and those who misuse it."""

    def __init__(self, pick: Callable[[Sequence[Any]], Any], **header: Any) -> None:
        self.pick = pick
        self.service = Service(PRESETS[pick(list(PRESETS))], **header)
        self.grants = [self.service.login(name, expires_in=pick([0, 600, 28_800])) for name in pick(NAMES)]
        self.under_way: list[Exchange] = []
        self.stores: dict[str, list[str]] = {}
        self.in_store: dict[str, tuple[Grant, str]] = {}

    def step(self, step: str) -> None:
        """One thing that happens."""
        pick, service = self.pick, self.service
        grant, actor = pick(self.grants), pick(ACTORS)
        if step.endswith(("token", "call", "other")):
            self.send(step, grant, actor)
        elif step == "bare":
            self.under_way.append(service.bare(actor))
        elif step == "fault":
            service.server.faults.add(pick(["token", "call"]), pick(FAULTS))
        elif step == "advance":
            service.server.advance(pick([1, 700, 10_000, 30_000]))
        elif step == "back":
            service.server.advance(pick([-5_000, -20_000]))
        elif step in ("expire", "revoke"):
            getattr(service.server, step)(grant.account)
        elif step == "store":
            self.store(grant)
        elif step == "kill":
            service.server.journal.note(pick(["kill", "cancel"]), actor=actor)
        elif step == "leak":
            facts = {"token": pick(["rt#1", "at#1"]), "where": pick(["argv", "log"])}
            service.server.journal.note("leak", grant=grant.name, account=grant.account, **facts)
        elif self.under_way:
            self.go_on(step, self.under_way.pop(pick(range(len(self.under_way)))))

    def send(self, step: str, grant: Grant, actor: str) -> None:
        """A request; a whole one with the newest token, or any other."""
        kind = step.rsplit(maxsplit=1)[-1]
        tokens: list[Any] = list(grant.refresh if kind == "token" else grant.access)
        secret = tokens[-1].secret if "whole" in step else self.pick(tokens).secret
        exchange = getattr(self.service, kind)(actor, secret)
        if "whole" in step:
            self.service.finish(exchange)
        else:
            self.under_way.append(exchange)

    def go_on(self, step: str, exchange: Exchange) -> None:
        """What becomes of a request that is under way."""
        if step == "finish":
            self.service.finish(exchange)
        elif step == "decide":
            exchange.step()
            self.under_way.append(exchange)
        else:
            exchange.abandon("client disconnected")

    def store(self, grant: Grant) -> None:
        """A look at a store: a token, or nothing, and what was in it before."""
        server, now = self.service.server, self.service.server.clock.now()
        name = self.pick(["s", "t"])
        stores = self.stores.setdefault(grant.name, [])
        stores += [name] * (name not in stores)
        facts: dict[str, Any] = {"store": name, "state": "absent", "accepted": False}
        if name in self.in_store:
            before, label = self.in_store.pop(name)
            was_accepted = label in server.authority.accepted(before, now)
            facts |= {"previous": label, "previous_grant": before.name, "previous_accepted": was_accepted}
        state = self.pick(["token", "token", "blank", "absent"])
        if state == "token":
            token = self.pick(grant.refresh)
            self.in_store[name] = grant, token.label
            facts |= {"refresh": token.label, "accepted": server.authority.accepts(token, now)}
        server.journal.note("store", grant=grant.name, account=grant.account, **{**facts, "state": state})


@st.composite
def unruly(draw: st.DrawFn, /, steps: tuple[str, ...] = STEPS, longest: int = 25, **header: Any) -> History:
    """A history of up to ``longest`` of these steps."""
    rabble = Rabble(lambda choices: draw(st.sampled_from(choices)), **header)
    for step in draw(st.lists(st.sampled_from(steps), max_size=longest)):
        rabble.step(step)
    if draw(st.booleans()):
        rabble.service.end(rabble.stores)
    return rabble.service.history


def by_chance(seed: int, steps: tuple[str, ...] = MORE_STEPS, length: int = 60) -> History:
    """A history that is made of a seed: long, and of a few kinds of steps only, so that these come close together."""
    dice = random.Random(seed)
    some = dice.sample(steps, dice.randint(3, len(steps)))
    rabble = Rabble(dice.choice, limit=dice.choice([None, 1, 1, 2]))
    for _ in range(dice.randint(5, length)):
        rabble.step(dice.choice([*some, "whole call", "whole token"]))
    if dice.random() < 0.7:
        rabble.service.end(rabble.stores)
    return rabble.service.history
