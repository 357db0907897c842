"""The story of anthropics/claude-code#54999: prompts on one token wait for each other, prompts on two don't.

Judged by the journal: what a clock on the wall says is the machine's business, too.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from fake_server.core.hold import Hold
from pytest_claude_tokens.cli import run as running
from pytest_claude_tokens.judge.history import History

EXAMPLE = Path(__file__).parents[2] / "examples" / "issue-54999"
SCRIPT = EXAMPLE / "repro.sh"
TOGETHER = "claude -p 'Reply: A' </dev/null & claude -p 'Reply: B' </dev/null & wait"
S = 0.1
PATIENCE = 60.0

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@dataclass
class Ended:
    """What is left of a run."""

    status: int
    out: str
    err: str
    history: History

    @property
    def calls(self):
        """The calls, in pairs: the trials, as they were started."""
        calls = [op for op in self.history.operations if op.f == "call"]
        return list(zip(calls[::2], calls[1::2], strict=True))

    @property
    def waited(self):
        """Seconds in the gate by the number of the operation."""
        return {event.op: event.get("waited") for event in self.history.noted("queue")}


@pytest.fixture
def run(capfd, monkeypatch):
    """A run in this process, in which those who are started together arrive together, however busy the machine is."""
    made = []

    def call(*arguments, together=2):
        class Overlapping(running.ClaudeTokens):
            def open(self):
                server = self.server
                server.holds.append(Hold("call", together))

                def look(event):
                    if event.f == "call" and event.type == "ok" and not server.open:
                        server.holds[:] = [Hold("call", together)]

                server.journal.observers.append(look)
                made.append(self)
                return super().open()

        monkeypatch.setattr(running, "ClaudeTokens", Overlapping)
        capfd.readouterr()
        status = running.main([str(argument) for argument in arguments])
        return Ended(status, *capfd.readouterr(), made[-1].history.taken())

    return call


def test_the_script_of_the_document(run):
    """Ten and ten trials: in each of the first, one waits for the other; each is told; in the others, nobody waits."""
    ended = run("--token", "TOKEN_A", "--token", "TOKEN_B", "--serialize", S, "--", "bash", SCRIPT)

    assert ended.status == 1
    assert ended.out.count("one token, trial ") == ended.out.count("two tokens, trial ") == 10
    one, two = ended.calls[:10], ended.calls[10:]
    assert len(two) == 10
    for pair in one:
        assert {op.account for op in pair} == {"TOKEN_A"}
        fast, slow = sorted(pair, key=lambda op: op.op in ended.waited)
        assert fast.op not in ended.waited
        assert ended.waited[slow.op] > S / 2
        assert slow.end.t - fast.end.t > S / 2  # slower by S
    for pair in two:
        assert {op.account for op in pair} == {"TOKEN_A", "TOKEN_B"}
        assert not {op.op for op in pair} & set(ended.waited)
        assert pair[1].opened < pair[0].closed  # they did meet, but not on one bearer
    lines = [line for line in ended.err.splitlines() if line.startswith("  overlap ")]
    assert [line.split()[1:3] for line in lines] == [[str(number), "TOKEN_A:at#1"] for number in range(1, 11)]
    for line, (first, second) in zip(lines, one, strict=True):
        assert f"  {first.actor} " in line
        assert f"; {second.actor} " in line
        assert line.count(", waited 0.") == 1


def test_each_trial_is_a_violation_and_the_others_are_none(run, tmp_path, capfd):
    """The verdict is co-schedule, once for each trial on one token; the file says so, too."""
    import json

    from pytest_claude_tokens.cli import check

    history = tmp_path / "history.jsonl"
    script = f"TRIALS=3 bash {shlex.quote(str(SCRIPT))}"
    run("--token", "TOKEN_A", "--token", "TOKEN_B", "--serialize", S, "--history", history, "--", "sh", "-c", script)

    assert check.main([str(history), "--json"]) == 1
    found = json.loads(capfd.readouterr().out)["violations"]
    assert [one["invariant"] for one in found] == ["co-schedule"] * 3
    assert {tuple(one["tokens"]) for one in found} == {("TOKEN_A:at#1",)}
    workers = [worker for one in found for worker in one["workers"]]
    assert len(set(workers)) == 6
    assert all(before["seq"] < after["seq"] for before, after in pairwise(found))


def test_the_half_on_two_tokens_is_valid(run):
    """No gap: nobody has waited, and there is nothing to tell apart."""
    script = f"TRIALS=3 bash {shlex.quote(str(SCRIPT))} two"
    ended = run("--token", "TOKEN_A", "--token", "TOKEN_B", "--serialize", S, "--", "sh", "-c", script)

    assert (ended.status, ended.err) == (0, "claude-tokens: VALID, 6 requests\n")
    assert ended.waited == {}


def test_as_a_user_runs_it():
    """As processes, with nothing in between; who is started together meets."""
    command = [sys.executable, "-m", "pytest_claude_tokens", "run", "--token", "TOKEN_A", "--token", "TOKEN_B"]
    script = f"TRIALS=1 bash {shlex.quote(str(SCRIPT))}"
    done = subprocess.run(
        [*command, "--serialize", "1", "--", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        check=False,
    )

    assert done.returncode == 1, done
    assert done.stderr.startswith(
        "claude-tokens: INVALID, 4 requests: claude_tokens.CoSchedule: TOKEN_A:at#1 by sessio.."
    )
    assert (
        "claude-tokens: calls of several workers overlapped on one bearer 1 time\n  overlap  1  TOKEN_A:at#1  session-"
        in done.stderr
    )
    assert "sk-ant" not in done.stdout + done.stderr


def test_the_login_in_the_folder_is_served_as_the_token_in_the_environment_is(run):
    """The document's other path: `.credentials.json`. The bearer counts, not where it came from."""
    ended = run("--serialize", S, "--", "sh", "-c", TOGETHER)

    assert ended.status == 1
    (pair,) = ended.calls
    assert [op.account for op in pair] == ["a1", "a1"]
    assert [seconds > S / 2 for seconds in ended.waited.values()] == [True]
    assert "  overlap  1  at#1  " in ended.err


def test_of_many_on_one_token_all_but_the_first_are_slow(run):
    """Each waits for one more."""
    script = "for i in 1 2 3 4; do claude -p hi </dev/null & done; wait"
    ended = run("--serialize", S, "--", "sh", "-c", script, together=4)

    waits = sorted(ended.waited.values())
    assert len(waits) == 3
    assert all(later - earlier > S / 2 for earlier, later in pairwise([0.0, *waits]))


def test_one_after_the_other_is_the_workaround(run):
    """Calls that are serialized at the dispatch layer meet nobody: valid, and nobody waits in the service."""
    script = "claude -p hi </dev/null; claude -p hi </dev/null"
    ended = run("--serialize", S, "--", "sh", "-c", script, together=1)

    assert (ended.status, ended.waited) == (0, {})


def test_the_line_of_the_example_can_be_pasted(run, monkeypatch):
    """Its README says how."""
    monkeypatch.chdir(EXAMPLE.parents[1])
    monkeypatch.setenv("TRIALS", "1")
    (line,) = [
        line
        for line in (EXAMPLE / "README.md").read_text().splitlines()
        if line.startswith("claude-tokens run") and line.endswith(".sh")
    ]
    arguments = shlex.split(line)[2:]
    arguments[arguments.index("--serialize") + 1] = str(S)

    assert run(*arguments).status == 1
