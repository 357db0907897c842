"""What almost is a request of a standard service is refused in its own form, and never raises or gets into a header."""

from __future__ import annotations

import base64
import json

import pytest

from fake_server.jose import JWKS, sign, verifies
from fake_server.limits import read_json
from fake_server.protocol.wire import Request
from fake_server.service import Service
from fake_server.transports.loopback.http1 import Parser, request_of
from tests.unit.core.oauth_world import OAuthWorld

NO_TARGETS = [
    "http://[",
    "http://x/\r\nX: y",
    "http://x/\N{SNOWMAN}",
    "http://x/é",
    "http://x y",
    "//x",
    "http://x#a",
    5,
]
FACTS = {"redirect_uris": ["http://localhost/cb"], "token_endpoint_auth_method": "none"}


@pytest.mark.parametrize("target", NO_TARGETS)
def test_only_an_absolute_uri_is_redirected_to(target):
    """RFC 6749 section 3.1.2; what is no URI would be a header of its own, or none at all."""
    world = OAuthWorld()
    asked = {"response_type": "code", "client_id": "mine", "redirect_uri": target}
    assert world.ask("POST", "/oauth2/authorize", json_=asked).status == 400
    answer = world.ask("POST", "/oauth2/register", json_=FACTS | {"redirect_uris": [target]})
    assert (answer.status, answer.json["error"]) == (400, "invalid_redirect_uri")


@pytest.mark.parametrize("target", ["http://localhost:1/cb?x=1", "com.example.app:/cb", "https://[::1]/cb"])
def test_a_uri_of_any_scheme_is_redirected_to(target):
    asked = {"response_type": "code", "client_id": "mine", "redirect_uri": target, "state": "\ud800"}
    answer = OAuthWorld().ask("POST", "/oauth2/authorize", json_=asked)
    assert (answer.status, (answer.header("location") or "").isascii()) == (302, True)
    assert "state=%ED%A0%80" in answer.header("location")  # half a character, as it came


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
def test_a_number_that_json_has_not_is_not_repeated(number):
    """Whoever gets it back could not read it."""
    with pytest.raises(ValueError, match=f"{number} is no number of JSON"):
        read_json(f"[{number}]")
    odd = f'{{"client_name":{number},"redirect_uris":["http://localhost/cb"]}}'.encode()
    kind = (("content-type", "application/json"), ("host", "auth.example.com"))
    answer = OAuthWorld().send(Request.parse("POST", "/oauth2/register", kind, odd))
    assert (answer.status, answer.json["error"]) == (400, "invalid_client_metadata")


def test_json_is_read_in_each_of_its_encodings():
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert read_json('{"a":[1.5,"é"]}'.encode(encoding)) == {"a": [1.5, "é"]}
    for text in ("[" * 100_000, b"\xff", "\ufeff1", ""):
        with pytest.raises(ValueError):
            read_json(text)


@pytest.mark.parametrize(
    "params", [[], [1], "x", 5, {"name": "echo", "arguments": [1]}, {"name": "echo", "arguments": "x"}]
)
@pytest.mark.parametrize("method", ["initialize", "tools/call"])
def test_params_that_are_no_object_are_an_error_of_json_rpc(params, method):
    """Its code for them is -32602; what is empty counts as left out."""
    world = OAuthWorld(Service.preset("mcp"))
    bearer = world.login()[0]
    asked = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    answer = world.ask("POST", "/mcp", json_=asked, bearer=bearer)
    assert (answer.status, answer.json["id"]) == (200, 7)
    good = method == "initialize" and (not params or isinstance(params, dict))
    assert answer.json.get("error", {}).get("code") == (None if good else -32602)
    world.ask("POST", "/mcp", json_=asked, bearer=bearer)
    nan = json.dumps(asked | {"id": float("nan")}).encode()
    headers = (("authorization", f"Bearer {bearer}"), ("content-type", "application/json"), ("host", world.host))
    assert world.send(Request.parse("POST", "/mcp", headers, nan, world.host)).json["error"]["code"] == -32700


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
@pytest.mark.parametrize("text", ["\x80YWxpY2U6eA==", "é", "=", "/w==", ""])
def test_credentials_that_are_no_base64_are_wrong_credentials(scheme, text):
    """Also where they are no ASCII, which a header may be."""
    form = b"grant_type=client_credentials"
    headers = (("authorization", f"{scheme} {text}"), ("content-type", "application/x-www-form-urlencoded"))
    assert OAuthWorld().send(Request.parse("POST", "/oauth2/token", headers, form)).status in (400, 401)
    (message,) = Parser().feed(f"GET / HTTP/1.1\r\nProxy-Authorization: {scheme} {text}\r\n\r\n".encode("latin-1"))
    assert request_of(message, lambda *_: True).worker is None
    good = base64.b64encode(b"w7:x").decode()
    (message,) = Parser().feed(f"GET / HTTP/1.1\r\nProxy-Authorization: Basic {good}\r\n\r\n".encode())
    assert request_of(message, lambda *_: True).worker == "w7"


@pytest.mark.parametrize("jwks", [5, "x", [], {}, {"keys": 5}, {"keys": {}}, {"keys": [{}] * 101}, None])
def test_a_client_registers_no_keys_but_a_set_of_keys(jwks):
    """RFC 7517 section 5: an object with a list."""
    answer = OAuthWorld().ask("POST", "/oauth2/register", json_=FACTS | {"jwks": jwks})
    left_out = jwks is None
    assert (answer.status, answer.json.get("error")) == ((201, None) if left_out else (400, "invalid_client_metadata"))
    assert OAuthWorld().ask("POST", "/oauth2/register", json_=FACTS | {"jwks": {"keys": [5]}}).status == 201


def test_a_key_so_large_that_it_takes_hours_verifies_nothing():
    """With a modulus and an exponent of 100 kB `pow` would not come back."""
    token, key = sign({"a": 1}), JWKS["keys"][0]
    assert verifies(token, key)
    large = base64.urlsafe_b64encode(b"\xff" * 100_000).decode().rstrip("=")
    assert [verifies(token, key | odd) for odd in ({"n": large}, {"e": large}, {"n": large, "e": large})] == [False] * 3
