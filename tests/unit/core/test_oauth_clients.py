"""Client authentication (RFC 6749 section 2.3 and 5.2, RFC 7523), and what a client may do with its tokens."""

from __future__ import annotations

import base64
import json

import pytest

from fake_server import jose
from fake_server.protocol.asking import ASSERTION
from fake_server.protocol.wire import Request
from fake_server.service import AUTH_METHODS, Service
from tests.unit.core.oauth_world import OAuthWorld, basic, challenge_of

NAMED = {"public": None, "secret": "p%:s+ ü"}


def asked(auth_methods=None, **form):
    """A refresh by a client of a service that accepts these methods, and knows the clients above."""
    world = OAuthWorld(Service.oauth(client_auth=auth_methods or AUTH_METHODS, clients=NAMED))
    _, refresh = world.login()
    auth = form.pop("auth", None)
    return world.renew(refresh, auth, **form)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 200),
        ({"client_id": "public"}, 200),
        ({"client_id": "client-alice"}, 401),  # not known yet: nobody asked for its login
        ({"client_id": "unknown"}, 401),
        ({"client_id": "secret"}, 401),
        ({"client_id": "secret", "client_secret": NAMED["secret"]}, 200),
        ({"client_id": "secret", "client_secret": "wrong"}, 401),
        ({"client_id": "public", "client_secret": "any"}, 401),
        ({"client_secret": NAMED["secret"]}, 401),
        ({"auth": ("secret", NAMED["secret"])}, 200),
        ({"auth": ("secret", NAMED["secret"]), "client_id": "secret"}, 200),
        ({"auth": ("secret", NAMED["secret"]), "client_id": "public"}, 400),
        ({"auth": ("secret", "wrong")}, 401),
        ({"auth": ("unknown", "x")}, 401),
        ({"auth": ("secret", NAMED["secret"]), "client_secret": "x", "client_id": "secret"}, 400),
    ],
)
def test_a_client_is_who_it_says(form, status):
    """A secret must be right wherever one is sent; a public client needs none."""
    answer = asked(**form)
    assert answer.status == status
    if status == 401:
        assert answer.json["error"] == "invalid_client"
        assert answer.json["error_description"]
        assert answer.header("cache-control") == "no-store"
        assert challenge_of(answer).startswith("Basic realm=") == ("auth" in form)
    if status == 400:
        assert answer.json["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("methods", "form", "status"),
    [
        (["client_secret_basic"], {}, 401),
        (["client_secret_basic"], {"client_id": "public"}, 401),
        (["client_secret_basic"], {"client_id": "secret", "client_secret": NAMED["secret"]}, 401),
        (["client_secret_basic"], {"auth": ("secret", NAMED["secret"])}, 200),
        (["client_secret_post"], {"auth": ("secret", NAMED["secret"])}, 401),
        (["client_secret_post"], {"client_id": "secret", "client_secret": NAMED["secret"]}, 200),
        (["none"], {"auth": ("secret", NAMED["secret"])}, 401),
    ],
)
def test_what_a_service_accepts_is_part_of_its_value(methods, form, status):
    """And its metadata say so."""
    assert asked(methods, **form).status == status
    found = OAuthWorld(Service.oauth(client_auth=methods)).ask("GET", "/.well-known/oauth-authorization-server").json
    assert found["token_endpoint_auth_methods_supported"] == methods
    assert found["revocation_endpoint_auth_methods_supported"] == methods


def test_without_named_clients_any_is_known_as_a_public_one():
    """But a secret that nobody gave it can't be right."""
    world = OAuthWorld()
    assert world.renew(world.login()[1], client_id="mine").status == 200
    answer = world.renew(world.login()[1], ("mine", "s3cret"))
    assert (answer.status, challenge_of(answer)) == (401, 'Basic realm="token"')
    assert "account's client_id and client_secret" in answer.json["error_description"]


@pytest.mark.parametrize("header", ["Basic !", "Basic", f"Basic {base64.b64encode(bytes([255])).decode()}"])
def test_what_is_no_basic_authentication_is_refused(header):
    """As a wrong secret is."""
    world = OAuthWorld()
    headers = (("authorization", header), ("content-type", "application/x-www-form-urlencoded"))
    body = b"grant_type=refresh_token&refresh_token=x"
    answer = world.send(Request("POST", "/oauth2/token", headers, body, "auth.example.com"))
    assert (answer.status, challenge_of(answer)) == (401, 'Basic realm="token"')


