"""Every private name of httpx, httpx2 and httpcore that is patched, with its purpose.

The patches only make clients cheaper to set up. A name that a release no longer has is skipped, and that release's
clients keep their normal speed. Each has a test in ``tests/unit/transports/test_httpx_internals.py`` that fails then,
and says what to do.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fake_server.transports.inprocess.libraries import importable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["LIBRARIES", "cookie_patch", "library_patch", "ssl_context_patches", "url_patches"]

LIBRARIES = ("httpx", "httpx2")
"""The same client under two names, with the same private names."""

_SSL = "create_ssl_context"
_LIBRARY = "current_async_library"


def url_patches(
    library: str, *, proxies: Callable[[Any], Any], pattern: Callable[[Any], Any]
) -> Iterator[AbstractContextManager[Any]]:
    """Patch functions in ``_client`` that a client's constructor calls.

    ``get_environment_proxies`` reads the environment for proxies, and ``URLPattern`` parses the address of each.
    """
    names = vars(importlib.import_module(f"{library}._client"))
    for name, cheaper in (("get_environment_proxies", proxies), ("URLPattern", pattern)):
        if name in names:
            yield patch.dict(names, {name: cheaper(names[name])})


def cookie_patch(library: str, cheaper: Callable[[Any], Any]) -> Iterator[AbstractContextManager[Any]]:
    """Patch ``Cookies.extract_cookies``, which a client calls for each response with two ``urllib`` objects."""
    cookies = importlib.import_module(library).Cookies
    if hasattr(cookies, "extract_cookies"):
        yield patch.object(cookies, "extract_cookies", cheaper(cookies.extract_cookies))


def ssl_context_patches(library: str, cached: Callable[[Any], Any]) -> Iterator[AbstractContextManager[Any]]:
    """Patch ``create_ssl_context`` in each module of the library that has imported it by name."""
    original = vars(importlib.import_module(library))[_SSL]
    replacement = cached(original)
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == library]:
        if vars(module).get(_SSL) is original:
            yield patch.object(module, _SSL, replacement)


def library_patch(once: Callable[[Any], Any]) -> Iterator[AbstractContextManager[Any]]:
    """If ``sniffio`` is missing, patch httpcore's ``current_async_library``, which searches ``sys.path`` for it.

    It does so at each wait, and the answer is always the same: asyncio.
    """
    names = vars(importlib.import_module("httpcore._synchronization"))
    if not importable("sniffio") and _LIBRARY in names:
        yield patch.dict(names, {_LIBRARY: once(names[_LIBRARY])})
