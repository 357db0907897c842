"""What goes wrong, as values, and the list of what is to go wrong next. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from fake_server.secrecy import discreet_class, shown

__all__ = ["COMMITTED", "Fault", "FaultKind", "FaultPlan", "Target"]

FaultKind = Literal[
    "lost-reply", "reset", "timeout", "garbage", "truncated", "burst", "status", "delay", "quota", "html", "moved"
]
Target = Literal["token", "call"]
Window = Literal["five_hour", "seven_day"]

_KINDS = get_args(FaultKind)
_WINDOWS = get_args(Window)

COMMITTED: frozenset[FaultKind] = frozenset(("lost-reply", "garbage", "truncated"))
"""Faults that strike after the service has committed; ``delay(after_commit=True)`` is the other one."""


@discreet_class
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that can go wrong with a request.

    ``LOST_REPLY``: committed, then the connection drops. ``RESET``: reset before the commit. ``TIMEOUT``: never
    committed, never answered. ``GARBAGE``: committed, the reply is not HTTP. ``TRUNCATED``: committed, the body is
    cut short. ``BURST``: 429 without the usage headers (anthropics/claude-code#53922).
    """

    kind: FaultKind
    code: int | None = None
    seconds: float | None = None
    after_commit: bool = False
    window: Window = "five_hour"

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"Fault(kind={shown(self.kind)}): choose one of {', '.join(_KINDS)}")
        if self.window not in _WINDOWS:
            raise ValueError(f"Fault(window={shown(self.window)}): choose one of {', '.join(_WINDOWS)}")
        for name, number in (("code", self.code), ("seconds", self.seconds)):
            if not (number is None or isinstance(number, int | float)):
                raise TypeError(f"Fault({name}={shown(number)}): must be a number")

    if TYPE_CHECKING:  # at run time Hypothesis takes annotated constants for fields, and prints them in one another
        LOST_REPLY: ClassVar[Fault]
        RESET: ClassVar[Fault]
        TIMEOUT: ClassVar[Fault]
        GARBAGE: ClassVar[Fault]
        TRUNCATED: ClassVar[Fault]
        BURST: ClassVar[Fault]

    @classmethod
    def status(cls, code: int, retry_after: float | None = None) -> Fault:
        """Answer with HTTP ``code``, uncommitted, with ``Retry-After`` in seconds where given."""
        if not 400 <= code <= 599:
            raise ValueError(f"Fault.status({code}): an error status is 400 to 599")
        return cls(kind="status", code=code, seconds=retry_after)

    @classmethod
    def delay(cls, seconds: float, after_commit: bool = False) -> Fault:
        """Take ``seconds`` longer, before the commit or after it."""
        if not seconds >= 0:
            raise ValueError(f"Fault.delay({seconds}): seconds, 0 or more")
        return cls(kind="delay", seconds=seconds, after_commit=after_commit)

    @classmethod
    def quota(cls, window: Window = "five_hour") -> Fault:
        """429 with the usage headers of a used-up ``window``."""
        if window not in ("five_hour", "seven_day"):
            raise ValueError(f"Fault.quota({shown(window)}): five_hour or seven_day")
        return cls(kind="quota", code=429, window=window)

    @classmethod
    def html(cls, code: int = 403) -> Fault:
        """An edge's challenge page instead of JSON (anthropics/claude-code#66844)."""
        return cls(kind="html", code=code)

    @classmethod
    def moved(cls) -> Fault:
        """404: the endpoint has moved (anthropics/claude-code#27933)."""
        return cls(kind="moved", code=404)

    @property
    def commits(self) -> bool:
        """Whether the service has committed when this strikes."""
        return self.kind in COMMITTED or self.after_commit

    @property
    def answers(self) -> bool:
        """Whether this is a complete reply of its own, in place of the service's."""
        return self.kind in ("burst", "status", "quota", "html", "moved")

    def __str__(self) -> str:
        if self.kind == "status":
            return f"status({self.code})"
        if self.kind == "delay":
            return f"delay({self.seconds:g}{', after_commit' if self.after_commit else ''})"
        return f"quota({self.window})" if self.kind == "quota" else self.kind


Fault.LOST_REPLY = Fault(kind="lost-reply")
Fault.RESET = Fault(kind="reset")
Fault.TIMEOUT = Fault(kind="timeout")
Fault.GARBAGE = Fault(kind="garbage")
Fault.TRUNCATED = Fault(kind="truncated")
Fault.BURST = Fault(kind="burst", code=429)


@dataclass(slots=True)
class _Planned:
    target: Target
    fault: Fault
    left: int
    account: str | None
    skip: int


class FaultPlan:
    """The faults that are still to come, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def add(self, target: Target, fault: Fault, *, count: int = 1, account: str | None = None, skip: int = 0) -> None:
        """The next ``count`` requests of that kind (after ``skip`` of them) meet ``fault``."""
        if target not in ("token", "call"):
            raise ValueError(f'a fault strikes a "token" or a "call" request, not {shown(target)}')
        if count < 1:
            raise ValueError(f"count={count}: at least 1")
        self._planned.append(_Planned(target, fault, count, account, skip))

    def take(self, target: str, account: str | None) -> Fault | None:
        """The fault that the request which has just arrived meets, if any."""
        for planned in self._planned:
            if planned.target != target or planned.account not in (None, account):
                continue
            if planned.skip:
                planned.skip -= 1
                continue
            planned.left -= 1
            if not planned.left:
                self._planned.remove(planned)
            return planned.fault
        return None
