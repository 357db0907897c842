"""From HTTP to intents: what a request asks for, and that no body makes the reader raise."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from fake_server.protocol.wire import Call, Malformed, Other, Request, TokenRequest, account_of, bearer_of, read
from tests.unit.core.harness import FORM, JSON, code, refresh, token_request

REFRESH = {"grant_type": "refresh_token", "refresh_token": "R", "client_id": "c"}
CODE = {
    **REFRESH,
    "grant_type": "authorization_code",
    "code": "a",
    "redirect_uri": "u",
    "code_verifier": "v",
    "state": "s",
}


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


@pytest.mark.parametrize("path", ["/v1/oauth/token", "/oauth/token"])
@pytest.mark.parametrize(("form", "encoding"), [(False, "json"), (True, "form")])
def test_both_encodings_are_read_and_told_apart(path: str, form: bool, encoding: Any) -> None:
    """JSON is usual, forms are in use; the journal says which it was."""
    intent = read(token_request({**REFRESH, "scope": "a b"}, form=form, path=path))

    assert intent == TokenRequest(
        grant_type="refresh_token", client_id="c", encoding=encoding, refresh_token="R", scope="a b"
    )


@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "format"),
        (without(REFRESH, "grant_type"), "format"),
        ({**REFRESH, "grant_type": ""}, "format"),
        (without(REFRESH, "refresh_token"), "format"),
        ({**REFRESH, "refresh_token": ""}, "format"),
        (without(REFRESH, "client_id"), "invalid_client"),
        ({**REFRESH, "client_id": ""}, "invalid_client"),
        ({**REFRESH, "grant_type": "password"}, "unsupported_grant_type"),
        ({**REFRESH, "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, "unsupported_grant_type"),
        ({**REFRESH, "scope": " "}, "invalid_scope"),
        ({**REFRESH, "scope": 'user:"inference"'}, "invalid_scope"),
        ({**REFRESH, "scope": "a\tb"}, "invalid_scope"),
        ({**REFRESH, "scope": "é"}, "invalid_scope"),
        ({**REFRESH, "expires_in": "soon"}, "format"),
        ({**REFRESH, "expires_in": 0}, "format"),
        ({**REFRESH, "expires_in": -1}, "format"),
        ({**REFRESH, "expires_in": "inf"}, "format"),
        ({**REFRESH, "expires_in": 10**400}, "format"),
        *[(without(CODE, name), "format") for name in ("code", "redirect_uri", "code_verifier", "state")],
    ],
    ids=str,
)
def test_a_request_of_a_wrong_form_is_malformed(body: dict[str, Any], error: Any, form: bool) -> None:
    """Each with its own error, and ``invalid_client`` only where the client's id is missing or empty."""
    intent = read(token_request(body, form=form))

    assert intent == Malformed(error=error, refresh_token=body.get("refresh_token", ""))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({**REFRESH, "client_id": 5}, "format"),
        ({**REFRESH, "refresh_token": ["R"]}, "format"),
        ({**REFRESH, "grant_type": {}}, "format"),
        ({**REFRESH, "scope": ["a"]}, "invalid_scope"),
        ({**REFRESH, "expires_in": True}, "format"),
        ({**REFRESH, "expires_in": [1]}, "format"),
    ],
    ids=str,
)
def test_a_json_value_of_a_wrong_type_is_malformed(body: dict[str, Any], error: str) -> None:
    """Numbers, lists and booleans where a text or a number is due."""
    intent = read(token_request(body))
    assert isinstance(intent, Malformed)
    assert intent.error == error


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", JSON),
        (b"not json", JSON),
        (b"[1]", JSON),
        (b'"text"', JSON),
        (b"null", JSON),
        (b"\xff\xfe", JSON),
        (b"[" * 100_000, JSON),
        (json.dumps(REFRESH).encode()[:-1], JSON),
        (b"grant_type=refresh_token&refresh_token=R&client_id=c", JSON),
        (json.dumps(REFRESH).encode(), FORM),
        (b"grant_type=refresh_token&refresh_token=R&client_id=c&client_id=c", FORM),
        (b"grant_type=refresh_token&refresh_token=R&refresh_token=S&client_id=c", FORM),
        (b'{"grant_type":"refresh_token","refresh_token":"R","refresh_token":"S","client_id":"c"}', JSON),
    ],
    ids=range(13),
)
def test_a_body_that_cannot_be_read_or_says_something_twice_is_malformed(
    body: bytes, headers: tuple[tuple[str, str], ...]
) -> None:
    """RFC 6749 section 3.2: a parameter must not come more than once."""
    assert read(Request("POST", "/v1/oauth/token", headers, body)) == Malformed(error="format")


