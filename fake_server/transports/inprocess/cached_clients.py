"""What a client works out anew each time, with the same result: worked out once.

Code that is run a thousand times a second makes a client for each call, as real code does, and most of what that costs
is none of the code's business: imports that fail again, the environment read and parsed again, cookies looked for
where there are none.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fake_server.transports.inprocess.libraries import importable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["cached_client_setup"]


@contextmanager
def cached_client_setup() -> Iterator[None]:
    """Make clients of httpx and httpx2, and their requests, cheaper; nothing that they do is different.

    For code that makes clients by the thousand, as :func:`~fake_server.transports.inprocess.shared_ssl_context` is.
    """
    with ExitStack() as patches:
        if not importable("sniffio"):  # httpcore looks for it again and again, through the whole of `sys.path`
            patches.enter_context(patch.dict(sys.modules, {"sniffio": None}))
        for library in filter(importable, ("httpx", "httpx2")):
            client = vars(importlib.import_module(f"{library}._client"))
            for name, cheaper in (("get_environment_proxies", _once), ("URLPattern", lru_cache(maxsize=256))):
                patches.enter_context(patch.dict(client, {name: cheaper(client[name])}))
            cookies = importlib.import_module(library).Cookies
            patches.enter_context(patch.object(cookies, "extract_cookies", _if_any(cookies.extract_cookies)))
        yield


def _once(read: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Read the environment again only when it has changed."""
    known: dict[Any, Any] | None = None
    result: dict[str, Any] = {}

    def reading() -> dict[str, Any]:
        nonlocal known, result
        # Compared as it is stored: to decode it costs as much as what is to be saved.
        now = getattr(os.environ, "_data", os.environ)
        if now != known:
            known, result = dict(now), read()
        return dict(result)

    return reading


def _if_any(extract: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Look for cookies in a response that has some."""

    def extracting(self: Any, response: Any) -> None:
        if "set-cookie" in response.headers or "set-cookie2" in response.headers:
            extract(self, response)

    return extracting
