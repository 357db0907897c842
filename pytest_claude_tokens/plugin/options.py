"""Options of the command line and the ini file, and their precedence.

One rule for all: command line, then marker, then ini file, then default (:func:`first_given`).
A new option is one more row of :data:`OPTIONS`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_claude_tokens.late_secrecy import brief, safe_text
from pytest_claude_tokens.plugin.usage import discreet_usage

__all__ = [
    "HTML",
    "OPTIONS",
    "Option",
    "add_options",
    "check_options",
    "first_given",
    "given",
    "is_in_full",
    "option",
    "real_hosts_allowed",
    "report_folder",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """``--claude-tokens-NAME`` and the ini option ``claude_tokens_NAME``.

    ``parse`` converts the text that was given, and raises ``ValueError`` with the reason if it can't.
    """

    name: str
    metavar: str
    help: str
    parse: Callable[[str], Any] = str
    default: Any = None

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--claude-tokens-{self.name}"

    @property
    def dest(self) -> str:
        """Its name in the ini file, and in pytest's namespace."""
        return "claude_tokens_" + self.name.replace("-", "_")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _positive(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise ValueError("must be at least 1")
    return number


def _replay_token(text: str) -> str:
    from pytest_claude_tokens.search.replay import Replay

    Replay.read(text)
    return text


def _preset(text: str) -> str:
    from fake_server.policy import Policy

    Policy.preset(text)
    return text


def _html(text: str) -> str:
    if text not in HTML:
        raise ValueError(f"must be one of {', '.join(HTML)}")
    return text


def _folder(text: str) -> str:
    from fake_server.secrecy import is_path

    if not is_path(text):
        raise ValueError("must be the name of a folder")
    return text


HTML = ("always", "failed", "never")
"""When a test leaves a timeline."""

OPTIONS: tuple[Option, ...] = (
    Option(
        name="report-dir",
        metavar="DIR",
        help="where each failure leaves a folder with its history (default: .claude-tokens).",
        parse=_folder,
        default=".claude-tokens",
    ),
    Option(
        name="replay",
        metavar="ct1-…",
        help="run explored tests under the one schedule of this token, which a failure has printed.",
        parse=_replay_token,
    ),
    Option(
        name="examples",
        metavar="N",
        help="how many schedules each explored test tries (instead of what its @settings say).",
        parse=_positive,
    ),
    Option(name="seed", metavar="N", help="seed of the schedules that explored tests try.", parse=_whole),
    Option(
        name="shared-server",
        metavar="POLICY",
        help="serve one service on loopback for the whole session, with the policy of that name, for the fixture "
        "claude_shared_server; under xdist the controller owns it (default: none).",
        parse=_preset,
    ),
    Option(
        name="html",
        metavar="WHEN",
        help="which tests leave a timeline.html beside their history: always (those that passed, too), failed, never "
        "(default: failed).",
        parse=_html,
        default="failed",
    ),
)
_BY_NAME = {row.name: row for row in OPTIONS}
_REAL_HOSTS = "claude_tokens_allow_real_hosts"


def add_options(parser: pytest.Parser) -> None:
    """Declare every option, on the command line and in the ini file."""
    group = parser.getgroup("claude-tokens", "fake Claude token service")
    for row in OPTIONS:
        group.addoption(row.flag, dest=row.dest, metavar=row.metavar, default=None, help=row.help)
        parser.addini(row.dest, f"as {row.flag}: {row.help}", default=None)
    parser.addini(
        _REAL_HOSTS,
        "let this suite connect to the real hosts (default: refused as long as a fake service is in use).",
        type="bool",
        default=False,
    )


def first_given(command_line: Any = None, marker: Any = None, ini: Any = None, default: Any = None) -> Any:
    """The first argument that isn't ``None``: the precedence of every setting."""
    return next((value for value in (command_line, marker, ini, default) if value is not None), None)


@discreet_usage
def option(config: pytest.Config, name: str, marker: Any = None) -> Any:
    """The value of an option of :data:`OPTIONS`. Raises :class:`pytest.UsageError` for an invalid one."""
    row = _BY_NAME[name]
    values = []
    for source, given in ((row.flag, config.getoption(row.dest)), (row.dest, config.getini(row.dest))):
        try:
            values.append(None if given is None else row.parse(given))
        except ValueError as error:
            raise pytest.UsageError(safe_text(f"{source}={brief(given)}: {error}")) from None
    return first_given(values[0], marker, values[1], row.default)


def given(config: pytest.Config) -> list[str]:
    """The options whose values are not the defaults, as they can be typed again."""
    values = ((row.flag, row.default, option(config, row.name)) for row in OPTIONS)
    return [shlex.quote(f"{flag}={value}") for flag, default, value in values if value != default]


def check_options(config: pytest.Config) -> None:
    """Read every option once, so that a bad one is refused before any test runs."""
    for row in OPTIONS:
        option(config, row.name)


def is_in_full(config: pytest.Config) -> bool:
    """Whether all of each error is to be shown: ``--tb=long``, ``--tb=native`` or ``--full-trace``."""
    return bool(config.getoption("fulltrace", False)) or config.getoption("tbstyle", "auto") in ("long", "native")


def report_folder(config: pytest.Config) -> Path:
    """The folder for failures' folders; a relative path is below the folder where pytest was called, or the root."""
    base = config.rootpath if config.getoption(_BY_NAME["report-dir"].dest) is None else config.invocation_params.dir
    return base / str(option(config, "report-dir"))


def real_hosts_allowed(config: pytest.Config) -> bool:
    """Whether the ini file lets this suite connect to the real hosts."""
    return bool(config.getini(_REAL_HOSTS))