def test_a_refused_client_is_no_presentation():
    """Nothing was looked at: the journal has the code, and the reason why it can't be judged."""
    world = OAuthWorld()
    _, refresh = world.login()
    world.renew(refresh, ("mine", "wrong"))
    begin, end = world.of(1)
    assert (begin.refresh, begin.get("unjudged")) == ("rt#1", "refused: invalid_client")
    assert (end.error, end.status) == ("invalid_client", 401)
    assert world.renew(refresh).status == 200


def assertion(**claims):
    """A client's assertion about itself, for the token endpoint."""
    return jose.sign({"iss": "secret", "sub": "secret", "aud": "https://auth.example.com", "exp": 2e9, **claims})


@pytest.mark.parametrize(
    ("claims", "more", "status"),
    [
        ({}, {}, 200),
        ({"aud": "https://auth.example.com/oauth2/token"}, {}, 200),
        ({"aud": ["https://other.example", "https://auth.example.com/"]}, {"client_id": "secret"}, 200),
        ({"aud": "https://other.example"}, {}, 401),
        ({"exp": 1.6e9}, {}, 401),
        ({"exp": None}, {}, 401),
        ({"iss": "public"}, {}, 401),
        ({"sub": "unknown", "iss": "unknown"}, {}, 401),
        ({"sub": 3, "iss": 3}, {}, 401),
        ({}, {"client_id": "public"}, 401),
        ({}, {"client_assertion": "x.y.z"}, 401),
        ({}, {"client_assertion_type": "urn:else"}, 401),
    ],
)
def test_a_client_may_sign_who_it_is(claims, more, status):
    """RFC 7523 section 3."""
    form = {"client_assertion": assertion(**claims), "client_assertion_type": ASSERTION, **more}
    answer = asked(**form)
    assert answer.status == status
    assert status == 200 or answer.json["error"] == "invalid_client"


def test_an_assertion_is_used_once():
    """By its `jti`, where it has one."""
    world = OAuthWorld(Service.oauth(client_auth=["private_key_jwt"], clients=NAMED))
    form = {"client_assertion": assertion(jti="1"), "client_assertion_type": ASSERTION}
    assert [world.renew(world.login()[1], **form).status for _ in range(2)] == [200, 401]


