from __future__ import annotations

import json
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from pytest_claude_tokens.guard import RealServiceRefused, files
from pytest_claude_tokens.handle import store_reader, stores
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from tests.unit.handle.requests_of import call, refresh


def notes(tokens, f="store"):
    """The facts of the notes, without what is the same in all."""
    names = ("state", "refresh", "accepted", "previous", "previous_accepted", "final")
    return [
        {n: event.refresh if n == "refresh" else event.get(n) for n in names}
        for event in tokens.history
        if event.f == f
    ]


def note(state, refresh, accepted, previous=None, previous_accepted=False, *, final=False):
    return {
        "refresh": refresh,
        "state": state,
        "accepted": accepted,
        "previous": previous,
        "previous_accepted": previous_accepted,
        "final": final,
    }


def stored(refresh_token):
    return json.dumps({"claudeAiOauth": {"refreshToken": refresh_token}})


def test_a_config_dir_is_written_once(tokens):
    """The same account and name give the same folder, as the client left it; another name a copy of the login."""
    account = tokens.account()
    folder = tokens.config_dir(account)
    file = folder / ".credentials.json"
    assert json.loads(file.read_text()) == account.credentials
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)

    file.write_text("changed")
    assert tokens.config_dir("a1") == folder
    assert file.read_text() == "changed"
    other = tokens.config_dir(account, "other")
    assert json.loads((other / ".credentials.json").read_text()) == account.credentials


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden"])
def test_a_config_dir_stays_below_the_handles_folder(tokens, name):
    """A name is the name of a folder."""
    account = tokens.account()

    with pytest.raises(ValueError, match="the name of a folder"):
        tokens.config_dir(account, name)


def test_names_of_stores_are_unique(tokens):
    """Two accounts may both have a folder named shared; the notes tell them apart."""
    one, two = tokens.account("one"), tokens.account("two")
    tokens.config_dir(one)
    tokens.config_dir(two)
    for _ in range(3):
        tokens.watch_store(lambda: None, two)

    names = [event.get("store") for event in tokens.history if event.f == "store"]
    assert names == ["shared", "two/shared", "lambda", "two/lambda", "two/lambda-2"]


def test_a_change_is_noted_once(tokens):
    """A sample that finds what the one before found says nothing; the end always does."""
    account = tokens.account()
    file = tokens.config_dir(account) / ".credentials.json"
    spent = account.refresh_token

    fresh = refresh(spent).json()["refresh_token"]
    call(account.access_token)
    file.write_text(stored(fresh))
    call(account.access_token)
    file.write_text(stored(spent))
    call(account.access_token)
    tokens.finish()

    assert notes(tokens) == [
        note("token", "rt#1", True),
        note("token", "rt#2", True, "rt#1", False),
        note("token", "rt#1", False, "rt#2", True),
        note("token", "rt#1", False, "rt#1", False, final=True),
    ]


def test_every_state_of_a_file_is_told(tokens):
    """Blank, half written, empty for a moment, not there, and a token from elsewhere."""
    account = tokens.account()
    file = tokens.config_dir(account) / ".credentials.json"

    for text in (stored(""), '{"claudeAi', "", "sk-from-elsewhere"):
        file.write_text(text)
        call(account.access_token)
    file.unlink()
    call(account.access_token)

    assert notes(tokens)[1:] == [
        note("blank", None, False, "rt#1", True),
        note("unreadable", None, False),
        note("token", "unknown", False),
        note("absent", None, False, "unknown", False),
    ]
    assert "elsewhere" not in "".join(event.to_json() for event in tokens.history)


def test_a_folder_is_watched_for_the_file_in_it(tokens, tmp_path):
    """`watch_store` takes a config directory, too; a path below a file is absent."""
    account = tokens.account()
    tokens.watch_store(tmp_path, account)
    (tmp_path / ".credentials.json").write_text(json.dumps({"refresh_token": account.refresh_token}))
    tokens.watch_store(str(tmp_path / ".credentials.json" / "below"), account)
    call(account.access_token)

    assert [event.get("store") for event in tokens.history if event.f == "store"] == [
        tmp_path.name,
        "below",
        tmp_path.name,
    ]
    assert [n["state"] for n in notes(tokens)] == ["absent", "absent", "token"]


def test_a_file_that_is_closed_to_us_is_unreadable(tokens, tmp_path, monkeypatch):
    """Permission denied, and every other error of the system, is no verdict on the content."""
    account = tokens.account()
    monkeypatch.setattr(store_reader, "open", lambda *a: (_ for _ in ()).throw(PermissionError()), raising=False)

    tokens.watch_store(tmp_path / "store", account)

    assert notes(tokens) == [note("unreadable", None, False)]


