"""A client of the token service with good habits, each of which a scenario can take away from it.

It is a task of a simulated event loop. Its login is in a folder, as that of ``claude``; time is simulated.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fake_server.genuine import json
from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.claude.endpoints import MESSAGES_URL, PROMPT, TOKEN_URL
from pytest_claude_tokens.lease import Lease, LeaseLost

__all__ = ["BLANK", "Agent", "Lock", "Refused", "ask", "exclusive", "lease", "post", "unlocked"]

BLANK: dict[str, object] = {"accessToken": "", "refreshToken": "", "expiresAt": 0}
"""The login that a client leaves behind when it takes a login for dead."""

Lock = Callable[[], AbstractAsyncContextManager[None]]


class Refused(Exception):
    """The token endpoint has answered with something other than tokens."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


async def ask(bearer: str | None) -> int:
    """A prompt; gives the status of the answer, which was read to its end."""
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    async with httpx.AsyncClient(timeout=600) as client:
        return (await client.post(MESSAGES_URL, headers=headers, json=PROMPT)).status_code


async def post(refresh: str) -> dict[str, Any]:
    """A token request. Raises ``Refused``, or ``httpx.TransportError`` where no answer came."""
    body = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "scenario"}
    async with httpx.AsyncClient(timeout=600) as client:
        reply = await client.post(TOKEN_URL, json=body)
    if reply.status_code != 200:
        is_json = "json" in reply.headers.get("content-type", "")
        error = reply.json().get("error") if is_json else "not JSON"
        raise Refused(reply.status_code, error if isinstance(error, str) else str((error or {}).get("type")))
    tokens: dict[str, Any] = reply.json()
    return tokens


# Locks.


@asynccontextmanager
async def unlocked() -> AsyncIterator[None]:
    """No lock at all."""
    yield


def lease(
    folder: str | os.PathLike[str],
    *,
    stale: float = 10.0,
    touch: bool = True,
    patience: float = math.inf,
) -> Lock:
    """The directory ``FOLDER.lock``, as npm's proper-lockfile makes it; a holder may ``touch`` it while it works.

    Who has waited for so many seconds of ``patience`` goes on without it.
    """

    @asynccontextmanager
    async def hold() -> AsyncIterator[None]:
        held = Lease(folder, lock_path=f"{os.path.realpath(folder)}.lock", stale=stale, heartbeat=False)
        waited = 0.0
        while not held.try_acquire() and waited < patience:
            await asyncio.sleep(1.5)
            waited += 1.5
        heart = asyncio.ensure_future(_beat(held)) if touch and held.held else None
        try:
            yield
        finally:
            if heart is not None:
                heart.cancel()
            with suppress(LeaseLost):
                held.release()

    return hold


async def _beat(held: Lease) -> None:
    while held.touch():
        await asyncio.sleep(held.update)


def exclusive() -> Lock:
    """A lock within one process."""
    lock = asyncio.Lock()

    @asynccontextmanager
    async def hold() -> AsyncIterator[None]:
        async with lock:
            yield

    return hold


# The client.


def _simulated() -> float:
    """The time as it is when it is asked for: `time.time` itself, stored before a run, would be the real one."""
    return time.time()


@dataclass(kw_only=True)
class Agent:
    """One client. All of its habits are good, unless told otherwise.

    ``reread``: under the lock, the store is read again. ``compare``: a token that somebody else has refreshed meanwhile
    is adopted. ``buffer``: seconds before its expiry at which an access token is refreshed. ``clock`` tells the time of
    this machine. ``save`` writes the store.
    """

    folder: Path
    lock: Lock = unlocked
    reread: bool = True
    compare: bool = True
    keep_refresh: bool = True
    buffer: float = 0.0
    clock: Callable[[], float] = field(default=_simulated)
    save: Callable[[Agent, dict[str, Any]], None] | None = None

    def read(self) -> dict[str, Any]:
        """The login in the store."""
        login: dict[str, Any] = self.document()["claudeAiOauth"]
        return login

    def document(self) -> dict[str, Any]:
        """The whole store."""
        document: dict[str, Any] = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
        return document

    def write(self, login: dict[str, Any]) -> None:
        """Store a login, beside what else the store holds: a new file, renamed over the old one."""
        self.replace({**self.document(), "claudeAiOauth": login}, self.folder / FILE)

    @staticmethod
    def replace(document: dict[str, Any], path: Path) -> None:
        """Put a document in the place of ``path``, whatever that is."""
        temporary = path.with_name(f"{path.name}.new")
        temporary.write_text(json.dumps(document), encoding="utf-8")
        temporary.chmod(0o600)
        temporary.replace(path)

    def is_due(self, login: dict[str, Any], refused: str | None = None) -> bool:
        """Whether the login's access token is to be refreshed: it is about to expire, or it was refused."""
        return bool(login["accessToken"] == refused or self.clock() + self.buffer >= login["expiresAt"] / 1000)

    async def bearer(self, refused: str | None = None) -> str:
        """A bearer that is good, as far as can be known; ``refused``: one that was answered with 401."""
        login = self.read()
        if self.is_due(login, refused):
            async with self.lock():
                login = await self._look_again(login, refused)
        bearer: str = login["accessToken"]
        return bearer

    async def _look_again(self, login: dict[str, Any], refused: str | None) -> dict[str, Any]:
        """Under the lock: the login that somebody else has refreshed meanwhile, or refresh it."""
        if self.reread:
            login = self.read()
        if self.reread and self.compare and not self.is_due(login, refused):
            return login
        return await self.refresh(login)

    async def refresh(self, login: dict[str, Any]) -> dict[str, Any]:
        """Spend the login's refresh token, and store what it brings."""
        new = await post(login["refreshToken"])
        kept = login["refreshToken"] if self.keep_refresh else None
        login = {
            **login,
            "accessToken": new["access_token"],
            "refreshToken": new.get("refresh_token", kept),
            "expiresAt": (self.clock() + new["expires_in"]) * 1000,
        }
        if self.save is None:
            self.write(login)
        else:
            self.save(self, login)
        return login

    async def job(self) -> int:
        """One prompt; a bearer that is refused is refreshed, and tried once more."""
        bearer = await self.bearer()
        status = await ask(bearer)
        if status == 401:
            status = await ask(await self.bearer(refused=bearer))
        return status
