"""Every name of httpx, httpx2 and httpcore that is patched and is not theirs to promise, each with what it is for.

They all make clients cheaper to set up, and nothing else: a name that a release no longer has is left alone, and that
release's clients are as slow as they are by themselves. Each has a test in
``tests/unit/transports/test_httpx_internals.py`` that fails then, and says what to do.
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

__all__ = ["LIBRARIES", "cookie_patch", "sniffio_patch", "ssl_context_patches", "url_patches"]

LIBRARIES = ("httpx", "httpx2")
"""Releases of the same client under two names: what is private in one is private in the other."""

_SSL = "create_ssl_context"


def url_patches(
    library: str, *, proxies: Callable[[Any], Any], pattern: Callable[[Any], Any]
) -> Iterator[AbstractContextManager[Any]]:
    """Replace what a client's constructor calls, in ``_client``.

    ``get_environment_proxies`` reads the environment for proxies, and ``URLPattern`` parses the address of each.
    """
    names = vars(importlib.import_module(f"{library}._client"))
    for name, cheaper in (("get_environment_proxies", proxies), ("URLPattern", pattern)):
        if name in names:
            yield patch.dict(names, {name: cheaper(names[name])})


def cookie_patch(library: str, cheaper: Callable[[Any], Any]) -> Iterator[AbstractContextManager[Any]]:
    """Replace ``Cookies.extract_cookies``, which a client calls for each response with two objects of ``urllib``."""
    cookies = importlib.import_module(library).Cookies
    if hasattr(cookies, "extract_cookies"):
        yield patch.object(cookies, "extract_cookies", cheaper(cookies.extract_cookies))


def ssl_context_patches(library: str, cached: Callable[[Any], Any]) -> Iterator[AbstractContextManager[Any]]:
    """Replace ``create_ssl_context`` in each module of the library that has imported it by name."""
    original = vars(importlib.import_module(library))[_SSL]
    replacement = cached(original)
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == library]:
        if vars(module).get(_SSL) is original:
            yield patch.object(module, _SSL, replacement)


def sniffio_patch() -> Iterator[AbstractContextManager[Any]]:
    """Where ``sniffio`` is missing, say so at once: httpcore imports it for each wait, through all of ``sys.path``."""
    if not importable("sniffio"):
        yield patch.dict(sys.modules, {"sniffio": None})
