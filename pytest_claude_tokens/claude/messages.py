"""One prompt, one answer: which credential is presented, what is tried again, and what a failure prints."""

from __future__ import annotations

from contextlib import suppress

from pytest_claude_tokens.claude import error_texts
from pytest_claude_tokens.claude.endpoints import json_of
from pytest_claude_tokens.claude.http import HttpError
from pytest_claude_tokens.claude.refresh import LockStuck
from pytest_claude_tokens.claude.sse import parse, parse_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pytest_claude_tokens.claude.api_key_helper import KeyHelper
    from pytest_claude_tokens.claude.dialects import Dialect
    from pytest_claude_tokens.claude.endpoints import Endpoints
    from pytest_claude_tokens.claude.http import Reply
    from pytest_claude_tokens.claude.process import Machine
    from pytest_claude_tokens.claude.refresh import Refresher
    from pytest_claude_tokens.claude.sse import Message
    from pytest_claude_tokens.claude.telemetry import Telemetry

__all__ = ["MODEL", "Caller", "Failure"]

MODEL = "claude-sonnet-4-5"
_PROBE_MODEL = "claude-3-5-haiku-20241022"
_DEFAULT_RETRIES = 10
_BETAS_DROPPED = 5
_MAX_BACKOFF_SECONDS = 32.0


