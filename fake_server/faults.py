"""Injected faults, as values. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from fake_server.secrecy import discreet_class, safe_text, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["COMMITTED", "Fault", "FaultKind", "RequestKind"]

FaultKind = Literal[
    "lost-reply", "reset", "timeout", "garbage", "truncated", "burst", "status", "delay", "quota", "html", "moved"
]
RequestKind = Literal["token", "call"]
Window = Literal["five_hour", "seven_day"]

_KINDS = get_args(FaultKind)
_WINDOWS = get_args(Window)

COMMITTED: frozenset[FaultKind] = frozenset(("lost-reply", "garbage", "truncated"))
"""Kinds of faults that strike after the service has committed, besides ``delay(after_commit=True)``."""


@discreet_class
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that strikes a request.

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
        if not isinstance(self.after_commit, bool):
            raise TypeError(f"Fault(after_commit={shown(self.after_commit)}): must be True or False")
        for name, number in (("code", self.code), ("seconds", self.seconds)):
            if not (number is None or isinstance(number, int | float)):
                raise TypeError(f"Fault({name}={shown(number)}): must be a number")

    if TYPE_CHECKING:  # at run time Hypothesis would take annotated constants for fields, and print them
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
            raise ValueError(f"Fault.status({code}): must be an error status, 400 to 599")
        return cls(kind="status", code=code, seconds=retry_after)

    @classmethod
    def delay(cls, seconds: float, after_commit: bool = False) -> Fault:
        """Take ``seconds`` longer, before the commit or after it."""
        if not seconds >= 0:
            raise ValueError(f"Fault.delay({seconds}): must be seconds, 0 or more")
        return cls(kind="delay", seconds=seconds, after_commit=after_commit)

    @classmethod
    def quota(cls, window: Window = "five_hour") -> Fault:
        """429 with the usage headers of a used-up ``window``."""
        if window not in ("five_hour", "seven_day"):
            raise ValueError(f"Fault.quota({shown(window)}): must be five_hour or seven_day")
        return cls(kind="quota", code=429, window=window)

    @classmethod
    def html(cls, code: int = 403) -> Fault:
        """An edge's challenge page instead of JSON (anthropics/claude-code#66844)."""
        return cls(kind="html", code=code)

    @classmethod
    def moved(cls) -> Fault:
        """404, as if the endpoint had moved (anthropics/claude-code#27933)."""
        return cls(kind="moved", code=404)

    @property
    def commits(self) -> bool:
        """Whether the service has committed when this fault strikes."""
        return self.kind in COMMITTED or self.after_commit

    @property
    def answers(self) -> bool:
        """Whether this fault replaces the service's reply by a complete reply of its own."""
        return self.kind in ("burst", "status", "quota", "html", "moved")

    def to_dict(self) -> dict[str, Any]:
        """The fault as a JSON object: its ``kind``, and the arguments that differ from their defaults."""
        _, takes = _FORMS[self.kind]
        given = {name: getattr(self, field) for name, field in takes.items()}
        changed = {name: value for name, value in given.items() if name not in _USUAL or value != _USUAL[name]}
        return {"kind": self.kind, **changed}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Fault:
        """The fault that :meth:`to_dict` has written.

        Raises ``ValueError`` for an unknown kind, for arguments that the kind doesn't have, and for invalid values;
        ``TypeError`` for a missing argument.
        """
        arguments = dict(value)
        kind = arguments.pop("kind", "")
        if kind not in _FORMS:
            raise ValueError(f"no fault is named {shown(kind)}; there are {', '.join(_FORMS)}")
        make, takes = _FORMS[kind]
        if wrong := [name for name in arguments if name not in takes]:
            raise ValueError(f"the fault {kind} has no {', '.join(map(safe_text, wrong))}")
        return make(**arguments)

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

_FORMS: dict[str, tuple[Callable[..., Fault], dict[str, str]]] = {
    "lost-reply": (lambda: Fault.LOST_REPLY, {}),
    "reset": (lambda: Fault.RESET, {}),
    "timeout": (lambda: Fault.TIMEOUT, {}),
    "garbage": (lambda: Fault.GARBAGE, {}),
    "truncated": (lambda: Fault.TRUNCATED, {}),
    "burst": (lambda: Fault.BURST, {}),
    "moved": (Fault.moved, {}),
    "status": (Fault.status, {"code": "code", "retry_after": "seconds"}),
    "delay": (Fault.delay, {"seconds": "seconds", "after_commit": "after_commit"}),
    "quota": (Fault.quota, {"window": "window"}),
    "html": (Fault.html, {"code": "code"}),
}
"""For each kind of fault, the function that creates it, and the field that holds each of its arguments."""

_USUAL = {"retry_after": None, "after_commit": False, "window": "five_hour"}
"""The defaults of arguments, which :meth:`Fault.to_dict` omits."""
