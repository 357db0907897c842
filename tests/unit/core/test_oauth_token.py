"""The token endpoint of a service that speaks the standards: each answer with the RFC's code, status and headers."""

from __future__ import annotations

import pytest

from fake_server.jose import claims_of
from fake_server.protocol.asking import DEVICE_GRANT
from fake_server.protocol.wire import Request
from fake_server.service import Service
from tests.unit.core.harness import FORM
from tests.unit.core.oauth_world import OAuthWorld

NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}


def error_of(answer):
    """Status and code; each error of the endpoint is JSON that no cache keeps."""
    headers = dict(answer.start.headers)
    assert headers["content-type"] == "application/json"
    assert NO_STORE.items() <= headers.items()
    return answer.status, answer.json["error"]


def test_a_refresh_brings_a_new_pair():
    """RFC 6749 section 5.1, with whole seconds; the client need not say who it is where public clients are served."""
    world = OAuthWorld()
    _, refresh = world.login()
    answer = world.renew(refresh)
    assert (answer.status, answer.header("cache-control"), answer.header("pragma")) == (200, "no-store", "no-cache")
    assert list(answer.json) == ["access_token", "token_type", "expires_in", "refresh_token", "scope"]
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 28800)
    assert answer.json["scope"] == "read write"
    assert world.last().issued == {"access": "at#2", "refresh": "rt#2"}
    assert error_of(world.renew(refresh)) == (400, "invalid_grant")
    assert (world.last().error, world.last().refresh) == ("invalid_grant", "rt#1")


def test_json_is_read_too():
    """Some companies' services take it; the RFC's form is what a standard client sends."""
    world = OAuthWorld()
    _, refresh = world.login()
    body = {"grant_type": "refresh_token", "refresh_token": refresh}
    assert world.ask("POST", "/oauth2/token", json_=body).status == 200
    assert [event.get("encoding") for event in world.events if event.type == "invoke"] == ["json"]


