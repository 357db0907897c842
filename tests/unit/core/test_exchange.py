"""The three steps of a request: two events for each, whatever the client does and wherever it leaves."""

from __future__ import annotations

from typing import Any

import pytest

from fake_server.clock import Debugged
from fake_server.core.hold import HOLD_LIMIT, Hold
from fake_server.effects import Piece, Start, Wait
from fake_server.faults import Fault
from fake_server.protocol.wire import Request
from tests.unit.core.harness import START, Answer, World, call, code, refresh, token_request

BARE = "it carried neither bearer nor API key"
NEVER_MINTED = "a refresh token that was never minted here"
DELAYS = {"token": Fault.delay(1), "call": Fault.delay(1, after_commit=True)}


def stage(kind: str) -> tuple[World, Request]:
    """A world in which a request of this kind goes through every wait that there is, but the gate."""
    world = World(latency=1)
    bearer, token = world.login()
    requests = {"token": refresh(token), "call": call(bearer, stream=True), "other": Request("GET", "/api/hello")}
    if kind in DELAYS:
        world.server.faults.add(kind, DELAYS[kind])  # type: ignore[arg-type] # one of the two
        world.server.holds.append(Hold(kind, 2))
    return world, requests[kind]


def names(answer: Answer) -> list[str]:
    return [e.why if isinstance(e, Wait) else type(e).__name__ for e in answer.effects]


EFFECTS = {
    "token": ["request", "hold", "latency", "delay", "reply", "Start", "Piece"],
    "call": ["request", "hold", "latency", "delay", "reply", "Start", "Piece", "piece", "Piece"],
    "other": ["request", "latency", "reply", "Start", "Piece"],
}


@pytest.mark.parametrize("kind", EFFECTS)
def test_a_request_goes_through_its_steps_in_order(kind: str) -> None:
    """Arrive, commit, deliver, with the waits between them; ``op`` and ``kind`` are known after the first."""
    world, request = stage(kind)
    exchange = world.begin(request)
    assert (exchange.op, exchange.kind, world.events[1:]) == (None, "", [])
    answer = Answer([exchange.step()])  # type: ignore[list-item] # the first one is a wait
    assert (exchange.op, exchange.kind, world.events[-1].type) == (1, kind, "invoke")
    assert world.server.open == {1: exchange}

    assert names(world.run(exchange, answer)) == EFFECTS[kind]
    assert world.server.open == {}


LEAVING = [(kind, step) for kind, effects in EFFECTS.items() for step in range(len(effects) + 1)]


@pytest.mark.parametrize(("kind", "step"), LEAVING)
def test_a_client_that_leaves_at_any_step_leaves_one_info_and_no_trace_in_the_gate(kind: str, step: int) -> None:
    """Before it arrives there is nothing to tell; once the last piece is out the outcome is known; else ``info``."""
    world, request = stage(kind)
    exchange = world.begin(request)
    taken = []
    for _ in range(step):
        effect = exchange.step()
        taken.append(effect)
        world.time += getattr(effect, "seconds", None) or 0.0
    exchange.abandon("client gone")
    exchange.abandon("twice is once")

    ends = [event.type for event in world.of(exchange.op) if event.type != "note"] if exchange.op else []
    delivered = taken and isinstance(taken[-1], Piece) and taken[-1].last
    assert ends == ([] if step == 0 else ["invoke", "ok"] if delivered else ["invoke", "info"])
    if ends and not delivered:
        assert world.last().error == "client gone"
    assert exchange.step() is None
    assert world.server.open == {}
    world.server.holds.clear()
    world.server.faults.take(kind, "alice")
    nobody_waits = world.begin(call(world.server.authority.grants[0].access[0].secret))
    assert "gate" not in names(world.run(nobody_waits, Answer()))


@pytest.mark.parametrize("kind", ["token", "call"])
def test_a_client_that_leaves_after_the_commit_leaves_it_committed(kind: str) -> None:
    """The journal says so: the refresh token is spent although nobody has got the new one."""
    world, request = stage(kind)
    world.server.holds.clear()
    exchange = world.begin(request)
    while (effect := exchange.step()) is not None and not isinstance(effect, Start):
        world.time += getattr(effect, "seconds", None) or 0.0
    exchange.abandon("client gone")
    assert world.last().get("committed") is True
    assert (world.last().issued is not None) is (kind == "token")


def test_a_call_that_is_abandoned_in_the_gate_lets_the_next_one_move_up() -> None:
    """Waiting or served, it frees its place at once."""
    world = World()
    bearer, _ = world.login()
    exchanges = [world.begin(call(bearer, stream=True), f"w{i}") for i in range(3)]
    for exchange in exchanges:
        exchange.step()
        exchange.step()
    waiting = exchanges[2].step()
    assert isinstance(waiting, Wait)
    assert waiting.signal

    exchanges[1].abandon("gone from the queue")
    exchanges[0].abandon("gone while served")
    assert waiting.signal.fired
    assert world.run(exchanges[2]).status == 200
    assert world.time == START


