"""``TokenMachine``: passes as it is, whatever the service, and says what a subclass breaks."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test

from fake_server import Policy
from fake_server.policy import PRESETS
from pytest_claude_tokens.guard import guard
from pytest_claude_tokens.stateful import TokenMachine
from pytest_claude_tokens.violations import DoubleSpend, RefreshStorm, StaleBearer, TokenLeak

quick = settings(
    max_examples=15, stateful_step_count=12, database=None, derandomize=True, deadline=None, print_blob=False
)


def run(machine, **options):
    run_state_machine_as_test(machine, settings=settings(quick, **options))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_it_passes_under_every_preset(preset):
    """It is a correct client."""
    run(type("Machine", (TokenMachine,), {"policy": preset}))


def test_it_passes_under_a_policy_of_ones_own():
    """Access tokens that live for seconds only."""
    run(type("Machine", (TokenMachine,), {"policy": Policy(expires_in=30.0)}))


class Keeps(TokenMachine):
    """Never keeps the new refresh token."""

    def refresh_tokens(self, name):
        secret = self.pairs[name]["refresh"]
        super().refresh_tokens(name)
        self.pairs[name]["refresh"] = secret


class Storms(TokenMachine):
    """Refreshes whether there is need or not."""

    @rule()
    def again(self):
        for name in self.pairs:
            self.refresh_tokens(name)


class Insists(TokenMachine):
    """Presents a bearer again that was refused."""

    def call_once(self, name):
        status = super().call_once(name)
        return super().call_once(name) if status == httpx.codes.UNAUTHORIZED else status


@pytest.mark.parametrize(("machine", "breaks"), [(Keeps, DoubleSpend), (Storms, RefreshStorm), (Insists, StaleBearer)])
def test_what_a_subclass_breaks_is_told_by_its_name(machine, breaks):
    """At the step in which it happens."""
    with pytest.raises(breaks):
        run(machine, max_examples=200, stateful_step_count=20, phases=[Phase.generate])


def test_what_breaks_at_the_end_only_is_told_too():
    """The last look is at the whole history, and at the folder."""

    class Careless(TokenMachine):
        @rule()
        def write(self):
            path = self.tokens.tmp_path / "tokens.txt"
            path.write_text(repr(self.pairs))
            path.chmod(0o644)
            self.tokens.tmp_path.chmod(0o755)

    with pytest.raises(TokenLeak):
        run(Careless, phases=[Phase.generate])


def test_nothing_is_left_open_when_it_stops_early():
    """Each run's service and client are closed, whatever ended it."""
    opened = []

    class Crashes(TokenMachine):
        def __init__(self):
            super().__init__()
            opened.append(self)

        @rule()
        def crash(self):
            raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        run(Crashes)
    assert len(opened) > 1
    assert all(machine.http.is_closed for machine in opened)
    assert not any(machine.tokens in guard._watchers for machine in opened)
