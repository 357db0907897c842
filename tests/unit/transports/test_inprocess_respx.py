"""In-process: beside the user's own respx routes, whatever was entered first."""

from __future__ import annotations

from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import httpx2
import pytest
import respx
from respx.models import AllMockedAssertionError

from tests.unit.transports.inprocess_world import HELLO, LIBRARIES, MODES, World, ask

any_order = pytest.mark.parametrize("order", ["theirs outside", "theirs inside"])

MINE = "https://mine.test/"


@pytest.fixture
def world():
    return World()


@pytest.fixture
def enter(order):
    """Enter the service and the user's router in the order of the test's parameter."""
    with ExitStack() as stack:

        def both_of_them(world, router):
            managers = [router, world.interceptor]
            if order == "theirs inside":
                managers.reverse()
            for manager in managers:
                stack.enter_context(manager)
            return stack

        yield both_of_them


@pytest.fixture(scope="module")
def network():
    """The URL of a real server on loopback that answers 202."""

    class Accepted(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(202)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Accepted)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


class Client:
    """A client library, how it is used, and the level at which the user's router patches it."""

    def __init__(self, library, using, mode):
        self.library = library
        self.using = using
        self.mode = mode

    def __repr__(self):
        return f"{self.library.__name__}-{self.using}-{self.mode}"

    def router(self, **options):
        """A router of the user's that sees this client's requests."""
        return respx.mock(using=self.using, **options)

    def get(self, url):
        return ask(self.library, self.mode, "GET", url)


LEVELS = [(httpx, "httpcore"), (httpx, "httpx"), (httpx2, "httpcore2")]
each_client = pytest.mark.parametrize("client", [Client(*level, mode) for level in LEVELS for mode in MODES], ids=repr)


@each_client
@any_order
def test_each_answers_for_its_own_hosts(client, enter, world):
    """The user's routes and the service answer side by side; each counts its own requests only."""
    router = client.router()
    route = router.get(MINE).respond(201)
    enter(world, router)
    assert client.get(MINE).status_code == 201
    assert client.get(HELLO).json() == {"message": "hello"}
    assert (route.call_count, router.calls.call_count) == (1, 1)
    assert len(world.events("invoke")) == 1


@each_client
@any_order
def test_the_users_route_for_a_host_of_the_service_wins(client, enter, world):
    """An explicit route is explicit: it answers, is counted, and the service doesn't see the request."""
    router = client.router()
    route = router.get(HELLO).respond(418)
    enter(world, router)
    assert client.get(HELLO).status_code == 418
    assert ask(client.library, client.mode, "HEAD", HELLO).status_code == 200
    assert (route.call_count, router.calls.call_count) == (1, 1)
    assert [event.get("method") for event in world.events("invoke")] == ["HEAD"]


@each_client
@any_order
def test_a_route_that_was_not_called_is_still_reported(client, order, world):
    """`assert_all_called` sees the user's routes, and none of ours."""
    router = client.router()
    router.get(MINE).respond(201)
    managers = [router, world.interceptor] if order == "theirs outside" else [world.interceptor, router]
    with pytest.raises(AssertionError, match="some routes were not called"), managers[0], managers[1]:
        client.get(HELLO)


@each_client
@any_order
def test_a_request_that_nobody_mocks_is_refused_as_ever(client, enter, world):
    """Beside a router of the user's, an unknown host gets respx's own refusal: nothing leaks to the network."""
    enter(world, client.router())
    with pytest.raises(AllMockedAssertionError, match="not mocked"):
        client.get("https://other.test/")


@each_client
@any_order
def test_the_automatic_200_is_not_an_answer_for_the_service(client, enter, world):
    """A router that answers everything with an empty 200 does so for other hosts, and not for the service's."""
    router = client.router(assert_all_mocked=False)
    enter(world, router)
    assert client.get(HELLO).json() == {"message": "hello"}
    assert router.calls.call_count == 0
    assert client.get("https://other.test/").content == b""
    assert router.calls.call_count == 1


