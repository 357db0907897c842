"""Explored tests under pytest: options, seeds, the example database, and replays."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from hypothesis import core

from fake_server import clock
from pytest_claude_tokens.plugin import exploring
from pytest_claude_tokens.runs import watchdog
from tests.plugin.logins import BAD, HEAD, SOUND, replay_line, told


def test_the_number_of_schedules_is_that_of_the_command_line(explored):
    """Before ``@settings``; else that of the ini file."""
    line = "  test_it.py::test_sound: {} schedules, *"
    explored(SOUND, "--claude-tokens-examples=7").stdout.fnmatch_lines([line.format(7)])
    explored(SOUND, "-o", "claude_tokens_examples=8").stdout.fnmatch_lines([line.format(8)])
    explored(SOUND).stdout.fnmatch_lines([line.format(20)])


DRAWS = """
@settings(max_examples=30, database=None)
@explore(n=st.integers(0, 10**6))
async def test_draws(claude_tokens, workers, n):
    print("drew", n)
    await workers(Login(claude_tokens.account(expired=True)).token)
"""


@pytest.fixture
def seeded(monkeypatch):
    """Hypothesis keeps the seed of its command line for good: put it back."""
    monkeypatch.setattr(core, "global_force_seed", None)


@pytest.mark.parametrize("option", ["--claude-tokens-seed=5", "--hypothesis-seed=5"])
def test_a_seed_on_the_command_line_draws_the_same_schedules(explored, seeded, option):
    """Ours, and that of Hypothesis."""
    first, second = (re.findall(r"drew (\d+)", str(explored(DRAWS, "-s", option).stdout)) for _ in range(2))
    assert first == second
    assert len(set(first)) > 20


@pytest.mark.parametrize("option", ["--claude-tokens-seed=1", "--hypothesis-seed=1"])
def test_what_is_found_under_a_seed_is_shrunk_too(explored, seeded, option):
    """Although Hypothesis then leaves its database alone; also what the quick gear finds."""
    result = explored(
        """
@settings(max_examples=300, database=None)
@explore(n=st.integers(0, 1000))
async def test_deep(claude_tokens, workers, n):
    await workers(Login(claude_tokens.account(expired=True), locked=n < 980).token)
""",
        option,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*with n=980"])


def test_hypothesis_tells_its_statistics(explored):
    """Of its own gear, which has nothing to draw where a test takes no arguments."""
    result = explored(SOUND, "--hypothesis-show-statistics")
    result.stdout.fnmatch_lines(["*Hypothesis Statistics*", "test_it.py::test_sound:", "*Stopped because *"])


def test_a_failure_found_once_comes_first_in_the_next_run(explored, pytester):
    """Out of an example database in a folder."""
    body = """
from hypothesis.database import DirectoryBasedExampleDatabase

@settings(max_examples=300, database=DirectoryBasedExampleDatabase("kept"))
@explore(n=st.integers(0, 1000))
async def test_deep(claude_tokens, workers, n):
    print("drew", n)
    await workers(Login(claude_tokens.account(expired=True), locked=n % 50 != 7).token)
"""
    explored(body).assert_outcomes(failed=1)
    again = explored(body, "-s")
    again.assert_outcomes(failed=1)
    assert int(re.search(r"drew (\d+)", str(again.stdout))[1]) % 50 == 7
    assert pytester.path.joinpath("kept").is_dir()


def test_the_blob_that_is_printed_reproduces(explored):
    """Pasted above the test."""
    body = """
@settings(max_examples=100, database=None, print_blob=True)
@explore(n=st.integers(0, 100))
async def test_bad(claude_tokens, workers, n):
    await workers(Login(claude_tokens.account(expired=True), locked=n < 60).token)
"""
    text = str(explored(body).stdout)
    decorator = re.search(r"@reproduce_failure\(.*\)", text)[0]
    assert "with n=60" in text
    again = explored(decorator + body)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["    with n=60"])


# Replays.


def test_a_replay_gives_the_same_history_file(explored, pytester):
    """Byte for byte, from the token alone."""
    first = explored(BAD)
    history = told(pytester)
    token = replay_line(first).rpartition("=")[2]
    again = explored(BAD, f"--claude-tokens-replay={token}")
    again.assert_outcomes(failed=1)
    assert told(pytester) == history
    again.stdout.fnmatch_lines(["replay; replayed 3/3", "claude-tokens: 1 test, 1 schedule, 1 violation"])


def test_the_replay_line_works_as_pasted(pytester):
    """In a shell, for a test whose name has all that shells find special."""
    pytester.makepyfile(
        test_it=HEAD
        + """
@pytest.mark.parametrize("what", ["it's $HOME", 'a "b" `c`', "a;b|c&d *!"])
@few
@explore()
async def test_bad(claude_tokens, workers, what):
    await workers(Login(claude_tokens.account(expired=True), locked=False).token)
