"""The known layouts of a login that several processes use, each made ready for any number of workers.

A test of the processes that use one::

    from pytest_claude_tokens.layouts import LAYOUTS, start

    def test_my_agents(claude_tokens):
        claude_tokens.install_claude()
        places = LAYOUTS["symlinked-dir"].prepare(claude_tokens, 4)
        for process in start(claude_tokens, places, ["claude", "-p", "Reply: A"]):
            process.wait(60)

Containers are imitated: each worker gets a mount namespace, in which its home is private and the shared part of the
login is mounted. That needs Linux, ``unshare`` and user namespaces; :attr:`Layout.obstacle` says what is missing.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fake_server.secrecy import discreet, shown
from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.processes import namespace

if TYPE_CHECKING:
    from pytest_claude_tokens.handle.claude_tokens import Account, ClaudeTokens
    from pytest_claude_tokens.processes.worker import WorkerProcess

__all__ = ["LAYOUTS", "Layout", "Place", "Unavailable", "start"]


class Unavailable(RuntimeError):
    """This machine can't make the layout; the text says what is missing."""


class Place(NamedTuple):
    """One worker's part of a layout: a prefix for its command, additions to its environment, and its config directory.

    ``config_dir`` is the path as the worker sees it, which need not exist outside its mount namespace; ``None`` where
    the login is in the environment.
    """

    prefix: tuple[str, ...]
    env: dict[str, str]
    config_dir: Path | None

    @discreet
    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line by which the worker runs ``arguments`` in its place."""
        return [*self.prefix, *arguments]


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to give several workers one login. ``summary``: what it is, in a sentence."""

    name: str
    summary: str
    _make: Callable[[_Site], list[Place]] = field(repr=False)
    _needs: Callable[[], str | None] = field(repr=False, default=lambda: None)

    @property
    def obstacle(self) -> str | None:
        """Why this machine can't make it, in a sentence; ``None`` where it can."""
        return self._needs()

    @discreet
    def prepare(self, tokens: ClaudeTokens, workers: int, account: Account | str | None = None) -> list[Place]:
        """Make it for so many workers, and give the place of each.

        The stores in it are watched. ``account`` is whose login it is: by default a new one, whose access token has
        expired; in the layout ``setup-token``, a new one for each worker. Raises :class:`Unavailable`.
        """
        if workers < 1:
            raise ValueError(f"prepare(workers={shown(workers)}): must be at least 1")
        obstacle = self.obstacle
        if obstacle is not None:
            raise Unavailable(f"the layout {self.name} can't be made: {obstacle}")
        return self._make(_Site(tokens, self.name, workers, account))


@discreet
def start(
    tokens: ClaudeTokens,
    places: Sequence[Place],
    arguments: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    first: int = 0,
) -> list[WorkerProcess]:
    """Start a command in every place, with ``env`` on top of each environment.

    The workers are ``w0``, ``w1``, …; ``first`` is the number of the first.
    """
    return [
        tokens.spawn(
            place.command(arguments), f"w{number}", config_dir=place.config_dir, env={**place.env, **(env or {})}
        )
        for number, place in enumerate(places, first)
    ]


class _Site:
    """What a layout is made from: the handle, the folder, the workers, and whose login it is."""

    def __init__(self, tokens: ClaudeTokens, name: str, workers: int, account: Account | str | None) -> None:
        self.tokens = tokens
        self.workers = range(workers)
        self.given = account
        with audit.muted():
            self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=tokens.tmp_path))

    @functools.cached_property
    def account(self) -> Account | str:
        return self.tokens.account(expired=True) if self.given is None else self.given

    @functools.cached_property
    def shared(self) -> Path:
        """The config directory with the login. Its parent holds config directories and their locks alone."""
        return self.tokens.config_dir(self.account)

    def folders(self, *more: str) -> list[Path]:
        """A new folder for each worker, with the folders ``more`` in it."""
        made = [self.folder / f"w{number}" for number in self.workers]
        with audit.muted():
            for place in made:
                place.mkdir(mode=0o700)
                for name in more:
                    (place / name).mkdir(mode=0o700)
        return made

    def mount_point(self, name: str) -> Path:
        """A folder on which every worker's namespace mounts something of its own: the same path for all."""
        point = self.folder / name
        with audit.muted():
            point.mkdir(mode=0o700)
        return point


# Takes sources and targets in pairs, `--`, the command. `exec` keeps the process id: signals reach the command.
_MOUNT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@"'


