"""What the CLI prints when a call has failed, by release."""

from __future__ import annotations

from pytest_claude_tokens.claude.endpoints import json_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pytest_claude_tokens.claude.dialects import Dialect
    from pytest_claude_tokens.claude.http import HttpError, Reply

__all__ = [
    "EXPIRED",
    "INVALID_KEY",
    "LOCK_STUCK",
    "LOST_CONNECTION",
    "NOT_LOGGED_IN",
    "connection_text",
    "is_revoked",
    "message_of",
    "reply_text",
]

NOT_LOGGED_IN = "Not logged in · Please run /login"
INVALID_KEY = "Invalid API key · Fix external API key"
EXPIRED = "Failed to authenticate: OAuth session expired and could not be refreshed"
LOST_CONNECTION = "API Error: Connection lost mid-response"
LOCK_STUCK = (
    "Failed to refresh OAuth token: another Claude Code process is refreshing it or exited mid-refresh. "
    "This is usually transient; retry in a minute, or log in again with /login"
)

_REVOKED = "OAuth token has been revoked"
_CLAIMS = {"five_hour": "5-hour", "seven_day": "weekly"}


def message_of(reply: Reply) -> str:
    """The message in the service's reply, or the whole body where it has none."""
    error = json_of(reply).get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else reply.body.decode("utf-8", "replace").strip()


def is_revoked(reply: Reply) -> bool:
    """Whether it is the 403 that means the same as a 401."""
    return reply.status == 403 and _REVOKED in message_of(reply)


def connection_text(error: HttpError, dialect: Dialect) -> str:
    """The text for a call to which no complete reply came."""
    if error.code == "ECERT":
        return "API Error: SSL certificate verification failed. Check NODE_EXTRA_CA_CERTS"
    if dialect.newest and error.code == "ECONNRESET":
        return "API Error: Connection dropped (ECONNRESET). Check the network and try again"
    return f"API Error: Unable to connect to API ({error.code})"


def reply_text(reply: Reply, dialect: Dialect, model: str) -> str:
    """The text for a call that the service refused."""
    status, message = reply.status, message_of(reply)
    # 2.1.330 prints the message, the releases before it the whole body.
    detail = message if dialect.newest else reply.body.decode("utf-8", "replace").strip()
    if is_revoked(reply):
        if dialect.newest:
            return "Failed to authenticate: OAuth token revoked. Please log in again or contact your administrator."
        return "Your account does not have access to Claude. Please login again or contact your administrator."
    if status in (401, 403):
        return f"Failed to authenticate. API Error: {status} {detail}"
    if status == 404:
        return (
            f"There's an issue with the selected model ({model}). It may not exist or you may not have access to it. "
            "Run --model to pick a different model."
        )
    if status == 413:
        return "Request too large (max 32MB). Try with a smaller file."
    if status == 429:
        return _limit_text(reply, dialect, message)
    if status >= 500:
        return f"API Error: {status} {message}. This is a server-side issue, usually temporary — try again in a moment."
    return f"API Error: {status} {detail}"


def _limit_text(reply: Reply, dialect: Dialect, message: str) -> str:
    prefix = "anthropic-ratelimit-unified-"
    reset = reply.headers.get(f"{prefix}reset", "0")
    if dialect.first:
        return f"Claude AI usage limit reached|{reset}"
    if reply.headers.get(f"{prefix}status") != "rejected":
        return f"API Error: Server is temporarily limiting requests (not your usage limit) · {message}"
    claim = _CLAIMS.get(reply.headers.get(f"{prefix}representative-claim", ""), "usage")
    if not dialect.newest and claim == "5-hour":
        claim = "session"
    return f"You've hit your {claim} limit · resets {_clock(reset)} (UTC)"


def _clock(epoch: str) -> str:
    """``4:19am``, from epoch seconds."""
    minutes = int(epoch) // 60 % 1440 if epoch.isdigit() else 0
    hour, minute = divmod(minutes, 60)
    return f"{hour % 12 or 12}{f':{minute:02d}' if minute else ''}{'am' if hour < 12 else 'pm'}"
