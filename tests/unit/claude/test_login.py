"""setup-token and auth: logins by code and by refresh token, what they store, print and send."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from time import monotonic, sleep
from urllib.parse import parse_qs, urlsplit

import pytest

from fake_server import Fault
from pytest_claude_tokens.claude import login
from tests.unit.claude.world import START, answer, no_reply

TOKEN = "/v1/oauth/token"
REVOKE = "/v1/oauth/token/revoke"


def test_setup_token_prints_a_token_for_a_year_and_stores_nothing(any_world):
    """The scope is for inference only; no refresh token is kept."""
    done = any_world.run("setup-token", CLAUDE_TOKENS_LOGIN="alice")
    (grant,) = any_world.server.authority.grants
    assert done.status == 0
    assert grant.access[0].secret in done.out
    assert (grant.account, grant.setup_token) == ("alice", True)
    (post,) = any_world.http.posts()
    assert post.json["expires_in"] == 31536000
    assert sorted(post.json) == [
        "client_id",
        "code",
        "code_verifier",
        "expires_in",
        "grant_type",
        "redirect_uri",
        "state",
    ]
    assert post.json["redirect_uri"].startswith("http://localhost:")
    assert len(post.json["code_verifier"]) == 43
    assert not (any_world.config / ".credentials.json").exists()


def test_auth_login_writes_the_store(any_world):
    """And asks for the profile and the roles, and the older release for a date."""
    done = any_world.run("auth", "login", CLAUDE_TOKENS_LOGIN="alice")
    assert (done.status, done.out) == (0, "Login successful.\n")
    stored = any_world.stored()
    assert stored["expiresAt"] == int((START + 28800) * 1000)
    assert stored["refreshToken"] == any_world.server.authority.grants[0].refresh[0].secret
    newest = any_world.environ["CLAUDE_TOKENS_DIALECT"] == "2.1.330"
    assert ("refreshTokenExpiresAt" in stored) is newest
    dates = [] if newest else ["/api/organization/claude_code_first_token_date"]
    assert any_world.http.paths() == [TOKEN, "/api/oauth/profile", "/api/oauth/claude_cli/roles", *dates]
    assert any_world.run().out == "A\n"


@pytest.mark.parametrize("more", [("--email", "alice@example.com"), ("--email=x", "--sso"), ("--console",)])
def test_the_options_of_a_login_change_nothing(world, more):
    """They are accepted."""
    assert world.run("auth", "login", *more, CLAUDE_TOKENS_LOGIN="alice").out == "Login successful.\n"
    assert world.server.authority.grants[0].account == "alice"


def test_a_login_without_a_browser_takes_a_refresh_token(world):
    """One refresh for a year, with the scopes that are given."""
    grant = world.server.login("alice")
    given = {
        "CLAUDE_CODE_OAUTH_REFRESH_TOKEN": grant.refresh[0].secret,
        "CLAUDE_CODE_OAUTH_SCOPES": "user:inference user:profile",
    }
    assert world.run("auth", "login", **given).out == "Login successful.\n"
    (post,) = world.http.posts()
    assert (post.json["scope"], post.json["expires_in"]) == ("user:inference user:profile", 31536000)
    assert world.stored()["scopes"] == ["user:inference", "user:profile"]
    assert world.stored()["refreshToken"] == grant.refresh[1].secret


def test_a_login_by_refresh_token_needs_the_scopes(world):
    """Exit 1, on standard error, no request."""
    done = world.run("auth", "login", CLAUDE_CODE_OAUTH_REFRESH_TOKEN="x")
    assert (done.status, done.out) == (1, "")
    assert "CLAUDE_CODE_OAUTH_SCOPES is required" in done.err
    assert world.http.requests == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (answer(400, {"error": "invalid_grant"}), "Token exchange failed (400): invalid_grant"),
        (answer(200, {"access_token": 3}), "Token exchange failed (200)"),
        (no_reply(), "ECONNRESET"),
    ],
)
def test_a_login_that_fails_says_why(world, reply, reason):
    """auth login on standard error, setup-token on standard output; both exit 1."""
    for command, stream in ((("auth", "login"), "err"), (("setup-token",), "out")):
        world.http.script[TOKEN] = [reply]
        done = world.run(*command, CLAUDE_TOKENS_LOGIN="alice")
        assert done.status == 1
        assert reason in getattr(done, stream)
    assert not (world.config / ".credentials.json").exists()


def test_a_login_that_cannot_be_written_fails(world, tmp_path):
    """The folder is a file."""
    (tmp_path / "file").write_text("")
    done = world.run("auth", "login", CLAUDE_TOKENS_LOGIN="alice", CLAUDE_CONFIG_DIR=str(tmp_path / "file"))
    assert done.status == 1
    assert done.err.startswith("Login failed: ")
    assert world.events()[-1] == "tokens_save_failed"


BROWSER = """
import sys, urllib.request, urllib.parse
query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(sys.argv[1]).query))
open(sys.argv[0] + ".seen", "w").write(sys.argv[1])
back = urllib.parse.urlencode({"code": "alice#1", "state": query["state"]})
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for address in ("/elsewhere?" + back, "/callback?code=x&state=wrong", "/callback?" + back):
    try:
        opener.open(query["redirect_uri"].replace("/callback", "").replace("localhost", "127.0.0.1") + address)
    except urllib.error.HTTPError as error:
        assert error.code == 400
