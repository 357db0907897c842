"""The command line itself: which command runs, with what, and how a mistake is told."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys

import pytest

from pytest_claude_tokens.cli import main

NAMES = [command.name for command in main.COMMANDS]


@pytest.fixture
def stub(monkeypatch):
    """Puts one command in place of all; what it is called with is kept in the list that is returned."""

    def put(act=lambda: 0):
        calls = []

        class Module:
            @staticmethod
            def main(argv, *, prog):
                calls.append((argv, prog))
                return act()

        monkeypatch.setattr(main, "COMMANDS", (main.Command("stub", "a_stub", "does nothing"),))
        monkeypatch.setitem(sys.modules, "a_stub", Module)
        return calls

    return put


@pytest.mark.parametrize("command", main.COMMANDS, ids=NAMES)
def test_each_command_is_a_module_with_a_main(command):
    """The table names what is there."""
    assert callable(importlib.import_module(command.module).main)


@pytest.mark.parametrize("command", main.COMMANDS, ids=NAMES)
def test_each_command_tells_about_itself_under_its_name(command, capsys):
    """``--help`` of a command is that command's own, and ends well."""
    with pytest.raises(SystemExit) as ended:
        main.main([command.name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: claude-tokens {command.name}")


def test_help_lists_the_commands(capsys):
    """``--help`` names each command with what it does, and ends well."""
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for command in main.COMMANDS:
        assert re.search(rf"^  {command.name} +{re.escape(command.summary)}$", said, re.MULTILINE)
    assert max(map(len, said.splitlines())) <= 100


def test_nothing_to_do_is_a_usage_error_with_the_help(capsys):
    """Without a command, the help goes to standard error."""
    assert main.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "check" in said.err


def test_version_is_that_of_the_distribution(capsys):
    """``--version`` ends well."""
    assert main.main(["--version"]) == 0
    assert re.fullmatch(r"claude-tokens \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_unknown_command_is_refused_in_one_sentence_with_those_there_are(capsys):
    """A slip of the finger costs one line."""
    assert main.main(["chekc", "x"]) == 2
    error = f"claude-tokens: there is no command 'chekc'; the commands are {', '.join(NAMES)}\n"
    assert capsys.readouterr().err == error


def test_unknown_option_is_a_usage_error(capsys):
    """An option before the command has to be one of ours."""
    with pytest.raises(SystemExit) as ended:
        main.main(["--chekc"])
    assert ended.value.code == 2
    assert "--chekc" in capsys.readouterr().err


def test_all_after_the_command_is_the_commands_own(stub):
    """Neither options nor ``--`` are read on the way, and the status is handed on."""
    calls = stub(lambda: 3)
    assert main.main(["stub", "--version", "--", "-x"]) == 3
    assert calls == [(["--version", "--", "-x"], "claude-tokens stub")]


def test_arguments_come_from_the_process(stub, monkeypatch):
    """As a console script it is called without any."""
    calls = stub()
    monkeypatch.setattr(sys, "argv", ["claude-tokens", "stub", "x"])
    assert main.main() == 0
    assert calls == [(["x"], "claude-tokens stub")]


def test_an_interrupt_ends_quietly(stub):
    """Control-C is the user's wish, not an error to show the inside of."""

    def interrupt():
        raise KeyboardInterrupt

    stub(interrupt)
    assert main.main(["stub"]) == 130


def test_a_reader_that_has_seen_enough_is_no_error():
    """``| head`` closes the pipe: no traceback, and nothing is said at exit either."""
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "pytest_claude_tokens", "doctor"],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert ended.stderr == b""
    assert ended.returncode == 141


def run_with(output, *arguments, unbuffered=""):
    """Exit status and standard error of a command whose standard output a shell has led to ``output``."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m pytest_claude_tokens "$@" {output}', sys.executable, *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", ["doctor", "serve"])
@pytest.mark.parametrize(("output", "why"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")])
def test_an_output_that_cannot_be_written_is_told_in_one_sentence(name, output, why, unbuffered):
    """Neither a traceback nor a complaint at exit."""
    ended = run_with(output, name, unbuffered=unbuffered)
    assert ended.stderr == f"claude-tokens {name}: standard output can't be written: {why}\n"
    assert ended.returncode == 2


def test_help_that_cannot_be_written_is_told_too():
    """The parser does not return."""
    ended = run_with(">/dev/full", "doctor", "--help")
    assert ended.stderr == "claude-tokens doctor: standard output can't be written: No space left on device\n"
    assert ended.returncode == 2


@pytest.mark.parametrize("output", [">&-", ">/dev/full"])
def test_a_command_that_prints_nothing_needs_no_output(output):
    """The verdict of ``run`` goes to standard error, and is its exit status."""
    ended = run_with(output, "run", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert ended.stderr.startswith("claude-tokens: UNKNOWN, 0 requests\n")
    assert "standard output" not in ended.stderr
    assert ended.returncode == 3


def test_an_error_that_is_not_the_output_s_is_not_laid_at_its_door(stub):
    """A defect of ours stays one."""

    def fail():
        raise OSError(24, "Too many open files")

    stub(fail)
    with pytest.raises(OSError, match="Too many open files"):
        main.main(["stub"])


def test_the_module_runs_the_same():
    """``python -m pytest_claude_tokens`` is ``claude-tokens``; merely imported, it runs nothing."""
    importlib.import_module("pytest_claude_tokens.__main__")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest_claude_tokens", "nothing"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("claude-tokens: there is no command 'nothing'")


def test_finding_a_command_loads_nothing_heavy():
    """A command's module, and with it Hypothesis or httpx, is loaded only where that command is asked for."""
    code = (
        "import sys; from pytest_claude_tokens.cli.main import main; main(['nothing']); print(*sys.modules, sep='\\n')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(ended.stdout.split())
    assert not loaded & {"asyncio", "httpx", "hypothesis", "pytest", "respx", "ssl", "pytest_claude_tokens.cli.demo"}
