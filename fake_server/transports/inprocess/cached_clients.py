"""What a client works out anew each time, with the same result: worked out once.

Code that is run a thousand times a second makes a client for each call, as real code does, and most of what that costs
is none of the code's business: imports that fail again, the environment read and parsed again, cookies looked for
where there are none.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fake_server.transports.inprocess.httpx_internals import LIBRARIES, cookie_patch, sniffio_patch, url_patches
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
        for one in sniffio_patch():
            patches.enter_context(one)
        for library in filter(importable, LIBRARIES):
            for one in url_patches(library, proxies=_once, pattern=lru_cache(maxsize=256)):
                patches.enter_context(one)
            for one in cookie_patch(library, _if_any):
                patches.enter_context(one)
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
