"""Canaries: every private name of Hypothesis that the search uses is there, and does what it is used for.

A name that is gone fails here with what it is for. Then: look into Hypothesis's changelog for what has taken its place,
use that in ``search/hypothesis_engine.py`` (where nothing has, ask for a public way in an issue of Hypothesis, and hold
``hypothesis<…`` in ``pyproject.toml`` until then), and raise the floor there if the new name is missing in the oldest.
"""

from __future__ import annotations

import ast
import importlib
import random
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import Phase, Verbosity, example, given, reproduce_failure, seed, settings, target
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

import pytest_claude_tokens

ROOT = Path(pytest_claude_tokens.__file__).parents[1]  # the checkout, or where the wheel is installed
ENGINE = ROOT / "pytest_claude_tokens" / "search" / "hypothesis_engine.py"
PUBLIC = {
    *(f"hypothesis.{name}" for name in hypothesis.__all__),
    "hypothesis.stateful",
    "hypothesis.strategies",
    "hypothesis.errors",
    *(f"hypothesis.database.{name}" for name in importlib.import_module("hypothesis.database").__all__),
}
quick = settings(max_examples=5, database=None, derandomize=True)


def private(path: str) -> Any:
    """What stands under a dotted name."""
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def within(look: Any, **strategies: Any) -> list[Any]:
    """What ``look(data, **values)`` returns in the examples of one ordinary run, ``data`` being the engine's."""
    seen: list[Any] = []

    @quick
    @given(**(strategies or {"n": st.integers(0, 9)}))
    def property_(**values: Any) -> None:
        seen.append(look(private("hypothesis.control.current_build_context")().data, **values))

    property_()
    return seen


def run_with(mark: str, value: Any, chosen: settings = quick) -> list[int]:
    """What an ordinary run draws, or is given, where ``value`` stands as attribute ``mark`` on the test."""
    seen: list[int] = []

    @chosen
    @given(n=st.integers(0, 10**9))
    def property_(n: int) -> None:
        seen.append(n)

    setattr(property_, mark, value)
    property_()
    return seen


def blob_for(number: int) -> bytes:
    encoded: bytes = private("hypothesis.core.encode_failure")((number,))
    return encoded


def reproduces() -> bool:
    """The blob brings the choice back; as the body passes, Hypothesis then says that it did not reproduce."""
    seen: list[int] = []

    @settings(quick, phases=[Phase.reuse])
    @given(n=st.integers(0, 10**9))
    def property_(n: int) -> None:
        seen.append(n)

    marked: Any = property_
    marked._hypothesis_internal_use_reproduce_failure = (hypothesis.__version__, blob_for(77))
    with pytest.raises(hypothesis.errors.DidNotReproduce):
        property_()
    return seen == [77]


def stored(mark: str, suffix: bytes) -> bool:
    """A choice that stands in the database, under a key of ours, is what a run begins with."""
    database = InMemoryExampleDatabase()
    database.save(b"ours" + suffix, private("hypothesis.database.choices_to_bytes")((77,)))
    chosen = settings(quick, database=database, derandomize=False, phases=[Phase.reuse])
    return run_with(mark, b"ours", chosen) == [77]


def takes_seed() -> bool:
    chosen = settings(quick, derandomize=False)
    first, second, other = (run_with("_hypothesis_internal_use_seed", n, chosen) for n in (5, 5, 6))
    return first == second != other


def digests() -> bool:
    """Two functions of one source have different digests where the attribute differs."""

    def made(name: bytes) -> Any:
        def function() -> None:
            """One of many."""

        function._hypothesis_internal_add_digest = name  # type: ignore[attr-defined]
        return private("hypothesis.internal.reflection.function_digest")(function)

    return bool(made(b"one") == made(b"one") != made(b"two"))


def quiet(capsys: pytest.CaptureFixture[str]) -> bool:
    lines: list[str] = []
    with private("hypothesis.reporting.with_reporter")(lines.append):
        run_with("unused", None, settings(quick, verbosity=Verbosity.debug))
    return bool(lines) and not capsys.readouterr().out


