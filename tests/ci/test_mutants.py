"""Which mutants may live, and what the session `mutants` says of the others."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".ci" / "mutants"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=".ci is not installed; run this in a checkout")

MUTANT = "fake_server.core.gate.xǁGateǁpoll__mutmut_12"
DIFF = """--- fake_server/core/gate.py
+++ fake_server/core/gate.py
@@ -1,3 +1,3 @@
     def poll(self):
-        if now >= limit:
+        if now > limit:
             return None
"""
ENTRY = "fake_server.core.gate:Gate.poll\n- if now >= limit:\n+ if now > limit:\n"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(FOLDER / "run.py"))


@pytest.mark.parametrize(
    ("mutant", "name"),
    [
        (MUTANT, "fake_server.core.gate:Gate.poll"),
        ("a.b.x_check__mutmut_1", "a.b:check"),
        ("a.b.x__ordinal__mutmut_31", "a.b:_ordinal"),
        ("a.xǁ_Readerǁ__init____mutmut_2", "a:_Reader.__init__"),
    ],
)
def test_a_mutant_is_known_by_its_function(script, mutant, name):
    assert script["name_of"](mutant) == name


def test_a_mutant_is_known_wherever_its_lines_move(script):
    """By what was changed, with no number of a line and no indentation."""
    moved = (
        DIFF.replace("@@ -1,3 +1,3 @@", "@@ -71,3 +71,3 @@").replace("-        ", "-    ").replace("+        ", "+    ")
    )
    found = script["survivor"](MUTANT, DIFF)
    assert str(found) + "\n" == ENTRY
    assert script["survivor"](MUTANT.replace("_12", "_9"), moved) == found


def test_a_survivor_is_a_complaint_unless_it_is_explained(script):
    """And so is an explanation of one that is noticed: the list only holds what lives."""
    gate, found = "fake_server.core.gate", script["survivor"](MUTANT, DIFF)
    explained = set(script["read"](f"# comment\n\n{ENTRY}why: it waits\n"))

    def told(*arguments):
        return [text.splitlines()[-1].split(":")[0] for text in script["complaints"](*arguments)]

    assert explained == {found}
    assert told({found}, explained, {gate}) == []
    assert told({found}, set(), {gate}) == ["NO TEST NOTICES"]
    assert told(set(), explained, {gate}) == ["IS NOTICED, OR GONE"]
    assert told(set(), explained, {"fake_server.core.hold"}) == []  # that part was not run
    with pytest.raises(ValueError, match=r"fake_server\.core\.gate:Gate\.poll: ends with a line `why: …`"):
        script["read"](ENTRY)


def test_the_files_name_what_there_is(script):
    """Each survivor is of a module that is mutated, and each path of the parts exists."""
    parts = tomllib.loads((FOLDER / "parts.toml").read_text(encoding="utf-8")).values()
    paths = [path for part in parts for path in (*part["modules"], *part["tests"])]
    assert [path for path in paths if not (ROOT / path.removeprefix("--ignore=")).exists()] == []
    modules = {module.removesuffix(".py").replace("/", ".") for part in parts for module in part["modules"]}
    explained = script["read"]((FOLDER / "survivors.txt").read_text(encoding="utf-8"))
    assert {each.module for each in explained} <= modules
    assert all(explained.values())
