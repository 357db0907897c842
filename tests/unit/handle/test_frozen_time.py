from __future__ import annotations

import sys
import threading
from datetime import timedelta

import freezegun.api
import pytest
from freezegun import freeze_time

from fake_server import clock
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from tests.unit.handle.requests_of import CALL_URL, call, waited_in_the_queue


def test_without_freezegun_it_is_the_systems_time(monkeypatch):
    """Neither loaded nor frozen: `time.time`."""
    assert abs(clock.now() - freezegun.api.real_time()) < 5
    monkeypatch.delitem(sys.modules, "freezegun.api")
    assert abs(clock.now() - freezegun.api.real_time()) < 5


def test_every_thread_has_the_frozen_time():
    """freezegun itself tells the real time to a thread; the service must not have two times."""
    seen = []
    tokens = ClaudeTokens()
    with freeze_time("2030-01-01 00:00:00.25"):
        thread = threading.Thread(target=lambda: seen.append(tokens.clock.now()))
        thread.start()
        thread.join()
        seen += [clock.now(), tokens.clock.now()]

    assert seen == [1893456000.25] * 3


def test_a_look_of_ours_does_not_tick():
    """A clock that ticks at each reading is the test's, not the service's."""
    with freeze_time("2030-01-01", auto_tick_seconds=15) as frozen:
        start = frozen.time_to_freeze
        assert clock.now() == clock.now()
        assert frozen.time_to_freeze == start


def test_a_ticking_clock_goes_on():
    """`tick=True`: frozen at the start, running from there."""
    with freeze_time("2030-01-01", tick=True):
        assert 1893456000 <= clock.now() < 1893456060


@pytest.mark.parametrize("way", ["in process", "over a socket"])
def test_time_that_is_ticked_and_moved_ends_tokens_both_ways(way):
    """8 h later the bearer has expired, and back again it is good: in process, and in the server's thread."""
    with freeze_time("2030-01-01") as frozen, ClaudeTokens(allow=["stale-bearer"]) as tokens:
        url = CALL_URL if way == "in process" else tokens.url + "/v1/messages"
        account = tokens.account()
        assert account.expires_at == 1893456000 + 28800

        seen = [call(account.access_token, url).status_code]
        frozen.tick(timedelta(hours=8))
        seen.append(call(account.access_token, url).status_code)
        frozen.move_to("2030-01-01 07:59:59")
        seen.append(call(account.access_token, url).status_code)

        assert seen == [200, 401, 200]
        assert tokens.history.operations[1].invoke.t == 28800


@pytest.mark.parametrize("way", ["in process", "over a socket"])
def test_a_frozen_clock_does_not_freeze_waits(way):
    """Latency and the queue in front of a bearer take real time."""
    with freeze_time("2030-01-01"), ClaudeTokens(latency=0.2, allow=["co-schedule"]) as tokens:
        url = CALL_URL if way == "in process" else tokens.url + "/v1/messages"
        assert 0 < waited_in_the_queue(tokens, url) < 10


def test_a_time_that_is_let_go_before_the_end_expires_no_login():
    """The verdict is on what the test did: at its time, not at the one to which the clock springs back."""
    with ClaudeTokens() as tokens:
        with freeze_time("2020-01-01"):
            account = tokens.account()
            call(account.access_token)
        tokens.finish()

        assert tokens.history.noted("end")[0].get("grants")["g#1"]["death"] is None
