"""The timeline as a text: what stands in it, and what must not. `tests/browser` looks at it with a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given

from pytest_claude_tokens.judge import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.judge.verdict import State, Verdict
from pytest_claude_tokens.report.timeline import embedded, timeline
from pytest_claude_tokens.report.timeline import facts as facts_module
from pytest_claude_tokens.report.timeline import page as page_module
from pytest_claude_tokens.report.timeline.facts import facts, shown_events
from tests.unit.judge.build import REFRESHED, history, store
from tests.unit.judge.unruly import MORE_STEPS, unruly

FOLDER = Path(__file__).parents[2] / "histories"
NAMES = sorted(path.name for path in FOLDER.glob("*.jsonl"))
OVERLAP = FOLDER / "double-spend-overlap.jsonl"


class Page(HTMLParser):
    """A page as a browser takes it apart: its tags, their attributes, and the text within."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, "the tags nest"

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    @property
    def data(self):
        (text,) = [text for text in self.texts["script"] if text.startswith("{")]
        return json.loads(text)


def drawn(path: Path) -> Page:
    return Page(timeline(History.load(path)))


@pytest.mark.parametrize("name", NAMES)
def test_every_golden_history_can_be_drawn(name):
    """Each event has a row, a lane and a text; each request of the history its bar."""
    golden = History.load(FOLDER / name)
    data = Page(timeline(golden)).data

    assert [event[0] for event in data["events"]] == [event.seq for event in golden]
    assert [op[7] for op in data["ops"]] == [op.opened for op in golden.operations]
    assert all(event[4] for event in data["events"])
    assert {lane for lane, kind in data["lanes"] if kind == "worker"} == {
        event.actor for event in golden if event.actor != "service"
    }
    assert [found["headline"] for found in data["violations"]] == [str(one) for one in judge(golden).violations]


def test_the_same_history_gives_the_same_bytes(tmp_path):
    """Wherever the file lies, and whenever it is drawn."""
    copy = tmp_path / "other.jsonl"
    copy.write_bytes(OVERLAP.read_bytes())

    assert timeline(History.load(OVERLAP)) == timeline(History.load(copy))
    assert timeline(History.load(OVERLAP)).isascii()


def test_the_page_needs_no_network_and_may_have_none():
    """No address stands in it, and the policy allows this very script and this very style, nothing else."""
    text = timeline(History.load(OVERLAP))
    page = Page(text)
    (policy,) = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))

    def digest(part: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"

    assert sources["default-src"] == "'none'"
    assert sources["script-src"] == digest(page.texts["script"][-1])
    assert sources["style-src"] == digest(page.texts["style"][0])
    assert not re.search(r"https?:|//[a-z]", re.sub(r"^\s*//.*$|  // .*$", "", text, flags=re.MULTILINE))
    assert not [tag for tag, attrs in page.tags if {"src", "href", "onclick", "style"} & set(attrs)]
    assert {tag for tag, _ in page.tags} & {"link", "img", "iframe", "base", "form", "object"} == set()


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{data}}",
    "{{script}}}}",
    "a\u2028b\u2029c",
    "https://example.com/",
    "$& $1 \\u003c",
    "\u202e\x1b[31m",
    "]]>&lt;",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_and_nothing_else(name):
    """Whoever names a worker, a store or an account has chosen it: the page has as many tags as with a plain name."""

    def page(name: str) -> Page:
        plain = history(REFRESHED + store("rt#1") + "\nb: w1 token rt#1\nb fail")
        events = [
            replace(
                event,
                actor=name if event.actor == "w0" else event.actor,
                account=name,
                error=name if event.type == "fail" else None,
                data={**event.data, **({"store": name} if event.f == "store" else {})},
            )
            for event in plain
        ]
        return Page(timeline(History(plain.header, events), headline=name))

    hostile, plain = page(name), page("plain")

    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert next(lane for lane, _ in hostile.data["lanes"]) == name
    assert len(hostile.texts["script"]) == 2


def test_a_torn_history_says_so(tmp_path):
    """And is drawn up to the tear."""
    path = tmp_path / "torn.jsonl"
    path.write_bytes(OVERLAP.read_bytes()[:-40])
    page = drawn(path)

    assert [text for text in page.texts["p"] if "torn" in text] == [
        f"The history is torn: {History.load(path).notes[0]}."
    ]
    assert page.data["events"]


