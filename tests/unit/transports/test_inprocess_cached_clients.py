"""In-process: clients that don't work the same things out again, and do all that they did."""

from __future__ import annotations

import importlib
import sys

import httpx
import httpx2
import pytest

from fake_server.transports.inprocess import cached_client_setup
from tests.unit.transports.inprocess_world import LIBRARIES

both = pytest.mark.parametrize("library", LIBRARIES, ids=["httpx", "httpx2"])


def names(client):
    """For which addresses a client has a way of its own, and whether that is a proxy."""
    return {pattern.pattern: way is not None for pattern, way in client._mounts.items()}


@both
def test_the_environment_is_followed(library, monkeypatch):
    """A client made after the environment has changed has the proxies of the changed one, as without."""
    for name in ("no_proxy", "https_proxy", "http_proxy", "all_proxy"):  # the guard of the session sets the first
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    found = []
    for name, value in (("NO_PROXY", "one.test"), ("NO_PROXY", "two.test,::1"), ("HTTPS_PROXY", "http://proxy.test")):
        monkeypatch.setenv(name, value)
        with library.Client() as client:
            found.append(names(client))
    assert found[0] != found[1] != found[2]
    monkeypatch.delenv("HTTPS_PROXY")
    again = []
    with cached_client_setup():
        for name, value in (
            ("NO_PROXY", "one.test"),
            ("NO_PROXY", "two.test,::1"),
            ("HTTPS_PROXY", "http://proxy.test"),
        ):
            monkeypatch.setenv(name, value)
            with library.Client() as client, library.Client() as other:
                again.append(names(client))
                assert names(other) == names(client)
    assert again == found


@both
def test_an_unchanged_environment_is_read_once(library, monkeypatch):
    """Clients that are made one after the other don't read the environment anew; what one does to it stays its own."""
    module = importlib.import_module(f"{library.__name__}._client")
    reads = []
    real = module.get_environment_proxies
    monkeypatch.setattr(module, "get_environment_proxies", lambda: reads.append(1) or real())
    with cached_client_setup():
        module.get_environment_proxies()["all://"] = "http://mine.test"
        assert "all://" not in module.get_environment_proxies()
    assert len(reads) == 1


@both
def test_cookies_are_kept(library):
    """A cookie that a response sets comes with the next request; a response without one sets none."""
    seen = []

    def answer(request):
        seen.append(request.headers.get("cookie"))
        return library.Response(200, headers={"set-cookie": "a=b"} if len(seen) == 2 else {})

    with cached_client_setup(), library.Client(transport=library.MockTransport(answer)) as client:
        for _ in range(3):
            client.get("http://cookies.test/")
    assert seen == [None, None, "a=b"]


@pytest.mark.parametrize("there", [False, True], ids=["absent", "installed"])
def test_a_module_that_is_not_there_is_not_searched_for(there, monkeypatch, tmp_path):
    """httpcore looks for sniffio once where it isn't installed; where it is, it is left alone."""
    monkeypatch.delitem(sys.modules, "sniffio", raising=False)
    if there:
        (tmp_path / "sniffio.py").write_text("mark = 1\n")
        monkeypatch.syspath_prepend(tmp_path)
    else:
        monkeypatch.setattr(
            "fake_server.transports.inprocess.httpx_internals.importable", lambda name: name != "sniffio"
        )
    looks, core = [], importlib.import_module("httpcore._synchronization")
    monkeypatch.setattr(core, "current_async_library", lambda: looks.append(1) or "asyncio")
    with cached_client_setup():
        assert [core.current_async_library() for _ in range(3)] == ["asyncio"] * 3
        assert "sniffio" not in sys.modules  # None there would halt an import of the user's
        if there:
            assert importlib.import_module("sniffio").mark == 1
    assert len(looks) == (3 if there else 1)


def test_nothing_of_it_remains():
    """Afterwards, also after an error and when nested, the libraries are as they were."""
    modules = [importlib.import_module(f"{library.__name__}._client") for library in (httpx, httpx2)]

    def places():
        found = [(module.get_environment_proxies, module.URLPattern) for module in modules]
        return [*found, httpx.Cookies.extract_cookies, httpx2.Cookies.extract_cookies, sys.modules.get("sniffio", 0)]

    before = places()
    with pytest.raises(ZeroDivisionError), cached_client_setup(), cached_client_setup():
        assert places()[0] != before[0]
        raise ZeroDivisionError
    assert places() == before
