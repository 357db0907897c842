"""The table of a refresh token's life: total, spelled out a second time, and fired row by row through the authority.

``python tests/unit/core/test_states.py`` writes the diagram in ``docs/states.md`` anew.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fake_server.core.authority import Authority, Grant, IllegalTransition, RefreshToken
from fake_server.core.states import TABLE, Outcome, RefreshEvent, RefreshState, diagram, transition
from fake_server.policy import Policy

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "states.md"
MERMAID = re.compile(r"(?<=```mermaid\n).*?(?=```\n)", re.DOTALL)

EXPECTED = """
         issue        redeem          keep            replay          collide      expire            revoke
unknown  live/issued  unknown/refused unknown/refused -               -            -                 -
live     -            spent/rotated   live/kept       -               -            expired/ended     revoked/ended
spent    -            spent/reused    spent/reused    spent/replayed  spent/retry  expired/ended     revoked/ended
revoked  -            revoked/refused revoked/refused -               -            revoked/unchanged revoked/unchanged
expired  -            expired/refused expired/refused -               -            expired/unchanged revoked/ended
"""

HEAD, *LINES = (line.split() for line in EXPECTED.strip().splitlines())
GRID = {
    (RefreshState(state), RefreshEvent(event)): cell
    for state, *cells in LINES
    for event, cell in zip(HEAD, cells, strict=True)
}
LEGAL = {row: cell for row, cell in GRID.items() if cell != "-"}
ILLEGAL = [row for row, cell in GRID.items() if cell == "-"]

NOW, LATE = 1000.0, 5000.0
ROTATING = Policy.grace(100, count=1).but(refresh_expires_in=2000, reuse="refuse")

# What is done to the first refresh token; the last step fires the row.
STORIES: dict[tuple[str, str], str] = {
    ("unknown", "issue"): "login",
    ("unknown", "redeem"): "login stranger",
    ("unknown", "keep"): "login no-rotation stranger",
    ("live", "redeem"): "login redeem",
    ("live", "keep"): "login no-rotation redeem",
    ("live", "expire"): "login expire",
    ("live", "revoke"): "login revoke",
    ("spent", "redeem"): "login redeem no-grace redeem",
    ("spent", "keep"): "login redeem no-grace no-rotation redeem",
    ("spent", "replay"): "login redeem redeem",
    ("spent", "collide"): "login redeem retry collide",
    ("spent", "expire"): "login redeem expire",
    ("spent", "revoke"): "login redeem revoke",
    ("revoked", "redeem"): "login revoke redeem",
    ("revoked", "keep"): "login revoke no-rotation redeem",
    ("revoked", "expire"): "login revoke expire",
    ("revoked", "revoke"): "login revoke revoke",
    ("expired", "redeem"): "login expire redeem",
    ("expired", "keep"): "login expire no-rotation redeem",
    ("expired", "expire"): "login expire expire",
    ("expired", "revoke"): "login expire revoke",
}


def name(row: tuple[RefreshState, RefreshEvent]) -> str:
    return f"{row[0].value}-{row[1].value}"


class Stage:
    """One authority, its first grant, and every transition of that grant's first refresh token."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.authority = Authority(ROTATING, "test")
        self.grant: Grant | None = None
        self.fired: list[tuple[str, str, str]] = []
        apply = RefreshToken.apply

        def recorded(token: RefreshToken, event: RefreshEvent) -> Outcome:
            before = token.state
            outcome = apply(token, event)
            if token.label == "rt#1":
                self.fired.append((before.value, event.value, f"{token.state.value}/{outcome.value}"))
            return outcome

        monkeypatch.setattr(RefreshToken, "apply", recorded)

    def do(self, step: str) -> None:
        if step == "login":
            self.grant = self.authority.login("alice", NOW, scope="user:inference")
            return
        assert self.grant
        token = self.grant.refresh[0]
        if step == "redeem":
            self.authority.redeem(token.secret, NOW)
        elif step == "collide":
            self.authority.redeem(token.secret, NOW, was_live=True)
        elif step == "expire":  # a token request after the deadline finds out, and is refused
            self.authority.redeem(token.secret, LATE)
            refusal = self.fired.pop()
            assert refusal[1] == "redeem"
        elif step == "revoke":
            self.authority.revoke(self.grant, NOW)
        elif step == "stranger":
            done = self.authority.redeem("sk-ant-ort01-never-minted", NOW)
            assert (done.token, done.access, done.refresh, done.revoked) == (None, None, None, ())
            event = "redeem" if self.authority.policy.rotate else "keep"
            self.fired.append(("unknown", event, f"unknown/{done.outcome.value}"))
        else:
            changes: dict[str, dict[str, Any]] = {
                "no-rotation": {"rotate": False},
                "no-grace": {"grace_seconds": 0},
                "retry": {"at_once": "retry"},
            }
            self.authority.policy = self.authority.policy.but(**changes[step])


