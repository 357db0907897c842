"""``claude-tokens check``: the verdict on a file, for people and for programs, and what it says of a bad one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fake_server.tokens import TOKEN
from pytest_claude_tokens.cli import check as check_command
from pytest_claude_tokens.cli import main
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.report.story import story

FOLDER = Path(__file__).parents[1] / "histories"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
NAMES = sorted(EXPECTED)


def check(*arguments) -> int:
    return main.main(["check", *map(str, arguments)])


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_is_the_one_that_was_recorded(name, capsys):
    """Exit status and last line agree with the golden verdict; headlines and notes are all there, in plain ASCII."""
    expected = EXPECTED[name]

    assert check(FOLDER / name) == expected["exit_status"]

    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.isascii()
    lines = said.out.splitlines()
    assert lines[-1].startswith(f"{expected['state']}: ")
    for violation in expected["violations"]:
        assert violation.partition(": ")[2] in said.out
    assert [line[6:] for line in lines if line.startswith("note: ")] == expected["notes"]
    assert max(len(line) for line in lines if not line.startswith("note: ")) <= 100


def test_what_is_allowed_is_noted(capsys):
    """As a run may be told to allow it; what its own header allows stays allowed, and an unknown name is a mistake."""
    assert check(FOLDER / "double-spend-overlap.jsonl", "--allow", "double-spend", "--allow", "forced-login") == 0
    assert "note: double-spend: rt#1 by w0 (#2) and w1 (#3): allowed" in capsys.readouterr().out
    assert check(FOLDER / "double-spend-allowed.jsonl", "--allow", "starvation") == 0
    assert check(FOLDER / "double-spend-overlap.jsonl", "--allow", "double-spending") == 2
    assert "no invariant is named 'double-spending'; they are double-spend," in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_json_says_the_same(name, capsys):
    """One object with the verdict, the violations in their order, and the notes."""
    expected = EXPECTED[name]

    assert check(FOLDER / name, "--json") == expected["exit_status"]

    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == expected["state"]
    assert [f"{found['invariant']}: {found['headline']}" for found in said["violations"]] == expected["violations"]
    assert [note["text"] for note in said["notes"]] == expected["notes"]
    history = History.load(FOLDER / name)
    assert said["torn"] is history.torn
    assert (said["events"], said["requests"]) == (len(history), len(history.operations))
    assert {found["seq"] for found in said["violations"]} <= {event.seq for event in history}


@pytest.mark.parametrize("name", ["double-spend-overlap.jsonl", "co-schedule.jsonl"])
def test_a_long_history_is_told_in_the_same_words(name, capsys, monkeypatch):
    """Of a file that is long, what is told, and the numbers, are those of the whole."""
    check(FOLDER / name, "--json")
    short = capsys.readouterr().out
    loads = []
    monkeypatch.setattr(check_command, "_LONG", 100)
    monkeypatch.setattr(History, "load", loads.append)
    check(FOLDER / name, "--json")

    assert capsys.readouterr().out == short
    assert loads == []


def test_a_violation_as_json_carries_what_a_program_needs(capsys):
    """Names, numbers, labels."""
    check(FOLDER / "double-spend-overlap.jsonl", "--json")

    assert json.loads(capsys.readouterr().out)["violations"] == [
        {
            "invariant": "double-spend",
            "exception": "claude_tokens.DoubleSpend",
            "headline": "rt#1 by w0 (#2) and w1 (#3)",
            "seq": 3,
            "at_end": False,
            "grant": "g#1",
            "tokens": ["rt#1"],
            "workers": ["w0", "w1"],
            "requests": [2, 3],
            "cause": "overlap: w1 sent rt#1 while w0's request #2 with it was open",
        }
    ]


def test_a_note_as_json_says_what_it_is_about(capsys):
    """What was allowed names its invariant, what is torn has none."""
    check(FOLDER / "double-spend-allowed.jsonl", "--json")
    allowed = json.loads(capsys.readouterr().out)["notes"]
    assert {"allowed"} == {note["why"] for note in allowed}
    assert "double-spend" in {note["invariant"] for note in allowed}

    check(FOLDER / "torn-before-anything-happened.jsonl", "--json")
    torn = json.loads(capsys.readouterr().out)
    assert [(note["why"], note["invariant"]) for note in torn["notes"]] == [("torn", None)]
    assert torn["torn"]


def test_people_read_headline_story_and_verdict(capsys):
    """In this order, and the story is that of a report."""
    check(FOLDER / "double-spend-overlap.jsonl")

    said = capsys.readouterr().out
    history = History.load(FOLDER / "double-spend-overlap.jsonl")
    told = story(history, judge(history).violations[0])
    assert said == (
        f"claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)\n\n{told}\n\nINVALID: 2 requests, 1 violation\n"
    )


@pytest.mark.parametrize(
    ("name", "status"), [("torn-before-anything-happened.jsonl", 3), ("torn-after-a-violation.jsonl", 1)]
)
def test_a_torn_history_is_called_torn(name, status, capsys):
    """What came before the tear is judged; without a violation there, nobody knows."""
    assert check(FOLDER / name) == status
    assert capsys.readouterr().out.rstrip().endswith(", torn")


def test_valid_is_one_line(capsys):
    """Where there is nothing to tell, nothing is told."""
    assert check(FOLDER / "refreshed-when-due.jsonl") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_verdict_that_cannot_be_written_is_told(options, capsys, monkeypatch):
    """A verdict that nobody has seen is none: neither 0 nor 1, but one sentence and 2."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert check(FOLDER / "double-spend-overlap.jsonl", *options) == 2
    monkeypatch.setattr(sys, "stdout", None)
    assert check(FOLDER / "refreshed-when-due.jsonl", *options) == 2
    says = "claude-tokens check: standard output can't be written:"
    assert capsys.readouterr().err == f"{says} No space left on device\n{says} it is closed\n"