@pytest.mark.parametrize("path", ["/oauth/token", "/tenants/t1/token"])
def test_each_of_several_paths_is_an_endpoint(path):
    """A variable stands for one segment; a trailing slash is another path."""
    world = OAuthWorld(Service.oauth(token=["/oauth/token", "/tenants/{tenant}/token"]))
    _, refresh = world.login()
    form = {"grant_type": "refresh_token", "refresh_token": refresh}
    assert world.ask("POST", f"{path}/", form).status == 404
    wrong = world.ask("GET", path)
    assert (*error_of(wrong), wrong.header("allow")) == (405, "invalid_request", "POST")
    assert world.ask("POST", path, form).status == 200


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request"),
        ([("grant_type", "refresh_token"), ("refresh_token", "a"), ("refresh_token", "b")], "invalid_request"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": DEVICE_GRANT}, "invalid_request"),
        ({"grant_type": "password", "username": "u", "password": "p"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
        ({"grant_type": "client_credentials", "client_id": "mine"}, "unauthorized_client"),
        ({"grant_type": "refresh_token", "refresh_token": "unknown"}, "invalid_grant"),
        ({"grant_type": "authorization_code", "code": "unknown"}, "invalid_grant"),
        ({"grant_type": DEVICE_GRANT, "device_code": "unknown"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x", "resource": "not a uri"}, "invalid_target"),
        (
            {"grant_type": "refresh_token", "refresh_token": "x", "resource": "https://a.example/#part"},
            "invalid_target",
        ),
    ],
)
def test_an_error_has_its_code(form, code):
    """RFC 6749 section 5.2, RFC 8707 section 2: all of them are 400."""
    assert error_of(OAuthWorld().ask("POST", "/oauth2/token", form)) == (400, code)


@pytest.mark.parametrize("body", [b"grant_type", b"{", b"[1]", b'"x"'])
def test_a_body_that_is_neither_form_nor_object_is_refused(body):
    """Whatever its type says."""
    world = OAuthWorld()
    kind = "application/json" if body[:1] in b'{["' else "text/plain"
    headers = (("content-type", kind),)
    answer = world.send(Request("POST", "/oauth2/token", headers, body, "auth.example.com"))
    assert error_of(answer) == (400, "invalid_request")


def test_resources_may_be_several():
    """RFC 8707 allows that parameter to be repeated, alone of all."""
    world = OAuthWorld()
    _, refresh = world.login()
    form = [("grant_type", "refresh_token"), ("refresh_token", refresh)]
    form += [("resource", "https://a.example/"), ("resource", "https://b.example/")]
    assert world.ask("POST", "/oauth2/token", form).status == 200


def test_a_refresh_can_narrow_its_scope_and_not_widen_it():
    """RFC 6749 section 6; a refused scope spends nothing."""
    world = OAuthWorld()
    _, refresh = world.login()
    assert error_of(world.renew(refresh, scope="read admin")) == (400, "invalid_scope")
    assert "commit" not in [event.f for event in world.events]
    assert world.renew(refresh, scope="read").json["scope"] == "read"


def test_a_scope_that_the_policy_does_not_know_is_refused():
    """As under Claude's service."""
    world = OAuthWorld(scopes={"read"})
    _, refresh = world.login()
    assert error_of(world.renew(refresh, scope="files")) == (400, "invalid_scope")
    assert error_of(world.ask("POST", "/oauth2/device", {"scope": "files"})) == (400, "invalid_scope")
    assert world.redirected(scope="files")["error"] == "invalid_scope"
    auth = world.server.clients.of_account("alice")
    pair = (auth.id, auth.secret)
    assert error_of(world.token(pair, grant_type="client_credentials", scope="files")) == (400, "invalid_scope")


def test_a_code_is_exchanged_once():
    """RFC 6749 section 4.1.3: by its client, with its address; `state` is the redirect's, not the exchange's."""
    world = OAuthWorld()
    found = world.redirected(state="s t", login_hint="bob")
    assert (found["state"], found["iss"]) == ("s t", "https://auth.example.com")
    assert error_of(world.exchange(found["code"], client_id="another")) == (400, "invalid_grant")
    assert error_of(world.exchange(found["code"], redirect_uri="http://localhost/other")) == (400, "invalid_grant")
    answer = world.exchange(found["code"])
    assert (answer.status, answer.json["scope"]) == (200, "read write")
    assert (world.last().account, world.last().issued) == ("bob", {"access": "at#1", "refresh": "rt#1"})
    assert error_of(world.exchange(found["code"])) == (400, "invalid_grant")
    assert error_of(world.renew(answer.json["refresh_token"], client_id="another")) == (400, "invalid_grant")
    assert world.renew(answer.json["refresh_token"], client_id="mine").status == 200


def test_a_code_expires():
    """After ten minutes, the longest that RFC 6749 section 4.1.2 recommends."""
    world = OAuthWorld()
    found = world.redirected()
    world.time += 601
    assert error_of(world.exchange(found["code"])) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("asked", "verifier", "status"),
    [
        # RFC 7636 appendix B
        ({"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"},
         "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", 200),
        ({"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}, "x", 400),
        ({"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}, "", 400),
        ({"code_challenge": "v" * 43, "code_challenge_method": "plain"}, "v" * 43, 200),
        ({"code_challenge": "v" * 43}, "v" * 43, 200),
        ({"code_challenge": "v" * 43}, "w" * 43, 400),
        ({}, "", 200),
        ({}, "v" * 43, 400),
    ],
)  # fmt: skip
def test_pkce_is_checked(asked, verifier, status):
    """S256 and plain; a verifier without a challenge was stripped of it (RFC 9700 section 2.1.1)."""
    world = OAuthWorld()
    code = world.redirected(**asked)["code"]
    assert world.exchange(code, code_verifier=verifier).status == status


def test_a_device_waits_for_its_person():
    """RFC 8628 section 3.5: pending, slowed down by five seconds each time it asks too early, then served once."""
    world = OAuthWorld()
    world.login("alice")
    asked = world.ask("POST", "/oauth2/device", {"client_id": "tv", "scope": "read"}).json
    assert (asked["interval"], asked["expires_in"]) == (5, 1800)
    form = {"grant_type": DEVICE_GRANT, "device_code": asked["device_code"], "client_id": "tv"}
    assert error_of(world.token(**form)) == (400, "authorization_pending")
    assert error_of(world.token(**form)) == (400, "slow_down")
    world.time += 6
    assert error_of(world.token(**form)) == (400, "slow_down")
    world.time += 16
    assert error_of(world.token(**form)) == (400, "authorization_pending")
    assert error_of(world.token(**{**form, "client_id": "radio"})) == (400, "invalid_grant")
    complete = asked["verification_uri_complete"].removeprefix("https://auth.example.com")
    assert world.ask("GET", complete).status == 200
    world.time += 16
    answer = world.token(**form)
    assert (answer.status, answer.json["scope"], world.last().account) == (200, "read", "alice")
    assert error_of(world.token(**form)) == (400, "invalid_grant")


def test_a_device_can_be_refused_or_too_late():
    """`access_denied` and `expired_token`; a code that nobody has is asked for again."""
    world = OAuthWorld()
    first, second = (world.ask("POST", "/oauth2/device", {}).json for _ in range(2))
    code = first["user_code"].lower().replace("-", "")
    assert world.ask("POST", "/oauth2/device/verify", {"user_code": code, "action": "deny"}).status == 200
    assert error_of(world.token(grant_type=DEVICE_GRANT, device_code=first["device_code"])) == (400, "access_denied")
    assert world.ask("GET", "/oauth2/device/verify").status == 200
    assert world.ask("GET", "/oauth2/device/verify?user_code=FAKE-0").status == 400
    world.time += 1801
    assert error_of(world.token(grant_type=DEVICE_GRANT, device_code=second["device_code"])) == (400, "expired_token")
    assert world.ask("GET", f"/oauth2/device/verify?user_code={second['user_code']}").status == 400


def test_the_device_grant_is_unknown_to_a_service_without_devices():
    """As any other grant type that it does not have."""
    world = OAuthWorld("mcp")
    assert error_of(world.token(grant_type=DEVICE_GRANT, device_code="x")) == (400, "unsupported_grant_type")


def test_a_person_may_be_named_who_approves_a_device():
    """By `login_hint`, as at the authorization endpoint."""
    world = OAuthWorld()
    asked = world.ask("POST", "/oauth2/device", {}).json
    world.ask("GET", f"/oauth2/device/verify?user_code={asked['user_code']}&login_hint=carol")
    assert world.token(grant_type=DEVICE_GRANT, device_code=asked["device_code"]).status == 200
    assert world.last().account == "carol"


def test_a_client_can_act_for_itself():
    """RFC 6749 section 4.4: no refresh token, and a grant that is nobody's login."""
    world = OAuthWorld()
    client = world.server.clients.of_account("alice")
    answer = world.token((client.id, client.secret), grant_type="client_credentials", scope="read")
    assert answer.status == 200
    assert "refresh_token" not in answer.json
    assert answer.json["scope"] == "read"


def test_a_grace_period_returns_the_same_pair():
    """An idempotent replay, and the seconds that are left of it."""
    world = OAuthWorld(grace_seconds=60, grace_mode="idempotent")
    _, refresh = world.login()
    first = world.renew(refresh).json
    world.time += 10
    again = world.renew(refresh).json
    assert again == {**first, "expires_in": first["expires_in"] - 10}


@pytest.mark.parametrize(("ending", "says"), [("expiry", "expired"), ("revoke", "revoked")])
def test_a_dead_refresh_token_says_how_it_died(ending, says):
    """In the description: the code is one for all."""
    world = OAuthWorld()
    _, refresh = world.login()
    if ending == "expiry":
        world.time += 2592000
    else:
        world.server.revoke("alice")
    answer = world.renew(refresh)
    assert error_of(answer) == (400, "invalid_grant")
    assert says in answer.json["error_description"]


def test_an_id_token_comes_with_openid():
    """OpenID Connect Core section 2: for the client that asked, with its nonce, and again on a refresh."""
    world = OAuthWorld("oidc")
    code = world.redirected(nonce="n-1", login_hint="bob", scope="openid email")["code"]
    first = world.exchange(code).json
    _, claims = claims_of(first["id_token"])
    assert {**claims, "iat": 0, "exp": 0} == {
        "iss": "https://auth.example.com", "sub": "bob", "aud": "mine", "iat": 0, "exp": 0, "jti": "FAKE-g#1",
        "nonce": "n-1", "email": "bob@fake.invalid", "email_verified": True,
    }  # fmt: skip
    assert claims["exp"] == claims["iat"] + 28800
    _, again = claims_of(world.renew(first["refresh_token"], client_id="mine").json["id_token"])
    assert {name: again[name] for name in ("iss", "sub", "aud")} == {
        name: claims[name] for name in ("iss", "sub", "aud")
    }
    assert "id_token" not in world.exchange(world.redirected(scope="email")["code"]).json
    _, bare = claims_of(world.exchange(world.redirected(scope="openid")["code"]).json["id_token"])
    assert not {"email", "name", "nonce"} & set(bare)


def test_access_tokens_can_be_signed():
    """RFC 9068; they work as any other, and no two are equal."""
    world = OAuthWorld(Service.oauth(access_token="jwt", reply={"realm": "acme"}))
    access, refresh = world.login()
    answer = world.renew(refresh)
    head, claims = claims_of(answer.json["access_token"])
    assert head["typ"] == "at+jwt"
    assert (claims["iss"], claims["sub"], claims["client_id"]) == ("https://auth.example.com", "alice", "client-alice")
    assert (claims["scope"], claims["exp"] - claims["iat"]) == ("read write", 28800)
    assert claims["jti"].startswith("FAKE-")
    assert answer.json["realm"] == "acme"
    assert access != answer.json["access_token"]
    assert world.ask("GET", "/api/x", bearer=answer.json["access_token"]).status == 200
    code = world.redirected(resource="https://api.example.com/")["code"]
    assert claims_of(world.exchange(code).json["access_token"])[1]["aud"] == "https://api.example.com/"


def test_one_of_two_at_once_may_be_told_to_retry():
    """Under a policy that does so (Ory Hydra): nothing has happened to the token that came second."""
    world = OAuthWorld(at_once="retry")
    _, refresh = world.login()
    form = f"grant_type=refresh_token&refresh_token={refresh}".encode()
    asked = Request("POST", "/oauth2/token", FORM, form, "auth.example.com")
    first, second = (world.begin(asked, f"w{number}") for number in range(2))
    first.step()
    second.step()
    assert world.run(first).status == 200
    assert error_of(world.run(second)) == (400, "invalid_request")
