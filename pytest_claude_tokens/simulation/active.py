"""The world that is running now, and the calling thread's record in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.genuine import os
from pytest_claude_tokens.simulation.forked import settle

if TYPE_CHECKING:
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["ACTIVE", "here"]


class _Active:
    """The world that is running now, if any. One at a time in a process."""

    world: World | None = None


ACTIVE = _Active()


def _leave() -> None:
    """A forked child has the world's records, but none of its threads: it must not wait for them."""
    ACTIVE.world = None
    settle()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    os.register_at_fork(after_in_child=_leave)


def here() -> tuple[World, ThreadRecord] | None:
    """The running world and the calling thread's record in it; ``None`` if no world runs or the thread is not in it."""
    world = ACTIVE.world
    if world is None:
        return None
    record = world.me()
    return None if record is None else (world, record)
