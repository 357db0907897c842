"""The shell scripts of the concurrency model: a start script, the six steps of the migration, the flock wrapper."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.layouts import LAYOUTS
from tests.e2e.concurrency_model import ASK, PATIENCE, SCRIPTS, dialect, kinds, posts, told, until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "concurrency-model.md"
START = ["sh", str(SCRIPTS / "start-agent.sh")]
MIGRATE = ["sh", str(SCRIPTS / "migration.sh")]
ENV = dialect("2.1.123")


@pytest.fixture
def host(claude_tokens, tmp_path):
    """A host: its service, an account, whose login has expired, and the environments of its programs."""
    claude_tokens.install_claude()
    return Host(claude_tokens, tmp_path)


class Host:
    def __init__(self, tokens, folder):
        self.tokens = tokens
        self.account = tokens.account(expired=True)
        self.config = tokens.config_dir(self.account)
        self.home = folder / "home"
        self.home.mkdir()

    def runs(self, arguments, **env):
        """Exit status, output and error output of a program that has ended."""
        environment = {"HOME": str(self.home), **ENV, **env}
        process = self.tokens.spawn(arguments, "host", env=environment)
        return process.wait(PATIENCE), process.stdout, process.stderr


# A start script that asks whether anybody is logged in.


def test_a_start_script_finds_the_login_before_and_after_the_move(host):
    """In ~/.claude first, then where CLAUDE_CONFIG_DIR says; what it starts works in both."""
    (host.home / ".claude").symlink_to(host.config)
    code, said, why = host.runs([*START, *ASK])
    assert (code, said) == (0, "A\n")
    assert why == f"logged in: {host.home}/.claude/{FILE}\n"
    (host.home / ".claude").unlink()
    code, said, why = host.runs([*START, *ASK], CLAUDE_CONFIG_DIR=str(host.config))
    assert (code, said) == (0, "A\n")
    assert why == f"logged in: {host.config}/{FILE}\n"


def test_a_start_script_without_the_variable_finds_nobody_after_the_move(host):
    """A container's home has no login any more: the command is not started, and no request is made."""
    code, said, why = host.runs([*START, *ASK])
    assert (code, said) == (1, "")
    assert why == f"nobody is logged in: no login in {host.home}/.claude/{FILE}\n"
    assert host.tokens.history.operations == []


def test_a_login_that_was_lost_counts_as_none(host):
    """After `invalid_grant` the file is there, and its refresh token is blank."""
    lost = host.home / ".claude"
    lost.mkdir()
    (lost / FILE).write_text(json.dumps({"claudeAiOauth": {"accessToken": "a", "refreshToken": ""}}))
    assert host.runs([*START, "true"])[0] == 1


def test_a_token_in_the_environment_is_a_login(host):
    """Whatever is in the config directory."""
    token = host.tokens.account(setup_token=True).access_token
    code, said, why = host.runs([*START, *ASK], CLAUDE_CODE_OAUTH_TOKEN=token)
    assert (code, said, why) == (0, "A\n", "logged in: by a token in the environment\n")


@pytest.mark.parametrize("moved", [False, True])
def test_the_start_script_agrees_with_claude_auth_status(host, moved):
    """While the login has not expired, before and after the move, with and without the variable."""
    fresh = host.tokens.config_dir(host.tokens.account("fresh"))
    if not moved:
        (host.home / ".claude").symlink_to(fresh)
    for env in ({}, {"CLAUDE_CONFIG_DIR": str(fresh)}):
        expected = 0 if env or not moved else 1
        assert host.runs(["claude", "auth", "status"], **env)[0] == expected
        assert host.runs([*START, "true"], **env)[0] == expected


# The migration.


