"""What ends no search: a leak or a needless refresh is told where nothing worse is found, else beside it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from pytest_claude_tokens import explore
from pytest_claude_tokens.search import tally
from pytest_claude_tokens.violations import DoubleSpend, RefreshStorm, TokenLeak
from tests.unit.explore.common import quick, search, sound, unsound

few = settings(quick, max_examples=60)


def leaky(make):
    """A dispatcher that logs its refresh token before it asks for a bearer, in every schedule."""

    async def body(claude_tokens, workers):
        login = make(claude_tokens)
        logging.getLogger("pool").warning("login %s", login.refresh_token)
        await workers(login.token)

    return body


def test_a_leak_hides_no_double_spend_and_is_told_under_it():
    """The leak is in the first schedule, and complete before any request is sent."""
    result = search(few(explore(workers=2)(leaky(unsound))))

    assert isinstance(result.error, DoubleSpend)
    assert [type(other) for other in result.error.others].count(TokenLeak) == 1
    assert result.found.replayed == (3, 3)


def test_a_leak_is_raised_after_the_whole_search_where_nothing_worse_is_found():
    """With the schedule that showed it first, which can be replayed."""
    test = few(explore(workers=2)(leaky(sound)))
    result = search(test)

    assert isinstance(result.error, TokenLeak)
    assert result.report.schedules == 60
    assert result.found.example == 1
    assert isinstance(search(test, replay=result.found.token).error, TokenLeak)


def test_a_leak_does_not_replace_the_error_of_the_body():
    """It is a note of it."""
    body = leaky(sound)

    async def fails(claude_tokens, workers):
        await body(claude_tokens, workers)
        raise LookupError("mine")

    result = search(few(explore(workers=2)(fails)))

    assert isinstance(result.error, LookupError)
    assert any(note.startswith("also token-leak: rt#1 in log") for note in result.notes)


def test_a_leak_ends_no_systematic_search():
    """It goes on to its bound, and finds the double spend on the way."""
    assert isinstance(search(explore(workers=2, exhaustive=1)(leaky(unsound))).error, DoubleSpend)
    assert isinstance(search(explore(workers=2, exhaustive=1)(leaky(sound))).error, TokenLeak)


def test_a_leak_beside_drawn_arguments_is_replayed_with_them():
    """The first one's, not the last one's."""

    async def body(claude_tokens, workers, number):
        if number > 3:
            logging.getLogger("pool").warning("login %s", claude_tokens.account().refresh_token)
        login = sound(claude_tokens)
        await workers(login.token)

    test = few(explore(workers=2, number=st.integers(0, 9))(body))
    result = search(test)

    assert isinstance(result.error, TokenLeak)
    assert isinstance(search(test, replay=result.found.token).error, TokenLeak)


def needless(claude_tokens, workers, *, spends: bool):
    """Both refresh, one after the other; in a few schedules they do so at once, if there is no lock."""
    login = unsound(claude_tokens)
    lock = asyncio.Lock()

    async def job():
        if not spends:
            async with lock:
                return await login.refresh()
        return await login.refresh()

    return workers(job)


@pytest.mark.parametrize(("spends", "error"), [(True, DoubleSpend), (False, RefreshStorm)])
def test_a_needless_refresh_hides_no_double_spend(spends, error):
    """What comes of the same mistake in another schedule is worse."""

    async def body(claude_tokens, workers):
        await needless(claude_tokens, workers, spends=spends)

    assert isinstance(search(few(explore(workers=2)(body))).error, error)


def test_a_search_is_not_patient_for_ever(monkeypatch):
    """A needless refresh in each of thousands of schedules is enough after a while."""
    monkeypatch.setattr(tally, "_PATIENCE", 5)

    async def body(claude_tokens, workers):
        await needless(claude_tokens, workers, spends=False)

    result = search(few(explore(workers=2)(body)))

    assert isinstance(result.error, RefreshStorm)
    assert result.report.schedules < 60
