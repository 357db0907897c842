"""The replies of a service that speaks the standards, and its metadata, all made from one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_server.genuine import json
from fake_server.jose import ALGORITHM, JWKS
from fake_server.protocol.asking import DEVICE_GRANT, GRANTS
from fake_server.protocol.replies import of_the_users
from fake_server.protocol.routes import base_of, routes_of
from fake_server.protocol.wire import Reply

if TYPE_CHECKING:
    from fake_server.faults import Fault
    from fake_server.protocol.asking import Refusal
    from fake_server.protocol.routes import Place, Resource
    from fake_server.protocol.wire import Request
    from fake_server.service import Service

__all__ = ["NO_STORE", "OAuthReplies"]

NO_STORE = (("cache-control", "no-store"), ("pragma", "no-cache"))  # RFC 6749 section 5.1
_JSON = ("content-type", "application/json")
_REASONS = {
    "expired": "The access token expired",
    "revoked": "The access token was revoked",
    "unknown": "The access token is not known",
}
_FAULTS = {404: "not_found", 429: "too_many_requests", 500: "server_error", 503: "temporarily_unavailable"}


class OAuthReplies:
    """Builds the replies of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._routes = routes_of(service)

    def json(self, value: object, status: int = 200, *headers: tuple[str, str], error: str | None = None) -> Reply:
        """A JSON reply."""
        body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
        return Reply(status, (body,), (_JSON, *headers), error)

    def refused(self, refusal: Refusal) -> Reply:
        """An error of RFC 6749 section 5.2; a challenge where the client tried to authenticate by HTTP."""
        headers: tuple[tuple[str, str], ...] = NO_STORE
        if refusal.challenge:
            headers = (*headers, ("www-authenticate", f'{refusal.challenge} realm="token"'))
        if refusal.allow:
            headers = (*headers, ("allow", ", ".join(dict.fromkeys(refusal.allow))))
        return self.error(refusal.error, refusal.text, refusal.status, *headers)

    def error(self, code: str, text: str = "", status: int = 400, *headers: tuple[str, str]) -> Reply:
        """An error's code and its explanation."""
        body = {"error": code, **({"error_description": text} if text else {})}
        return self.json(body, status, *headers, error=code)

    def bad_bearer(self, request: Request, resource: Resource | None, state: str, *, presented: bool) -> Reply:
        """401, with the challenge of RFC 6750 section 3; without a code where no token was presented (section 3.1)."""
        facts = {}
        if presented:
            facts = {"error": "invalid_token", "error_description": _REASONS[state]}
        scope = {} if resource is None or not resource.scopes else {"scope": " ".join(resource.scopes)}
        challenge = _challenge({**facts, **scope, **self._pointer(request, resource)})
        return self.json(facts or {"error": "unauthorized"}, 401, challenge)

    def insufficient_scope(self, request: Request, resource: Resource | None, needed: str) -> Reply:
        """403 (RFC 6750 section 3.1)."""
        facts = {"error": "insufficient_scope", "error_description": f"this needs the scope {needed}"}
        return self.json(facts, 403, _challenge({**facts, "scope": needed, **self._pointer(request, resource)}))

    def _pointer(self, request: Request, resource: Resource | None) -> dict[str, str]:
        """RFC 9728 section 5.1: where the resource's metadata are."""
        if resource is None:
            return {}
        return {"resource_metadata": self._routes.metadata_of(base_of(request), request.path, resource)}

    def fault(self, fault: Fault) -> Reply:
        """The reply of a fault that replaces the service's."""
        if fault.kind == "html":
            page = b"<!DOCTYPE html><html><head><title>Error</title></head><body>Error</body></html>"
            return Reply(fault.code or 403, (page,), (("content-type", "text/html; charset=UTF-8"),))
        status = fault.code or 500
        retry = () if fault.seconds is None else (("retry-after", f"{fault.seconds:g}"),)
        code = _FAULTS.get(status, "server_error" if status >= 500 else "invalid_request")
        return of_the_users(self.json({"error": code}, status, *retry), fault)

    # Metadata.

    def server_metadata(self, place: Place, *, openid: bool) -> Reply:
        """RFC 8414, and OpenID Connect Discovery 1.0 with the members that it adds."""
        service = self.service
        facts: dict[str, Any] = {
            "issuer": place.url(self._routes.issuer),
            "token_endpoint": place.url(service.token[0]),
        }
        for name, path in (
            ("authorization_endpoint", service.authorize),
            ("revocation_endpoint", service.revoke),
            ("introspection_endpoint", service.introspect),
            ("registration_endpoint", service.register),
            ("device_authorization_endpoint", service.device),
            ("userinfo_endpoint", service.userinfo),
            ("jwks_uri", service.keys),
        ):
            if path is not None:
                facts[name] = place.url(path)
        facts["scopes_supported"] = self.scopes
        facts["response_types_supported"] = ["code"] if service.authorize else []
        facts["response_modes_supported"] = ["query"]
        facts["grant_types_supported"] = [grant for grant in GRANTS if self._serves(grant)]
        for name in ("token", "revocation", "introspection"):
            if f"{name}_endpoint" in facts:
                facts[f"{name}_endpoint_auth_methods_supported"] = list(service.client_auth)
                if "private_key_jwt" in service.client_auth:
                    facts[f"{name}_endpoint_auth_signing_alg_values_supported"] = [ALGORITHM, "ES256", "PS256"]
        if service.authorize:
            facts["code_challenge_methods_supported"] = ["S256", "plain"]
            facts["authorization_response_iss_parameter_supported"] = True
        if openid:
            facts["subject_types_supported"] = ["public"]
            facts["id_token_signing_alg_values_supported"] = [ALGORITHM]
            facts["claims_supported"] = ["iss", "sub", "aud", "exp", "iat", "nonce", "name", "email"]
        return self.json(facts)

    def _serves(self, grant: str) -> bool:
        if grant == "authorization_code":
            return self.service.authorize is not None
        if grant == "client_credentials":
            return set(self.service.client_auth) != {"none"}
        return grant != DEVICE_GRANT or self.service.device is not None

    def resource_metadata(self, request: Request, rest: str, place: Place) -> Reply:
        """RFC 9728: the resource is the address to which its well-known path belongs."""
        return self.json(
            {
                "resource": f"{base_of(request)}{rest}",
                "authorization_servers": [place.url(self._routes.issuer)],
                "scopes_supported": self.scopes,
                "bearer_methods_supported": ["header"],
            }
        )

    def keys(self) -> Reply:
        """The public keys that check the service's signatures (RFC 7517)."""
        return self.json(JWKS)

    @property
    def scopes(self) -> list[str]:
        """The scopes of a login, and those that a resource needs."""
        needed = [scope for resource in self._routes.resources for scope in resource.scopes]
        return list(dict.fromkeys([*self.service.scope.split(), *needed]))


def _challenge(facts: dict[str, str]) -> tuple[str, str]:
    words = ", ".join(f'{name}="{value}"' for name, value in facts.items())
    return "www-authenticate", f"Bearer {words}".rstrip()