def test_the_users_real_login_cannot_be_watched(tokens, monkeypatch, tmp_path):
    """It is refused when it is asked for, and not read afterwards either."""
    monkeypatch.setattr(files, "_guarded_places", lambda *a: ((str(tmp_path),), ()))
    account = tokens.account()

    with pytest.raises(RealServiceRefused, match="not for tests"):
        tokens.watch_store(tmp_path / ".credentials.json", account)
    assert store_reader._read_file(str(tmp_path / ".credentials.json")) == store_reader.Content("unreadable")


def test_a_callable_gives_any_form(tokens):
    """The JSON as a value, the token alone, or nothing."""
    account = tokens.account()
    held = [account.credentials]

    def pool():
        return held[0]

    tokens.watch_store(pool, account)
    held[0] = account.refresh_token
    call(account.access_token)
    held[0] = None
    call(account.access_token)

    assert notes(tokens) == [note("token", "rt#1", True), note("blank", None, False, "rt#1", True)]
    assert [event.get("store") for event in tokens.history if event.f == "store"] == ["pool", "pool"]


def test_an_object_that_can_be_called_has_its_class_as_its_name(tokens):
    """A bound method, a partial, an instance: each is a store with some name."""

    class Pool:
        def __call__(self):
            return None

    tokens.watch_store(Pool(), tokens.account())

    assert tokens.history.noted("store")[0].get("store") == "Pool"


def test_a_callable_that_raises_is_unreadable(tokens):
    """Whatever it raises, the request that caused the look is not disturbed."""
    account = tokens.account()
    errors = [ValueError(), RecursionError(), SystemExit()]

    def broken():
        raise errors.pop()

    tokens.watch_store(broken, account)
    assert [call(account.access_token).status_code for _ in range(2)] == [200, 200]

    assert notes(tokens) == [note("unreadable", None, False)]
    assert not errors


def test_a_callable_that_needs_its_thread_is_read_at_the_end(tokens):
    """sqlite3 answers only the thread that opened the database: unjudged under way, and known at the end."""
    account = tokens.account()
    database = sqlite3.connect(":memory:")
    database.execute("create table login (token)")
    database.execute("insert into login values (?)", (account.refresh_token,))

    tokens.watch_store(lambda: database.execute("select token from login").fetchone()[0], account)
    tokens.finish()
    database.close()

    assert notes(tokens) == [note("unreadable", None, False), note("token", "rt#1", True, final=True)]


def test_a_callable_that_raises_at_the_end_is_unreadable_there(tokens):
    """Asked twice, in a helper's thread and in this one."""
    account = tokens.account()
    asked = []

    def broken():
        asked.append(threading.get_ident())
        raise OSError

    tokens.watch_store(broken, account)
    tokens.finish()

    assert notes(tokens)[-1] == note("unreadable", None, False, final=True)
    assert len(set(asked)) == 2


def test_a_callable_whose_lock_the_client_holds_does_not_deadlock(tokens, monkeypatch):
    """A dispatcher that refreshes under its lock, and a store that takes it: unreadable, until the lock is free."""
    monkeypatch.setattr(store_reader, "ANSWER_TIMEOUT_SECONDS", 0.05)
    account = tokens.account()
    lock, held = threading.Lock(), [account.refresh_token]
    freed = threading.Event()

    def pool():
        with lock:
            token = held[0]
        freed.set()
        return token

    tokens.watch_store(pool, account)
    freed.clear()
    with lock:
        held[0] = refresh(account.refresh_token).json()["refresh_token"]
        call(account.access_token)  # the helper still waits: nobody waits for it again
    assert freed.wait(5)
    tokens.finish()

    assert notes(tokens) == [
        note("token", "rt#1", True),
        note("unreadable", None, False, "rt#1", False),
        note("token", "rt#2", True, "rt#1", False, final=True),
    ]


def test_a_callable_that_is_stuck_for_good_does_not_hold_up_the_end(monkeypatch):
    """The end waits for it once more, and no longer."""
    monkeypatch.setattr(store_reader, "ANSWER_TIMEOUT_SECONDS", 0.05)
    free, asked = threading.Event(), []

    def stuck():
        asked.append(1)
        free.wait(30)

    with ClaudeTokens(allow=["lost-rotation", "forced-login"]) as tokens:
        tokens.watch_store(stuck, tokens.account())
        tokens.finish()
    free.set()

    assert len(asked) == 1
    assert notes(tokens) == [note("unreadable", None, False), note("unreadable", None, False, final=True)]


