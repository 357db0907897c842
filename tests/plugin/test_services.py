"""Which service a test has: by the factory, the marker, or the fixture that a suite overrides."""

from __future__ import annotations

import pytest

SUITE = """
import pytest
from fake_server import Policy, Service
from pytest_claude_tokens import explore


@pytest.fixture
def claude_tokens_service():
    return Service.oauth(name="acme", hosts=["login.acme.example"])


def test_of_the_fixture(claude_tokens):
    assert (claude_tokens.server.service.name, claude_tokens.policy.name) == ("acme", "oauth")


@pytest.mark.claude_tokens(service="mcp", policy="keycloak")
def test_of_the_marker(claude_tokens):
    assert (claude_tokens.server.service.name, claude_tokens.policy.name) == ("mcp", "keycloak")


@pytest.mark.claude_tokens(service="mcp")
def test_of_the_factory(make_claude_tokens):
    with make_claude_tokens(service="oidc") as tokens:
        assert tokens.server.service.name == "oidc"
    with make_claude_tokens() as tokens:
        assert tokens.server.service.name == "mcp"


@explore(workers=1)
async def test_of_a_search(claude_tokens, workers):
    assert (claude_tokens.server.service.name, claude_tokens.policy.name) == ("acme", "oauth")
"""


def test_the_nearest_one_says_which_service_it_is(pytester):
    """The factory's argument before the marker, and that before the fixture; each brings its policy."""
    pytester.makepyfile(SUITE)
    pytester.runpytest("-W", "ignore").assert_outcomes(passed=4)


@pytest.mark.parametrize("argument", ["service='oauth3'", "service=3", "servce='mcp'"])
def test_a_service_that_is_none_is_a_usage_error(pytester, argument):
    """Before any test runs."""
    pytester.makepyfile(f"import pytest\n@pytest.mark.claude_tokens({argument})\ndef test_it(claude_tokens): pass")
    assert pytester.runpytest().ret == pytest.ExitCode.USAGE_ERROR