def migrate(host, *arguments, waits_for, **env):
    """Run the script, with its agents' token requests held until ``waits_for()``."""
    with host.tokens.hold("token", count=2):
        script = host.tokens.spawn(
            [*MIGRATE, *arguments],
            "factory",
            config_dir=host.config,
            env={"HOME": str(host.home), **ENV, **env},
        )
        until(lambda: waits_for() or not script.running)
    return script.wait(PATIENCE), script.stdout.splitlines()


def needs_containers():
    obstacle = LAYOUTS["container-home"].obstacle
    if obstacle is not None:
        pytest.skip(obstacle)


def test_before_the_migration_containers_double_spend(host):
    """The script's agents mount ~/.claude into private homes: two token requests with one refresh token."""
    needs_containers()
    code, said = migrate(host, "before", waits_for=lambda: len(posts(host.tokens)) == 2)
    assert (code, said[0]) == (0, "factory up")
    assert posts(host.tokens) == [("rt#1", 200), ("rt#1", 400)] or posts(host.tokens) == [("rt#1", 400), ("rt#1", 200)]
    assert kinds(host.tokens)[0] == "double-spend"


@pytest.mark.parametrize("factory", ["containers", "host"])
def test_after_the_six_steps_there_is_one_token_request(host, factory):
    """Down, make, move, link, export, up: the agents share the lock, and `claude` on the host finds the login, too."""
    if factory == "containers":
        needs_containers()
    code, said = migrate(host, waits_for=lambda: told(host.tokens, "retry"), FACTORY=factory)
    assert (code, said[:2], sorted(said[2:])) == (0, ["factory down", "factory up"], ["agent 0", "agent 1"])
    assert posts(host.tokens) == [("rt#1", 200)]
    moved = host.home / "claude-shared" / "config"
    assert (host.home / ".claude").readlink() == moved
    assert host.runs(ASK) == (0, "A\n", "")
    assert sorted(path.name for path in moved.parent.iterdir()) == ["config"]
    assert posts(host.tokens) == [("rt#1", 200)]


def test_on_the_host_itself_the_old_layout_is_sound(host):
    """Without containers ~/.claude and its lock are the same for all: it is the mount that breaks them apart."""
    code, said = migrate(host, "before", waits_for=lambda: told(host.tokens, "retry"), FACTORY="host")
    assert (code, sorted(said)) == (0, ["agent 0", "agent 1", "factory up"])
    assert posts(host.tokens) == [("rt#1", 200)]


# The wrapper.


@pytest.mark.claude_tokens(latency={"call": 0.1})
def test_the_wrapper_script_lets_one_agent_work_at_a_time(host):
    """The form of the document, a subshell and `flock -w 600 9`: every invariant holds, and nothing overlaps."""
    if shutil.which("flock") is None:
        pytest.skip("needs the program `flock`")
    environment = host.tokens.env(config_dir=host.config) | ENV
    done = subprocess.run(
        ["sh", str(SCRIPTS / "flock-wrapper.sh")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["agent 0", "agent 1", "agent 2"]), done.stderr
    assert posts(host.tokens) == [("rt#1", 200)]
    operations = host.tokens.history.operations
    assert len({one.actor for one in operations if one.f == "call"}) == 3
    assert all(before.closed < after.opened for before, after in pairwise(operations))


# The page.


@pytest.mark.skipif(not PAGE.exists(), reason="not in a checkout: the documents are not here")
def test_every_section_of_the_page_names_its_tests_and_a_command():
    """Each ends in tests that there are, and in a block to copy, whose scripts there are."""
    tests = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_concurrency_model*.py")
    )
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        _, _, proof = text.partition("\nTests: ")
        names = re.findall(r"`(test_\w+)`", proof)
        assert names, title
        assert [name for name in names if f"def {name}(" not in tests] == [], title
        commands = re.findall(r"```\n(.*?)\n```\s*$", proof, re.DOTALL)
        assert len(commands) == 1, title
        for script in re.findall(r"examples/concurrency-model/(\S+)", text):
            assert (SCRIPTS / script.rstrip("`")).is_file(), title
