"""HTTP messages as values: parses a request into an intent. Sans-IO."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import parse_qsl, unquote

from fake_server.genuine import json
from fake_server.limits import MOST_SECONDS
from fake_server.secrecy import is_name, shown
from fake_server.tokens import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Call",
    "Intent",
    "Malformed",
    "Other",
    "Reply",
    "Request",
    "TokenRequest",
    "account_of",
    "bearer_of",
    "check_account_name",
    "claude_endpoints",
    "has_credentials",
    "read",
    "refresh_tokens_in",
    "split_prefix",
]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Header names are lower case.

    ``worker`` is the worker's name, and ``prefixed`` whether it came with the path; ``scheme``: empty if not known.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    host: str = ""
    worker: str | None = None
    query: str = field(default="", repr=False)
    scheme: str = ""
    prefixed: bool = False

    @classmethod
    def parse(
        cls,
        method: str,
        target: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        host: str = "",
        *,
        scheme: str = "",
    ) -> Request:
        """A request from its target (``/w/w0/v1/messages?beta=true``), without the worker's prefix."""
        path, _, query = target.partition("?")
        worker, path = split_prefix(path)
        return cls(method, path, headers, body, host, worker, query, scheme, worker is not None)

    def header(self, name: str) -> str | None:
        """The first value of the header ``name`` (lower case)."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


def split_prefix(path: str) -> tuple[str | None, str]:
    """``/w/w0/v1/messages`` -> ``("w0", "/v1/messages")``; for any other path the worker is ``None``."""
    if path.startswith("/w/"):
        name, slash, rest = path[3:].partition("/")
        if name:
            return unquote(name), slash + rest
    return None, path


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A token request (RFC 6749 sections 4.1.3 and 6). ``encoding``: the body's; clients use both, mostly JSON."""

    grant_type: str
    client_id: str
    encoding: Literal["json", "form"]
    refresh_token: str = field(default="", repr=False)
    code: str = field(default="", repr=False)
    scope: str | None = None
    expires_in: float | None = None
    f: Literal["token"] = "token"
    unjudged: ClassVar[str] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A token request that is refused for its form."""

    error: Literal["format", "invalid_client", "invalid_scope", "unsupported_grant_type"]
    refresh_token: str = field(default="", repr=False)
    f: Literal["token"] = "token"

    @property
    def unjudged(self) -> str:
        """Why nothing can be concluded from it."""
        return f"refused: {'invalid_request' if self.error == 'format' else self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``POST /v1/messages``. ``text`` is the text of the model's answer."""

    model: str
    text: str
    stream: bool
    f: Literal["call"] = "call"
    unjudged: ClassVar[str] = ""


OtherName = Literal["profile", "usage", "models", "count_tokens", "roles", "client_data", "hello", "revoke", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A request to any other endpoint, known or not."""

    name: OtherName
    refresh_token: str = field(default="", repr=False)
    f: Literal["other"] = "other"

    @property
    def unjudged(self) -> str:
        """Why nothing can be concluded from it; empty for a request that an endpoint has understood."""
        return "not an endpoint of service 'claude'" if self.name == "unknown" else ""


Intent = TokenRequest | Malformed | Call | Other


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply. It is streamed if it has more than one piece. ``error``: the code of a refusal, as sent."""

    status: int
    pieces: tuple[bytes, ...] = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=())
    error: str | None = None

    @property
    def streamed(self) -> bool:
        """Whether the pieces are sent one by one."""
        return len(self.pieces) > 1


_OTHERS: dict[tuple[str, str], OtherName] = {
    ("GET", "/api/oauth/profile"): "profile",
    ("GET", "/api/oauth/usage"): "usage",
    ("GET", "/api/oauth/claude_cli/roles"): "roles",
    ("GET", "/api/oauth/claude_cli/client_data"): "client_data",
    ("GET", "/v1/models"): "models",
    ("POST", "/v1/messages/count_tokens"): "count_tokens",
    ("GET", "/v1/oauth/hello"): "hello",
    ("GET", "/api/hello"): "hello",
    ("HEAD", "/api/hello"): "hello",
    ("POST", "/v1/oauth/token/revoke"): "revoke",
}
_ACCOUNT = re.compile(r"[\w.@+-]{1,32}")
_TOKEN_PATHS = ("/v1/oauth/token", "/oauth/token")
_NOTHING = ("", "bearer", "bearer none", "bearer null", "bearer undefined")


def claude_endpoints() -> list[dict[str, Any]]:
    """The endpoints of Claude's service: name, methods, path."""
    tokens = [{"name": "token", "methods": ["POST"], "path": path} for path in _TOKEN_PATHS]
    others = [{"name": name, "methods": [method], "path": path} for (method, path), name in _OTHERS.items()]
    return [*tokens, *others]


def read(request: Request) -> Intent:
    """Parse a request. Never raises: an unreadable request is an intent, too."""
    if request.method == "POST":
        if request.path == "/v1/messages":
            return _read_call(request.body)
        if request.path in _TOKEN_PATHS:
            return _read_token_request(request)
    name = _OTHERS.get((request.method, request.path), "unknown")
    if name == "revoke":
        body, _ = _fields(request)
        return Other(name="revoke", refresh_token=_text(body, "token"))
    return Other(name=name)


