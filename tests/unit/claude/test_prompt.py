"""Standard input, the shapes of the output, and the command line."""

from __future__ import annotations

import io
import json
import os

import pytest

from pytest_claude_tokens.claude.process import Machine
from tests.unit.claude.world import START, answer


@pytest.fixture
def ready(world):
    """A world with a fresh login."""
    world.login(expires=(START + 28800) * 1000)
    return world


def prompt_of(world):
    return world.http.calls()[-1].json["messages"][-1]["content"][0]["text"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


# Standard input.


def test_what_is_piped_in_comes_after_the_argument(ready):
    """Argument, newline, standard input; each alone will do."""
    ready.run("-p", "Reply: A", stdin=io.StringIO("more"))
    assert prompt_of(ready) == "Reply: A\nmore"
    ready.run("-p", stdin=io.StringIO("Reply: B"))
    assert prompt_of(ready) == "Reply: B"


def test_no_prompt_at_all_is_an_error(ready):
    """Exit 1, on standard error."""
    done = ready.run("-p")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("Error: Input must be provided")


def test_a_terminal_is_not_read(ready):
    """A person is not waited for."""
    ready.run("-p", "Reply: A", stdin=Terminal("ignored"))
    assert prompt_of(ready) == "Reply: A"


def test_a_silent_pipe_is_waited_for_and_then_warned_about(ready):
    """Three seconds, scaled; the warning goes to standard error, the answer comes all the same."""
    reading, writing = os.pipe()
    try:
        with open(reading, encoding="utf-8") as silent:
            done = ready.run("-p", "Reply: A", stdin=silent, CLAUDE_TOKENS_TIME_SCALE="0.01")
    finally:
        os.close(writing)
    assert done.out == "A\n"
    assert done.err.startswith("Warning: no stdin data received in 3s, proceeding without it.")


def test_a_pipe_that_is_closed_is_not_waited_for(ready, tmp_path):
    """An end of file is an answer, and so is a file."""
    (tmp_path / "in").write_text("Reply: C")
    with open(tmp_path / "in", encoding="utf-8") as stdin:
        done = ready.run("-p", stdin=stdin)
    assert (done.out, done.err) == ("C\n", "")


def test_a_process_without_standard_input_has_nothing_to_read(ready):
    """Closed descriptor 0."""
    machine = Machine(ready.environ, None, io.StringIO(), io.StringIO(), now=ready.now)
    from pytest_claude_tokens.claude.main import main

    assert main(["-p", "Reply: A"], machine, ready.http) == 0
    assert main(["-p", "--input-format=stream-json"], machine, ready.http) == 0


def test_several_turns_come_line_by_line(ready):
    """stream-json in: one call for each user's message, with the conversation so far."""
    lines = [
        {"type": "user", "message": {"role": "user", "content": "Reply: A"}},
        {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": "Reply: B"}, 3]}},
        {"type": "control"},
        {"type": "user", "message": 3},
        {"type": "user", "message": {"role": "user", "content": 3}},
        [],
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "not json\n"
    done = ready.run("-p", "--input-format", "stream-json", stdin=io.StringIO(text))
    assert done.out == "A\nB\n"
    assert done.err == "Error parsing streaming input line: not json\n"
    roles = [message["role"] for message in ready.http.calls()[-1].json["messages"]]
    assert roles == ["user", "assistant", "user"]


# Output.


def test_json_is_one_object(ready):
    """The result, and that it is no error."""
    done = ready.run("-p", "Reply: A", "--output-format", "json", "--session-id", "my-session")
    (line,) = done.out.splitlines()
    value = json.loads(line)
    assert (value["type"], value["is_error"], value["result"]) == ("result", False, "A")
    assert (value["api_error_status"], value["session_id"], value["num_turns"]) == (None, "my-session", 1)
    assert value["usage"]["output_tokens"] == 1
    assert ready.http.calls()[-1].headers["x-claude-code-session-id"] == "my-session"


def test_json_tells_the_status_of_a_failure(ready):
    """is_error, api_error_status, and exit 1 as in text mode."""
    ready.http.script["/v1/messages"] = [answer(400, b"no")]
    done = ready.run("-p", "x", "--output-format=json")
    value = json.loads(done.out)
    assert (done.status, value["is_error"], value["api_error_status"]) == (1, True, 400)
    assert value["result"] == "API Error: 400 no"


def test_stream_json_is_a_line_for_each_event(ready):
    """init, assistant, result."""
    done = ready.run("-p", "Reply: A", "--output-format", "stream-json", "--verbose", "--model", "m")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["type"] for line in lines] == ["system", "assistant", "result"]
    assert lines[0]["model"] == "m"
    assert lines[1]["message"]["content"] == [{"type": "text", "text": "A"}]


# The command line.


def test_the_version_is_the_releases(any_world):
    """With nothing set, it is 2.1.123; it needs no service."""
    name = any_world.environ["CLAUDE_TOKENS_DIALECT"]
    expected = {"1.0": "1.0.100"}.get(name, name)
    for flag in ("--version", "-v"):
        nothing = {"ANTHROPIC_BASE_URL": None, "HTTPS_PROXY": None}
        assert any_world.run(flag, **nothing).out == f"{expected} (Claude Code)\n"
    assert any_world.run("-v", CLAUDE_TOKENS_DIALECT=None).out == "2.1.123 (Claude Code)\n"


def test_the_help_says_that_it_is_a_stand_in(world):
    """And what it knows."""
    done = world.run("--help")
    assert done.status == 0
    assert "stand-in" in done.out


def test_an_unknown_dialect_is_refused(world):
    """Exit 2, with the three names."""
    done = world.run(CLAUDE_TOKENS_DIALECT="3.0")
    assert done.status == 2
    assert "CLAUDE_TOKENS_DIALECT names no dialect: choose one of 1.0, 2.1.123, 2.1.330" in done.err


def test_options_that_change_nothing_are_accepted(ready):
    """With as many arguments as the real ones take."""
    done = ready.run(
        *(
            "-p",
            "--allowedTools",
            "Bash",
            "Read",
            "--max-turns",
            "3",
            "-c",
            "--debug",
            "api",
            "-r",
            "--",
            "Reply: A",
            "-x",
        )
    )
    assert done.status == 0
    assert prompt_of(ready) == "Reply: A -x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nonsense",), "error: unknown option '--nonsense'\n"),
        (("-p", "--model"), "error: option '--model <value>' argument missing\n"),
        (
            ("--output-format", "xml"),
            (
                "error: option '--output-format <format>' argument 'xml' is invalid. "
                "Allowed choices are text, json, stream-json.\n"
            ),
        ),
        (("auth", "dance"), "error: unknown command 'auth dance'\n"),
        (("auth",), "error: unknown command 'auth'\n"),
    ],
)
def test_a_command_line_that_it_does_not_know_is_an_error(ready, arguments, message):
    """Exit 1 and one line on standard error, as the CLI."""
    done = ready.run(*arguments)
    assert (done.status, done.out, done.err) == (1, "", message)


