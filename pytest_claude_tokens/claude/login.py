"""``claude setup-token`` and ``claude auth``: the commands that make, show and forget a login."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, nullcontext, suppress

from pytest_claude_tokens.claude.dialects import CLIENT_ID, LOGIN_SCOPE, SETUP_SCOPE
from pytest_claude_tokens.claude.endpoints import json_of
from pytest_claude_tokens.claude.error_texts import message_of
from pytest_claude_tokens.claude.http import HttpError
from pytest_claude_tokens.claude.refresh import LockStuck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pytest_claude_tokens.claude.client import Client

__all__ = ["log_in", "log_out", "setup_token", "status"]

_SETUP_TOKEN_SECONDS = 31536000
_CODE_TIMEOUT_SECONDS = 600.0
_BROWSER_EXIT_SECONDS = 5.0
_IN_WORDS = {
    "none": "Not logged in.",
    "oauth_token": "Logged in with the token in CLAUDE_CODE_OAUTH_TOKEN.",
    "claude.ai": "Logged in with claude.ai.",
}
_AUTHORIZE = "https://claude.com.invalid/cai/oauth/authorize"
"""The real page's address with a host that can't exist, so that a real browser never reaches the real service."""


class _LoginFailed(Exception):
    """The login failed; the text says why."""


def setup_token(client: Client) -> int:
    """Get a token for a year, and print it. Nothing is stored, and no refresh token kept."""
    try:
        answer = _by_browser(client, SETUP_SCOPE, {"expires_in": _SETUP_TOKEN_SECONDS})
    except _LoginFailed as error:
        client.say(f"OAuth error: {error}")
        return 1
    client.endpoints.get("/api/oauth/profile", answer["access_token"])
    client.say(f"Your OAuth token (valid for 1 year):\n\n{answer['access_token']}\n")
    client.say("Use it with: export CLAUDE_CODE_OAUTH_TOKEN=<token>")
    return 0


def log_in(client: Client) -> int:
    """Log in, in the browser or with a refresh token from the environment, and write the store."""
    environ = client.machine.environ
    refresh = environ.get("CLAUDE_CODE_OAUTH_REFRESH_TOKEN")
    scopes = environ.get("CLAUDE_CODE_OAUTH_SCOPES")
    if refresh and not scopes:
        client.complain("CLAUDE_CODE_OAUTH_SCOPES is required when using CLAUDE_CODE_OAUTH_REFRESH_TOKEN.")
        return 1
    try:
        if refresh:
            body = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": _client_id(client)}
            answer = _ask(client, {**body, "scope": scopes, "expires_in": _SETUP_TOKEN_SECONDS})
        else:
            more = " user:plugins user:privacy_consents:write org:desktop_config" if client.dialect.newest else ""
            answer = _by_browser(client, LOGIN_SCOPE + more, {})
    except _LoginFailed as error:
        client.complain(f"Login failed: {error}")
        return 1
    access = answer["access_token"]
    client.endpoints.get("/api/oauth/profile", access)
    if not refresh:
        client.endpoints.get("/api/oauth/claude_cli/roles", access)
        if not client.dialect.newest:
            client.endpoints.get("/api/organization/claude_code_first_token_date", access)
    client.telemetry.emit("token_exchange_success")
    changes: dict[str, Any] = {
        "accessToken": access,
        "refreshToken": answer.get("refresh_token") or refresh or "",
        "expiresAt": int((client.machine.now() + float(answer.get("expires_in") or 3600)) * 1000),
        "scopes": str(answer.get("scope") or "").split(),
        "subscriptionType": "max",
    }
    if answer.get("refresh_token_expires_in") and client.dialect.newest:
        changes["refreshTokenExpiresAt"] = int((client.machine.now() + answer["refresh_token_expires_in"]) * 1000)
    try:
        client.store.update(**changes)
    except OSError as error:
        client.telemetry.emit("tokens_save_failed", error=error.strerror)
        client.complain(f"Login failed: {error.strerror}")
        return 1
    client.telemetry.emit("tokens_saved")
    client.say("Login successful.")
    return 0


def status(client: Client, *, text: bool = False) -> int:
    """Print who is logged in, as JSON or as a line of text; 1 if there is no login. A login that is due is refreshed.

    1.0 and 2.1.123 send the token request and exit without its answer: the refresh token may be spent, and its
    successor lost.
    """
    environ = client.machine.environ
    answer: dict[str, Any] = {"loggedIn": False, "authMethod": "none", "apiProvider": "firstParty"}
    login = client.refresher.login()
    if environ.get("CLAUDE_CODE_OAUTH_TOKEN"):
        answer.update(loggedIn=True, authMethod="oauth_token")
    elif login is not None and login.access and login.usable(client.dialect):
        with suppress(LockStuck):
            client.refresher.ensure(wait=client.dialect.newest)
        login = client.refresher.login()
        if login is not None and login.access:
            answer.update(loggedIn=True, authMethod="claude.ai", subscriptionType=login.subscription or None)
    client.say(_IN_WORDS[answer["authMethod"]] if text else json.dumps(answer, indent=2))
    return 0 if answer["loggedIn"] else 1


def log_out(client: Client) -> int:
    """Remove the store; 2.1.330 revokes the refresh token, too."""
    login = client.store.read()
    if client.dialect.newest and login is not None and login.refresh:
        body = {"token": login.refresh, "token_type_hint": "refresh_token", "client_id": _client_id(client)}
        with suppress(HttpError):
            client.endpoints.revoke(body)
    client.store.remove()
    client.say("Successfully logged out from your Anthropic account.")
    return 0


def _client_id(client: Client) -> str:
    return client.machine.environ.get("CLAUDE_CODE_OAUTH_CLIENT_ID") or CLIENT_ID


def _ask(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Send a token request, without a second try: any failure raises :class:`_LoginFailed`."""
    try:
        reply = client.endpoints.token(body)
    except HttpError as error:
        raise _LoginFailed(str(error)) from None
    answer = json_of(reply)
    if reply.status != 200 or not isinstance(answer.get("access_token"), str):
        client.telemetry.emit("token_exchange_error", status=reply.status)
        raise _LoginFailed(f"Token exchange failed ({reply.status}): {message_of(reply)}")
    return answer


