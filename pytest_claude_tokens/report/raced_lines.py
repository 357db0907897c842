"""Which two lines raced, and how: the cause of a failure that needs a thread to lose its turn between two of them.

There are four kinds. What the preempted thread had done before, what others did meanwhile, and what it did then, to one
thing or to two that belong together, tells which it is.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_claude_tokens.simulation.naming import Touched
    from pytest_claude_tokens.simulation.watch import Step

__all__ = ["raced_lines"]

_ADDS = frozenset({"add", "append", "appendleft", "extend", "insert", "put", "setdefault", "update"})
_TAKES = frozenset({"clear", "discard", "get_nowait", "pop", "popitem", "popleft", "remove"})
_NOUNS = {"add": "add", "append": "append", "remove": "removal", "discard": "removal", "pop": "pop", "put": "put"}
_WHOLE = "*"


@dataclass(frozen=True, slots=True)
class _Touch:
    """What one step did to one thing."""

    step: Step
    touched: Touched

    @property
    def thing(self) -> tuple[object, str]:
        return self.touched[:2]

    @property
    def writes(self) -> bool:
        return self.touched[3]

    @property
    def stores(self) -> bool:
        """Whether it puts a new value in the place of the old one."""
        return self.writes and self.step.access.kind != "call"

    def meets(self, other: _Touch) -> bool:
        """Whether both touch the same item of the same thing."""
        one, two = self.touched[2], other.touched[2]
        return self.thing == other.thing and (one == two or _WHOLE in (one, two))

    @property
    def who(self) -> str:
        return f"w{self.step.worker}" if self.step.worker >= 0 else "a thread of the test"

    @property
    def line(self) -> str:
        return self.step.access.line

    def deed(self) -> str:
        """What it did, as in "w1 added to Pool.busy (pool.py:32)"."""
        name = self.step.access.name
        if _is_generator(self):
            verb = "went on with"
        elif not self.writes:
            verb = "read"
        elif self.stores:
            verb = "wrote"
        else:
            verb = "added to" if name in _ADDS else "took from" if name in _TAKES else "changed"
        return f"{self.who} {verb} {_name(self)} ({self.line})"

    @property
    def doing(self) -> str:
        """The same as a noun."""
        return "running" if _is_generator(self) else "writing" if self.writes else "reading"


def raced_lines(steps: Sequence[Step]) -> str:
    """The cause in words, naming a line of each of two workers; ``""`` where no thread was preempted, or none fits."""
    preempted = [number for number, step in enumerate(steps) if not step.touched]
    if not preempted:
        return ""
    moments = [(number, steps[number].thread) for number in preempted]
    moments += [  # who went on meanwhile, and had to wait for the first one
        (number, steps[number - 1].thread)
        for number in range(preempted[0] + 1, len(steps))
        if steps[number].thread != steps[number - 1].thread
    ]
    return next(filter(None, (_around(steps, *moment) for moment in moments)), "")


def _around(steps: Sequence[Step], number: int, thread: int) -> str:
    """What happened around step ``number``, at which a thread had lost its turn."""
    back = next((at for at in range(number + 1, len(steps)) if steps[at].thread == thread), len(steps))
    before = [touch for touch in _touches(steps[:number]) if touch.step.thread == thread]
    between = list(_touches(steps[number:back]))
    after = [touch for touch in _touches(steps[back:]) if touch.step.thread == thread]
    before.reverse()  # what it did last counts most
    seen: list[_Touch] = []
    for own in after:
        if any(one.meets(own) for one in seen):
            continue
        seen.append(own)
        told = (
            (_acted_on_the_past(before, between, own) or _half_done(before, between, own))
            if own.writes
            else (_torn(before, between, own) or _stale(before, between, own))
        )
        if told:
            return told
    return _gone_on(before, between)


def _touches(steps: Sequence[Step]) -> Iterator[_Touch]:
    for step in steps:
        for touched in step.touched:
            if touched[0] is not None:
                yield _Touch(step, touched)


def _first(touches: Sequence[_Touch], own: _Touch, *, writes: bool) -> _Touch | None:
    """The first among them of the same thing that writes it, or reads it."""
    return next((one for one in touches if one.writes is writes and one.meets(own)), None)


def _acted_on_the_past(before: list[_Touch], between: list[_Touch], own: _Touch) -> str:
    """Read, written by another, written."""
    other, read = _first(between, own, writes=True), _first(before, own, writes=False)
    if other is None or read is None:
        return ""
    if own.stores and not read.step.access.tests:
        return f"lost update: {other.deed()} between {own.who}'s reading it ({read.line}) and writing it ({own.line})"
    what = "test" if read.step.access.tests else "look"
    return (
        f"check, then act: {other.deed()} between {own.who}'s {what} ({read.line}) and {own.who}'s own "
        f"{_NOUNS.get(own.step.access.name, 'act')} ({own.line})"
    )


def _half_done(before: list[_Touch], between: list[_Touch], rest: _Touch) -> str:
    """Written, looked at by another, and only then the rest written."""
    seen = _first(between, rest, writes=False)
    first = next(
        (one for one in before if one.writes and not one.meets(rest) and _first(between, one, writes=False)), None
    )
    if seen is None or first is None:
        return ""
    if first.touched[0] != rest.touched[0]:
        return (
            f"published too early: {seen.deed()} after {first.who} had made it visible ({first.line}), and before "
            f"{rest.who} wrote it ({rest.line})"
        )
    return (
        f"torn read: {seen.deed()} between {first.who}'s writing {_name(first)} ({first.line}) and {_name(rest)} "
        f"({rest.line})"
    )


def _torn(before: list[_Touch], between: list[_Touch], second: _Touch) -> str:
    """Read one thing, both written by another, read the other one."""
    written = _first(between, second, writes=True)
    if written is None:
        return ""
    for first in before:
        if not first.writes and not first.meets(second) and _first(between, first, writes=True) is not None:
            return (
                f"torn read: {written.deed()} between {first.who}'s reading {_name(first)} ({first.line}) and "
                f"{_name(second)} ({second.line})"
            )
    return ""


def _stale(before: list[_Touch], between: list[_Touch], then: _Touch) -> str:
    """Read or written, written by another, and gone on with."""
    other, own = _first(between, then, writes=True), next((one for one in before if one.meets(then)), None)
    if other is None or own is None:
        return ""
    return (
        f"check, then act: {other.deed()} between {own.who}'s {own.doing} it ({own.line}) and {own.who}'s going on "
        f"with it ({then.line})"
    )


def _gone_on(before: list[_Touch], between: list[_Touch]) -> str:
    """Read or written, written by another, and not touched any more."""
    for own in before:
        other = _first(between, own, writes=True)
        if other is not None:
            return (
                f"check, then act: {other.deed()} after {own.who}'s {own.doing} it ({own.line}), who went on with that"
            )
    return ""


def _is_generator(touch: _Touch) -> bool:
    owner = touch.touched[0]
    return isinstance(owner, tuple) and owner[1] == "generator"


def _name(touch: _Touch) -> str:
    """What was touched, as a person calls it: ``Pool.busy``."""
    owner, what = touch.thing
    access = touch.step.access
    kind = owner[1] if isinstance(owner, tuple) else str(owner).rpartition(".")[2]
    if what not in ("[]", "()"):
        return what if owner == "cell" else f"{kind}.{what}"
    if isinstance(access.base, ast.Attribute) and not _is_generator(touch):
        owner_of = access.function.rpartition(".")[0].rpartition(".")[2]
        path = ast.unparse(access.base)
        return f"{owner_of}.{path[5:]}" if path.startswith("self.") and owner_of.isidentifier() else path
    is_function = access.kind == "call" and not access.name
    return access.base.id if isinstance(access.base, ast.Name) and not is_function else f"a {kind}"