def test_without_print_it_answers_only_where_nobody_watches(ready):
    """A pipe gets the answer; there is no screen for a terminal."""
    assert ready.run("Reply: A").out == "A\n"
    from pytest_claude_tokens.claude.main import main

    screen, err = Terminal(), io.StringIO()
    assert main(["Reply: A"], Machine(ready.environ, None, screen, err), ready.http) == 2
    assert "no screen" in err.getvalue()


def test_a_prompt_that_is_a_commands_name_is_a_prompt(ready):
    """With -p, that is."""
    assert ready.run("-p", "auth").out == "OK\n"


@pytest.mark.parametrize("prompt", [("-p", "doctor"), ("doctor", "-p"), ("-p", "doctor who"), ("doctor who",)])
def test_a_prompt_that_begins_like_a_missing_command_is_a_prompt(ready, prompt):
    """With -p, or in a longer argument."""
    assert ready.run(*prompt).out == "OK\n"
    assert prompt_of(ready) == " ".join(word for word in prompt if word != "-p")


# Where it refuses to run.


@pytest.mark.parametrize(
    "arguments",
    [
        ("agents",),
        ("config",),
        ("doctor",),
        ("install",),
        ("mcp", "list"),
        ("mcp", "add", "-t", "http", "--scope=user", "name", "--", "npx", "-y"),
        ("--model", "m", "mcp", "list"),
        ("migrate-installer",),
        ("plugin", "list"),
        ("update",),
    ],
)
def test_it_refuses_commands_that_do_not_concern_tokens(ready, arguments):
    """Exit 2, one sentence on standard error, no request; as a prompt each would be a call."""
    done = ready.run(*arguments, stdin=io.StringIO("Reply: A"))
    assert (done.status, done.out) == (2, "")
    name = next(word for word in arguments if word not in ("--model", "m"))
    assert done.err.endswith(f" refuses to run: it has no `claude {name}`, only what concerns tokens\n")
    assert ready.http.requests == []


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (
            {"ANTHROPIC_BASE_URL": None, "HTTPS_PROXY": None},
            "neither ANTHROPIC_BASE_URL nor HTTPS_PROXY names a loopback",
        ),
        (
            {"ANTHROPIC_BASE_URL": None, "HTTPS_PROXY": None, "CLAUDE_TOKENS_TOKEN_URL": "http://127.0.0.1:1/t"},
            "neither ANTHROPIC_BASE_URL nor HTTPS_PROXY",
        ),
        ({"ANTHROPIC_BASE_URL": "https://api.anthropic.com"}, "ANTHROPIC_BASE_URL names api.anthropic.com"),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "HTTPS_PROXY names proxy.example"),
        ({"http_proxy": "http://10.0.0.1"}, "http_proxy names 10.0.0.1"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1.evil.example"}, "names 127.0.0.1.evil.example"),
        ({"ANTHROPIC_BASE_URL": "http://127.x.0.1"}, "names 127.x.0.1"),
        ({"ANTHROPIC_BASE_URL": "http://localhost@real.example"}, "names real.example"),
        ({"ANTHROPIC_BASE_URL": "nonsense"}, "ANTHROPIC_BASE_URL is not an http address"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:x"}, "ANTHROPIC_BASE_URL is not an http address"),
        ({"CLAUDE_TOKENS_TOKEN_URL": "https://localhost/t"}, "CLAUDE_TOKENS_TOKEN_URL is for plain http"),
    ],
)
def test_it_refuses_to_run_where_it_might_reach_the_real_service(ready, environ, reason):
    """Exit 2, one sentence on standard error, no request."""
    done = ready.run(**environ)
    assert (done.status, done.out) == (2, "")
    assert reason in done.err
    assert done.err.endswith("; this program never contacts the real service\n")
    assert ready.http.requests == []


