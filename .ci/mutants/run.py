"""Break the heart of the code on purpose, one place at a time, and see that a fast test fails.

mutmut makes the mutants and runs the tests. It knows no mutant that may live but by its line (`# pragma: no mutate`),
which would hide all others of that line. So this script compares what it found with `survivors.toml`. A mutant for
which no test fails stands there, with the reason why it changes nothing, or the session fails; one that stands there
though a test fails, or that is gone, is taken out. The list only gets longer by somebody's word. Entries name the
function and the text that changed, never a line number.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mutant", "complaints", "explained", "mutants"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KILLED = "killed"
SURVIVED = "survived"
REMEDY = {
    SURVIVED: "NO TEST FAILS: write one, remove what does nothing, or explain it in survivors.toml",
    "no tests": "NO TEST RUNS IT: write one, remove it, or name the test in parts.toml",
    "timeout": "NO TEST ENDS IN TIME: write one that fails at once, or explain it in survivors.toml",
}
RESULTS = """
import json
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
found = []
for path in walk_mutatable_files():
    data = SourceFileMutationData(path=path)
    data.load()
    for name, code in data.exit_code_by_key.items():
        found.append([name, status_by_exit_code[code], get_diff_for_mutant(name, path=path)])
print(json.dumps(found))
"""
"""`mutmut results` and `mutmut show` in one process: to show each mutant takes half a second else."""


@dataclass(frozen=True, slots=True, order=True)
class Mutant:
    """One place of a function that was changed.

    ``function``: as it is imported, ``a.b:Class.method``. ``change``: the lines that differ, behind ``-`` and ``+``.
    ``nth``: which of the places where this change can be made, counted from 1. ``fate``: mutmut's word.
    """

    function: str
    change: str
    nth: int = 1
    fate: str = SURVIVED

    @property
    def module(self) -> str:
        return self.function.split(":")[0]

    def __str__(self) -> str:
        """As an entry of the file, without its reason."""
        lines = ["[[mutant]]", f'function = "{self.function}"']
        lines += [f"nth = {self.nth}"] if self.nth > 1 else []
        lines += [f'fate = "{self.fate}"'] if self.fate != SURVIVED else []
        quoted = json.dumps(self.change) if "'''" in self.change else f"'''\n{self.change}'''"
        return "\n".join([*lines, f"change = {quoted}"])


def mutants(results: Iterable[tuple[str, str, str]]) -> Iterator[Mutant]:
    """The mutants of mutmut's results: of each its name, its fate, and the diff of its function."""
    seen: Counter[tuple[str, str]] = Counter()
    for name, fate, diff in results:
        lines = [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
        place = (_function(name), "\n".join(f"{line[0]} {line[1:].strip()}".rstrip() for line in lines))
        seen[place] += 1
        yield Mutant(*place, seen[place], fate)


def _function(mutant: str) -> str:
    """``a.b.xǁClassǁmethod__mutmut_7``, as mutmut names it, is ``a.b:Class.method``."""
    module, _, mangled = re.sub(r"__mutmut_\d+$", "", mutant).rpartition(".")
    name = mangled.removeprefix("xǁ").replace("ǁ", ".") if "ǁ" in mangled else mangled.removeprefix("x_")
    return f"{module}:{name}"


def explained(text: str, modules: set[str]) -> tuple[set[Mutant], list[str]]:
    """The mutants that a file explains, and what is wrong with it; ``modules``: those that can be mutated."""
    found: set[Mutant] = set()
    wrong = []
    for number, entry in enumerate(tomllib.loads(text).get("mutant", []), 1):
        values = {name: entry.get(name) for name in ("function", "change", "why")}
        where = f"survivors.toml, entry {number} ({values['function']})"
        if not all(isinstance(value, str) and value.strip() for value in values.values()):
            wrong.append(f"{where}: needs the texts `function`, `change` and `why`")
        elif unknown := entry.keys() - values.keys() - {"nth", "fate"}:
            wrong.append(f"{where}: has no key {', '.join(sorted(unknown))}")
        else:
            mutant = Mutant(
                entry["function"], entry["change"].strip(), entry.get("nth", 1), entry.get("fate", SURVIVED)
            )
            if mutant in found:
                wrong.append(f"{where}: stands there twice")
            if mutant.module not in modules:
                wrong.append(f"{where}: its module is in no part of parts.toml")
            found.add(mutant)
    return found, wrong


def complaints(found: Iterable[Mutant], known: set[Mutant], modules: Iterable[str]) -> Iterator[str]:
    """What is wrong where ``modules`` were mutated: all that was ``found`` there, and what is ``known`` to live."""
    found = set(found)
    alive = {mutant for mutant in found if mutant.fate != KILLED}
    for mutant in sorted(alive - known):
        yield f"{mutant}\n{REMEDY.get(mutant.fate, f'MUTMUT SAYS {mutant.fate!r}: that is no verdict')}\n"
    for module in sorted(modules):
        if not any(mutant.module == module for mutant in found):
            yield f"{module}: NOTHING IN IT WAS MUTATED: take it out of parts.toml\n"
        for mutant in sorted(known - alive):
            if mutant.module == module:
                yield f"{mutant}\nA TEST FAILS NOW, OR IT IS GONE: take it out of survivors.toml\n"


def mutate(modules: Sequence[str], tests: Sequence[str], jobs: int) -> list[Mutant]:
    """Let mutmut break those modules and run those tests. Raises ``CalledProcessError`` where it did not finish."""
    with tempfile.TemporaryDirectory(prefix="mutants.") as temporary:
        folder = Path(temporary, "tree")
        subprocess.run([sys.executable, str(HERE.parent / "copy_tree.py"), str(folder)], check=True)
        with Path(folder, "pyproject.toml").open("a", encoding="utf-8") as file:
            file.write(configuration(modules, tests))
        _python(folder, "-m", "mutmut", "run", "--max-children", str(jobs))
        return list(mutants(json.loads(_python(folder, "-c", RESULTS))))


def _python(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"HYPOTHESIS_PROFILE": "ci", "PYTHONUTF8": "1"}  # the same draws each night
    done = subprocess.run(
        [sys.executable, *arguments], check=False, cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stdout[-20_000:], done.stderr[-20_000:], sep="\n")
    done.check_returncode()
    return done.stdout


def configuration(modules: Sequence[str], tests: Sequence[str]) -> str:
    """The table for mutmut, which reads no other file.

    Half a minute and more for tests of milliseconds, so that a busy machine is not taken for a loop without end.
    """
    plugins = [f"no:{name}" for name in ("cacheprovider", "xdist", "rerunfailures", "html")]
    return f"""
[tool.mutmut]
source_paths = ["fake_server", "pytest_claude_tokens"]
only_mutate = {list(modules)}
also_copy = ["docs", "examples", "README.md"]
pytest_add_cli_args = {[word for plugin in plugins for word in ("-p", plugin)]}
pytest_add_cli_args_test_selection = {list(tests)}
timeout_constant = 2.0
use_git_change_detection = false
"""


def dotted(path: str) -> str:
    """``a/b.py`` as ``a.b``."""
    return path.removesuffix(".py").replace("/", ".")


def main() -> int:
    """Mutate the parts named, or all; 1 if there is something to complain about."""
    parts: Mapping[str, Mapping[str, list[str]]] = tomllib.loads((HERE / "parts.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(parts)} (default: all)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (default: one a core)"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(parts)}")
    mutable = {dotted(module) for part in parts.values() for module in part["modules"]}
    known, wrong = explained((HERE / "survivors.toml").read_text(encoding="utf-8"), mutable)
    for name in options.parts or parts:
        modules, tests = parts[name]["modules"], parts[name]["tests"]
        try:
            found = mutate(modules, tests, options.jobs)
        except subprocess.CalledProcessError as error:
            wrong.append(f"{name}: NOT RUN: {error}")  # the other parts are, all the same
            continue
        killed = sum(mutant.fate == KILLED for mutant in found)
        print(f"{name}: of {len(found)} mutants a test fails for {killed}", flush=True)
        wrong += complaints(found, known, map(dotted, modules))
    for complaint in wrong:
        print(complaint)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
