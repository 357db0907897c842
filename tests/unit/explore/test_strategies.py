"""The strategies: valid values, that shrink to the plainest ones."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from fake_server import Fault, Policy
from fake_server.policy import PRESETS
from pytest_claude_tokens import explore
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.strategies import accounts, faults, histories, latencies, policies, workloads
from tests.unit.explore.common import search, sound

quick = settings(max_examples=60, database=None, derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("strategy", "plainest"),
    [
        (policies(), Policy.preset("anthropic")),
        (faults(), Fault.RESET),
        (faults(committed=False), Fault.RESET),
        (faults(committed=True), Fault.LOST_REPLY),
        (latencies(), 0.0),
        (accounts(), [{"name": "a1"}]),
        (workloads(), [["refresh"], ["refresh"]]),
    ],
)
def test_each_shrinks_to_the_plainest_value(strategy, plainest):
    """So that a failure shows what matters."""
    assert find(strategy, lambda value: True, settings=quick) == plainest


def test_policies_are_presets_and_variants_of_them():
    """All presets by name, windows in each mode, reuse counts."""
    names, modes = set(), set()

    @settings(quick, max_examples=200)
    @given(policies())
    def look(policy):
        assert isinstance(policy, Policy)
        names.add(policy.name)
        modes.add(policy.grace_mode)

    look()
    assert names >= set(PRESETS)
    assert modes == {"sibling", "idempotent", "previous-only"}


def test_faults_say_whether_they_strike_after_the_commit():
    """``committed`` picks either half."""
    late = {Fault.LOST_REPLY.kind, Fault.GARBAGE.kind, Fault.TRUNCATED.kind, Fault.stall(1).kind}

    @quick
    @given(faults(committed=True), faults(committed=False))
    def look(after, before):
        assert after.kind in late or after.after_commit
        assert before.kind not in late
        assert not before.after_commit

    look()


def test_latencies_are_what_a_policy_takes():
    """One for all kinds, or one for each, none longer than asked for."""

    @quick
    @given(latencies(longest=2.0))
    def look(latency):
        policy = Policy().but(latency=latency)
        assert 0.0 <= policy.latency_of("token") <= 2.0

    look()


def test_accounts_are_what_a_handle_takes():
    """With names of their own."""

    @settings(quick, max_examples=20)
    @given(accounts(most=3))
    def look(chosen):
        with ClaudeTokens() as tokens:
            made = [tokens.account(**keywords) for keywords in chosen]
        assert 1 <= len({account.name for account in made}) == len(made) <= 3

    look()


def test_workloads_have_steps_for_each_worker():
    """At least one, and no more than asked for."""

    @quick
    @given(workloads(workers=3, longest=2))
    def look(plans):
        assert len(plans) == 3
        assert all(1 <= len(plan) <= 2 for plan in plans)
        assert {step for plan in plans for step in plan} <= {"refresh", "call", "advance", "expire"}

    look()


def test_histories_are_of_the_service_and_can_be_judged(tmp_path):
    """Each is whole, and the same when it comes back from a file; among them are sound ones and broken ones."""
    path, states = tmp_path / "history.jsonl", set()

    @settings(quick, max_examples=100)
    @given(histories(workers=3, longest=3))
    def look(history):
        path.write_text("".join(event.to_json() + "\n" for event in (history.header, *history)))
        verdict = judge(history)
        again = judge(History.load(path))
        assert [str(violation) for violation in again.violations] == [
            str(violation) for violation in verdict.violations
        ]
        assert [event.seq for event in history] == list(range(1, len(history) + 1))
        assert all(op.end is not None for op in history.operations)
        states.add(verdict.state)

    look()
    assert states == {"VALID", "INVALID"}


def test_histories_shrink_to_a_refresh_or_two():
    """One that is sound, two that are not."""
    assert len(find(histories(longest=1), lambda history: True, settings=quick).operations) == 1
    broken = find(histories(longest=1), lambda history: judge(history).state == "INVALID", settings=quick)
    assert len(broken.operations) == 2


def test_all_of_them_go_with_explore():
    """As arguments of a test."""

    @settings(quick, max_examples=10)
    @explore(steps=workloads(), logins=accounts(), data=st.data())
    async def test_it(claude_tokens, workers, steps, logins, data):
        while any(steps):
            data.draw(st.sampled_from([plan for plan in steps if plan])).pop()
        await workers(sound(claude_tokens).token)

    assert search(test_it).error is None
