"""Locks created before any world, above all those that a dispatcher keeps at module level.

A real lock would block its thread where the baton can't see it. So a simulated lock takes its place while bodies run.
It wraps the real one, so that code which still holds a reference to the real lock is excluded as before.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.lines import is_installed
from pytest_claude_tokens.simulation.locks import SimulatedLock, SimulatedRLock
from pytest_claude_tokens.simulation.native import allocate_lock, allocate_rlock

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

__all__ = ["preexisting_locks", "real_again"]

_KINDS: dict[type, type[SimulatedLock]] = {
    type(allocate_lock()): SimulatedLock,
    type(allocate_rlock()): SimulatedRLock,
}

_Place = tuple[Any, str, Any]
"""An object, the name of its attribute, and the lock that is its value."""


@contextmanager
def preexisting_locks(spared: Iterable[str]) -> Iterator[None]:
    """Simulate the locks in globals of modules, in their classes, and in objects that are such globals.

    Locks of the standard library, of the packages in ``spared`` and of installed packages stay real: many guard work
    that is done once per process, and a switch there would make the first run differ from all others.
    """
    places = list(_places(frozenset(spared)))
    made: dict[int, SimulatedLock] = {}
    for owner, name, lock in places:
        if id(lock) not in made:  # several names of one lock get the same replacement
            made[id(lock)] = _KINDS[type(lock)](lock)
        _put(owner, name, made[id(lock)])
    try:
        yield
    finally:
        for owner, name, lock in places:
            if vars(owner).get(name) is made[id(lock)]:
                _put(owner, name, lock)


def _put(owner: Any, name: str, lock: Any) -> None:
    if isinstance(owner, type):
        setattr(owner, name, lock)
    else:
        vars(owner)[name] = lock  # a frozen dataclass would refuse `setattr`


def real_again(name: str, module: Any) -> None:
    """Put real locks in the place of the simulated ones that ``module`` made when it was imported in a body."""
    for owner, key, lock in list(_in_module(name, module, frozenset(_KINDS.values()))):
        _put(owner, key, lock.real)


def _places(spared: frozenset[str]) -> Iterator[_Place]:
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        namespace = getattr(module, "__dict__", None)
        if namespace is None or package in spared or package in sys.stdlib_module_names:
            continue
        if is_installed(namespace.get("__file__") or ""):
            continue
        yield from _in_module(name, module, _KINDS)


def _in_module(name: str, module: Any, kinds: Container[type]) -> Iterator[_Place]:
    """The locks of these kinds in a module, in its classes, and in objects of these that are its globals."""
    for key, value in list(vars(module).items()):
        if type(value) in kinds:
            yield module, key, value
        elif getattr(type(value) if not isinstance(value, type) else value, "__module__", "") == name:
            yield from _attributes(value, kinds)


def _attributes(owner: Any, kinds: Container[type]) -> Iterator[_Place]:
    for key, value in list(getattr(owner, "__dict__", {}).items()):
        if type(value) in kinds:
            yield owner, key, value