def test_a_registered_key_must_have_signed_it():
    """One that registered no key is believed."""
    world = OAuthWorld(Service.oauth(client_auth=["private_key_jwt"]))
    facts = {"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "private_key_jwt"}
    other = json.loads(json.dumps(jose.JWKS))
    other["keys"][0]["n"] = "x" + other["keys"][0]["n"][1:]
    for keys, status in ((jose.JWKS, 200), (other, 401)):
        id_ = world.ask("POST", "/oauth2/register", json_={**facts, "jwks": keys}).json["client_id"]
        form = {"client_assertion": assertion(iss=id_, sub=id_), "client_assertion_type": ASSERTION}
        assert world.renew(world.login()[1], **form).status == status


def test_revocation_ends_what_it_names():
    """RFC 7009: a refresh token takes its grant with it, an access token goes alone, and 200 is the answer to all."""
    world = OAuthWorld()
    access, refresh = world.login("alice")
    other, its = world.login("bob")
    for token in (access, "unknown"):
        answer = world.ask("POST", "/oauth2/revoke", {"token": token, "token_type_hint": "access_token"})
        assert (answer.status, answer.body) == (200, b"")
    assert world.ask("GET", "/api/x", bearer=access).status == 401
    assert world.renew(refresh).status == 200
    world.ask("POST", "/oauth2/revoke", {"token": its})
    assert world.ask("GET", "/api/x", bearer=other).status == 401
    assert world.renew(its).json["error"] == "invalid_grant"
    assert world.ask("POST", "/oauth2/revoke", {}).json["error"] == "invalid_request"
    assert world.ask("POST", "/oauth2/revoke", {"token": its}, auth=("x", "y")).status == 401


def test_another_clients_token_is_not_revoked():
    """RFC 7009 section 2.1; the answer does not tell."""
    world = OAuthWorld()
    pair = world.exchange(world.redirected()["code"]).json
    for token in (pair["refresh_token"], pair["access_token"]):
        assert world.ask("POST", "/oauth2/revoke", {"token": token, "client_id": "another"}).status == 200
    assert world.ask("GET", "/api/x", bearer=pair["access_token"]).status == 200
    assert world.renew(pair["refresh_token"], client_id="mine").status == 200


def test_introspection_tells_what_a_token_is_worth():
    """RFC 7662 section 2.2; of a dead one, nothing else. Asking is no presentation."""
    world = OAuthWorld()
    access, refresh = world.login()
    found = world.ask("POST", "/oauth2/introspect", {"token": access}).json
    assert found == {
        "active": True, "scope": "read write", "client_id": "client-alice", "username": "alice", "sub": "alice",
        "token_type": "Bearer", "exp": 1_700_028_800, "iss": "https://auth.example.com",
    }  # fmt: skip
    assert world.ask("POST", "/oauth2/introspect", {"token": refresh}).json["token_type"] == "refresh_token"
    world.server.revoke("alice")
    for token in (access, refresh, "unknown"):
        assert world.ask("POST", "/oauth2/introspect", {"token": token}).json == {"active": False}
    assert {event.f for event in world.events if event.type == "invoke"} == {"other"}


def test_a_client_registers_itself():
    """RFC 7591 section 3.2.1: with a secret, by default; it must then use it."""
    world = OAuthWorld()
    answer = world.ask(
        "POST", "/oauth2/register", json_={"redirect_uris": ["https://app.example/cb"], "client_name": "A"}
    )
    found = answer.json
    assert (answer.status, answer.header("cache-control")) == (201, "no-store")
    assert found["client_secret"].startswith("sk-FAKE-")
    assert (found["client_secret_expires_at"], found["client_id_issued_at"]) == (0, 1_700_000_000)
    assert (found["token_endpoint_auth_method"], found["client_name"]) == ("client_secret_basic", "A")
    assert (found["grant_types"], found["response_types"]) == (["authorization_code"], ["code"])
    pair = (found["client_id"], found["client_secret"])
    assert world.renew(world.login()[1], client_id=pair[0]).status == 401
    assert world.renew(world.login()[1], pair).status == 200


def test_a_public_client_registers_itself():
    """It gets no secret; of the grants that it asks for, those that there are."""
    world = OAuthWorld("mcp")
    facts = {
        "redirect_uris": ["http://127.0.0.1:3000/cb"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token", "implicit"],
        "client_id": "my-choice",
    }
    found = world.ask("POST", "/register", json_=facts).json
    assert "client_secret" not in found
    assert (found["client_id"], found["grant_types"]) == ("registered-1", ["authorization_code", "refresh_token"])
    asked = {"client_id": "registered-1", "redirect_uri": "http://127.0.0.1:4711/cb"}
    assert "code" in world.redirected(**asked)
    for wrong in ("http://127.0.0.1:4711/other", "https://app.example/cb"):
        assert (
            world.ask("GET", f"/authorize?response_type=code&client_id=registered-1&redirect_uri={wrong}").status == 400
        )


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://app.example/cb"}, "invalid_redirect_uri"),
        ({"redirect_uris": ["/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [3]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://app.example/cb#x"]}, "invalid_redirect_uri"),
        ({"token_endpoint_auth_method": "tls_client_auth"}, "invalid_client_metadata"),
        ({"grant_types": ["implicit"]}, "invalid_client_metadata"),
        ({"grant_types": "authorization_code"}, "invalid_client_metadata"),
    ],
)
def test_metadata_that_are_wrong_are_refused(facts, code):
    """RFC 7591 section 3.2.2."""
    answer = OAuthWorld().ask("POST", "/oauth2/register", json_=facts)
    assert (answer.status, answer.json["error"]) == (400, code)


def test_a_registration_is_json():
    """No form."""
    assert OAuthWorld().ask("POST", "/oauth2/register", {"a": "b"}).json["error"] == "invalid_client_metadata"


def test_a_device_needs_no_address():
    """A client without the code grant has nowhere to be redirected to; where only public ones are served, it is one."""
    world = OAuthWorld(Service.oauth(client_auth=["none"]))
    found = world.ask("POST", "/oauth2/register", json_={"grant_types": ["refresh_token"]}).json
    assert (found["redirect_uris"], found["token_endpoint_auth_method"]) == ([], "none")


def test_no_secret_of_a_client_reaches_the_journal():
    """Neither in a header nor in a body."""
    world = OAuthWorld(Service.oauth(clients=NAMED))
    world.renew(world.login()[1], ("secret", "p%:s+ ü"))
    assert basic("secret", "p%:s+ ü").split()[1] not in "".join(world.lines)
