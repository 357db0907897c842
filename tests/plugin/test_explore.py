"""Explored tests under pytest: options, the replay line, the summary, markers and fixtures."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest
from hypothesis import core

HEAD = """
import asyncio, httpx, pytest, time, unittest
import hypothesis
from hypothesis import assume, example, reproduce_failure, seed, settings, strategies as st
from pytest_claude_tokens import explore

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"

class Login:
    def __init__(self, account, locked=True):
        self.secret, self.expires = account.refresh_token, account.expires_at
        self.lock = asyncio.Lock() if locked else None

    async def token(self):
        if self.lock is None:
            return await self.unlocked()
        async with self.lock:
            return await self.unlocked()

    async def unlocked(self):
        if time.time() < self.expires:
            return
        body = {"grant_type": "refresh_token", "refresh_token": self.secret, "client_id": "c"}
        async with httpx.AsyncClient() as client:
            reply = (await client.post(TOKEN_URL, json=body)).raise_for_status().json()
        self.secret, self.expires = reply["refresh_token"], time.time() + reply["expires_in"]

few = settings(max_examples=20, database=None, derandomize=True)
"""
SOUND = """
@few
@explore()
async def test_sound(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True)).token)
"""
BAD = """
@few
@explore()
async def test_bad(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True), locked=False).token)
"""


@pytest.fixture
def explored(pytester):
    """Runs a test file with a login that is sound or not."""

    def run(body, *arguments):
        pytester.makepyfile(test_it=HEAD + body)
        return pytester.runpytest(*arguments)

    return run


def replay_line(result):
    """The command of a failure's ``replay`` line."""
    return re.search(r"^replay  (.*)$", str(result.stdout), re.MULTILINE)[1]


def told(pytester):
    """The history of the one failure."""
    (path,) = pytester.path.glob(".claude-tokens/*/history.jsonl")
    return path.read_bytes()


# The report.


def test_a_failure_has_its_section_replay_line_and_history(explored, pytester):
    """In DESIGN's words: the title, the last line of the first block, how it was found, and the folder."""
    result = explored(BAD)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E   claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)",
            "*- claude-tokens history -*",
            "again   #3 *",
            "first   #2 *",
            "why     *",
            "after   *",
            'replay  *"test_it.py::test_bad" --claude-tokens-replay=ct1-*',
            "",
            "double-spend: *",
            "2 workers, 1 grant; *",
            "schedule 1*; replayed 3/3",
            "order: default order",
            "",
            ".claude-tokens/test_bad-*  history.jsonl*",
            "claude-tokens: 1 test, * schedules, 1 violation",
            "FAILED test_it.py::test_bad - claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)",
        ]
    )
    assert json.loads(told(pytester).splitlines()[0])["policy"] == {"name": "anthropic"}


def test_drawn_arguments_are_told(explored):
    """At the headline, and in the section."""
    result = explored(
        """
@few
@explore(n=st.integers(0, 100), name=st.text(max_size=3))
async def test_bad(claude_tokens, workers, name, n):
    await workers(Login(claude_tokens.account(expired=True), locked=n < 3).token)
"""
    )
    result.stdout.fnmatch_lines(["E   *DoubleSpend*", "    with n=3, name=''", "*history -*", "with n=3, name=''"])


def test_the_summary_says_how_hard_was_looked(explored):
    """One line for the run, and one for each explored test."""
    result = explored(
        SOUND
        + """
@explore(exhaustive=1)
async def test_systematic(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True)).token)

def test_plain(claude_tokens):
    pass
"""
    )
    text = str(result.stdout)
    assert re.search(r"^claude-tokens: 2 tests, \d+ schedules, 0 violations$", text, re.MULTILINE)
    assert re.search(
        r"^  test_it\.py::test_sound: 20 schedules, \d+ distinct histor(y|ies), next new \d+%$", text, re.MULTILINE
    )
    assert re.search(
        r"^  test_it\.py::test_systematic: \d+ schedules?, \d+ distinct histor(y|ies): all with at most 1 deviation$",
        text,
        re.MULTILINE,
    )


MANY = """
for n in range(1, 13):
    def made(n):
        @settings(max_examples=n, database=None)
        @explore()
        async def test_it(claude_tokens, workers):
            await workers(Login(claude_tokens.account(expired=True)).token)
        return test_it
    globals()[f"test_{n:02}"] = made(n)
"""


