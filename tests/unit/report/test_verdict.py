"""The verdict in words: what is a reason, what is only a note, and one name for a violation."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge import State, judge
from pytest_claude_tokens.judge.earning import earned
from pytest_claude_tokens.report.verdict import qualified_name, verdict_data, verdict_page, verdict_text
from tests.unit.judge.build import history

STUCK = "note stuck why=outside actor=w1\n"
OVERLAP = "a: w0 call at#1\nb: w1 call at#1\na ok\nb ok\n"


def stuck_and_allowed():
    """A history whose verdict is UNKNOWN for one reason, with one note beside it that is none."""
    found = history("login\n" + OVERLAP + STUCK)
    return found, judge(found, allow=["co-schedule"])


def test_a_note_that_is_no_reason_is_not_told_as_one():
    """Only the stuck worker makes the verdict UNKNOWN; the allowed overlap is noted beside it, by every command."""
    found, verdict = stuck_and_allowed()

    assert verdict.state is State.UNKNOWN
    assert [note.why for note in verdict.notes] == ["stuck", "allowed"]
    assert [note.why for note in verdict.reasons] == ["stuck"]
    for text in (verdict_text(found, verdict), verdict_page(found, verdict)):
        [reasons] = [line for line in text.splitlines() if line.startswith("verdict ")]
        assert reasons == "verdict w1 is stuck: outside"
        assert "note: co-schedule: at#1 by w0 (#2) and w1 (#3): allowed" in text.splitlines()


def test_a_process_ends_with_the_verdict_first_and_a_command_that_was_asked_with_the_verdict_last():
    """The same words in between; a reason that the story tells is not noted again at the end of a process."""
    found, verdict = stuck_and_allowed()

    assert verdict_text(found, verdict).splitlines()[0] == "claude-tokens: UNKNOWN, 2 requests"
    assert "note: w1 is stuck" not in verdict_text(found, verdict)
    assert verdict_page(found, verdict).splitlines()[-1] == "UNKNOWN: 2 requests"


@pytest.mark.parametrize(("story", "number"), [("", "0 requests"), ("a: w0 call at#1\na ok", "1 request")])
def test_requests_are_counted_in_the_singular_too(story, number):
    """One request is one request."""
    found = history("login\n" + story)

    assert verdict_text(found, judge(found)) == f"claude-tokens: VALID, {number}"
    assert verdict_page(found, judge(found)) == f"VALID: {number}"


def test_notes_of_a_valid_history():
    """They follow the verdict without a gap."""
    found = history("login\n" + OVERLAP)
    verdict = judge(found, allow=["co-schedule"])
    note = "note: co-schedule: at#1 by w0 (#2) and w1 (#3): allowed"

    assert verdict_text(found, verdict) == f"claude-tokens: VALID, 2 requests\n{note}"
    assert verdict_page(found, verdict) == f"{note}\nVALID: 2 requests"


def test_a_violation_has_one_name():
    """The one that pytest prints, in words and as JSON."""
    found = history("login\n" + OVERLAP)
    verdict = judge(found)
    name = "claude_tokens.CoSchedule"

    assert verdict_text(found, verdict).startswith(f"claude-tokens: INVALID, 2 requests: {name}: at#1 by w0")
    assert verdict_page(found, verdict).startswith(f"{name}: at#1 by w0")
    assert verdict_page(found, verdict).endswith("\n\nINVALID: 2 requests, 1 violation")
    assert verdict_data(found, verdict)["violations"][0]["exception"] == name == qualified_name(verdict.violations[0])
    assert qualified_name(KeyError(1)) == "KeyError"


REFUSED = "note refused host=claude.ai remedy=ask-the-fake actor=w0\n"


def test_what_was_refused_is_told_once_by_every_verdict():
    """Beside VALID as a note, in the story of what was broken, and where nothing was judged as the reason."""
    told = "requests to claude.ai refused (2 times): ask-the-fake"
    valid = history("login\n" + REFUSED * 2 + "a: w0 call at#1\na ok")
    broken = history("login\n" + REFUSED * 2 + OVERLAP)
    idle = history("login\n" + REFUSED * 2)

    assert verdict_text(valid, judge(valid)) == f"claude-tokens: VALID, 1 request\nnote: {told}"
    assert verdict_page(valid, judge(valid)) == f"note: {told}\nVALID: 1 request"
    for found in (broken, idle):
        verdict = earned(found, judge(found))
        for text in (verdict_text(found, verdict), verdict_page(found, verdict)):
            reasons = len(verdict.reasons) if text.endswith(" requests") else 0  # a page repeats them as notes
            assert " ".join(text.split()).count(told) == 1 + reasons
            assert text.count("refused: claude.ai") == 2  # in the table


def test_only_what_reached_an_endpoint_earns_a_verdict():
    """A path that nobody serves does not; a violation, and what is unknown for another reason, stay what they are."""
    missed = history("login\na: w0 other\na fail status=404")
    served = history("login\na: w0 other\na ok")
    stuck = history("login\n" + STUCK)

    assert [earned(it, judge(it)).state for it in (missed, served)] == [State.UNKNOWN, State.VALID]
    [reason] = earned(missed, judge(missed)).reasons
    assert (reason.why, str(reason).count("-> 404 (once): no endpoint of the service")) == ("unearned", 1)
    assert [note.why for note in earned(stuck, judge(stuck)).notes] == ["stuck"]