class Failure(Exception):
    """The call has failed for good. ``status``: the HTTP status that did it, if any."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class _Credential:
    """A secret, and where it was found. ``kind``: key, token, env, helper or store."""

    def __init__(self, kind: str, secret: str) -> None:
        self.kind = kind
        self.secret = secret

    def headers(self) -> list[tuple[str, str]]:
        bearer, key = ("Authorization", f"Bearer {self.secret}"), ("x-api-key", self.secret)
        return {"key": [key], "helper": [key, bearer]}.get(self.kind, [bearer])


class _Attempt:
    """The state of one call: how many tries it has had, and what the next one does differently."""

    def __init__(self) -> None:
        self.number = 0
        self.unrecovered = 0
        self.betas_dropped = 0
        self.stream = True
        self.skip_refresh = False


class Caller:
    """Makes the calls of one process."""

    def __init__(
        self,
        machine: Machine,
        dialect: Dialect,
        endpoints: Endpoints,
        refresher: Refresher,
        telemetry: Telemetry,
        *,
        helper: KeyHelper | None,
        bare: bool = False,
    ) -> None:
        self._machine = machine
        self._dialect = dialect
        self._endpoints = endpoints
        self._refresher = refresher
        self._telemetry = telemetry
        self._helper = helper
        self._bare = bare
        self._env_refused = False
        self._greeted = False
        self._most = 1 + int(machine.number("CLAUDE_CODE_MAX_RETRIES", _DEFAULT_RETRIES))

    def ask(self, body: dict[str, Any]) -> Message:
        """The answer to ``body``. Raises :class:`Failure`."""
        attempt = _Attempt()
        if not self._greeted:
            self._greeted = True
            self._greet(attempt, body)
        while True:
            attempt.number += 1
            credential = self._credential(attempt)
            if credential is None:
                raise Failure(error_texts.NOT_LOGGED_IN)
            try:
                reply = self._endpoints.call(
                    credential.headers(), {**body, "stream": attempt.stream}, without=attempt.betas_dropped
                )
            except HttpError as error:
                self._after_no_reply(error, attempt)
                continue
            if reply.status == 200:
                message = self._read(reply, attempt)
                if message is not None:
                    return message
            else:
                self._after_refusal(reply, credential, attempt, body["model"])

    # The credential.

    def _credential(self, attempt: _Attempt) -> _Credential | None:
        environ = self._machine.environ
        if key := environ.get("ANTHROPIC_API_KEY"):
            return _Credential("key", key)
        if not self._bare:
            if token := environ.get("ANTHROPIC_AUTH_TOKEN"):
                return _Credential("token", token)
            if (token := environ.get("CLAUDE_CODE_OAUTH_TOKEN")) and not self._env_refused:
                return _Credential("env", token)
        if self._helper is not None:
            return _Credential("helper", self._helper.key())
        return None if self._bare else self._stored(attempt)

    def _stored(self, attempt: _Attempt) -> _Credential | None:
        if not self._env_refused:  # a process that began with a token from the environment never refreshes
            self._refresh(attempt)
        login = self._refresher.login()
        if login is None or not login.access or not login.usable(self._dialect):
            if login is not None and not login.access and self._refresher.lost:
                raise Failure(error_texts.EXPIRED)
            return None  # a login that was blank when this process began counts as none
        return _Credential("store", login.access)

    def _refresh(self, attempt: _Attempt) -> None:
        if attempt.skip_refresh:
            attempt.skip_refresh = False
            return
        try:
            self._refresher.ensure()
        except LockStuck:
            raise Failure(error_texts.LOCK_STUCK) from None

    def _greet(self, attempt: _Attempt, body: dict[str, Any]) -> None:
        """Before the first call: refresh a login that is due, and send the requests that the CLI sends at its start."""
        environ = self._machine.environ
        stored = not any(
            environ.get(name) for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
        )
        if stored and self._helper is None and not self._bare:
            for _ in range(self._dialect.startup_refreshes):
                try:
                    outcome = self._refresher.ensure()
                except LockStuck:
                    raise Failure(error_texts.LOCK_STUCK) from None
                if outcome == "contended":  # the first call must not wait for the lock once more
                    attempt.skip_refresh = True
                    break
        if environ.get("CLAUDE_TOKENS_SIDE_REQUESTS"):
            login = self._refresher.login()
            if not self._dialect.newest:
                self._endpoints.preconnect()
            if stored and login is not None:
                self._endpoints.get("/v1/mcp_servers?limit=1000", login.access)
        if self._dialect.first:
            credential = self._credential(attempt)
            if credential is not None:
                probe = {"model": _PROBE_MODEL, "max_tokens": 1, "metadata": body["metadata"]}
                probe["messages"] = [{"role": "user", "content": "quota"}]
                with suppress(HttpError):
                    self._endpoints.call(credential.headers(), probe)

    # The reply.

    def _read(self, reply: Reply, attempt: _Attempt) -> Message | None:
        """The message in a 200; ``None`` if the call is to be tried again, as ``attempt`` now says."""
        if not attempt.stream:
            message = parse_whole(json_of(reply))
            if not message.usable:
                raise Failure("API Error: the reply is not a message", 200)
            return message
        message = parse(reply.body)
        if message.error is not None and self._dialect.newest and attempt.number < self._most:
            self._machine.pause(self._backoff(attempt))
            return None
        if message.error is not None or not message.usable:
            attempt.stream = False
            return None
        if not message.ended and self._dialect.newest:
            raise Failure(error_texts.LOST_CONNECTION)
        return message

    def _after_no_reply(self, error: HttpError, attempt: _Attempt) -> None:
        fatal = error.code == "ECERT" and self._dialect.newest
        if fatal or attempt.number >= self._most:
            raise Failure(error_texts.connection_text(error, self._dialect))
        self._machine.pause(self._backoff(attempt))

    def _after_refusal(self, reply: Reply, credential: _Credential, attempt: _Attempt, model: str) -> None:
        """Pause, and return, if the call is to be tried again; else raise :class:`Failure`."""
        pause: float | None = None
        status = reply.status
        if status == 401 or error_texts.is_revoked(reply):
            if credential.kind == "key":
                raise Failure(error_texts.INVALID_KEY, status)
            if self._recovers(credential, attempt):
                pause = self._backoff(attempt)
        elif status == 400 and self._dialect.newest and attempt.betas_dropped < _BETAS_DROPPED:
            attempt.betas_dropped += 1
            return
        elif status == 404 and attempt.stream:
            attempt.stream = False
            return
        elif (status == 429 and self._retries_429(reply)) or status in (408, 409) or status >= 500:
            if attempt.number < self._most:
                pause = self._retry_after(reply, attempt)
        if pause is None:
            raise Failure(error_texts.reply_text(reply, self._dialect, model), status)
        self._machine.pause(pause)

    def _recovers(self, credential: _Credential, attempt: _Attempt) -> bool:
        """After a 401: whether to try again, with another token or, once, with the same one."""
        if attempt.number >= self._most:
            return False
        if credential.kind == "helper" and self._helper is not None:
            self._helper.forget()
        if credential.kind == "env" and not self._dialect.newest and self._refresher.login() is not None:
            self._env_refused = True  # the stored login replaces the environment's token, even an expired one
            self._telemetry.emit("401_recovered_from_disk")
        if credential.kind == "store" and self._recovers_stored(credential.secret, attempt):
            return True
        attempt.unrecovered += 1
        return attempt.unrecovered < (3 if credential.kind == "helper" and self._dialect.newest else 2)

    def _recovers_stored(self, failed: str, attempt: _Attempt) -> bool:
        login = self._refresher.login()
        if login is not None and login.access and login.access != failed:
            self._telemetry.emit("401_recovered_from_disk")
            return True
        if self._env_refused:
            return False
        if self._dialect.newest and self._refresher.minted(failed):
            return True  # a token that this process has just been issued is not refreshed again
        if self._dialect.first and login is not None and login.due(self._machine.now()):
            return True  # the next attempt refreshes it anyway
        try:
            outcome = self._refresher.ensure(failed)
        except LockStuck:
            raise Failure(error_texts.LOCK_STUCK) from None
        if outcome == "contended":
            attempt.skip_refresh = True
        return outcome in ("adopted", "refreshed", "contended")

    def _retries_429(self, reply: Reply) -> bool:
        if reply.headers.get("x-should-retry") == "false":
            return False
        rejected = reply.headers.get("anthropic-ratelimit-unified-status") == "rejected"
        return self._dialect.first or (self._dialect.newest and not rejected)

    def _retry_after(self, reply: Reply, attempt: _Attempt) -> float:
        seconds = reply.headers.get("retry-after", "")
        if seconds.replace(".", "", 1).isdigit() and self._dialect.version != "2.1.123":
            return float(seconds)
        return self._backoff(attempt)

    def _backoff(self, attempt: _Attempt) -> float:
        """Seconds: 0.5, doubled with each try up to 32, and up to a quarter more at random."""
        return min(0.5 * 2.0 ** (attempt.number - 1), _MAX_BACKOFF_SECONDS) * (1 + self._machine.chance() / 4)
