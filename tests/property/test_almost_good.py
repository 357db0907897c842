"""Requests that are good but for a member or two: each is answered, in JSON that any reader takes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from fake_server.limits import read_json
from tests.property.wire import SERVICES, Wire, replies

WIRES = {name: Wire(name) for name in SERVICES}
ENDPOINTS = {
    name: {place["name"]: place["path"] for place in wire.server.endpoints()["endpoints"]}
    for name, wire in WIRES.items()
}
REFRESH = WIRES["claude"].grant.refresh[0].secret  # the same in each of them, as is the bearer
BEARER = WIRES["claude"].grant.access[0].secret

RENEWAL: dict[str, Any] = {
    "grant_type": "refresh_token",
    "refresh_token": REFRESH,
    "client_id": "mine",
    "scope": "read",
}
RENEWAL |= {"expires_in": 60, "resource": "https://x.example/a", "audience": "https://x.example"}
CODE = {"grant_type": "authorization_code", "code": "alice", "redirect_uri": "http://localhost/cb", "client_id": "mine"}
CODE |= {"code_verifier": "v" * 43, "state": "s"}
SECRET = {"grant_type": "client_credentials", "client_id": "mine", "client_secret": "x"}
ASSERTED = {"client_assertion": "e30.e30.e30", "grant_type": "client_credentials"}
ASSERTED |= {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
DEVICE = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "x", "client_id": "mine"}
SENT = {"response_type": "code", "client_id": "mine", "redirect_uri": "http://localhost/cb", "state": "s"}
SENT |= {"code_challenge": "c" * 43, "code_challenge_method": "S256", "login_hint": "alice", "user_code": "ABCD-EFGH"}
FACTS = {"redirect_uris": ["http://localhost/cb"], "grant_types": ["authorization_code"], "jwks": {"keys": []}}
FACTS |= {"token_endpoint_auth_method": "none", "client_name": "x", "response_types": ["code"]}
CALL = {"model": "x", "stream": True, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}
PARAMS = {"name": "echo", "arguments": {"text": "x"}, "protocolVersion": "2025-06-18"}
FAULT = {"target": "token", "count": 1, "seconds": 1, "code": 500, "body": "x", "headers": {"a": "b"}, "part": "body"}
FAULT |= {"after_commit": True, "retry_after": 5}
TEMPLATES: list[tuple[str, dict[str, Any]]] = [
    *(("token", body) for body in (RENEWAL, CODE, SECRET, ASSERTED, DEVICE)),
    *((name, {"token": REFRESH, "token_type_hint": "x"}) for name in ("revoke", "introspect")),
    *((name, SENT) for name in ("authorize", "verify", "device")),
    ("register", FACTS),
    *(("/mcp", {"jsonrpc": "2.0", "id": 1, "method": way, "params": PARAMS}) for way in ("initialize", "tools/call")),
    ("/api/x", {"a": "b"}),
    ("/v1/messages", CALL),
    ("count_tokens", CALL),
    ("/_claude_tokens/accounts", {"name": "bob", "expired": True, "expires_in": 5, "setup_token": False}),
    *(("/_claude_tokens/faults", {"fault": kind, **FAULT}) for kind in ("status", "stall", "delay", "quota")),
    *(("/_claude_tokens/faults", {"fault": kind}) for kind in ("status", "burst", "moved", "html", "timeout")),
]
ONLY = {"/mcp": ("mcp",), "/api/x": ("oauth", "oidc"), "/v1/messages": ("claude",)}
ONLY |= {f"/_claude_tokens/{name}": SERVICES for name in ("accounts", "faults")}
ODD_TEXTS = [
    "",
    "\r\nX: y",
    "\ud800",
    "é",
    "\N{SNOWMAN}",
    "http://[",
    "http://a:b",
    "x:y",
    "http://x/\N{SNOWMAN}",
    "\0",
]
ODD_TEXTS += ["http://x/\r\nX: y", "1" * 5000, "none", "private_key_jwt", "9" * 30, "a" * 200]
ODD: list[Any] = [None, True, False, 0, -1, 1.5, 10**400, float("nan"), float("inf"), [], {}, [[]], [None], [1]]
ODD += [
    *ODD_TEXTS,
    *([text] for text in ODD_TEXTS),
    *({"text": text} for text in ODD_TEXTS),
    {"keys": 5},
    {"keys": [5]},
]
ODD += [{"keys": [{"kty": "RSA", "n": n, "e": e}]} for n, e in ((5, []), ("", ""), ("AA", "AQAB"))]


@st.composite
def changed(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """``body`` with one or two members changed, at any depth."""
    body = dict(body)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        name = draw(st.sampled_from([*body]))
        value = body[name]
        if isinstance(value, dict) and value and draw(st.booleans()):
            body[name] = draw(changed(value))
        elif isinstance(value, list) and value and isinstance(value[0], dict) and draw(st.booleans()):
            body[name] = [draw(changed(value[0]))]
        else:
            body[name] = draw(st.sampled_from(ODD))
    return body


@st.composite
def requests(draw: st.DrawFn, service: str) -> bytes:
    known = [(name, body) for name, body in TEMPLATES if service in ONLY.get(name, ()) or name in ENDPOINTS[service]]
    name, body = draw(st.sampled_from(known))
    path = ENDPOINTS[service].get(name, name)
    asked = draw(changed(body))
    form = urlencode({key: str(value).encode("utf-8", "replace") for key, value in asked.items()}).encode()
    if name in ("authorize", "verify") and draw(st.booleans()):
        return b"GET %b?%b HTTP/1.1\r\nhost: localhost\r\n\r\n" % (path.encode(), form)
    as_form = not path.startswith("/_") and draw(st.sampled_from([False, False, False, True]))
    sent = form if as_form else json.dumps(asked).encode()
    kind = b"application/x-www-form-urlencoded" if as_form else b"application/json"
    bearer = b"authorization: Bearer %b\r\n" % BEARER.encode() if name.startswith("/") else b""
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
    return head % (path.encode(), kind, bearer, len(sent)) + sent


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data(), service=st.sampled_from(SERVICES))
def test_what_is_almost_good_is_answered(data: st.DataObject, service: str) -> None:
    """Nothing raises, nothing but the reply gets on the wire, and no reply or event has what is no JSON."""
    wire = Wire(service)
    sent = data.draw(st.lists(requests(service), min_size=1, max_size=2))
    wire.feed(*sent)
    wire.leave()
    assert wire.server.open == {}
    for line in wire.lines:
        read_json(line)
    if not any(b"faults" in one for one in sent):
        found = replies(bytes(wire.sent))
        assert len(found) == len(sent)
        for _, headers, body in found:
            assert "x" not in headers  # what a redirect or a refusal repeats begins no header of its own
            if headers.get("content-type") == "application/json":
                read_json(body)
