"""The scenarios by name, and how one is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fake_server.policy import Policy
from fake_server.secrecy import shown
from pytest_claude_tokens.judge.violations import Violation
from pytest_claude_tokens.search.alone import run_once

if TYPE_CHECKING:
    from pytest_claude_tokens.runs.outcome import Outcome

__all__ = ["SCENARIOS", "Scenario", "named", "scenario"]

Body = Callable[[Any, Any, bool], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One known failure.

    ``breaks``: the invariant that a client with the bad habit breaks, and its twin does not. ``allow``: what is beside
    the point. ``stand_in``: what can't be had on one machine, and what stands for it. ``seen_in``: where it was
    reported.
    """

    name: str
    title: str
    breaks: str
    body: Body
    workers: int = 2
    policy: Policy = field(default_factory=Policy)
    allow: tuple[str, ...] = ()
    stand_in: str = ""
    seen_in: str = ""

    def run(self, *, twin: bool = False) -> Outcome:
        """Run the client with the bad habit, or its ``twin``, once and in simulated time."""

        async def body(claude_tokens: Any, workers: Any) -> None:
            await self.body(claude_tokens, workers, twin)

        return run_once(body, self.workers, policy=self.policy, allow=list(self.allow))

    def broken(self, outcome: Outcome) -> list[Violation]:
        """The violations in a run, the one that the scenario is about first."""
        error = outcome.error or outcome.mild
        found = [error, *error.others] if isinstance(error, Violation) else []
        return sorted(found, key=lambda violation: violation.invariant != self.breaks)


SCENARIOS: dict[str, Scenario] = {}
"""Every scenario by its name, in the order of the catalogue; complete once ``catalogue`` is imported."""


def scenario(
    name: str,
    title: str,
    breaks: str,
    *,
    workers: int = 2,
    policy: Policy | None = None,
    allow: Sequence[str] = (),
    stand_in: str = "",
    seen_in: str = "",
) -> Callable[[Body], Body]:
    """Add the decorated body: ``async def body(tokens, workers, sound)``, where ``sound`` asks for the twin."""

    def decorate(body: Body) -> Body:
        SCENARIOS[name] = Scenario(
            name=name,
            title=title,
            breaks=breaks,
            body=body,
            workers=workers,
            policy=policy or Policy(),
            allow=tuple(allow),
            stand_in=stand_in,
            seen_in=seen_in,
        )
        return body

    return decorate


def named(name: str) -> Scenario:
    """The scenario ``name``, in any case. Raises ``ValueError`` that lists all."""
    try:
        return SCENARIOS[name.upper()]
    except KeyError:
        raise ValueError(f"no scenario is named {shown(name)}; choose one of {', '.join(SCENARIOS)}") from None
