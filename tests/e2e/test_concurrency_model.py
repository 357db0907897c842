"""The concurrency model of Claude Code's logins: rotation, the lock, and where the lock lies."""

from __future__ import annotations

import json
import os
import re
import shutil
from itertools import pairwise

import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.layouts import LAYOUTS, start
from pytest_claude_tokens.lease import Lease
from pytest_claude_tokens.violations import CoSchedule, DoubleSpend
from tests.e2e.concurrency_model import (
    ASK,
    PATIENCE,
    contended,
    dialect,
    ended,
    kinds,
    posts,
    prepared,
    raised,
    spared_by_bearer,
    told,
    until,
)

OLD, NEW = "2.1.123", "2.1.330"
DIALECTS = ["1.0", OLD, NEW]


def login(folder):
    """The login in a config directory."""
    return json.loads((folder / FILE).read_text())["claudeAiOauth"]


asks_twice = pytest.mark.claude_tokens(allow=["stale-bearer"])
"""1.0 makes a second call, for its quota, and does not look at the answer; a loser of 2.1.123 calls once more."""


# Rotation, and what the loser gets.


@pytest.mark.parametrize("release", [pytest.param("1.0", marks=asks_twice), OLD, NEW])
def test_each_refresh_spends_its_token_and_brings_the_next(claude_tokens, release):
    """One login, three token requests, three generations: none is presented twice."""
    account = claude_tokens.account(expired=True)
    place = prepared(claude_tokens, "shared-config-dir", 1, account)
    for _ in range(3):
        assert ended(start(claude_tokens, place, ASK, dialect(release))) == [(0, "A\n")]
        claude_tokens.expire(account)
    assert posts(claude_tokens) == [("rt#1", 200), ("rt#2", 200), ("rt#3", 200)]


@pytest.mark.parametrize(("release", "kept"), [(OLD, True), (NEW, False)])
def test_copies_of_a_login_lose_all_but_one(claude_tokens, release, kept):
    """Four requests with one refresh token: one success, and three times `invalid_grant`, a blank login, a failure."""
    places = prepared(claude_tokens, "copied-credentials", 4)
    with claude_tokens.hold("token", count=4):
        done = ended(start(claude_tokens, places, ASK, dialect(release)))
    assert sorted(posts(claude_tokens)) == [("rt#1", 200), *[("rt#1", 400)] * 3]
    assert sorted(code for code, _ in done) == [0, 1, 1, 1]
    for (code, said), place in zip(done, places, strict=True):
        assert bool(login(place.config_dir)["refreshToken"]) is (code == 0)
        assert bool(login(place.config_dir)["accessToken"]) is (code == 0 or kept)
        assert said == "A\n" or said.startswith("Failed to authenticate")
    assert kinds(claude_tokens) == ["double-spend", "refresh-storm", *(["stale-bearer"] if kept else [])]


# Where the lock lies.


@spared_by_bearer
@pytest.mark.parametrize("release", DIALECTS)
def test_a_shared_config_dir_makes_one_token_request(claude_tokens, release):
    """One refreshes while three wait for the lock; they find its result, and everybody's login is alive."""
    places = prepared(claude_tokens, "shared-config-dir", 4)
    assert contended(claude_tokens, places, dialect(release)) == [(0, "A\n")] * 4
    assert posts(claude_tokens) == [("rt#1", 200)]
    assert login(places[0].config_dir)["refreshToken"] != ""


@spared_by_bearer
@pytest.mark.parametrize("release", [OLD, NEW])
@pytest.mark.parametrize("name", ["container-shared-dir", "symlinked-dir"])
def test_a_lock_in_a_shared_parent_makes_one_token_request(claude_tokens, name, release):
    """Containers that mount the folder above the config directory, and symlinks to it, share its lock, too."""
    places = prepared(claude_tokens, name, 3)
    assert contended(claude_tokens, places, dialect(release)) == [(0, "A\n")] * 3
    assert posts(claude_tokens) == [("rt#1", 200)]


def test_a_private_parent_double_spends_though_all_lock_and_all_exit_0(claude_tokens):
    """Each container takes the lock beside its own mount point, at one path for all; the losers recover from the file.

    As measured with the real 2.1.123: four token requests, three of them refused, four exit statuses of 0.
    """
    places = prepared(claude_tokens, "container-home", 4)
    env = dialect(OLD)
    with claude_tokens.hold("token", count=4):  # all have their lock and ask
        processes = start(claude_tokens, places[:1], ASK, env)
        until(lambda: posts(claude_tokens))
        with claude_tokens.hold("token", count=4):  # the first is answered, and has stored it, before the others are
            processes += start(claude_tokens, places[1:], ASK, env, first=1)
            until(lambda: any(one.f == "call" and one.status == 200 for one in claude_tokens.history.operations))
    assert ended(processes) == [(0, "A\n")] * 4
    assert len({str(place.config_dir) for place in places}) == 1
    assert sorted(told(claude_tokens, "acquired")) == ["w0", "w1", "w2", "w3"]
    assert told(claude_tokens, "retry") == []
    assert posts(claude_tokens) == [("rt#1", 200), *[("rt#1", 400)] * 3]
    assert kinds(claude_tokens) == ["double-spend", "refresh-storm"]


