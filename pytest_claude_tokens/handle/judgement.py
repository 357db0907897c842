"""Which of the judge's findings a handle raises, and which errors of a test's body they must not replace."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.judge.violations import Unknown, Unserved, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_claude_tokens.handle.history_view import HistoryView
    from pytest_claude_tokens.judge.judging import Verdict

__all__ = ["Judgement", "replaceable"]

_SIGNALS = ("_pytest.outcomes", "hypothesis", "bdb")
"""Modules whose exceptions end a test without failing it, or tell its runner what to do next."""


def replaceable(error: BaseException) -> bool:
    """Whether a violation may replace ``error``, with which the body of a test ended.

    Errors that steer a test's runner must reach it: a skip, an expected failure, pytest's exit, Hypothesis's own
    exceptions, the end of a debugger's session, and any ``BaseException`` that is no ``Exception``. A violation is
    kept, too: the report shows it already.
    """
    if not isinstance(error, Exception) or isinstance(error, (Violation, _skip_test())):
        return False
    modules = [kind.__module__ for kind in type(error).__mro__]
    return not any(module == signal or module.startswith(signal + ".") for module in modules for signal in _SIGNALS)


def _skip_test() -> tuple[type[BaseException], ...]:
    """``unittest.SkipTest``, if ``unittest`` is imported; otherwise no test can have raised it."""
    case = sys.modules.get("unittest.case")
    return () if case is None else (case.SkipTest,)


class Judgement:
    """Judges a history at each call, and remembers which violations were raised."""

    def __init__(self, history: HistoryView, allow: Iterable[str], limit: int | None) -> None:
        self.allow: frozenset[str] = frozenset(allow)
        self.limit = limit
        self._history = history
        self._raised: set[tuple[object, ...]] = set()
        self._looked_at = 0

    def verdict(self) -> Verdict:
        """The verdict on the history so far."""
        return judge(self._history.taken(), allow=self.allow, limit=self.limit)

    def to_raise(self, verdict: Verdict, error: BaseException | None = None) -> Violation | Unserved | Unknown | None:
        """The finding to raise if the body ended with ``error``: the first violation that was not yet raised.

        It then counts as raised. ``Unserved`` comes next; any other UNKNOWN is returned only if the body passed.
        """
        left = self._not_yet_raised(verdict)
        if left and (error is None or replaceable(error)):
            first = left[0]
            first.others = tuple(left[1:])
            self._raised.add(_identity(first))
            return first
        if verdict.state != "UNKNOWN":
            return None
        if unserved := [str(note) for note in verdict.reasons if note.why == "unserved"]:
            return self._unserved(unserved) if error is None or replaceable(error) else None
        return Unknown("; ".join(map(str, verdict.reasons))) if error is None else None

    def _unserved(self, texts: list[str]) -> Unserved | None:
        """The finding, unless :meth:`check` has raised it already."""
        if (Unserved, texts[0]) in self._raised:
            return None
        self._raised.add((Unserved, texts[0]))
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        return Unserved(f"{texts[0]}{more}")

    def look(self) -> Violation | None:
        """The first violation since the last call; all violations so far then count as raised.

        UNKNOWN is not returned, as more may be known when the history has ended.
        """
        if len(self._history) == self._looked_at:
            return None
        self._looked_at = len(self._history)
        left = self._not_yet_raised(self.verdict())
        if not left:
            return None
        self._raised.update(map(_identity, left))
        left[0].others = tuple(left[1:])
        return left[0]

    def _not_yet_raised(self, verdict: Verdict) -> list[Violation]:
        return [violation for violation in verdict.violations if _identity(violation) not in self._raised]


def _identity(violation: Violation) -> tuple[object, ...]:
    """A key that is equal for the same violation in two verdicts: the judge creates new objects each time.

    Labels are no part of it: they get the account's name as soon as there is a second grant.
    """
    return violation.invariant, violation.seq, violation.grant, tuple(op.op for op in violation.operations)
