"""A bearer that is dead on arrival: refused at once, beside the queue, and no open call."""

from __future__ import annotations

import pytest

from fake_server.effects import Wait
from fake_server.faults import Fault
from fake_server.policy import Policy
from pytest_claude_tokens.judge import judge
from tests.unit.judge.drive import Service


def waits(exchange):
    """The further waits of an exchange that has arrived, which is run to its end; time does not pass."""
    found = []
    while (effect := exchange.step()) is not None:
        if isinstance(effect, Wait):
            found.append(effect.why)
    return found


@pytest.mark.parametrize("how", ["expire", "revoke"])
@pytest.mark.parametrize("key", ["bearer", "account"])
def test_it_waits_for_nobody_and_nobody_waits_for_it(how, key):
    """Neither for the call before it, nor for the time that a call takes; and no two of them are together."""
    service = Service(Policy(key=key, latency=5.0))
    grant = service.login()
    secret = grant.access[0].secret
    live = service.call("w0", secret)
    assert live.step().why == "latency"
    getattr(service.server, how)("work")
    dead = [service.call(f"w{number}", secret) for number in (1, 2)]
    assert [waits(one) for one in dead] == [["reply"]] * 2
    live.abandon("client gone")
    history = service.history
    assert [op.status for op in history.operations] == [None, 401, 401]
    assert not history.noted("queue")
    assert judge(history).violations == ()


def test_a_bearer_that_dies_in_the_queue_was_open():
    """What was live on arrival took its place, and counts."""
    service = Service(Policy())
    secret = service.login().access[0].secret
    first, second = (service.call(worker, secret) for worker in ("w0", "w1"))
    assert [first.step().why, second.step().why] == ["reply", "gate"]
    service.server.expire("work")
    first.abandon("client gone")
    assert waits(second) == ["reply"]
    assert [str(one) for one in judge(service.history).violations] == ["at#1 by w0 (#2) and w1 (#3)"]


def test_a_clock_that_went_back_makes_it_wait_like_any_other():
    """It is served then, and so in its turn."""
    service = Service(Policy(expires_in=10, latency=1.0))
    secret = service.login().access[0].secret
    service.now += 20
    call = service.call("w0", secret)
    service.now -= 20
    assert call.step().why == "latency"


def test_an_injected_401_does_not_make_it_live():
    """Whatever answers it, the bearer was dead."""
    service = Service(Policy())
    secret = service.login().access[0].secret
    service.server.expire("work")
    service.server.faults.add("call", Fault.status(401), count=2)
    for call in [service.call(worker, secret) for worker in ("w0", "w1")]:
        waits(call)
    assert judge(service.history).violations == ()
