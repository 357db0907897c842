"""``claude-tokens doctor``: what is there and what is missing, each with its remedy, and never an error."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import stat

import pytest

from pytest_claude_tokens.cli import doctor, main


@pytest.fixture
def installed(monkeypatch):
    """Says which distributions there are: those that are given, and no other."""

    def put(**found):
        def version(name):
            if name not in found:
                raise importlib.metadata.PackageNotFoundError(name)
            return found[name]

        monkeypatch.setattr(importlib.metadata, "version", version)

    return put


def told(capsys) -> list[str]:
    """The lines of a report, each whole again."""
    assert main.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 100
    return [" ".join(line.split()) for line in re.sub(r"\n {10,}", " ", text).splitlines()]


def test_this_machine_is_described_under_its_headings(capsys):
    """Python, our own package and each heading are there, and the status is 0."""
    lines = told(capsys)
    assert [line for line in lines if line in ("Runs", "Extras", "Programs", "Beyond the guard")] == [
        "Runs",
        "Extras",
        "Programs",
        "Beyond the guard",
    ]
    version = importlib.metadata.version("pytest-claude-tokens")
    assert f"ok pytest-claude-tokens {version}" in lines
    assert any(line.startswith("ok Python 3.") for line in lines)


def test_every_extra_is_known_by_what_it_brings():
    """The table here agrees with the package's own metadata."""
    needed = importlib.metadata.requires("pytest-claude-tokens") or []
    brought = {}
    for line in needed:
        match = re.match(r"([\w.-]+).*extra == ['\"](httpx2|xdist|freezegun|proxy|\w+)['\"]", line)
        if match and match[2] not in ("all", "test", "dev", "clients"):
            brought[match[2]] = match[1]
    assert brought == {name: distribution for name, (distribution, _) in doctor.EXTRAS.items()}


def test_a_missing_extra_comes_with_the_line_that_installs_it(installed, capsys, monkeypatch):
    """Each of them, and without its absence being an error."""
    installed(httpx="0.28")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main.main(["doctor"]) == 0
    unbroken = capsys.readouterr().out
    assert all(f'pip install "pytest-claude-tokens[{name}]"' in unbroken for name in doctor.EXTRAS)
    lines = told(capsys)
    for name in doctor.EXTRAS:
        [line] = [line for line in lines if line.startswith(f"-- {name} ")]
        assert line.startswith(f'-- {name} pip install "pytest-claude-tokens[{name}]" (')
        assert "refuse" not in line
    assert "-- pytest pip install pytest" in lines


def test_httpx2_without_its_extra_is_called_what_it_is(installed, capsys, monkeypatch):
    """The fixtures refuse to work then."""
    installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    [line] = [line for line in told(capsys) if line.startswith("-- httpx2 ")]
    assert line.endswith("; httpx2 is installed, so the fixtures refuse to work without it)")


def test_an_extra_that_is_there_is_told_with_its_version(installed, capsys):
    """And with what it is for."""
    installed(trustme="1.2.1")
    assert any(line.startswith("ok proxy trustme 1.2.1: ") for line in told(capsys))


@pytest.mark.parametrize("name", doctor.BYPASSES)
def test_a_library_that_bypasses_the_guard_is_named(name, installed, capsys):
    """Each that is installed, with the reason; no other."""
    installed(**{name: "1"})
    lines = told(capsys)
    at = lines.index("Beyond the guard")
    assert [line.split()[1] for line in lines[at + 1 :]] == [name]


def test_no_library_that_bypasses_the_guard_is_good_news(installed, capsys):
    """It is said that there is none."""
    installed()
    assert told(capsys)[-1].startswith("ok none found ")


def test_programs_that_are_missing_are_told_with_what_is_skipped(capsys, monkeypatch):
    """Without node, npm, curl and unshare a part of the tests is skipped, and that is all."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    lines = told(capsys)
    for name in ("node", "npm", "curl"):
        assert any(line.startswith(f"-- {name} not on PATH") for line in lines)
    assert any(line.startswith("-- user namespaces there is no program `unshare` on PATH") for line in lines)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (0, "ok user namespaces a program can be run where no route leads out"),
        (1, "-- user namespaces this machine forbids it (exit status 1): what must run without a route out is skipped"),
    ],
)
def test_user_namespaces_are_tried_out(status, line, capsys, monkeypatch, tmp_path):
    """Whether the system permits them is what counts, not whether the tool is there."""
    tool = tmp_path / "unshare"
    tool.write_text(f"#!/bin/sh\nexit {status}\n")
    tool.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert line in told(capsys)
    assert "/" in shutil.which("unshare")