def test_a_history_without_an_event_is_an_empty_picture():
    """A service that nobody asked."""
    data = Page(timeline(history(""))).data
    assert (data["events"], data["ops"], data["gaps"], data["violations"]) == ([], [], [], [])


def test_a_frame_for_another_page_holds_it_whole():
    """As pytest-html embeds it: it may run its own script, and reach nothing around it."""
    text = timeline(History.load(OVERLAP))
    ((tag, attrs),) = Page(embedded(text)).tags
    assert (tag, attrs["sandbox"]) == ("iframe", "allow-scripts")
    assert attrs["srcdoc"] == text


def test_a_story_that_can_not_be_told_does_not_hide_the_picture(monkeypatch):
    """A file by another hand may hold anything."""
    monkeypatch.setattr(page_module, "story", lambda *args, **more: 1 / 0)
    page = drawn(OVERLAP)
    assert page.texts["pre"] == ["The story can't be told: ZeroDivisionError: division by zero"]
    assert page.data["events"]


# What is left out.


def long_history(requests: int) -> History:
    """Refreshes one after the other beside one long call; at the end a token is spent twice."""
    lines = ["login", "slow: slow call at#1"]
    for old in range(1, requests):
        new = f"at#{old + 1} rt#{old + 1}"
        lines += [f"{old}: w0 token rt#{old}", f"{old} commit rotated {new}", f"{old} ok {new}"]
    return history("\n".join([*lines, f"again: w1 token rt#{requests - 1}", "again fail", "slow ok"]))


@pytest.mark.parametrize("around", [None, 0, 100, 10**9])
def test_of_a_long_history_a_part_is_shown_and_the_rest_is_counted(around):
    """Those at fault are always there, then those around them, or around what one asks for; each gap has its size."""
    long = long_history(200)
    text = timeline(long, around=around, most=50)
    page, data = Page(text), Page(text).data
    numbers = [event[0] for event in data["events"]]

    assert len(numbers) <= 50
    assert sum(size for _, size in data["gaps"]) == len(long) - len(numbers)
    assert "left out" in next(text for text in page.texts["p"] if "Truncated" in text)
    (violation, *_) = judge(long).violations
    assert {op.opened for op in violation.operations} <= set(numbers)
    for place, size in data["gaps"]:
        before = numbers[place - 1] if place else 0
        after = numbers[place] if place < len(numbers) else len(long) + 1
        assert after - before - 1 == size
    wanted = violation.operations[-1].opened if around is None else min(max(around, 1), len(long))
    assert wanted in numbers
    assert data["start"] == (None if around is None else numbers.index(wanted))
    assert "slow" in [lane for lane, _ in data["lanes"]], "under way all the time, so drawn"


def test_the_states_are_those_of_the_whole_history():
    """What is left out changes them, too: at each shown event, the live refresh token is the same in part and whole."""

    def live(data, seq):
        now = {}
        for event in data["events"]:
            if event[0] <= seq:
                now |= {name: state for name, state, *_ in event[6] if state}
        return {name for name, state in now.items() if state == "live" and name.startswith("rt")}

    long = long_history(200)
    part = facts(long, judge(long).violations, most=50)
    whole = facts(long, judge(long).violations, most=10_000)
    for seq in (part["events"][0][0], part["events"][-1][0]):
        assert live(part, seq) == live(whole, seq)


def test_shown_events_are_all_where_they_fit():
    """Neither order nor number changes."""
    assert shown_events([1, 3, 9], [], 3) == [0, 1, 2]
    assert shown_events([1, 3, 9], [], 2) == [0, 1]
    assert shown_events([1, 3, 9], [], 2, around=9) == [1, 2]


def test_the_table_for_browsers_without_scripts_is_short_and_says_so():
    """Three hundred rows around the violation, and how many there are in all."""
    text = timeline(long_history(400))
    rows = re.findall(r"<tr.*?</tr>", text[text.index("<noscript>") : text.index("</noscript>")], re.DOTALL)

    assert len(rows) == 1 + 300 + 1
    assert "300 of 1,202 events" in rows[-1]
    assert sum("guilty" in row for row in rows) == 5


