"""Finds the name of the worker that sent a request, by the most reliable sign in it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from fake_server.around import around

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.protocol.wire import Request

__all__ = ["WORKER", "actor_of", "as_worker", "session_of"]

WORKER: ContextVar[str | None] = ContextVar("claude_tokens_worker", default=None)
"""The worker of the running code; tasks inherit it, and so do threads that are started with a copied context."""


@around
def as_worker(name: str) -> Iterator[None]:
    """In the block, requests of this code are those of the worker ``name``."""
    token = WORKER.set(name)
    try:
        yield
    finally:
        WORKER.reset(token)


_SESSION = "x-claude-code-session-id"


def actor_of(request: Request, fallback: str) -> str:
    """The name from the path prefix, else the proxy's user name, else the CLI's session id, else ``fallback``."""
    return request.worker or session_of(request) or fallback


def session_of(request: Request) -> str | None:
    """The name from the CLI's session id, if the request has one."""
    session = request.header(_SESSION)
    if not session:
        return None
    # A token, unlike a session id, is not cut: all tokens begin alike, and the journal must tell them apart.
    return f"session-{session if session.startswith(('sk-', 'eyJ')) else session[:8]}"
