"""`claude-tokens workarounds`: the rows, their verdicts, replays and prices, for a person and as JSON."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from pytest_claude_tokens.cli import main
from pytest_claude_tokens.judge.violations import INVARIANTS
from pytest_claude_tokens.layouts import LAYOUTS
from pytest_claude_tokens.workarounds import issue54999
from pytest_claude_tokens.workarounds.catalogue import BREAKS, BUILT_IN
from pytest_claude_tokens.workarounds.cost import Cost, cost_of
from pytest_claude_tokens.workarounds.registry import named, workaround

MINE = str(Path(__file__).with_name("mine.py"))
EVERYTHING_BUT_STORES = set(INVARIANTS) - {"lost-rotation", "store-regression", "blind-replay"}


@pytest.fixture
def run(capsys):
    """Runs the command; gives its status and what it printed."""

    def run(*arguments):
        status = main.main(["workarounds", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def rows(run, *arguments):
    """The rows by name, and the exit status."""
    status, out, err = run("--json", *arguments)
    assert err == ""
    return status, {row["workaround"]: row for row in json.loads(out)["rows"]}


def test_a_pool_that_lends_and_takes_back_holds_and_a_blind_round_robin_does_not(run):
    """Each "breaks" has a reason and a token that replays it; each "holds" says how hard it was looked for."""
    status, found = rows(run, "--only", "round-robin-tokens", "dispatch-queue", "--schedules", "8")
    assert status == 1
    broken, sound = found["round-robin-tokens"], found["dispatch-queue"]
    assert broken["invariants"]["co-schedule"] == "breaks"
    assert broken["examined"] == sound["examined"] == "simulated"
    assert list(broken["invariants"]) == list(INVARIANTS)
    assert set(broken["replay"]) == {name for name, judged in broken["invariants"].items() if judged == "breaks"}
    assert re.fullmatch(r"ct1-[A-Za-z0-9_-]+", broken["replay"]["co-schedule"])
    assert broken["says"].startswith("breaks co-schedule: w")
    assert broken["says"].endswith(" (3 live logins for 3 workers)")

    assert {name for name, judged in sound["invariants"].items() if judged == "holds"} == EVERYTHING_BUT_STORES
    assert {sound["invariants"][name] for name in ("lost-rotation", "store-regression", "blind-replay")} == {"n/a"}
    assert sound["replay"] == {}
    assert sound["schedules"] == 16
    assert "nothing broke in 16 schedules, " in sound["says"]
    assert "in play: order, delays up to 60 s, 1 live login for 3 workers, 1 expired login" in sound["says"]

    status, out, _ = run("--only", "round-robin-tokens", "--replay", broken["replay"]["co-schedule"])
    assert status == 1
    assert re.search(r"^co-schedule: a\d:at#1 by w\d", out, re.MULTILINE)
    assert run("--only", "checkout-pool", "--replay", broken["replay"]["co-schedule"])[:2] == (
        0,
        "nothing breaks under this schedule\n",
    )


def test_a_plugin_adds_rows_and_a_bug_that_needs_a_wait_is_found(run):
    """With an account for each worker nobody would ever wait: so there is one fewer, too."""
    status, out, err = run("--plugin", MINE, "--only", "impatient", "patient", "--schedules", "8", "--seed", "3")
    assert (status, err) == (1, "")
    head, *lines = out.splitlines()
    assert head.split() == ["workaround", "examined", "schedules", "histories", "p50", "p100", "jobs/min", "verdict"]
    assert lines[0].split()[-2:] == ["breaks", "co-schedule"]
    assert re.fullmatch(r"    co-schedule: w\d began a call on .* \(2 live logins for 3 workers\)", lines[1])
    assert f"workarounds --plugin {MINE} --only impatient --replay ct1-" in lines[2]
    assert lines[3].split()[-1] == "holds"
    assert lines[4].endswith("3 live logins for 3 workers, 2 live logins for 3 workers")  # expired: not its business
    token = lines[2].split()[-1]
    assert run("--plugin", MINE, "--only", "impatient", "--replay", token)[0] == 1


def test_the_same_seed_makes_the_same_table(run):
    """To the letter, and it is told which."""
    arguments = ("--json", "--only", "patient", "--plugin", MINE, "--schedules", "6", "--seed", "7")
    first, second = (run(*arguments)[1] for _ in range(2))
    assert first == second
    assert json.loads(first)["seed"] == 7


def test_a_dispatcher_that_fails_by_itself_has_no_verdict(run):
    """An exception of the user's is not taken for a pass: status 3."""

    @workaround("broken", accounts=1)
    class Broken:
        def __init__(self, accounts):
            pass

        async def call(self):
            raise RuntimeError("no bearer today")

    status, found = rows(run, "--only", "broken", "--schedules", "4")
    assert status == 3
    assert set(found["broken"]["invariants"].values()) == {"unknown"}
    assert found["broken"]["says"] == "no verdict: RuntimeError: no bearer today (1 live login for 3 workers)"
    assert found["broken"]["latency"] == {"p50": None, "p100": None}
    assert found["broken"]["throughput"] is None
    status, out, _ = run("--only", "broken", "--schedules", "2")
    assert status == 3
    assert "    no verdict: RuntimeError: no bearer today" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "nine"], "no workaround is named 'nine'"),
        (["--plugin", "there-is-none.py"], "is no Python file"),
        (["--replay", "ct1-x"], "name it with --only"),
        (["--only", "none", "--replay", "ct1-x"], "damaged"),
        (["--seed", "x"], "must be a whole number"),
    ],
)
def test_a_wrong_command_line_is_said_and_nothing_is_examined(run, arguments, says):
    """Status 2."""
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert says in err


