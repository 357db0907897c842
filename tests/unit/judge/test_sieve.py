"""What is left out of a long history: nothing that a verdict needs."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_server.core.journal import lines
from fake_server.policy import PRESETS
from fake_server.secrecy import redact
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.judge.reading import read
from pytest_claude_tokens.judge.sieve import QuietCalls, Unusual
from pytest_claude_tokens.report.verdict import verdict_data, verdict_page
from tests.unit.judge.build import history, store
from tests.unit.judge.drive import Service
from tests.unit.judge.unruly import MORE_STEPS, by_chance, unruly

GOLDEN = sorted((Path(__file__).parents[2] / "histories").glob("*.jsonl"))


def both(tmp_path, found: History) -> tuple[History, History]:
    """The history as a file, read as a whole, and without what is quiet."""
    path = tmp_path / "history.jsonl"
    path.write_text("".join(lines(found.header, found.events)), encoding="utf-8")
    with suppress(Unusual):  # of any other error nobody would hear: the whole is read then
        sieve = QuietCalls()
        read(path, sieve)
        sieve.finish()
    return History.load(path), History.load_what_matters(path)


def told(found: History) -> dict:
    """The verdict, and the beginning of the story: both sides, and why."""
    verdict = judge(found)
    more = [violation.more for violation in verdict.violations]
    return {**verdict_data(found, verdict), "more": more, "story": verdict_page(found, verdict).split("\n\n")[:2]}


HEADERS: list[dict[str, Any]] = [{}, {}, {"limit": 2}, {"limit": None}]
LIMITS = st.sampled_from(HEADERS)


@given(history=LIMITS.flatmap(lambda header: unruly(MORE_STEPS, 40, **header)))
@settings(max_examples=100, deadline=None)
def test_the_verdict_is_that_of_the_whole(tmp_path_factory, history):
    """Violations, notes, numbers, and who is to blame."""
    whole, sifted = both(tmp_path_factory.getbasetemp(), history)

    assert told(sifted) == told(whole)
    assert len(sifted) + 2 * sifted.quiet.requests == len(whole)


@pytest.mark.nightly
@given(history=LIMITS.flatmap(lambda header: unruly(MORE_STEPS, 120, **header)))
@settings(max_examples=10_000, deadline=None)
@pytest.mark.timeout(3600)
def test_the_verdict_is_that_of_the_whole_of_ten_thousand(tmp_path_factory, history):
    """The same, for longer histories and more of them."""
    whole, sifted = both(tmp_path_factory.getbasetemp(), history)

    assert told(sifted) == told(whole)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_histories_are_told_as_before(path):
    """Also those that another hand has written."""
    assert told(History.load_what_matters(path)) == told(History.load(path))


def calls(**how) -> tuple[Service, str]:
    """A service with one account, and its bearer."""
    service = Service(PRESETS[how.pop("policy", "anthropic")], **how)
    return service, service.login().access[0].secret


def test_calls_that_nothing_happens_to_are_left_out(tmp_path):
    """All but the first of a grant, which says who uses it."""
    service, bearer = calls()
    for number in range(100):
        service.finish(service.call(f"w{number % 2}", bearer))

    _, sifted = both(tmp_path, service.history)

    assert (sifted.quiet.requests, len(sifted.operations)) == (99, 1)
    assert sifted.quiet.actors == {"w0", "w1"}
    assert judge(sifted).state == "VALID"


def test_an_overlap_is_kept_with_what_was_open_then(tmp_path):
    """The calls before it and after it are not."""
    service, bearer = calls()
    for _ in range(10):
        service.finish(service.call("w0", bearer))
    first, second = service.call("w0", bearer), service.call("w1", bearer)
    service.finish(first)
    service.finish(second)
    for _ in range(10):
        service.finish(service.call("w0", bearer))

    whole, sifted = both(tmp_path, service.history)

    assert len(sifted.operations) == 3
    assert told(sifted) == told(whole)
    assert "and 19 calls of which there is nothing to tell" in verdict_page(sifted, judge(sifted))


def test_a_call_that_did_not_end_is_kept(tmp_path):
    """It may be what others overlap with."""
    service, bearer = calls()
    service.finish(service.call("w0", bearer))
    service.call("w0", bearer)

    assert len(both(tmp_path, service.history)[1].operations) == 2


HEAD = "login expires=9\nlogin g#2 expires=9\nz: w2 call at#1\nz ok\ny: w2 call g#2/at#1\ny ok\n"
LOOK = store("rt#0", previous="rt#1", previous_accepted=True)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (
            "a: w0 call at#1\nb: w1 call at#1\na ok\nc: w1 call at#1\nb ok\nd: w1 call at#1\nc ok\ne: w0 call at#1",
            None,
        ),
        (
            "a: w0 call at#1\na fail 401 reason=expired\nb: w0 call at#1\nb ok\nc: w0 call at#1\nc fail 401",
            None,
        ),
        (f"note kill actor=w0\na: w1 call at#1\na ok\nb: w1 call at#1\nb ok\n{LOOK}", None),
        (f"note kill actor=w0\na: w0 call at#1\na ok\nb: w1 call at#1\nb ok\n{LOOK}", None),
        ("a: w2 call g#2/at#1\nb: w0 call at#1\nc: w1 call at#1\nb ok\nc ok\na ok", None),
        ("a: w0 call at#1\nb: w1 call at#2\na ok\nb ok", {"name": "x", "key": "account"}),
        ("a: w0 call at#1\nb: w1 call at#2\na ok\nb ok", None),
        ("a: w0 call at#1 odd=1\nb: w1 call at#2\na ok\nb ok", {"name": "x", "key": "account"}),
        ("a: w0 call at#1 odd=1 account=null\nb: w1 call at#2\na ok\nb ok", {"name": "x", "key": "account"}),
        ("a: w0 call at#1 account=null\nb: w1 call at#2\na ok\nb ok", {"name": "x", "key": "account"}),
        ("a: w0 call at#1\nb: w1 call at#1\nb fail 400\na ok", None),
    ],
    ids=[
        "what bridges two overlaps",
        "a success after a refusal",
        "two that ended before a look",
        "one that ended before a look",
        "which bearers were free",
        "one account",
        "two bearers",
        "one account, by a line of another form",
        "one account, which is not said in a line of another form",
        "one account, which is not said",
        "a failure beside a success",
    ],
)
def test_what_a_checker_needs_is_kept(tmp_path, text, policy):
    """Each is judged and told as before."""
    whole, sifted = both(tmp_path, history(HEAD + text, policy))

    assert told(sifted) == told(whole)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("login\nt 5\na: w0 call at#1\na ok\nt 4\nb: w0 call at#1\nb ok", "a clock that was put back"),
        ("login\na: w0 call at#1 op=2\nb: w0 call at#1 op=1\na ok op=2\nb ok op=1", "numbers that go down"),
    ],
)
def test_a_history_in_another_order_is_read_as_a_whole(tmp_path, text, why):
    """Then nothing is left out."""
    whole, sifted = both(tmp_path, history(text))

    assert sifted.events == whole.events, why
    assert not sifted.quiet.requests


@pytest.mark.parametrize("name", ["w0", "work"])
def test_a_name_that_is_a_secret_is_not_repeated(tmp_path, name):
    """Its lines are read as all others are."""
    service, bearer = calls()
    secret = "sk-ant-oat01-FAKE-1-" + "x" * 40
    for _ in range(3):
        service.finish(service.call("w0", bearer))
    found = service.history
    path = tmp_path / "history.jsonl"
    path.write_text("".join(lines(found.header, found.events)).replace(f'"{name}"', f'"{secret}"'), encoding="utf-8")

    sifted = History.load_what_matters(path)

    assert {op.actor if name == "w0" else op.account for op in sifted.operations} == {redact(secret)}
    assert len(sifted.operations) == 3


def by_another_hand(found: History) -> str:
    """The history's lines in another order of members, without those that are null."""
    written = [json.loads(line) for line in lines(found.header, found.events)]
    return "".join(json.dumps({name: it[name] for name in sorted(it) if it[name] is not None}) + "\n" for it in written)


