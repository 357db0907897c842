"""One canary for each private name of httpx, httpx2 and httpcore: it fails when a release has lost the name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from contextlib import ExitStack
from types import ModuleType

import pytest

from fake_server.transports.inprocess import httpx_internals
from fake_server.transports.inprocess.httpx_internals import LIBRARIES, cookie_patch, library_patch, url_patches

HERE = "fake_server/transports/inprocess/httpx_internals.py"
each = pytest.mark.parametrize("library", LIBRARIES)


def enter(patches):
    """How many patches there are, and that each can be entered and left."""
    with ExitStack() as stack:
        return len([stack.enter_context(one) for one in patches])


@each
@pytest.mark.parametrize("name", ["get_environment_proxies", "URLPattern"])
def test_a_constructor_still_calls_it(library, name):
    """By that name, in that module, so that a replacement there is what is called."""
    module = importlib.import_module(f"{library}._client")
    hint = f"find out what {library}'s constructor calls now and patch that in {HERE}, or drop the patch there"
    assert name in vars(module), f"{library}._client has no {name}: {hint}"
    assert f"{name}(" in inspect.getsource(module), f"{library}._client imports {name} and never calls it: {hint}"
    assert len(inspect.signature(vars(module)[name]).parameters) == (name == "URLPattern"), hint


@each
def test_a_client_still_extracts_cookies_by_that_method(library):
    """From each response, with the response as the only argument."""
    cookies = importlib.import_module(library).Cookies
    hint = f"find out how a client of {library} keeps cookies and patch that in {HERE}, or drop cookie_patch there"
    assert hasattr(cookies, "extract_cookies"), hint
    assert list(inspect.signature(cookies.extract_cookies).parameters) == ["self", "response"], hint
    assert ".extract_cookies(" in inspect.getsource(importlib.import_module(f"{library}._client")), hint


@each
def test_the_context_is_still_made_by_that_function(library):
    """It is public, but its arguments and the modules that have it by name are not."""
    module = importlib.import_module(library)
    hint = f"bring _cached in shared_tls.py in line with {library}.create_ssl_context, whose arguments have changed"
    assert list(inspect.signature(module.create_ssl_context).parameters) == ["verify", "cert", "trust_env"], hint
    users = [name for name, one in sys.modules.items() if name.startswith(f"{library}._") and one is not None]
    found = [name for name in users if vars(sys.modules[name]).get("create_ssl_context") is module.create_ssl_context]
    assert found, f"no module of {library} has create_ssl_context by name: see ssl_context_patches in {HERE}"


def test_httpcore_still_imports_sniffio_each_time():
    """Inside of a function, so that each wait looks for it; httpcore2 does so once, which costs nothing."""
    source = inspect.getsource(importlib.import_module("httpcore._synchronization"))
    assert "        import sniffio" in source, f"httpcore looks for sniffio no more: drop library_patch from {HERE}"
    assert "def current_async_library()" in source, f"find out what looks for sniffio now, and patch that in {HERE}"


@pytest.mark.parametrize("found", [True, False])
def test_sniffio_is_hidden_only_where_it_is_missing(monkeypatch, found):
    """A program that has it keeps it."""
    monkeypatch.setattr(httpx_internals, "importable", lambda name: found)
    assert enter(library_patch(lambda it: it)) == (not found)


def test_names_that_a_release_has_lost_are_left_alone(monkeypatch):
    """Its clients work, and are as slow as they are by themselves."""
    client, library = ModuleType("lost._client"), ModuleType("lost")
    library.Cookies = type("Cookies", (), {})
    monkeypatch.setitem(sys.modules, "lost", library)
    monkeypatch.setitem(sys.modules, "lost._client", client)
    assert enter(url_patches("lost", proxies=lambda it: it, pattern=lambda it: it)) == 0
    assert enter(cookie_patch("lost", lambda it: it)) == 0
