"""One TLS context for all clients, as in-process requests use no TLS."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from fake_server.genuine import os
from fake_server.transports.inprocess.httpx_internals import LIBRARIES, ssl_context_patches
from fake_server.transports.inprocess.libraries import importable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

__all__ = ["shared_ssl_context"]

_ready: dict[tuple[str, object, str | None, str | None], ssl.SSLContext] = {}


@contextmanager
def shared_ssl_context() -> Iterator[None]:
    """In the block, clients with default settings share one context instead of creating one each (15 to 25 ms).

    It is a real context, so a client that does use TLS verifies certificates as before. Only for code that creates
    clients by the thousand: a program that modified its context would modify that of all clients.
    """
    with ExitStack() as patches:
        for library in filter(importable, LIBRARIES):
            for one in ssl_context_patches(library, partial(_cached, library)):
                patches.enter_context(one)
        yield


def _cached(library: str, create: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    @wraps(create)
    def cached(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is not True or cert:
            return create(verify=verify, cert=cert, trust_env=trust_env)
        key = (library, bool(trust_env), os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        if key not in _ready:
            _ready[key] = create(verify=verify, cert=cert, trust_env=trust_env)
        return _ready[key]

    return cached
