"""``ClaudeTokens(history=PATH)``: a history on disk, without pytest and without a process of its own."""

from __future__ import annotations

import json

import httpx
import pytest

from fake_server.serve import history_file
from pytest_claude_tokens import ClaudeTokens
from pytest_claude_tokens.cli import check
from tests.unit.transports.raw import token_body

URL = "https://platform.claude.com/v1/oauth/token"


def test_each_event_is_on_disk_at_once_and_the_last_line_says_so(tmp_path):
    """The file is judged as the handle was; a failure in between leaves it whole, too."""
    path = tmp_path / "h.jsonl"
    with pytest.raises(AssertionError, match="rt#1 by"):
        with ClaudeTokens(history=path) as tokens:
            secret = tokens.account(expired=True).refresh_token
            for _ in range(2):
                httpx.post(URL, content=token_body(secret))
                assert path.read_text().count("\n") == len(tokens.history) + 1
    assert json.loads(path.read_text().splitlines()[-1])["f"] == "end"
    assert check.main([str(path)]) == 1


def test_two_handles_do_not_write_one_file(tmp_path):
    """The second is refused when it opens, and the first goes on; when that is closed, the file is free."""
    path = tmp_path / "h.jsonl"
    with ClaudeTokens(history=str(path)) as tokens:
        with pytest.raises(OSError, match="another history is being written to it"):
            ClaudeTokens(history=path).open()
        tokens.account()
    assert [json.loads(line)["f"] for line in path.read_text().splitlines()] == ["header", "login", "end"]
    ClaudeTokens(history=path).open().close()
    assert path.read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("ends", "raised"),
    [("well", OSError), ("with a finding", AssertionError), ("with an error", KeyError)],
)
def test_a_disk_that_fills_up_is_told_at_the_end(tmp_path, monkeypatch, ends, raised):
    """In place of nothing; a finding and an error of the body's own are told first."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(raised) as told, ClaudeTokens(history=tmp_path / "h.jsonl") as tokens:
        monkeypatch.setattr(history_file, "_write", full)
        secret = tokens.account(expired=True).refresh_token
        for _ in range(2 if ends == "with a finding" else 1):
            httpx.post(URL, content=token_body(secret))
        if ends == "with an error":
            raise KeyError("of the body")
    assert "h.jsonl' is not whole: No space left on device" in (
        str(told.value) if raised is OSError else told.value.__notes__[-1]
    )


def test_a_secret_is_no_path():
    """It is not repeated, either."""
    with pytest.raises(ValueError, match=r"history=\[an access token of 108 characters\]: must be the path of a file"):
        ClaudeTokens(history="sk-ant-oat01-" + "A" * 95)