def test_colours_are_for_terminals(run, monkeypatch):
    """And for those who don't object."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[32mholds\033[0m" in run("--only", "dispatch-queue", "--schedules", "2")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in run("--only", "dispatch-queue", "--schedules", "2")[1]


# What it costs.

FREE, SHARED, QUEUED = (
    Cost(p50=6, p100=6, throughput=30),
    Cost(p50=12, p100=14, throughput=14.21),
    Cost(p50=18, p100=18, throughput=10),
)
COSTS = dict.fromkeys(BUILT_IN, SHARED) | {
    "round-robin-tokens": FREE,
    "token-per-worker": FREE,
    "checkout-pool": FREE,
    "dispatch-queue": QUEUED,
    "flock-wrapper": QUEUED,
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_each_costs(name):
    """A token for each is free; sharing one bearer is cheaper than a queue, since calls overlap by 2 of 6 s."""
    assert cost_of(named(name)) == COSTS[name]


def test_the_two_tables_of_the_issue(run):
    """The reported ranges, from a model that says so."""
    status, out, _ = run("--issue-54999", "--json", "--seed", "5")
    assert status == 0
    found = json.loads(out)
    same, distinct = found["same_token"], found["distinct_tokens"]
    assert len(same) == len(distinct) == 10
    assert all(5.7 < trial["a"] < 8.3 and 9 < trial["b"] < 15.7 for trial in same)
    assert 3 < sum(trial["b"] - trial["a"] for trial in same) / 10 < 5
    assert all(7.5 < time < 8.5 for trial in distinct for time in trial.values())
    assert "model" in found["note"]
    text = "\n".join(issue54999.text(found))
    assert text.count("slower by") == 2
    assert "nothing here was measured on the real service" in text


# All of it.


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(10))
def test_the_table_is_right_on_every_seed(run, seed):
    """What breaks breaks every time, and what is sound never does."""
    status, found = rows(run, "--seed", str(seed), "--only", *BUILT_IN)
    assert status == 1
    assert list(found) == list(BUILT_IN)
    assert {name for name, row in found.items() if "breaks" in row["invariants"].values()} == set(BREAKS)
    assert not any("unknown" in row["invariants"].values() for row in found.values())
    spent = {name for name, row in found.items() if row["invariants"]["double-spend"] == "breaks"}
    assert spent == {"none", "container-home", "copied-credentials", "symlinked-file"}
    assert {name for name in found if LAYOUTS.get(name)} == {
        name for name, row in found.items() if row["examined"] == "processes"
    }
    for name, row in found.items():
        for token in set(row["replay"].values()):
            assert run("--only", name, "--replay", token)[0] == 1, name
