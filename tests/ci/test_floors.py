"""The declared lower bounds, which the session `lowest` installs."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "floors.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason=".ci is not installed; run this in a checkout")


def floors(dependencies, **extras):
    """What the script makes of a project with these requirements."""
    project = {"name": "Our-Project", "dependencies": dependencies, "optional-dependencies": extras}
    return runpy.run_path(str(SCRIPT))["floors"]({"build-system": {"requires": ["backend>=1"]}, "project": project})


@pytest.mark.parametrize("line", ["it>=1.2", "it~=1.2", "it==1.2", "it==1.2.*", "it>=1.2,<2,!=1.3", "It[toml]>=1.2"])
def test_the_oldest_release_is_read_off_the_bound(line):
    """Whatever else the requirement says: constraints of pip have neither extras nor a range."""
    assert floors([line]) == {"backend": "1", "it": "1.2"}


@pytest.mark.parametrize("line", ["it", "it<2", "it>1", "it>=1,>=1.1"])
def test_a_requirement_without_one_lower_bound_is_refused(line):
    """pip would take its newest release, and the session would not test what it says."""
    with pytest.raises(ValueError, match=r"one lower bound is needed, as in it>=1\.2"):
        floors([line])


def test_two_bounds_for_one_library_are_refused():
    """Constraints that differ can't be met."""
    with pytest.raises(ValueError, match=r"it: declared twice, from 1\.2 and from 1\.3"):
        floors(["it>=1.2"], extra=["IT>=1.3"])


def test_extras_count_and_the_project_itself_does_not():
    """`all` names the other extras by way of the project."""
    assert floors(["it>=1.2"], one=["other>=3"], all=["our.project[one]"]) == {
        "backend": "1",
        "it": "1.2",
        "other": "3",
    }


def test_each_requirement_of_this_project_has_a_floor():
    """None is left out: the names are those of `pyproject.toml`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = runpy.run_path(str(SCRIPT))["floors"](project)
    assert {"hatchling", "pytest", "hypothesis", "respx", "httptools", "trustme", "coverage", "anthropic"} <= set(found)
    assert len(found) == len(set(found)) >= 20
