"""A replay token holds a run, whole and undamaged, or is refused in one sentence."""

from __future__ import annotations

import base64
import re
import string
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_server.faults import Fault
from fake_server.policy import Policy
from fake_server.secrecy import shown
from pytest_claude_tokens.search.replay import PREFIX, BadToken, Replay
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Latency, PlannedFault, Schedule

FAULTS = st.one_of(
    st.sampled_from([Fault.LOST_REPLY, Fault.RESET, Fault.TIMEOUT, Fault.GARBAGE, Fault.TRUNCATED, Fault.BURST]),
    st.builds(Fault.status, st.integers(400, 599), st.none() | st.floats(0, 1e9)),
    st.builds(Fault.delay, st.floats(0, 1e9), st.booleans()),
    st.builds(Fault.quota, st.sampled_from(["five_hour", "seven_day"])),
    st.builds(Fault.html, st.integers(400, 599)),
    st.just(Fault.moved()),
)
WHATS = ["freeze", "alone", "clock", "slow", "late", "cancel", "kill", "preempt"]
PLACES = st.sampled_from(["", "", "pool.py:32:9:call"])
SCHEDULES = st.builds(
    Schedule,
    kind=st.sampled_from(["deviations", "pct", "pos", "walk", "paced"]),
    deviations=st.lists(
        st.builds(
            Deviation,
            st.integers(0, 10**6),
            st.sampled_from(WHATS),
            st.integers(-50, 50),
            st.integers(0, 500),
            PLACES,
        ),
        max_size=30,
    ).map(tuple),
    seed=st.integers(0, 2**64),
    planned_faults=st.lists(
        st.builds(PlannedFault, st.integers(0, 100), st.sampled_from(["token", "call"]), FAULTS), max_size=3
    ).map(tuple),
    latency=st.just(Latency()) | st.builds(Latency, st.sampled_from(["same", "heavy"]), st.integers(0, 60_000)),
    scale=st.integers(0, 60_000),
    reach=st.integers(0, 400),
)
REPLAYS = st.builds(
    Replay,
    kind=st.sampled_from(["tasks", "threads", "processes"]),
    workers=st.integers(1, 64),
    schedule=SCHEDULES,
    policy=st.sampled_from([{}, Policy().to_dict(), Policy.preset("keycloak").to_dict(), {"name": "x", "limit": 1.5}]),
    names=st.lists(st.text(string.ascii_lowercase, min_size=1), max_size=3).map(tuple),
    choices=st.binary(max_size=200),
    example=st.integers(0, 9),
    slow=st.just(60.0) | st.floats(0, 1e6),
)
TOKEN = Replay(
    kind="tasks",
    workers=4,
    schedule=Schedule(deviations=(Deviation(3, "freeze", 1, 5), Deviation(9, "alone", 2, 1)), seed=77),
).token()


@settings(max_examples=200)
@given(REPLAYS)
def test_token_read_back_says_the_same(replay):
    """Any replay, whatever it holds; and its text can be pasted into a shell."""
    token = replay.token()
    assert re.fullmatch(r"ct1-[A-Za-z0-9_-]+", token)
    assert Replay.read(token) == replay
    assert Replay.read(token).token() == token


def test_token_of_a_short_schedule_is_short():
    """It stands in a line that people copy."""
    assert len(TOKEN) < 110
    assert Replay.read(TOKEN).schedule.text().startswith("w1 is frozen for 5 decisions")
    assert Replay.read(Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER).token()).schedule == DEFAULT_ORDER


EMPTY = Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER)


