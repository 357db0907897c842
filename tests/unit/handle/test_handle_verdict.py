"""The handle's verdict: which violation is raised, when, and over which other error."""

from __future__ import annotations

import httpx
import pytest

from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.violations import DoubleSpend, RefreshStorm, Unknown
from tests.unit.handle.requests_of import call, double_spend, refresh


def test_the_end_raises_the_first_violation():
    """The planted bug: one refresh token, spent twice. What else was broken is listed under it."""
    with pytest.raises(DoubleSpend) as raised, ClaudeTokens() as tokens:
        double_spend(tokens)

    assert type(raised.value).__module__ == "claude_tokens"
    assert raised.value.__cause__ is None
    assert set(raised.value.others) == set(tokens.violations()[1:])


def test_a_sound_client_is_spared():
    """The clean twin: refresh once, call with what came."""
    with ClaudeTokens() as tokens:
        account = tokens.account(expired=True)
        call(refresh(account.refresh_token).json()["access_token"])
        assert tokens.violations() == []
        tokens.check()

    assert tokens.finish().state == "VALID"


def test_what_is_allowed_is_a_note():
    """`allow=` turns a violation into a note of the verdict."""
    with ClaudeTokens(allow=["double-spend", "refresh-storm"]) as tokens:
        double_spend(tokens)

    assert [note.why for note in tokens.finish().notes if "double-spend" in note.text] == ["allowed"]


def test_a_violation_outranks_the_error_of_the_body():
    """The user reads DoubleSpend; the loser's HTTP 400 is attached."""
    with pytest.raises(DoubleSpend) as raised, ClaudeTokens() as tokens:
        double_spend(tokens)
        raise httpx.HTTPError("400")

    assert isinstance(raised.value.__cause__, httpx.HTTPError)


def test_an_interruption_is_never_replaced():
    """Ctrl-C, a skip, and all other BaseExceptions stand."""
    for error in (KeyboardInterrupt, pytest.skip.Exception):
        with pytest.raises(error), ClaudeTokens() as tokens:
            double_spend(tokens)
            raise error


def test_the_bodys_error_stands_under_a_valid_verdict():
    """Without a violation nothing is replaced."""
    with pytest.raises(KeyError), ClaudeTokens():
        raise KeyError


def test_check_raises_each_violation_once():
    """First the first, then the next; what was raised is still told, and not raised at the end."""
    with ClaudeTokens() as tokens:
        double_spend(tokens, 3)
        broken = tokens.violations()
        for violation in broken:
            with pytest.raises(type(violation)) as raised:
                tokens.check()
            assert str(raised.value) == str(violation)
        tokens.check()
        assert [str(violation) for violation in tokens.violations()] == [str(violation) for violation in broken]
        assert [type(violation) for violation in broken] == [DoubleSpend, RefreshStorm]


def test_a_violation_that_check_raised_is_not_replaced_by_another():
    """The body ends with the first violation; those of the end come after it and are not raised over it."""
    with pytest.raises(DoubleSpend) as raised, ClaudeTokens() as tokens:
        account = tokens.account()
        (tokens.tmp_path / "copy").write_text(account.access_token)
        double_spend(tokens)
        tokens.check()

    assert raised.value.__cause__ is None


def test_an_unknown_verdict_is_raised_where_the_body_passed():
    """Nobody can say VALID of a run in which a worker got stuck; an error of the body says more."""
    with pytest.raises(Unknown, match="w0 is stuck: in a lock"), ClaudeTokens() as tokens:
        tokens.server.journal.note("stuck", actor="w0", why="in a lock")
    with pytest.raises(KeyError), ClaudeTokens() as tokens:
        tokens.server.journal.note("stuck", actor="w0", why="in a lock")
        raise KeyError


def test_finishing_twice_gives_one_verdict(tokens):
    """The plugin finishes in the call phase; the exit must not write a second end."""
    assert tokens.finish() is tokens.finish()
    tokens.check()
    assert tokens.violations() == []
    assert len(tokens.history.noted("end")) == 1
    assert tokens.to_raise() is None


def test_what_comes_after_the_end_is_no_matter_of_the_stores(tokens):
    """A thread that is left behind still gets answers; the end was written once."""
    account = tokens.account()
    held = [account.refresh_token]
    tokens.watch_store(lambda: held[0], account)
    tokens.finish()
    held.clear()
    call(account.access_token)

    assert len(tokens.history.noted("store")) == 2


def test_a_listener_hears_nothing_of_the_handles_own_files(tokens):
    """What the handle does under its locks is no place to switch threads."""
    heard = []
    events = ("open", "os.mkdir", "os.chmod")
    listener = lambda event, args: heard.append(args[0])  # noqa: E731 - one object, to be taken back
    audit.subscribe(events, listener)
    try:
        account = tokens.account()
        folder = tokens.config_dir(account)
        tokens.env(account, worker="w0")
        call(account.access_token)
        assert not [path for path in heard if "claude-tokens" in str(path)]
        (folder / "own").mkdir()
        assert heard[-1] == str(folder / "own")
    finally:
        audit.unsubscribe(events, listener)


def test_what_was_closed_before_its_end_is_judged_as_it_is():
    """The folders are gone: what was in them can't be said any more, and nothing is made up."""
    tokens = ClaudeTokens().open()
    tokens.config_dir(tokens.account())
    tokens.close()

    assert tokens.finish().state == "VALID"
    assert not tokens.history.noted("end")


def test_everything_is_closed_when_the_end_fails(monkeypatch):
    """Whatever happens in the judge, patches are undone."""
    monkeypatch.setattr("pytest_claude_tokens.handle.judgement.judge", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError), ClaudeTokens() as tokens:
        folder = tokens.tmp_path

    assert not folder.exists()
