"""``Service`` as a value: its presets, its checks, its forms."""

from __future__ import annotations

import pytest

from fake_server import Service as Exported
from fake_server.protocol.routes import routes_of
from fake_server.service import SERVICES, Service


def test_the_presets():
    """These names are used on command lines and in markers; Claude's is the default."""
    assert list(SERVICES) == ["claude", "oauth", "oidc", "mcp"]
    assert Service.preset("claude") == Service() == Exported()
    assert [SERVICES[name].policy for name in SERVICES] == ["anthropic", "oauth", "oauth", "oauth"]
    assert Service.oidc() == Service.preset("oidc")
    assert Service.mcp().resources == ("POST /mcp",)
    assert {name: one.standard for name, one in SERVICES.items()} == {
        "claude": False, "oauth": True, "oidc": True, "mcp": True,
    }  # fmt: skip


def test_a_variant_is_one_line():
    """One path stands for a list of one."""
    service = Service.oauth(token="/oauth2/v1/token", resources="GET /files/*", scope=["read", "files"], revoke=None)
    assert (service.token, service.resources) == (("/oauth2/v1/token",), ("GET /files/*",))
    assert (service.scope, service.revoke, service.hosts) == ("read files", None, Service.oauth().hosts)
    assert service.but(hosts="AUTH.example.com.").hosts == ("auth.example.com",)
    odd = service.but(hosts=["*.Example.com", "münchen.example:8443", "[::1]"])
    assert odd.hosts == ("*.example.com", "xn--mnchen-3ya.example:8443", "[::1]")
    assert routes_of(odd).home.base == "https://xn--mnchen-3ya.example:8443"
    assert hash(service) == hash(Service.oauth(token="/oauth2/v1/token", resources=["GET /files/*"]))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": ""}, r"Service\(name=''\): must be a name"),
        ({"hosts": [""]}, "must be a list of host names"),
        ({"hosts": 3}, "must be a list of host names"),
        ({"hosts": [[]]}, "must be a list of host names"),
        ({"hosts": ["https://auth.example.com"]}, "each written as auth.example.com, auth.example.com:8443"),
        ({"token": "token"}, "must be a path such as /oauth2/token"),
        ({"token": ["/a", 3]}, "must be a path such as /oauth2/token"),
        ({"authorize": "https://auth.example.com/authorize"}, "must be a path"),
        ({"revoke": "/w/w0/revoke"}, "the fake has the paths below"),
        ({"issuer": "realms"}, "must be a path"),
        ({"resources": ["/mcp"]}, r'must be a list such as \["POST /mcp", "GET /api/\*"\]'),
        ({"resources": [3]}, "must be a list such as"),
        ({"resources": ["GET /.well-known/x"]}, "the fake has the paths below"),
        ({"protocol": "soap"}, "choose one of '', 'mcp'"),
        ({"client_auth": []}, "choose from none, client_secret_post"),
        ({"client_auth": "tls_client_auth"}, "choose from none, client_secret_post"),
        ({"clients": {"": "x"}}, "must be a mapping of clients' ids"),
        ({"clients": {"a": ""}}, "a client's secret is a text"),
        ({"clients": 3}, "a mapping of ids to secrets"),
        ({"scope": 'a "b"'}, "must be words with spaces between them"),
        ({"access_token": "paseto"}, "choose one of 'opaque', 'jwt'"),
        ({"reply": [1]}, "must be a mapping of names to JSON values"),
    ],
)
def test_a_wrong_value_is_refused_with_those_that_are_right(wrong, says):
    """The text names the field and quotes the value."""
    with pytest.raises(ValueError, match=says):
        Service.oauth(**wrong)


def test_an_unknown_field_is_refused():
    """With those that there are."""
    with pytest.raises(TypeError, match="Service has no tokens; it has access_token, authorize"):
        Service.oauth(tokens="/token")