# States.


@pytest.mark.parametrize(
    ("text", "states"),
    [
        (REFRESHED, {"at#1": "live", "rt#1": "spent", "at#2": "live", "rt#2": "live"}),
        (
            'login\na: w0 token rt#1\na commit rotated at#2 rt#2 accepts=["rt#1","rt#2"]',
            {"at#1": "live", "rt#1": "spent, still accepted", "at#2": "live", "rt#2": "live"},
        ),
        (
            'login\na: w0 token rt#1\na commit rotated at#2 rt#2 superseded=["at#1"]',
            {"at#1": "replaced", "rt#1": "spent", "at#2": "live", "rt#2": "live"},
        ),
        (
            REFRESHED.replace("rotated", 'rotated accepts=["rt#1"]') + 'note end grants={"g#1":{"accepts":[]},"g":7}',
            {"at#1": "live", "rt#1": "spent", "at#2": "live", "rt#2": "live"},
        ),
        ('login\nnote expire ended=["at#1"]', {"at#1": "expired", "rt#1": "live"}),
        ('login\nnote revoke ended=["at#1","rt#1"]', {"at#1": "revoked", "rt#1": "revoked"}),
        ("a: w0 token rt#1\na ok at#2 rt#2", {"rt#1": "spent", "at#2": "live", "rt#2": "live"}),
        ("a: w0 token rt#1\na ok at#2 rt#1", {"at#2": "live", "rt#1": "live"}),
        ("a: w0 token rt#1\na ok", {}),
        (store(state="absent"), {"store s": "absent"}),
        ("login\n" + store("rt#1", accepted=True), {"at#1": "live", "rt#1": "live", "store s": "rt#1"}),
    ],
)
def test_each_event_changes_what_it_says(text, states):
    """Of a service that notes what it decides, and of one whose replies are all there is."""
    now = {}
    for event in Page(timeline(history(text))).data["events"]:
        now |= {name: state for name, state, *_ in event[6] if state}
    assert now == states


@given(unruly(MORE_STEPS))
def test_the_states_are_those_that_the_service_tells_of(drawn):
    """Whatever workers do: at the end each refresh token that the service accepts is live, or said to be accepted."""
    now = {}
    for event in facts(drawn, judge(drawn).violations, most=10_000)["events"]:
        now |= {name: state for name, state, *_ in event[6] if state}
    for note in drawn.noted("end"):
        for grant, told in note.get("grants").items():
            accepted = {drawn.label(grant, label) for label in told["accepts"]}
            live = {name for name, state in now.items() if state in ("live", "spent, still accepted")}
            assert accepted <= live


@pytest.mark.parametrize(
    "line",
    [
        'note commit outcome=7 revoked=5 superseded="x" accepts={} grant=g#1',
        'note login issued={"access":"at#1"} expires="soon" accepts=3 grant=g#1',
        "note store store=7 state=[] grant=g#1",
        "note queue waited=long op=1",
        "note expire ended=[1,null] grant=g#1",
    ],
)
def test_a_history_by_another_hand_is_drawn_as_far_as_it_goes(line):
    """What a field holds that nobody expects doesn't matter to the rest."""
    data = Page(timeline(history(f"a: w0 call at#1\n{line}\na ok"), verdict=Verdict(State.UNKNOWN))).data
    assert [event[3] for event in data["events"]][::2] == ["invoke", "ok"]


def test_of_very_many_violations_the_first_can_be_jumped_to(monkeypatch):
    """And how many more there are is said."""
    monkeypatch.setattr(facts_module, "_LISTED", 1)
    text = timeline(history(REFRESHED + "b: w1 token rt#1\nb fail\nc: w2 token rt#1\nc fail\nd: w1 call\nd ok"))
    page = Page(text)
    assert len(page.data["violations"]) == 1
    assert [one for one in page.texts["p"] if "more were found" in one]


def seen(sent, ended, *held, lost=()):
    """What a search saw of a request's worker, as the field of an invoke."""
    facts = {"sent": sent, "ended": ended, "held": list(held), "lost": list(lost)}
    return "seen=" + json.dumps(facts, separators=(",", ":"))