def test_it_refuses_to_touch_what_may_be_a_real_login(world):
    """Tokens of the real shape that were not minted here would be blanked, and are not even read twice."""
    tail = "a" * 95
    for entry in (
        {"accessToken": f"sk-ant-oat01-{tail}", "refreshToken": ""},
        {"accessToken": "x", "refreshToken": f"sk-ant-ort01-{tail}"},
    ):
        world.put({"claudeAiOauth": {**entry, "expiresAt": 0, "scopes": ["user:inference"]}})
        before = (world.config / ".credentials.json").read_text()
        for command in (("-p", "x"), ("auth", "logout")):
            done = world.run(*command)
            assert done.status == 2
            assert "may hold a real login" in done.err
        assert (world.config / ".credentials.json").read_text() == before


@pytest.mark.parametrize("name", ["CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_REFRESH_TOKEN"])
@pytest.mark.parametrize("command", [("-p", "x"), ("auth", "login"), ("auth", "status")])
def test_it_refuses_to_send_what_may_be_a_real_token(ready, name, command):
    """Exit 2, one sentence that names the variable and not the token, no request; one that says FAKE is taken."""
    token = f"sk-ant-{'ort' if 'REFRESH' in name else 'oat'}01-" + "a" * 95
    more = {"CLAUDE_CODE_OAUTH_SCOPES": "user:inference", "CLAUDE_TOKENS_LOGIN": "alice"}
    for value in (token, f" {token}\n"):
        done = ready.run(*command, **{name: value}, **more)
        assert (done.status, done.out) == (2, "")
        assert done.err.endswith(f"{name} may hold a real token, which is never sent; unset it\n")
        assert token not in done.err
    assert ready.http.requests == []
    assert ready.run(*command, **{name: token.replace("01-", "01-FAKE-")}, **more).status != 2


def test_the_default_config_directory_is_in_the_home(world):
    """~/.claude, where CLAUDE_CONFIG_DIR is unset or empty."""
    world.login(world.home / ".claude", expires=(START + 28800) * 1000)
    assert world.run(CLAUDE_CONFIG_DIR=None).out == "A\n"
    assert world.run(CLAUDE_CONFIG_DIR="").out == "A\n"
    assert world.run(CLAUDE_CONFIG_DIR=None, HOME=None).out.startswith("Not logged in")
