"""The telemetry file and its reader."""

from __future__ import annotations

import os
import stat

import pytest

from pytest_claude_tokens.claude.telemetry import read, worker_name


def test_the_events_are_read_with_their_worker_and_their_place(world):
    """seq counts from 1, the worker is the environment's, the file is its owner's alone."""
    world.login()
    world.run(CLAUDE_TOKENS_WORKER="w3")
    path = world.environ["CLAUDE_TOKENS_TELEMETRY"]
    records = read(path)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert {record.worker for record in records} == {"w3"}
    assert (records[0].event, records[0].pid) == ("tengu_oauth_token_refresh_lock_acquiring", os.getpid())
    assert records[0].data["attempt"] == 0
    assert records[0].t == world.now()
    assert repr(records[0]) == "<1 w3 tengu_oauth_token_refresh_lock_acquiring>"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_no_token_is_in_the_file(any_world):
    """Neither of the old pair nor of the new one."""
    any_world.login()
    any_world.run()
    with open(any_world.environ["CLAUDE_TOKENS_TELEMETRY"], encoding="utf-8") as file:
        assert "sk-ant" not in file.read()


def test_without_a_file_or_with_a_bad_one_nothing_is_written(world):
    """Telemetry never stops the client."""
    for path in (None, "/nowhere/at/all"):
        world.login()
        assert world.run(CLAUDE_TOKENS_TELEMETRY=path).out == "A\n"


def test_torn_lines_are_left_out(tmp_path):
    """A killed writer's line, and lines of another kind, have a place but are no events."""
    path = tmp_path / "telemetry"
    assert read(path) == []
    path.write_text('{"event": "a", "worker": "w"}\n[]\n{"event": 1}\n{"event": "b", "worker": "w"}\n{"ev')
    assert [(record.seq, record.event) for record in read(path)] == [(1, "a"), (4, "b")]


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, None),
        ({"CLAUDE_TOKENS_WORKER": "w1", "ANTHROPIC_BASE_URL": "http://127.0.0.1:1/w/w0"}, "w1"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/w/w0"}, "w0"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/x", "CLAUDE_TOKENS_TOKEN_URL": "http://l/w/w2/v1/x"}, "w2"),
    ],
)
def test_a_worker_is_named_outright_or_by_the_base_url(environ, name):
    """As the service names it."""
    assert worker_name(environ) == name
