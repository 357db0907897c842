"""A hold, by the numbers: what a request that is held waits for, and when it goes on."""

from __future__ import annotations

from fake_server.core.hold import HOLD_LIMIT, Hold

NOW = 1000.0


def test_the_first_that_is_held_starts_the_clock() -> None:
    """Each asks for the rest of those thirty seconds, and is woken before by whoever completes the number."""
    hold = Hold("token", 3)
    waits = []
    for number in range(2):
        hold.join(f"w{number}", NOW + number)
        waits.append(hold.poll(NOW + number))

    first, second = waits
    assert first is not None
    assert second is not None
    assert (first.why, first.seconds, second.seconds) == ("hold", HOLD_LIMIT, HOLD_LIMIT - 1)
    assert first.signal is second.signal
    assert first.signal is not None
    assert not first.signal.fired
    hold.join("w2", NOW + 2)
    assert first.signal.fired
    assert hold.poll(NOW + 2) is None
    assert (hold.open, hold.ran_out) == (False, False)


def test_it_runs_out_at_its_limit_and_not_before() -> None:
    """At that very moment: who asked for so many seconds is not sent back to wait for none."""
    hold = Hold("token", 2)
    hold.join("w0", NOW)
    assert hold.poll(NOW + HOLD_LIMIT - 0.001) is not None
    assert not hold.ran_out
    assert hold.poll(NOW + HOLD_LIMIT) is None
    assert (hold.open, hold.ran_out) == (False, True)


def test_without_a_limit_only_the_last_one_or_the_run_lets_them_go() -> None:
    """In simulated time no number of seconds means that nobody else comes."""
    hold = Hold("call", 2, limited=False)
    hold.join("w0", NOW)
    wait = hold.poll(NOW + 10 * HOLD_LIMIT)
    assert wait is not None
    assert (wait.why, wait.seconds) == ("hold", None)
    assert wait.signal is not None
    hold.run_out()
    assert wait.signal.fired
    assert hold.poll(NOW) is None
    assert hold.ran_out


def test_who_has_left_is_not_counted() -> None:
    """A client that was ended while it was held makes no pair; once all go on, nothing is left to leave."""
    hold = Hold("token", 2)
    hold.join("w0", NOW)
    hold.leave("w0")
    hold.join("w1", NOW)
    assert (hold.open, hold.waited) == (True, ["w1"])
    hold.join("w2", NOW)
    hold.leave("w1")
    assert (hold.open, hold.waited) == (False, ["w1", "w2"])
