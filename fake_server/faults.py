"""Injected faults, as values. Sans-IO."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from fake_server.genuine import json
from fake_server.limits import OF_THE_CONNECTION, count_refusal, header_refusal, plain, seconds_refusal
from fake_server.secrecy import brief, discreet_class, is_name, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COMMITTED", "Fault", "FaultKind", "RequestKind", "Target"]

FaultKind = Literal[
    "lost-reply",
    "reset",
    "timeout",
    "garbage",
    "truncated",
    "burst",
    "status",
    "delay",
    "stall",
    "quota",
    "html",
    "moved",
]
RequestKind = Literal["token", "call"]
Target = Literal["token", "call", "metadata", "authorize", "revoke", "introspect", "register", "device", "userinfo"]
"""The kinds of requests that a fault may strike, where the service has such endpoints."""
Window = Literal["five_hour", "seven_day"]
Part = Literal["head", "body"]

_KINDS = get_args(FaultKind)

COMMITTED: frozenset[FaultKind] = frozenset(("lost-reply", "garbage", "truncated", "stall"))
"""Kinds of faults that strike after the service has committed, besides those with ``after_commit=True``."""


@discreet_class
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that strikes a request.

    ``LOST_REPLY``: committed, then the connection drops. ``RESET``: reset before the commit. ``TIMEOUT``: never
    committed, never answered. ``GARBAGE``: committed, the reply is not HTTP. ``TRUNCATED``: committed, the body is
    cut short. ``BURST``: 429 without the usage headers (anthropics/claude-code#53922).

    An argument that a kind of fault can't honour is an error, as is one that it lacks.
    """

    kind: FaultKind
    code: int | None = None
    seconds: float | None = None
    after_commit: bool = False
    window: Window = "five_hour"
    part: Part = "head"
    body: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"Fault(kind={shown(self.kind)}): choose one of {', '.join(_KINDS)}")
        if self.kind in _CODES:
            object.__setattr__(self, "code", _CODES[self.kind] if self.code is None else self.code)
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if name in _TAKEN[self.kind]:
                _CHECKS[name](self, value)
            elif value != default and value != _CODES.get(self.kind):
                hint = (
                    " (it always strikes after the commit)" if name == "after_commit" and self.kind in COMMITTED else ""
                )
                raise ValueError(f"Fault({name}={shown(value)}): {self.kind!r} takes no {name}{hint}")
        if self.seconds is not None:
            object.__setattr__(self, "seconds", plain(self.seconds))

    if TYPE_CHECKING:  # at run time Hypothesis would take annotated constants for fields, and print them
        LOST_REPLY: ClassVar[Fault]
        RESET: ClassVar[Fault]
        TIMEOUT: ClassVar[Fault]
        GARBAGE: ClassVar[Fault]
        TRUNCATED: ClassVar[Fault]
        BURST: ClassVar[Fault]

    @classmethod
    def status(
        cls,
        code: int,
        retry_after: float | None = None,
        *,
        after_commit: bool = False,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Answer with HTTP ``code``, uncommitted unless ``after_commit``, with ``Retry-After`` in seconds where given.

        ``body`` is JSON (``{"error": "use_dpop_nonce"}``) or text, by default what the service says to such a status;
        ``headers`` are added to its own, or replace them. Raises ``ValueError`` for a code that is no error status (400
        to 599), and for headers that belong to the connection.
        """
        return cls(
            kind="status",
            code=code,
            seconds=retry_after,
            after_commit=after_commit,
            body=_body_text(body),
            headers=tuple(dict(headers or {}).items()),
        )

    @classmethod
    def delay(cls, seconds: float, after_commit: bool = False) -> Fault:
        """Take ``seconds`` longer, before the commit or after it."""
        return cls(kind="delay", seconds=seconds, after_commit=after_commit)

    @classmethod
    def stall(cls, seconds: float, part: Part = "head") -> Fault:
        """Do what was asked at once, and hold back a part of the reply for ``seconds``.

        ``head``: a stream that begins late, with not even a status until then. ``body``: status, headers and the
        beginning of the body come at once, the rest late.
        """
        return cls(kind="stall", seconds=seconds, part=part)

    @classmethod
    def quota(cls, window: Window = "five_hour") -> Fault:
        """429 with the usage headers of a used-up ``window``."""
        return cls(kind="quota", window=window)

    @classmethod
    def html(cls, code: int = 403) -> Fault:
        """An edge's challenge page instead of JSON (anthropics/claude-code#66844)."""
        return cls(kind="html", code=code)

    @classmethod
    def moved(cls) -> Fault:
        """404, as if the endpoint had moved (anthropics/claude-code#27933)."""
        return cls(kind="moved")

    @property
    def commits(self) -> bool:
        """Whether the service has committed when this fault strikes."""
        return self.kind in COMMITTED or self.after_commit

    @property
    def late_seconds(self) -> float:
        """The seconds between the commit and the first byte of the reply."""
        waits = self.after_commit if self.kind == "delay" else self.kind == "stall" and self.part == "head"
        return (self.seconds or 0.0) if waits else 0.0

    @property
    def answers(self) -> bool:
        """Whether this fault replaces the service's reply by a complete reply of its own."""
        return self.kind in ("burst", "status", "quota", "html", "moved")

    def to_dict(self) -> dict[str, Any]:
        """The fault as a JSON object: its ``kind``, and the arguments that differ from their defaults."""
        _, takes = _FORMS[self.kind]
        given = {name: getattr(self, stored) for name, stored in takes.items()}
        changed = {name: value for name, value in given.items() if name not in _USUAL or value != _USUAL[name]}
        if self.headers:
            changed["headers"] = dict(self.headers)
        return {"kind": self.kind, **changed}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Fault:
        """The fault that :meth:`to_dict` has written.

        Raises ``ValueError`` for an unknown kind, for arguments that the kind doesn't have, for one that it needs and
        is missing, and for invalid values.
        """
        arguments = dict(value)
        kind = arguments.pop("kind", "")
        if not isinstance(kind, str) or kind not in _FORMS:
            raise ValueError(f"no fault is named {shown(kind)}; there are {', '.join(_FORMS)}")
        make, takes = _FORMS[kind]
        if wrong := [name for name in arguments if name not in takes]:
            raise ValueError(f"the fault {kind} has no {brief(*wrong)}")
        if missing := [name for name in _NEEDED.get(kind, ()) if name not in arguments]:
            raise ValueError(f"the fault {kind} needs {' and '.join(missing)}")
        for name, argument in arguments.items():  # in the words of the object, which may be one of JSON
            if why := _refusal(kind, takes[name], argument):
                raise ValueError(f"{name}={shown(argument)}: {why}")
        return make(**arguments)

    def __str__(self) -> str:
        if self.kind == "status":
            words = " ".join(map(str, (self.code, *self._error_code())))
        elif self.kind == "delay":
            words = f"{self.seconds:g}"
        elif self.kind == "stall":
            words = f"{self.seconds:g}, {self.part}"
        else:
            return f"quota({self.window})" if self.kind == "quota" else self.kind
        return f"{self.kind}({words}{', after_commit' if self.after_commit else ''})"

    def _error_code(self) -> list[str]:
        """The ``error`` in its body (RFC 6749 section 5.2), if there is one."""
        try:
            error = json.loads(self.body or "{}").get("error")
        except (ValueError, AttributeError, RecursionError):
            return []
        return [error] if isinstance(error, str) and _ERROR_CODE.fullmatch(error) and is_name(error) else []


# Checks of arguments, by the field in which they are stored.

_ERROR_CODE = re.compile(r"[a-z][a-z_]{0,39}")


def _body_text(body: object) -> str | None:
    try:
        if isinstance(body, str):
            body.encode()  # half of a surrogate pair is no text
            return body
        return None if body is None else json.dumps(body, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"Fault.status(body={shown(body)}): must be JSON, or text") from None


def _refusal(kind: FaultKind | str, name: str, value: object) -> str:
    """Why a number can't be taken for the field ``name``; ``""`` if it can, or for another field."""
    if name == "code":
        return "must be an error status, 400 to 599" if count_refusal(value, 400, 599) else ""
    if name == "seconds":  # None: no Retry-After
        return "" if value is None and kind == "status" else seconds_refusal(value)
    return ""


def _check_number(name: str) -> Callable[[Fault, Any], None]:
    def check(fault: Fault, value: object) -> None:
        if why := _refusal(fault.kind, name, value):
            raise ValueError(f"Fault.{fault.kind}({shown(value)}): {why}")

    return check


def _check_after_commit(_: Fault, after_commit: object) -> None:
    if not isinstance(after_commit, bool):
        raise ValueError(f"Fault(after_commit={shown(after_commit)}): must be True or False")


def _check_window(_: Fault, window: object) -> None:
    if window not in get_args(Window):
        raise ValueError(f"Fault.quota({shown(window)}): must be five_hour or seven_day")


def _check_part(_: Fault, part: object) -> None:
    if part not in get_args(Part):
        raise ValueError(f"Fault.stall(part={shown(part)}): must be head or body")


def _check_body(_: Fault, body: object) -> None:
    if not (body is None or isinstance(body, str)):
        raise ValueError(f"Fault(body={shown(body)}): must be text; Fault.status() also takes JSON")


def _check_headers(fault: Fault, headers: object) -> None:
    if not (isinstance(headers, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in headers)):
        raise ValueError("Fault(headers=…): must be pairs of name and value; Fault.status() takes a mapping of them")
    for name, value in headers:
        if why := header_refusal(name, value):
            raise ValueError(f"Fault.status(headers=…): {why}")
        if name.lower() in OF_THE_CONNECTION:
            raise ValueError(f"Fault.status(headers=…): {name} is the connection's: the service sets it itself")
        if name.lower() == "retry-after" and fault.seconds is not None:
            raise ValueError("Fault.status(headers=…): there is a retry_after already")


_CHECKS: dict[str, Callable[[Fault, Any], None]] = {
    "code": _check_number("code"),
    "seconds": _check_number("seconds"),
    "after_commit": _check_after_commit,
    "window": _check_window,
    "part": _check_part,
    "body": _check_body,
    "headers": _check_headers,
}
_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Fault) if f.name != "kind"}
_CODES: dict[str, int] = {"burst": 429, "quota": 429, "moved": 404, "html": 403}
"""The status of a kind that has one of its own."""

