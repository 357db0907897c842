"""Between the judge and whoever is to be told: what to raise, and what must not be replaced by it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from fake_server.secrecy import shown
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.judge.violations import INVARIANTS, Unknown, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fake_server.events import Event
    from fake_server.server import Server
    from pytest_claude_tokens.judge.history import Operation
    from pytest_claude_tokens.judge.judging import Verdict

__all__ = ["HistoryView", "Judgement", "replaceable"]

_SIGNALS = ("_pytest.outcomes", "hypothesis", "bdb")
"""Modules whose exceptions end a test without failing it, or tell its runner what to do next."""


def replaceable(error: BaseException) -> bool:
    """Whether a violation may take the place of ``error``, which has ended the body of a test.

    Not of a skip, an expected failure, pytest's exit, what Hypothesis steers by, the end of a debugger's session; and
    of no BaseException. Nor of a violation: that one was told first.
    """
    if not isinstance(error, Exception) or isinstance(error, (Violation, _skip_test())):
        return False
    modules = [kind.__module__ for kind in type(error).__mro__]
    return not any(module == signal or module.startswith(signal + ".") for module in modules for signal in _SIGNALS)


def _skip_test() -> tuple[type[BaseException], ...]:
    """``unittest.SkipTest``, if anybody has imported it."""
    case = sys.modules.get("unittest.case")
    return () if case is None else (case.SkipTest,)


class HistoryView:
    """The history of a running service: what is asked of it is answered as of now.

    Iterates over the events in order, without the header; ``operations`` are the requests.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._taken: History | None = None

    def taken(self) -> History:
        """The history so far, as a value."""
        journal = self._server.journal
        with self._server.lock:
            if self._taken is None or len(self._taken) != len(journal.events):
                self._taken = History(journal.header, journal.events)
            return self._taken

    @property
    def header(self) -> Event:
        """The first line of the history: policy, clock, limit."""
        return self._server.journal.header

    @property
    def events(self) -> tuple[Event, ...]:
        """The events so far."""
        return self.taken().events

    @property
    def operations(self) -> list[Operation]:
        """The requests so far, in the order of their arrival."""
        return self.taken().operations

    def __iter__(self) -> Iterator[Event]:
        return iter(self.taken())

    def __len__(self) -> int:
        return len(self.taken())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.taken(), name)  # whatever else a history can say

    def __repr__(self) -> str:
        return repr(self.taken())


class Judgement:
    """Judges a history, as often as it is asked, and remembers what was raised."""

    def __init__(self, history: HistoryView, allow: Iterable[str], limit: int) -> None:
        self.allow = frozenset((allow,) if isinstance(allow, str) else allow)
        self.limit = limit
        unknown = self.allow.difference(INVARIANTS)
        if unknown:
            raise ValueError(
                f"allow: no invariant is named {', '.join(map(shown, sorted(unknown)))}; "
                f"they are {', '.join(INVARIANTS)}"
            )
        if type(limit) is not int or limit < 1:
            raise ValueError(f"limit={shown(limit)}: a number of workers, at least 1")
        self._history = history
        self._raised: set[tuple[object, ...]] = set()

    def verdict(self) -> Verdict:
        """The verdict on the history so far."""
        return judge(self._history.taken(), allow=self.allow, limit=self.limit)

    def to_raise(self, verdict: Verdict, error: BaseException | None = None) -> Violation | Unknown | None:
        """What is to be raised, where the body ended with ``error``: the first violation not yet raised.

        It is then taken as raised. UNKNOWN is raised only where the body passed.
        """
        left = [violation for violation in verdict.violations if _identity(violation) not in self._raised]
        if left and (error is None or replaceable(error)):
            first = left[0]
            first.others = tuple(left[1:])
            self._raised.add(_identity(first))
            return first
        if error is None and verdict.state == "UNKNOWN":
            return Unknown("; ".join(map(str, verdict.reasons)))
        return None


def _identity(violation: Violation) -> tuple[object, ...]:
    """The judge makes new objects each time; what they stand for stays.

    Not their labels: those get the account's name as soon as there is a second grant.
    """
    return violation.invariant, violation.seq, violation.grant, tuple(op.op for op in violation.operations)
