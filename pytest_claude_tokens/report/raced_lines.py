"""Which two lines raced, and how: the cause of a failure that needs a thread to lose its turn between two of them.

There are four kinds. What the preempted thread had done before, what others did meanwhile, and what it did then, to one
thing or to two that belong together, tells which it is.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_claude_tokens.simulation.naming import Touched
    from pytest_claude_tokens.simulation.watch import Step

__all__ = ["Touch", "name_of", "raced_lines", "split_race", "told_interpreter_lock", "who"]

_ADDS = frozenset({"add", "append", "appendleft", "extend", "insert", "put", "setdefault", "update"})
_TAKES = frozenset({"clear", "discard", "get_nowait", "pop", "popitem", "popleft", "remove"})
_NOUNS = {"add": "add", "append": "append", "remove": "removal", "discard": "removal", "pop": "pop", "put": "put"}
_WHOLE = "*"
_KINDS = ("check, then act: ", "lost update: ", "torn read: ", "published too early: ")


@dataclass(frozen=True, slots=True)
class Touch:
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

    def meets(self, other: Touch) -> bool:
        """Whether both touch the same item of the same thing."""
        one, two = self.touched[2], other.touched[2]
        return self.thing == other.thing and (one == two or _WHOLE in (one, two))

    @property
    def who(self) -> str:
        return who(self.step)

    @property
    def line(self) -> str:
        return self.step.access.line

    @property
    def verb(self) -> str:
        """What it did to the thing, as in "added to"."""
        name = self.step.access.name
        if _is_generator(self):
            return "went on with"
        if not self.writes:
            return "read"
        if self.stores:
            return "wrote"
        return "added to" if name in _ADDS else "took from" if name in _TAKES else "changed"

    def deed(self) -> str:
        """What it did, as in "w1 added to Pool.busy (pool.py:32)"."""
        return f"{self.who} {self.verb} {name_of(self)} ({self.line})"

    @property
    def doing(self) -> str:
        """The same as a noun."""
        return "running" if _is_generator(self) else "writing" if self.writes else "reading"


def who(step: Step) -> str:
    """Whose step it is: a worker's, or that of a thread which is none; the first thread of a run is the body's."""
    return f"w{step.worker}" if step.worker >= 0 else "a thread of the test" if step.thread else "the body"


@dataclass(frozen=True, slots=True)
class _Race:
    """A race in words, and the two accesses of one thread between which another thread's came."""

    text: str
    first: Touch
    second: Touch | None


def raced_lines(steps: Sequence[Step]) -> str:
    """The cause in words, naming a line of each of two workers; ``""`` where no thread was preempted, or none fits."""
    race = _race(steps)
    return "" if race is None else race.text


def split_race(cause: str) -> tuple[str, str]:
    """A cause that begins with a race, as :func:`raced_lines` tells it, in two: the race, and the rest."""
    if not cause.startswith(_KINDS):
        return "", cause
    race, _, rest = cause.partition("; ")
    return race, rest


def told_interpreter_lock(steps: Sequence[Step]) -> str:
    """Whether this build's interpreter lock may change hands where it had to for the race; ``""`` where there is none.

    CPython hands it on at calls and at the ends of loops only, so two accesses without any between them are one step.
    """
    race = _race(steps)
    if race is None or race.second is None or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return ""
    first, second = race.first.step, race.second.step
    where = f"within {first.access.line}"
    if first.access.line != second.access.line:
        where = f"between {first.access.line} and {second.access.line}"
    if _is_one_step([step for step in steps[_index(steps, first) : _index(steps, second) + 1] if step.touched]):
        return (
            f"interpreter lock: this build never hands it on by itself {where}; free-threaded Python has none, and the "
            "language promises nothing"
        )
    return (
        f"interpreter lock: no help, it may be handed on {where}; without it, in free-threaded Python, that is likelier"
    )


def _index(steps: Sequence[Step], step: Step) -> int:
    return next(number for number, one in enumerate(steps) if one is step)


def _is_one_step(steps: Sequence[Step]) -> bool:
    """Whether the thread of the last of these steps comes from the first to it with no point between to switch at.

    What lies between two instructions need not have been run: compilers put the end of a loop there.
    """
    own = [step.access for step in steps if step.thread == steps[-1].thread]
    return all(
        (one.function, one.stretch) == (two.function, two.stretch)
        and one.offset < two.offset
        and not any(one.offset < top and end < two.offset for top, end in two.rounds)
        for one, two in pairwise(own)
    )


def _race(steps: Sequence[Step]) -> _Race | None:
    preempted = [number for number, step in enumerate(steps) if not step.touched]
    if not preempted:
        return None
    moments = [(number, steps[number].thread) for number in preempted]
    moments += [  # who went on meanwhile, and had to wait for the first one
        (number, steps[number - 1].thread)
        for number in range(preempted[0] + 1, len(steps))
        if steps[number].thread != steps[number - 1].thread
    ]
    return next(filter(None, (_around(steps, *moment) for moment in moments)), None)


def _around(steps: Sequence[Step], number: int, thread: int) -> _Race | None:
    """What happened around step ``number``, at which a thread had lost its turn."""
    back = next((at for at in range(number + 1, len(steps)) if steps[at].thread == thread), len(steps))
    before = [touch for touch in _touches(steps[:number]) if touch.step.thread == thread]
    between = list(_touches(steps[number:back]))
    after = [touch for touch in _touches(steps[back:]) if touch.step.thread == thread]
    before.reverse()  # what it did last counts most
    seen: list[Touch] = []
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
    return _gone_on(before, between) or _shown_too_soon(before, between, after)