@spared_by_bearer
def test_a_second_lock_inside_the_directory_helps_a_private_parent(claude_tokens):
    """2.1.330 takes a lock in the config directory first, which the containers share: one token request."""
    places = prepared(claude_tokens, "container-home", 4)
    assert contended(claude_tokens, places, dialect(NEW)) == [(0, "A\n")] * 4
    assert posts(claude_tokens) == [("rt#1", 200)]


def test_an_older_release_beside_a_newer_one_spoils_the_second_lock(claude_tokens):
    """2.1.123 does not know of it: with a private parent, each of the two has all the locks that it looks at."""
    places = prepared(claude_tokens, "container-home", 2)
    with claude_tokens.hold("token", count=2):
        processes = [
            *start(claude_tokens, places[:1], ASK, dialect(OLD)),
            *start(claude_tokens, places[1:], ASK, dialect(NEW), first=1),
        ]
        for process in processes:
            process.wait(PATIENCE)
    assert sorted(posts(claude_tokens)) == [("rt#1", 200), ("rt#1", 400)]
    assert kinds(claude_tokens)[0] == "double-spend"


# Files that are shared by themselves.


@pytest.mark.parametrize("release", [OLD, NEW])
def test_a_symlinked_file_is_detached_by_the_first_refresh(claude_tokens, release):
    """The new login is renamed over the link, so the next worker presents the old one: no race is needed."""
    places = prepared(claude_tokens, "symlinked-file", 2)
    first, second = (place.config_dir / FILE for place in places)
    assert first.is_symlink()
    assert ended(start(claude_tokens, places[:1], ASK, dialect(release))) == [(0, "A\n")]
    assert not first.is_symlink()
    assert second.is_symlink()
    ended(start(claude_tokens, places[1:], ASK, dialect(release), first=1))
    assert posts(claude_tokens) == [("rt#1", 200), ("rt#1", 400)]
    assert re.match("rt#1 by w0 .* and w1", str(raised(claude_tokens)[0]))


@pytest.mark.parametrize("release", [OLD, NEW])
def test_a_mounted_file_keeps_what_the_host_has_replaced(claude_tokens, release):
    """The host's refresh makes a new file; the mount still shows the old one, whose refresh token is spent."""
    account = claude_tokens.account(expired=True)
    places = prepared(claude_tokens, "mounted-file", 1, account)
    ready, go = claude_tokens.tmp_path / "ready", claude_tokens.tmp_path / "go"
    waiting = f': > "{ready}"; until [ -e "{go}" ]; do sleep 0.02; done; exec "$@"'
    container = start(claude_tokens, places, ["sh", "-c", waiting, "container", *ASK], dialect(release))
    until(ready.exists)
    host = claude_tokens.spawn(ASK, "host", config_dir=claude_tokens.config_dir(account), env=dialect(release))
    assert ended([host]) == [(0, "A\n")]
    go.touch()
    assert ended(container)[0][0] == 1
    assert posts(claude_tokens) == [("rt#1", 200), ("rt#1", 400)]
    assert re.match("rt#1 by host .* and w0", str(raised(claude_tokens)[0]))


@pytest.mark.parametrize("release", [OLD, NEW])
def test_containers_that_mount_the_file_alone_share_no_lock(claude_tokens, release):
    """Config directory and parent are private, so is every lock: each container presents the same refresh token."""
    places = prepared(claude_tokens, "mounted-file", 2)
    with claude_tokens.hold("token", count=2):
        for process in start(claude_tokens, places, ASK, dialect(release)):
            process.wait(PATIENCE)
    assert sorted(posts(claude_tokens)) == [("rt#1", 200), ("rt#1", 400)]
    assert kinds(claude_tokens)[0] == "double-spend"


def test_setup_tokens_are_not_refreshed(claude_tokens):
    """A token for a year in each environment: no token request, no shared bearer, nothing broken."""
    places = prepared(claude_tokens, "setup-token", 3)
    with claude_tokens.hold("call", count=3):
        assert ended(start(claude_tokens, places, ASK)) == [(0, "A\n")] * 3
    assert posts(claude_tokens) == []


# The five events.