def test_who_held_a_lock_is_drawn_from_where_to_where():
    """Between the events that a search saw around it; each hold once, one that was never let go to the end."""
    lock = {"lock": "pool.lock", "at": "pool.py:7", "tick": 2, "released": 6}
    file = {"lock": "f.lock", "tick": 3, "released": None}
    text = f"""
        login
        a: w0 token rt#1 {seen(1, 4)}
        b: w1 token rt#1 {seen(3, 5, lock, lost=[lock])}
        a ok at#2 rt#2
        b fail
        c: w1 call at#2 {seen(7, None, {**lock, "tick": 0, "released": 1}, file)}
    """
    data = Page(timeline(history(text))).data
    assert [lane for lane, kind in data["lanes"] if kind == "lease"] == ["lease pool.lock", "lease f.lock"]
    assert [(data["lanes"][lane][0], *rest) for lane, *rest in data["holds"]] == [
        ("lease pool.lock", -0.5, 1.5, "w1", "pool.py:7"),
        ("lease pool.lock", 1.5, 4.5, "w1", "pool.py:7"),
        ("lease f.lock", 2.5, 6, "w1", ""),
    ]


@pytest.mark.parametrize(
    "what", ["7", '{"held":5,"lost":[]}', '{"held":[1,{"lock":3},{"lock":"x","tick":1,"released":"y"}],"sent":"z"}']
)
def test_what_is_no_lock_is_not_drawn(what):
    """A file by another hand."""
    assert Page(timeline(history(f"a: w0 call at#1 seen={what}\na ok"))).data["holds"] == []


def test_a_lease_has_a_lane_of_its_own():
    """Where a history tells of one; it is no worker."""
    data = Page(timeline(history("note lease lease=/c0/.lock actor=w0 state=held\nnote lease actor=w0"))).data
    assert data["lanes"] == [["lease /c0/.lock", "lease"], ["lease", "lease"]]


SIDE = ("HEAD /api/hello", "GET /api/claude_cli/bootstrap", "POST /api/event_logging/v2/batch")


def with_side_requests(number: int, path: Path = OVERLAP) -> History:
    """A history after so many requests that touch no token, as a process of the real CLI sends them at its start."""
    whole = History.load(path)
    [first, *rest] = [replace(event, seq=event.seq + 2 * number) for event in whole]
    side = []
    for index in range(number):
        method, _, path_of = SIDE[index % len(SIDE)].partition(" ")
        begun = replace(
            first, seq=2 * index + 1, type="invoke", f="other", op=1000 + index, actor=f"w{index}", issued=None,
            grant=None, account=None, data={"method": method, "path": path_of},
        )  # fmt: skip
        side += [begun, replace(begun, seq=begun.seq + 1, type="ok", status=200, data={})]
    return History(whole.header, [*side, first, *rest])


@pytest.mark.parametrize("number", [12, 13, 36])
def test_many_requests_that_touch_no_token_are_not_drawn(number):
    """A notice says how many there are, and which; a few are drawn like all others, and so is one that is asked for."""
    page = Page(timeline(with_side_requests(number)))
    told = [text for text in page.texts.get("p", ()) if text.startswith("Not drawn")]
    assert [op[4] for op in page.data["ops"] if op[4] in SIDE] == [SIDE[n % 3] for n in range(number * (number <= 12))]
    assert [op[4] for op in page.data["ops"]][-2:] == ["refresh rt#1", "refresh rt#1"]
    assert len(told) == (number > 12)
    if number == 36:
        which = ", ".join(f"{what} (12 times)" for what in SIDE)
        assert told == [f"Not drawn: 36 requests that touch no token: {which}"]
        around = Page(timeline(with_side_requests(number), around=3)).data["ops"]
        assert [op[4] for op in around if op[4] in SIDE] == ["GET /api/claude_cli/bootstrap"]


def test_where_nothing_else_was_sent_all_is_drawn():
    """An empty page would say nothing."""
    whole = with_side_requests(20)
    alone = History(whole.header, [event for event in whole if event.f == "other"])
    assert len(Page(timeline(alone)).data["ops"]) == 20
