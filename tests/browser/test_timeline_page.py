"""The timeline in a real browser: drawn, stepped through, printed, in the dark, and without scripts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.verdict import State, Verdict
from pytest_claude_tokens.report.timeline import timeline
from tests.unit.judge.build import REFRESHED, history, store

FOLDER = Path(__file__).parents[1] / "histories"
RACE = (
    """
    login expires=100
    a: w0 token rt#1
    b: w1 token rt#1 seen={"sent":5,"ended":9,"held":[{"lock":"c0","tick":4,"released":10}]}
    a commit rotated at#2 rt#2
    a ok at#2 rt#2
    b commit reused revoked=["rt#2","at#2"]
    b fail
    c: w0 call at#2
    note queue op=3 waited=0.5
    c info error=reset
    d: w0 call at#2
    """
    + store("rt#2", name="shared")
    + "\nnote lease lease=c0 state=held"
)


def classes(tab, selector: str) -> list[str]:
    """The classes of the drawn elements."""
    return tab.run(f"[...document.querySelectorAll({selector!r})].map(one => one.getAttribute('class'))")


def now(tab) -> str:
    return tab.run("document.getElementById('now').textContent")


def table(tab, name: str) -> list[str]:
    return tab.run(f"[...document.querySelectorAll('#{name} tr')].map(row => row.innerText.replace(/\\s+/g, ' '))")


def test_a_race_is_drawn_and_stepped_through(show, tmp_path):
    """It opens at the violation: both requests framed and joined. Keys and buttons step; the states follow."""
    tab = show(timeline(history(RACE)))

    assert tab.run("[...document.querySelectorAll('#lanes li')].map(one => one.textContent)") == [
        "w0", "w1", "service", "store shared", "lease c0",
    ]  # fmt: skip
    assert classes(tab, "#bars .bar") == [
        "bar ok guilty", "bar fail guilty", "bar info", "bar queued", "bar open", "bar lease",
    ]  # fmt: skip
    assert len(classes(tab, "#arcs path")) == 1
    assert classes(tab, "#marks g") == ["note", "rotation", "revocation", "note", "note", "note"]
    fills = tab.run("[...document.querySelectorAll('.bar')].map(one => getComputedStyle(one).fill)")
    assert fills[0].startswith("rgb")
    assert ["url" in fill and fill.partition("#")[2].strip('")') for fill in fills[1:]] == [
        "hatch", "open-end", False, "open-end", False,
    ]  # fmt: skip
    wide = tab.run("[...document.querySelectorAll('.bar')].map(one => one.getBoundingClientRect().right)")
    place = tab.run("document.querySelectorAll('#marks circle')[3].getBoundingClientRect().left")
    assert wide[2] > place, "an unknown outcome reaches beyond the event that says so"

    assert now(tab).startswith("event 3 of 13: #3 +0.000 s, w1: refresh rt#1")
    assert table(tab, "open") == ["#2 w0 refresh rt#1", "#3 w1 refresh rt#1"]
    tab.press("ArrowRight", "ArrowRight")
    assert now(tab).startswith("event 5 of 13")
    assert table(tab, "tokens") == ["rt#2 live, got by w0", "at#2 live, got by w0", "rt#1 spent", "at#1 live"]
    tab.press("ArrowRight")
    assert table(tab, "tokens")[:2] == ["at#2 revoked, got by w0", "rt#2 revoked, got by w0"]
    tab.press("ArrowLeft", "ArrowLeft")
    assert table(tab, "tokens") == ["rt#2 live", "at#2 live", "rt#1 spent", "at#1 live"]
    tab.press("End")
    assert now(tab).startswith("event 13 of 13")
    assert table(tab, "stores") == ["shared rt#2 (dead)"]
    tab.press("Home")
    assert now(tab).startswith("event 1 of 13")
    assert tab.run("document.getElementById('back').disabled")
    tab.run("document.getElementById('jump').click()")
    assert now(tab).startswith("event 3 of 13")
    tab.run("document.getElementById('step').focus()")
    tab.press("ArrowRight")
    assert now(tab).startswith("event 4 of 13"), "once, also where the slider would step by itself"

    place = Path(os.environ.get("CLAUDE_TOKENS_ARTIFACTS") or tmp_path)
    tab.screenshot(place / "timeline.png")
    assert (place / "timeline.png").stat().st_size > 10_000


def test_ten_thousand_requests_are_drawn_only_where_one_looks(show):
    """A few hundred elements, wherever one is and however narrow; the far end is reached by a key."""
    lines = ["login"]
    for number in range(10_000):
        lines += [f"{number}: w{number % 8} call at#1", f"{number} ok"]
    tab = show(timeline(history("\n".join(lines)), verdict=Verdict(State.VALID)))

    count = "document.querySelectorAll('#drawing *').length"
    assert 20 < tab.run(count) < 1000
    tab.press("End")
    assert now(tab).startswith("event 20001 of 20001: #20001")
    assert classes(tab, "#bars .bar")[-1] == "bar ok"
    assert tab.run("document.getElementById('picture').scrollLeft") > 100_000
    tab.press(*"-------")
    assert tab.run(count) < 6000
    assert tab.run("document.getElementById('jump').disabled")


@pytest.mark.parametrize("name", ["</script><script>document.title='bad'</script>", "<img src=x onerror=alert(1)>"])
def test_a_hostile_name_is_shown_as_text(show, name):
    """In a lane, a store, an account: nothing of it is run, and it is there to be read."""
    plain = history(REFRESHED + store("rt#1") + "\nb: w1 token rt#1\nb fail")
    events = [
        replace(
            event,
            actor=name if event.actor == "w0" else event.actor,
            account=name,
            data={**event.data, **({"store": name} if event.f == "store" else {})},
        )
        for event in plain
    ]
    tab = show(timeline(History(plain.header, events), headline=name))

    assert tab.run("document.querySelector('#lanes li').textContent") == name
    assert tab.run("document.querySelector('h1').textContent") == name
    tab.press("End")
    assert table(tab, "stores") == [f"{name} rt#1 (dead)"]
    assert tab.run("document.title") == name
    assert tab.run("document.querySelectorAll('img').length") == 0


def test_the_page_is_dark_where_the_system_is_and_prints_what_one_sees(show):
    """On paper there are no buttons, and the events around the step stand where a page is."""
    tab = show(timeline(History.load(FOLDER / "double-spend-overlap.jsonl")))
    paper = "getComputedStyle(document.body).backgroundColor"

    assert tab.run(paper) == "rgb(255, 255, 255)"
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.run(paper) == "rgb(15, 19, 24)"
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.run(paper) == "rgb(255, 255, 255)"
    assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    tab.run("dispatchEvent(new Event('beforeprint'))")
    assert tab.run("document.getElementById('drawing').style.left") == "0px"
    assert len(classes(tab, "#bars .guilty")) == 2
    tab.run("dispatchEvent(new Event('afterprint'))")
    assert not tab.run("document.getElementById('lanes').hidden")


def test_without_scripts_there_is_a_table(show):
    """For a browser, a mail program or a sandbox that runs none."""
    tab = show(
        timeline(History.load(FOLDER / "double-spend-overlap.jsonl")),
        before=lambda tab: tab.call("Emulation.setScriptExecutionDisabled", value=True),
    )
    document = tab.call("DOM.getDocument")["root"]["nodeId"]

    def text(selector: str) -> str:
        node = tab.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        return tab.call("DOM.getOuterHTML", nodeId=node)["outerHTML"]

    assert "#2" in text("noscript tbody tr.guilty")
    assert " hidden" in text("#app")[:40]


def test_whatever_a_page_says_the_browser_fetches_nothing(chromium, tmp_path):
    """The policy in the page itself forbids it: this is tried, and refused."""
    file = tmp_path / "page.html"
    file.write_text(timeline(History.load(FOLDER / "double-spend-overlap.jsonl")), encoding="ascii")
    tab = chromium.open()
    tab.load(file)
    refused = """new Promise(done => {
        addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
        fetch("http://127.0.0.1:9/").catch(() => {});
    })"""
    assert tab.run(refused) == "connect-src"
    refused = """new Promise(done => {
        addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "document.title = 'run'";
        document.body.append(script);
    })"""
    assert tab.run(refused).startswith("script-src")
    assert tab.run("document.title") != "run"
