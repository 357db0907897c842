"""Authorization, resources, userinfo and metadata of a service that speaks the standards."""

from __future__ import annotations

import json

import pytest

from fake_server.faults import Fault
from fake_server.jose import JWKS
from fake_server.service import Service
from tests.unit.core.oauth_world import OAuthWorld, challenge_of

SERVER = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
PROTECTED = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": ""}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"login_hint": "sk-ant-oat01-" + "x" * 30}, "login_required"),
    ],
)
def test_an_authorization_error_is_redirected(asked, error):
    """RFC 6749 section 4.1.2.1, with `state`, and `iss` by RFC 9207."""
    found = OAuthWorld().redirected(state="s", **asked)
    assert (found["error"], found["state"], found["iss"]) == (error, "s", "https://auth.example.com")


@pytest.mark.parametrize(
    "query",
    [
        "response_type=code",
        "client_id=mine",
        "client_id=mine&redirect_uri=/cb",
        "client_id=mine&redirect_uri=http://x/%23a",
    ],
)
def test_without_a_client_and_an_address_nobody_is_redirected(query):
    """The person is told instead."""
    answer = OAuthWorld().ask("GET", f"/oauth2/authorize?{query}")
    assert (answer.status, answer.header("content-type")) == (400, "text/html; charset=UTF-8")


def test_a_registered_address_need_not_be_repeated():
    """If there is only one; the exchange then has none, either. Its own query stays."""
    world = OAuthWorld()
    facts = {"redirect_uris": ["https://app.example/cb?a=1"], "token_endpoint_auth_method": "none"}
    id_ = world.ask("POST", "/oauth2/register", json_=facts).json["client_id"]
    answer = world.ask("POST", "/oauth2/authorize", {"response_type": "code", "client_id": id_})
    location = answer.header("location") or ""
    assert location.startswith("https://app.example/cb?a=1&code=FAKE-code-")
    code = location.partition("code=")[2].partition("&")[0]
    assert world.token(grant_type="authorization_code", code=code, client_id=id_).status == 200


def test_it_logs_in_who_is_there():
    """Without a hint, the last account that was logged in; `a1` where there is none."""
    world = OAuthWorld()
    assert world.exchange(world.redirected()["code"]).status == 200
    assert world.last().account == "a1"
    world.login("carol")
    world.exchange(world.redirected()["code"])
    assert world.last().account == "carol"


@pytest.mark.parametrize(
    ("host", "base"),
    [("auth.example.com", "https://auth.example.com"), ("127.0.0.1:4711", "http://127.0.0.1:4711"),
     ("further.example", "https://further.example"), ("api.example.com", "https://auth.example.com")],
)  # fmt: skip
def test_metadata_name_the_addresses_under_which_the_client_came(host, base):
    """RFC 8414 section 3.3: the issuer is where they were found; a second host of the service has none of its own."""
    found = OAuthWorld("oidc").ask("GET", OPENID, host=host).json
    assert found["issuer"] == base
    assert found["token_endpoint"] == f"{base}/oauth2/token"
    assert {name for name in found if name.endswith(("_endpoint", "_uri"))} == {
        "authorization_endpoint", "device_authorization_endpoint", "introspection_endpoint", "jwks_uri",
        "registration_endpoint", "revocation_endpoint", "token_endpoint", "userinfo_endpoint",
    }  # fmt: skip
    assert found["id_token_signing_alg_values_supported"] == ["RS256"]


def test_metadata_of_a_worker_keep_its_prefix():
    """`/w/w0` on the base URL is how requests over loopback are attributed."""
    from fake_server.protocol.wire import Request

    world = OAuthWorld("mcp")
    request = Request.parse("GET", f"/w/w0{SERVER}", (("host", "127.0.0.1:80"),), b"", "127.0.0.1")
    assert world.send(request).json["token_endpoint"] == "http://127.0.0.1:80/w/w0/token"
    request = Request.parse("GET", f"/w/w0{SERVER}", (("host", "mcp.example.com"),), b"", "mcp.example.com")
    assert world.send(request).json["token_endpoint"] == "https://mcp.example.com/token"


