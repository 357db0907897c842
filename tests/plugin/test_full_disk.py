"""What can't be written is told, leaves nothing half made behind, and takes no verdict's place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from pytest_claude_tokens import ClaudeTokens, explore
from pytest_claude_tokens.plugin import shared
from pytest_claude_tokens.report import folder
from pytest_claude_tokens.report.evidence import Evidence
from tests.unit.explore.common import search, unsound


def test_what_cannot_be_written_is_told_in_the_report(pytester):
    """By name; the folder is told with what is in it. A folder in a file's place is in the way of the last step."""
    root = pytester.path / ".claude-tokens"
    for test, name in (("test_no_page", "timeline.html"), ("test_no_history", "history.jsonl")):
        (root / folder.folder_name(f"test_it.py::{test}") / name).mkdir(parents=True)
    pytester.makepyfile(
        test_it="""
        from pool import spend_twice
        def test_no_page(claude_tokens):
            spend_twice(claude_tokens)
        def test_no_history(claude_tokens):
            spend_twice(claude_tokens)
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*DoubleSpend*",
            ".claude-tokens/test_no_page-*/  history.jsonl",
            "no timeline.html was written: Is a directory",
            "*DoubleSpend*",
            "no history was written: Is a directory",
        ]
    )
    assert [path.name for path in root.rglob(".*") if path.is_file()] == [".gitignore"]


def test_a_full_disk_leaves_no_half_made_file_and_none_of_an_earlier_failure(tmp_path, monkeypatch):
    """A picture of another history beside this one would be a false word."""
    with ClaudeTokens() as tokens:
        known = Evidence(history=tokens.history.taken(), files={"timeline.html": "the picture"})
    where, missing = folder.save(tmp_path, "test_it", known)
    assert (sorted(path.name for path in where.iterdir()), missing) == (["history.jsonl", "timeline.html"], {})

    write = Path.write_text

    def full(path: Path, text: str, **how: str) -> int:
        write(path, text[:3], **how)
        if text == "the picture":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, text, **how)

    monkeypatch.setattr(Path, "write_text", full)
    _, missing = folder.save(tmp_path, "test_it", known)
    assert [path.name for path in where.iterdir()] == ["history.jsonl"]
    assert missing["timeline.html"].errno == errno.ENOSPC


def test_the_shared_servers_verdict_is_told_without_its_picture(tmp_path, pytestconfig):
    """Its page is drawn when all tests have ended."""
    with ClaudeTokens(history=tmp_path / "history.jsonl"):
        pass
    (tmp_path / "timeline.html").mkdir()
    owner = shared.Owner(pytestconfig)
    owner._folder = tmp_path
    owner._draw()
    assert owner._trouble == "\nno timeline.html was written: Is a directory"


class Full(InMemoryExampleDatabase):
    """A database that can't save, as one on a full disk or of a service that is down."""

    def save(self, key, value):
        """Refuse."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("given", [{}, {"n": st.integers(0, 3)}], ids=["schedule alone", "with an argument"])
def test_an_example_database_that_keeps_nothing_is_a_remark(given):
    """In both gears: the finding is told, with its replay token."""

    async def test_it(claude_tokens, workers, **arguments):
        await workers(unsound(claude_tokens).token)

    async def test_with_argument(claude_tokens, workers, n):
        await workers(unsound(claude_tokens).token)

    test = explore(workers=2, **given)(test_with_argument if given else test_it)
    error = search(settings(database=Full(), max_examples=10)(test)).error
    assert str(error).startswith("rt#1 by ")
    told = "the example database has not kept this failure: OSError: [Errno 28] No space left on device"
    assert told in error.claude_tokens_found.remarks()