@pytest.mark.parametrize("empty", ["", None])
def test_a_parameter_without_a_value_is_as_one_that_is_absent(empty: object) -> None:
    """RFC 6749 section 3.2 again: an empty scope asks for nothing in particular."""
    assert read(token_request({**REFRESH, "scope": empty, "expires_in": empty})) == read(token_request(REFRESH))


@pytest.mark.parametrize(("value", "seconds"), [(60, 60.0), (0.5, 0.5), ("60", 60.0)])
def test_a_life_may_be_asked_for(value: object, seconds: float) -> None:
    """As ``claude setup-token`` does: a number, or a text in a form."""
    intent = read(code("alice", expires_in=value))
    assert isinstance(intent, TokenRequest)
    assert (intent.code, intent.expires_in) == ("alice", seconds)


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON; charset=utf-8", None])
def test_json_is_read_whatever_the_content_type_says_unless_it_says_form(content_type: str | None) -> None:
    """Some clients send none."""
    headers = () if content_type is None else (("content-type", content_type),)
    assert isinstance(read(Request("POST", "/v1/oauth/token", headers, json.dumps(REFRESH).encode())), TokenRequest)


def message(content: object, **more: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
    return Request("POST", "/v1/messages", JSON, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Reply: A", "A"),
        ("Please. Reply: two words ", "two words"),
        ("Reply: ", "OK"),
        ("hello", "OK"),
        ([{"type": "text", "text": "no"}, {"type": "text", "text": "Reply: B"}], "B"),
        ([{"type": "text", "text": "Reply: B"}, {"type": "image"}], "B"),
        ([{"type": "text", "text": 5}, "nonsense"], "OK"),
        (5, "OK"),
    ],
    ids=str,
)
def test_the_model_answers_what_the_last_user_message_asks_for(content: object, text: str) -> None:
    """``Reply: X`` is answered with X, anything else with OK."""
    assert read(message(content)) == Call(model="m", text=text, stream=False)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (None, "OK"),
        ("nonsense", "OK"),
        ([], "OK"),
        ([5, {"role": "assistant", "content": "Reply: A"}], "OK"),
        ([{"role": "user", "content": "Reply: A"}, {"role": "assistant", "content": "Reply: B"}], "A"),
    ],
    ids=str,
)
def test_only_the_last_user_message_counts(messages: object, text: str) -> None:
    """What the assistant has said, or what is no message, asks for nothing."""
    body = json.dumps({"messages": messages}).encode()
    assert read(Request("POST", "/v1/messages", JSON, body)) == Call(model="claude-fake", text=text, stream=False)


@pytest.mark.parametrize(("stream", "streamed"), [(True, True), (False, False), ("true", False), (1, False)])
def test_a_stream_must_be_asked_for(stream: object, streamed: bool) -> None:
    """By ``true`` and nothing else."""
    intent = read(message("x", stream=stream))
    assert isinstance(intent, Call)
    assert intent.stream is streamed


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"[" * 100_000])
def test_a_call_is_a_call_whatever_its_body(body: bytes) -> None:
    """What is tested is the token traffic: a call that cannot be read is answered with OK."""
    assert read(Request("POST", "/v1/messages", JSON, body)) == Call(model="claude-fake", text="OK", stream=False)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/api/oauth/profile", "profile"),
        ("GET", "/api/oauth/usage", "usage"),
        ("GET", "/api/oauth/claude_cli/roles", "roles"),
        ("GET", "/api/oauth/claude_cli/client_data", "client_data"),
        ("GET", "/v1/models", "models"),
        ("POST", "/v1/messages/count_tokens", "count_tokens"),
        ("GET", "/v1/oauth/hello", "hello"),
        ("GET", "/api/hello", "hello"),
        ("HEAD", "/api/hello", "hello"),
        ("HEAD", "/", "unknown"),
        ("GET", "/v1/messages", "unknown"),
        ("GET", "/v1/oauth/token", "unknown"),
        ("POST", "/api/eval/sdk-x", "unknown"),
        ("BREW", "", "unknown"),
    ],
)
def test_the_neighbours_are_known_by_method_and_path(method: str, path: str, name: Any) -> None:
    """All else is unknown, and no call."""
    assert read(Request(method, path)) == Other(name=name)


