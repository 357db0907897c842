"""The fixtures. The modules that create their values are imported when a test first requests one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_claude_tokens.plugin.usage import discreet_usage

if TYPE_CHECKING:
    from fake_server import Policy, Service
    from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
    from pytest_claude_tokens.plugin.shared import SharedServer

__all__ = [
    "claude_server",
    "claude_shared_server",
    "claude_tokens",
    "claude_tokens_policy",
    "claude_tokens_service",
    "fake_claude",
    "make_claude_tokens",
]


@pytest.fixture
def claude_tokens_policy() -> Policy | str | None:
    """Override this to configure how the service behaves: return a `Policy` or a preset's name."""
    return None


@pytest.fixture
def claude_tokens_service() -> Service | str | None:
    """Override this to choose which service it is: return a `Service` or a preset's name."""
    return None


@pytest.fixture
def claude_tokens(request: pytest.FixtureRequest) -> Iterator[ClaudeTokens]:
    """A fake token service for httpx and httpx2; what breaks an invariant fails the test."""
    __tracebackhide__ = True
    if _runs_many_examples(request):
        pytest.fail(_MANY_EXAMPLES.format(request.node.nodeid), pytrace=False)
    from pytest_claude_tokens.plugin import call_phase

    handle = call_phase.make(request, request.getfixturevalue, own=True)
    handle.open()
    yield handle
    handle.close()


@pytest.fixture
def claude_server(claude_tokens: ClaudeTokens) -> ClaudeTokens:
    """The same as `claude_tokens`, and its server on loopback is running: `claude_server.url`."""
    assert claude_tokens.url
    return claude_tokens


@pytest.fixture(scope="session")
def claude_shared_server(request: pytest.FixtureRequest) -> SharedServer:
    """One service on loopback for the whole session, if ``--claude-tokens-shared-server`` asks for it.

    Its tests share a history, which is judged when the session ends.
    """
    __tracebackhide__ = True
    from pytest_claude_tokens.plugin import shared

    return shared.server_of(request.config)


@pytest.fixture
def fake_claude(claude_tokens: ClaudeTokens) -> Iterator[ClaudeTokens]:
    """The same as `claude_tokens`, with a fake `claude` first on `PATH` and the environment set for it."""
    claude_tokens.install_claude()
    with claude_tokens.environ():
        yield claude_tokens


@pytest.fixture(scope="session")
def make_claude_tokens(request: pytest.FixtureRequest) -> Callable[..., ClaudeTokens]:
    """Makes services that are context managers, safe inside `@given` too.

    It takes the marker's keywords; missing ones are taken from the marker of the running test.
    """

    @discreet_usage
    def make(policy: Policy | str | None = None, **settings: Any) -> ClaudeTokens:
        __tracebackhide__ = True
        from pytest_claude_tokens.plugin import call_phase, pytest_internals, session

        def default(name: str) -> Any:
            # Asked through the running test: a session's fixture would not see that test's override.
            return pytest_internals.fixture_value(session.current(request.config), name)

        return call_phase.make(request, default, policy=policy, **settings)

    return make


_MANY_EXAMPLES = (
    "{}: the fixture claude_tokens is made once for a test, and Hypothesis runs the body many times: use "
    "`with make_claude_tokens() as tokens:` inside the test, or @explore instead of @given."
)


def _runs_many_examples(request: pytest.FixtureRequest) -> bool:
    """Whether the test runs many Hypothesis examples, and does not suppress the health check on function scope."""
    if not getattr(request.function, "is_hypothesis_test", False):
        return False
    from pytest_claude_tokens.search.hypothesis_engine import decorations

    settings = decorations(request.function).settings
    suppressed = {check.name for check in getattr(settings, "suppress_health_check", ())}
    return "function_scoped_fixture" not in suppressed
