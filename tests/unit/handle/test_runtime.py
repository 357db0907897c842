from __future__ import annotations

import gc
import weakref

import pytest

from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.handle.runtime import Runtime
from pytest_claude_tokens.violations import DoubleSpend, RefreshStorm
from tests.unit.handle.requests_of import double_spend


class Recorded:
    """Keeps what it hears."""

    def __init__(self):
        self.heard = []

    def on_open(self):
        self.heard.append("open")

    def on_close(self):
        self.heard.append("close")

    def on_finding(self, found):
        self.heard.append(type(found))


@pytest.fixture
def recorded():
    return Recorded()


@pytest.fixture
def tokens(recorded):
    """Not opened yet."""
    return ClaudeTokens(runtime=Runtime(recorder=recorded))


def test_a_recorder_hears_of_the_finding_before_it_is_raised(tokens, recorded):
    """Its evidence is there when the error is; and it hears of nothing where nothing was found."""
    with pytest.raises(DoubleSpend), tokens:
        tokens.check()
        assert recorded.heard == ["open"]
        double_spend(tokens)
        tokens.check()

    assert recorded.heard == ["open", DoubleSpend, "close"]


def test_a_recorder_hears_of_what_the_end_finds(tokens, recorded):
    """While the handle is still open: its history can be read."""
    with pytest.raises(DoubleSpend), tokens:
        double_spend(tokens)

    assert recorded.heard == ["open", DoubleSpend, "close"]


def test_a_handle_that_was_not_opened_can_be_closed(tokens, recorded):
    """A fixture that fails half-way closes what it has."""
    tokens.close()

    assert recorded.heard == ["close"]


def test_a_look_tells_all_that_is_new_at_once(tokens, recorded):
    """The first violation, with the others under it. What was told is not told again."""
    with tokens:
        assert tokens.look() is None
        double_spend(tokens, 3)
        found = tokens.look()
        assert type(found) is DoubleSpend
        assert [type(other) for other in found.others] == [RefreshStorm]
        assert tokens.look() is None
        tokens.account()
        assert tokens.look() is None

    assert recorded.heard == ["open", DoubleSpend, "close"]


def test_a_look_says_nothing_of_an_unknown_verdict(tokens):
    """At the end more may be known."""
    tokens.open()
    tokens.server.journal.note("stuck", actor="w0", why="in a lock")

    assert tokens.look() is None
    tokens.close()


def test_a_conclusion_raises_from_the_bodys_error_and_closes(tokens, recorded):
    """The one end of a with block, of a state machine and of whatever else ends a handle."""
    tokens.open()
    double_spend(tokens)
    error = OSError("of the body")
    with pytest.raises(DoubleSpend) as raised:
        tokens.conclude(error)

    assert raised.value.__cause__ is error
    assert recorded.heard[-1] == "close"


def test_a_conclusion_without_an_error_leaves_the_context(tokens):
    """In the `finally` of a run that failed by itself, both are shown."""
    tokens.open()
    double_spend(tokens)
    with pytest.raises(DoubleSpend) as raised:
        try:
            raise KeyError("of a step")
        finally:
            tokens.conclude()

    assert isinstance(raised.value.__context__, KeyError)
    assert not raised.value.__suppress_context__


def test_each_runtime_mints_other_tokens_unless_it_has_a_namespace():
    """Its defaults are made anew each time."""
    assert Runtime().namespace != Runtime().namespace
    assert Runtime().clock is not Runtime().clock


def test_open_requests_are_waited_for_as_the_runtime_says():
    """The search waits while its world still runs, so that the end of the history waits for nothing."""
    waited = []
    with ClaudeTokens(runtime=Runtime(wait_for_open=waited.append)) as tokens:
        server = tokens.server

    assert waited == [server]


def test_a_handle_is_freed_without_the_collector():
    """A search makes thousands with the collector off: no part may refer back to the handle."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with ClaudeTokens(accounts=["work"]) as tokens:
            freed = weakref.ref(tokens)
        del tokens
        assert freed() is None
    finally:
        if collecting:
            gc.enable()