@pytest.mark.parametrize(
    ("request_", "token"),
    [
        (token_request({"token": "R"}, path="/v1/oauth/token/revoke"), "R"),
        (token_request({"token": "R"}, form=True, path="/v1/oauth/token/revoke"), "R"),
        (token_request(b"nonsense", path="/v1/oauth/token/revoke"), ""),
        (token_request({"token": 5}, path="/v1/oauth/token/revoke"), ""),
    ],
)
def test_a_log_out_names_its_refresh_token(request_: Request, token: str) -> None:
    """RFC 7009 section 2.1."""
    assert read(request_) == Other(name="revoke", refresh_token=token)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer T", "T"),
        ("bearer  T ", "T"),
        ("Basic T", None),
    ],
)
def test_a_bearer_is_read_from_its_header(header: str | None, token: str | None) -> None:
    """RFC 6750 section 2.1; the scheme's case does not matter."""
    headers = () if header is None else (("accept", "x"), ("authorization", header))
    assert bearer_of(Request("GET", "/", headers)) == token


@pytest.mark.parametrize(
    ("target", "worker", "path"),
    [
        ("/v1/messages?beta=true", None, "/v1/messages"),
        ("/w/w0/v1/messages?beta=true", "w0", "/v1/messages"),
        ("/w/a%20b/v1/oauth/token", "a b", "/v1/oauth/token"),
        ("/w/w0", "w0", ""),
        ("/w//v1/messages", None, "/w//v1/messages"),
        ("/w", None, "/w"),
        ("*", None, "*"),
    ],
)
def test_a_target_may_name_its_worker(target: str, worker: str | None, path: str) -> None:
    """The prefix and the query go, the rest is the path."""
    request = Request.parse("POST", target, JSON, b"", "host")
    assert (request.worker, request.path, request.host) == (worker, path, "host")


@pytest.mark.parametrize(
    ("value", "account"),
    [
        ("alice", "alice"),
        ("alice#state", "alice"),
        ("jürgen@fake.invalid", "jürgen@fake.invalid"),
        ("", None),
        ("#state", None),
        ("a b", None),
        ("x" * 33, None),
        ("sk-ant-oat01-short", None),
    ],
)
def test_an_authorization_code_names_an_account(value: str, account: str | None) -> None:
    """A short name; what could be a real code or a token is none."""
    assert account_of(value) == account


def test_no_representation_tells_what_a_client_has_sent() -> None:
    """Requests and intents turn up in tracebacks."""
    secret = "sk-ant-ort01-somebody-s"
    for request in (refresh(secret), code(secret), Request("GET", "/", (("authorization", f"Bearer {secret}"),))):
        assert secret not in repr(request)
        assert secret not in repr(read(request))


MEMBERS = st.sampled_from(
    ["grant_type", "refresh_token", "client_id", "scope", "expires_in", "code", "messages", "token"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(CODE.values())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.binary(max_size=50) | st.dictionaries(MEMBERS, VALUES).map(lambda body: json.dumps(body).encode())
PATHS = st.sampled_from(["/v1/oauth/token", "/v1/oauth/token/revoke", "/v1/messages", "/oauth/token", "/"]) | st.text()


@given(
    method=st.sampled_from(["POST", "GET", "HEAD"]),
    target=PATHS,
    content_type=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "x"]) | st.text(),
    body=BODIES,
)
@example(
    "POST", "/v1/oauth/token", "application/json", b'{"expires_in":1%b,%b' % (b"0" * 400, json.dumps(CODE).encode()[1:])
)
@example("POST", "/v1/oauth/token", "application/json", b'{"expires_in":1%b}' % (b"0" * 5000))
def test_the_reader_never_raises(method: str, target: str, content_type: str, body: bytes) -> None:
    """Whatever comes, it is one of the four intents."""
    request = Request.parse(method, target, (("content-type", content_type),), body)
    assert isinstance(read(request), TokenRequest | Malformed | Call | Other)
