"""A secret that was pasted into a test is not in what pytest prints or writes of our frames, whatever is on."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.plugin.options import OPTIONS, Option
from tests.pasted import SECRETS, pieces

MAKE = """
import os
import random

from tests.pasted import KINDS

def pasted(kind):
    return KINDS[kind](random.Random(f"pasted {kind}"))
"""
# What the suite's own frames show is its own: so it asks for the secret only in the call itself, and keeps it nowhere.
SUITE = """
import pytest

from fake_server import Fault, Policy
from pytest_claude_tokens import ClaudeTokens, explore
from make import KINDS, pasted

pytestmark = pytest.mark.parametrize("kind", KINDS)

def test_account(claude_tokens, kind):
    claude_tokens.account(pasted(kind))

def test_expire(claude_tokens, kind):
    claude_tokens.expire(pasted(kind))

def test_worker(claude_tokens, kind):
    with claude_tokens.worker(pasted(kind)):
        pass

def test_hold(claude_tokens, kind):
    with claude_tokens.hold(pasted(kind)):
        pass

def test_environ(claude_tokens, kind):
    with claude_tokens.environ(pasted(kind)):
        pass

def test_store(claude_tokens, kind):
    claude_tokens.watch_store(pasted(kind), claude_tokens.account())

def test_spawn(claude_tokens, kind):
    claude_tokens.spawn([pasted(kind)])

def test_opened(kind):
    with ClaudeTokens(accounts=[pasted(kind)]):
        pass

def test_made(make_claude_tokens, kind):
    make_claude_tokens(policy=pasted(kind))

def test_made_with_hosts(make_claude_tokens, kind):
    make_claude_tokens(hosts=[pasted(kind)])

def test_policy(kind):
    Policy(name=pasted(kind))

def test_changed(kind):
    Policy().but(reuse=pasted(kind))

def test_preset(kind):
    Policy.preset(pasted(kind))

def test_fault(kind):
    Fault.status(500, pasted(kind))

def test_explore(kind):
    explore(number=pasted(kind))

class TestPolicy:
    @pytest.fixture
    def claude_tokens_policy(self, kind):
        return pasted(kind)

    def test_fixture(self, claude_tokens, kind):
        pass
"""


@pytest.mark.parametrize(
    ("given", "kinds", "count"),
    [
        (["--tb=long"], ("refresh token", "base64"), 32),
        (["--tb=native"], ("JWT", "hex"), 32),
        (["--tb=long", "--full-trace", "-k=account or opened or made or fixture"], ("refresh token",), 5),
    ],
    ids=["long", "native", "full"],
)
def test_no_frame_of_ours_shows_it(
    pytester: pytest.Pytester, given: list[str], kinds: tuple[str, ...], count: int
) -> None:
    """Tracebacks with locals, those of pytest's own frames as well; and the file for CI."""
    pytester.makepyfile(make=MAKE, test_it=SUITE.replace('"kind", KINDS', f'"kind", {kinds!r}'))

    result = pytester.runpytest(*given, "--showlocals", "-rA", "--junitxml=junit.xml")

    counts = result.parseoutcomes()
    assert (counts.get("failed", 0) + counts.get("errors", 0), counts.get("passed")) == (count, None)
    text = result.stdout.str() + result.stderr.str()
    for kind in kinds:
        assert not pieces(SECRETS[kind], text, (pytester.path / "junit.xml").read_text())
        assert f"of {len(SECRETS[kind])} characters]" in text


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row.name)
def test_no_option_repeats_it(pytester: pytest.Pytester, row: Option) -> None:
    """On the command line, and in the ini file; nothing ran, and nothing was written."""
    pytester.makepyfile(test_it="def test_it(): pass")
    for kind in ("refresh token", "base64"):
        secret = SECRETS[kind]
        for given in ([f"{row.flag}={secret}"], [row.flag, secret], ["-o", f"{row.dest}={secret}"]):
            result = pytester.runpytest(*given, "--tb=long", "--showlocals", "--full-trace")
            assert result.ret == pytest.ExitCode.USAGE_ERROR
            assert not pieces(secret, result.stdout.str(), result.stderr.str())


MARKED = """
import pytest
from make import pasted

@pytest.mark.claude_tokens({0}=[pasted("refresh token")])
def test_it(claude_tokens):
    pass
"""


@pytest.mark.parametrize("keyword", ["policy", "allow", "limit", "latency", "accounts", "hosts", "other"])
def test_no_marker_repeats_it(pytester: pytest.Pytester, keyword: str) -> None:
    """Neither where it is refused before anything runs, nor, as in a process of xdist's, in the test's setup."""
    pytester.makepyfile(make=MAKE, test_it=MARKED.format(keyword))
    pytester.makeconftest("")
    early = pytester.runpytest("--tb=long", "--showlocals", "--full-trace")
    assert early.ret == pytest.ExitCode.USAGE_ERROR
    pytester.makeconftest(
        "from pytest_claude_tokens.plugin import options\noptions.check_markers = lambda items: None\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytest_claude_tokens.plugin.marker.check_markers", lambda items: None)
        late = pytester.runpytest("--tb=long", "--showlocals", "--full-trace", "--junitxml=junit.xml")
    late.assert_outcomes(errors=1)
    junit = (pytester.path / "junit.xml").read_text()
    assert not pieces(SECRETS["refresh token"], *(str(run.stdout) + str(run.stderr) for run in (early, late)), junit)
    assert keyword in late.stdout.str()