def test_metadata_say_what_there_is():
    """And nothing of what there is not: the value can't contradict them."""
    found = OAuthWorld("mcp").ask("GET", SERVER).json
    assert found == {
        "issuer": "https://mcp.example.com",
        "token_endpoint": "https://mcp.example.com/token",
        "authorization_endpoint": "https://mcp.example.com/authorize",
        "registration_endpoint": "https://mcp.example.com/register",
        "scopes_supported": ["mcp"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_post", "client_secret_basic"],
        "code_challenge_methods_supported": ["S256", "plain"],
        "authorization_response_iss_parameter_supported": True,
    }
    bare = Service.oauth(authorize=None, device=None, client_auth=["none"], access_token="jwt")
    found = OAuthWorld(bare).ask("GET", SERVER).json
    assert (found["grant_types_supported"], found["response_types_supported"]) == (["refresh_token"], [])
    signed = OAuthWorld(Service.oauth(client_auth=["private_key_jwt"])).ask("GET", SERVER).json
    assert "RS256" in signed["token_endpoint_auth_signing_alg_values_supported"]
    assert OAuthWorld("oauth").ask("GET", OPENID).status == 404


def test_a_tenant_has_an_issuer_of_its_own():
    """Its path is that of the token endpoint, up to the variable, or what the value says."""
    world = OAuthWorld(Service.oidc(token="/realms/{realm}/token", keys="/realms/{realm}/certs"))
    for path in (f"/realms/acme{OPENID}", f"{OPENID}/realms/acme"):
        found = world.ask("GET", path).json
        assert found["issuer"] == "https://auth.example.com/realms/acme"
        assert found["token_endpoint"] == "https://auth.example.com/realms/acme/token"
        assert found["jwks_uri"] == "https://auth.example.com/realms/acme/certs"
    world = OAuthWorld(Service.oidc(token="/{tenant}/oauth2/v2.0/token", issuer="/{tenant}/v2.0/"))
    found = world.ask("GET", f"/acme/v2.0{OPENID}").json
    assert found["issuer"] == "https://auth.example.com/acme/v2.0"
    assert found["token_endpoint"] == "https://auth.example.com/acme/oauth2/v2.0/token"


def test_a_resource_has_metadata():
    """RFC 9728: with its path where it is one address, without where it is a pattern."""
    world = OAuthWorld(Service.mcp(resources=["POST /mcp mcp:use", "GET /files/*"]))
    found = world.ask("GET", f"{PROTECTED}/mcp").json
    assert found == {
        "resource": "https://mcp.example.com/mcp",
        "authorization_servers": ["https://mcp.example.com"],
        "scopes_supported": ["mcp", "mcp:use"],
        "bearer_methods_supported": ["header"],
    }
    refused = world.ask("GET", "/files/1")
    assert challenge_of(refused) == f'Bearer resource_metadata="https://mcp.example.com{PROTECTED}"'
    assert world.ask("GET", PROTECTED).json["resource"] == "https://mcp.example.com"


def test_a_call_needs_a_live_bearer():
    """RFC 6750 section 3: without a code if none was presented, and with the reason if it is dead."""
    world = OAuthWorld(Service.oauth(resources=["GET /api/*", "POST /api/* write", "POST /api/admin admin"]))
    access, _ = world.login()
    pointer = f'resource_metadata="https://api.example.com{PROTECTED}"'
    answers = {
        bearer: world.ask("POST", "/api/x", json_={}, bearer=bearer, host="api.example.com")
        for bearer in (None, "unknown", access)
    }
    assert [answer.status for answer in answers.values()] == [401, 401, 200]
    assert challenge_of(answers[None]) == f'Bearer scope="write", {pointer}'
    described = 'error="invalid_token", error_description="The access token is not known"'
    assert challenge_of(answers["unknown"]) == f'Bearer {described}, scope="write", {pointer}'
    refused = world.ask("POST", "/api/admin", json_={}, bearer=access)
    assert refused.status == 200  # the first resource that fits is the one
    world.server.expire("alice")
    dead = world.ask("GET", "/api/x", bearer=access)
    assert (dead.status, dead.json["error_description"]) == (401, "The access token expired")
    assert [event.get("reason") for event in world.events if event.type == "fail"] == ["missing", "unknown", "expired"]
    assert {event.f for event in world.events if event.type == "invoke"} == {"call"}


def test_a_scope_may_be_missing():
    """403 with the scope that it takes."""
    world = OAuthWorld(Service.oauth(resources=["POST /api/admin admin"]))
    access, _ = world.login()
    answer = world.ask("POST", "/api/admin", json_={}, bearer=access)
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope"' in challenge_of(answer)
    assert 'scope="admin"' in challenge_of(answer)


def called(respond, *, target="/api/x?page=2&page=3", **more):
    world = OAuthWorld(Service.oauth(respond=respond))
    access, _ = world.login()
    answer = world.ask("POST", target, bearer=access, **({"json_": {"a": 1}} | more))
    return answer, world


@pytest.mark.parametrize(
    ("respond", "body"),
    [
        (None, {"ok": True}),
        ({"items": []}, {"items": []}),
        ([1, 2], [1, 2]),
        ("text", "text"),
        ("echo", {"method": "POST", "path": "/api/x", "query": {"page": "2"}, "body": {"a": 1}}),
        (lambda request: request.account, "alice"),
        (lambda request: (201, None, {"b": 2}), {"b": 2}),
        (lambda request: (200, {}, [1, 2]), [1, 2]),
        (lambda request: (200, {}, 3), 3),
    ],
)
def test_a_call_is_answered_as_the_value_says(respond, body):
    """JSON, with its type."""
    answer, _ = called(respond)
    assert answer.json == body
    assert answer.header("content-type") == "application/json"


def test_a_function_answers():
    """It sees the request without a secret, and may answer in text, bytes or pieces."""
    seen = []

    def respond(request):
        seen.append(request)
        return 202, {"Content-Type": "text/plain", "X-Page": request.query["page"]}, "hello"

    answer, _ = called(respond)
    assert (answer.status, answer.body, answer.header("x-page")) == (202, b"hello", "2")
    assert answer.header("content-type") == "text/plain"
    (request,) = seen
    assert (request.method, request.path, request.query) == ("POST", "/api/x", "page=2&page=3")
    assert (request.query.get("page"), request.query.get("no"), request.query[:4]) == ("2", None, "page")
    assert request.headers["CONTENT-type"] == "application/json"
    assert "authorization" not in request.headers
    assert set(request.headers) == {"content-type", "host"}
    assert len(request.headers) == 2
    assert json.loads(request.body) == request.json() == {"a": 1}
    pieces, _ = called(lambda request: (200, [("content-type", "text/event-stream")], ["data: 1\n\n", b"data: 2\n\n"]))
    assert pieces.pieces == [b"data: 1\n\n", b"data: 2\n\n"]
    nothing, _ = called(lambda request: (204, {}, None))
    assert (nothing.status, nothing.body) == (204, b"")


def test_an_echo_takes_any_body():
    """Text that is no JSON, too."""
    assert called("echo", json_=None, form={"a": "b"})[0].json["body"] == "a=b"


def test_events_leave_one_by_one():
    """As a stream of which each piece is a step."""
    answer, _ = called("sse")
    assert answer.header("content-type") == "text/event-stream"
    assert len(answer.pieces) == 2


def test_a_function_that_fails_is_told():
    """To the client as a 500, and in the history; never with a secret."""

    def respond(request):
        raise KeyError("sk-ant-oat01-" + "x" * 90)

    answer, world = called(respond)
    assert (answer.status, answer.json["error"]) == (500, "server_error")
    assert world.last().get("respond") == "respond raised KeyError: [an access token of 103 characters]"


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        (200, {"x": "\N{SNOWMAN}"}, "'x' must be a line of text, in latin-1"),
        (200, {"x": "a\r\nset-cookie: b"}, "'x' must be a line of text, in latin-1"),
        (200, {"x y": "a"}, "'x y' is not the name of a header"),
        (100, {}, "the status 100 is none of a reply: 200 to 599"),
        (600, None, "the status 600 is none of a reply: 200 to 599"),
        (True, {}, "the status True is none of a reply: 200 to 599"),
    ],
)
def test_a_reply_of_a_function_that_can_not_be_sent_is_told(status, headers, why):
    """It would end the connection, or begin a header that nobody meant."""
    answer, world = called(lambda request: (status, headers, "body"))
    assert answer.status == 500
    assert world.last().get("respond") == f"respond raised ValueError: {why}"


