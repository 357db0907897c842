"""A service that speaks the standards, and a client's hand: each request is one call with its parameters."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from fake_server.clock import Clock
from fake_server.protocol.wire import Request
from fake_server.server import Server
from fake_server.service import Service
from tests.unit.core.harness import FORM, JSON, Answer, World, authorization

__all__ = ["OAuthWorld", "basic", "challenge_of"]


class OAuthWorld(World):
    """One server of ``service``, reached as ``https://<its first host>``."""

    def __init__(self, service: Service | str = "oauth", policy: str = "oauth", **changes: Any) -> None:
        super().__init__(policy, **changes)
        self.service = Service.preset(service) if isinstance(service, str) else service
        self.server = Server(
            self.server.policy,
            Clock(lambda: self.time, kind="virtual"),
            lambda: self.time,
            namespace="test",
            service=self.service,
            sink=self.sink,
        )
        self.host = self.service.hosts[0]

    def ask(
        self,
        method: str,
        target: str,
        form: Any = None,
        *,
        json_: Any = None,
        bearer: str | None = None,
        auth: tuple[str, str] | None = None,
        host: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        body = b""
        if form is not None:
            body, headers = urlencode(form).encode(), (*headers, *FORM)
        if json_ is not None:
            body, headers = json.dumps(json_).encode(), (*headers, *JSON)
        if auth is not None:
            headers = (*headers, ("authorization", basic(*auth)))
        host = host or self.host
        headers = (*headers, ("host", host), *authorization(bearer))
        return self.send(Request.parse(method, target, headers, body, host.partition(":")[0]))

    def token(self, auth: tuple[str, str] | None = None, **form: Any) -> Answer:
        return self.ask("POST", self.service.token[0], form, auth=auth)

    def renew(self, refresh: str, auth: tuple[str, str] | None = None, **form: Any) -> Answer:
        return self.token(auth, grant_type="refresh_token", refresh_token=refresh, **form)

    def redirected(self, **query: Any) -> dict[str, str]:
        """What the redirect of an authorization request brings."""
        asked = {"response_type": "code", "client_id": "mine", "redirect_uri": "http://localhost/cb", **query}
        answer = self.ask("GET", f"{self.service.authorize}?{urlencode(asked)}")
        assert answer.status == 302, answer.body
        return dict(parse_qsl(urlsplit(answer.header("location") or "").query))

    def exchange(self, code: str, **form: Any) -> Answer:
        asked = {"grant_type": "authorization_code", "client_id": "mine", "redirect_uri": "http://localhost/cb"}
        return self.token(code=code, **{**asked, **form})


def basic(id_: str, secret: str) -> str:
    pair = f"{quote(id_, safe='')}:{quote(secret, safe='')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def challenge_of(answer: Answer) -> str:
    return answer.header("www-authenticate") or ""
