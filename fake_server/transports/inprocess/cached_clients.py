"""Caches parts of a client's set-up that have the same result each time.

Code under test runs a thousand times a second and creates a client for each call, as real code does. Most of that cost
is repeated work: imports that fail again, the environment parsed again, cookies searched for where there are none.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from fake_server.genuine import os
from fake_server.transports.inprocess.httpx_internals import LIBRARIES, cookie_patch, library_patch, url_patches
from fake_server.transports.inprocess.libraries import importable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["cached_client_setup"]


@contextmanager
def cached_client_setup() -> Iterator[None]:
    """In the block, clients of httpx and httpx2 and their requests cost less time; their behaviour is the same.

    Like :func:`~fake_server.transports.inprocess.shared_ssl_context`, for code that creates clients by the thousand.
    """
    with ExitStack() as patches:
        for one in library_patch(cache):
            patches.enter_context(one)
        for library in filter(importable, LIBRARIES):
            for one in url_patches(library, proxies=_once, pattern=lru_cache(maxsize=256)):
                patches.enter_context(one)
            for one in cookie_patch(library, _if_any):
                patches.enter_context(one)
        yield


def _once(read: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Call ``read`` again only when the environment has changed."""
    known: dict[Any, Any] | None = None
    result: dict[str, Any] = {}

    def reading() -> dict[str, Any]:
        nonlocal known, result
        # Compared undecoded: decoding it costs as much time as the cache saves.
        now = getattr(os.environ, "_data", os.environ)
        if now != known:
            known, result = dict(now), read()
        return dict(result)

    return reading


def _if_any(extract: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Call ``extract`` only for a response that has cookies."""

    def extracting(self: Any, response: Any) -> None:
        if "set-cookie" in response.headers or "set-cookie2" in response.headers:
            extract(self, response)

    return extracting
