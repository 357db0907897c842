"""Which mutants may live, and what the session `mutants` says of the others."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".ci" / "mutants"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=".ci is not installed; run this in a checkout")

GATE = "fake_server.core.gate"
MUTANT = f"{GATE}.xǁGateǁpoll__mutmut_12"
DIFF = """--- fake_server/core/gate.py
+++ fake_server/core/gate.py
@@ -1,3 +1,3 @@
     def poll(self):
-        if now >= limit:
+        if now > limit:
             return None
"""
ENTRY = f"""[[mutant]]
function = "{GATE}:Gate.poll"
change = '''
- if now >= limit:
+ if now > limit:'''"""
NO_TEST = "NO TEST FAILS"
GONE = "A TEST FAILS NOW, OR IT IS GONE"


@pytest.fixture(scope="module")
def script():
    return SimpleNamespace(**runpy.run_path(str(FOLDER / "run.py")))


def told(script, *arguments):
    """The last line of each complaint, up to the remedy."""
    return [text.rstrip().splitlines()[-1].split(":")[0] for text in script.complaints(*arguments)]


@pytest.mark.parametrize(
    ("mutant", "function"),
    [
        (MUTANT, f"{GATE}:Gate.poll"),
        ("a.b.x_check__mutmut_1", "a.b:check"),
        ("a.b.x__ordinal__mutmut_31", "a.b:_ordinal"),
        ("a.xǁ_Readerǁ__init____mutmut_2", "a:_Reader.__init__"),
    ],
)
def test_a_mutant_is_known_by_its_function(script, mutant, function):
    (found,) = script.mutants([(mutant, "survived", DIFF)])
    assert found.function == function


def test_a_mutant_is_known_wherever_its_lines_move(script):
    """By what was changed, with no number of a line and no indentation."""
    moved = DIFF.replace("-1,3 +1,3", "-71,3 +71,3").replace("-        ", "-    ").replace("+        ", "+    ")
    (found,) = script.mutants([(MUTANT, "survived", DIFF)])
    assert str(found) == ENTRY
    assert list(script.mutants([(MUTANT.replace("_12", "_9"), "survived", moved)])) == [found]


def test_two_places_with_the_same_change_are_two_mutants(script):
    """Where the second lives and the first does not, an entry for the first explains nothing."""
    results = [(MUTANT, "killed", DIFF), (MUTANT.replace("_12", "_13"), "survived", DIFF)]
    first, second = script.mutants(results)
    assert (first.nth, second.nth) == (1, 2)
    known, _ = script.explained(f"{ENTRY}\nwhy = 'it waits'", {GATE})
    assert told(script, [first, second], known, {GATE}) == [NO_TEST, GONE]
    known, wrong = script.explained(f"{second}\nwhy = 'it waits'", {GATE})
    assert told(script, [first, second], known, {GATE}) == wrong == []


@pytest.mark.parametrize("change", ["- if now >= limit:\n+ if now > limit:", "- '''a\n+ b", '- "\\n"\n+ "XX\\nXX"'])
@pytest.mark.parametrize("fate", ["survived", "timeout"])
@pytest.mark.parametrize("nth", [1, 2])
def test_what_is_printed_can_be_pasted_into_the_file(script, change, fate, nth):
    mutant = script.Mutant(f"{GATE}:Gate.poll", change, nth, fate)
    assert script.explained(f"{mutant}\nwhy = 'it waits'", {GATE}) == ({mutant}, [])


@pytest.mark.parametrize(
    ("fate", "remedy"),
    [
        ("survived", NO_TEST),
        ("no tests", "NO TEST RUNS IT"),
        ("timeout", "NO TEST ENDS IN TIME"),  # perhaps the machine was busy, so that it is no proof
        ("segfault", "MUTMUT SAYS 'segfault'"),  # killed by a signal: by whomsoever
        ("not checked", "MUTMUT SAYS 'not checked'"),
    ],
)
def test_only_a_test_that_fails_is_a_proof(script, fate, remedy):
    """Whatever else becomes of a mutant is a complaint, until it is explained."""
    killed, other = script.mutants([(MUTANT, "killed", DIFF), (MUTANT, fate, DIFF.replace("limit", "end"))])
    assert told(script, [killed, other], set(), {GATE}) == [remedy]
    assert told(script, [killed, other], {other}, {GATE}) == []


def test_an_explanation_of_one_that_is_noticed_is_a_complaint(script):
    """The list only holds what lives; of parts that were not run nothing is said."""
    (killed,) = script.mutants([(MUTANT, "killed", DIFF)])
    known, _ = script.explained(f"{ENTRY}\nwhy = 'it waits'", {GATE})
    assert told(script, [killed], known, {GATE}) == [GONE]
    assert list(script.complaints([], known, {"fake_server.core.hold"})) == [
        "fake_server.core.hold: NOTHING IN IT WAS MUTATED: take it out of parts.toml\n"
    ]


def test_all_that_is_wrong_with_the_file_is_told_at_once(script):
    """Each entry by its number, and what can be read of it."""
    entries = (ENTRY, f"{ENTRY}\nwhy = ' '", f"{ENTRY}\nwhy = 'x'\nbecause = 1", "[[mutant]]")
    _, wrong = script.explained("\n".join(entries), {GATE})
    needs = "needs the texts `function`, `change` and `why`"
    assert wrong == [
        f"survivors.toml, entry 1 ({GATE}:Gate.poll): {needs}",
        f"survivors.toml, entry 2 ({GATE}:Gate.poll): {needs}",
        f"survivors.toml, entry 3 ({GATE}:Gate.poll): has no key because",
        f"survivors.toml, entry 4 (None): {needs}",
    ]
    twice = f"{ENTRY}\nwhy = 'it waits'\n" * 2
    assert script.explained(twice, {"a"})[1] == [
        f"survivors.toml, entry 1 ({GATE}:Gate.poll): its module is in no part of parts.toml",
        f"survivors.toml, entry 2 ({GATE}:Gate.poll): stands there twice",
        f"survivors.toml, entry 2 ({GATE}:Gate.poll): its module is in no part of parts.toml",
    ]


def test_the_files_name_what_there_is(script):
    """Each survivor is of a module that is mutated, each path of the parts exists, and no new checker is forgotten."""
    parts = tomllib.loads((FOLDER / "parts.toml").read_text(encoding="utf-8")).values()
    paths = [path for part in parts for path in (*part["modules"], *part["tests"])]
    assert [path for path in paths if not (ROOT / path.removeprefix("--ignore=")).exists()] == []
    modules = [module for part in parts for module in part["modules"]]
    assert len(modules) == len(set(modules))
    text = (FOLDER / "survivors.toml").read_text(encoding="utf-8")
    _, wrong = script.explained(text, set(map(script.dotted, modules)))
    assert wrong == []
    judging = {str(path.relative_to(ROOT)) for path in ROOT.glob("pytest_claude_tokens/judge/*.py")}
    left = {
        f"pytest_claude_tokens/judge/{name}.py" for name in ("__init__", "sieve", "verdict", "violations", "wording")
    }
    assert judging - set(modules) == left  # the sieve has its differential test; the others are values and words
