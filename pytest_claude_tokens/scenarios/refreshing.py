"""Scenarios of a refresh that is done twice: no lock, a lock that is no help, a store that is another one (R, F)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fake_server.policy import Policy
from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.scenarios.agent import Agent, Lock, exclusive, lease, unlocked
from pytest_claude_tokens.scenarios.registry import scenario

__all__: list[str] = []

_SLOW = Policy(name="slow", latency={"token": 20.0})
"""A token request takes longer than many a client's patience."""
_CALLS = ("co-schedule",)
"""One login has one bearer: that its calls overlap is another subject."""


@scenario(
    "R1", "processes read one refresh token, and all send it", "double-spend", allow=_CALLS, seen_in="most issues"
)
async def _across_processes(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    agents = [Agent(folder=folder, lock=lease(folder) if sound else unlocked) for _ in range(2)]
    await workers(*[agent.job for agent in agents])


@scenario("R2", "clients in one process, each with a cache of its own", "double-spend", allow=_CALLS, seen_in="dario")
async def _in_one_process(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    shared = exclusive()
    agents = [Agent(folder=folder, lock=shared if sound else exclusive()) for _ in range(2)]
    await workers(*[agent.job for agent in agents])


@scenario(
    "R3", "a lock, under which the store is not read again", "double-spend", allow=_CALLS, seen_in="dario; llxprt#1822"
)
async def _lock_without_a_look(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    agents = [Agent(folder=folder, lock=lease(folder), reread=sound) for _ in range(2)]
    await workers(*[agent.job for agent in agents])


@scenario(
    "R4",
    "who has waited 7.5 s for the lock goes on without it",
    "double-spend",
    policy=_SLOW,
    allow=_CALLS,
    seen_in="llxprt#1781; claude-code#37678",
)
async def _impatient(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    lock = lease(folder) if sound else lease(folder, patience=7.5)
    agents = [Agent(folder=folder, lock=lock) for _ in range(2)]
    await workers(*[agent.job for agent in agents])


@scenario(
    "R5",
    "a lock is taken over after 10 s, from a holder that is only slow",
    "double-spend",
    policy=_SLOW,
    allow=_CALLS,
    seen_in="proper-lockfile's README",
)
async def _stale_but_alive(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    agents = [Agent(folder=folder, lock=lease(folder, touch=sound)) for _ in range(2)]
    await workers(*[agent.job for agent in agents])


@scenario(
    "R6",
    "two that wait take over one dead lock",
    "double-spend",
    policy=Policy(name="slow", latency={"token": 5.0}),
    allow=_CALLS,
    seen_in="an experiment",
)
async def _double_takeover(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    dead = folder.with_name(f"{folder.name}.lock")
    dead.mkdir()
    os.utime(dead, (0, 0))
    agents = [Agent(folder=folder, lock=_taking_over(dead, pause, by_rename=sound)) for pause in (1.0, 2.0)]
    await workers(*[agent.job for agent in agents])


def _taking_over(lock: Path, pause: float, *, by_rename: bool) -> Lock:
    """Looks at the lock, and after a ``pause`` removes what it found stale: by name, or by a rename that one wins."""

    @asynccontextmanager
    async def hold() -> AsyncIterator[None]:
        while not _made(lock):
            stale = lock.stat().st_mtime < time.time() - 10
            await asyncio.sleep(pause)
            if stale and by_rename:
                with suppress(OSError):
                    aside = lock.with_name(f"{lock.name}-{pause:g}")
                    lock.rename(aside)
                    if aside.stat().st_mtime >= time.time() - 10:
                        aside.rename(lock)  # it was a fresh one: put it back
            elif stale:
                lock.rmdir()
        os.utime(lock, (time.time(), time.time()))
        yield
        with suppress(FileNotFoundError):
            lock.rmdir()

    return hold


def _made(lock: Path) -> bool:
    try:
        lock.mkdir()
    except FileExistsError:
        return False
    os.utime(lock, (time.time(), time.time()))
    return True


@scenario(
    "R7",
    "one holds a lock to be stale after 10 s, another after 60 s",
    "double-spend",
    policy=_SLOW,
    allow=_CALLS,
    seen_in="proper-lockfile's README; claude-code#93537",
)
async def _mixed_versions(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    newer = lease(folder, stale=60)  # touches its lock every 30 s
    agents = [Agent(folder=folder, lock=lock) for lock in (newer, newer if sound else lease(folder))]
    await workers(*[agent.job for agent in agents])


@scenario(
    "R8",
    "a dead lock of the future, which nobody steals",
    "starvation",
    allow=_CALLS,
    seen_in="proper-lockfile; claude-code#79688",
)
async def _orphan(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    dead = folder.with_name(f"{folder.name}.lock")
    dead.mkdir()
    os.utime(dead, (time.time() + 1e7, time.time() + 1e7))
    agents = [Agent(folder=folder, lock=_patient(dead, believes=not sound)) for _ in range(2)]
    await workers(*[agent.job for agent in agents])


def _patient(lock: Path, *, believes: bool) -> Lock:
    """Waits for ever; a time on the lock that has not come yet makes it a stale one, unless it is believed."""

    @asynccontextmanager
    async def hold() -> AsyncIterator[None]:
        while not _made(lock):
            ahead = lock.stat().st_mtime - time.time()
            if ahead > 60 and not believes:
                lock.rmdir()
            else:
                await asyncio.sleep(600 if believes else 1)
        yield
        lock.rmdir()

    return hold


@scenario(
    "R9",
    "containers share the store, and each has its lock in a private home",
    "double-spend",
    allow=_CALLS,
    stand_in="two paths of the lock stand for two mount namespaces; claude-tokens workarounds runs real ones",
    seen_in="disinto; agent-deck",
)
async def _private_lock(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    homes = [tokens.tmp_path / name for name in ("home0", "home1")]
    agents = [Agent(folder=folder, lock=lease(folder if sound else home)) for home in homes]
    await workers(*[agent.job for agent in agents])


@scenario(
    "R10",
    "a refresh replaces the symlinked store by a private file",
    "double-spend",
    allow=_CALLS,
    seen_in="claude-code#76561; dario#563",
)
async def _detached_link(tokens: Any, workers: Any, sound: bool) -> None:
    shared = tokens.config_dir(tokens.account(expired=True))
    folders = [tokens.tmp_path / name for name in ("private0", "private1")]
    for folder in folders:
        folder.mkdir(mode=0o700)
        (folder / FILE).symlink_to(shared / FILE)
    save = _through_the_link if sound else None
    agents = [Agent(folder=folder, lock=lease(shared), save=save) for folder in folders]
    await workers(*[agent.job for agent in agents])


def _through_the_link(agent: Agent, login: dict[str, Any]) -> None:
    agent.replace({**agent.document(), "claudeAiOauth": login}, (agent.folder / FILE).resolve())


@scenario(
    "R11",
    "a container's mounted file is still the one that the host has replaced",
    "double-spend",
    allow=_CALLS,
    stand_in="a hard link stands for a bind mount of one file: both keep the old inode when the host renames",
    seen_in="claude-code#18443",
)
async def _old_inode(tokens: Any, workers: Any, sound: bool) -> None:
    host = tokens.config_dir(tokens.account(expired=True))
    container = host if sound else tokens.tmp_path / "container"
    if not sound:
        container.mkdir(mode=0o700)
        os.link(host / FILE, container / FILE)
    agents = [Agent(folder=folder, lock=lease(host)) for folder in (host, container)]
    await workers(*[agent.job for agent in agents])


@scenario(
    "R12",
    "each worker has a copy of the login",
    "double-spend",
    allow=_CALLS,
    seen_in="curia#53; sessiometer#145",
)
async def _copies(tokens: Any, workers: Any, sound: bool) -> None:
    account = tokens.account(expired=True)
    folders = [tokens.config_dir(account, name="shared" if sound else name) for name in ("copy0", "copy1")]
    agents = [Agent(folder=folder, lock=lease(folders[0])) for folder in folders]
    await workers(*[agent.job for agent in agents])


@scenario(
    "F1",
    "mkdir on a network file system lets two have the lock",
    "double-spend",
    allow=_CALLS,
    stand_in="a mkdir that never says that the directory is there stands for one that NFS answers from a cache",
    seen_in="proper-lockfile's README",
)
async def _lock_on_nfs(tokens: Any, workers: Any, sound: bool) -> None:
    folder = tokens.config_dir(tokens.account(expired=True))
    agents = [Agent(folder=folder, lock=lease(folder) if sound else _cached_mkdir(folder)) for _ in range(2)]
    await workers(*[agent.job for agent in agents])


def _cached_mkdir(folder: Path) -> Lock:
    @asynccontextmanager
    async def hold() -> AsyncIterator[None]:
        lock = folder.with_name(f"{folder.name}.lock")
        lock.mkdir(exist_ok=True)
        yield
        with suppress(FileNotFoundError):
            lock.rmdir()

    return hold