def left_by(decorator: Any, mark: str) -> bool:
    """Whether the decorator leaves that attribute on a test."""

    @decorator
    @given(n=st.integers())
    def property_(n: int) -> None:
        """Nothing."""

    return hasattr(property_, mark)


def explicit() -> bool:
    one = private("hypothesis.core.Example")((), {"n": 77}, raises=None, reason=None)
    return run_with("hypothesis_explicit_examples", [one])[0] == 77


def registered() -> bool:
    mine = random.Random(1)
    hypothesis.register_random(mine)
    return any(one is mine for one in private("hypothesis.internal.entropy.RANDOMS_TO_MANAGE").values())


def target_twice() -> bool:
    def look(data: Any, n: int) -> int:
        target(1.0, label="one")
        data.target_observations.clear()
        target(2.0, label="one")
        return n

    return len(within(look)) == 5


def drawn_by_our_own() -> bool:
    class Own(st.SearchStrategy[int]):
        def do_draw(self, data: Any) -> int:
            integer: int = data.draw_integer(3, 7)
            return integer * data.draw(st.just(10))

    return set(within(lambda data, n: n, n=Own())) <= {30, 40, 50, 60, 70}


def written(data: Any, n: int) -> Any:
    text = private("hypothesis.database.choices_to_bytes")(data.choices)
    return private("hypothesis.database.choices_from_bytes")(text) == (n,)


CANARIES: dict[str, tuple[str, Any]] = {
    "configuration.set_hypothesis_home_dir": (
        "lets the demo keep no example database in the user's folder",
        lambda: private("hypothesis.configuration.set_hypothesis_home_dir"),
    ),
    "control.current_build_context": ("gives the running example's data", lambda: within(lambda data, n: data)),
    "core.Example": ("is an @example, which gets its schedule", explicit),
    "core.encode_failure": ("makes the blob by which a failure's arguments are drawn again", reproduces),
    "core.failure_exceptions_to_catch": (
        "names what Hypothesis would shrink, and a search raises at once",
        lambda: {SystemExit, pytest.fail.Exception} <= {*private("hypothesis.core.failure_exceptions_to_catch")()},
    ),
    "core.global_force_seed": (
        "is the value of --hypothesis-seed",
        lambda: private("hypothesis.core.global_force_seed") is None,
    ),
    "core.threadlocal._hypothesis_global_random": (
        "is Hypothesis's own generator, which says nothing about those of the code under test",
        lambda: hasattr(private("hypothesis.core.threadlocal"), "_hypothesis_global_random"),
    ),
    "database.choices_from_bytes": ("reads what a failure was made of", lambda: all(within(written))),
    "database.choices_to_bytes": ("writes what a failure was made of", lambda: all(within(written))),
    "internal.conjecture.data.Status.INVALID": (
        "tells the data of an explicit example from those of a drawn one",
        lambda: all(
            within(lambda data, n: data.status is not private("hypothesis.internal.conjecture.data.Status").INVALID)
        ),
    ),
    "internal.entropy.RANDOMS_TO_MANAGE": ("holds the generators that Hypothesis seeds", registered),
    "internal.reflection.function_digest": ("makes the key of the example database", digests),
    "reporting.with_reporter": ("takes what Hypothesis prints", quiet),
    "data.choices": ("are what the engine chose", lambda: all(within(lambda data, n: tuple(data.choices) == (n,)))),
    "data.draw": ("draws from another strategy", drawn_by_our_own),
    "data.draw_integer": ("draws an integer of a schedule", drawn_by_our_own),
    "data.status": ("as Status.INVALID", lambda: within(lambda data, n: data.status)),
    "data.target_observations": ("lets target() be called for many schedules of one example", target_twice),
    "do_draw": ("is the method that a strategy has", drawn_by_our_own),
    "_hypothesis_internal_use_settings": (
        "holds what @settings chose",
        lambda: len(run_with("_hypothesis_internal_use_settings", settings(quick, max_examples=3))) == 3,
    ),
    "_hypothesis_internal_settings_applied": (
        "says that @settings stands there",
        lambda: left_by(settings(max_examples=3), "_hypothesis_internal_settings_applied"),
    ),
    "_hypothesis_internal_use_seed": (
        "holds what @seed chose",
        lambda: left_by(seed(3), "_hypothesis_internal_use_seed") and takes_seed(),
    ),
    "_hypothesis_internal_use_reproduce_failure": (
        "holds what @reproduce_failure got",
        lambda: left_by(reproduce_failure("1", b""), "_hypothesis_internal_use_reproduce_failure") and reproduces(),
    ),
    "hypothesis_explicit_examples": (
        "holds each @example",
        lambda: left_by(example(n=3), "hypothesis_explicit_examples") and explicit(),
    ),
    "_hypothesis_internal_add_digest": ("tells the keys of two tests apart", digests),
    "_hypothesis_internal_database_key": (
        "is the key under which a failure is looked up to be shrunk",
        lambda: stored("_hypothesis_internal_database_key", b""),
    ),
    ".secondary": (
        "ends the key of failures that may become smaller",
        lambda: stored("_hypothesis_internal_database_key", b".secondary"),
    ),
}


