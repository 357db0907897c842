"""One canary for each name of respx that it does not document: it fails when a release has lost the name."""

from __future__ import annotations

import inspect
from pkgutil import resolve_name
from threading import RLock

import httpcore
import httpx
import pytest
import respx
from respx.mocks import Mocker
from respx.models import AllMockedAssertionError, PassThrough, ResolvedRoute
from respx.router import Router

from fake_server.transports.inprocess import respx_internals

HERE = "fake_server/transports/inprocess/respx_internals.py"
REQUEST = httpx.Request("GET", "https://api.anthropic.com/")


@pytest.mark.parametrize("name", ["httpx", "httpcore"])
def test_the_levels_are_still_in_the_registry(name):
    """By their names; pytest-httpx2 adds one."""
    assert name in getattr(Mocker, "registry", {}), f"respx keeps its levels elsewhere: change level() in {HERE}"
    assert respx_internals.is_defined(name)
    assert not respx_internals.is_defined("no-such-level")
    assert respx_internals.level(name) is Mocker.registry[name]


@pytest.mark.parametrize("name", ["httpx", "httpcore"])
def test_routers_are_still_asked_in_the_order_of_the_list(name):
    """The first that does not say "not mocked" answers, so that ours is asked first if it is the first one."""
    mocker = respx_internals.level(name)
    hint = f"respx asks its routers in another way: change ask_first() in {HERE}"
    assert isinstance(mocker.routers, list), hint
    asked = []

    class One(Router):
        def __init__(self, label):
            super().__init__()
            self.label = label

        def handler(self, request):
            asked.append(self.label)
            raise AllMockedAssertionError("go on")

    first, second = One("first"), One("second")
    mocker.register(second)
    respx_internals.ask_first(mocker, first)
    try:
        with pytest.raises(AllMockedAssertionError):
            mocker.handler(REQUEST)
        assert respx_internals.others(mocker, first) == [second]
        assert not respx_internals.is_alone(mocker)
        mocker.unregister(second)
        assert respx_internals.is_alone(mocker), hint
    finally:
        mocker.unregister(second)
        mocker.unregister(first)
    assert asked == ["first", "second"], hint


def test_a_level_still_reads_a_transports_request_by_that_method():
    """With keywords only, of which ``request`` is one: the pool's own request."""
    mocker = respx_internals.level("httpcore")
    assert hasattr(mocker, "to_httpx_request"), f"find out how respx reads a request now: reader_patch() in {HERE}"
    before = mocker.to_httpx_request
    reading = respx_internals.reader_patch(mocker, staticmethod(lambda **given: (given, REQUEST)))
    reading.start()
    try:
        assert mocker.to_httpx_request(request=1) == ({"request": 1}, REQUEST)
    finally:
        reading.stop()
    assert mocker.to_httpx_request == before


@pytest.mark.parametrize("port", [None, 8443])
@pytest.mark.parametrize("target", [b"/v1/oauth/token?a=b%20c", b"/"])
def test_a_url_is_still_joined_from_these_four(port, target):
    """As respx itself does it for a route; once for each."""
    theirs = respx_internals.level("httpcore").to_httpx_request(
        request=httpcore.Request("GET", httpcore.URL(scheme="https", host="a.example", port=port, target=target))
    )
    ours = respx_internals.joined((b"https", b"a.example", port, target))
    assert ours == theirs.url
    assert respx_internals.joined((b"https", b"a.example", port, target)) is ours


def methods():
    """What stands in each class of a level, and what is only inherited there."""
    mocker = respx_internals.level("httpcore")
    classes = [resolve_name(":".join(target.rsplit(".", 1))) for target in mocker.targets]
    return [(one, name, vars(one).get(name)) for one in classes for name in mocker.target_methods]


def test_a_level_is_still_patched_in_the_way_that_is_done_here_with_less_work():
    """What respx patches, and only that; what it undoes; and not a second time."""
    mocker = respx_internals.level("httpcore")
    hint = f"respx patches in another way: change start() in {HERE}"
    before = methods()
    mocker.start()
    theirs = [(owner, name) for (owner, name, was), (_, _, now) in zip(before, methods(), strict=True) if now != was]
    mocker.stop()
    assert methods() == before

    respx_internals.start(mocker)
    during = methods()
    respx_internals.start(mocker)
    mocker.start()
    assert methods() == during, hint
    ours = [(owner, name) for (owner, name, was), (_, _, now) in zip(before, during, strict=True) if now != was]
    mocker.stop()

    assert ours == theirs, hint
    assert methods() == before, hint


@pytest.mark.parametrize("method", ["start", "stop", "register", "unregister"])
def test_a_level_can_still_be_entered_and_left(method):
    """What the interceptor's router calls when it starts and when it stops."""
    assert callable(getattr(Mocker, method, None)), f"see _FirstRouter.start and stop: respx's Mocker has no {method}"


@pytest.mark.parametrize("method", ["resolve", "aresolve", "handler", "async_handler"])
def test_a_router_is_still_asked_by_that_method(method):
    """The user's routers by the first two; ours by respx by the other two."""
    found = inspect.signature(getattr(Router, method))
    assert len(found.parameters) == 2, f"see _FirstRouter in routing.py: Router.{method} takes something else now"


def test_a_route_still_says_what_it_matches():
    """Its ``pattern`` does, without counting a call; a route without one matches anything."""
    router = respx.Router()
    route = router.get("https://api.anthropic.com/")
    assert respx_internals.matches(route, REQUEST), f"see matches() in {HERE}"
    assert not respx_internals.matches(route, httpx.Request("POST", "https://api.anthropic.com/"))
    assert respx_internals.matches(respx.Route(), REQUEST)
    assert route.call_count == 0


def test_an_answer_without_a_route_is_still_told_apart():
    """A router with ``assert_all_mocked=False`` answers 200 by itself; that has no ``route``."""
    resolved = ResolvedRoute()
    assert respx_internals.explicit(resolved) is None
    router = respx.Router()
    router.get("https://api.anthropic.com/").respond(418)
    answer = respx_internals.explicit(router.resolve(REQUEST))
    assert answer is not None, f"see explicit() in {HERE}"
    assert answer.status_code == 418


def test_a_request_is_still_passed_on_by_that_exception():
    """With the request in it."""
    passed = respx_internals.passed_on(REQUEST)
    assert isinstance(passed, PassThrough)
    assert passed.request is REQUEST


def test_an_rlock_still_knows_its_owner():
    """``threading.RLock._is_owned``, which ``Drive.orphan`` asks in the garbage collector."""
    lock = RLock()
    assert hasattr(lock, "_is_owned"), "see Drive.orphan in driving.py: without it an orphan is always put off"
    assert not lock._is_owned()
    with lock:
        assert lock._is_owned()
