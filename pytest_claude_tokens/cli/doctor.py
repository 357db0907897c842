"""``claude-tokens doctor``: lists what works on this machine and what is missing. It changes nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fake_server.serve.commandline import PlainParser
from pytest_claude_tokens.processes import namespace
from pytest_claude_tokens.report.wording import WIDTH, ascii_only

__all__ = ["BYPASSES", "EXTRAS", "Finding", "findings", "main"]

_NAME_COLUMNS = 26


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: the thing looked for, whether it is there, and the consequence."""

    name: str
    there: bool
    meaning: str


EXTRAS: dict[str, tuple[str, str]] = {
    "httpx2": ("pytest-httpx2", "answers httpx2, on which the official SDK is built, in process"),
    "xdist": ("pytest-xdist", "runs a suite on several cores"),
    "freezegun": ("freezegun", "lets the service follow freeze_time"),
    "proxy": ("trustme", "serves clients that insist on the real hosts and TLS"),
}
"""For each extra: the distribution that it installs, and the purpose."""

BYPASSES: dict[str, str] = {
    "aiodns": "looks names up by itself",
    "curl_cffi": "is libcurl",
    "grpcio": "brings its own network code",
    "primp": "is a client in Rust",
    "pycares": "looks names up by itself",
    "pycurl": "is libcurl",
    "pyreqwest": "is a client in Rust",
    "rnet": "is a client in Rust",
    "tls-client": "is a client in Go",
    "uvloop": "opens connections in libuv; explored tests run on the simulated loop all the same",
}
"""Distributions that reach the network without Python's ``socket``, so that the guard can't see them."""

_PROGRAMS = {
    "node": "clients in JavaScript",
    "npm": "installing such clients",
    "curl": "trying the service out by hand",
}


def findings() -> Iterator[tuple[str, list[Finding]]]:
    """All findings, by heading."""
    yield "Runs", list(_basics())
    yield "Extras", [_extra(name) for name in EXTRAS]
    yield "Programs", [*map(_program, _PROGRAMS), _namespaces()]
    yield "Beyond the guard", list(_bypasses())


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _basics() -> Iterator[Finding]:
    yield Finding("Python", True, f"{platform.python_version()} ({sys.executable})")
    for distribution in ("pytest-claude-tokens", "pytest", "hypothesis", "respx", "httpx", "httptools"):
        version = _version(distribution)
        yield Finding(distribution, version is not None, version or f"pip install {distribution}")


def _extra(name: str) -> Finding:
    distribution, purpose = EXTRAS[name]
    version = _version(distribution)
    if version is not None:
        return Finding(name, True, f"{distribution} {version}: {purpose}")
    needed = name == "httpx2" and importlib.util.find_spec("httpx2") is not None
    urgent = "; httpx2 is installed, so the fixtures refuse to work without it" if needed else ""
    # The command comes first, so that it stays on one line and can be copied.
    return Finding(name, False, f'pip install "pytest-claude-tokens[{name}]" ({purpose}{urgent})')


def _program(name: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, False, f"not on PATH: tests that need it are skipped ({_PROGRAMS[name]})")
    return Finding(name, True, f"{path} ({_PROGRAMS[name]})")


def _namespaces() -> Finding:
    """Whether an ordinary user can create a network namespace without a route out."""
    obstacle = namespace.obstacle("--net")
    if obstacle is None:
        return Finding("user namespaces", True, "a program can be run where no route leads out")
    return Finding("user namespaces", False, f"{obstacle}: what must run without a route out is skipped")


def _bypasses() -> Iterator[Finding]:
    installed = [name for name in BYPASSES if _version(name) is not None]
    for name in installed:
        yield Finding(name, False, f"{BYPASSES[name]}: the guard of the real hosts does not see it")
    if not installed:
        yield Finding("none found", True, "no installed library is known to bypass Python's socket")


def _section(heading: str, found: Iterable[Finding]) -> Iterator[str]:
    yield heading
    for finding in found:
        mark = "ok" if finding.there else "--"
        yield textwrap.fill(
            ascii_only(finding.meaning),
            WIDTH,
            initial_indent=f"  {mark}  {finding.name}".ljust(_NAME_COLUMNS) + " ",
            subsequent_indent=" " * (_NAME_COLUMNS + 1),
            break_on_hyphens=False,
        )


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens doctor") -> int:
    """Print all findings. The exit status is always 0: a missing part is not an error."""
    parser = PlainParser(
        prog=prog, description="Say what this machine can run, and what it would skip.", epilog="Exit status: 0."
    )
    parser.parse_args(argv)
    print("\n\n".join("\n".join(_section(heading, found)) for heading, found in findings()))
    return 0
