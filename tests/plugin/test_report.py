"""What a failure leaves: its section, its line in the summary, its folder, and what rides on its report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.plugin import reporting
from pytest_claude_tokens.report.evidence import Evidence, attach, findings
from pytest_claude_tokens.report.folder import save
from pytest_claude_tokens.report.summary import broken, marks, summary
from tests.plugin.play import Play

HEADLINE = "claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)"
SPEND = """
from pool import *

def test_it(claude_tokens):
    spend_twice(claude_tokens)
"""


def test_a_violation_is_one_line_and_its_section(pytester):
    """No code of ours, no code of pytest's: the headline, then the story; the summary has the headline, too."""
    pytester.makepyfile(test_it=SPEND)
    lines = pytester.runpytest().stdout.lines
    start = next(index for index, line in enumerate(lines) if "_ test_it _" in line)

    assert lines[start + 1 : start + 3] == ["", f"E   {HEADLINE}"]
    assert lines[start + 3].strip("-") == " claude-tokens history "
    assert re.fullmatch(
        r"again   #5  \+\S+s  w1  pool.py:\d+ from pool.py:18  refresh rt#1 -> 400 .*", lines[start + 4]
    )
    end = next(index for index, line in enumerate(lines) if line.startswith("=") and " claude-tokens " in line)
    assert lines[end - 1] == 'If this is what you are studying: @pytest.mark.claude_tokens(allow=["double-spend"])'
    assert lines[-2] == f"FAILED test_it.py::test_it - {HEADLINE}"


@pytest.mark.parametrize("style", ["auto", "long", "short", "line", "native", "no"])
def test_every_style_of_traceback_has_the_headline(pytester, style):
    """And the section, whatever is captured; only the shortest hide that."""
    pytester.makepyfile(test_it=SPEND)
    text = str(pytester.runpytest(f"--tb={style}", "--show-capture=no").stdout)

    assert HEADLINE in text
    assert "claude-tokens history" in text or style in ("line", "no")
    assert "All traceback entries are hidden" not in text
    assert (f"{pytester.path / 'test_it.py'}:3: {HEADLINE}" in text) is (style == "line")


GROUP = SPEND.replace(
    "    spend_twice(claude_tokens)",
    """
    spend_twice(claude_tokens)
    try:
        raise ExceptionGroup("of tasks", [OSError("one"), OSError("two")])
    except ExceptionGroup as error:
        raise KeyError("of the body") from error
""",
)


@pytest.mark.parametrize("options", [[], ["--tb=short"], ["--tb=long"], ["--tb=native"], ["--full-trace"]])
def test_the_story_comes_before_what_the_body_ended_with(pytester, options):
    """Its chain of exceptions is one line, which says how to see all of it."""
    pytester.makepyfile(test_it=GROUP)
    lines = pytester.runpytest(*options).stdout.lines
    told = "error   KeyError: 'of the body' (test_it.py:9); all: --tb=long"

    cut = options in ([], ["--tb=short"])
    assert (told in lines) is cut
    start = next(index for index, line in enumerate(lines) if "_ test_it _" in line)
    assert (f"E   {HEADLINE}" in lines[start + 1 : start + 3]) is cut
    assert ("ExceptionGroup" in "".join(lines)) is not cut


def test_a_group_that_a_finding_is_in_is_told_by_its_headline(pytester):
    """Its own message says nothing, and its tracebacks are ours."""
    pytester.makepyfile(
        test_it=SPEND
        + """
    try:
        claude_tokens.check()
    except AssertionError as error:
        raise ExceptionGroup("of tasks", [error, OSError()])
"""
    )
    lines = pytester.runpytest().stdout.lines
    start = next(index for index, line in enumerate(lines) if "_ test_it _" in line)

    assert lines[start + 1 : start + 3] == ["", f"E   {HEADLINE}"]
    assert "claude-tokens history" in lines[start + 3]
    assert "ExceptionGroup: of tasks" not in "\n".join(lines)
    assert "ExceptionGroup: of tasks" in str(pytester.runpytest("--tb=long").stdout)


def test_a_full_trace_hides_nothing(pytester):
    """Whoever looks for a fault in the plugin sees all frames."""
    pytester.makepyfile(test_it=SPEND)
    text = str(pytester.runpytest("--full-trace").stdout)

    assert "pytest_runtest_call" in text
    assert "claude-tokens history" in text


def test_a_check_in_the_body_shows_the_line_that_checked(pytester):
    """The user's frame stays, ours go."""
    pytester.makepyfile(test_it=SPEND + "    claude_tokens.check()\n")
    result = pytester.runpytest()

    result.stdout.fnmatch_lines(
        [">       claude_tokens.check()", f"E       {HEADLINE}", "", "test_it.py:5: DoubleSpend"]
    )


