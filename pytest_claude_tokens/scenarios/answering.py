"""Scenarios of answers that are lost, late, or no answers at all, and of logins that end early (N, S)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import httpx

from fake_server.faults import Fault
from fake_server.policy import Policy
from pytest_claude_tokens.scenarios.agent import BLANK, Agent, Refused, ask, exclusive, lease, post, unlocked
from pytest_claude_tokens.scenarios.registry import scenario

__all__: list[str] = []

_CALLS = ("co-schedule",)


def _unknown(tokens: Any, fault: Fault, *, resend: bool) -> Callable[[], Any]:
    """A worker whose token request meets ``fault``: may it have been carried out? It stops, or sends it again."""
    account = tokens.account(expired=True)
    tokens.fail_next("token", fault)

    async def job() -> None:
        try:
            await post(account.refresh_token)
        except (Refused, httpx.TransportError):
            if resend:
                try:
                    await post(account.refresh_token)
                except Refused:
                    await ask(account.access_token)

    return job


async def _beside(tokens: Any, workers: Any, job: Callable[[], Any]) -> None:
    """Run it beside a worker with a login of its own."""
    other = tokens.account("other")
    await workers(job, lambda: ask(other.access_token))


@scenario("N1", "the reply of a refresh is lost, and the token sent again", "blind-replay", seen_in="claude-code#90688")
async def _lost_reply(tokens: Any, workers: Any, sound: bool) -> None:
    await _beside(tokens, workers, _unknown(tokens, Fault.LOST_REPLY, resend=not sound))


@scenario(
    "N2", "a refresh is answered 503 after it was done, and retried", "blind-replay", seen_in="opencode-anthropic-auth"
)
async def _committed_503(tokens: Any, workers: Any, sound: bool) -> None:
    await _beside(tokens, workers, _unknown(tokens, Fault.status(503, after_commit=True), resend=not sound))


@scenario(
    "N3",
    "the token endpoint answers 401, and the client retries at once",
    "blind-replay",
    policy=Policy.preset("gateway"),
    seen_in="the official SDK",
)
async def _retried_401(tokens: Any, workers: Any, sound: bool) -> None:
    await _beside(tokens, workers, _unknown(tokens, Fault.status(401, after_commit=True), resend=not sound))


@scenario(
    "N4",
    "the token endpoint answers 429 for days, and the client never stops asking",
    "starvation",
    seen_in="pi#4621; claude-code#38248",
)
async def _persistent_429(tokens: Any, workers: Any, sound: bool) -> None:
    tokens.fail_next("token", Fault.status(429), count=10_000)

    async def job() -> None:
        account = tokens.account(expired=True)
        attempts = 0
        while not sound or attempts < 3:  # then says so, and lets a person decide
            attempts += 1
            with suppress(Refused):
                await post(account.refresh_token)
            await asyncio.sleep(1800)

    await workers(job, job)


class _Offline(Agent):
    """A client whose network comes up after half a minute."""

    async def refresh(self, login: dict[str, Any]) -> dict[str, Any]:
        if time.time() < login["expiresAt"] / 1000 + 30:
            raise httpx.ConnectError("network is unreachable")
        return await super().refresh(login)


def _mistaken(tokens: Any, workers: Any, fault: Fault | None, *, sound: bool, client: type[Agent] = Agent) -> Any:
    """Clients that take any refused refresh for the end of their login, or only ``invalid_grant``."""
    folder = tokens.config_dir(tokens.account(expired=True))
    if fault is not None:
        tokens.fail_next("token", fault)
    shared = exclusive()

    async def job(agent: Agent) -> None:
        try:
            await agent.job()
        except (Refused, httpx.TransportError) as error:
            if not sound or getattr(error, "code", "") == "invalid_grant":
                agent.write(BLANK)
            else:
                await asyncio.sleep(30)
                await agent.job()

    return workers(*[partial(job, client(folder=folder, lock=shared)) for _ in range(2)])


@scenario(
    "N5",
    "an HTML page for an answer is taken for a dead login",
    "store-regression",
    allow=_CALLS,
    seen_in="claude-code#66844; toolhive, pull request 5170",
)
async def _html(tokens: Any, workers: Any, sound: bool) -> None:
    await _mistaken(tokens, workers, Fault.html(403), sound=sound)


@scenario(
    "N6",
    "the endpoint has moved: its 404 is taken for a dead login",
    "store-regression",
    allow=_CALLS,
    seen_in="claude-code#27933",
)
async def _moved(tokens: Any, workers: Any, sound: bool) -> None:
    await _mistaken(tokens, workers, Fault.moved(), sound=sound)


@scenario("N7", "invalid_client is taken for a dead login", "store-regression", allow=_CALLS, seen_in="claude-swap")
async def _invalid_client(tokens: Any, workers: Any, sound: bool) -> None:
    fault = Fault.status(401, body={"error": "invalid_client"})
    await _mistaken(tokens, workers, fault, sound=sound)


@scenario(
    "N8",
    "the network is not up yet, and the client logs itself out",
    "store-regression",
    allow=_CALLS,
    stand_in="an error that the client raises by itself stands for a network that is down",
    seen_in="claude-code#68660",
)
async def _no_network_yet(tokens: Any, workers: Any, sound: bool) -> None:
    await _mistaken(tokens, workers, None, sound=sound, client=_Offline)


# Logins and bearers that end early.


@scenario(
    "S1",
    "a bearer ends before its time, and is presented again",
    "stale-bearer",
    allow=_CALLS,
    seen_in="claude-code#54443, #61912",
)
async def _early(tokens: Any, workers: Any, sound: bool) -> None:
    account = tokens.account()
    folder = tokens.config_dir(account)
    tokens.expire(account)  # the service's side only: the store says that it lives
    shared = exclusive()

    async def job(agent: Agent) -> None:
        if sound:
            await agent.job()
        else:
            for _ in range(2):
                await ask(agent.read()["accessToken"])

    await workers(*[partial(job, Agent(folder=folder, lock=shared)) for _ in range(2)])


@scenario(
    "S2",
    "calls that were under way get 401, and each refreshes",
    "refresh-storm",
    workers=4,
    allow=_CALLS,
    seen_in="dario#642",
)
async def _storm_of_401(tokens: Any, workers: Any, sound: bool) -> None:
    account = tokens.account()
    folder = tokens.config_dir(account)
    tokens.expire(account)
    shared = exclusive()
    await workers(*[Agent(folder=folder, lock=shared, compare=sound).job for _ in range(4)])


@scenario(
    "S3",
    "one 401 that passes, and the client throws its bearer away",
    "missing-bearer",
    allow=_CALLS,
    seen_in="claude-code#61912; release 2.1.225",
)
async def _transient(tokens: Any, workers: Any, sound: bool) -> None:
    account = tokens.account()

    async def job() -> None:
        await ask(account.access_token)
        tokens.fail_next("call", Fault.status(401))
        await ask(account.access_token)
        await ask(account.access_token if sound else None)

    await workers(job, lambda: ask(account.access_token))


@scenario(
    "S4",
    "a refresh token is sent twice, and the service ends the whole login",
    "forced-login",
    policy=Policy.preset("anthropic-harsh"),
    allow=(*_CALLS, "double-spend", "lost-rotation", "store-regression", "stale-bearer"),
    seen_in="dario#563; clauth#52",
)
async def _family(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    await workers(*[Agent(folder=folder, lock=lease(folder) if sound else unlocked).job for _ in range(2)])


@scenario(
    "S5",
    "somebody has logged in again elsewhere, and the old bearer is used on",
    "stale-bearer",
    allow=_CALLS,
    stand_in="a second account stands for the second login of one",
    seen_in="claude-code#56339, #24317",
)
async def _login_elsewhere(tokens: Any, workers: Any, sound: bool) -> None:
    old, new = tokens.account("before"), tokens.account("after")
    store = {"bearer": old.access_token}

    async def login() -> None:
        await ask(old.access_token)
        store["bearer"] = new.access_token
        tokens.revoke(old)

    async def job() -> None:
        bearer = store["bearer"]
        for _ in range(3):
            await asyncio.sleep(5)
            if await ask(bearer) == 401 and sound:
                bearer = store["bearer"]

    await workers(login, job)


@scenario(
    "S6",
    "the login's deadline has passed, and the client goes on with what it had",
    "stale-bearer",
    policy=Policy(name="short", expires_in=60, refresh_expires_in=100),
    allow=_CALLS,
    seen_in="sessiometer; dario",
)
async def _deadline(tokens: Any, workers: Any, sound: bool) -> None:
    account = tokens.account()
    folder = tokens.config_dir(account)
    shared = exclusive()

    async def job(agent: Agent) -> None:
        await ask(agent.read()["accessToken"])
        await asyncio.sleep(200)
        for _ in range(2):
            try:
                await agent.job()
            except Refused:
                if sound:  # a person has to log in
                    return
                await ask(agent.read()["accessToken"])

    await workers(*[partial(job, Agent(folder=folder, lock=shared)) for _ in range(2)])


@scenario(
    "S7",
    "a refresh ends the bearers of the others, and they use theirs on",
    "stale-bearer",
    policy=Policy(name="revokes", revoke_access=True),
    allow=_CALLS,
    seen_in="claude-code#58066",
)
async def _revoked_by_a_refresh(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account())

    async def refreshes() -> None:
        agent = Agent(folder=folder, buffer=30_000)
        await agent.job()

    async def job() -> None:
        agent = Agent(folder=folder)
        bearer = agent.read()["accessToken"]
        for _ in range(3):
            await asyncio.sleep(5)
            if await ask(bearer) == 401 and sound:
                bearer = agent.read()["accessToken"]

    await workers(refreshes, job)
