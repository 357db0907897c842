"""How the guard refuses: with an error that names the remedy, and that is told to the handles that are open.

The code under test often swallows the error, as it would swallow that of a broken network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RealServiceRefused", "listeners", "refuse"]

listeners: list[Callable[[str, str | None, str], object]] = []
"""Called at each refusal: what was refused (``to reach claude.ai``), the host if it was one, and the remedy."""


class RealServiceRefused(RuntimeError):
    """The code under test was about to reach the real service, the user's real login or a real ``claude``."""

    __module__ = "claude_tokens"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self.args  # by name: there is no importable module `claude_tokens`


def _rebuild(*args: object) -> RealServiceRefused:
    return RealServiceRefused(*args)


def refuse(what: str, remedy: str, *, host: str | None = None) -> NoReturn:
    """Tell the listeners, and raise :class:`RealServiceRefused`. ``what`` goes on from "refused"."""
    for listener in tuple(listeners):
        listener(what, host, remedy)
    raise RealServiceRefused(f"refused {what}: {remedy}")
