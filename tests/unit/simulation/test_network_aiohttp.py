"""The simulated network under aiohttp: faults, streams and deaths as on a real one."""

from __future__ import annotations

import asyncio
import gc

import pytest

from fake_server.faults import Fault
from pytest_claude_tokens.simulation.schedule import Deviation, PlannedFault, Schedule
from pytest_claude_tokens.violations import BlindReplay, CoSchedule, DoubleSpend
from tests.unit.simulation.worlds import ends, explored, outcome_of, tried
from tests.zoo.common import CALL_URL, HELLO_URL, STREAMED, TOKEN_URL, bearer_header, token_request

pytestmark = pytest.mark.usefixtures("staged")


aiohttp = pytest.importorskip("aiohttp")


# aiohttp.


def refreshing(*, locked):
    """A body whose workers refresh with aiohttp."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        login = {"refresh": account.refresh_token, "fresh": False}
        lock = asyncio.Lock()

        async def refresh():
            async with aiohttp.ClientSession() as session:
                async with session.post(TOKEN_URL, json=token_request(login["refresh"])) as response:
                    reply = await response.json()
            if "refresh_token" in reply:
                login.update(refresh=reply["refresh_token"], fresh=True)

        async def job():
            if not locked:
                await refresh()
                return
            async with lock:
                if not login["fresh"]:
                    await refresh()

        await workers(job)

    return body


def test_double_spend_is_found_through_aiohttp():
    """And a sound dispatcher is spared, in any order."""
    assert isinstance(outcome_of(refreshing(locked=False)).error, DoubleSpend)
    with explored(refreshing(locked=True), 3) as run:
        for seed in range(20):
            outcome = run(Schedule(kind="walk", seed=seed))
            assert outcome.error is None
            assert [(event.type, event.status) for event in ends(outcome)] == [("ok", 200)]


@pytest.mark.parametrize(
    ("fault", "end", "error"),
    [
        (Fault.RESET, "info", aiohttp.ClientOSError),
        (Fault.LOST_REPLY, "info", aiohttp.ServerDisconnectedError),
        (Fault.GARBAGE, "info", aiohttp.ClientError),
        (Fault.TRUNCATED, "info", aiohttp.ClientPayloadError),
        (Fault.TIMEOUT, "info", TimeoutError),
        (Fault.status(503), "fail", None),
        (Fault.html(), "fail", None),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_faults_are_what_they_are_on_a_real_network(fault, end, error):
    """aiohttp raises what it would raise; the journal says how the operation ended."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)

        async def job():
            timeout = aiohttp.ClientTimeout(total=30)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                async with session.post(TOKEN_URL, json=token_request(account.refresh_token)) as response:
                    await response.read()
                    return response.status

        if error is None:
            assert (await workers(job))[0] >= 400
        else:
            with pytest.raises(error):
                await workers(job)

    outcome = tried(
        body, Schedule(planned_faults=(PlannedFault(0, "token", fault),)), workers=1, allow=["forced-login"]
    )
    assert [event.type for event in ends(outcome)] == [end]


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.status(503, after_commit=True)], ids=str)
def test_lost_reply_that_is_sent_again_is_a_blind_replay(fault):
    """Through the network, as through respx; and so is a success that an error took the place of."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)

        async def job():
            async with aiohttp.ClientSession() as session:
                for _ in range(2):
                    try:
                        async with session.post(TOKEN_URL, json=token_request(account.refresh_token)) as response:
                            if response.ok:
                                return await response.read()
                    except aiohttp.ClientError:
                        continue
            return None

        await workers(job)

    outcome = outcome_of(body, Schedule(planned_faults=(PlannedFault(0, "token", fault),)), workers=1)
    assert isinstance(outcome.error, BlindReplay)


@pytest.mark.parametrize("part", ["head", "body"])
def test_reply_that_is_held_back_comes_whole(part):
    """In simulated time."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)

        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.post(TOKEN_URL, json=token_request(account.refresh_token)) as response:
                    assert "access_token" in await response.json()

        await workers(job)

    outcome = tried(body, Schedule(planned_faults=(PlannedFault(0, "token", Fault.stall(50, part)),)), workers=1)
    assert ends(outcome)[-1].t >= 50