@pytest.mark.parametrize("status", [200, 204, 304, 599])
def test_how_long_a_reply_is_says_the_transport(status):
    """A copied length may be wrong; and some replies have no body, which would be taken for the next reply."""
    answer, _ = called(lambda request: (status, {"Content-Length": "9", "x": "é"}, "body"))
    assert (answer.status, answer.header("content-length"), answer.header("x")) == (status, None, "é")
    assert answer.body == (b"" if status in (204, 304) else b"body")


def test_userinfo_is_for_openid():
    """OpenID Connect Core section 5.3; its bearer is checked as any other."""
    world = OAuthWorld("oidc")
    access, _ = world.login("alice")
    found = world.ask("GET", "/oauth2/userinfo", bearer=access).json
    assert found == {
        "sub": "alice", "name": "alice", "preferred_username": "alice", "email": "alice@fake.invalid",
        "email_verified": True,
    }  # fmt: skip
    answer = world.ask("GET", "/oauth2/userinfo")
    assert (answer.status, challenge_of(answer)) == (401, "Bearer")
    narrow, _ = world.login("bob", scope="email")
    assert world.ask("POST", "/oauth2/userinfo", bearer=narrow).status == 403
    assert world.ask("GET", "/oauth2/keys").json == JWKS


def rpc(method, params=None, **more):
    return {"jsonrpc": "2.0", "id": 1, "method": method, **({} if params is None else {"params": params}), **more}


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (rpc("initialize", {"protocolVersion": "2025-06-18"}), ("protocolVersion", "2025-06-18")),
        (rpc("initialize", {"protocolVersion": "1999-01-01"}), ("protocolVersion", "2025-11-25")),
        (rpc("tools/call", {"name": "echo", "arguments": {"text": "hi"}}),
         ("content", [{"type": "text", "text": "hi"}])),
        (rpc("tools/call", {"name": "echo"}), ("content", [{"type": "text", "text": "OK"}])),
    ],
)  # fmt: skip
def test_a_session_of_mcp(message, found):
    """The requests that a client makes, answered as JSON."""
    world = OAuthWorld("mcp")
    access, _ = world.login()
    answer = world.ask("POST", "/mcp", json_=message, bearer=access)
    name, value = found
    assert (answer.status, answer.json["id"], answer.json["result"][name]) == (200, 1, value)


