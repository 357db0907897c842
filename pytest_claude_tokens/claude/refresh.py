"""The refresh: read the login, lock, read it again, send one token request, store the answer, unlock.

:meth:`Refresher._lost` is what each release does when it loses; comments mark where another process may overtake it.
"""

from __future__ import annotations

from pytest_claude_tokens.claude.dialects import CLIENT_ID
from pytest_claude_tokens.claude.endpoints import error_of, json_of
from pytest_claude_tokens.claude.http import HttpError
from pytest_claude_tokens.claude.locks import RefreshLock
from pytest_claude_tokens.claude.store import Login

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from pytest_claude_tokens.claude.dialects import Dialect
    from pytest_claude_tokens.claude.endpoints import Endpoints
    from pytest_claude_tokens.claude.http import Reply
    from pytest_claude_tokens.claude.process import Machine
    from pytest_claude_tokens.claude.store import Store
    from pytest_claude_tokens.claude.telemetry import Telemetry

    Outcome = Literal[
        "not-needed", "no-refresh-token", "dead", "adopted", "refreshed", "not-saved", "contended", "failed"
    ]

__all__ = ["LockStuck", "Refresher"]

_LOCK_RETRIES = 5


class LockStuck(Exception):
    """2.1.330: the lock stayed taken, and no live process owns it."""