def test_streamed_reply_comes_in_pieces_between_which_others_go_on():
    """Two workers on one bearer overlap in some order, and it is seen."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.post(
                    CALL_URL, json=STREAMED, headers=bearer_header(account.access_token)
                ) as response:
                    return [piece async for piece in response.content.iter_any()]

        results.append(await workers(job))

    results: list = []
    assert isinstance(outcome_of(body).error, CoSchedule)
    assert all(len(pieces) >= 2 for pieces in results[0])


def test_connection_kept_alive_works_for_whoever_uses_it():
    """One session for all: its connection is handed from worker to worker, and so are the requests on it."""

    async def body(claude_tokens, workers):
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def job():
                for _ in range(3):
                    async with session.get(HELLO_URL) as response:
                        await response.read()
                    await asyncio.sleep(1)

            await workers(job)

    with explored(body, 3) as run:
        for seed in range(10):
            outcome = run(Schedule(kind="walk", seed=seed))
            assert outcome.error is None
            assert sorted(event.actor for event in ends(outcome)) == [f"w{n}" for n in range(3) for _ in range(3)]


def test_client_that_closes_early_leaves_an_unknown_outcome():
    """It was cancelled while its request was on its way."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.post(CALL_URL, json=STREAMED, headers=bearer_header(account.access_token)):
                    pass

        with pytest.raises(TimeoutError):
            await workers(lambda: asyncio.wait_for(job(), 1))

    outcome = tried(body, workers=1, latency={"call": 5})
    assert [(event.type, event.error) for event in ends(outcome)] == [("info", "client gone")]


def test_other_hosts_do_not_exist():
    """By name or by number; and what is served is served under further names, too."""

    async def body(claude_tokens, workers):
        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.get("https://token.example/api/hello") as response:
                    assert response.status == 200
                for url in ("https://example.com/", "http://93.184.216.34/", "https://192.0.2.77/"):
                    with pytest.raises(aiohttp.ClientConnectorError):
                        await session.get(url)
            with pytest.raises(OSError, match="no such host in the simulated network"):
                await asyncio.open_connection("example.com", 443, ssl=True)

        await workers(job)

    tried(body, workers=1, hosts=["token.example"])


@pytest.mark.parametrize(
    ("written", "url", "served"),
    [
        ("token.example:8443", "https://TOKEN.example:8443/api/hello", True),
        ("token.example:8443", "https://token.example/api/hello", False),
        ("*.example", "http://a.token.example:1/api/hello", True),
        ("münchen.example", "http://xn--mnchen-3ya.example/api/hello", True),
    ],
)
def test_named_hosts_exist_at_their_ports(written, url, served):
    """By aiohttp, which looks a name up and then connects to the address; and what is refused is noted."""

    async def body(claude_tokens, workers):
        async def job():
            async with aiohttp.ClientSession() as session:
                if served:
                    async with session.get(url) as response:
                        assert response.status == 200
                else:
                    with pytest.raises(aiohttp.ClientConnectorError):
                        await session.get(url)

        await workers(job)

    outcome = tried(body, workers=1, hosts=[written])
    noted = [(event.actor, event.get("host"), event.get("port")) for event in outcome.history if event.f == "refused"]
    assert noted == ([] if served else [("w0", "token.example", 443)])


@pytest.mark.filterwarnings("ignore:coroutine '_wait_for_close' was never awaited:RuntimeWarning")  # aiohttp's own
def test_dead_worker_leaves_nothing_open():
    """Its session and its sockets are closed without a word, however far it had come."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.post(
                    CALL_URL, json=STREAMED, headers=bearer_header(account.access_token)
                ) as response:
                    await response.read()

        await workers(job)

    with explored(body, 2, latency={"call": 1}) as run:
        for position in range(0, 60, 2):
            outcome = run(Schedule(deviations=(Deviation(position, "kill", 0, 1),)))
            assert outcome.error is None or isinstance(outcome.error, CoSchedule)
            assert all(event.type in ("ok", "info") for event in ends(outcome))
    gc.collect()  # here, where that warning is expected
