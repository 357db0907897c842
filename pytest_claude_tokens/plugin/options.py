"""Options of the command line and the ini file, the marker, and which of them wins.

One rule for all of them: command line, then marker, then ini file, then default (:func:`first_given`).
A new option is one more row of :data:`OPTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import pytest

from fake_server.secrecy import discreet, is_name, is_path, shown, told

if TYPE_CHECKING:
    from fake_server import Policy

__all__ = [
    "CURRENT",
    "INSIDE",
    "JUDGE",
    "MARKER",
    "MARKER_HELP",
    "OPTIONS",
    "Judge",
    "Option",
    "add_options",
    "check_markers",
    "check_options",
    "current",
    "first_given",
    "marked",
    "merge",
    "option",
    "policy_of",
    "real_hosts_allowed",
    "report_folder",
    "tells_usage",
]

CURRENT = pytest.StashKey[pytest.Item]()
"""In the config: the test that runs now."""

INSIDE = pytest.StashKey[bool]()
"""In the config: this session runs inside a test of another one."""


P = ParamSpec("P")
R = TypeVar("R")


def tells_usage(function: Callable[P, R]) -> Callable[P, R]:
    """For what raises :class:`pytest.UsageError`: its text says it all, and the frames would show a marker's values."""
    return discreet(function, always=(pytest.UsageError,))


