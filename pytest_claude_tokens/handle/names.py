"""Checks the names passed to a handle: a secret pasted in place of a name is refused."""

from __future__ import annotations

from collections.abc import Iterable

from fake_server.genuine import os
from fake_server.hosts import hosts_of
from fake_server.secrecy import is_name, is_path, printable, shown
from fake_server.serve.history_file import HistoryFile
from pytest_claude_tokens.report.evidence import notes_of, set_notes

__all__ = ["history_file", "host_names", "or_torn", "path_of", "worker_name"]


def worker_name(name: str) -> str:
    """``name`` as the journal spells it, if it is valid for a worker. Raises ``ValueError`` if not."""
    if not (isinstance(name, str) and name and is_name(name)):
        raise ValueError(f"worker({shown(name)}): a worker has a name, such as w0")
    return printable(name)


def host_names(hosts: str | Iterable[str]) -> tuple[str, ...]:
    """``hosts``, one or several, as a tuple. Raises ``ValueError`` that says how to write one."""
    try:
        names = (hosts,) if isinstance(hosts, str) else tuple(hosts)
        hosts_of(names)
    except TypeError:  # no list, or of what can't be hashed
        raise ValueError(f"hosts={shown(hosts)}: must be a list of host names") from None
    return names


def path_of(config_dir: str | os.PathLike[str] | None) -> str | None:
    """``config_dir``, one folder or several joined by ``os.pathsep``, as text. Raises ``ValueError``."""
    if config_dir is None:
        return None
    path = os.fspath(config_dir)
    if not is_path(path):
        raise ValueError(f"config_dir={shown(path)}: must be the path of a folder")
    return path


def history_file(path: str | os.PathLike[str] | None) -> HistoryFile | None:
    """The file, not opened yet, to which a handle writes its history. Raises ``ValueError`` for a pasted secret."""
    if path is None:
        return None
    if not is_path(os.fspath(path)):
        raise ValueError(f"history={shown(os.fspath(path))}: must be the path of a file")
    return HistoryFile(path)


def or_torn(file: HistoryFile | None, found: BaseException | None, error: BaseException | None) -> BaseException | None:
    """What a handle raises at its end: ``found``, or that its ``file`` is not whole, as with a full disk.

    That is a note of the finding, or of the ``error`` that the body ended with, where there is one.
    """
    if file is None or not file.error:
        return found
    why = f"the history {shown(os.fspath(file.path))} is not whole: {file.error}"
    told = found or error
    if told is None:
        return OSError(why)
    set_notes(told, [*notes_of(told), why])
    return found
