"""Signals that reach the fake claude in the middle of a refresh."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.claude.process import Terminated
from tests.unit.claude.world import TOKEN


def test_sigterm_ends_2_1_123_at_once_and_burns_the_token(world):
    """The service has rotated, the answer is never read, the lock is removed."""
    grant = world.login()

    def killed(asked):
        world.server.authority.redeem(asked.json["refresh_token"], world.now())
        world.machine.terminate(143)

    world.http.script[TOKEN] = [killed]
    assert world.run().status == 143
    assert world.locks() == []
    assert world.stored()["refreshToken"] == grant.refresh[0].secret
    assert world.run().status == 1


def test_sigterm_lets_2_1_330_finish_its_refresh(make_world):
    """It saves the answer, and then ends."""
    world = make_world("2.1.330")
    world.login()
    world.http.script[TOKEN] = [lambda asked: world.machine.terminate(143)]
    done = world.run()
    assert (done.status, done.out) == (143, "")
    assert world.http.calls() == []
    assert world.stored()["accessToken"] == world.server.authority.grants[0].access[1].secret
    assert world.run().out == "A\n"


def test_an_error_under_the_shield_gives_way_to_the_signal(world):
    """A signal that waited is not forgotten because the work behind the shield failed."""
    world.run("--help")

    def fail():
        with world.machine.shielded(True):
            world.machine.terminate(130)
            raise ValueError

    with pytest.raises(Terminated) as end:
        fail()
    assert end.value.code == 130
