"""Checks of a handle's settings, shared by the constructor and pytest's marker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from fake_server.faults import Fault
from fake_server.limits import count_refusal
from fake_server.policy import PRESETS, Policy
from fake_server.protocol.wire import check_account_name
from fake_server.secrecy import brief, shown
from fake_server.service import SERVICES, Service
from pytest_claude_tokens.handle.names import host_names
from pytest_claude_tokens.judge.violations import INVARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "READERS",
    "answered_hosts",
    "check_fault",
    "checked_allow",
    "checked_limit",
    "one_or_many",
    "policy_of",
    "service_of",
]


P = TypeVar("P", Policy, Service)


def policy_of(value: object) -> Policy:
    """A policy unchanged, the preset of that name, or ``anthropic`` for ``None``.

    Raises ``ValueError`` that lists the presets.
    """
    return _preset_or(Policy, value, "policy", PRESETS, "anthropic")


def service_of(value: object) -> Service:
    """A service unchanged, the preset of that name, or ``claude`` for ``None``.

    Raises ``ValueError`` that lists the presets.
    """
    return _preset_or(Service, value, "service", SERVICES, "claude")


def _preset_or(kind: type[P], value: object, setting: str, presets: Mapping[str, P], default: str) -> P:
    if isinstance(value, kind):
        return value
    if value is None:
        return presets[default]
    if not isinstance(value, str):
        raise ValueError(
            f"{setting}={shown(value)}: must be a {kind.__name__} or the name of one: {', '.join(presets)}"
        )
    return kind.preset(value)


def answered_hosts(service: object, hosts: Iterable[str] = ()) -> tuple[str, ...]:
    """The host names to answer for, besides those that are always known: the service's, and further ``hosts``."""
    return tuple(dict.fromkeys((*service_of(service).hosts, *host_names(hosts))))


def checked_allow(words: Iterable[Any]) -> tuple[str, ...]:
    """The names of invariants, as a tuple. Raises ``ValueError`` for an unknown one."""
    words = tuple(words)
    unknown = [word for word in words if word not in INVARIANTS]
    if unknown:
        raise ValueError(
            f"allow: no invariant is named {brief(*map(shown, unknown))}; they are {', '.join(INVARIANTS)}"
        )
    return words


def checked_limit(value: Any, policy: Policy | None = None) -> int | None:
    """``value`` as the number of workers that may have a call open on one bearer. Raises ``ValueError``.

    ``None`` stands for one, or, under a ``policy`` that does not serialize calls, for no limit.
    """
    if value is None:
        return None if policy is None or policy.slots is None else 1
    if count_refusal(value):
        raise ValueError(f"limit={shown(value)}: must be a number of workers, at least 1")
    return int(value)


def one_or_many(values: Any) -> tuple[Any, ...]:
    """``values`` as a tuple; a single name becomes a tuple of one."""
    return (values,) if isinstance(values, str) else tuple(values)


def _latency(value: Any) -> Any:
    try:
        Policy(latency=value)
    except ValueError as error:
        allowed = str(error).rpartition("): ")[2]
        raise ValueError(f"latency={shown(value)}: {allowed}") from None
    return value


def _accounts(names: Iterable[Any]) -> Iterable[str]:
    for name in names:
        try:
            check_account_name(name)
        except ValueError as error:
            raise ValueError(f"accounts: {error}") from None
    return names


READERS: dict[str, Callable[[Any], Any]] = {
    "policy": policy_of,
    "service": service_of,
    "allow": checked_allow,
    "limit": checked_limit,
    "latency": _latency,
    "accounts": _accounts,
    "hosts": host_names,
}
"""The check of each keyword: it returns the value, or raises ``ValueError`` that says which values are valid."""


def check_fault(target: object, fault: object) -> None:
    """Raise ``TypeError`` if what was given to ``fail_next`` is no fault."""
    if not isinstance(fault, Fault):
        raise TypeError(
            f"fail_next({shown(target)}, {shown(fault)}): "
            "the fault is a value, such as Fault.RESET or Fault.status(503)"
        )
