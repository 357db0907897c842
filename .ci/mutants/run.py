"""Break the heart of the code on purpose, one place at a time, and see that a fast test notices.

mutmut makes the mutants and runs the tests. One that no test notices must stand in `survivors.txt`, with the reason why
it changes nothing; one that stands there and is noticed, or is gone, must be taken out. So the list only gets longer by
somebody's word. An entry names the function and the text that changed, never a line number.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Survivor", "complaints", "name_of", "read", "survivor"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
UNNOTICED = ("survived", "no tests")
NOTICED = ("killed", "timeout", "segfault")


@dataclass(frozen=True, slots=True, order=True)
class Survivor:
    """A mutant that no test notices: the function, as it is imported, and the lines that differ (``-``, ``+``)."""

    function: str
    changed: tuple[str, ...]

    @property
    def module(self) -> str:
        return self.function.split(":")[0]

    def __str__(self) -> str:
        return "\n".join((self.function, *self.changed))


def name_of(mutant: str) -> str:
    """The function of a mutant of mutmut's, ``a.b.xǁClassǁmethod__mutmut_7``, as ``a.b:Class.method``."""
    module, _, mangled = re.sub(r"__mutmut_\d+$", "", mutant).rpartition(".")
    function = mangled.removeprefix("xǁ").replace("ǁ", ".") if "ǁ" in mangled else mangled.removeprefix("x_")
    return f"{module}:{function}"


def survivor(mutant: str, diff: str) -> Survivor:
    """The mutant of that name; ``diff``: unified, of its function alone."""
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    return Survivor(name_of(mutant), tuple(f"{line[0]} {line[1:].strip()}".rstrip() for line in lines if line))


def read(text: str) -> dict[Survivor, str]:
    """The survivors that are explained, with the reason of each. Raises ``ValueError`` for one without."""
    found = {}
    entries = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip()
    for block in filter(None, re.split(r"\n\s*\n", entries)):
        function, *changed, why = block.splitlines()
        if not why.startswith("why: ") or not changed:
            raise ValueError(f"{function}: ends with a line `why: …`, after the changed lines")
        found[Survivor(function, tuple(changed))] = why.removeprefix("why: ")
    return found


def complaints(found: set[Survivor], explained: set[Survivor], modules: set[str]) -> Iterator[str]:
    """What is wrong where ``modules`` were mutated and ``found`` was not noticed."""
    for each in sorted(found - explained):
        yield f"{each}\nNO TEST NOTICES: write one, remove what does nothing, or explain it in survivors.txt\n"
    for each in sorted(explained - found):
        if each.module in modules:
            yield f"{each}\nIS NOTICED, OR GONE: take it out of survivors.txt\n"


def mutmut(*arguments: str, folder: Path) -> str:
    """What a command of mutmut's prints, in ``folder``. Raises ``CalledProcessError``, after its output was printed."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    environment = os.environ | {"HYPOTHESIS_PROFILE": "ci", "PYTHONUTF8": "1"}  # the same draws each night
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-20_000:], done.stderr[-20_000:], sep="\n")
    done.check_returncode()
    return done.stdout


def mutate(modules: Sequence[str], tests: Sequence[str], jobs: int) -> tuple[int, set[Survivor]]:
    """The number of mutants of those modules, and those that none of the tests notice."""
    with tempfile.TemporaryDirectory(prefix="mutants.") as temporary:
        folder = Path(temporary, "tree")
        subprocess.run([sys.executable, str(HERE.parent / "copy_tree.py"), str(folder)], check=True)
        with Path(folder, "pyproject.toml").open("a", encoding="utf-8") as file:
            file.write(configuration(modules, tests))
        mutmut("run", "--max-children", str(jobs), folder=folder)
        status = dict(
            line.strip().rsplit(": ", 1) for line in mutmut("results", "--all", "1", folder=folder).splitlines()
        )
        if odd := {name: what for name, what in status.items() if what not in (*UNNOTICED, *NOTICED)}:
            raise RuntimeError(f"mutmut has not finished: {odd}")
        names = [name for name, what in status.items() if what in UNNOTICED]
        return len(status), {survivor(name, mutmut("show", name, folder=folder)) for name in names}


def configuration(modules: Sequence[str], tests: Sequence[str]) -> str:
    """The table for mutmut, which reads no other file."""
    plugins = [f"no:{name}" for name in ("cacheprovider", "xdist", "rerunfailures", "html")]
    return f"""
[tool.mutmut]
source_paths = ["fake_server", "pytest_claude_tokens"]
only_mutate = {list(modules)}
also_copy = ["docs", "examples", "README.md"]
pytest_add_cli_args = {[word for plugin in plugins for word in ("-p", plugin)]}
pytest_add_cli_args_test_selection = {list(tests)}
use_git_change_detection = false
"""


def main() -> int:
    """Mutate the parts named, or all; 1 if there is something to complain about."""
    parts = tomllib.loads((HERE / "parts.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(parts)} (default: all)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (default: one a core)"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(parts)}")
    explained = set(read((HERE / "survivors.txt").read_text(encoding="utf-8")))
    wrong = 0
    for name in options.parts or parts:
        modules, tests = parts[name]["modules"], parts[name]["tests"]
        number, found = mutate(modules, tests, options.jobs)
        print(f"{name}: {number} mutants, {len(found)} of them unnoticed", flush=True)
        mutated = {module.removesuffix(".py").replace("/", ".") for module in modules}
        for complaint in complaints(found, explained, mutated):
            print(complaint, flush=True)
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