class Refresher:
    """Keeps one process's login fresh. ``unsaved``: a login that could not be written, or that has no store."""

    def __init__(
        self, machine: Machine, dialect: Dialect, store: Store, endpoints: Endpoints, telemetry: Telemetry
    ) -> None:
        self.unsaved: Login | None = None
        self._machine = machine
        self._dialect = dialect
        self._store = store
        self._endpoints = endpoints
        self._telemetry = telemetry
        self._dead: set[str] = set()
        self._minted: set[str] = set()

    def login(self) -> Login | None:
        """The login to use now: one that could not be stored, else that of the store."""
        return self.unsaved or self._store.read()

    @property
    def lost(self) -> bool:
        """Whether this process has learnt that the login is dead."""
        return bool(self._dead)

    def minted(self, access: str) -> bool:
        """Whether this process itself got that access token by a refresh."""
        return access in self._minted

    def ensure(self, failed: str | None = None, *, wait: bool = True) -> Outcome:
        """Refresh if it is due, or if the access token ``failed`` was refused. Raises :class:`LockStuck`.

        Without ``wait`` the token request is sent, and its answer is lost.
        """
        seen = self.login()
        if seen is None or not seen.refresh:
            return "no-refresh-token"
        if seen.refresh in self._dead:
            return "dead"
        if failed is None and not (seen.usable(self._dialect) and seen.due(self._machine.now())):
            return "not-needed"
        before = seen.access if failed is None else failed
        lock = RefreshLock(self._store.folder, self._dialect, self._machine, self._telemetry)
        return self._contend(lock, before, forced=failed is not None, wait=wait)

    def _contend(self, lock: RefreshLock, before: str, *, forced: bool, wait: bool) -> Outcome:
        emit = self._telemetry.emit
        for attempt in range(_LOCK_RETRIES + 1):
            if self._changed(before):
                return self._race_resolved()
            emit("token_refresh_lock_acquiring", attempt=attempt)
            with self._machine.shielded(self._dialect.finishes):
                try:
                    acquired = lock.try_acquire()
                except OSError as error:
                    emit("token_refresh_lock_error", error=error.strerror)
                    return "failed"
                if acquired:
                    emit("token_refresh_lock_acquired", attempt=attempt)
                    try:
                        return self._under_lock(lock, before, forced=forced, wait=wait)
                    finally:
                        lock.release()
            if attempt < _LOCK_RETRIES:
                emit("token_refresh_lock_retry", attempt=attempt + 1)
                self._machine.pause(1 + self._machine.chance())
        emit("token_refresh_lock_retry_limit_reached", attempts=_LOCK_RETRIES)
        if self._dialect.newest and lock.abandoned():
            raise LockStuck
        return "contended"

    def _under_lock(self, lock: RefreshLock, before: str, *, forced: bool, wait: bool) -> Outcome:
        """Read the login again, and refresh it: before the lock was taken, another process may have done so."""
        login = self.login()
        if login is None or not login.refresh:
            return "no-refresh-token"
        if login.access != before or not (forced or login.due(self._machine.now())):
            return self._race_resolved()
        if self._lost_lease(lock, "pre_post"):
            return "failed"
        emit = self._telemetry.emit
        emit("token_refresh_starting")
        try:
            reply = self._ask(login, wait=wait)
        except HttpError as error:
            return self._lost(lock, login, code=error.code, status=None)
        if not wait:
            return "failed"
        if reply.status != 200 or not json_of(reply).get("access_token"):
            return self._lost(lock, login, code=error_of(reply), status=reply.status)
        emit("token_refresh_success")
        compromised = self._lost_lease(lock, "post_post")
        saved = self._save(login, json_of(reply), compromised=compromised)
        emit("token_refresh_completed", saved=saved)
        return saved

    def _ask(self, login: Login, *, wait: bool) -> Reply:
        """The one POST; 2.1.330 repeats it with the login's own scopes where the built-in ones are refused."""
        body = {
            "grant_type": "refresh_token",
            "refresh_token": login.refresh,
            "client_id": self._machine.environ.get("CLAUDE_CODE_OAUTH_CLIENT_ID") or CLIENT_ID,
        }
        if self._dialect.scope is not None:
            body["scope"] = self._dialect.scope
        reply = self._endpoints.token(body, wait=wait)
        if self._dialect.newest and reply.status == 400 and error_of(reply) == "invalid_scope" and login.scopes:
            self._telemetry.emit("refresh_invalid_scope_fallback")
            reply = self._endpoints.token({**body, "scope": " ".join(login.scopes)}, wait=wait)
        return reply

    def _save(self, login: Login, answer: dict[str, Any], *, compromised: bool) -> Outcome:
        """Store the new pair. An answer without the scope ``user:inference`` is dropped, and the login lost with it."""
        emit = self._telemetry.emit
        access = str(answer["access_token"])
        self._endpoints.get("/api/oauth/profile", access)  # still under the lock
        changes = _changes(answer, login, self._machine.now())
        scopes = str(answer.get("scope") or "").split()
        if not self._dialect.first and "user:inference" not in scopes:
            emit("tokens_not_claude_ai")
            return "not-saved"
        if changes["expiresAt"] is None:
            emit("tokens_inference_only")
            return "not-saved"
        if self._dialect.newest and self._overtaken(login):
            emit("refresh_compromised_cas_adopted_sibling")
            return "adopted"
        self._minted.add(access)
        try:
            self._store.update(**changes)
        except OSError as error:
            emit("tokens_save_failed", error=error.strerror)
            emit("tokens_save_exception", error=error.strerror)
            self.unsaved = Login({**changes, "scopes": changes.get("scopes", login.scopes)})
            return "refreshed"
        emit("tokens_saved")
        if compromised:
            emit("refresh_compromised_cas_saved")
        return "refreshed"

    def _lost(self, lock: RefreshLock, login: Login, *, code: str, status: int | None) -> Outcome:
        """The token request failed: look for a login that another process stored, else take the token for dead."""
        emit = self._telemetry.emit
        self._lost_lease(lock, "in_catch")
        if self._changed(login.access):
            emit("token_refresh_race_recovered")
            return "adopted"
        emit("token_refresh_failure", error=code, status=status)
        if code != "invalid_grant" or status not in (400, 401) or self._dialect.first:
            return "failed"  # and the next attempt sends the same refresh token again
        self._dead.add(login.refresh)
        emit("refresh_token_marked_dead_invalid_grant")
        blank: dict[str, Any] = {"refreshToken": ""}
        if self._dialect.scrub == "all":
            blank.update(accessToken="", expiresAt=0)
        now = self._store.read()
        if now is not None and now.refresh == login.refresh:  # a winner that writes after this look is overwritten
            try:
                self._store.update(**blank)
            except OSError:
                return "dead"
            emit("refresh_token_cleared_on_disk")
        return "dead"

    def _changed(self, before: str) -> bool:
        """Whether the store has another access token by now, and not a blank one."""
        login = self.login()
        return login is not None and bool(login.access) and login.access != before

    def _overtaken(self, login: Login) -> bool:
        """Compare-and-swap: whether another process has stored a refresh token other than the one that was sent."""
        now = self._store.read()
        return now is not None and now.refresh not in ("", login.refresh)

    def _race_resolved(self) -> Outcome:
        self._telemetry.emit("token_refresh_lock_race_resolved")
        self._telemetry.emit("token_refresh_race_resolved")
        return "adopted"

    def _lost_lease(self, lock: RefreshLock, where: str) -> bool:
        if self._dialect.newest and lock.compromised:
            self._telemetry.emit(f"token_refresh_lock_compromised_{where}")
            return True
        return False


def _changes(answer: dict[str, Any], login: Login, now: float) -> dict[str, Any]:
    """What an answer changes in the store. Without a new refresh token the old one stays."""
    life = answer.get("expires_in")
    if not isinstance(life, int | float) or isinstance(life, bool):
        life = None
    changes: dict[str, Any] = {
        "accessToken": answer["access_token"],
        "refreshToken": answer.get("refresh_token") or login.refresh,
        "expiresAt": None if life is None else int((now + life) * 1000),
    }
    if answer.get("scope"):
        changes["scopes"] = str(answer["scope"]).split()
    return changes
