"""The gate: who is served on a bearer and who waits, by example and against a naive simulation."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from fake_server.core.gate import Gate, Ticket
from fake_server.effects import Signal, Wait
from fake_server.policy import Policy
from tests.unit.core.harness import World, call


def gate(**knobs: Any) -> Gate:
    return Gate(Policy(**knobs))


def wait_of(gate: Gate, ticket: Ticket, now: float) -> float | None:
    """Seconds that the gate asks for, ``None`` when served."""
    wait = gate.poll(ticket, now)
    if wait is None:
        return None
    assert wait.why == "gate"
    assert wait.signal
    assert not wait.signal.fired
    assert wait.seconds is not None
    assert wait.seconds > 0
    return wait.seconds


def test_first_come_first_served_until_the_body_has_ended() -> None:
    """Without ``serialize`` only the end of the call before lets the next one in."""
    gate_ = gate(queue_limit=100)
    first, second, third = (gate_.arrive("k", float(i)) for i in range(3))

    assert wait_of(gate_, first, 3) is None
    assert wait_of(gate_, third, 3) == 99
    assert wait_of(gate_, second, 3) == 98
    gate_.leave(first)
    assert wait_of(gate_, third, 50) == 52
    assert wait_of(gate_, second, 50) is None
    assert wait_of(gate_, third, 50) == 52
    gate_.leave(second)
    assert wait_of(gate_, third, 60) is None
    assert (first.started, second.started, third.started) == (3, 50, 60)
    assert not any(ticket.overdue for ticket in (first, second, third))


def test_a_call_that_is_served_stays_served() -> None:
    """Asking again changes nothing."""
    gate_ = gate()
    ticket = gate_.arrive("k", 0.0)
    assert wait_of(gate_, ticket, 0) is None
    assert wait_of(gate_, ticket, 5) is None
    assert ticket.started == 0


def test_different_keys_do_not_meet() -> None:
    """Each has a queue of its own."""
    gate_ = gate()
    assert [wait_of(gate_, gate_.arrive(key, 0.0), 0) for key in "ab"] == [None, None]


def test_serialized_by_seconds_the_next_one_starts_so_long_after_the_one_before() -> None:
    """Whether that has ended or not."""
    gate_ = gate(serialize=4.0, queue_limit=100)
    first, second, third = (gate_.arrive("k", 0.0) for _ in range(3))

    assert wait_of(gate_, first, 0) is None
    gate_.leave(first)
    assert wait_of(gate_, second, 1) == 3
    assert wait_of(gate_, third, 1) == 99
    assert wait_of(gate_, second, 4) is None
    assert wait_of(gate_, third, 4) == 4
    assert wait_of(gate_, third, 8) is None


def test_slots_are_served_side_by_side() -> None:
    """Two at a time, the third waits for one of them."""
    gate_ = gate(slots=2, queue_limit=100)
    first, second, third = (gate_.arrive("k", 0.0) for _ in range(3))
    assert [wait_of(gate_, ticket, 0) for ticket in (second, first, third)] == [None, None, 100]
    gate_.leave(second)
    assert wait_of(gate_, third, 1) is None


def test_slots_serialized_by_seconds_are_free_one_by_one() -> None:
    """Each start occupies one slot for ``serialize`` seconds."""
    gate_ = gate(slots=2, serialize=4.0, queue_limit=100)
    tickets = [gate_.arrive("k", 0.0) for _ in range(4)]
    assert wait_of(gate_, tickets[0], 0) is None
    assert wait_of(gate_, tickets[1], 1) is None
    assert wait_of(gate_, tickets[2], 1) == 3
    assert wait_of(gate_, tickets[3], 1) == 4
    assert wait_of(gate_, tickets[2], 4) is None
    assert wait_of(gate_, tickets[3], 5) is None


def test_without_slots_nobody_waits() -> None:
    """``slots=None``: a service that does not serialize."""
    gate_ = gate(slots=None, serialize=4.0)
    assert [wait_of(gate_, gate_.arrive("k", 0.0), 0) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize("serialize", [None, 60.0])
def test_a_wait_ends_after_the_limit(serialize: float | None) -> None:
    """Then the call is served out of turn, and marked; the next in the queue goes on waiting."""
    gate_ = gate(serialize=serialize, queue_limit=10.0)
    first, second, third = gate_.arrive("k", 0.0), gate_.arrive("k", 0.0), gate_.arrive("k", 4.0)
    gate_.poll(first, 0)

    assert wait_of(gate_, second, 9.5) == 0.5
    assert wait_of(gate_, second, 10) is None
    assert (second.overdue, second.started) == (True, 10)
    assert wait_of(gate_, third, 10) == 4
    gate_.leave(second)
    gate_.leave(first)
    assert (wait_of(gate_, third, 11) is None) is (serialize is None)
    assert not third.overdue


def test_a_turn_that_comes_with_the_limit_is_no_overdue() -> None:
    """Overdue means served although it was not its turn."""
    gate_ = gate(serialize=10.0, queue_limit=10.0)
    first, second = gate_.arrive("k", 0.0), gate_.arrive("k", 0.0)
    gate_.poll(first, 0)
    assert wait_of(gate_, second, 10) is None
    assert not second.overdue


def test_leaving_while_waiting_lets_the_others_move_up() -> None:
    """A client that has gone holds no place."""
    gate_ = gate(queue_limit=100)
    first, second, third = (gate_.arrive("k", 0.0) for _ in range(3))
    gate_.poll(first, 0)
    waiting = gate_.poll(third, 0)
    assert waiting is not None
    assert waiting.signal is not None

    gate_.leave(second)
    assert waiting.signal.fired
    gate_.leave(first)
    gate_.leave(first)  # twice is once
    assert wait_of(gate_, third, 1) is None


def test_whoever_waits_is_woken_when_something_has_changed() -> None:
    """Each wait has a fresh signal, and a start wakes the queue as an end does."""
    gate_ = gate(slots=2, queue_limit=100)
    tickets = [gate_.arrive("k", 0.0) for _ in range(4)]
    gate_.poll(tickets[0], 0)
    woken: list[str] = []
    wait = gate_.poll(tickets[3], 0)
    assert wait is not None
    assert wait.signal is not None
    wait.signal.subscribe(lambda: woken.append("last"))
    gate_.poll(tickets[1], 0)
    assert woken == ["last"]
    again = gate_.poll(tickets[3], 0)
    assert again is not None
    assert again.signal is not wait.signal


def test_a_signal_fires_once() -> None:
    """A late subscriber is called at once, an early one once."""
    signal, calls = Signal(), []
    signal.subscribe(lambda: calls.append("early"))
    signal.fire()
    signal.fire()
    signal.subscribe(lambda: calls.append("late"))
    assert calls == ["early", "late"]


def test_waiting_is_noted_and_latency_is_inside_the_turn() -> None:
    """A call that did not wait leaves no note."""
    world = World(latency={"call": 3})
    bearer, _ = world.login()
    first, second = world.begin(call(bearer), "w0"), world.begin(call(bearer), "w1")
    for exchange in (first, second):
        exchange.step()
    assert getattr(first.step(), "why", None) == "latency"
    blocked = second.step()
    assert isinstance(blocked, Wait)
    assert blocked.why == "gate"
    world.run(first)
    world.run(second)

    notes = [event for event in world.events if event.f == "queue"]
    assert [(note.op, note.bearer, note.get("waited"), note.get("overdue")) for note in notes] == [
        (second.op, "at#1", 3.0, False)
    ]


@pytest.mark.parametrize(
    ("key", "same_account", "serialized"),
    [("bearer", True, False), ("account", True, True), ("account", False, False)],
)
def test_calls_are_serialized_by_bearer_or_by_account(key: str, same_account: bool, serialized: bool) -> None:
    """Two bearers of one account meet only where the account is the key."""
    world = World(key=key)
    bearers = [world.login(name)[0] for name in ("alice", "alice" if same_account else "bob")]
    exchanges = [world.begin(call(bearer), worker) for bearer, worker in zip(bearers, ("w0", "w1"), strict=True)]
    whys = [[getattr(exchange.step(), "why", None) for _ in range(2)] for exchange in exchanges]
    assert whys == [["request", "reply"], ["request", "gate" if serialized else "reply"]]


@pytest.mark.parametrize("bearer", [None, "somebody-s"])
@pytest.mark.parametrize("key", ["bearer", "account"])
def test_a_bearer_that_nobody_knows_has_no_queue(key: str, bearer: str | None) -> None:
    """Its 401 comes at once."""
    world = World(key=key)
    exchanges = [world.begin(call(bearer)) for _ in range(2)]
    assert [getattr(exchange.step() and exchange.step(), "why", None) for exchange in exchanges] == ["reply", "reply"]


@dataclass
class Naive:
    """The same rules told as a simulation: at each moment, look at everybody, in order of arrival."""

    policy: Policy

    def run(self, arrivals: list[int], durations: list[int]) -> list[tuple[int, bool]]:
        """When each is served and whether out of turn. Time is in whole seconds; ``arrivals`` do not decrease."""
        served: dict[int, tuple[int, bool]] = {}
        slots = len(arrivals) if self.policy.slots is None else self.policy.slots
        now = -1
        while len(served) < len(arrivals):
            now += 1
            for caller in range(len(arrivals)):
                if arrivals[caller] > now or caller in served:
                    continue
                busy = [
                    start
                    for other, (start, _) in served.items()
                    if (
                        now < start + durations[other]
                        if self.policy.serialize is None
                        else now < start + self.policy.serialize
                    )
                ]
                queue = [i for i in range(caller) if arrivals[i] <= now and i not in served]
                if not queue and len(busy) < slots:
                    served[caller] = (now, False)
                elif now >= arrivals[caller] + self.policy.queue_limit:
                    served[caller] = (now, True)
        return [served[caller] for caller in range(len(arrivals))]


class LastComeFirst(random.Random):
    """An order of waking up."""

    def choice(self, seq: Any) -> Any:
        return seq[-1]


@settings(max_examples=300, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=7),
    slots=st.sampled_from([None, 1, 2, 3]),
    serialize=st.sampled_from([None, 1.0, 4.0]),
    limit=st.sampled_from([3.0, 10.0, 100.0]),
    order=st.none() | st.randoms(use_true_random=False),
)
@example(  # one slot is free when two are overdue, and the second of them asks first
    calls=[(0, 1), (0, 4), (0, 5), (1, 4), (0, 1), (0, 1)], slots=3, serialize=None, limit=3.0, order=LastComeFirst()
)
def test_the_gate_serves_as_a_naive_simulation_does(
    calls: list[tuple[int, int]], slots: int | None, serialize: float | None, limit: float, order: Any
) -> None:
    """Whoever arrives when, in whichever order waiters are woken, and although each sleeps until it is woken.

    When each is served does not depend on that order. Whether it was out of turn can, at one and the same moment: a
    call that is overdue may take the place that has just become free before the one in front of it, overdue as well,
    has asked. Woken in order of arrival, they agree in this, too.
    """
    policy = Policy(slots=slots, serialize=serialize, queue_limit=limit)
    gaps, durations = zip(*calls, strict=True)
    arrivals = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    expected = Naive(policy).run(arrivals, list(durations))

    gate_ = Gate(policy)
    tickets: dict[int, Ticket] = {}
    waits: dict[int, tuple[float, Signal | None]] = {}  # until when each one sleeps, or is woken
    ended = set()
    for now in range(max(start for start, _ in expected) + 1):
        for caller, ticket in tickets.items():
            if ticket.started is not None and caller not in ended and now >= ticket.started + durations[caller]:
                ended.add(caller)
                gate_.leave(ticket)
        for caller, arrival in enumerate(arrivals):
            if arrival == now:
                tickets[caller] = gate_.arrive("k", float(now))
                waits[caller] = (now, None)
        while awake := [i for i, (until, signal) in waits.items() if now >= until or (signal and signal.fired)]:
            caller = order.choice(awake) if order else awake[0]
            wait = gate_.poll(tickets[caller], float(now))
            if wait is None:
                del waits[caller]
            else:
                assert wait.seconds
                waits[caller] = (now + wait.seconds, wait.signal)

    seen = [(ticket.started, ticket.overdue) for ticket in tickets.values()]
    assert [start for start, _ in seen] == [start for start, _ in expected]
    if order is None:
        assert seen == expected
    for ticket, (start, overdue) in zip(tickets.values(), expected, strict=True):
        assert ticket.overdue >= overdue
        assert not ticket.overdue or start >= ticket.arrived + limit