def test_an_end_is_journalled_before_the_last_piece_leaves() -> None:
    """So whatever a client does with a reply comes after it in the journal."""
    world = World()
    bearer, _ = world.login()
    exchange = world.begin(call(bearer, stream=True))
    types = []
    while (effect := exchange.step()) is not None:
        if isinstance(effect, Piece):
            types.append((effect.last, world.events[-1].type))
    assert types == [(False, "invoke"), (True, "ok")]


def test_the_gate_is_held_until_the_last_piece() -> None:
    """The next call waits while the first one streams."""
    world = World()
    bearer, _ = world.login()
    first, second = (world.begin(call(bearer, stream=True), name) for name in ("w0", "w1"))
    answer = Answer()
    while names(answer)[-1:] != ["piece"]:
        answer.effects.append(first.step())  # type: ignore[arg-type] # not over yet
    second.step()
    waiting = second.step()
    assert isinstance(waiting, Wait)
    assert (waiting.why, waiting.seconds) == ("gate", 10.0)
    first.step()
    assert waiting.signal is not None
    assert waiting.signal.fired
    assert names(world.run(second)) == ["reply", "Start", "Piece", "piece", "Piece"]


def test_a_wait_that_ends_early_is_asked_for_again() -> None:
    """A transport may wake up whenever it likes; the latency is not shortened by that."""
    world = World(latency=2)
    _, token = world.login()
    exchange = world.begin(refresh(token))
    exchange.step()
    seconds = []
    for _ in range(4):
        wait = exchange.step()
        seconds.append(wait.seconds if isinstance(wait, Wait) else None)
        world.time += 0.5
    assert seconds == [2.0, 1.5, 1.0, 0.5]


def test_a_hold_lets_go_when_enough_wait() -> None:
    """The requests go on together; one that comes later is not kept."""
    world = World()
    tokens = [world.login(name)[1] for name in ("alice", "bob", "carol")]
    hold = Hold("token", 2)
    world.server.holds.append(hold)
    first, second, third = (world.begin(refresh(token), f"w{i}") for i, token in enumerate(tokens))
    first.step()
    waiting = first.step()
    assert isinstance(waiting, Wait)
    assert (waiting.why, waiting.seconds) == ("hold", HOLD_LIMIT)
    assert hold.open
    second.step()
    reply = second.step()
    assert isinstance(reply, Wait)
    assert reply.why == "reply"
    assert waiting.signal is not None
    assert waiting.signal.fired
    assert (hold.open, hold.waited, hold.ran_out) == (False, ["w0", "w1"], False)
    assert "hold" not in names(world.run(first))
    assert names(world.run(third, Answer()))[1] == "reply"


