"""An argument of any length is refused in a sentence of a readable one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fake_server import Fault, Policy, Service
from fake_server.secrecy import discreet
from fake_server.serve.commandline import Parser, Usage
from pytest_claude_tokens import ClaudeTokens, explore

if TYPE_CHECKING:
    from collections.abc import Callable

handle: Any = ClaudeTokens
search: Any = explore
LONG = "no such thing " * 1000


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Policy.preset("anthropic").but(**{LONG: 1}),
        lambda: Policy.preset("anthropic").but(latency={LONG: 1}),
        lambda: Policy.preset(LONG),
        lambda: Policy.from_dict({LONG: 1}),
        lambda: Fault.from_dict({"kind": "reset", LONG: 1}),
        lambda: Service.oauth(hosts=[LONG]),
        lambda: ClaudeTokens(history=LONG).open(),
        lambda: handle(**{LONG: 1}),
        lambda: handle(allow=range(10_000)),
        lambda: handle(allow=[LONG] * 99),
        lambda: handle(latency=LONG),
        lambda: search(slow=LONG),
        lambda: search(**{LONG: 1})(print),
        lambda: Parser(prog="p").parse_args([LONG]),
    ],
)
def test_an_error_does_not_repeat_a_long_argument(refused: Callable[[], object]) -> None:
    """Nor many short ones; a failed system call's does not, either."""
    with pytest.raises((ValueError, TypeError, OSError, Usage)) as error:
        refused()
    assert len(str(error.value)) < 450
    assert LONG[:200] not in str(error.value)


def test_what_was_found_is_told_whole() -> None:
    """However long an assertion's words are: they are no argument."""

    @discreet
    def check() -> None:
        raise AssertionError(LONG)

    with pytest.raises(AssertionError, match=LONG):
        check()