_FORMS: dict[str, tuple[Callable[..., Fault], dict[str, str]]] = {
    "lost-reply": (lambda: Fault.LOST_REPLY, {}),
    "reset": (lambda: Fault.RESET, {}),
    "timeout": (lambda: Fault.TIMEOUT, {}),
    "garbage": (lambda: Fault.GARBAGE, {}),
    "truncated": (lambda: Fault.TRUNCATED, {}),
    "burst": (lambda: Fault.BURST, {}),
    "moved": (Fault.moved, {}),
    "status": (
        Fault.status,
        {
            "code": "code",
            "retry_after": "seconds",
            "after_commit": "after_commit",
            "body": "body",
            "headers": "headers",
        },
    ),
    "delay": (Fault.delay, {"seconds": "seconds", "after_commit": "after_commit"}),
    "stall": (Fault.stall, {"seconds": "seconds", "part": "part"}),
    "quota": (Fault.quota, {"window": "window"}),
    "html": (Fault.html, {"code": "code"}),
}
"""For each kind of fault, the function that creates it, and the field that holds each of its arguments."""

_TAKEN = {kind: frozenset(takes.values()) for kind, (_, takes) in _FORMS.items()}
_USUAL = {
    "retry_after": None,
    "after_commit": False,
    "window": "five_hour",
    "part": "head",
    "body": None,
    "headers": (),
}
"""The defaults of arguments, which :meth:`Fault.to_dict` omits."""
_NEEDED: dict[str, tuple[str, ...]] = {"status": ("code",), "delay": ("seconds",), "stall": ("seconds",)}
"""The arguments without a default."""

Fault.LOST_REPLY = Fault(kind="lost-reply")
Fault.RESET = Fault(kind="reset")
Fault.TIMEOUT = Fault(kind="timeout")
Fault.GARBAGE = Fault(kind="garbage")
Fault.TRUNCATED = Fault(kind="truncated")
Fault.BURST = Fault(kind="burst")
