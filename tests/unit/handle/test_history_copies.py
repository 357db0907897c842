"""A copy of a handle's history is what there was at the time."""

from __future__ import annotations

import copy
import pickle

import pytest

from pytest_claude_tokens import ClaudeTokens


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda history: pickle.loads(pickle.dumps(history))])
def test_it_can_be_copied_and_pickled(copied):
    with ClaudeTokens() as tokens:
        tokens.account()
        kept = copied(tokens.history)
        told = [event.to_json() for event in tokens.history]
        tokens.account("other")
        assert [event.to_json() for event in kept] == told
        assert kept.header == tokens.history.header
        assert len(kept) == len(told) < len(tokens.history)
