"""Which code is under test: the author's own files, and the packages that are named."""

from __future__ import annotations

import sysconfig
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fake_server.genuine import os
from pytest_claude_tokens.simulation.frames import OURS
from pytest_claude_tokens.simulation.internals import INIT_OF_DATACLASS
from pytest_claude_tokens.simulation.lines import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import FrameType

__all__ = ["NotInstalled", "TestedCode", "folders_of", "switches_itself"]

_LIBRARIES = tuple(
    os.path.normpath(path) + os.sep for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
)
_NEVER = frozenset(
    "pytest _pytest pluggy hypothesis _hypothesis_pytestplugin coverage xdist execnet pytest_cov pytest_timeout respx"  # noqa: SIM905 - as names, twice as long
    " pytest_httpx2 httpx httpcore httpx2 httpcore2 h11 h2 hpack hyperframe anyio sniffio trio aiohttp requests urllib3"
    " httplib2 certifi idna freezegun pytest_claude_tokens fake_server".split()
)
"""Top-level packages that are nobody's code under test, even where they are installed from a checkout."""


_SWITCHING = _NEVER | {"threading", "_thread", "queue", "_queue", "logging", "concurrent"}


def switches_itself(kind: type) -> bool:
    """Whether the methods of a class have switch points of their own, so that none is needed before them."""
    return str(kind.__module__).partition(".")[0] in _SWITCHING


class NotInstalled(ValueError):
    """A package that is named is not there; its name is the argument."""


def folders_of(package: str) -> tuple[str, ...]:
    """The folders of a package, or the file of a module. Raises :class:`NotInstalled`."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise NotInstalled(package)
    if spec.submodule_search_locations is not None:
        return tuple(os.path.normpath(path) + os.sep for path in spec.submodule_search_locations)
    return (spec.origin or package,)


class TestedCode:
    """The author's files, and those in ``folders``."""

    __test__ = False  # it is no test of pytest's

    def __init__(self, folders: Iterable[str] = ()) -> None:
        self._folders = tuple(folders)

    def covers_frame(self, frame: FrameType) -> bool:
        """Whether the code that runs in ``frame`` is under test. Code made by ``exec`` is its maker's."""
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _NEVER:
            return False
        filename = frame.f_code.co_filename
        if not filename.startswith("<"):
            return self.covers(filename)
        if frame.f_code.co_qualname == INIT_OF_DATACLASS:
            # It has no source, so that each of its writes would be one to anything. It writes to an object that no
            # other thread has yet.
            return False
        file = frame.f_globals.get("__file__")
        if isinstance(file, str):
            return self.covers(file)
        caller = frame.f_back
        return caller is not None and not caller.f_code.co_filename.startswith("<") and self.covers_frame(caller)

    def never_covers(self, module: Mapping[str, object]) -> bool:
        """Whether no code with these globals is under test: those of a module from a file that is not."""
        file = module.get("__file__")
        return str(module.get("__name__")).partition(".")[0] in _NEVER or (
            isinstance(file, str) and not self.covers(file)
        )

    def covers(self, filename: str) -> bool:
        """Whether the file is under test."""
        return bool(self._folders and filename.startswith(self._folders)) or _is_authors(filename)


@lru_cache(maxsize=4096)
def _is_authors(filename: str) -> bool:
    if filename.startswith(("<", *OURS, *_LIBRARIES)):
        return False
    return not is_installed(filename)