def bearer_of(request: Request) -> str | None:
    """The access token in ``Authorization`` (RFC 6750 section 2.1), or ``None``."""
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def refresh_tokens_in(request: Request) -> Iterator[str]:
    """What looks like a refresh token of a fake service, in the query or the body, however that is encoded."""
    for text in (unquote(request.query), request.body.decode("latin-1")):
        for found in TOKEN.finditer(text):
            yield found[0]


def has_credentials(request: Request) -> bool:
    """Whether it carries a bearer, an API key, or anything else in ``Authorization``.

    ``Bearer None`` is what becomes of a token that is not there: a client that formats its header has none to send.
    """
    if (request.header("x-api-key") or "").strip():
        return True
    authorization = (request.header("authorization") or "").strip()
    return authorization.lower() not in _NOTHING


def account_of(code: str) -> str | None:
    """The account that an authorization code logs in: ``alice#2`` is one for ``alice``.

    ``None`` where the code cannot be one for this service. A name is short and no secret, so that a code of the real
    service, pasted by mistake, is refused and never becomes a name in the journal.
    """
    name = code.partition("#")[0]
    return name if _ACCOUNT.fullmatch(name) and is_name(name) else None


def check_account_name(name: object) -> None:
    """Raises ``ValueError`` for an invalid account name; the text does not show a token pasted in its place."""
    if not isinstance(name, str) or account_of(name) != name:
        raise ValueError(f"{shown(name)}: an account's name is 1 to 32 letters, digits and . _ @ + -")


def _fields(request: Request) -> tuple[dict[str, Any], Literal["json", "form"] | None]:
    """The parameters in the body, and its encoding; ``None`` if it is neither JSON nor a form.

    RFC 6749 section 3.2: a parameter without a value counts as absent, and none may be repeated.
    """
    content_type = (request.header("content-type") or "").lower()
    if "x-www-form-urlencoded" in content_type:
        pairs: list[tuple[str, Any]] = parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
        body = dict(pairs) if len(dict(pairs)) == len(pairs) else None
        encoding: Literal["json", "form"] = "form"
    else:
        body, encoding = _object(request.body, _decode_unique), "json"
    if body is None:
        return {}, None
    return {name: value for name, value in body.items() if value not in ("", None)}, encoding


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


_decode = json.JSONDecoder().decode
_decode_unique = json.JSONDecoder(object_pairs_hook=_unique).decode


def _object(body: bytes, decode: Callable[[str], Any] = _decode) -> dict[str, Any] | None:
    """The JSON object in ``body``, or ``None``."""
    try:
        value = decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _read_token_request(request: Request) -> TokenRequest | Malformed:
    body, encoding = _fields(request)
    refresh_token = _text(body, "refresh_token")
    if encoding is None or not _text(body, "grant_type"):
        return Malformed(error="format", refresh_token=refresh_token)
    if "client_id" not in body:
        return Malformed(error="invalid_client", refresh_token=refresh_token)
    grant_type = body["grant_type"]
    if grant_type == "refresh_token":
        complete = bool(refresh_token)
    elif grant_type == "authorization_code":
        complete = all(_text(body, name) for name in ("code", "redirect_uri", "code_verifier", "state"))
    else:
        return Malformed(error="unsupported_grant_type", refresh_token=refresh_token)
    life = _seconds(body.get("expires_in"))
    if not (complete and _text(body, "client_id")) or ("expires_in" in body and life is None):
        return Malformed(error="format", refresh_token=refresh_token)
    scope = body.get("scope")
    if "scope" in body and not _is_scope(scope):
        return Malformed(error="invalid_scope", refresh_token=refresh_token)
    return TokenRequest(
        grant_type=grant_type,
        client_id=body["client_id"],
        encoding=encoding,
        refresh_token=refresh_token,
        code=_text(body, "code"),
        scope=scope,
        expires_in=life,
    )


def _seconds(value: object) -> float | None:
    """A positive number of seconds that is not too large, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= MOST_SECONDS else None


def _is_scope(value: object) -> bool:
    """RFC 6749 section 3.3: one or more words of printable ASCII without quotes and backslashes."""
    if not isinstance(value, str) or not value.strip(" "):
        return False
    return all("!" <= char <= "~" and char not in '"\\' for word in value.split(" ") for char in word)


def _read_call(body: bytes) -> Call:
    """Parse a call, leniently: an unreadable body is accepted, as the fake is not for testing the Messages API."""
    message = _object(body) or {}
    prompt = _last_prompt(message.get("messages"))
    text = prompt.partition("Reply: ")[2].strip() if "Reply: " in prompt else "OK"
    return Call(model=_text(message, "model") or "claude-fake", text=text or "OK", stream=message.get("stream") is True)


def _last_prompt(messages: object) -> str:
    """The last text of the last user message."""
    if not isinstance(messages, list):
        return ""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            blocks = content if isinstance(content, list) else []
            texts = [block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
            return next((text for text in reversed(texts) if isinstance(text, str)), "")
    return ""
