"""Explored tests under pytest: markers, fixtures, and what else a test may be."""

from __future__ import annotations

import pytest

from tests.plugin.logins import BAD, SOUND, replay_line


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
