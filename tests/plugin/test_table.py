"""The table of a history, word for word, in 100 columns of ASCII."""

from __future__ import annotations

from fake_server import Fault, Policy
from fake_server.protocol.wire import Request
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.report.story import plain_story
from pytest_claude_tokens.report.table import table
from pytest_claude_tokens.report.wording import WIDTH
from pytest_claude_tokens.violations import (
    DoubleSpend,
)
from tests.plugin.play import Play, expect, spend_twice, told


def rows(play: Play, marked: tuple[int, ...] = (), important: tuple[int, ...] = ()) -> list[str]:
    return table(play.history, marked, important)


def test_every_kind_of_event_has_words():
    """In the order of the journal, each in the column of its actor."""
    play = Play(Policy(rotate=False))
    grant = play.login()
    note = play.server.journal.note
    facts = {"account": "work", "grant": "g#1"}
    play.end(play.refresh("w0", grant.refresh[0].secret))
    play.end(play.refresh("w0", "not ours"))
    play.server.faults.add("call", Fault.status(503))
    play.end(play.call("w1", grant.access[0].secret))
    play.end(play.call("w1", ""))
    play.end(play.begin("w1", Request("GET", "/api/hello")))
    play.server.advance(60)
    note("queue", op=9, waited=10.0, overdue=True)
    note("store", refresh="rt#1", store="shared", state="token", accepted=False, **facts)
    note("store", store="shared", state="blank", accepted=False, **facts)
    note("leak", token="rt#1", where="file", what="log.txt", **facts)
    note("kill", actor="w1", signal=9)
    note("stuck", actor="w1", why="no end after 2 s")
    note("deadlock", waits=["w0 for w1", "w1 for w0"])
    note("revoke", ended=[], **facts)

    assert [row[20:] for row in rows(play)] == expect(
        """
w0                     w1                     service
                                              issued g#1: at#1 rt#1
refresh rt#1 ...
                                              rt#1 kept; at#2
... 200 at#2
refresh unknown ...
                                              unknown refused
... 400 invalid_grant
                       call at#1 ...
                       ... 503 (injected status(503))
                       call without a bearer ...
                       ... 401 missing
                       GET /api/hello ...
                       ... 200
                                              clock +60 s
                                              queued 10 s, overdue
                                              store shared: rt#1 (dead)
                                              store shared: no refresh token
                                              rt#1 in file log.txt
                       kill signal=9
                       stuck: no end after 2 s
                                              deadlock: w0 for w1; w1 for w0
                                              revoke work: nothing left to end
"""
    ).splitlines()


def test_what_a_refresh_ends_and_who_is_asked_to_retry_have_words():
    """And an error that took the place of a success says so by its fault."""
    play = Play(Policy(name="mine", revoke_access=True, at_once="retry"))
    grant = play.login()
    play.server.faults.add("token", Fault.status(503, after_commit=True))
    one, two = (play.refresh(worker, grant.refresh[0].secret) for worker in ("w0", "w1"))
    play.end(one)
    play.end(two)

    assert [row[20:] for row in rows(play)] == expect(
        """
w0                     w1                     service
                                              issued g#1: at#1 rt#1
refresh rt#1 ...
                       refresh rt#1 ...
                                              rt#1 spent; at#2 rt#2; at#1 ended
... 503 (injected status(503, after_commit))
                                              rt#1 again, at once: retry
                       ... 400 invalid_request
"""
    ).splitlines()


def test_a_long_history_is_cut_and_says_so():
    """The marked operations, what is near them and the start are kept; the rest is counted."""
    play = Play()
    for _ in range(100):
        play.server.advance(1)
    text = rows(play, (50,), (90,))

    assert len(text) == 1 + 60 + 2
    assert [row.strip() for row in text if "more events" in row] == [
        "... 31 more events, see the history's file",
        "... 9 more events, see the history's file",
    ]
    assert next(row for row in text if row.startswith("  *")).split()[1] == "50"


def test_requests_that_touch_no_token_are_summed_up():
    """In one line, how many there are; but for one that is at fault, was refused, or has something noted of it."""
    play = Play()
    bearer = play.login().access[0].secret
    for number in range(30):
        play.end(play.begin(f"w{number}", Request("HEAD" if number % 3 else "GET", "/api/hello")))
    play.end(play.begin("w0", Request("GET", "/v1/models", (("authorization", "Bearer dead"),))))
    play.end(play.begin("w0", Request("GET", "/v1/models", (("authorization", f"Bearer {bearer}"),))))
    text = rows(play, (2,), (5,))

    assert [row.split()[0 if row[2] == " " else 1] for row in text[1:-1]] == ["1", "2", "3", "4", "5", "62", "63"]
    assert text[-1] == (
        "    and 29 requests that touch no token: HEAD /api/hello (19 times), GET /api/hello (9 times), GE..."
    )


def test_many_actors_share_a_column_but_for_those_at_fault():
    """Each line fits, and names its actor where the column doesn't."""
    play = Play(Policy().but(slots=None))
    bearer = play.login().access[0].secret
    for number in range(20):
        play.call(f"worker-{number}", bearer)
    text = rows(play, (20, 21))

    assert text[0].split() == ["#", "time", "worker-18", "worker-19", "others", "service"]
    assert "worker-17: call at#1 ..." in text[19]
    assert ":" not in text[20]
    assert max(map(len, text)) <= WIDTH


def test_many_actors_of_whom_none_is_at_fault_share_a_column_but_for_the_first():
    """Those that came first have their own."""
    play = Play(Policy().but(slots=None))
    bearer = play.login().access[0].secret
    for number in range(20):
        play.call(f"worker-{number}", bearer)

    assert rows(play)[0].split() == ["#", "time", *(f"worker-{n}" for n in range(4)), "others", "service"]


def test_settings_are_told_in_words_and_wrapped():
    """None is cut off, however many there are."""
    play = Play(
        Policy().but(serialize=0.25, queue_limit=12.5, latency={"call": 0.25, "token": 0.5}, reuse="revoke-family")
    )
    play.login()

    assert plain_story(play.history, "so far").splitlines()[2:4] == [
        "0 workers, 1 grant; policy anthropic (reuse revoke-family, serialize 0.25, queue_limit 12.5, latency",
        "call 0.25 and token 0.5); virtual clock; no faults",
    ]


def test_workers_with_short_names_have_columns_of_their_own():
    """Eight of them fit."""
    play = Play(Policy().but(slots=None))
    bearer = play.login().access[0].secret
    for number in range(8):
        play.call(f"w{number}", bearer)

    assert rows(play)[0].split() == ["#", "time", *(f"w{number}" for number in range(8)), "service"]


def test_every_line_fits_and_is_plain():
    """Names from outside may be long, and in any script; no line but the command to replay is longer than 100."""
    play = Play()
    grant = play.login("konto-ä" * 20)
    play.login("b")
    exchange = play.refresh("wörker" * 30, grant.refresh[0].secret)
    play.end(exchange)
    text = told(play, DoubleSpend, exchange, exchange)

    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.isascii()


def test_a_story_never_shows_a_secret():
    """Labels stand for tokens throughout."""
    play = Play()
    text = told(play, DoubleSpend, *spend_twice(play))

    assert "sk-ant" not in text
    assert isinstance(play.history, History)
