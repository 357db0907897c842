"""Print the oldest release of each requirement that `pyproject.toml` still admits, as constraints for pip.

The declared lower bounds are the only list, so that the tests run with what a user may have: a second list would keep
passing after a bound in `pyproject.toml` was lowered.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["declared", "floors"]

_BOUNDS = ("==", "===", "~=", ">=")
"""The operators that name the oldest release which they admit."""


def declared(project: Mapping[str, Any]) -> Iterator[Requirement]:
    """Each requirement of a parsed ``pyproject.toml``, to build, to run and of each extra, but the project itself."""
    table = project["project"]
    extras = table.get("optional-dependencies", {})
    lines = [*project["build-system"]["requires"], *table.get("dependencies", ())]
    lines += [line for extra in extras.values() for line in extra]
    own = canonicalize_name(table["name"])
    return (each for each in map(Requirement, lines) if canonicalize_name(each.name) != own)


def floors(project: Mapping[str, Any]) -> dict[str, str]:
    """The oldest release of each requirement, by its name as the index spells it.

    Raises ``ValueError`` for one that has no lower bound, or more than one: then no release is the oldest.
    """
    found: dict[str, str] = {}
    for requirement in declared(project):
        bounds = [each.version.removesuffix(".*") for each in requirement.specifier if each.operator in _BOUNDS]
        if len(bounds) != 1:
            raise ValueError(f"{requirement}: one lower bound is needed, as in {requirement.name}>=1.2")
        name = canonicalize_name(requirement.name)
        if found.setdefault(name, bounds[0]) != bounds[0]:
            raise ValueError(f"{name}: declared twice, from {found[name]} and from {bounds[0]}")
    return found


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    try:
        print(*(f"{name}=={version}" for name, version in floors(tomllib.loads(text)).items()), sep="\n")
    except ValueError as error:
        sys.exit(str(error))
