"""The endpoints of the service: the address of each request, and its headers."""

from __future__ import annotations

import json
from contextlib import suppress

from pytest_claude_tokens.claude.http import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pytest_claude_tokens.claude.dialects import Dialect
    from pytest_claude_tokens.claude.http import Http, Reply
    from pytest_claude_tokens.claude.process import Machine

__all__ = ["MESSAGES_URL", "PROMPT", "TOKEN_URL", "Endpoints", "error_of", "json_of"]

_API = "https://api.anthropic.com"
TOKEN_URL = "https://platform.claude.com/v1/oauth/token"
MESSAGES_URL = f"{_API}/v1/messages"
PROMPT: dict[str, object] = {
    "model": "claude-fake",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Reply: done"}],
}
"""The least that a call is made of."""
_OAUTH_BETA = "oauth-2025-04-20"
_SIDE_TIMEOUT_SECONDS = 10.0


class Endpoints:
    """The service, as one process with the session id ``session`` sees it."""

    def __init__(self, machine: Machine, dialect: Dialect, http: Http, session: str) -> None:
        self._environ = machine.environ
        self._dialect = dialect
        self._http = http
        self._session = session
        self._base = self._environ.get("ANTHROPIC_BASE_URL", "").rstrip("/")
        self._plain = self._environ.get("CLAUDE_TOKENS_TOKEN_URL", "")
        self._token_timeout = machine.number("CLAUDE_TOKENS_TOKEN_TIMEOUT", dialect.token_timeout)
        self._call_timeout = machine.number("API_TIMEOUT_MS", 600_000) / 1000

    def token(self, body: Mapping[str, Any], *, wait: bool = True) -> Reply:
        """Send a token request, as JSON like the real CLI."""
        url = self._plain or f"https://{self._dialect.token_host}/v1/oauth/token"
        return self._post(url, body, wait=wait)

    def revoke(self, body: Mapping[str, Any]) -> Reply:
        """Revoke a token (RFC 7009)."""
        url = self._plain or f"https://{self._dialect.token_host}/v1/oauth/token"
        return self._post(f"{url}/revoke", body)

    def get(self, path: str, bearer: str) -> Reply | None:
        """Ask one of the small endpoints; ``None`` if no reply came, without which the client works as well.

        As in the real CLI the request names the real host, also where the base URL is local. Only where no proxy leads
        there (the token endpoint is then a plain URL) it goes to the base URL.
        """
        headers = [
            ("Accept", "application/json, text/plain, */*"),
            ("Authorization", f"Bearer {bearer}"),
            ("User-Agent", self._dialect.axios),
            ("anthropic-beta", _OAUTH_BETA),
            *self._session_header(),
        ]
        base = self._base if self._plain and self._base else _API
        try:
            return self._http.request("GET", base + path, headers, timeout=_SIDE_TIMEOUT_SECONDS)
        except HttpError:
            return None

    def preconnect(self) -> None:
        """Send ``HEAD /``, and ignore the answer, as the CLI does."""
        if self._base:
            with suppress(HttpError):
                self._http.request(
                    "HEAD", self._base + "/", [("User-Agent", "Bun/1.3.14")], timeout=_SIDE_TIMEOUT_SECONDS
                )

    def call(self, credential: list[tuple[str, str]], body: Mapping[str, Any], *, without: int = 0) -> Reply:
        """``POST /v1/messages``; ``without``: how many betas to leave out, counted from the last."""
        dialect = self._dialect
        betas = dialect.betas.split(",")
        if not any(name == "Authorization" for name, _ in credential):
            betas.remove(_OAUTH_BETA)
        headers = [
            ("Accept", "application/json"),
            *credential,
            ("Content-Type", "application/json"),
            ("User-Agent", dialect.user_agent),
            *self._session_header(),
            ("X-Stainless-Arch", "x64"),
            ("X-Stainless-Lang", "js"),
            ("X-Stainless-OS", "Linux"),
            ("X-Stainless-Package-Version", dialect.stainless),
            ("X-Stainless-Retry-Count", "0"),
            ("X-Stainless-Runtime", "node"),
            ("X-Stainless-Runtime-Version", dialect.runtime),
            ("X-Stainless-Timeout", "600"),
            ("anthropic-beta", ",".join(betas[: len(betas) - without])),
            ("anthropic-dangerous-direct-browser-access", "true"),
            ("anthropic-version", "2023-06-01"),
            ("x-app", "cli"),
        ]
        url = f"{self._base or _API}/v1/messages?beta=true"
        return self._http.request("POST", url, headers, json.dumps(body).encode(), timeout=self._call_timeout)

    def _post(self, url: str, body: Mapping[str, Any], *, wait: bool = True) -> Reply:
        headers = [
            ("Accept", "application/json, text/plain, */*"),
            ("Content-Type", "application/json"),
            ("User-Agent", self._dialect.axios),
            *self._session_header(),
        ]
        data = json.dumps(body).encode()
        return self._http.request("POST", url, headers, data, timeout=self._token_timeout, wait=wait)

    def _session_header(self) -> list[tuple[str, str]]:
        """The header by which the service knows a process. The real CLI does not send it with token requests; we do."""
        return [] if self._dialect.first else [("X-Claude-Code-Session-Id", self._session)]


def json_of(reply: Reply) -> dict[str, Any]:
    """The JSON object in the body; an empty one where there is none."""
    try:
        value = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def error_of(reply: Reply) -> str:
    """The OAuth error code of a token request: ``{"error": CODE}`` or ``{"error": {"type": CODE}}``."""
    error = json_of(reply).get("error")
    if isinstance(error, dict):
        error = error.get("type")
    return error if isinstance(error, str) else ""