class Judge(Protocol):
    """Who judges a test when its body has ended, and puts what it found into the test's reports."""

    def judge(self, item: pytest.Item, error: BaseException | None) -> BaseException | None:
        """What the body, which ended with ``error``, fails with instead; ``None``: it stays as it is."""

    def tell(self, item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
        """Put what was found into the report of a phase, which ended with ``error``."""


JUDGE = pytest.StashKey[Judge]()
"""In the config: the judge, put there by whoever makes the first handle, before the handle is open.

The hooks take it from here and look for no module by its name: one that was renamed, or taken out of ``sys.modules``,
would leave every test unjudged without a word.
"""

MARKER = "claude_tokens"
MARKER_HELP = (
    "claude_tokens(*, policy, allow, limit, latency, accounts, hosts): configure the fake Claude token service; "
    "`allow` names invariants that are reported and don't fail."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """``--claude-tokens-NAME`` and the ini option ``claude_tokens_NAME``.

    ``parse`` makes a value of the text that was given, and raises ``ValueError`` with the reason where it can't.
    """

    name: str
    metavar: str
    help: str
    parse: Callable[[str], Any] = str
    default: Any = None

    @property
    def flag(self) -> str:
        """What is typed on the command line."""
        return f"--claude-tokens-{self.name}"

    @property
    def dest(self) -> str:
        """Its name in the ini file."""
        return "claude_tokens_" + self.name.replace("-", "_")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number is wanted") from None


def _positive(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise ValueError("at least 1")
    return number


def _replay_token(text: str) -> str:
    from pytest_claude_tokens.search.replay import Replay

    Replay.read(text)
    return text


def _folder(text: str) -> str:
    if not is_path(text):
        raise ValueError("the name of a folder is wanted")
    return text


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
    """The precedence of every setting: the first that isn't ``None``."""
    return next((value for value in (command_line, marker, ini, default) if value is not None), None)


def current(config: pytest.Config) -> pytest.Item:
    """The test that runs now. Raises :class:`pytest.UsageError` where this is not the module that the hooks use."""
    item = config.stash.get(CURRENT, None)
    if item is None:
        raise pytest.UsageError(
            "pytest_claude_tokens was imported a second time while its plugin was in use, so this test is not judged: "
            "whatever deletes its modules from sys.modules must leave them there"
        )
    return item


@tells_usage
def option(config: pytest.Config, name: str, marker: Any = None) -> Any:
    """The value of an option of :data:`OPTIONS`. Raises :class:`pytest.UsageError` for one that can't be read."""
    row = _BY_NAME[name]
    values = []
    for source, given in ((row.flag, config.getoption(row.dest)), (row.dest, config.getini(row.dest))):
        try:
            values.append(None if given is None else row.parse(given))
        except ValueError as error:
            raise pytest.UsageError(told(f"{source}={given}: {error}")) from None
    return first_given(values[0], marker, values[1], row.default)


def check_options(config: pytest.Config) -> None:
    """Read every option once, so that a bad one is refused before any test runs."""
    for row in OPTIONS:
        option(config, row.name)


def report_folder(config: pytest.Config) -> Path:
    """Where failures leave their folders; a relative one is below where pytest was called, or the root folder."""
    base = config.rootpath if config.getoption(_BY_NAME["report-dir"].dest) is None else config.invocation_params.dir
    return base / str(option(config, "report-dir"))


def real_hosts_allowed(config: pytest.Config) -> bool:
    """Whether the ini file lets this suite connect to the real hosts."""
    return bool(config.getini(_REAL_HOSTS))


# The marker.

_JOINED = ("allow", "accounts", "hosts")
_KEYWORDS = ("policy", "allow", "limit", "latency", "accounts", "hosts")


@tells_usage
def marked(item: pytest.Item) -> dict[str, Any]:
    """What the markers of ``item`` say, from module to function: lists are joined, other values replaced.

    Raises :class:`pytest.UsageError` that names the test, the word that is wrong, and those that exist.
    """
    merged: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers(MARKER))):
        try:
            if mark.args:
                raise ValueError(f"takes no positional argument such as {shown(mark.args[0])}{_there_are(_KEYWORDS)}")
            merged = merge(merged, mark.kwargs)
        except ValueError as error:
            raise pytest.UsageError(told(f"{item.nodeid}: the marker claude_tokens {error}")) from None
    return merged


@discreet
def merge(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``outer`` with those of ``inner``: lists are joined, other values replaced.

    Raises ``ValueError`` that says which word of ``inner`` is wrong and which there are.
    """
    merged = dict(outer)
    for name, value in inner.items():
        if name not in _KEYWORDS:
            raise ValueError(f"knows no {shown(name)}{_there_are(_KEYWORDS)}")
        merged[name] = _read(name, value)
        if name in _JOINED:
            merged[name] = list(dict.fromkeys([*outer.get(name, ()), *value]))
    return merged


def check_markers(items: Iterable[pytest.Item]) -> None:
    """Read every marker once, so that a bad one is refused before any test runs."""
    for item in items:
        marked(item)


def policy_of(value: Policy | str) -> Policy:
    """A policy as it is, or the preset of that name. Raises ``ValueError`` that says what there is."""
    from fake_server.policy import PRESETS, Policy

    if isinstance(value, Policy):
        return value
    if not isinstance(value, str):
        raise ValueError(f"takes policy=…, a Policy or the name of one, not {shown(value)}{_there_are(PRESETS)}")
    return Policy.preset(value)


def _read(name: str, value: Any) -> Any:
    """One setting's value, checked."""
    if name in _JOINED and not isinstance(value, list | tuple | set | frozenset):
        raise ValueError(f"takes {name}=[…], a list, not {shown(value)}")
    if value is None:
        return None
    if name == "policy":
        return policy_of(value)
    _CHECKS[name](value)
    return value


def _check_allow(words: Iterable[Any]) -> None:
    from pytest_claude_tokens.judge.violations import INVARIANTS

    for word in words:
        if word not in INVARIANTS:
            raise ValueError(f"allow=[…] knows no invariant {shown(word)}{_there_are(INVARIANTS)}")


def _check_limit(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"limit={shown(value)}: a whole number of workers, at least 1")


def _check_latency(value: Any) -> None:
    from fake_server import Policy

    try:
        Policy(latency=value)
    except ValueError as error:
        allowed = str(error).rpartition("): ")[2]
        raise ValueError(f"takes no latency={shown(value)}: {allowed}") from None


def _check_accounts(names: Iterable[Any]) -> None:
    from fake_server.protocol.wire import account_of

    for name in names:
        if not isinstance(name, str) or account_of(name) != name:
            raise ValueError(f"takes no accounts=[{shown(name)}]: a name is 1 to 32 letters, digits and . _ @ + -")


def _check_hosts(names: Iterable[Any]) -> None:
    for name in names:
        if not (isinstance(name, str) and name and is_name(name)):
            raise ValueError(f"takes hosts=[…], a list of host names, and {shown(name)} is none")


_CHECKS: dict[str, Callable[[Any], None]] = {
    "allow": _check_allow,
    "limit": _check_limit,
    "latency": _check_latency,
    "accounts": _check_accounts,
    "hosts": _check_hosts,
}


def _there_are(words: Iterable[str]) -> str:
    return f"; there are {', '.join(words)}"
