"""The gate that holds the requests of worker processes, at its two network legs."""

from __future__ import annotations

import pytest

from fake_server import Policy
from fake_server.clock import Clock
from fake_server.effects import Signal, Wait
from fake_server.exchange import Exchange
from fake_server.protocol.wire import Request
from fake_server.server import Server
from pytest_claude_tokens.runs.request_gate import RequestGate


@pytest.fixture
def server():
    return Server(Policy(), Clock(lambda: 0.0, kind="virtual"), lambda: 0.0, namespace="gate")


@pytest.fixture
def exchange(server):
    """A request that has arrived."""
    made = Exchange(server, Request("GET", "/api/hello", (), b""), "w0")
    assert made.step() == Wait("request")
    return made


def fired(wait):
    """Whether the signal of that wait has fired."""
    heard = []
    wait.signal.subscribe(lambda: heard.append(1))
    return bool(heard)


def test_it_holds_nothing_until_it_is_told_to(server, exchange):
    """And then only the two legs; other waits are as they are."""
    gate, gated = RequestGate(), Wait("gate", None, Signal())
    assert gate.hold_at_leg(exchange, Wait("request")) == Wait("request")
    gate.hold()
    assert gate.hold_at_leg(exchange, gated) is gated
    held = [gate.hold_at_leg(exchange, Wait(why)) for why in ("request", "reply")]
    assert [one.why for one in gate.pending(server)] == ["request", "reply"]
    assert not any(fired(wait) for wait in held)
    assert gate.events == 3


def test_one_goes_on_when_it_is_released(server, exchange):
    """And only that one."""
    gate = RequestGate()
    gate.hold()
    first, second = (gate.hold_at_leg(exchange, Wait("request")) for _ in range(2))
    gate.release(server, gate.pending(server)[1])
    assert (fired(first), fired(second)) == (False, True)
    assert len(gate.pending(server)) == 1


def test_all_go_on_when_it_opens(server, exchange):
    """What comes later isn't held either."""
    gate = RequestGate()
    gate.hold()
    held = gate.hold_at_leg(exchange, Wait("request"))
    gate.open(server)
    assert fired(held)
    assert gate.pending(server) == []
    assert gate.hold_at_leg(exchange, Wait("request")) == Wait("request")


def test_a_request_whose_client_has_gone_is_forgotten(server, exchange):
    """It is not open any more."""
    gate = RequestGate()
    gate.hold()
    gate.hold_at_leg(exchange, Wait("request"))
    exchange.abandon("gone")
    assert gate.pending(server) == []