def test_a_body_that_failed_by_itself_is_told_what_else_was_seen(pytester):
    """`pytest.fail`, and with it a time-out, is not replaced; the story stands beside it, with its headline."""
    pytester.makepyfile(test_it=SPEND + "    import pytest; pytest.fail('mine')\n")
    result = pytester.runpytest()

    result.stdout.fnmatch_lines(
        [
            "E * Failed: mine",
            "*- claude-tokens history -*",
            HEADLINE,
            "again *",
            "FAILED test_it.py::test_it - Failed: mine",
        ]
    )


def test_the_verdict_unknown_is_told_with_the_history(pytester):
    """A worker that is stuck outside our view fails the test, and says so."""
    pytester.makepyfile(
        test_it="""
        def test_it(claude_tokens):
            claude_tokens.server.journal.note("stuck", actor="w1", why="in a lock of C")

        def test_check(claude_tokens):
            claude_tokens.server.journal.note("stuck", actor="w1", why="in a lock of C")
            claude_tokens.check()

        def test_later(make_claude_tokens):
            tokens = make_claude_tokens().open()
            tokens.server.journal.note("stuck", actor="w1", why="in a lock of C")
            globals()["kept"] = tokens

        def test_last():
            kept.close()
        """
    )
    result = pytester.runpytest("-rA")

    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines(
        [
            "E   claude_tokens.Unknown: w1 is stuck: in a lock of C",
            "*- claude-tokens history -*",
            "verdict w1 is stuck: *",
        ]
    )


# The folder.


def folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.joinpath(".claude-tokens").iterdir() if folder.is_dir())


def test_each_failure_leaves_its_history_in_a_folder_of_its_own(pytester):
    """One for each set of parameters, whatever is in their ids; the history judges as the run did."""
    pytester.makepyfile(
        test_it="""
        import pytest
        from pool import *

        @pytest.mark.parametrize("name", ["a/b", "a b", "../..", "x" * 300, "é", "A/B", ""])
        def test_it(claude_tokens, name):
            spend_twice(claude_tokens)

        def test_passes(claude_tokens): ...
        """
    )
    result = pytester.runpytest()

    result.assert_outcomes(failed=7, passed=1)
    found = folders(pytester.path)
    assert len(found) == 7
    assert len({folder.name.lower() for folder in found}) == 7
    for folder in found:
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", folder.name)
        told = rf"\n\.claude-tokens/{folder.name}/\s+history\.jsonl  timeline\.html\n"
        assert re.search(told, str(result.stdout))
        (violation, *_) = judge(History.load(folder / "history.jsonl")).violations
        assert str(violation) == "rt#1 by w0 (#2) and w1 (#5)"
    assert (pytester.path / ".claude-tokens" / ".gitignore").read_text().splitlines()[-1] == "*"
    assert [path.name for path in (pytester.path / ".claude-tokens").iterdir() if path.is_file()] == [".gitignore"]


def test_a_run_without_a_failure_leaves_nothing(pytester):
    """No folder for the sake of a folder."""
    pytester.makepyfile("from pool import *\ndef test_it(claude_tokens): spend_once(claude_tokens)")
    pytester.runpytest().assert_outcomes(passed=1)

    assert not (pytester.path / ".claude-tokens").exists()