@pytest.mark.parametrize(("verbose", "named"), [((), range(1, 11)), (("-v",), range(1, 13))])
def test_the_summary_names_the_ten_that_were_looked_at_least(explored, verbose, named):
    """All of them with ``-v``."""
    result = explored(MANY, *verbose)
    lines = re.findall(r"^  test_it\.py::test_(\d\d): (\d+) schedules?, ", str(result.stdout), re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(named)
    assert all(int(number) == int(schedules) for number, schedules in lines)


def test_a_search_that_proved_nothing_is_in_the_summary(explored):
    """``NothingRaced`` is a failure like any other; so is a run that differs."""
    result = explored(
        """
@few
@explore()
async def test_nothing(claude_tokens, workers):
    pass
"""
    )
    result.stdout.fnmatch_lines(
        [
            "E   claude_tokens.NothingRaced: 2 workers, no request while another's job was under way",
            "claude-tokens: 1 test, 20 schedules, *",
            "FAILED test_it.py::test_nothing - claude_tokens.NothingRaced: 2 workers, no request *",
        ]
    )
    result.stdout.no_fnmatch_line("*exploration.py*")
    result.stdout.no_fnmatch_line("*--full-trace*")


# Options.


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
    """Of its own gear."""
    result = explored(SOUND, "--hypothesis-show-statistics")
    result.stdout.fnmatch_lines(["*Hypothesis Statistics*", "test_it.py::test_sound:", "*during generate phase*"])


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


def test_the_replay_line_names_the_program_that_was_called(pytester):
    """``pytest`` where that is it, else this Python."""
    pytester.makepyfile(test_it=HEAD + BAD)
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
    result.stdout.no_fnmatch_line("*exploration.py*")
    result.stdout.no_fnmatch_line("*--full-trace*")


def test_the_replay_of_a_mended_bug_passes(explored):
    """And is not told that nothing raced."""
    token = replay_line(explored(BAD)).rpartition("=")[2]
    explored(BAD.replace("locked=False", "locked=True"), f"--claude-tokens-replay={token}").assert_outcomes(passed=1)


# Markers and fixtures.


def test_markers_configure_explored_tests(explored):
    """Policy, allow, latency, accounts and hosts, as for any other test."""
    result = explored(
        """
@pytest.mark.claude_tokens(
    policy="anthropic-harsh", latency={"token": 0.5}, accounts=["work"], hosts=["api.example"], allow=["refresh-storm"]
)
@few
@explore()
async def test_it(claude_tokens, workers):
    assert claude_tokens.policy.name == "anthropic-harsh"
    assert claude_tokens.policy.latency == {"token": 0.5}
    assert [note.account for note in claude_tokens.history if note.f == "login"] == ["work"]
    async def job():
        async with httpx.AsyncClient() as client:
            assert (await client.get("https://api.example/api/hello")).status_code == 200
    await workers(job)

@pytest.mark.claude_tokens(allow=["double-spend", "refresh-storm"])
@few
@explore()
async def test_allowed(claude_tokens, workers):
    async def job():
        try:
            await login.token()
        except httpx.HTTPStatusError:
            pass
    login = Login(claude_tokens.account(expired=True), locked=False)
    await workers(job)

@few
@explore()
@pytest.mark.claude_tokens(limit=2, policy="no-rotation")
async def test_below(claude_tokens, workers):
    assert claude_tokens.policy.name == "no-rotation"
    bearer = claude_tokens.account().access_token
    async def job():
        async with httpx.AsyncClient() as client:
            headers = {"Authorization": f"Bearer {bearer}"}
            await client.post("https://api.anthropic.com/v1/messages", json={"messages": []}, headers=headers)
    await workers(job)
"""
    )
    result.assert_outcomes(passed=3)


def test_limit_counts(explored):
    """Without the marker two calls at once on one bearer are one too many."""
    result = explored(
        """
@few
@explore()
async def test_it(claude_tokens, workers):
    bearer = claude_tokens.account().access_token
    async def job():
        async with httpx.AsyncClient() as client:
            headers = {"Authorization": f"Bearer {bearer}"}
            await client.post("https://api.anthropic.com/v1/messages", json={"messages": []}, headers=headers)
    await workers(job)
"""
    )
    result.stdout.fnmatch_lines(["FAILED *::test_it - claude_tokens.CoSchedule: at#1 *"])


def test_the_fixture_for_the_policy_configures_explored_tests(explored):
    """Overridden, and as the token of a replay has it even where it is another one by then."""
    body = """
@pytest.fixture
def claude_tokens_policy():
    return "{}"

@few
@explore()
async def test_it(claude_tokens, workers):
    print("met", claude_tokens.policy.name)
    await workers(Login(claude_tokens.account(expired=True), locked=False).token)
"""
    first = explored(body.format("rfc9700-floor"), "-s")
    first.stdout.fnmatch_lines(["*met rfc9700-floor"])
    token = replay_line(first).rpartition("=")[2]
    again = explored(body.format("gateway"), "-s", f"--claude-tokens-replay={token}")
    again.stdout.fnmatch_lines(["*met rfc9700-floor"])


def test_fixtures_of_module_and_session_scope_work(explored):
    """They are made once, and given to each schedule; so are parameters."""
    explored(
        """
made = []

@pytest.fixture(scope="module", params=["a", "b"])
def module(request):
    made.append(request.param)
    return request.param

@pytest.fixture(scope="session")
def everything():
    return {}

@pytest.fixture(scope="class")
def of_class():
    return 3

@pytest.fixture(autouse=True)
def around():
    yield

class TestIt:
    @pytest.mark.parametrize("n", [1, 2])
    @few
    @explore(m=st.integers(0, 3))
    async def test_it(self, n, claude_tokens, m, module, everything, workers, of_class):
        assert isinstance(self, TestIt)
        everything.setdefault((module, n), []).append(m)
        await workers(Login(claude_tokens.account(expired=True)).token)

def test_after(everything):
    assert sorted(everything) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert all(len(seen) >= 20 for seen in everything.values())
    assert made == ["a", "b"]
"""
    ).assert_outcomes(passed=5)


@pytest.mark.parametrize("fixture", ["tmp_path", "capsys", "mine"])
def test_a_fixture_of_function_scope_is_refused(explored, fixture):
    """The message names the test and the fixture, and says what to do."""
    result = explored(
        f"""
@pytest.fixture
def mine():
    return 1

@few
@explore()
async def test_it(claude_tokens, workers, {fixture}):
    pass
"""
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        f"*test_it.py::test_it: the fixture {fixture} is made once for a test, and @explore runs the body many times: "
        "give it module or session scope, or make what it gives inside the body (tokens.tmp_path is fresh for each "
        "schedule)."
    )


def test_methods_of_a_testcase_can_be_explored(explored):
    """Of ``unittest.TestCase``, where pytest calls them by another way."""
    result = explored(
        """
class TestIt(unittest.TestCase):
    def setUp(self):
        self.locked = True

    @few
    @explore()
    async def test_sound(self, claude_tokens, workers):
        await workers(Login(claude_tokens.account(expired=True), locked=self.locked).token)

    @few
    @explore()
    async def test_bad(self, claude_tokens, workers):
        await workers(Login(claude_tokens.account(expired=True), locked=False).token)
"""
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- claude-tokens history -*",
            'replay  *"test_it.py::TestIt::test_bad" --claude-tokens-replay=ct1-*',
            "claude-tokens: 2 tests, *",
            "FAILED *::test_bad - claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)",
        ]
    )