def test_the_table_is_total() -> None:
    """There is a row for every state and every event, and none for anything else."""
    assert set(TABLE) == set(product(RefreshState, RefreshEvent)) == set(GRID)


def test_every_legal_row_has_a_story() -> None:
    """A row that is added to the table must be fired by a story here."""
    assert {(state.value, event.value) for state, event in LEGAL} == set(STORIES)


@pytest.mark.parametrize("row", LEGAL, ids=name)
def test_a_legal_row_is_fired_through_the_authority(
    row: tuple[RefreshState, RefreshEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the authority does to a token in this state is what the grid above says."""
    stage = Stage(monkeypatch)
    for step in STORIES[row[0].value, row[1].value].split():
        stage.do(step)

    assert stage.fired[-1] == (row[0].value, row[1].value, LEGAL[row])


def in_state(state: RefreshState, monkeypatch: pytest.MonkeyPatch) -> RefreshToken:
    """A refresh token that the authority itself has brought into ``state``."""
    stage = Stage(monkeypatch)
    stories = {"live": "login", "spent": "login redeem", "revoked": "login revoke", "expired": "login expire"}
    for step in stories.get(state.value, "login").split():
        stage.do(step)
    assert stage.grant
    if state is RefreshState.UNKNOWN:
        return RefreshToken(secret="sk-ant-ort01-FAKE-new", label="rt#9", grant=stage.grant, parent=None)
    return stage.grant.refresh[0]


@pytest.mark.parametrize("row", LEGAL, ids=name)
def test_a_legal_event_moves_the_token_as_the_grid_says(
    row: tuple[RefreshState, RefreshEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``RefreshToken.apply`` answers with the outcome and leaves the token in the state that the grid names."""
    token = in_state(row[0], monkeypatch)
    outcome = token.apply(row[1])

    assert f"{token.state.value}/{outcome.value}" == LEGAL[row]


@pytest.mark.parametrize("row", ILLEGAL, ids=name)
def test_an_illegal_event_raises_and_changes_nothing(
    row: tuple[RefreshState, RefreshEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises, says which token and why, and every field of the token and of its grant is as it was."""
    token = in_state(row[0], monkeypatch)
    grant = token.grant
    before = [getattr(token, slot) for slot in RefreshToken.__slots__]
    kept = (list(grant.access), list(grant.refresh), grant.death, grant.deadline)

    with pytest.raises(IllegalTransition, match=rf"^{row[1].value} of {token.label}, which is {row[0].value}$"):
        token.apply(row[1])

    assert token.state is row[0]
    assert [getattr(token, slot) for slot in RefreshToken.__slots__] == before
    assert (grant.access, grant.refresh, grant.death, grant.deadline) == kept


@pytest.mark.parametrize("row", ILLEGAL, ids=name)
def test_the_table_leaves_the_state_of_an_illegal_row_alone(row: tuple[RefreshState, RefreshEvent]) -> None:
    """An illegal row says so, and names the state that it was asked about."""
    assert transition(*row) == (row[0], Outcome.ILLEGAL)


def test_the_diagram_has_one_arrow_for_each_legal_row() -> None:
    """It shows what can happen, and nothing that can't."""
    arrows = {
        f"{state.value} --> {cell.split('/')[0]}: {event.value} / {cell.split('/')[1]}"
        for (state, event), cell in LEGAL.items()
    }
    first, start, *rest = (line.strip() for line in diagram().splitlines())

    assert (first, start) == ("stateDiagram-v2", "[*] --> unknown")
    assert set(rest) == arrows
    assert len(rest) == len(arrows)


@pytest.mark.skipif(not (ROOT / "fake_server").is_dir(), reason="not in a checkout: the documents are not here")
def test_the_document_shows_the_table() -> None:
    """The diagram in ``docs/states.md`` is the one that the table gives."""
    shown = MERMAID.search(DOCUMENT.read_text(encoding="utf-8"))

    assert shown
    assert shown[0] == diagram(), "docs/states.md is out of date; run: python tests/unit/core/test_states.py"


if __name__ == "__main__":
    DOCUMENT.write_text(MERMAID.sub(lambda _: diagram(), DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
