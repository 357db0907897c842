"""What a request is answered. All changes of the service's state are made here, at once, under its lock.

A request comes read (:mod:`fake_server.protocol.wire` for Claude's service, :mod:`fake_server.protocol.asking` for one
that speaks the standards), as a :class:`Turn`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.answers import claude, standard
from fake_server.answers.turn import Turn

if TYPE_CHECKING:
    from fake_server.protocol.wire import Reply

__all__ = ["Turn", "answer"]


def answer(turn: Turn) -> Reply:
    """The service's decision."""
    return standard.answer(turn) if turn.server.service.standard else claude.answer(turn)
