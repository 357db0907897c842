"""Whatever somebody calls a thread, a worker or an actor: nothing of ours prints what a terminal would obey."""

from __future__ import annotations

import json
import threading

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from fake_server.secrecy import printable, safe_text
from pytest_claude_tokens import ClaudeTokens
from pytest_claude_tokens.cli import check
from pytest_claude_tokens.judge import judge
from pytest_claude_tokens.judge.violations import Unknown
from pytest_claude_tokens.report.contention import contention
from pytest_claude_tokens.report.evidence import Evidence
from pytest_claude_tokens.report.section import section
from pytest_claude_tokens.report.verdict import verdict_page, verdict_text
from tests.unit.transports.raw import token_body

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"
EVIL = [
    "\x1b[31mred",
    "ring\x07",
    "\u202egnp.exe",
    "a\rb",
    "a\nclaude-tokens: VALID",
    "\x9b2J",
    "a\u2028b",
    "\x00",
    "\x7f",
]
NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(EVIL)


def harmless(*texts):
    """Each of them can be printed."""
    for text in texts:
        assert [char for char in text if not char.isprintable() and char != "\n"] == []


def all_told(history):
    """What is printed of a history: the report's section, the verdict in two forms, the overlaps, pytest's own line."""
    verdict = judge(history)
    for violation in verdict.violations:
        yield f"{type(violation).__name__}: {violation}"
        violation.__dict__["evidence"] = Evidence(history=history)
        yield section(violation)
    yield from (verdict_page(history, verdict), verdict_text(history, verdict), *contention(history))


def in_a_thread(name, request):
    """Run ``request`` in a thread of that name."""
    thread = threading.Thread(target=request, name=name)
    thread.start()
    thread.join()


@pytest.mark.parametrize("named", ["worker", "thread"])
@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_told_without_its_controls(named, name):
    """In the story, in the verdict and in pytest's own line; and it is one name for one worker."""
    tokens = ClaudeTokens()
    with pytest.raises(AssertionError) as caught, tokens:
        account = tokens.account()

        def spend():
            httpx.post(TOKEN_URL, content=token_body(account.refresh_token))

        if named == "thread":
            for one in (name, "other"):
                in_a_thread(one, spend)
        else:
            for one in (name, name, "other"):
                with tokens.worker(one):
                    spend()
    history = tokens.history.taken()
    actors = {operation.actor for operation in history.operations}
    assert actors == {printable(name), "other"}
    harmless(str(caught.value), *all_told(history), *actors)


@pytest.mark.parametrize("name", EVIL)
def test_who_never_came_is_told_without_controls(name):
    """By the error of a hold, which names its workers."""
    with ClaudeTokens() as tokens, pytest.raises(TimeoutError) as refused, tokens.hold("call", 2):
        with tokens.worker(name):
            (hold,) = tokens.server.holds
        hold.ran_out = True
    assert f"never came: {printable(name)}" in str(refused.value)
    harmless(str(refused.value))


@pytest.mark.parametrize("name", EVIL)
def test_check_prints_no_controls(name, tmp_path, capsys):
    """Of a file that anybody may have written: in its actors, and in all other texts."""
    path = tmp_path / "h.jsonl"
    lines = [
        {"v": 1, "seq": 0, "t": 0, "actor": name, "type": "header", "f": "header", "policy": {"name": name, "x": name}},
        *[
            {"v": 1, "seq": n, "t": n, "actor": f"{name}{n}", "op": n, "type": "invoke", "f": "token", "grant": name}
            | {"refresh": name, "account": name, "method": name, "path": name}
            for n in (1, 2)
        ],
        {"v": 1, "seq": 3, "t": 3, "actor": name, "type": "note", "f": "stuck", "why": "no reason"},
        {"v": 1, "seq": 4, "t": 3, "actor": name, "type": "note", "f": name, "why": name},
        {"v": 1, "seq": 5, "t": 5, "actor": f"{name}1", "op": 1, "type": "info", "f": "token", "error": name},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert check.main([str(path)]) == 1
    out = capsys.readouterr().out
    harmless(out)
    assert not any(line.startswith("claude-tokens: VALID") for line in out.splitlines())
    assert check.main([str(tmp_path / name.replace("\x00", "0"))]) == 2
    harmless(capsys.readouterr().err)


@example("a\nb")
@given(NAMES)
@settings(max_examples=200)
def test_what_is_printable_stays_as_it_is(text):
    """Everything else is escaped, once; a finding's own text and an error's are such texts."""
    harmless(printable(text), safe_text(text), str(Unknown(text)))
    assert (printable(text) == text) == text.isprintable()
    assert printable(printable(text)) == printable(text)
    assert printable("a\nb\t", keep="\n") == "a\nb\\t"