def test_another_hand_may_write_it_in_another_way(tmp_path):
    """With members in another order, and without those that are null, nothing else is left out."""
    service, bearer = calls()
    for number in range(20):
        service.finish(service.call(f"w{number % 2}", bearer))
    path = tmp_path / "history.jsonl"
    path.write_text(by_another_hand(service.history), encoding="utf-8")

    assert History.load_what_matters(path).quiet.requests == 19
    assert told(History.load_what_matters(path)) == told(History.load(path))


@pytest.mark.parametrize("seed", range(20))
def test_the_verdict_is_that_of_the_whole_whoever_wrote_it(tmp_path, seed):
    """As above, with what workers without manners do."""
    path = tmp_path / "history.jsonl"
    path.write_text(by_another_hand(by_chance(seed)), encoding="utf-8")

    assert told(History.load_what_matters(path)) == told(History.load(path))


@pytest.mark.parametrize(
    "change",
    [
        {"unjudged": "a reason"},
        {"error": "overloaded"},
        {"status": 500},
        {"status": "200"},
        {"grant": 5},
        {"actor": "sk-ant-oat01-FAKE-1"},
        {"bearer": "unknown"},
        {"bearer": None},
        {"t": float("nan")},
        {"op": None},
        {"seq": True},
        {"v": 2},
        {"type": "fail"},
        {"account": None},
    ],
    ids=str,
)
def test_a_line_that_says_more_is_kept_or_refused(tmp_path, change):
    """Whatever the whole file is, so is what matters of it."""
    service, bearer = calls(policy="anthropic")
    for _ in range(3):
        service.finish(service.call("w0", bearer))
    *before, begin, end, last = by_another_hand(service.history).splitlines(keepends=True)
    path = tmp_path / "history.jsonl"
    path.write_text("".join([*before, json.dumps(json.loads(begin) | change) + "\n", end, last]), encoding="utf-8")

    def load(how):
        try:
            return told(how(path))
        except ValueError as error:
            return str(error)

    assert load(History.load_what_matters) == load(History.load)


