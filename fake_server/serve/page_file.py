"""The file that a page is written to at the end: whole, or not at all."""

from __future__ import annotations

import argparse
import errno
import os
from contextlib import suppress

from fake_server.serve.commandline import path
from fake_server.serve.history_file import check_kind

__all__ = ["check_page", "page_path", "write_page"]


def page_path(text: str) -> str:
    """For ``type=``: the path of a page. A history must not be overwritten by its own picture."""
    if text.endswith(".jsonl"):
        raise argparse.ArgumentTypeError("a page is no history: name a file that doesn't end in .jsonl")
    return path(text)


def check_page(path: str) -> None:
    """Refuse what can't be written, before a run that would be for nothing. Raises ``OSError``."""
    check_kind(path)
    if os.path.isdir(path):
        raise OSError(errno.EISDIR, "it is a folder", path)
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise OSError(errno.ENOENT, "its folder is not there", path)
    if not os.access(folder, os.W_OK):
        raise OSError(errno.EACCES, "its folder can't be written to", path)


def write_page(path: str, text: str) -> None:
    """Write ``text``, which is plain ASCII, to a file of that name. Raises ``OSError``; the file is then as it was."""
    check_page(path)
    target = os.path.realpath(path)  # what a link names is replaced, and not the link
    part = f"{target}.{os.getpid()}.part"
    try:
        with open(part, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(part, target)
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise
