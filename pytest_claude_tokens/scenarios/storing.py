"""Scenarios of a store that does not hold what was refreshed: crashes, full disks, other writers (W)."""

from __future__ import annotations

import asyncio
import shutil
import time
from functools import partial
from typing import Any

from fake_server.genuine import json
from fake_server.policy import Policy
from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.scenarios.agent import BLANK, Agent, Refused, ask, exclusive
from pytest_claude_tokens.scenarios.registry import scenario

__all__: list[str] = []

_CALLS = ("co-schedule",)


class _Crash(Exception):
    """Stands for the death of a process: what it had in memory is lost."""


async def _mortal(agent: Agent) -> None:
    try:
        await agent.job()
    except _Crash:
        await asyncio.sleep(1)
        agent.save = None  # started again
        await agent.job()


@scenario(
    "W1",
    "a crash after the reply, and before it is stored",
    "double-spend",
    allow=_CALLS,
    stand_in="an exception that nothing catches stands for SIGKILL at that line",
    seen_in="dario#790",
)
async def _crash_before_the_store(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    shared = exclusive()

    def save(agent: Agent, login: dict[str, Any]) -> None:
        if sound:  # stores first, and dies doing what comes after
            agent.write(login)
        raise _Crash

    agents = [Agent(folder=folder, lock=shared, save=save), Agent(folder=folder, lock=shared)]
    await workers(lambda: _mortal(agents[0]), lambda: _later(agents[1]))


async def _later(agent: Agent) -> None:
    await asyncio.sleep(3)
    await agent.job()


@scenario(
    "W2",
    "the disk is full when the new login is to be stored",
    "double-spend",
    allow=_CALLS,
    stand_in="an OSError of our own stands for a full or a read-only disk",
    seen_in="claudecode_webui#970; hermes-agent#87891",
)
async def _disk_full(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    shared = exclusive()
    free_at = time.time() + 60

    def save(agent: Agent, login: dict[str, Any]) -> None:
        if time.time() >= free_at:
            agent.write(login)

    async def job(agent: Agent) -> None:
        while sound and time.time() < free_at:  # looks first whether it could store what it is about to get
            await asyncio.sleep(10)
        await agent.job()

    await workers(*[partial(job, Agent(folder=folder, lock=shared, save=save)) for _ in range(2)])


@scenario(
    "W3",
    "the store falls back by a generation after a power cut",
    "store-regression",
    allow=_CALLS,
    stand_in="the old file is put back where nobody had called fsync: what a page cache may do when power is lost",
    seen_in="dario#790",
)
async def _page_cache_lost(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    before = folder / FILE
    kept = tokens.tmp_path / "on-disk.json"
    shutil.copy(before, kept)

    def save(agent: Agent, login: dict[str, Any]) -> None:
        agent.write(login)
        if sound:  # fsync of the file and of its folder
            shutil.copy(before, kept)

    async def first() -> None:
        await Agent(folder=folder, save=save).job()
        shutil.copy(kept, before)  # the power cut
        await ask(Agent(folder=folder).read()["accessToken"])

    await workers(first, lambda: _later(Agent(folder=folder)))


@scenario(
    "W4",
    "an old snapshot is written over a newer login",
    "store-regression",
    allow=_CALLS,
    seen_in="releases 2.1.126 and 2.1.136; dario#805",
)
async def _stale_writer(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    agent = Agent(folder=folder)

    async def settings() -> None:
        document = agent.document()
        await asyncio.sleep(5)
        if sound:  # reads again, and changes only what is its own
            document = agent.document()
        agent.replace({**document, "theme": "dark"}, folder / FILE)
        await agent.job()

    await workers(settings, agent.job)


@scenario(
    "W5",
    "the loser of a race blanks the winner's store",
    "store-regression",
    allow=(*_CALLS, "double-spend", "refresh-storm"),
    policy=Policy(name="slow-reply", latency={"token": 1.0}),
    seen_in="claude-code#88583; kimi-code#3186",
)
async def _loser_blanks(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))

    async def job(agent: Agent) -> None:
        mine = agent.read()["refreshToken"]
        try:
            await agent.job()
        except Refused:
            if not sound or agent.read()["refreshToken"] == mine:
                agent.write(BLANK)
        else:
            await ask(agent.read()["accessToken"])

    await workers(*[partial(job, Agent(folder=folder)) for _ in range(2)])


@scenario(
    "W6",
    "a reader meets a store that is being written, and takes it for an empty one",
    "store-regression",
    allow=_CALLS,
    seen_in="release 2.1.118; claude-swap",
)
async def _torn_read(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account())
    agent = Agent(folder=folder)
    path = folder / FILE

    async def in_place() -> None:
        text = path.read_text()
        path.write_text(text[: len(text) // 2])
        await asyncio.sleep(1)
        path.write_text(text)
        await agent.job()

    async def reader() -> None:
        while True:
            try:
                agent.read()
                break
            except json.JSONDecodeError:
                if not sound:  # takes the login for lost
                    agent.replace({"claudeAiOauth": BLANK}, path)
                    break
                await asyncio.sleep(0.5)  # it may be whole in a moment
        await ask(known)

    known = agent.read()["accessToken"]
    await workers(in_place, reader)


@scenario(
    "W7",
    "the login of an MCP server is lost by the write that stores another one",
    "store-regression",
    allow=(*_CALLS, "lost-rotation", "forced-login"),
    seen_in="claude-code#80422, #93537",
)
async def _sibling_lost(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    mcp = tokens.account("mcp")
    agent = Agent(folder=folder)
    agent.replace({**agent.document(), "mcpOAuth": {"refreshToken": mcp.refresh_token}}, folder / FILE)
    tokens.watch_store(folder / FILE, mcp, read="mcpOAuth.refreshToken")

    def save(one: Agent, login: dict[str, Any]) -> None:
        one.replace({"claudeAiOauth": login}, folder / FILE)

    await workers(Agent(folder=folder, save=None if sound else save).job, lambda: _later(agent))


@scenario(
    "W8",
    "two stores disagree, and the older one is used",
    "double-spend",
    allow=_CALLS,
    stand_in="a second file stands for the keychain of macOS",
    seen_in="claude-code#94464; claude-swap",
)
async def _two_stores(tokens: Any, workers: Any, sound: bool) -> None:
    account = tokens.account(expired=True)
    keychain, file = tokens.config_dir(account, name="keychain"), tokens.config_dir(account, name="file")
    shared = exclusive()

    def both(agent: Agent, login: dict[str, Any]) -> None:
        for folder in (keychain, file):
            agent.replace({"claudeAiOauth": login}, folder / FILE)

    first = Agent(folder=keychain, lock=shared, save=both if sound else None)
    await workers(first.job, lambda: _later(Agent(folder=file, lock=shared)))


@scenario(
    "W9",
    "the reply leaves the refresh token out, and the client stores none",
    "store-regression",
    policy=Policy.preset("no-rotation"),
    allow=_CALLS,
    seen_in="pi#9369",
)
async def _omitted(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    shared = exclusive()
    await workers(*[Agent(folder=folder, lock=shared, keep_refresh=sound).job for _ in range(2)])