@pytest.mark.parametrize("line", ['["call"]', '{"call"', "[" * 100_000 + '"call"', '{"f": "call", "odd": 1}'])
def test_a_line_that_is_no_call_is_none(line):
    """It is read as all others are."""
    assert not QuietCalls().drops(line.encode() + b"\n")


def test_whose_bearer_it_is_must_be_known_where_accounts_are_served_in_turn(tmp_path):
    """A history that another hand wrote may not say it in each line."""
    found = history("login\na: w0 call at#1\na ok\nb: w0 call at#1\nb ok", {"name": "x", "key": "account"})
    path = tmp_path / "history.jsonl"
    path.write_text(
        by_another_hand(found).replace('"account": "work", "actor": "w0"', '"actor": "w0"'), encoding="utf-8"
    )

    assert not History.load_what_matters(path).quiet.requests


def test_a_broken_file_is_refused_as_ever(tmp_path):
    """With the line, and what is wrong with it."""
    service, bearer = calls()
    service.finish(service.call("w0", bearer))
    header, *events = lines(service.history.header, service.history.events)
    path = tmp_path / "history.jsonl"
    path.write_text("".join([header, *events, events[-2]]), encoding="utf-8")

    with pytest.raises(ValueError, match=r"line 6 .* events are numbered upwards"):
        History.load_what_matters(path)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_torn_file_is_torn(tmp_path, cut):
    """Also where its last line is of a quiet call."""
    service, bearer = calls()
    for _ in range(3):
        service.finish(service.call("w0", bearer))
    path = tmp_path / "history.jsonl"
    path.write_text("".join([*lines(service.history.header, service.history.events)][:-cut]), encoding="utf-8")

    whole, sifted = History.load(path), History.load_what_matters(path)

    assert sifted.notes == whole.notes != ()
    assert judge(sifted).state == "UNKNOWN"