def test_a_hold_waits_for_who_looks_at_it_in_a_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has what was left of its time afterwards, however long that took."""
    world = World()
    looking = Debugged(lambda: world.time)
    monkeypatch.setattr("fake_server.exchange.DEBUGGED", looking)
    hold = Hold("token", 2)
    world.server.holds.append(hold)
    held = world.begin(refresh(world.login()[1]), "w0")
    held.step()
    left = []
    for seconds, does in (
        (10, looking.begin),
        (1000, looking.begin),
        (1000, looking.end),
        (10, looking.end),
        (10, None),
    ):
        wait = held.step()
        assert isinstance(wait, Wait)
        left.append(wait.seconds)
        world.time += seconds
        if does is not None:
            does()
    assert left == [HOLD_LIMIT, HOLD_LIMIT - 10, HOLD_LIMIT - 10, HOLD_LIMIT - 10, HOLD_LIMIT - 20]
    assert looking.seconds() == 2000
    assert hold.open
    held.step()
    assert hold.ran_out


def test_a_hold_keeps_only_its_kind() -> None:
    """And a call is held before the gate, so that held calls do not queue."""
    world = World()
    bearer, token = world.login()
    world.server.holds.append(Hold("call", 2))
    assert world.refresh(token).status == 200
    exchanges = [world.begin(call(bearer), f"w{i}") for i in range(2)]
    exchanges[0].step()
    assert getattr(exchanges[0].step(), "why", None) == "hold"
    exchanges[1].step()
    assert getattr(exchanges[1].step(), "why", None) == "reply"
    assert getattr(exchanges[0].step(), "why", None) == "gate"


def test_a_hold_runs_out_after_thirty_seconds() -> None:
    """By the stopwatch, from the first that came; it remembers that it did."""
    world = World()
    _, token = world.login()
    hold = Hold("token", 2)
    world.server.holds.append(hold)
    exchange = world.begin(refresh(token))
    exchange.step()
    exchange.step()
    world.time += 29.5
    again = exchange.step()
    assert isinstance(again, Wait)
    assert (again.why, again.seconds) == ("hold", 0.5)
    world.time += 0.5
    assert world.run(exchange).status == 200
    assert (hold.ran_out, hold.waited, hold.open) == (True, ["w0"], False)


def test_a_held_request_whose_client_has_gone_does_not_count() -> None:
    """Two must wait at the same time; one that left before is no company."""
    world = World()
    tokens = [world.login(name)[1] for name in ("alice", "bob", "carol")]
    hold = Hold("token", 2)
    world.server.holds.append(hold)
    gone, second, third = (world.begin(refresh(token), f"w{i}") for i, token in enumerate(tokens))
    gone.step()
    gone.step()
    gone.abandon("gone")
    second.step()
    assert getattr(second.step(), "why", None) == "hold"
    third.step()
    assert getattr(third.step(), "why", None) == "reply"
    assert hold.waited == ["w1", "w2"]
    second.abandon("gone after it was let go")
    assert hold.waited == ["w1", "w2"]


def test_a_hold_that_nobody_has_joined_waits_for_nothing() -> None:
    """Nor one that was let go by hand."""
    hold = Hold("call", 2)
    assert hold.poll(0.0) is None
    hold.join("w0", 0.0)
    hold.release()
    assert hold.poll(0.0) is None
    assert not hold.ran_out


@pytest.mark.parametrize(
    ("request_", "f", "extra"),
    [
        (refresh("x"), "token", {"grant_type": "refresh_token", "encoding": "json", "unjudged": NEVER_MINTED}),
        (
            refresh("x", form=True),
            "token",
            {"grant_type": "refresh_token", "encoding": "form", "unjudged": NEVER_MINTED},
        ),
        (code("alice"), "token", {"grant_type": "authorization_code", "encoding": "json"}),
        (token_request(b"?"), "token", {"unjudged": "refused: invalid_request"}),
        (call(None, stream=True), "call", {"stream": True, "credentials": False, "unjudged": BARE}),
        (call(None), "call", {"stream": False, "credentials": False, "unjudged": BARE}),
        (
            Request("GET", "/x/sk-ant-oat01-abc/y", host="h"),
            "other",
            {
                "path": "/x/[an access token of 16 characters]/y",
                "host": "h",
                "unjudged": "not an endpoint of service 'claude'",
            },
        ),
        (call("x"), "call", {"stream": False, "unjudged": "a bearer that was never minted here"}),
        (Request("GET", "/api/hello", host="h"), "other", {"host": "h", "path": "/api/hello"}),
    ],
)
def test_an_invoke_tells_what_was_asked(request_: Request, f: str, extra: dict[str, Any]) -> None:
    """Kind, address, encoding; never what a client has sent."""
    world = World()
    world.send(request_, "w7")
    event = world.events[0]
    assert (event.type, event.f, event.actor) == ("invoke", f, "w7")
    assert event.data == {"method": request_.method, "path": request_.path, **extra}


@pytest.mark.parametrize(
    ("policy", "presented", "outcomes"),
    [
        ("anthropic", 3, ["rotated", "reused", "reused"]),
        ("anthropic-harsh", 3, ["rotated", "reused", "refused"]),
        ("no-rotation", 2, ["kept", "kept"]),
        ("grace", 2, ["rotated", "replayed"]),
    ],
)
def test_a_commit_is_noted_with_what_came_of_it(policy: str, presented: int, outcomes: list[str]) -> None:
    """What was issued and when it ends, what was revoked, and what is accepted now."""
    world = World(policy)
    _, token = world.login()
    for _ in range(presented):
        world.refresh(token)
    notes = [event for event in world.events if event.f == "commit"]

    assert [note.get("outcome") for note in notes] == outcomes
    assert all((note.grant, note.refresh, note.account) == ("g#1", "rt#1", "alice") for note in notes)
    for note in notes:
        good = note.get("outcome") in ("rotated", "kept", "replayed")
        assert (note.issued is not None) is good
        assert (note.get("expires") == 28800.0) is good
        assert note.get("revoked") == (["rt#2", "at#1", "at#2"] if "harsh" in policy and note is notes[1] else None)
    assert [note.get("accepts") for note in notes][-1] == {
        "anthropic": ["rt#2"],
        "anthropic-harsh": [],
        "no-rotation": ["rt#1"],
        "grace": ["rt#1", "rt#2", "rt#3"],
    }[policy]


def test_the_service_notes_what_is_done_to_it() -> None:
    """Which tokens an expiry or a revocation ended, each once, and how far the clock was moved."""
    world = World()
    world.login()
    world.server.advance(5)
    world.server.expire("alice")
    world.server.expire("alice")
    world.server.revoke("alice")
    world.server.revoke("nobody")
    told = [(event.f, event.t, event.get("ended"), event.get("accepts")) for event in world.events[1:]]
    assert told == [
        ("advance", 5.0, None, None),
        ("expire", 5.0, ["at#1"], ["rt#1"]),
        ("expire", 5.0, [], ["rt#1"]),
        ("revoke", 5.0, ["rt#1"], []),
    ]
    assert world.events[1].get("seconds") == 5
