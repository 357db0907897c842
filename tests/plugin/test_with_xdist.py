"""Several workers of xdist: what each has found reaches the controller, its files, and the reports of other plugins."""

from __future__ import annotations

import html
import json
import re
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from pytest_claude_tokens.plugin import pytest_internals
from pytest_claude_tokens.plugin.pytest_internals import Terminal
from pytest_claude_tokens.plugin.xdist import plain_id
from pytest_claude_tokens.report import progress
from tests.plugin.logins import BAD, SOUND
from tests.plugin.test_report import HEADLINE

SUITE = """
import os, pytest
from pool import *

@pytest.mark.xdist_group("one")
def test_bad(claude_tokens):
    spend_twice(claude_tokens)

@pytest.mark.xdist_group("three")
def test_crashes(claude_tokens, request):
    spend_once(claude_tokens)
    if hasattr(request.config, "workerinput") and not os.path.exists("dead"):
        open("dead", "x").close()  # xdist may give the test to another worker
        request.getfixturevalue("claude_shared_server").login("of-the-dead")
        os._exit(7)

@pytest.mark.xdist_group("two")
@pytest.mark.parametrize("n", range(3))
def test_good(claude_tokens, n):
    spend_once(claude_tokens)
"""


def junit(path):
    """The properties of each test in a JUnit file."""
    return {
        case.get("name"): [(one.get("name"), one.get("value")) for one in case.iter("property")]
        for case in ET.parse(path).iter("testcase")
    }


def check_properties(pairs, test):
    """A violation, the way to see it again, and where its history is."""
    names = [name for name, _ in pairs]
    assert names == ["claude_tokens", "claude_tokens.replay", "claude_tokens.folder"]
    assert pairs[0][1] == HEADLINE
    assert pairs[1][1].endswith(f'pytest "test_it.py::{test}"')
    assert pairs[2][1].startswith(f".claude-tokens/{test}-")


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_several_workers_of_which_one_dies(pytester, monkeypatch, workers):
    """What was found, before the crash or after, is told, written and counted; so is what a shared server was asked."""
    pytest.importorskip("pytest_html")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # a worker starts faster
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_claude_tokens.plugin -p no:cacheprovider")
    pytester.makepyfile(test_it=SUITE)
    result = pytester.runpytest_subprocess(
        *("-p", "xdist", "-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin"),
        *(f"-n{workers}", "--dist", "loadgroup", "--max-worker-restart=0"),
        "--claude-tokens-shared-server=anthropic",
        *("--junitxml=junit.xml", "--html=report.html", "--self-contained-html"),
    )

    assert result.parseoutcomes()["failed"] == 2  # how much of the rest is run, is up to xdist
    result.stdout.fnmatch_lines("worker 'gw?' crashed while running 'test_it.py::test_crashes*'")
    result.stdout.fnmatch_lines(
        [
            "=* claude-tokens =*",
            "claude-tokens: * tests, 1 violation",
            "  test_it.py::test_bad",
            f"    {HEADLINE}",
            "    replay  *",
            "    see     .claude-tokens/test_bad*/",
        ]
    )
    shared, folder = sorted(path for path in pytester.path.joinpath(".claude-tokens").iterdir() if path.is_dir())
    assert '"account":"of-the-dead"' in (shared / "history.jsonl").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["history.jsonl", "timeline.html"]
    found = {name.partition("@")[0]: pairs for name, pairs in junit("junit.xml").items()}
    check_properties(found["test_bad"], "test_bad")
    assert not any(found[name] for name in found if name.startswith(("test_good", "test_it.py")))
    report = (pytester.path / "report.html").read_text()
    assert "DoubleSpend" in report
    (data,) = re.findall(r'data-jsonblob="([^"]*)"', report)
    tests = json.loads(html.unescape(data))["tests"]
    embedded = [extra["content"] for runs in tests.values() for run in runs for extra in run["extras"]]
    assert len(embedded) == 1
    assert (folder / "timeline.html").read_text() in html.unescape(embedded[0])


def test_without_workers_it_is_the_same(pytester):
    """`-n0`: what is told doesn't depend on where a test ran."""
    pytester.makepyfile(test_it=SUITE)
    result = pytester.runpytest("-n0", "--junitxml=junit.xml", "-p", "no:html")

    result.assert_outcomes(failed=1, passed=4)
    result.stdout.fnmatch_lines(["claude-tokens: 5 tests, 1 violation", "  test_it.py::test_bad", f"    {HEADLINE}"])
    check_properties(junit("junit.xml")["test_bad"], "test_bad")


def test_a_search_says_how_hard_it_looked(explored, monkeypatch):
    """In the JUnit file, whether it found something or not; and with -v on a terminal, as it goes on."""
    written = []
    monkeypatch.setattr(pytest_internals, "terminal", lambda config: Terminal(written.append, lambda: 80))
    monkeypatch.setattr(progress, "_FIRST_SECONDS", 0)
    monkeypatch.setattr(progress, "_INTERVAL_SECONDS", 0)

    explored(SOUND + BAD, "--junitxml=junit.xml", "-v").assert_outcomes(passed=1, failed=1)

    found = {name: dict(pairs) for name, pairs in junit("junit.xml").items()}
    assert int(found["test_sound"]["claude_tokens.schedules"]) > 1
    assert int(found["test_sound"]["claude_tokens.histories"]) > 0
    assert int(found["test_bad"]["claude_tokens.schedules"]) > 0
    assert "--claude-tokens-replay=ct1-" in found["test_bad"]["claude_tokens.replay"]
    assert written[0].startswith("\x1b7\x1b[K 1 schedule, ")
    assert written[-1] == "\x1b[K"
    assert len(written) > int(found["test_sound"]["claude_tokens.schedules"])


@pytest.mark.parametrize(
    ("marks", "on", "nodeid", "typed"),
    [
        ([pytest.mark.xdist_group("b"), pytest.mark.xdist_group(name="a")], True, "t.py::test@x@a_b", "t.py::test@x"),
        ([pytest.mark.xdist_group], True, "t.py::test@default", "t.py::test"),
        ([pytest.mark.xdist_group("b")], True, "t.py::test", "t.py::test"),
        ([pytest.mark.xdist_group("b")], False, "t.py::test[@b]", "t.py::test[@b]"),
        ([], True, "t.py::test[a@b]", "t.py::test[a@b]"),
    ],
)
def test_a_test_is_named_as_one_types_it(marks, on, nodeid, typed):
    """`--dist loadgroup` puts the groups behind a test's id, where no shell line that runs it again may have them."""
    config = SimpleNamespace(option=SimpleNamespace(loadgroup=on))
    item = SimpleNamespace(config=config, nodeid=nodeid, iter_markers=lambda name: (one.mark for one in marks))
    assert plain_id(item) == typed