def test_the_history_is_there_before_the_verdict_is_raised(pytester):
    """Whoever stops at the exception, a debugger say, finds the file."""
    pytester.makepyfile(
        test_it="""
        import pathlib, pytest
        from pool import *
        from pytest_claude_tokens.violations import DoubleSpend

        def test_it(claude_tokens):
            spend_twice(claude_tokens)
            with pytest.raises(DoubleSpend):
                claude_tokens.check()
            (file,) = pathlib.Path(".claude-tokens").glob("test_it-*/history.jsonl")
            assert len(file.read_text().splitlines()) == 9
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_folder_elsewhere_is_told_in_full(pytester, tmp_path_factory):
    """`--claude-tokens-report-dir` may be anywhere."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    pytester.makepyfile(test_it=SPEND)
    result = pytester.runpytest(f"--claude-tokens-report-dir={elsewhere}")

    result.stdout.fnmatch_lines(f"{elsewhere}/test_it-*/*")  # a long path has a line of its own


@pytest.mark.parametrize(
    ("option", "files"),
    [
        ("never", {"test_bad": ["history.jsonl"]}),
        (
            "always",
            {"test_bad": ["history.jsonl", "timeline.html"], "test_good": ["history.jsonl", "timeline.html"]},
        ),
    ],
)
def test_the_timeline_is_drawn_when_it_is_wanted(pytester, option, files):
    """`always`: of tests that passed, too, if they made a history. The page tells what was found."""
    pytester.makepyfile(
        test_it="""
        from pool import *
        def test_bad(claude_tokens): spend_twice(claude_tokens)
        def test_good(claude_tokens): spend_once(claude_tokens)
        def test_other(): pass
        """
    )
    pytester.runpytest(f"--claude-tokens-html={option}").assert_outcomes(failed=1, passed=2)

    found = {folder.name.rpartition("-")[0]: folder for folder in folders(pytester.path)}
    assert {name: sorted(path.name for path in folder.iterdir()) for name, folder in found.items()} == files
    if option == "always":
        assert f"<h1>{HEADLINE}</h1>" in (found["test_bad"] / "timeline.html").read_text()
        assert '"VALID">VALID<' in (found["test_good"] / "timeline.html").read_text()


def test_a_history_that_can_not_be_drawn_hides_no_violation(pytester, monkeypatch):
    """The page says so, and everything else is told."""
    monkeypatch.setattr(reporting, "timeline", lambda *args, **more: 1 / 0)
    pytester.makepyfile(test_it=SPEND)
    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["again *", f"FAILED *{HEADLINE}"])
    (folder,) = folders(pytester.path)
    assert "No timeline could be drawn: ZeroDivisionError" in (folder / "timeline.html").read_text()


def test_a_folder_that_cannot_be_written_does_not_hide_the_violation(pytester):
    """The story says why there is no file."""
    pytester.makefile("", **{".claude-tokens": "in the way"})
    pytester.makepyfile(test_it=SPEND)
    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["no history was written: Not a directory", f"FAILED *{HEADLINE}"])


def test_further_files_of_a_finding_are_saved_and_named(tmp_path):
    """Whoever attaches evidence may add texts of its own."""
    play = Play()
    play.login()
    known = Evidence(history=play.history, files={"schedule.json": "{}"})

    folder, _ = save(tmp_path, "test_x.py::test_it", known)

    assert sorted(path.name for path in folder.iterdir()) == ["history.jsonl", "schedule.json"]
    assert (folder / "schedule.json").read_text() == "{}"


def test_findings_are_looked_for_in_groups_and_causes():
    """Each once, however often it is reached; what has no evidence is no finding."""
    play = Play()
    known = Evidence(history=play.history)
    one, two, plain = KeyError(1), KeyError(2), KeyError(3)
    attach(one, known)
    attach(two, known)
    plain.__cause__ = two
    group = ExceptionGroup("g", [plain, ExceptionGroup("h", [one, two])])
    two.__cause__ = group

    assert list(findings(group)) == [two, one]
    assert list(findings(None)) == []


# What rides on a report.


def test_what_was_found_is_in_the_junit_file(pytester):
    """As a property of the test."""
    pytester.makepyfile(test_it=SPEND)
    pytester.runpytest("--junitxml=out.xml")
    assert "why     reuse: w1 sent rt#1 after" in (pytester.path / "out.xml").read_text()

    assert f'<property name="claude_tokens" value="{HEADLINE}"' in (pytester.path / "out.xml").read_text()


def test_what_was_found_rides_on_the_report_as_json(pytester):
    """Other plugins, and the controller of xdist, find it there; on the report of the call, and only there."""
    pytester.makepyfile(test_it=SPEND + "\ndef test_passes(claude_tokens): ...\n")
    reports = pytester.inline_run().getreports("pytest_runtest_logreport")
    told = [report.claude_tokens for report in reports if hasattr(report, "claude_tokens")]

    bad, good = json.loads(json.dumps(told))
    assert (bad["test"], bad["violations"]) == ("test_it.py::test_it", [HEADLINE])
    assert (bad["file"], bad["line"]) == (str(pytester.path / "test_it.py"), 3)
    assert bad["replay"][0].endswith('pytest "test_it.py::test_it"')
    assert re.fullmatch(r"\.claude-tokens/test_it-\w+", bad["folders"][0])
    assert good == {"test": "test_it.py::test_passes"}


def test_nothing_is_said_in_the_summary_unless_a_test_used_the_plugin():
    """A suite that only has it installed doesn't hear of it."""
    assert summary([]) == []


