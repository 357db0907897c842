"""Whose request is it? The name of the worker behind a request, by the strongest sign there is."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fake_server.protocol.wire import Request

__all__ = ["WORKER", "actor_of"]

WORKER: ContextVar[str | None] = ContextVar("claude_tokens_worker", default=None)
"""The worker in whose context the code runs: tasks inherit it, and threads started with a copied context."""

_SESSION = "x-claude-code-session-id"


def actor_of(request: Request, fallback: str) -> str:
    """The path prefix, else the user name given to the proxy, else the CLI's session id, else ``fallback``."""
    if request.worker is not None:
        return request.worker
    session = request.header(_SESSION)
    if not session:
        return fallback
    # All tokens begin alike: the journal, which never shows one, has to tell them apart.
    return f"session-{session if session.startswith(('sk-', 'eyJ')) else session[:8]}"
