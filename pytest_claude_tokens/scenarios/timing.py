"""Scenarios of time, of calls that meet, and of credentials of two kinds (T, C, M)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fake_server.faults import Fault
from fake_server.policy import Policy
from pytest_claude_tokens.scenarios.agent import BLANK, Agent, ask, exclusive, lease, unlocked
from pytest_claude_tokens.scenarios.registry import scenario

__all__: list[str] = []

_CALLS = ("co-schedule",)
_SHORT = Policy(name="short", expires_in=200)
"""Access tokens live for less than the five minutes before the end at which some clients refresh."""


async def _jobs(agent: Agent, number: int, pause: float = 1.0) -> None:
    for _ in range(number):
        await agent.job()
        await asyncio.sleep(pause)


@scenario(
    "T1",
    "one machine's clock is ahead: what another has refreshed is old to it",
    "refresh-storm",
    allow=_CALLS,
    seen_in="inferred from the buffer of 5 minutes",
)
async def _skew(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    shared = exclusive()
    ahead = time.time if sound else lambda: time.time() + 40_000
    agents = [Agent(folder=folder, lock=shared), Agent(folder=folder, lock=shared, clock=ahead)]
    # Each stores the end of the token by its own clock.
    await workers(lambda: _jobs(agents[0], 2, 60), lambda: _jobs(agents[1], 2, 60))


@scenario(
    "T2",
    "timers that were due in a sleep fire together after it",
    "double-spend",
    allow=_CALLS,
    seen_in="releases 2.1.129 and 2.1.211; claude-code#90688",
)
async def _wake(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account())
    agents = [Agent(folder=folder, lock=lease(folder) if sound else unlocked) for _ in range(2)]

    async def timer(agent: Agent) -> None:
        await asyncio.sleep(agent.read()["expiresAt"] / 1000 - time.time())
        await agent.job()

    await workers(*[partial(timer, agent) for agent in agents])


@scenario(
    "T3",
    "a herd waits for the lock, and each refreshes when its turn has come",
    "refresh-storm",
    workers=4,
    allow=_CALLS,
    seen_in="claude-code#37678",
)
async def _herd(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    await workers(*[Agent(folder=folder, lock=lease(folder), compare=sound).job for _ in range(4)])


@scenario(
    "T4",
    "tokens live shorter than the client's margin: it refreshes at each call",
    "refresh-storm",
    policy=_SHORT,
    allow=_CALLS,
    seen_in="claude-code#58066",
)
async def _margin(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account())
    shared = exclusive()
    agents = [Agent(folder=folder, lock=shared, buffer=20 if sound else 300) for _ in range(2)]
    await workers(*[partial(_jobs, agent, 3) for agent in agents])


@scenario(
    "T5",
    "seconds are taken for milliseconds: every token is an old one",
    "refresh-storm",
    allow=_CALLS,
    seen_in="the SDK stores seconds, the CLI milliseconds",
)
async def _units(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account())
    shared = exclusive()
    clock = time.time if sound else lambda: time.time() * 1000
    agents = [Agent(folder=folder, lock=shared, clock=clock, save=None if sound else _in_seconds) for _ in range(2)]
    await workers(*[partial(_jobs, agent, 2) for agent in agents])


def _in_seconds(agent: Agent, login: dict[str, Any]) -> None:
    agent.write({**login, "expiresAt": login["expiresAt"] / 1000})


# Calls that meet.


@scenario("C1", "two calls on one bearer at once", "co-schedule", seen_in="claude-code#54999")
async def _two_calls(tokens: Any, workers: Any, sound: bool) -> None:
    account = tokens.account(setup_token=True)
    turn = exclusive()

    async def job() -> None:
        async with turn() if sound else unlocked():
            await ask(account.access_token)

    await workers(job, job)


def _limited(tokens: Any, workers: Any, refused: int, mistake: Callable[[Agent], Awaitable[None]] | None) -> Any:
    """Clients that meet a refusal: they back off and try again, or make a ``mistake``."""
    folder = tokens.config_dir(tokens.account())

    async def job(agent: Agent) -> None:
        for _ in range(3):
            if await ask(agent.read()["accessToken"] or None) != refused:
                return
            if mistake is not None:
                await mistake(agent)
                return
            await asyncio.sleep(3600)

    return workers(*[partial(job, Agent(folder=folder)) for _ in range(2)])


async def _log_out(agent: Agent) -> None:
    login = agent.read()
    agent.write(BLANK)
    await ask(login["accessToken"])


async def _refresh_twice(agent: Agent) -> None:
    """Takes the refusal for one of its token."""
    for _ in range(2):
        await agent.refresh(agent.read())


@scenario(
    "C2",
    "a burst is answered 429 without usage headers, and the client logs itself out",
    "store-regression",
    policy=Policy(name="burst", burst=1),
    allow=(*_CALLS, "lost-rotation", "forced-login"),
    seen_in="claude-code#53922, #68968",
)
async def _burst(tokens: Any, workers: Any, sound: bool) -> None:
    await _limited(tokens, workers, 429, None if sound else _log_out)


@scenario(
    "C3",
    "too many calls at once are answered with a 400 about credit, which is taken for the end",
    "store-regression",
    policy=Policy(name="fan-out", fan_out=1),
    allow=(*_CALLS, "lost-rotation", "forced-login"),
    seen_in="screamingface, pull request 245",
)
async def _masked(tokens: Any, workers: Any, sound: bool) -> None:
    await _limited(tokens, workers, 400, None if sound else _log_out)


@scenario(
    "C4",
    "a used-up quota is answered 429 with its reset, and the client refreshes its login over it",
    "refresh-storm",
    policy=Policy(name="quota", quota=1),
    allow=_CALLS,
    seen_in="the tests of CLIProxyAPI",
)
async def _quota(tokens: Any, workers: Any, sound: bool) -> None:
    await _limited(tokens, workers, 429, None if sound else _refresh_twice)


@scenario(
    "C5",
    "a bearer is replaced while a long answer is read, and the client goes on with the old one",
    "stale-bearer",
    policy=Policy(name="long", latency={"call": 60.0}),
    allow=_CALLS,
    seen_in="release 2.1.141",
)
async def _long_answer(tokens: Any, workers: Any, sound: bool) -> None:
    account = tokens.account(expires_in=30)
    folder = tokens.config_dir(account)
    shared = exclusive()

    async def long() -> None:
        agent = Agent(folder=folder, lock=shared)
        bearer = await agent.bearer()
        await ask(bearer)  # goes on beyond the end of its bearer, and is finished
        for _ in range(2):
            await ask(await agent.bearer() if sound else bearer)

    async def short() -> None:
        await asyncio.sleep(40)
        await Agent(folder=folder, lock=shared).job()

    await workers(long, short)


@scenario("C6", "one token has two names in the pool", "co-schedule", seen_in="inferred from claude-code#54999")
async def _two_names(tokens: Any, workers: Any, sound: bool) -> None:
    bearer = tokens.account(setup_token=True).access_token
    named = {"TOKEN_A": bearer, "TOKEN_B": bearer}
    pool: asyncio.Queue[str] = asyncio.Queue()
    for one in dict.fromkeys(named.values()) if sound else named.values():
        pool.put_nowait(one)

    async def job() -> None:
        one = await pool.get()
        await ask(one)
        pool.put_nowait(one)

    await workers(job, job)


# Credentials of two kinds.


@scenario(
    "M1",
    "a token from the environment meets one 401, and the stored login is refreshed in its place",
    "double-spend",
    allow=_CALLS,
    seen_in="releases 2.1.225 and 2.1.118",
)
async def _mixed(tokens: Any, workers: Any, sound: bool) -> None:
    setup = tokens.account("setup", setup_token=True)
    folder = tokens.config_dir(tokens.account("stored", expired=True))
    tokens.fail_next("call", Fault.status(401), count=2)

    async def job() -> None:
        await ask(setup.access_token)
        await ask(setup.access_token if sound else await Agent(folder=folder).bearer())

    await workers(job, job)


@scenario(
    "M2",
    "a helper's key is kept for its time to live, though it was refused",
    "stale-bearer",
    allow=_CALLS,
    seen_in="claude-code#11639, #43436",
)
async def _helper(tokens: Any, workers: Any, sound: bool) -> None:
    old, new = tokens.account("old-key"), tokens.account("new-key")
    tokens.revoke(old)

    async def job() -> None:
        cached = old.access_token
        for _ in range(2):
            if await ask(cached) == 401 and sound:
                cached = new.access_token  # asks the helper again

    await workers(job, job)
