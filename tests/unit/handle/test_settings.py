from __future__ import annotations

import pytest

from fake_server.policy import Policy
from pytest_claude_tokens.handle import settings
from pytest_claude_tokens.plugin.marker import KEYWORDS


def test_a_policy_is_a_value_a_name_or_the_default():
    """One reading for the constructor and for the marker."""
    mine = Policy(name="mine")

    assert settings.policy_of(mine) is mine
    assert settings.policy_of("gateway").name == "gateway"
    assert settings.policy_of(None).name == "anthropic"


def test_what_is_no_policy_is_refused_with_the_names_of_those_that_are():
    """A number, such as that of a limit in the wrong place."""
    with pytest.raises(ValueError, match="must be a Policy or the name of one: anthropic, anthropic-harsh"):
        settings.policy_of(5)


def test_each_keyword_of_the_marker_has_a_reader():
    """A new keyword gets its check in the same commit."""
    assert tuple(settings.READERS) == KEYWORDS
