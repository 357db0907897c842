"""Whatever a service mints is redacted whole, wherever it is pasted: no piece of twelve characters is left."""

from __future__ import annotations

import pytest

from fake_server.secrecy import is_name, redact, shown
from fake_server.service import Service
from fake_server.tokens import TOKEN
from tests.unit.core.oauth_world import OAuthWorld


def minted() -> dict[str, str]:
    world = OAuthWorld(Service.oidc(access_token="jwt"))
    reply = world.exchange(world.redirected(nonce="n")["code"]).json
    device = world.ask("POST", "/oauth2/device", {}).json
    client = world.ask("POST", "/oauth2/register", json_={"redirect_uris": ["http://localhost/cb"]}).json
    head, claims, signature = reply["access_token"].split(".")
    return {
        "access": reply["access_token"],
        "id": reply["id_token"],
        "refresh": reply["refresh_token"],
        "code": world.redirected()["code"],
        "device": device["device_code"],
        "client": client["client_secret"],
        "account's client": str(world.server.clients.of_account("alice").secret),
        "head and claims": f"{head}.{claims}",
        "claims": claims,
        "signature": signature,
    }


FORMS = minted()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", ["{}", "w0 {}", "Bearer {}", "/api/{}/x", "token={}&state=s", '"{}"'])
def test_no_piece_of_it_is_left(form, around):
    """In a text, a path, a query, quoted."""
    secret, text = FORMS[form], around.format(FORMS[form])
    assert not is_name(text)
    for told in (redact(text), shown(text)):
        assert [at for at in range(len(secret) - 11) if secret[at : at + 12] in told] == []


@pytest.mark.parametrize("form", ["access", "refresh"])
def test_a_token_is_found_in_a_text(form):
    """By what looks for leaks: whole, with anything around it but more of its kind."""
    assert [found[0] for found in TOKEN.finditer(f"log: {FORMS[form]}, and more")] == [FORMS[form]]


def test_none_reaches_the_journal():
    """Neither by the header, the body nor the query."""
    world = OAuthWorld(Service.oidc(access_token="jwt"))
    access, refresh = world.login()
    world.ask("GET", f"/api/{access}?access_token={access}", bearer=access)
    world.ask("POST", f"/{refresh}", {"token": refresh})
    world.renew(refresh, (refresh, access))
    lines = "".join(world.lines)
    assert [at for at in range(0, len(access) - 11, 5) if access[at : at + 12] in lines] == []
    assert [at for at in range(20, len(refresh) - 11) if refresh[at : at + 12] in lines] == []