def test_skips_and_expected_failures_are_what_they_are(explored):
    """Raised in a body or marked."""
    explored(
        """
@few
@explore()
async def test_skip(claude_tokens, workers):
    pytest.skip("not here")

@few
@explore()
async def test_xfail(claude_tokens, workers):
    pytest.xfail("not yet")

@pytest.mark.xfail(strict=True)
"""
        + BAD
        + """
@pytest.mark.skip
@few
@explore()
async def test_never(claude_tokens, workers):
    assert False
"""
    ).assert_outcomes(skipped=2, xfailed=2)


def test_one_worker_alone_is_warned(explored):
    """The warning is that of the test, and once."""
    result = explored(SOUND.replace("explore()", "explore(workers=1)"), "-W", "always")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*UserWarning: explore(workers=1): one worker alone can't race"])


def test_a_bad_explore_is_an_error_of_its_module(explored):
    """Where it is written."""
    result = explored(SOUND.replace("@explore()", "@explore"))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E   TypeError: write @explore(), or @explore(workers=4): it takes keywords only"])


def test_a_plain_fixture_test_beside_it_has_its_own_service(explored):
    """Nothing of a search is left for the test after it."""
    explored(
        BAD
        + """
def test_after(claude_tokens):
    assert httpx.get("https://api.anthropic.com/api/hello").status_code == 200
    assert abs(time.time() - 1767225600) > 1000 or time.time() != 1767225600.0
    assert len(claude_tokens.history.operations) == 1
"""
    ).assert_outcomes(failed=1, passed=1)