"""
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=3)
    commands = re.findall(r"^replay  (.*)$", str(result.stdout), re.MULTILINE)
    done = subprocess.run(commands[0], shell=True, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DoubleSpend: rt#1 by w0 (#2) and w1 (#3)" in done.stdout
    assert "1 failed" in done.stdout
    for command in commands[1:]:
        words = shlex.split(command)
        assert words[-2].startswith("test_it.py::test_bad[")
        assert pytester.runpytest(*words[-2:]).parseoutcomes() == {"failed": 1}
    echoed = subprocess.run(
        ["bash", "-c", "\n".join(f"printf '%s\\0' {command}" for command in commands)], capture_output=True, check=True
    )
    assert [word.decode() for word in echoed.stdout.split(b"\0")[:-1]] == [
        word for command in commands for word in shlex.split(command)
    ]


def test_the_replay_line_names_the_program_that_was_called(pytester, monkeypatch):
    """``pytest`` where that is it, else this Python."""
    pytester.makepyfile(test_it=HEAD + BAD)
    monkeypatch.setenv("PATH", str(pytester.path))
    module = pytester.run(sys.executable, "-m", "pytest")
    assert replay_line(module).startswith(f'{sys.executable} -m pytest "test_it.py::test_bad" --claude-tokens-replay=')


def test_the_replay_line_is_for_the_folder_in_which_pytest_was_called(pytester):
    """Its path leads from there."""
    pytester.mkdir("tests").joinpath("test_it.py").write_text(HEAD + BAD)
    pytester.makeini("[pytest]\n")
    below = pytester.mkdir("below")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "../tests", "-p", "no:cacheprovider"],
        cwd=below,
        capture_output=True,
        text=True,
        check=False,
    )
    command = re.search(r"^replay  (.*)$", done.stdout, re.MULTILINE)[1]
    assert '"../tests/test_it.py::test_bad"' in command
    again = subprocess.run(command, shell=True, cwd=below, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "DoubleSpend" in again.stdout


@pytest.mark.parametrize("token", ["ct1-broken", "ct9-AAAA", "", "ct1-"])
def test_a_token_that_cannot_be_read_is_a_usage_error(explored, token):
    """Exit 4, and the message quotes it."""
    result = explored(BAD, f"--claude-tokens-replay={token}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert repr(token) in str(result.stderr)
    assert "INTERNALERROR" not in str(result.stderr) + str(result.stdout)


def test_the_token_of_another_test_is_a_clear_failure(explored):
    """One sentence, without the insides of the search."""
    token = replay_line(explored(BAD)).rpartition("=")[2]
    result = explored(SOUND.replace("explore()", "explore(workers=3)"), f"--claude-tokens-replay={token}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        "E   ValueError: the replay token was made for 2 workers as tasks, and this test has 3 workers as tasks: give "
        "it to the test that printed it (ct1-*"
    )
    result.stdout.no_fnmatch_line("*pytest_claude_tokens/*.py*")
    result.stdout.no_fnmatch_line("*--full-trace*")


def test_the_replay_of_a_mended_bug_passes(explored):
    """And is not told that nothing raced."""
    token = replay_line(explored(BAD)).rpartition("=")[2]
    explored(BAD.replace("locked=False", "locked=True"), f"--claude-tokens-replay={token}").assert_outcomes(passed=1)


def test_a_debugger_stops_the_watchdog_too(monkeypatch):
    """pytest says when it enters ``pdb`` and when it leaves it. Without a search or a service, nobody is told."""
    search, seconds = exploring.Search(), iter(range(10))
    monkeypatch.setattr(clock, "DEBUGGED", looking := clock.Debugged(lambda: next(seconds)))
    assert (watchdog.__name__, clock.__name__) == (exploring._WATCHDOG, exploring._CLOCK)
    search.pytest_enter_pdb()
    assert watchdog.DEBUGGER.at_work
    search.pytest_leave_pdb()
    assert not watchdog.DEBUGGER.at_work
    assert looking.seconds() == 1
    for module in (watchdog, clock):
        monkeypatch.delitem(sys.modules, module.__name__)
    search.pytest_enter_pdb()
    assert not watchdog.DEBUGGER.at_work
    assert looking.seconds() == 1


def test_given_above_explore_is_told_in_our_words(explored):
    """Hypothesis would speak of two decorators of its own."""
    result = explored(
        """
from hypothesis import given

@given(st.integers())
@explore()
async def test_it(n, claude_tokens, workers):
    pass
"""
    )
    result.stdout.fnmatch_lines(["*: @given stands above @explore, which stands in for it: give the strategies to *"])
    result.stdout.no_fnmatch_line("*more than once*")