def test_further_messages_of_mcp():
    """A batch, a notification, what is unknown, and what is no message."""
    world = OAuthWorld("mcp")
    access, _ = world.login()

    def ask(message):
        return world.ask("POST", "/mcp", json_=message, bearer=access)

    assert ask(rpc("ping")).json["result"] == {}
    assert [tool["name"] for tool in ask(rpc("tools/list")).json["result"]["tools"]] == ["echo"]
    assert ask(rpc("resources/list")).json["error"]["code"] == -32601
    assert ask(rpc("tools/call", {"name": "rm"})).json["error"]["code"] == -32602
    assert [one["id"] for one in ask([rpc("ping"), rpc("ping", id=2)]).json] == [1, 2]
    notified = ask({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (notified.status, notified.body) == (202, b"")
    assert world.ask("POST", "/mcp", {"a": "b"}, bearer=access).json["error"]["code"] == -32700
    assert world.ask("GET", "/mcp", bearer=access).status == 405
    own = OAuthWorld(Service.mcp(respond={"mine": 1}))
    assert own.ask("POST", "/mcp", json_=rpc("ping"), bearer=own.login()[0]).json == {"mine": 1}


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [(Fault.status(503, 7), 503, "temporarily_unavailable"), (Fault.BURST, 429, "too_many_requests"),
     (Fault.status(500), 500, "server_error"), (Fault.status(418), 418, "invalid_request"),
     (Fault.status(502), 502, "server_error"), (Fault.moved(), 404, "not_found")],
)  # fmt: skip
def test_a_fault_answers_in_the_services_own_words(fault, status, code):
    """No envelope of Claude's."""
    world = OAuthWorld()
    _, refresh = world.login()
    world.server.faults.add("token", fault)
    answer = world.renew(refresh)
    assert (answer.status, answer.json) == (status, {"error": code})
    assert answer.header("retry-after") == ("7" if status == 503 else None)
    world.server.faults.add("token", Fault.html())
    assert world.renew(refresh).header("content-type") == "text/html; charset=UTF-8"


def test_a_refresh_token_that_goes_elsewhere_is_seen():
    """In a body or a query, at a path or with a method that there is not."""
    world = OAuthWorld()
    _, refresh = world.login()
    form = {"grant_type": "refresh_token", "refresh_token": refresh}
    world.ask("POST", "/token", form)
    world.ask("GET", f"/oauth2/token?refresh_token={refresh}")
    world.ask("POST", "/token", {"refresh_token": "unknown"})
    begun = [event for event in world.events if event.type == "invoke"]
    assert [event.refresh for event in begun] == ["rt#1", "rt#1", None]
    assert begun[0].get("unjudged") == "not an endpoint of service 'oauth'"
    assert begun[1].get("unjudged") == "GET is not served at this path of service 'oauth'"