@each_client
@any_order
@pytest.mark.parametrize("options", [{}, {"assert_all_mocked": False}])
def test_a_loopback_server_is_reached_beside_the_users_routes(client, enter, world, network, options):
    """A base URL at a server on loopback works without a route for it; a route for it is obeyed."""
    router = client.router(assert_all_called=False, **options)
    enter(world, router)
    assert client.get(network).status_code == 202
    assert router.calls.call_count == 0
    router.get(network).respond(418)
    assert client.get(network).status_code == 418


@each_client
@any_order
def test_a_pass_through_route_leaves_the_request_to_the_service(client, enter, world, network):
    """The network of a test is the service, so that is where a passed request goes; the route was called."""
    router = client.router()
    route = router.route().pass_through()
    enter(world, router)
    assert client.get(HELLO).json() == {"message": "hello"}
    assert client.get(network).status_code == 202
    assert route.called


@each_client
@any_order
@pytest.mark.parametrize("options", [{}, {"assert_all_mocked": False}])
def test_a_side_effect_may_decline(client, enter, world, options):
    """A route whose function returns nothing has not matched: the service answers."""
    router = client.router(assert_all_called=False, **options)
    router.get(HELLO).mock(side_effect=lambda request: None)
    enter(world, router)
    assert client.get(HELLO).json() == {"message": "hello"}


@each_client
@any_order
def test_the_error_of_a_side_effect_is_raised(client, enter, world):
    """A route that fails, fails: that is what it is for."""
    router = client.router()
    router.get(HELLO).mock(side_effect=ZeroDivisionError)
    enter(world, router)
    with pytest.raises(ZeroDivisionError):
        client.get(HELLO)


@any_order
def test_a_pattern_that_cannot_read_a_request_does_not_match(enter, world):
    """A route by JSON body is not asked about requests that have none."""
    router = respx.mock(assert_all_called=False)
    router.route(json={"mine": True}).respond(201)
    enter(world, router)
    assert httpx.get(HELLO).json() == {"message": "hello"}
    assert httpx.post(HELLO, json={"mine": True}).status_code == 201


@any_order
def test_two_routers_of_the_users(enter, world):
    """The first router with a route for the request answers."""
    first, second = respx.mock(assert_all_called=False), respx.mock()
    first.get(MINE).respond(201)
    second.get(HELLO).respond(418)
    stack = enter(world, first)
    stack.enter_context(second)
    assert httpx.get(HELLO).status_code == 418
    assert httpx.head(HELLO).status_code == 200
    assert httpx.get(MINE).status_code == 201


def test_a_router_above_that_has_gone_changes_nothing(world, network):
    """After a router of the user's at the level of httpx, the custom transport and the network are as before."""
    mine = httpx.MockTransport(lambda request: httpx.Response(418))
    with world.interceptor:
        with respx.mock(using="httpx", assert_all_called=False):
            assert httpx.get(HELLO).status_code == 200
            with httpx.Client(transport=mine) as client:
                assert client.get(HELLO).status_code == 418
        with httpx.Client(transport=mine) as client:
            assert client.get(HELLO).status_code == 418
        assert httpx.get(network).status_code == 202
        assert httpx.get(HELLO).status_code == 200


def test_the_users_fixture_works_beside_us(respx_mock, httpx2_mock, world):
    """The fixtures of respx and pytest-httpx2 answer for their hosts, and keep their own counts."""
    first, second = respx_mock.get(MINE).respond(201), httpx2_mock.get(MINE).respond(203)
    with world.interceptor:
        for library, status in zip(LIBRARIES, (201, 203), strict=True):
            assert ask(library, "sync", "GET", MINE).status_code == status
            assert ask(library, "sync", "GET", HELLO).json() == {"message": "hello"}
    assert (first.call_count, second.call_count) == (1, 1)