def _with_mounts(*pairs: tuple[Path, Path]) -> tuple[str, ...]:
    """A prefix that runs a command where each first path is mounted on the second one, in that order."""
    return (*namespace.unshare("--mount"), *_mounting(*pairs))


def _mounting(*pairs: tuple[Path, Path], command: Sequence[str] = ()) -> list[str]:
    """The part of :func:`_with_mounts` that runs inside the namespaces, and a command."""
    paths = [str(path) for pair in pairs for path in pair]
    return ["sh", "-c", _MOUNT, "mounts", *paths, "--", *command]


@functools.cache
def _mount_obstacle() -> str | None:
    missing = namespace.missing_program("mount")
    if missing is not None:
        return missing
    with tempfile.TemporaryDirectory() as folder:
        return namespace.obstacle("--mount", command=_mounting((Path(folder), Path(folder)), command=("true",)))


def _flock_obstacle() -> str | None:
    return namespace.missing_program("flock")


def _shared(site: _Site) -> list[Place]:
    return [Place((), {}, site.shared) for _ in site.workers]


def _flock(site: _Site) -> list[Place]:
    prefix = ("flock", "-w", "600", str(site.shared / "session.lock"))
    return [Place(prefix, {}, site.shared) for _ in site.workers]


def _copied(site: _Site) -> list[Place]:
    return [Place((), {}, site.tokens.config_dir(site.account, name=f"w{number}")) for number in site.workers]


def _symlinked_dir(site: _Site) -> list[Place]:
    links = [folder / ".claude" for folder in site.folders()]
    with audit.muted():
        for link in links:
            link.symlink_to(site.shared)
    return [Place((), {}, link) for link in links]


def _symlinked_file(site: _Site) -> list[Place]:
    folders = site.folders()
    for folder in folders:
        with audit.muted():
            (folder / FILE).symlink_to(site.shared / FILE)
        site.tokens.watch_store(folder, site.account)  # a refresh may replace the link by a file
    return [Place((), {}, folder) for folder in folders]


def _container_home(site: _Site) -> list[Place]:
    home = site.mount_point("home")
    folders = site.folders(".claude")
    return [
        Place(_with_mounts((folder, home), (site.shared, home / ".claude")), {"HOME": str(home)}, home / ".claude")
        for folder in folders
    ]


def _container_shared(site: _Site) -> list[Place]:
    home, above = site.mount_point("home"), site.mount_point("claude-shared")
    return [
        Place(
            _with_mounts((folder, home), (site.shared.parent, above)),
            {"HOME": str(home)},
            above / site.shared.name,
        )
        for folder in site.folders()
    ]


def _mounted_file(site: _Site) -> list[Place]:
    home = site.mount_point("home")
    folders = site.folders(".claude")
    target = home / ".claude" / FILE
    for folder in folders:
        with audit.muted():
            (folder / ".claude" / FILE).touch(mode=0o600)
    return [
        Place(_with_mounts((folder, home), (site.shared / FILE, target)), {"HOME": str(home)}, home / ".claude")
        for folder in folders
    ]


def _setup_token(site: _Site) -> list[Place]:
    def token() -> str:
        account = site.tokens.account(setup_token=True) if site.given is None else site.given
        return site.tokens.env(account)["CLAUDE_CODE_OAUTH_TOKEN"]

    return [Place((), {"CLAUDE_CODE_OAUTH_TOKEN": token()}, None) for _ in site.workers]


LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("shared-config-dir", "CLAUDE_CONFIG_DIR names one directory, for all workers the same", _shared),
        Layout(
            "container-shared-dir",
            "containers, each with a private home; the folder above the config directory is mounted in all of them",
            _container_shared,
            _mount_obstacle,
        ),
        Layout(
            "container-home",
            "containers that mount the config directory itself into a private home: its lock, beside it, is private",
            _container_home,
            _mount_obstacle,
        ),
        Layout(
            "mounted-file",
            "containers that mount the credentials file alone into a private config directory",
            _mounted_file,
            _mount_obstacle,
        ),
        Layout("copied-credentials", "a copy of the login for each worker", _copied),
        Layout("symlinked-dir", "each worker's config directory is a symlink to one directory", _symlinked_dir),
        Layout(
            "symlinked-file",
            "each worker has a config directory in which the credentials file is a symlink to one file",
            _symlinked_file,
        ),
        Layout("setup-token", "a token for a year in each worker's environment: nothing is refreshed", _setup_token),
        Layout(
            "flock-wrapper",
            "one config directory, and `flock -w 600` around each whole invocation",
            _flock,
            _flock_obstacle,
        ),
    )
}
"""Every known layout by its name."""
