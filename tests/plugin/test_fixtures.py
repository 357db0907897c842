"""The fixtures: what they give, and where their settings come from."""

from __future__ import annotations

import pytest


def test_in_one_test_all_fixtures_give_one_service(pytester):
    """`claude_server` is `claude_tokens` with its server started."""
    pytester.makepyfile(
        """
        import urllib.request
        from pytest_claude_tokens import ClaudeTokens

        def test_it(claude_tokens, claude_server):
            assert claude_server is claude_tokens
            assert isinstance(claude_tokens, ClaudeTokens)
            assert urllib.request.urlopen(claude_server.url + "/api/hello").status == 200

        def test_another(claude_tokens):
            assert not claude_tokens.history.operations
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_httpx_is_answered_in_process(pytester):
    """Traffic to the real hosts, and to those of the marker, reaches the fake; after the test it reaches nobody."""
    pytester.makepyfile(
        """
        import httpx, pytest
        from pytest_claude_tokens.guard import RealServiceRefused

        @pytest.mark.claude_tokens(hosts=["gateway.invalid"])
        def test_it(claude_tokens):
            for host in ("api.anthropic.com", "gateway.invalid"):
                assert httpx.get(f"https://{host}/api/hello", verify=False).json() == {"message": "hello"}

        def test_none(claude_tokens):
            with pytest.raises(RealServiceRefused):
                httpx.get("https://gateway.invalid/api/hello", verify=False, timeout=5)
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("marker", "override", "given", "policy"),
    [
        ("", "", "", "anthropic"),
        ("", "return 'gateway'", "", "gateway"),
        ("policy='keycloak'", "return 'gateway'", "", "keycloak"),
        ("policy='keycloak'", "return 'gateway'", "policy='no-rotation'", "no-rotation"),
        ("", "return 'gateway'", "policy=Policy(name='mine')", "mine"),
        ("", "return Policy(name='mine')", "", "mine"),
    ],
)
def test_the_policy_is_that_of_the_call_or_the_marker_or_the_overridden_fixture(
    pytester, marker, override, given, policy
):
    """Each is only asked where the one before says nothing."""
    if override:
        pytester.makeconftest(
            f"""
            import pytest
            from fake_server import Policy

            @pytest.fixture
            def claude_tokens_policy():
                {override}
            """
        )
    pytester.makepyfile(
        f"""
        import pytest
        from fake_server import Policy
        pytestmark = pytest.mark.claude_tokens({marker})

        def test_make(make_claude_tokens):
            with make_claude_tokens({given}) as tokens:
                assert tokens.policy.name == "{policy}"

        def test_one(claude_tokens):
            assert {bool(given)} or claude_tokens.policy.name == "{policy}"
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_a_made_service_has_the_settings_of_the_test_that_runs(pytester):
    """The marker's settings hold for it, too; lists are joined with what it is given."""
    pytester.makepyfile(
        """
        import pytest
        from pool import *

        @pytest.mark.claude_tokens(allow=["double-spend"], accounts=["work"], latency=0)
        def test_it(make_claude_tokens):
            with make_claude_tokens(accounts=["home"], limit=2) as tokens:
                spend_twice(tokens)
                assert [grant.account for grant in tokens.server.authority.grants] == ["work", "home", "a1"]
                assert tokens.history.header.get("limit") == 2
                assert tokens.history.header.get("allow") == ["double-spend"]

        def test_strict(make_claude_tokens):
            with make_claude_tokens() as tokens:
                spend_twice(tokens)
        """
    )
    pytester.runpytest().assert_outcomes(passed=1, failed=1)


def test_an_allowed_invariant_does_not_fail_the_test(pytester):
    """`allow=` turns a violation into a note."""
    pytester.makepyfile(
        """
        import pytest
        from pool import *

        @pytest.mark.claude_tokens(allow=["double-spend"])
        def test_it(claude_tokens):
            spend_twice(claude_tokens)
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("override", "call", "complaint"),
    [
        ("x", "make(policy='grace', limit=0)", "test_it.py::test_it: make_claude_tokens limit=0: *at least 1"),
        ("gatway", "claude_tokens", "test_it.py::test_it: claude_tokens no policy is named 'gatway'; *"),
        ("gatway", "make", "test_it.py::test_it: make_claude_tokens no policy is named 'gatway'; *"),
        (
            "x",
            "make(polcy=1)",
            "test_it.py::test_it: make_claude_tokens has no argument 'polcy' (did you mean policy?); it takes *",
        ),
    ],
)
def test_settings_that_cannot_be_are_usage_errors_that_name_the_test(pytester, override, call, complaint):
    """They are seen when the service is made."""
    fixture, _, arguments = call.partition("(")
    fixture = "make_claude_tokens" if fixture == "make" else fixture
    body = f"make_claude_tokens({arguments or ')'}" if fixture.startswith("make") else "0"
    pytester.makepyfile(
        test_it=f"""
        import pytest

        @pytest.fixture
        def claude_tokens_policy():
            return {override!r}

        def test_it({fixture}):
            {body}
        """
    )
    result = pytester.runpytest()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(f"E * {complaint.replace('[', '[[]')}")
    assert "runtest.py" not in str(result.stdout)


def test_a_service_is_closed_where_another_fixture_fails(pytester):
    """There is no call phase then, and nothing is judged."""
    pytester.makepyfile(
        """
        import logging, pytest
        from pool import *

        @pytest.fixture
        def broken(claude_tokens):
            spend_twice(claude_tokens)
            raise KeyError

        def test_it(broken): ...

        def test_after():
            assert not [h for h in logging.getLogger().handlers if "claude" in type(h).__module__]
        """
    )
    result = pytester.runpytest()

    result.assert_outcomes(errors=1, passed=1)
    result.stdout.no_fnmatch_line("*DoubleSpend*")


def test_a_service_that_its_test_has_closed_is_judged_and_closed_again(pytester):
    """Closing is for everybody, as often as they like."""
    pytester.makepyfile(
        """
        from pool import *

        def test_it(make_claude_tokens):
            with make_claude_tokens() as tokens:
                spend_once(tokens)
                tokens.close()
            tokens.close()
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_the_suite_may_say_that_the_real_hosts_are_needed(pytester):
    """The ini option reaches the guard before the first service does."""
    pytester.makeini("[pytest]\nclaude_tokens_allow_real_hosts = true")
    pytester.makepyfile(
        """
        from pytest_claude_tokens.guard import guard

        def test_it(claude_tokens):
            assert guard._hosts_allowed
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)

    pytester.makeini("[pytest]")
    pytester.makepyfile(
        """
        from pytest_claude_tokens.guard import guard

        def test_it(claude_tokens):
            assert not guard._hosts_allowed
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)