def test_a_helper_is_used_again(tokens):
    """Stores don't start a thread for each look."""
    account = tokens.account()
    idents = set()
    tokens.watch_store(lambda: idents.add(threading.get_ident()), account)
    tokens.watch_store(lambda: idents.add(threading.get_ident()), account)
    for _ in range(3):
        call(account.access_token)

    assert len(idents) == 1


def test_a_forked_process_asks_again(tokens):
    """The child of a fork has none of its parent's threads, and must not wait for them."""
    account = tokens.account()
    tokens.watch_store(lambda: account.refresh_token, account)
    assert store_reader._IDLE
    child = os.fork()
    if not child:
        os._exit(bool(store_reader._IDLE))

    assert os.waitpid(child, 0)[1] == 0


def test_the_token_of_another_account_is_told_as_that_ones(tokens):
    """A store that is switched to another login holds an accepted token, of another grant."""
    one, two = tokens.account("one"), tokens.account("two")
    held = [one.refresh_token]
    tokens.watch_store(lambda: held[0], one)
    held[0] = two.refresh_token
    call(one.access_token)

    last = tokens.history.noted("store")[-1]
    assert (last.account, last.grant, last.refresh, last.get("accepted")) == ("two", "g#2", "rt#1", True)
    assert (last.get("previous"), last.get("previous_grant"), last.get("previous_accepted")) == ("rt#1", "g#1", True)


def test_a_later_login_takes_the_store_over(tokens):
    """A client that logs in anew has one store, and the old grant none."""
    account = tokens.account()
    tokens.watch_store(lambda: account.refresh_token, account)
    tokens.server.grant("a1")
    tokens.finish()

    grants = tokens.history.noted("end")[0].get("grants")
    assert [grants[name]["stores"] for name in ("g#1", "g#2")] == [[], ["lambda"]]


def test_a_token_in_the_place_of_a_path_is_refused_and_not_told(tokens):
    """The name of a file is journalled; a token is none."""
    account = tokens.account()
    for path in (account.refresh_token, Path("/nowhere", account.access_token)):
        with pytest.raises(ValueError, match=r"watch_store\(.*\[an? \w+ token of 108 characters\]"):
            tokens.watch_store(path, account)
    assert not tokens.history.noted("store")


def test_a_slow_client_has_its_store_settled(monkeypatch):
    """The look at the end waits a moment for a client that has only just got its reply, and not for ever."""
    monkeypatch.setattr(stores, "SETTLE_TIMEOUT_SECONDS", 0.05)
    with ClaudeTokens(allow=["lost-rotation", "forced-login", "store-regression"]) as tokens:
        account = tokens.account()
        looks = []
        held = ["", "", account.refresh_token]
        tokens.watch_store(lambda: looks.append(1) or held[min(len(looks), 3) - 1], account)
        tokens._stores.settle()
        assert len(looks) == 3
        held[:] = [""] * 3
        tokens._stores.settle()
        assert len(looks) == 8


@pytest.mark.parametrize("between", ["unlink", "empty"])
def test_a_look_at_a_moment_without_the_file_forgets_nothing(between):
    """A store that is absent or torn in between still went from an accepted token to a dead one."""
    tokens = ClaudeTokens().open()
    account = tokens.account()
    file = tokens.config_dir(account) / ".credentials.json"
    new = refresh(account.refresh_token).json()
    file.write_text(stored(new["refresh_token"]))
    call(new["access_token"])
    if between == "unlink":
        file.unlink()
    else:
        file.write_text("")
    call(new["access_token"])
    file.write_text(stored(account.refresh_token))
    call(new["access_token"])
    file.write_text(stored(new["refresh_token"]))
    tokens.finish()
    tokens.close()

    assert type(tokens.violations()[0]).__name__ == "StoreRegression"


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("{refresh}", True),
        ('{{"refresh_token": "{refresh}", "client_id": "mine"}}', True),
        ('{{"refresh_token": "{refresh}", "access_token": "{access}"}}', False),
    ],
)
def test_a_file_that_holds_a_refresh_token_alone_says_so(tokens, tmp_path, text, alone):
    """Whoever reads it has no access token from it; of what a callable leaves out nobody knows."""
    account = tokens.account()
    file = tmp_path / "login"
    file.write_text(text.format(refresh=account.refresh_token, access=account.access_token))
    tokens.watch_store(file, account)
    tokens.watch_store(lambda: account.refresh_token, account)
    assert [event.get("alone") for event in tokens.history if event.f == "store"] == [alone, None]
