"""``select``, ``poll`` and the selectors, where some of the sockets that are asked for are connected in memory.

All others are asked of the operating system, without waiting for it: while the simulated ones are waited for, they are
looked at from time to time.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.internals import attributes_set
from pytest_claude_tokens.simulation.sockets.wire import WIRES, Wire, find_number
from pytest_claude_tokens.simulation.timeouts import checked_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["POLLS", "selectors_simulated"]

_LOOK_SECONDS = 0.01
"""Simulated seconds between two looks at sockets of the operating system."""

_SELECTORS = ("SelectSelector", "PollSelector", "EpollSelector")  # Windows has only the first

_select = select.select
_poll = getattr(select, "poll", None)

Ready = Callable[[], Any]


def _number(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())


def _wires(numbers: Iterable[int]) -> dict[int, Wire]:
    """The connections in memory among these sockets, by number; none where no thread of a world asks."""
    if not WIRES or here() is None:
        return {}
    return {number: wire for number in numbers if (wire := find_number(number)) is not None}


def _wait(wires: dict[int, Wire], timeout: float | None, others: Ready | None) -> Any:
    """Wait until one of ``wires`` can be read, or ``others`` finds something; returns what that has found."""
    place = here()
    assert place is not None
    timeout = None if timeout is None else checked_timeout(timeout)
    found: list[Any] = [None]

    def done() -> bool:
        found[0] = None if others is None else others()
        return bool(found[0]) or any(wire.readable for wire in wires.values())

    waiting = next(iter(wires.values())).wires
    if others is None:
        waiting.serve(place[1], list(wires.values()), done, timeout, hurried=True)
        return found[0]
    left = timeout
    while not done() and (left is None or left > 0):
        look = _LOOK_SECONDS if left is None else min(left, _LOOK_SECONDS)
        waiting.serve(place[1], list(wires.values()), done, look, hurried=True)
        left = None if left is None else left - look
    return found[0]


# --- select -------------------------------------------------------------------------------------------------------


def _simulated_select(
    module: object, rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /
) -> tuple[Any, Any, Any]:
    """As ``select.select``."""
    lists: list[list[Any]] = [list(each) for each in (rlist, wlist, xlist)]
    wires = _wires(_number(file) for each in lists for file in each)
    if not wires:
        return _select(rlist, wlist, xlist, timeout)
    rest = [[file for file in each if _number(file) not in wires] for each in lists]
    writable = [file for file in lists[1] if _number(file) in wires]
    look = (lambda: _nonempty(_select(rest[0], rest[1], rest[2], 0))) if any(rest) else None
    waits = {number: wire for number, wire in wires.items() if any(_number(file) == number for file in lists[0])}
    found: Any = _wait(waits or wires, 0 if writable else timeout, look) or ([], [], [])
    readable = [file for file in lists[0] if _number(file) in wires and wires[_number(file)].readable]
    return [*readable, *found[0]], [*writable, *found[1]], found[2]


def _nonempty(found: tuple[Any, Any, Any]) -> tuple[Any, Any, Any] | None:
    return found if any(found) else None


# --- poll ---------------------------------------------------------------------------------------------------------


class _Poll:
    """What ``select.poll()`` returns in a thread of a world."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._events: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = 0, /) -> None:
        """As usual."""
        default = select.POLLIN | select.POLLPRI | select.POLLOUT
        self._real.register(fd, eventmask or default)
        self._events[_number(fd)] = eventmask or default

    def modify(self, fd: Any, eventmask: int, /) -> None:
        """As usual."""
        self._real.modify(fd, eventmask)
        self._events[_number(fd)] = eventmask

    def unregister(self, fd: Any, /) -> None:
        """As usual."""
        self._real.unregister(fd)
        del self._events[_number(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """As usual: ``timeout`` is in milliseconds, and none if it is negative."""
        wires = _wires(self._events)
        if not wires:
            found: list[tuple[int, int]] = self._real.poll(timeout)
            return found
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        rest = len(wires) < len(self._events)

        def look() -> list[tuple[int, int]]:
            return [pair for pair in self._real.poll(0) if pair[0] not in wires]

        writable = any(self._events[number] & select.POLLOUT for number in wires)
        found = _wait(wires, 0 if writable else seconds, look if rest else None) or []
        return found + [(number, mask) for number, wire in wires.items() if (mask := self._mask(number, wire))]

    def _mask(self, number: int, wire: Wire) -> int:
        """What is to be told of a connection; errors always are."""
        mask = self._events[number] & select.POLLOUT
        mask |= self._events[number] & (select.POLLIN | select.POLLRDNORM) if wire.readable else 0
        return mask | (select.POLLERR if wire.failed else 0)


def _simulated_poll(module: object) -> Any:
    """As ``select.poll``."""
    assert _poll is not None
    return _poll() if here() is None else _Poll(_poll())


POLLS: list[tuple[Any, Any]] = [(_select, _simulated_select), *([(_poll, _simulated_poll)] if _poll else [])]
"""Each function with what stands for it."""


# --- selectors ----------------------------------------------------------------------------------------------------


def _selecting(real: Callable[..., Any]) -> Callable[..., Any]:
    def select(self: Any, timeout: float | None = None) -> Any:
        keys = {key.fd: key for key in self.get_map().values()} if WIRES and here() is not None else {}
        wires = _wires(keys)
        if not wires:
            return real(self, timeout)

        def look() -> Any:
            return [pair for pair in real(self, 0) if pair[0].fd not in wires]

        writable = any(keys[number].events & selectors.EVENT_WRITE for number in wires)
        seconds = None if timeout is None else max(0.0, checked_timeout(timeout))
        found = _wait(wires, 0 if writable else seconds, look if len(wires) < len(keys) else None) or []
        for number, wire in wires.items():
            mask = keys[number].events & selectors.EVENT_WRITE
            mask |= keys[number].events & selectors.EVENT_READ if wire.readable else 0
            if mask:
                found.append((keys[number], mask))
        return found

    return select


@contextmanager
def selectors_simulated() -> Iterator[None]:
    """In the block, the selectors of the standard library see connections in memory."""
    with ExitStack() as stack:
        for cls in filter(None, (getattr(selectors, name, None) for name in _SELECTORS)):
            stack.enter_context(attributes_set(cls, {"select": _selecting(cls.select)}))
        yield
