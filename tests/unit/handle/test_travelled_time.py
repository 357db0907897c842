"""Users of time-machine get what those of freezegun have: it changes the functions themselves; no bridge is needed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fake_server import clock
from pytest_claude_tokens import explore
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from tests.unit.handle.requests_of import CALL_URL, call, waited_in_the_queue

time_machine = pytest.importorskip("time_machine")
START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("way", ["in process", "over a socket"])
def test_time_that_is_shifted_and_moved_ends_tokens_both_ways(way):
    """8 h later the bearer has expired, and back again it is good: in process, and in the server's thread."""
    with time_machine.travel(START, tick=False) as traveller, ClaudeTokens(allow=["stale-bearer"]) as tokens:
        url = CALL_URL if way == "in process" else tokens.url + "/v1/messages"
        account = tokens.account()
        assert account.expires_at == 1893456000 + 28800

        seen = [call(account.access_token, url).status_code]
        traveller.shift(8 * 3600)
        seen.append(call(account.access_token, url).status_code)
        traveller.move_to(datetime(2030, 1, 1, 7, 59, 59, tzinfo=UTC))
        seen.append(call(account.access_token, url).status_code)
        tokens.advance(1)
        seen.append(call(account.access_token, url).status_code)

        assert seen == [200, 401, 200, 401]
        assert tokens.history.operations[1].invoke.t == 28800


def test_a_clock_that_stands_does_not_stop_waits():
    """Latency and the queue in front of a bearer take real time."""
    with (
        time_machine.travel(START, tick=False),
        ClaudeTokens(latency=0.2, allow=["co-schedule"]) as tokens,
    ):
        assert 0 < waited_in_the_queue(tokens, CALL_URL) < 10


def test_a_time_that_is_let_go_before_the_end_expires_no_login():
    """The verdict is on what the test did: at its time, not at the one to which the clock springs back."""
    with ClaudeTokens() as tokens:
        with time_machine.travel(datetime(2020, 1, 1, tzinfo=UTC)):
            call(tokens.account().access_token)
        tokens.finish()

        assert tokens.history.noted("end")[0].get("grants")["g#1"]["death"] is None


def test_the_way_through_the_proxy_is_open_at_any_time():
    """The certificate is good now and far ahead: a client that is led by the environment can connect."""
    pytest.importorskip("trustme")
    import requests

    for year in (2025, 2035):
        with time_machine.travel(datetime(year, 1, 1, tzinfo=UTC)), ClaudeTokens() as tokens:
            proxies = {"https": tokens.proxy_url}
            answer = requests.get("https://api.anthropic.com/api/hello", proxies=proxies, verify=tokens.ca_file)
            assert answer.status_code == 200


@pytest.mark.usefixtures("_traveller")
def test_in_a_search_time_is_virtual_whoever_travels():
    """A journey around the test says when a search begins or nothing at all; within, time passes as it is simulated."""
    seen = []

    @explore(workers=2)
    async def test(claude_tokens, workers):
        account = claude_tokens.account()

        async def job():
            import asyncio
            import time

            import httpx

            before = time.time(), datetime.now(UTC)
            await asyncio.sleep(3600)
            seen.append((round(time.time() - before[0]), round((datetime.now(UTC) - before[1]).total_seconds())))
            async with httpx.AsyncClient() as client:
                await client.get("https://api.anthropic.com/api/hello")
            assert account.expires_at > time.time()

        await workers(job)

    test()
    assert {one for one in seen if one[0] != one[1] or not 3600 <= one[0] <= 3720} == set()  # both may be held up
    assert clock.now() == START.timestamp()


@pytest.fixture
def _traveller():
    with time_machine.travel(START, tick=False):
        yield
