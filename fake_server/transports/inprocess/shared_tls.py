"""One TLS context for all clients, where no TLS is spoken anyway."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fake_server.transports.inprocess.libraries import importable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

__all__ = ["shared_ssl_context"]

_NAME = "create_ssl_context"
_ready: dict[tuple[str, object, str | None, str | None], ssl.SSLContext] = {}


@contextmanager
def shared_ssl_context() -> Iterator[None]:
    """Give every client with default settings one ready context instead of a new one (15 to 25 ms each).

    It is a real one, so a client that does speak TLS verifies as before. Only for code that makes clients by the
    thousand: a program that changed its context would change everybody's.
    """
    with ExitStack() as patches:
        for library in filter(importable, ("httpx", "httpx2")):
            original = vars(importlib.import_module(library))[_NAME]
            replacement = _cached(library, original)
            for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == library]:
                if vars(module).get(_NAME) is original:
                    patches.enter_context(patch.object(module, _NAME, replacement))
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