# What is no history.


def refused(capsys, path, *options) -> str:
    """The one sentence that ``check`` has for ``path``."""
    assert check(path, *options) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("claude-tokens check: ")
    return said.err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_missing_file_is_told_in_one_sentence(options, capsys, tmp_path):
    """With its name."""
    assert "nowhere.jsonl can't be read: No such file or directory" in refused(
        capsys, tmp_path / "nowhere.jsonl", *options
    )


def test_a_folder_is_told_in_one_sentence(capsys, tmp_path):
    """A folder is not read."""
    assert "can't be read: Is a directory" in refused(capsys, tmp_path)


def test_a_file_that_may_not_be_read_is_told_in_one_sentence(capsys, tmp_path, monkeypatch):
    """Whatever the system's reason is, it is told. A socket can't be opened even by root."""
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert "s can't be read: No such device or address" in refused(capsys, "s")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"hello\n", "line 1 is not JSON"),
        (b"\xff\xfe\x00\n", "line 1 is not JSON"),
        (b"[1]\n", "line 1 is not an event"),
        (b'{"v":2}\n', "line 1 is not an event"),
        (b"[" * 100_000, "line 1 is not an event"),
        (b'{"v":1,"seq":1,"t":0,"actor":"w0","type":"note","f":"x"}\n', "line 1 is not the header"),
    ],
)
def test_what_is_no_history_is_told_in_one_sentence(text, said, capsys, tmp_path):
    """With the line, and what is wrong there."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(text)
    assert said in refused(capsys, path)


def test_a_name_that_is_no_text_is_told_all_the_same(capsys, tmp_path):
    """A file may be named by any bytes; the last line and the sentence are ASCII."""
    path = os.fsencode(tmp_path) + b"/\xff.jsonl"
    name = os.fsdecode(path)
    assert main.main(["check", name]) == 2
    shutil.copy(FOLDER / "double-spend-overlap.jsonl", name)
    assert main.main(["check", name]) == 1


# Whatever the file holds.

LINES = [
    json.loads(line)
    for name in NAMES
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()
    if line.endswith("}")
]
FIELDS = sorted({field for line in LINES for field in line})
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)


@given(
    name=st.sampled_from(NAMES),
    changes=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(FIELDS), VALUES), max_size=4),
    as_json=st.booleans(),
)
@example(name="token-leak.jsonl", changes=[(0, "policy", {"name": ["x"]})], as_json=False)
@example(name="double-spend-overlap.jsonl", changes=[(0, "policy", ["x"]), (0, "clock", 7)], as_json=False)
@example(name="double-spend-overlap.jsonl", changes=[(0, "allow", 7)], as_json=True)
@example(name="co-schedule.jsonl", changes=[(3, "actor", "\u2028\ud800")], as_json=False)
def test_no_file_leads_to_a_traceback(tmp_path_factory, name, changes, as_json):
    """A history with any field changed is judged or refused, with a status that says which."""
    lines = [line for line in (FOLDER / name).read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    events = [json.loads(line) for line in lines]
    for number, field, value in changes:
        events[number % len(events)][field] = value
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    assert check(path, *(["--json"] if as_json else [])) in (0, 1, 2, 3)


def test_a_story_that_can_not_be_told_leaves_the_verdict_standing(monkeypatch, capsys):
    """Should the report stumble over a file by another hand, headline, reason and verdict are printed all the same."""

    def stumble(*_, **__):
        raise KeyError("op")

    monkeypatch.setattr("pytest_claude_tokens.report.verdict.story", stumble)
    assert check(FOLDER / "double-spend-overlap.jsonl") == 1
    assert capsys.readouterr().out.splitlines() == [
        "claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)",
        "",
        "The story can't be told: KeyError: 'op'",
        "",
        "INVALID: 2 requests, 1 violation",
    ]


def test_no_recorded_history_tells_a_token(capsys):
    """Labels only, in either form."""
    for name in NAMES:
        check(FOLDER / name)
        check(FOLDER / name, "--json")
    assert TOKEN.search(capsys.readouterr().out) is None
