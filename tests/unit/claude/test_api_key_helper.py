"""apiKeyHelper: who calls it, how often, and what happens when it fails."""

from __future__ import annotations

import io
import json

import pytest

from tests.unit.claude.world import answer, sse

CALLS = "/v1/messages"
TURN = json.dumps({"type": "user", "message": {"role": "user", "content": "x"}})
DELTA = ("content_block_delta", {"delta": {"text": "ok"}})
OK = answer(200, sse("message_start", "content_block_start", DELTA, "content_block_stop", "message_stop"))
NO = answer(401, {"error": {"message": "no"}})


@pytest.fixture
def helped(make_world):
    """Worlds whose settings name a helper that counts its calls and prints the count."""

    def make(dialect="2.1.123", command="echo x >> calls; wc -l < calls", **settings):
        world = make_world(dialect)
        world.config.mkdir()
        command = f"cd '{world.home}' && {command}"
        (world.config / "settings.json").write_text(json.dumps({"apiKeyHelper": command, **settings}))
        return world

    return make


def keys(world):
    return [call.headers["x-api-key"] for call in world.http.calls() if call.json.get("stream")]


def converse(world, *pauses, **environ):
    """As many turns as there are pauses, each call taking so long; a 0 is the quota probe of 1.0."""

    def later(seconds):
        def reply(asked):
            world.seconds += seconds
            return OK(asked)

        return reply

    world.http.script[CALLS] = [later(seconds) for seconds in pauses]
    turns = sum(seconds > 0 for seconds in pauses)
    world.run("-p", "--input-format", "stream-json", stdin=io.StringIO(f"{TURN}\n" * turns), **environ)


def test_the_key_is_sent_both_ways(helped):
    """As x-api-key and as a bearer."""
    world = helped()
    world.http.script[CALLS] = [OK]
    assert world.run().out == "ok\n"
    assert world.http.calls()[0].headers["authorization"] == "Bearer 1"
    assert keys(world) == ["1"]


def test_a_key_is_kept_for_five_minutes(helped):
    """Within its time to live the helper isn't called again."""
    world = helped()
    converse(world, 100, 100, 100, 1)
    assert keys(world) == ["1"] * 4


def test_a_key_past_its_time_is_used_once_more_while_the_helper_runs(helped, monkeypatch):
    """Stale, then fresh: no call waits for the helper but the first."""
    world = helped()
    monkeypatch.setattr("pytest_claude_tokens.claude.api_key_helper.KeyHelper._start", ended(world))
    converse(world, 301, 1, 1)
    assert keys(world) == ["1", "1", "2"]


def ended(world):
    """A start of the helper that returns when it has run, so that the next look finds it done."""
    from pytest_claude_tokens.claude.api_key_helper import KeyHelper

    start = KeyHelper._start

    def run(self):
        process = start(self)
        process.wait(30)
        return process

    return run


@pytest.mark.parametrize(
    "case",
    [
        ("2.1.123", {}, {}, "2"),
        ("2.1.123", {"CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "3600000"}, {}, "1"),
        ("2.1.123", {}, {"env": {"CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "3600000"}}, "1"),
        ("2.1.123", {}, {"env": {"CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "soon"}}, "2"),
        ("2.1.123", {}, {"env": {"CLAUDE_CODE_API_KEY_HELPER_TTL_MS": -1}}, "2"),
        ("1.0", {}, {"env": {"CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "3600000"}}, "2"),
        ("1.0", {"CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "3600000"}, {}, "1"),
    ],
)
def test_the_time_to_live_is_read_where_the_release_reads_it(helped, monkeypatch, case):
    """1.0 ignores the settings file: its helper is called every five minutes all the same."""
    dialect, environ, settings, called = case
    world = helped(dialect, **settings)
    monkeypatch.setattr("pytest_claude_tokens.claude.api_key_helper.KeyHelper._start", ended(world))
    converse(world, *([0] if dialect == "1.0" else []), 301, 1, 1, **environ)
    assert keys(world)[-1] == called


def test_a_refused_key_is_replaced_before_the_next_attempt(helped):
    """A 401 clears the cache; 2.1.330 shows it on the third."""
    for dialect, tries in (("2.1.123", 2), ("2.1.330", 3)):
        world = helped(dialect)
        world.http.script[CALLS] = [NO] * 5
        assert world.run().out.startswith("Failed to authenticate. API Error: 401")
        assert keys(world) == ["1", "2", "3"][:tries]


def test_a_403_does_not_clear_the_key(helped):
    """Nor is it tried again."""
    world = helped()
    world.http.script[CALLS] = [answer(403), OK]
    world.run("-p", "--input-format", "stream-json", stdin=io.StringIO(f"{TURN}\n{TURN}\n"))
    assert keys(world) == ["1", "1"]


def test_a_failure_is_kept_like_a_key(helped):
    """A helper that fails is not called for each request."""
    world = helped(command="echo x >> calls; exit 3")
    converse(world, 1, 1)
    assert keys(world) == ["", ""]
    assert (world.home / "calls").read_text() == "x\n"


def test_a_helper_that_hangs_is_ended(helped):
    """Ten minutes at most, here scaled down to none."""
    world = helped(command="exec sleep 600")
    world.http.script[CALLS] = [NO] * 2
    world.run(CLAUDE_TOKENS_TIME_SCALE="0", CLAUDE_CODE_MAX_RETRIES="0")
    assert keys(world) == [""]


def test_a_helper_that_still_runs_at_the_end_is_waited_for(helped):
    """No process is left behind, and a stale key is stale only once."""
    world = helped()
    converse(world, 301, 1)
    assert keys(world) == ["1", "1"]
    assert (world.home / "calls").read_text() == "x\nx\n"


@pytest.mark.parametrize("settings", ["[]", "{", '{"apiKeyHelper": ""}', '{"apiKeyHelper": 3}', "/nowhere.json"])
def test_settings_that_name_no_helper_are_none(world, settings):
    """Bad settings are as good as none."""
    assert world.run("-p", "x", "--settings", settings).out == "Not logged in · Please run /login\n"


def test_settings_that_are_a_list_are_none(helped):
    """The config directory's file need not be an object."""
    world = helped()
    (world.config / "settings.json").write_text("[]")
    assert world.run().out == "Not logged in · Please run /login\n"


def test_settings_can_be_a_file(world, tmp_path):
    """--settings FILE beats the config directory's."""
    (tmp_path / "s.json").write_text('{"apiKeyHelper": "echo filed"}')
    world.http.script[CALLS] = [OK]
    world.run("-p", "x", "--settings", str(tmp_path / "s.json"))
    assert keys(world) == ["filed"]