@spared_by_bearer
@pytest.mark.parametrize("release", [OLD, NEW])
def test_contention_is_told_as_resolved(claude_tokens, release):
    """Healthy: the waiters tell acquiring, retry, race_resolved; one alone tells acquired; nobody reaches the limit."""
    places = prepared(claude_tokens, "shared-config-dir", 3)
    contended(claude_tokens, places, dialect(release))
    holder = told(claude_tokens, "acquired")
    waiters = {"w0", "w1", "w2"} - {*holder}
    assert len(holder) == 1
    assert {*told(claude_tokens, "acquiring")} == {"w0", "w1", "w2"}
    assert {*told(claude_tokens, "retry")} == {*told(claude_tokens, "race_resolved")} == waiters
    assert told(claude_tokens, "retry_limit_reached") == []


@pytest.mark.claude_tokens(allow=["stale-bearer"])
@pytest.mark.parametrize(("release", "said"), [(OLD, "401"), (NEW, "OAuth token")])
def test_a_stuck_lock_is_told_by_the_retry_limit(claude_tokens, release, said):
    """Bad: a lock that is never given up. Five retries, the limit, no token request, and a failure."""
    places = prepared(claude_tokens, "shared-config-dir", 1)
    env = {**dialect(release, 0.05), "CLAUDE_CODE_MAX_RETRIES": "1"}
    with Lease(places[0].config_dir):
        ((code, text),) = ended(start(claude_tokens, places, ASK, env))
    assert code == 1
    assert said in text
    assert posts(claude_tokens) == []
    first = told(claude_tokens, "retry")[:5]
    assert first == ["w0"] * 5
    assert told(claude_tokens, "retry_limit_reached")
    assert told(claude_tokens, "acquired") == told(claude_tokens, "race_resolved") == []


# The wrapper around each invocation.


@pytest.mark.claude_tokens(latency={"call": 0.2})
def test_the_flock_wrapper_serializes_whole_invocations(claude_tokens):
    """Redundant for the refresh, and not free: no two workers' requests overlap, so four calls take four times as long.

    Every invariant holds here, that on overlapping calls of one bearer included.
    """
    places = prepared(claude_tokens, "flock-wrapper", 4)
    assert ended(start(claude_tokens, places, ASK, dialect(OLD))) == [(0, "A\n")] * 4
    assert posts(claude_tokens) == [("rt#1", 200)]
    turns = {}
    for one in claude_tokens.history.operations:
        turns.setdefault(one.actor, []).append(one)
    assert len(turns) == 4
    assert all(before[-1].closed < after[0].opened for before, after in pairwise(turns.values()))
    began, *_, end = (one.invoke.t for one in claude_tokens.history.operations if one.f == "call")
    assert end - began >= 3 * 0.2
    assert told(claude_tokens, "retry") == []


def test_without_the_wrapper_calls_of_one_login_overlap(claude_tokens):
    """The other side: the lock of the client is about the refresh, and calls on the one bearer meet."""
    places = prepared(claude_tokens, "shared-config-dir", 2)
    with claude_tokens.hold("call", count=2):
        assert ended(start(claude_tokens, places, ASK, dialect(OLD))) == [(0, "A\n")] * 2
    assert posts(claude_tokens) == [("rt#1", 200)]
    assert [type(one) for one in raised(claude_tokens)] == [CoSchedule]


def test_the_flock_wrapper_holds_in_the_old_layout(claude_tokens):
    """Its file lies in the mounted directory, and `flock` is about the file, not its path: one token request."""
    if shutil.which("flock") is None:
        pytest.skip("needs the program `flock`")
    places = prepared(claude_tokens, "container-home", 3)
    wrapped = ["flock", "-w", "600", os.path.join(places[0].config_dir, "session.lock"), *ASK]
    assert ended(start(claude_tokens, places, wrapped, dialect(OLD))) == [(0, "A\n")] * 3
    assert posts(claude_tokens) == [("rt#1", 200)]


# The search, which needs no test to say how workers meet.

few = settings(max_examples=2, database=None, derandomize=True)


def two_agents(claude_tokens, workers, layout):
    """The body of an explored test: two agents in a layout."""
    places = prepared(claude_tokens, layout, 2)
    workers(
        *[place.command(ASK) for place in places],
        config_dir=[place.config_dir for place in places],
        env=[{**place.env, **dialect(OLD, 0.2)} for place in places],
    )


def test_the_search_finds_the_private_parent():
    """Whatever order is drawn first; the exit statuses are not looked at."""
    if LAYOUTS["container-home"].obstacle is not None:
        pytest.skip(LAYOUTS["container-home"].obstacle)

    @few
    @explore(workers=2, processes=True)
    def agents(claude_tokens, workers):
        two_agents(claude_tokens, workers, "container-home")

    with pytest.raises(DoubleSpend):
        agents()


@spared_by_bearer
@few
@explore(workers=2, processes=True)
def test_the_search_spares_the_shared_config_dir(claude_tokens, workers):
    """No order that it draws makes a second token request."""
    two_agents(claude_tokens, workers, "shared-config-dir")
    assert posts(claude_tokens) == [("rt#1", 200)]
