"""``claude-tokens demo``: the bug is found, the twin is spared, and either half is missed where it is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pytest_claude_tokens.cli import demo, main
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from pytest_claude_tokens.violations import DoubleSpend


class NoWait(demo.Dispatcher):
    """Does not even wait: breaks in default order."""

    async def bearer(self):
        self.busy = False
        return await super().bearer()


class Broken(demo.Dispatcher):
    """Fails by itself."""

    async def bearer(self):
        raise RuntimeError("no bearer today")


class Idle(demo.Dispatcher):
    """Never asks anybody for anything: nothing is proved."""

    async def bearer(self):
        return self.access


@pytest.fixture
def quick(monkeypatch):
    """A search that will find nothing may end soon."""
    monkeypatch.setattr(demo, "MAX_SCHEDULES", 40)
    monkeypatch.setattr(demo, "TWIN_SCHEDULES", 40)


def test_the_bug_is_found_and_the_twin_is_spared(capsys, tmp_path, monkeypatch):
    """Exit status 0; the story, the figures and the history are those of the searches, in plain ASCII."""
    monkeypatch.chdir(tmp_path)
    assert main.main(["demo", "--history", "history.jsonl"]) == 0

    said = capsys.readouterr().out
    assert said.isascii()
    assert "as a test with a mock would run it, it passes." in said
    assert "class Dispatcher:" in said
    assert "class Repaired(Dispatcher):" in said
    figures = re.search(
        r"^([\d,]+) schedules, \d+ distinct histor(?:y|ies), next new \d+%, \d of \d races? both ways \(\d+\.\d s\)",
        said,
        re.MULTILINE,
    )
    assert figures
    assert int(figures[1].replace(",", "")) >= demo.TWIN_SCHEDULES
    too_wide = [line for line in said.splitlines() if len(line) > 100 and not line.startswith("replay  ")]
    assert too_wide == []
    [first, *_] = judge(History.load("history.jsonl")).violations
    assert isinstance(first, DoubleSpend)
    assert f"claude_tokens.DoubleSpend: {first}\n" in said
    assert os.listdir() == ["history.jsonl"]


@pytest.mark.usefixtures("quick")
def test_without_the_bug_it_fails(capsys):
    """A search that found nothing is not taken for one that did."""
    assert demo.show(demo.Repaired, demo.Repaired) == 1
    said = capsys.readouterr().out
    assert "No double-spend in 40 schedules, " in said
    assert said.endswith("The planted bug was not found, though its repaired twin was spared. This should not be.\n\n")


@pytest.mark.usefixtures("quick")
def test_with_a_twin_that_is_blamed_it_fails(capsys):
    """A twin with a bug of its own is not called sound."""
    assert demo.show(NoWait, NoWait) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "it fails at once, but claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)." in said
    assert re.search(r"next new (\d+%|unknown), .* \(\d+\.\d s\), but claude_tokens\.DoubleSpend: rt#1 by", said)
    assert said.endswith("The planted bug was found, but its repaired twin was not spared. This should not be.")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("dispatcher", "told"), [(Broken, "RuntimeError: no bearer today"), (Idle, "claude_tokens.NothingRaced: ")]
)
def test_what_is_no_double_spend_is_not_taken_for_one(dispatcher, told, capsys):
    """Neither half is content with another failure, and it is told."""
    assert demo.show(dispatcher, dispatcher) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert said.count(f"), but {told}") == 2
    assert said.endswith("was not found, and its repaired twin was not spared. This should not be.")


def test_the_number_of_the_failing_schedule_is_that_of_the_first_failure():
    """The runs that made the failure smaller are not counted into it."""
    result = demo.search(NoWait, 100)
    assert isinstance(result.error, DoubleSpend)
    assert result.found.example == 1
    assert result.found.schedule == DEFAULT_ORDER


def test_a_replay_shows_the_same_story_again(capsys):
    """The token that the demonstration prints, pasted back, leads to the same events."""
    found = demo.search(demo.Dispatcher, demo.MAX_SCHEDULES).found

    assert main.main(["demo", f"--replay={found.token}"]) == 0

    said = capsys.readouterr().out
    assert "The shortest schedule that shows it: " in said
    assert f" --replay={found.token}\n" in said
    again = demo.search(demo.Dispatcher, 1, replay=found.token).found
    assert [e.to_json() for e in again.history] == [e.to_json() for e in found.history]


def test_a_replay_of_a_harmless_schedule_shows_nothing(capsys):
    """Exit status 1: the bug was not shown."""
    token = Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER).token()
    assert main.main(["demo", "--replay", token]) == 1
    assert capsys.readouterr().out.startswith("No double-spend in 1 schedule, 1 distinct history")


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("ct0-AAAA", "'ct0-AAAA' is not a replay token"),
        ("ct1-AAAA", "'ct1-AAAA' is damaged"),
        (Replay(kind="threads", workers=4, schedule=DEFAULT_ORDER).token(), "was made for 4 workers as threads"),
    ],
)
def test_a_token_that_is_not_ours_is_a_usage_error(token, told, capsys):
    """In one sentence that quotes it."""
    assert main.main(["demo", "--replay", token]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("claude-tokens demo: ")
    assert told in said.err
    assert said.err.count("\n") == 1


def test_a_history_that_can_not_be_written_is_told_before_anything_is_searched(capsys, tmp_path):
    """A usage error, at once."""
    assert main.main(["demo", "--history", str(tmp_path / "nowhere" / "x.jsonl")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("claude-tokens demo: ")
    assert said.err.count("\n") == 1


def test_a_history_that_is_not_whole_is_told(capsys, monkeypatch, tmp_path):
    """The disk was full when it was written, after all else was said."""

    def shown(*_, history):
        history.error = "No space left on device"
        return 0

    monkeypatch.setattr(demo, "show", shown)
    path = tmp_path / "h.jsonl"
    assert main.main(["demo", "--history", str(path)]) == 2
    assert capsys.readouterr() == ("", f"claude-tokens demo: {path} is not whole: No space left on device\n")


def test_it_leaves_nothing_behind_and_needs_no_home(tmp_path):
    """As a process in an empty folder with an empty home: it ends well, and both are as empty as before."""
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV", "HYPOTHESIS")) and k != "CI"}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest_claude_tokens", "demo"],
        cwd=here,
        env={**environment, "HOME": str(home), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "claude_tokens.DoubleSpend: rt#1 by " in ended.stdout
    assert [*here.iterdir(), *home.iterdir()] == []


def test_the_replay_line_names_the_program_as_it_was_called(monkeypatch, tmp_path):
    """A script that can be run is called by its path, quoted for a shell; otherwise it is the module."""
    script = tmp_path / "my tools" / "claude-tokens"
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert demo._command() == f"{sys.executable} -m pytest_claude_tokens demo"
    script.parent.mkdir()
    script.touch(mode=0o700)
    assert demo._command() == f"'{script}' demo"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "pytest")])
    assert demo._command() == f"{sys.executable} -m pytest_claude_tokens demo"
