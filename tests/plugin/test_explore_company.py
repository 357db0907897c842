"""Explored tests beside other plugins: asynchronous ones, xdist, reruns, time-outs; and what a fuzzer collects."""

from __future__ import annotations

import re

import pytest

from tests.plugin.logins import BAD, HEAD, SOUND, replay_line


@pytest.mark.parametrize("options", [(), ("-o", "asyncio_mode=strict"), ("-o", "asyncio_mode=auto")])
def test_asynchronous_plugins_leave_explored_tests_alone(explored, options):
    """pytest-asyncio in both modes, and anyio's marker for a whole module: their own tests run beside ours."""
    result = explored(
        SOUND
        + BAD
        + """
@pytest.mark.asyncio
async def test_theirs(claude_tokens):
    await asyncio.sleep(0)
    async with httpx.AsyncClient() as client:
        assert (await client.get("https://api.anthropic.com/api/hello")).status_code == 200

@pytest.mark.anyio
@few
@explore()
async def test_marked(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True)).token)

@pytest.mark.asyncio
@few
@explore()
async def test_marked_too(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True)).token)

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_anyio(claude_tokens):
    async with httpx.AsyncClient() as client:
        assert (await client.get("https://api.anthropic.com/api/hello")).status_code == 200
""",
        *options,
        "-W",
        "default",
    )
    result.assert_outcomes(
        passed=5, failed=1, warnings=len(re.findall("^.*Warning: ", str(result.stdout), re.MULTILINE))
    )
    result.stdout.fnmatch_lines(["claude-tokens: 4 tests, *", "FAILED *::test_bad - claude_tokens.DoubleSpend: *"])


def test_workers_of_xdist_search_and_the_controller_tells(explored, pytester):
    """Sections, folders, replay lines and the summary of all of them."""
    result = explored(
        SOUND
        + BAD
        + """
@pytest.mark.parametrize("n", range(4))
@few
@explore()
async def test_some(claude_tokens, workers, n):
    await workers(Login(claude_tokens.account(expired=True)).token)
""",
        "-n2",
        "-v",
    )
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*- claude-tokens history -*", "claude-tokens: 6 tests, * schedules, 1 violation"])
    assert len(re.findall(r"^  test_it\.py::test_\S+: \d+ schedules, ", str(result.stdout), re.MULTILINE)) == 6
    assert len(list(pytester.path.glob(".claude-tokens/*/history.jsonl"))) == 1
    token = replay_line(result).rpartition("=")[2]
    again = pytester.runpytest("test_it.py::test_bad", "-n1", f"--claude-tokens-replay={token}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["claude-tokens: 1 test, 1 schedule, 1 violation"])
    broken = pytester.runpytest("-n1", "--claude-tokens-replay=ct1-broken")
    assert broken.ret == pytest.ExitCode.USAGE_ERROR


def test_a_search_that_takes_too_long_ends_by_the_time_out(explored):
    """By that of the plugin of that name, at once: no schedule is told for it, and none is tried again."""
    result = explored(
        """
import threading

runs = []

@pytest.mark.timeout(1, method="signal", func_only=True)
@few
@explore()
def test_slow(claude_tokens, workers):
    runs.append(1)
    while True:
        pass

def test_after():
    assert len(runs) == 1
"""
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_slow - Failed: Timeout *"])
    result.stdout.no_fnmatch_line("replay  *")


def test_each_rerun_is_a_search_of_its_own(explored):
    """Nothing is left of the one before."""
    result = explored(
        """
tries = []

@pytest.mark.flaky(reruns=1)
@few
@explore()
async def test_it(claude_tokens, workers):
    tries.append(1)
    await workers(Login(claude_tokens.account(expired=True), locked=len(tries) > 3).token)
"""
    )
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}


@pytest.mark.nightly
def test_a_fuzzer_collects_what_it_needs(explored):
    """As HypoFuzz does: from the collected items, the inner test and its strategies, outside of any run of ours."""
    explored(
        SOUND
        + """
@few
@explore(n=st.integers(0, 3))
async def test_bad(claude_tokens, workers, n):
    await workers(Login(claude_tokens.account(expired=True), locked=n < 2).token)

def test_fuzz(request):
    import inspect
    import random
    from hypothesis import is_hypothesis_test

    items = {item.name: item for item in request.session.items}
    source = random.Random(1)
    outcomes = set()
    for name, most in (("test_sound", 4), ("test_bad", 12)):
        function = items[name].obj
        assert is_hypothesis_test(function)
        assert not inspect.iscoroutinefunction(function.hypothesis.inner_test)
        for _ in range(most):
            try:
                function.hypothesis.fuzz_one_input(source.randbytes(400))
            except AssertionError as error:
                outcomes.add((name, type(error).__name__))
                break
    assert outcomes == {("test_bad", "DoubleSpend")}
"""
    ).assert_outcomes(passed=2, failed=1)


def test_with_no_plugin_of_ours_it_is_a_property_test_all_the_same(pytester):
    """``-p no:claude_tokens``: the search runs, and what it finds is raised."""
    pytester.makepyfile(test_it=HEAD + SOUND + BAD)
    result = pytester.runpytest("-p", "no:claude_tokens")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_bad - claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)"])