@pytest.mark.parametrize("name", CANARIES)
def test_a_private_name_does_what_it_is_used_for(name, capsys):
    """With the installed Hypothesis, which may be the oldest or the newest."""
    purpose, check = CANARIES[name]
    advice = f"Hypothesis's private {name}, which {purpose}, is gone or has changed: see the top of this file"
    try:
        holds = check(capsys) if check is quiet else check()
    except (AttributeError, ImportError, TypeError, KeyError) as error:
        pytest.fail(f"{advice} ({type(error).__name__}: {error})")
    assert holds, advice


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an expression of names; empty for any other."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def imported(tree: ast.AST) -> dict[str, str]:
    """Names of Hypothesis that a module imports: as it calls them, and in full."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({one.asname or one.name: one.name for one in node.names})
        elif isinstance(node, ast.ImportFrom):
            names.update({one.asname or one.name: f"{node.module}.{one.name}" for one in node.names})
    return {name: full for name, full in names.items() if full.split(".")[0] == "hypothesis"}


def is_public(full: str) -> bool:
    return full == "hypothesis" or any(full == name or full.startswith(f"{name}.") for name in PUBLIC)


def used(path: Path) -> set[str]:
    """The private names of Hypothesis that a file uses."""
    tree = ast.parse(path.read_text())
    names = imported(tree)
    private_ones = {name: full for name, full in names.items() if not is_public(full)}
    found = set()
    for node in ast.walk(tree):
        text = dotted(node).removesuffix(".values")  # a dictionary's
        first, _, rest = text.partition(".")
        if first in private_ones:
            found.add(f"{private_ones[first]}.{rest}".strip("."))
        elif "data" in text.split(".")[:-1]:
            found.add("hypothesis.data." + text.rsplit(".", 1)[1])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "data":
            found.add(f"hypothesis.data.{node.attr}")
        if isinstance(node, ast.FunctionDef) and node.name == "do_draw":
            found.add("hypothesis.do_draw")
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if text.startswith(("_hypothesis_", "hypothesis_explicit", ".secondary")) and " " not in text:
                found.add(f"hypothesis.{text}")
    whole = {name for name in found if not any(other.startswith(f"{name}.") for other in found)}
    return {name.removeprefix("hypothesis.") for name in whole}


def test_each_private_name_has_its_canary():
    """Every one that the module uses, and none that it doesn't."""
    assert used(ENGINE) == {*CANARIES}


@pytest.mark.parametrize(
    "path",
    [
        path.relative_to(ROOT)
        for package in ("pytest_claude_tokens", "fake_server")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path != ENGINE and "hypothesis" in path.read_text()
    ],
    ids=str,
)
def test_no_other_module_knows_a_private_name(path):
    """They would be found only when a user's Hypothesis is another than ours."""
    assert {name for name in used(ROOT / path) if not name.startswith("data.")} == set()
