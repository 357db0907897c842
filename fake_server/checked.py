"""Checks of the fields of a frozen value: each returns the value in the form in which it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from fake_server.secrecy import brief, is_name, shown

__all__ = ["Refused", "check_fields", "one_of", "plain_name", "with_changes"]

T = TypeVar("T")


class Refused(Exception):
    """An invalid value of a field; the text says which values are valid. ``inside``: a part of the value is invalid."""

    def __init__(self, allowed: str, *, inside: bool = False) -> None:
        super().__init__(allowed)
        self.inside = inside


def check_fields(value: Any, checks: Mapping[str, Callable[[Any], Any]]) -> None:
    """Replace each field that has a check by what its check returns.

    Raises ``ValueError`` that names the field, its value and the valid ones.
    """
    for field, check in checks.items():
        given = getattr(value, field)
        try:
            object.__setattr__(value, field, check(given))
        except Refused as refused:
            quoted = "…" if refused.inside else shown(given)
            raise ValueError(f"{type(value).__name__}({field}={quoted}): {refused}") from None


def with_changes(value: T, changes: Mapping[str, Any]) -> T:
    """A copy of a dataclass with some fields changed. Raises ``TypeError`` for an unknown field."""
    known = {one.name for one in fields(value)}  # type: ignore[arg-type]
    if unknown := set(changes) - known:
        words = brief(*sorted(unknown))
        raise TypeError(f"{type(value).__name__} has no {words}; it has {', '.join(sorted(known))}")
    return replace(value, **changes)  # type: ignore[type-var]


def plain_name(value: Any) -> Any:
    """The check of a name."""
    if not (isinstance(value, str) and value and is_name(value)):
        raise Refused("must be a name")
    return value


def one_of(*allowed: str) -> Callable[[Any], Any]:
    """The check of a value that is one of these."""

    def check(value: Any) -> Any:
        if value not in allowed:
            raise Refused(f"choose one of {', '.join(map(repr, allowed))}")
        return value

    return check