def _touches(steps: Sequence[Step]) -> Iterator[Touch]:
    for step in steps:
        for touched in step.touched:
            if touched[0] is not None:
                yield Touch(step, touched)


def _first(touches: Sequence[Touch], own: Touch, *, writes: bool) -> Touch | None:
    """The first among them of the same thing that writes it, or reads it."""
    return next((one for one in touches if one.writes is writes and one.meets(own)), None)


def _acted_on_the_past(before: list[Touch], between: list[Touch], own: Touch) -> _Race | None:
    """Read, written by another, written."""
    other, read = _first(between, own, writes=True), _first(before, own, writes=False)
    if other is None or read is None:
        return None
    if own.stores and not read.step.access.tests:
        lost = f"lost update: {other.deed()} between {own.who}'s reading it ({read.line}) and writing it ({own.line})"
        return _Race(lost, read, own)
    what = "test" if read.step.access.tests else "look"
    text = (
        f"check, then act: {other.deed()} between {own.who}'s {what} ({read.line}) and {own.who}'s own "
        f"{_NOUNS.get(own.step.access.name, 'act')} ({own.line})"
    )
    return _Race(text, read, own)


def _half_done(before: list[Touch], between: list[Touch], rest: Touch) -> _Race | None:
    """Written, looked at by another, and only then the rest written."""
    seen = _first(between, rest, writes=False)
    first = next(
        (one for one in before if one.writes and not one.meets(rest) and _first(between, one, writes=False)), None
    )
    if seen is None or first is None:
        return None
    if first.touched[0] != rest.touched[0]:
        text = (
            f"published too early: {seen.deed()} after {first.who} had made it visible ({first.line}), and before "
            f"{rest.who} wrote it ({rest.line})"
        )
    else:
        text = (
            f"torn read: {seen.deed()} between {first.who}'s writing {name_of(first)} ({first.line}) and "
            f"{name_of(rest)} ({rest.line})"
        )
    return _Race(text, first, rest)


def _shown_too_soon(before: list[Touch], between: list[Touch], after: list[Touch]) -> _Race | None:
    """Written, looked at by another, and then something else written that the other may have read unseen."""
    first = next((one for one in before if one.writes and _first(between, one, writes=False)), None)
    rest = next((one for one in after if one.writes), None)
    if first is None or rest is None:
        return None
    seen = _first(between, first, writes=False)
    assert seen is not None
    text = (
        f"published too early: {seen.deed()} after {first.who} had made it visible ({first.line}), and before "
        f"{rest.who} {rest.verb} {name_of(rest)} ({rest.line})"
    )
    return _Race(text, first, rest)


def _torn(before: list[Touch], between: list[Touch], second: Touch) -> _Race | None:
    """Read one thing, both written by another, read the other one."""
    written = _first(between, second, writes=True)
    if written is None:
        return None
    for first in before:
        if not first.writes and not first.meets(second) and _first(between, first, writes=True) is not None:
            text = (
                f"torn read: {written.deed()} between {first.who}'s reading {name_of(first)} ({first.line}) and "
                f"{name_of(second)} ({second.line})"
            )
            return _Race(text, first, second)
    return None


def _stale(before: list[Touch], between: list[Touch], then: Touch) -> _Race | None:
    """Read or written, written by another, and gone on with."""
    other, own = _first(between, then, writes=True), next((one for one in before if one.meets(then)), None)
    if other is None or own is None:
        return None
    text = (
        f"check, then act: {other.deed()} between {own.who}'s {own.doing} it ({own.line}) and {own.who}'s going on "
        f"with it ({then.line})"
    )
    return _Race(text, own, then)


def _gone_on(before: list[Touch], between: list[Touch]) -> _Race | None:
    """Read or written, written by another, and not touched any more."""
    for own in before:
        other = _first(between, own, writes=True)
        if other is not None:
            text = (
                f"check, then act: {other.deed()} after {own.who}'s {own.doing} it ({own.line}), who went on with that"
            )
            return _Race(text, own, None)
    return None


def _is_generator(touch: Touch) -> bool:
    owner = touch.touched[0]
    return isinstance(owner, tuple) and owner[1] == "generator"


def name_of(touch: Touch) -> str:
    """What was touched, as a person calls it: ``Pool.busy``."""
    owner, what = touch.thing
    access = touch.step.access
    kind = owner[1] if isinstance(owner, tuple) else str(owner).rpartition(".")[2]
    if what not in ("[]", "()"):
        return what if owner == "cell" else f"{kind}.{what}"
    if isinstance(access.base, ast.Attribute) and not _is_generator(touch):
        function = access.function
        while function.endswith(">"):  # a comprehension's, or a lambda's: what it is in
            function = function.rpartition(".<locals>.")[0]
        owner_of = function.rpartition(".")[0].rpartition(".")[2]
        path = ast.unparse(access.base)
        return f"{owner_of}.{path[5:]}" if path.startswith("self.") and owner_of.isidentifier() else path
    is_function = access.kind == "call" and not access.name
    return access.base.id if isinstance(access.base, ast.Name) and not is_function else f"a {kind}"
