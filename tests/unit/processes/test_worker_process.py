"""``spawn``: programs in the environment of a handle, and nothing of them left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.violations import TokenLeak
from tests.unit.processes.common import PATIENCE, alive, program, until


def shell(text):
    return ["sh", "-c", text]


FAMILY = "sleep 600 & echo $!; (sleep 600 & echo $!; wait) & echo $!; echo ready; wait"
"""A shell with a child and a grandchild that it tells the numbers of."""


def family(tokens):
    """A process with descendants, and their process ids with its own."""
    process = tokens.spawn(shell(FAMILY))
    until(lambda: "ready" in process.stdout and len(process.stdout.split()) == 4)
    return process, [process.pid, *(int(word) for word in process.stdout.split() if word != "ready")]


# What it is given, and what it gives.


def test_what_it_writes_is_kept_and_it_reads_nothing(tokens):
    """Standard input is empty; both outputs are kept in full, also after the end of the handle."""
    process = tokens.spawn(shell("cat; echo out; echo err >&2; exit 3"))
    assert process.wait(PATIENCE) == 3
    assert process.returncode == 3
    assert (process.stdout, process.stderr) == ("out\n", "err\n")
    tokens.close()
    assert (process.stdout, process.stderr) == ("out\n", "err\n")
    assert process.returncode == 3


def test_a_lot_of_output_waits_for_nobody(tokens):
    """Nobody reads meanwhile: a pipe would be full."""
    process = tokens.spawn([sys.executable, "-c", "print('x' * 1_000_000)"])
    assert process.wait(PATIENCE) == 0
    assert len(process.stdout) == 1_000_001


def test_bytes_that_are_no_text_are_shown_as_well_as_they_go(tokens):
    """Whatever a killed program has written."""
    process = tokens.spawn(shell(r"printf 'a\377b'"))
    process.wait(PATIENCE)
    assert process.stdout == "a\ufffdb"


def test_its_environment_is_that_of_its_worker(tokens):
    """With what was given on top; and its working directory is that of the test."""
    process = tokens.spawn(
        shell('echo "$HOME|$ANTHROPIC_BASE_URL|$MORE|$CLAUDE_CONFIG_DIR"; pwd'), "w7", env={"MORE": "1"}
    )
    process.wait(PATIENCE)
    first, second = process.stdout.splitlines()
    assert first == f"{tokens.env(worker='w7')['HOME']}|{tokens.url}/w/w7|1|"
    assert second == os.getcwd()
    assert process.worker == "w7"


def test_its_login_is_a_token_or_a_folder(tokens):
    """``account`` alone in the environment; with ``config_dir`` in the folder."""
    account = tokens.account()
    folder = tokens.config_dir(account)
    tell = shell('echo "$CLAUDE_CODE_OAUTH_TOKEN|$CLAUDE_CONFIG_DIR"')
    one = tokens.spawn(tell, account=account)
    other = tokens.spawn(tell, account=account, config_dir=folder)
    one.wait(PATIENCE)
    other.wait(PATIENCE)
    assert one.stdout == f"{account.access_token}|\n"
    assert other.stdout == f"|{folder}\n"


def test_its_requests_are_those_of_its_worker(tokens):
    """And its start and end are in the history."""
    process = tokens.spawn(program("print(hello()[0])"), "w3")
    process.wait(PATIENCE)
    assert process.stdout == "200\n", process.stderr
    assert [(event.f, event.type, event.actor) for event in tokens.history] == [
        ("spawn", "note", "w3"),
        ("other", "invoke", "w3"),
        ("other", "ok", "w3"),
        ("exit", "note", "w3"),
    ]
    assert process.returncode == 0
    assert len(tokens.history) == 4


def test_it_says_what_it_is(tokens):
    """For a debugger."""
    process = tokens.spawn(shell("exit 4"))
    assert repr(process) in ("<WorkerProcess w0 sh running>", "<WorkerProcess w0 sh ended with 4>")
    process.wait(PATIENCE)
    assert repr(process) == "<WorkerProcess w0 sh ended with 4>"


def test_a_wait_may_end_before_the_process(tokens):
    """As ``subprocess`` has it."""
    process = tokens.spawn(["sleep", "600"])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    assert process.running
    assert process.returncode is None


# What can't be started.


def test_a_program_that_is_not_there_is_an_error_at_once(tokens):
    """It names the program, and nothing is left open or noted."""
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        tokens.spawn(["no-such-program"])
    assert len(tokens.history) == 0


def test_a_command_is_a_program_and_its_arguments(tokens):
    """An empty one is refused; paths are taken."""
    with pytest.raises(ValueError, match=r"spawn\(\[\]\): name a program, and its arguments after it"):
        tokens.spawn([])
    with pytest.raises(TypeError, match=r"spawn\('echo hi'\): give a list of words"):
        tokens.spawn("echo hi")
    process = tokens.spawn([tokens.tmp_path.joinpath("/bin/true")])
    assert process.wait(PATIENCE) == 0


# Its end.


def test_kill_ends_it_and_all_that_it_started(tokens):
    """Grandchildren too; the history says who was killed, and by which signal."""
    process, pids = family(tokens)
    process.kill()
    assert process.wait(PATIENCE) == -signal.SIGKILL
    until(lambda: not any(map(alive, pids)))
    (note,) = tokens.history.noted("kill")
    assert (note.actor, note.get("signal")) == ("w0", "SIGKILL")
    process.kill()
    assert len(tokens.history.noted("kill")) == 1


def test_a_signal_may_be_named(tokens):
    """The program may do with it what it likes."""
    process = tokens.spawn(shell("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done"))
    until(lambda: process.stdout)
    process.kill(signal.SIGTERM)
    assert process.wait(PATIENCE) == 5
    assert process.stdout == "ready\nbye\n"


def test_the_end_of_the_handle_ends_everything(tokens):
    """Whatever still runs, and whatever an ended one has left in its group."""
    process, pids = family(tokens)
    left = tokens.spawn(shell("sleep 600 & echo $!"))
    left.wait(PATIENCE)
    pids.append(int(left.stdout))
    assert alive(pids[-1])
    tokens.close()
    until(lambda: not any(map(alive, pids)))
    assert process.returncode == -signal.SIGKILL
    process.close()
    assert "ready" in process.stdout


def test_a_token_in_the_arguments_is_a_leak():
    """Everybody on the machine may read them."""
    with pytest.raises(TokenLeak), ClaudeTokens() as tokens:
        account = tokens.account()
        tokens.spawn(["true", f"--token={account.access_token}"], "w0").wait(PATIENCE)
