"""The catalogue of known failures: each breaks its invariant, and its twin survives; the command that plays one."""

from __future__ import annotations

import json

import pytest

from pytest_claude_tokens.cli import main
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.judge.violations import INVARIANTS, Unknown
from pytest_claude_tokens.scenarios.agent import Refused
from pytest_claude_tokens.scenarios.catalogue import SCENARIOS
from pytest_claude_tokens.scenarios.registry import Scenario, named
from tests.unit.scenarios import page

CATALOGUE = [
    *(f"R{number}" for number in range(1, 13)),
    "F1",
    *(f"W{number}" for number in range(1, 10)),
    *(f"N{number}" for number in range(1, 9)),
    *(f"S{number}" for number in range(1, 8)),
    *(f"T{number}" for number in range(1, 6)),
    *(f"C{number}" for number in range(1, 7)),
    "M1",
    "M2",
]


def test_the_catalogue_is_complete():
    """Every row of it has a scenario; what can't be had on one machine names its stand-in."""
    assert sorted(SCENARIOS) == sorted(CATALOGUE)
    assert {one.breaks for one in SCENARIOS.values()} <= set(INVARIANTS)
    assert all(one.title and one.seen_in and one.breaks not in one.allow for one in SCENARIOS.values())
    assert {"R11", "W1", "W3", "W8", "F1"} <= {name for name, one in SCENARIOS.items() if one.stand_in}
    assert named("r4") is SCENARIOS["R4"]


@pytest.mark.skipif(not page.DOCUMENT.exists(), reason="docs/ is not installed; run this in a checkout")
def test_the_page_lists_them():
    """As the catalogue has them."""
    again = "docs/scenarios.md is out of date; run: python -m tests.unit.scenarios.page"
    assert page.DOCUMENT.read_text(encoding="utf-8") == page.made(), again


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_breaks_its_invariant_and_the_twin_survives(name):
    """The twin's workers did race, and nothing broke: its success is one."""
    one = SCENARIOS[name]
    assert one.breaks in [violation.invariant for violation in one.broken(one.run())]
    twin = one.run(twin=True)
    assert (twin.error, twin.mild) == (None, None)
    assert twin.raced


def test_it_is_the_same_every_time():
    """Reproducible by name: no choice is left to chance."""
    first, second = (SCENARIOS["R4"].run().lines() for _ in range(2))
    assert first == second


@pytest.fixture
def run(capsys):
    """Runs the command; gives its status and what it printed."""

    def run(*arguments):
        status = main.main(["scenario", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_the_command_tells_the_story_and_spares_the_twin(run, tmp_path):
    """Status 1 and the story, with its history on disk; with --twin, status 0."""
    status, out, err = run("R9", "--history", str(tmp_path / "history.jsonl"))
    assert (status, err) == (1, "")
    assert out.startswith("R9: containers share the store, and each has its lock in a private home\na stand-in: ")
    assert "\ndouble-spend: rt#1 by w0 (#3) and w1 (#4)\n\nagain  " in out
    assert judge(History.load(str(tmp_path / "history.jsonl"))).exit_status == 1
    status, out, _ = run("r9", "--twin")
    assert status == 0
    assert out.endswith("the twin survives it: no invariant broke\n")


def test_the_list_and_json(run):
    """All scenarios, one a line; and as JSON what a program asks for."""
    status, out, _ = run()
    assert status == 0
    assert len(out.splitlines()) == len(CATALOGUE)
    assert "R4   double-spend      who has waited 7.5 s for the lock goes on without it\n" in out
    assert [one["name"] for one in json.loads(run("--json")[1])["scenarios"]] == list(SCENARIOS)
    status, out, _ = run("C1", "--json")
    found = json.loads(out)
    assert (status, found["breaks"], found["broken"][0]["invariant"]) == (1, "co-schedule", "co-schedule")


def test_what_can_t_be_told_and_what_did_not_break(run, monkeypatch):
    """An error that is no violation is no pass: status 3."""

    async def passes(tokens, workers, sound):
        pass

    async def fails(tokens, workers, sound):
        raise Unknown("stuck")

    for name, body, status, says in (
        ("P1", passes, 0, "no invariant broke\n"),
        ("P2", fails, 3, "no verdict: Unknown: stuck\n"),
    ):
        one = Scenario(name=name, title="t", breaks="double-spend", body=body, seen_in="a test")
        monkeypatch.setitem(SCENARIOS, name, one)
        assert run(name)[:2] == (status, f"{name}: t\nseen in a test\n\n{says}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["R99"], "no scenario is named 'R99'; choose one of "), (["--nine"], "unrecognized arguments")],
)
def test_a_wrong_command_line_is_said(run, arguments, says):
    """Status 2."""
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert says in err


def test_a_refusal_says_what_it_was():
    """Its status and its code, and no more."""
    assert str(Refused(400, "invalid_grant")) == "400 invalid_grant"