def _by_browser(client: Client, scope: str, more: dict[str, Any]) -> dict[str, Any]:
    """The authorization code flow with PKCE (RFC 7636), its answer caught on a loopback port (RFC 8252 section 7.3)."""
    import base64
    import hashlib
    import socket
    from urllib.parse import urlencode

    verifier = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    state = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        redirect = f"http://localhost:{listener.getsockname()[1]}/callback"
        query = {
            "code": "true",
            "client_id": _client_id(client),
            "response_type": "code",
            "redirect_uri": redirect,
            "scope": scope,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "state": state,
        }
        account = client.machine.environ.get("CLAUDE_TOKENS_LOGIN")
        if account:
            code = f"{account}#{os.urandom(8).hex()}"
        else:
            url = f"{_AUTHORIZE}?{urlencode(query)}"
            client.say(f"Open this address in a browser to log in:\n\n{url}\n")
            browser = client.machine.environ.get("BROWSER")
            with _showing(browser, url) if browser else nullcontext():
                code = _wait_for_code(client, listener, state)
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    return _ask(client, {**body, "client_id": _client_id(client), "code_verifier": verifier, "state": state, **more})


@contextmanager
def _showing(browser: str, url: str) -> Iterator[None]:
    """Start the program ``browser`` with ``url``; after the block, wait for its end for a few seconds at most."""
    import shlex
    import subprocess

    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen([*shlex.split(browser), url], stdin=nothing, stdout=nothing, stderr=nothing)
    except (OSError, ValueError) as error:
        raise _LoginFailed(f"cannot open a browser: {error}") from None
    try:
        yield
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_BROWSER_EXIT_SECONDS)


def _wait_for_code(client: Client, listener: Any, state: str) -> str:
    """Wait for the code that the browser brings. Requests with another path or another ``state`` get 400."""
    from urllib.parse import parse_qsl

    listener.settimeout(_CODE_TIMEOUT_SECONDS * client.machine.scale)
    while True:
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            raise _LoginFailed("nobody logged in") from None
        with sock:
            sock.settimeout(10)
            line = b""
            try:
                while not line.endswith(b"\n") and (byte := sock.recv(1)):
                    line += byte
                target = line.split(b" ")[1].decode("latin-1") if line.count(b" ") >= 2 else ""
                path, _, query = target.partition("?")
                given = dict(parse_qsl(query))
                accepted = path == "/callback" and given.get("state") == state and bool(given.get("code"))
                text = "You may close this window." if accepted else "Invalid request."
                status = "200 OK" if accepted else "400 Bad Request"
                sock.sendall(
                    f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
                    f"Connection: close\r\n\r\n{text}".encode()
                )
            except OSError:
                continue
        if accepted:
            return given["code"]