def test_an_unknown_preset_is_refused():
    """With those that there are."""
    with pytest.raises(ValueError, match="no service is named 'oauth3'; choose one of claude, oauth, oidc, mcp"):
        Service.preset("oauth3")


def test_claudes_service_is_as_it_is():
    """Its paths are those of its clients, and can't be changed by a value."""
    with pytest.raises(ValueError, match=r"the service claude is as it is: begin with Service.oauth\(…\)"):
        Service.preset("claude").but(token="/token")


def test_a_secret_in_place_of_a_name_is_not_repeated():
    """It was pasted by mistake."""
    secret = "sk-ant-ort01-" + "x" * 90
    with pytest.raises(ValueError, match="a refresh token of 103 characters") as refused:
        Service.oauth(name=secret)
    assert secret not in str(refused.value)


def test_toml_has_the_same_keys():
    """And the preset that it begins with."""
    service = Service.from_toml('preset = "oidc"\nname = "acme"\ntoken = ["/t"]\n[clients]\nmine = "s3cret"\n')
    assert service == Service.oidc(name="acme", token="/t", clients={"mine": "s3cret"})
    assert Service.from_toml('token = "/t"') == Service.oauth(token="/t")
    for wrong in ("token = ", "tokens = 3", 'preset = "x"', "token = 3"):
        with pytest.raises(ValueError):
            Service.from_toml(wrong)


def test_its_form_in_a_history():
    """A name alone is a preset; a secret is not in it, and a function only by its name."""
    assert [one.to_dict() for one in SERVICES.values()] == list(SERVICES)

    def answer(request):
        return 1

    service = Service.oauth(token="/t", clients={"mine": "s3cret"}, respond=answer)
    assert service.to_dict() == {"name": "oauth", "token": ("/t",), "respond": "answer"}


def test_what_signs_has_keys():
    """Wherever a token is a JWT, its signature can be checked."""
    assert Service.oauth().keys is None
    assert Service.oauth(access_token="jwt").keys == "/oauth2/keys"
    assert Service.oauth(scope="openid").keys == "/oauth2/keys"


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("POST", "/realms/x/protocol/openid-connect/token", ("token", {"realm": "x"})),
        ("POST", "/realms/x/y/protocol/openid-connect/token", ("unknown", {})),
        ("GET", "/realms/x/protocol/openid-connect/token", ("method", {})),
        ("POST", "/oauth/access_token", ("token", {})),
        ("GET", "/api/", ("call", {})),
        ("HEAD", "/api/a/b", ("call", {})),
        ("POST", "/api/a", ("method", {})),
        ("DELETE", "/files/7/part", ("call", {"id": "7"})),
        ("GET", "/realms/x/.well-known/openid-configuration", ("openid-metadata", {"realm": "x"})),
        ("GET", "/.well-known/oauth-authorization-server/realms/x", ("server-metadata", {"realm": "x"})),
        ("GET", "/.well-known/oauth-authorization-server", ("unknown", {})),
        ("GET", "/.well-known/oauth-protected-resource/api/a", ("resource-metadata", {})),
        ("GET", "/.well-known/oauth-protected-resource/nothing", ("unknown", {})),
        ("POST", "/.well-known/oauth-protected-resource", ("method", {})),
        ("GET", "/", ("unknown", {})),
    ],
)
def test_a_path_leads_to_its_endpoint(method, path, found):
    """A variable is one segment, a star at the end anything."""
    service = Service.oidc(
        token=["/realms/{realm}/protocol/openid-connect/token", "/oauth/access_token"],
        resources=["GET /api/*", "* /files/{id}/{}"],
    )
    route = routes_of(service).find(method, path)
    assert (route.name, dict(route.variables)) == found


def test_without_resources_there_are_no_metadata_of_any():
    """A service that only hands out tokens."""
    assert routes_of(Service.oauth(resources=[])).find("GET", "/.well-known/oauth-protected-resource").name == "unknown"