"""


def test_the_browser_is_shown_an_address_that_is_not_real_and_brings_the_code_back(world, tmp_path):
    """The query is the real one; other paths and states are turned away."""
    script = tmp_path / "browser.py"
    script.write_text(BROWSER)
    done = world.run("auth", "login", BROWSER=f"{sys.executable} {script}")
    assert done.out.endswith("Login successful.\n")
    assert world.server.authority.grants[0].account == "alice"
    shown = urlsplit((tmp_path / "browser.py.seen").read_text())
    assert (shown.hostname, shown.path) == ("claude.com.invalid", "/cai/oauth/authorize")
    query = parse_qs(shown.query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"][0].startswith("org:create_api_key user:profile user:inference")
    assert shown.geturl() in done.out


def test_without_a_browser_it_waits_and_gives_up(world):
    """Ten minutes, here scaled down."""
    done = world.run("setup-token", CLAUDE_TOKENS_TIME_SCALE="0.00001")
    assert (done.status, done.out.splitlines()[-1]) == (1, "OAuth error: nobody logged in")


def test_a_browser_that_cannot_be_started_is_told(world):
    """Exit 1."""
    done = world.run("auth", "login", BROWSER="/nowhere/browser")
    assert (done.status, done.err.startswith("Login failed: cannot open a browser")) == (1, True)


STAYS = """
import pathlib, signal, sys
signal.alarm(60)  # longer than any test waits, so that none leaves it behind for ever
pathlib.Path(sys.argv[0] + ".seen").write_text(sys.argv[1])
signal.pause()
"""
"""A browser that shows what it is given and stays open until it is ended."""


def test_a_browser_that_stays_open_is_not_waited_for_long(world, monkeypatch, tmp_path):
    """A real browser does not end with the login: it is left open, and the login ends at once."""
    monkeypatch.setattr(login, "_BROWSER_EXIT_SECONDS", 0.001)
    script, seen = tmp_path / "browser.py", tmp_path / "browser.py.seen"
    script.write_text(STAYS)
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[0])
    begun = monotonic()
    world.run("setup-token", BROWSER=f"{sys.executable} {script}", CLAUDE_TOKENS_TIME_SCALE="0.00001")
    took = monotonic() - begun
    (browser,) = started
    try:
        deadline = monotonic() + 20
        while not seen.exists() and browser.poll() is None and monotonic() < deadline:
            sleep(0.01)
        assert seen.exists(), "the browser never showed anything"
        assert browser.poll() is None, "the browser has not stayed open"
    finally:
        browser.kill()
        browser.wait(20)
    assert took < 10


def test_a_knock_without_a_request_is_passed_over(world, monkeypatch):
    """Neither a connection that is closed at once, nor a torn line, nor a reset one is a login."""
    wait = login._wait_for_code
    threads = []

    def knock(port, state):
        for data in (
            b"",
            b"GET",
            b"GET /callback?state=%zz HTTP/1.1\r\n",
            b"reset",
            b"GET /callback?code=bob%231&state=",
        ):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                if data == b"reset":
                    sock.sendall(data)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    continue
                sock.sendall(data + (state.encode() + b" HTTP/1.1\r\n" if data.endswith(b"=") else b""))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass

    def waiting(client, listener, state):
        threads.append(threading.Thread(target=knock, args=(listener.getsockname()[1], state)))
        threads[0].start()
        return wait(client, listener, state)

    monkeypatch.setattr(login, "_wait_for_code", waiting)
    assert world.run("setup-token").status == 0
    threads[0].join(20)
    assert world.server.authority.grants[0].account == "bob"


# auth status.


def status(world, **environ):
    done = world.run("auth", "status", **environ)
    return done.status, json.loads(done.out)


def test_the_status_says_who_is_logged_in_and_how(any_world):
    """Exit 0 with a login or a token in the environment, else 1."""
    assert status(any_world) == (1, {"loggedIn": False, "authMethod": "none", "apiProvider": "firstParty"})
    assert status(any_world, CLAUDE_CODE_OAUTH_TOKEN="x")[1]["authMethod"] == "oauth_token"
    any_world.login(expires=(START + 28800) * 1000, subscriptionType="max")
    code, said = status(any_world)
    assert (code, said["authMethod"], said["subscriptionType"]) == (0, "claude.ai", "max")
    assert any_world.http.requests == []


def test_the_status_is_json_or_a_line_in_words(world):
    """The exit status is the same."""
    assert world.run("auth", "status", "--json").out == world.run("auth", "status").out
    told = world.run("auth", "status", "--text")
    assert (told.status, told.out) == (1, "Not logged in.\n")
    told = world.run("auth", "status", "--text", CLAUDE_CODE_OAUTH_TOKEN="x")
    assert (told.status, told.out) == (0, "Logged in with the token in CLAUDE_CODE_OAUTH_TOKEN.\n")
    world.login(expires=(START + 28800) * 1000)
    told = world.run("auth", "status", "--text")
    assert (told.status, told.out) == (0, "Logged in with claude.ai.\n")


def test_the_options_of_a_command_are_for_that_command(world):
    """Elsewhere they are unknown."""
    assert world.run("auth", "login", "--text").err == "error: unknown option '--text'\n"
    assert world.run("auth", "status", "--sso").err == "error: unknown option '--sso'\n"
    assert world.run("-p", "x", "--json").err == "error: unknown option '--json'\n"


def test_the_status_of_2_1_123_spends_the_refresh_token_and_loses_its_successor(world):
    """The request is sent, and the process ends without its answer, the lock removed."""
    world.login()
    before = world.stored()
    assert status(world)[0] == 0
    assert len(world.http.posts()) == 1
    assert world.stored() == before
    assert world.locks() == []


def test_the_status_of_2_1_330_waits_and_saves(make_world):
    """The store has the new pair afterwards; where the login is dead, nobody is logged in."""
    world = make_world("2.1.330")
    grant = world.login()
    assert status(world)[0] == 0
    assert world.stored()["accessToken"] == grant.access[1].secret
    world.login()
    world.http.script[TOKEN] = [answer(400, {"error": "invalid_grant"})]
    assert status(world)[0] == 1


# auth logout.


def test_a_logout_removes_the_store_and_2_1_330_revokes_the_grant(any_world):
    """A store that is absent already is no error."""
    grant = any_world.login()
    newest = any_world.environ["CLAUDE_TOKENS_DIALECT"] == "2.1.330"
    for _ in range(2):
        assert any_world.run("auth", "logout").status == 0
        assert not (any_world.config / ".credentials.json").exists()
    assert any_world.http.paths() == ([REVOKE] if newest else [])
    assert (grant.death == "revoke") is newest


def test_a_logout_without_an_answer_is_one_all_the_same(make_world):
    """The store goes, whatever becomes of the revocation."""
    world = make_world("2.1.330")
    world.login()
    world.http.script[REVOKE] = [no_reply()]
    assert world.run("auth", "logout").status == 0
    world.login(refreshToken="")
    world.http.requests.clear()
    world.run("auth", "logout")
    assert world.http.requests == []


def test_a_code_is_good_for_one_login(world):
    """Each login by the variable brings a code of its own."""
    world.server.faults.add("token", Fault.LOST_REPLY)
    assert world.run("setup-token", CLAUDE_TOKENS_LOGIN="alice").status == 1
    assert world.run("setup-token", CLAUDE_TOKENS_LOGIN="alice").status == 0
