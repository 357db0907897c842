"""The error of a body in one line beside a story, in place of a chain of tracebacks."""

from __future__ import annotations

import json
from asyncio import CancelledError

import pytest

from pytest_claude_tokens.report.body_error import headline, unshown
from pytest_claude_tokens.violations import StaleBearer


def raised(error):
    """``error``, raised here, by way of a library."""
    try:
        json.loads("0", parse_int=lambda _: fail(error))
    except BaseException as caught:
        return caught


def fail(error):
    raise error


def at(function, after):
    return f"test_body_error.py:{function.__code__.co_firstlineno + after}"


WAY = f"{at(fail, 1)}, {at(raised, 3)}"
"""The lines of this file at which an error is raised, from the innermost on."""


def violation(cause):
    found = StaleBearer("headline", seq=1)
    found.__cause__ = cause
    return found


def test_the_error_behind_a_violation_is_told_with_the_users_lines():
    """The first line of its message; no frame of a library."""
    found = unshown(violation(raised(ValueError("not this\nbut more"))))

    assert found == f"ValueError: not this ({WAY})"


def test_of_a_group_the_leaves_are_told():
    """Two of them, wherever they are; the others are counted."""
    group = BaseExceptionGroup(
        "g", [KeyError(1), ExceptionGroup("h", [raised(OSError()), KeyError(3)]), CancelledError()]
    )

    assert unshown(violation(group)) == f"KeyError: 1; OSError ({WAY}); and 2 more"
    assert unshown(group) == unshown(violation(group))


@pytest.mark.parametrize(("hidden", "told"), [(False, "raised from KeyError: 1"), (True, "")])
def test_an_error_of_the_body_says_what_it_was_raised_from(hidden, told):
    """As pytest would, unless it was raised from nothing."""
    error = ValueError()
    error.__context__ = KeyError(1)
    error.__suppress_context__ = hidden

    assert unshown(error) == told
    assert unshown(violation(None)) == ""


def test_a_long_or_odd_message_is_cut_and_plain():
    """One that can't be told says so; a secret in it is none any more."""

    class Odd(Exception):
        __module__, __qualname__ = "user", "Odd"

        def __str__(self):
            raise KeyError

    assert len(headline(ValueError("x y " * 100))) == 80
    assert headline(ValueError("sk-ant-oat01-FAKE" + "a" * 60)).startswith("ValueError: [")
    assert headline(Odd()).startswith("user.Odd: <its message can't be told: KeyError>")
