"""Milliseconds that a test pays: for a handle, for the server on loopback, and for that of a peer."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable

import respx

from pytest_claude_tokens import ClaudeTokens

__all__ = ["WAYS"]

TIMES = 20


def _handle() -> None:
    with ClaudeTokens():
        pass


def _loopback() -> None:
    with ClaudeTokens() as tokens:
        assert tokens.url


def _answered() -> None:
    with ClaudeTokens() as tokens:
        urllib.request.urlopen(f"{tokens.url}/api/hello").read()


def _respx() -> None:
    with respx.mock():
        pass


def _httpserver() -> None:
    import logging

    from pytest_httpserver import HTTPServer

    logging.getLogger("werkzeug").disabled = True
    with HTTPServer() as server:
        server.expect_request("/api/hello").respond_with_data("{}")
        urllib.request.urlopen(server.url_for("/api/hello")).read()


def _each(run: Callable[[], None]) -> Callable[[], float]:
    def measure() -> float:
        started = time.process_time()
        for _ in range(TIMES):
            run()
        return (time.process_time() - started) / TIMES * 1e3

    return measure


WAYS = {
    "a handle, opened and ended": _each(_handle),
    "respx.mock(), opened and ended": _each(_respx),
    "a handle with its server on loopback": _each(_loopback),
    "… and a first answer over a socket": _each(_answered),
    "pytest-httpserver: start, first answer, stop": _each(_httpserver),
}