@pytest.mark.parametrize(
    ("replay", "content"),
    [
        (EMPTY, '["tasks",2,"deviations"]'),
        (
            replace(EMPTY, schedule=Schedule(deviations=(Deviation(3, "freeze", 1, 5),))),
            '["tasks",2,"deviations",0,[[3,"freeze",1,5]]]',
        ),
        (
            replace(EMPTY, schedule=Schedule(deviations=(Deviation(0, "preempt", 1, 1, "a.py:1:2:x"),))),
            '["tasks",2,"deviations",0,[[0,"preempt",1,1,"a.py:1:2:x"]]]',
        ),
        (
            replace(EMPTY, schedule=Schedule("walk", seed=7, latency=Latency("heavy", 5))),
            '["tasks",2,"walk",7,[],[],{},[],[],0,0,0,["heavy",5]]',
        ),
        (replace(EMPTY, slow=1.5), '["tasks",2,"deviations",0,[],[],{},[],[],0,0,0,[],[1.5]]'),
        (replace(EMPTY, slow=0.0), '["tasks",2,"deviations",0,[],[],{},[],[],0,0,0,[],[0.0]]'),
        (replace(EMPTY, example=3), '["tasks",2,"deviations",0,[],[],{},[],[],3]'),
    ],
)
def test_a_token_holds_what_differs_from_the_default_and_no_more(replay, content):
    """Also for who has an older token: its fields stay where they are."""
    token = replay.token()
    data = token.removeprefix(PREFIX)
    assert zlib.decompress(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))).decode() == content
    assert token.startswith("ct1-eN")  # zlib's two bytes for its best compression
    assert Replay.read(token) == replay


def refused(text):
    """Whether ``text`` is refused, in one sentence that quotes it, unless it may be a secret."""
    with pytest.raises(BadToken) as caught:
        Replay.read(text)
    message, quoted = str(caught.value), shown(text, 500)
    return quoted in message and "\n" not in message.replace(quoted, "")


def never_mistaken(text):
    """Whether ``text`` is refused, or says what ``TOKEN`` does: a few bits of a zlib stream mean nothing."""
    try:
        return Replay.read(text) == Replay.read(TOKEN)
    except BadToken:
        return refused(text)


def test_no_other_character_makes_another_replay():
    """One letter for another, at any place."""
    for place in range(len(TOKEN)):
        for other in string.ascii_letters + string.digits + "-_=+/ ":
            if other != TOKEN[place]:
                assert never_mistaken(TOKEN[:place] + other + TOKEN[place + 1 :])


def test_every_missing_or_additional_character_is_noticed():
    """A token that was cut at a line's end, or joined with what follows."""
    for place in range(len(TOKEN)):
        assert refused(TOKEN[:place])
        assert refused(TOKEN[:place] + TOKEN[place + 1 :])
        assert refused(TOKEN[:place] + "A" + TOKEN[place:])
        assert refused(TOKEN[place + 1 :])
    for tail in ("A", "=", "==", "\n", " ", "ü", "\0"):
        assert refused(TOKEN + tail)


@given(st.integers(0, len(TOKEN) - 5))
def test_no_exchange_of_neighbours_makes_another_replay(place):
    """Two letters the other way round."""
    place += len(PREFIX)
    pair = TOKEN[place : place + 2]
    text = TOKEN[:place] + pair[::-1] + TOKEN[place + 2 :]
    assert never_mistaken(text)


@given(st.text())
def test_any_other_text_is_refused(text):
    """Without an exception of another kind."""
    assert refused(text)
    assert refused(PREFIX + text)


@pytest.mark.parametrize("prefix", ["ct2-", "CT1-", "ct1", "ct1_", "", "ct10-"])
def test_token_of_another_version_is_told_by_its_prefix(prefix):
    """It is not damaged, but nothing that this version can read."""
    with pytest.raises(BadToken):
        Replay.read(prefix + TOKEN[len(PREFIX) :])
    with pytest.raises(BadToken, match="not a replay token of this version, which begins with ct1-"):
        Replay.read("ct2-" + TOKEN[len(PREFIX) :])


@pytest.mark.parametrize(
    "value", ["{}", "[]", "3", '"x"', '["tasks"]', '["tasks",2,"deviations",0,[[1]]]', "null", "[" * 9]
)
def test_whole_token_of_something_else_is_refused(value):
    """Its checksum is right, and what it says is no replay."""
    assert refused(PREFIX + base64.urlsafe_b64encode(zlib.compress(value.encode())).rstrip(b"=").decode())


@pytest.mark.parametrize("preset", ["anthropic", "keycloak", "no-rotation"])
def test_policy_comes_back(preset):
    """As the policy that it was, with sets and infinity, which JSON doesn't know."""
    policy = Policy.preset(preset)
    replay = Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER, policy=policy.to_dict())
    assert Replay.read(replay.token()).policy_again() == policy
    assert Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER, policy={}).policy_again() == Policy()
    scoped = Policy().but(scopes=frozenset(["user:inference", "user:profile"]), serialize=None)
    replay = Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER, policy=scoped.to_dict())
    assert Replay.read(replay.token()).policy_again() == scoped