def test_the_summary_says_how_hard_was_looked():
    """One line for the run, and one for each explored test, those looked at least first, ten unless asked for all."""
    facts = [
        {"test": f"t.py::test_{n}", "explored": {"schedules": n * 100, "summary": f"{n}00 schedules"}}
        for n in range(12, 0, -1)
    ]
    facts[0]["violations"] = ["x"]
    facts += [{"test": "t.py::test_plain"}, {"test": "t.py::test_again"}, {"test": "t.py::test_again"}]

    lines = summary(facts)

    assert lines[:3] == [
        "claude-tokens: 12 tests, 7,800 schedules, 1 violation",
        "  t.py::test_1: 100 schedules",
        "  t.py::test_2: 200 schedules",
    ]
    assert len(lines) == 12
    assert lines[-1] == "  and 2 tests without a search"
    assert len(summary(facts, every=True)) == 14
    assert summary(facts[12:]) == ["claude-tokens: 2 tests, 0 violations"]


def test_what_was_broken_is_told_with_the_way_to_see_it_again():
    """Of tests that broke nothing there is no word."""
    facts = [
        {"test": "t.py::test_good"},
        {
            "test": "t.py::test_bad",
            "violations": ["claude_tokens.A: x", "claude_tokens.B: y"],
            "replay": ["pytest t.py"] * 2,
            "folders": ["f"] * 2,
        },
    ]
    assert broken(facts) == [
        "  t.py::test_bad",
        "    claude_tokens.A: x",
        "    claude_tokens.B: y",
        "    replay  pytest t.py",
        "    see     f/",
    ]
    assert broken(facts[:1]) == []


@pytest.mark.parametrize(
    ("root", "file"),
    [("/repo", "t%25,1.py"), ("/repo/", "t%25,1.py"), ("", "/repo/t%25,1.py"), ("/re", "/repo/t%25,1.py")],
)
def test_a_violation_is_a_mark_in_github_s_log(root, file):
    """By the rules of its workflow commands: one line, with the characters escaped that end a field."""
    facts = [
        {"test": "t.py::test_good"},
        {
            "test": "t.py::test_bad[a:b]",
            "violations": ["claude_tokens.A: 100%\r\nx"],
            "replay": ["pytest t.py"],
            "file": "/repo/t%,1.py",
            "line": 7,
        },
    ]
    place = f"file={file.replace(',', '%2C')},line=7,title=claude_tokens.A"
    assert marks(facts, root) == [f"::error {place}::t.py::test_bad[a:b]: 100%25%0D%0Ax%0Areplay  pytest t.py"]


def test_the_end_of_a_run_tells_what_was_broken(pytester, monkeypatch):
    """A section where something was, one line where all is fine; marks where GitHub reads them; nothing else."""
    pytester.makepyfile(
        test_it="from pool import *\ndef test_bad(claude_tokens): spend_twice(claude_tokens)",
        test_fine="from pool import *\ndef test_good(claude_tokens): spend_once(claude_tokens)",
        test_other="def test_other(): pass",
    )
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    result = pytester.runpytest("-p", "no:logging")
    result.stdout.fnmatch_lines(
        [
            "=* claude-tokens =*",
            "claude-tokens: 2 tests, 1 violation",
            "  test_it.py::test_bad",
            f"    {HEADLINE}",
            '    replay  *pytest "test_it.py::test_bad"',
            "    see     .claude-tokens/test_bad-*/",
            "::error file=test_it.py,line=2,title=claude_tokens.DoubleSpend::test_it.py::test_bad: rt#1 by w0 *",
        ],
        consecutive=True,
    )
    fine = pytester.runpytest("test_fine.py", "--claude-tokens-seed=7")
    fine.stdout.fnmatch_lines(["claude-tokens: --claude-tokens-seed=7", "claude-tokens: 1 test, 0 violations"])
    fine.stdout.no_fnmatch_line("=* claude-tokens =*")
    pytester.runpytest("test_other.py").stdout.no_fnmatch_line("claude-tokens:*")
    pytester.runpytest("test_other.py", "-v").stdout.fnmatch_lines("claude-tokens: default options")


def test_the_summary_of_a_run_is_made_of_what_rides_on_its_reports(pytester):
    """A search puts its numbers into the stash of its test."""
    pytester.makepyfile(
        test_it="""
        from pytest_claude_tokens.plugin.reporting import FACTS

        def test_it(request, claude_tokens):
            request.node.stash[FACTS] = {"explored": {"schedules": 1, "summary": "1 schedule"}}
        """
    )
    pytester.runpytest().stdout.fnmatch_lines(
        ["claude-tokens: 1 test, 1 schedule, 0 violations", "  test_it.py::test_it: 1 schedule"]
    )
