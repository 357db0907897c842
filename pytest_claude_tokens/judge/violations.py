"""The invariants by name, and the exceptions that are raised when one is broken.

Every class here is an :class:`AssertionError` that carries data and one short sentence; the report makes a story of
them. Their ``__module__`` is ``claude_tokens``, because pytest prints it in front of the class, and a summary line of
80 columns has no room for more.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from fake_server.secrecy import printable
from pytest_claude_tokens.judge.wording import HEADLINE_LENGTH, clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_claude_tokens.judge.history import Operation

__all__ = [
    "DEFAULT",
    "INVARIANTS",
    "STORE_INVARIANTS",
    "VIOLATIONS",
    "BlindReplay",
    "CoSchedule",
    "Deadlock",
    "DoubleSpend",
    "ForcedLogin",
    "LostRotation",
    "MissingBearer",
    "Nondeterministic",
    "NothingRaced",
    "RefreshStorm",
    "StaleBearer",
    "Starvation",
    "StoreRegression",
    "TokenLeak",
    "Unknown",
    "Unserved",
    "Violation",
]


class _Finding(AssertionError):
    """The base of all classes here: sets their public module, and makes them picklable for pytest-xdist."""

    def __init__(self, text: str) -> None:
        # pytest prints it as it is, and the names in it are those that somebody gave to threads, stores or workers.
        super().__init__(printable(text, keep="\n"))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__module__ = "claude_tokens"
        _CLASSES[cls.__name__] = cls

    def __reduce__(self) -> tuple[Any, ...]:
        # By name, as no module `claude_tokens` can be imported. The state includes evidence attached later.
        return _rebuild, (type(self).__name__, self.args, dict(self.__dict__))


_CLASSES: dict[str, type[_Finding]] = {}


def _rebuild(name: str, args: tuple[Any, ...], state: dict[str, Any]) -> _Finding:
    cls = _CLASSES[name]
    finding = cls.__new__(cls, *args)
    finding.__dict__.update(state)
    return finding


class Violation(_Finding):
    """An invariant was broken.

    ``seq`` is the number of the event that completed it (``at_end``: it can only be known at the end).
    ``operations`` are the requests that caused it, in order; ``labels`` the tokens' display names; ``more`` how often
    the same happened again. ``excuse``: why this is only worth a note, or ``""``.
    """

    invariant: ClassVar[str] = ""

    def __init__(
        self,
        headline: str,
        *,
        seq: int,
        at_end: bool = False,
        operations: Iterable[Operation] = (),
        labels: Iterable[str] = (),
        actors: Iterable[str] = (),
        grant: str | None = None,
        cause: str = "",
        more: int = 0,
        excuse: str = "",
    ) -> None:
        super().__init__(clip(" ".join(headline.split()), HEADLINE_LENGTH))
        self.seq = seq
        self.at_end = at_end
        self.operations: tuple[Operation, ...] = tuple(operations)
        self.labels: tuple[str, ...] = tuple(labels)
        self.actors: tuple[str, ...] = tuple(actors) or tuple(dict.fromkeys(op.actor for op in self.operations))
        self.grant = grant
        self.cause = cause
        self.more = more
        self.excuse = excuse
        self.others: tuple[Violation, ...] = ()

    @property
    def headline(self) -> str:
        """The one sentence, at most :data:`~pytest_claude_tokens.judge.wording.HEADLINE_LENGTH` characters."""
        return str(self)

    @property
    def order(self) -> tuple[bool, int, int]:
        """The sort key: the completing event, violations known only at the end last, then the order of names."""
        return self.at_end, self.seq, INVARIANTS.index(self.invariant)


class DoubleSpend(Violation):
    """A refresh token was sent again while its first request was open, or after that request had succeeded."""

    invariant = "double-spend"


class BlindReplay(Violation):
    """A refresh token was sent again although the outcome of its first request was unknown."""

    invariant = "blind-replay"


class CoSchedule(Violation):
    """More workers than allowed had a call open on one bearer."""

    invariant = "co-schedule"


class LostRotation(Violation):
    """A live grant ended with no refresh token in its stores that the service would accept."""

    invariant = "lost-rotation"


class ForcedLogin(Violation):
    """A grant was left without a live refresh token in a worker or store: a person must log in again."""

    invariant = "forced-login"


class StaleBearer(Violation):
    """A worker presented a bearer again after it had been refused as expired or revoked."""

    invariant = "stale-bearer"


class RefreshStorm(Violation):
    """A grant had more refresh requests than access tokens that ended, plus one; or a new pair was refreshed again."""

    invariant = "refresh-storm"


class MissingBearer(Violation):
    """A call carried neither bearer nor API key although the dispatcher had a live login."""

    invariant = "missing-bearer"


class Starvation(Violation):
    """A job did not end within its time limit."""

    invariant = "starvation"


class Deadlock(Violation):
    """Workers wait for one another, and nothing else can run."""

    invariant = "starvation"


class StoreRegression(Violation):
    """A store changed from a refresh token that the service accepts to one that it doesn't accept, or to none."""

    invariant = "store-regression"


class TokenLeak(Violation):
    """A live token was seen where others can read it."""

    invariant = "token-leak"


class NothingRaced(_Finding):
    """In no schedule was a judged request open while another worker's job was under way: the search proved nothing."""


class Unknown(_Finding):
    """The verdict UNKNOWN as an exception: a worker stuck outside the simulation, or a torn history."""


class Unserved(_Finding):
    """A refresh token of the service was sent where the service has no endpoint: the test doubles another service."""


class Nondeterministic(_Finding):
    """Two runs of one schedule differ."""


VIOLATIONS: Mapping[str, type[Violation]] = MappingProxyType(
    {
        cls.invariant: cls
        for cls in (
            DoubleSpend,
            BlindReplay,
            CoSchedule,
            LostRotation,
            ForcedLogin,
            StaleBearer,
            RefreshStorm,
            MissingBearer,
            Starvation,
            StoreRegression,
            TokenLeak,
        )
    }
)
"""The class of each invariant, by name (for ``starvation`` that of a single worker)."""

INVARIANTS: tuple[str, ...] = tuple(VIOLATIONS)
"""The names of the invariants; their order breaks ties."""

STORE_INVARIANTS: frozenset[str] = frozenset(("lost-rotation", "store-regression"))
"""Invariants that fail a test only if it watches a store."""

DEFAULT: frozenset[str] = frozenset(INVARIANTS) - STORE_INVARIANTS
"""Invariants that always fail a test."""
