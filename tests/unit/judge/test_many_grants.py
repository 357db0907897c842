"""The end of a history of many grants costs as much for each as that of one with few: nothing is walked per grant."""

from __future__ import annotations

from collections import Counter

import pytest

from fake_server.policy import PRESETS
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.drive import Service


class Watched(History):
    """A history that counts how often the notes of each kind were walked."""

    def __init__(self, header, events):
        self.walks = Counter()
        super().__init__(header, events)

    def noted(self, f):
        self.walks[f] += 1
        return super().noted(f)


def walks(grants: int, *, reused: bool) -> Counter[str]:
    """How often the judge walked the notes of each kind, where that many accounts had logged in."""
    service = Service(PRESETS["anthropic"])
    for number in range(grants):
        secret = service.login(f"a{number}").refresh[0].secret
        for _ in range(1 + reused):
            service.finish(service.token("w0", secret))
    service.end()
    history = Watched(service.history.header, service.history.events)
    assert len(judge(history).violations) == grants * 2 * reused
    return history.walks


@pytest.mark.parametrize("reused", [False, True])
def test_the_notes_are_walked_as_often_for_many_grants_as_for_few(reused):
    """Both where each grant lives, and where a reuse has revoked each."""
    assert walks(3, reused=reused) == walks(30, reused=reused)
