"""A history that was cut, at whatever place, is never called valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_server.core.journal import lines
from pytest_claude_tokens.judge import History, judge
from pytest_claude_tokens.report.evidence import Evidence
from pytest_claude_tokens.report.folder import save

GOLDEN = sorted((Path(__file__).parents[2] / "histories").glob("*.jsonl"))
VALID = [path for path in GOLDEN if judge(History.load(path)).state == "VALID"]
INVALID = [path for path in GOLDEN if judge(History.load(path)).state == "INVALID"]


def as_saved(path: Path, folder: Path) -> Path:
    """The file that a failure with that history leaves."""
    return save(folder, "test", Evidence(history=History.load(path)))[0] / "history.jsonl"


def verdict(path: Path) -> str:
    """As ``check`` tells it."""
    return judge(History.load(path)).state if path.stat().st_size else "none"


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_what_is_saved_ends_in_a_line_that_says_so(golden: Path, tmp_path: Path) -> None:
    """The verdict on the saved file is that on the history; nothing may follow the end, and nothing may be missing."""
    saved, history = as_saved(golden, tmp_path), History.load(golden)
    again = History.load(saved)

    assert again.events[-1].f == "end"
    assert again.header.get("ends") is True
    assert [event.to_json() for event in again.events[: len(history)]] == [event.to_json() for event in history]
    if not history.torn:
        assert [str(one) for one in judge(again).violations] == [str(one) for one in judge(history).violations]
        assert judge(again).state == judge(history).state


@pytest.mark.parametrize("golden", [*VALID, *INVALID], ids=lambda path: path.stem)
def test_a_history_that_was_cut_between_two_lines_is_torn(golden: Path, tmp_path: Path) -> None:
    """Whatever the lines before the cut tell."""
    saved = as_saved(golden, tmp_path)
    whole = saved.read_bytes().splitlines(keepends=True)
    for count in range(len(whole)):
        saved.write_bytes(b"".join(whole[:count]))
        assert verdict(saved) in ("UNKNOWN", "none", "INVALID" if golden in INVALID else "")


@pytest.mark.parametrize("golden", [VALID[0], INVALID[0]], ids=lambda path: path.stem)
@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_history_that_was_cut_anywhere_is_torn(golden: Path, tmp_path: Path, step: int) -> None:
    """In the middle of a line, too; only the line break after the last line may be missing."""
    saved = as_saved(golden, tmp_path)
    whole = saved.read_bytes()
    verdicts = []
    for count in range((len(whole) - 1) % step, len(whole), step):
        saved.write_bytes(whole[:count])
        verdicts.append(verdict(saved))

    assert "VALID" not in verdicts[:-1]
    assert verdicts[-1] == judge(History.load(golden)).state


def test_nothing_may_follow_the_end(tmp_path: Path) -> None:
    """Two histories in one file, as two writers would leave them, are none."""
    saved = as_saved(VALID[0], tmp_path)
    header, *events = lines(History.load(VALID[0]).header, History.load(VALID[0]).events)
    more = events[0].replace('"seq":1,', '"seq":99,')
    saved.write_text("".join([header, *events, more]))

    assert verdict(saved) == "UNKNOWN"
