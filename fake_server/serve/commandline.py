"""Shared by the commands that serve: usage errors without secrets, and the history file."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import IO, NoReturn

from fake_server.secrecy import is_path, printable, shown

__all__ = ["HistoryFile", "Parser", "PlainParser", "Usage", "path"]


class Usage(Exception):
    """An error that the user can correct, in one sentence, with pasted secrets redacted."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class Parser(argparse.ArgumentParser):
    """Raises :class:`Usage` for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message)


class PlainParser(argparse.ArgumentParser):
    """``argparse.ArgumentParser``, with secrets in its error messages redacted."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def path(text: str) -> str:
    """For ``type=``: the path of a file. Refuses a secret."""
    if not is_path(text):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not the name of a file")
    return text


class HistoryFile:
    """A text file for the history; each line is written at once, or buffered until the file is opened.

    A full disk must not stop the service: a failed write sets ``error`` instead of raising.
    """

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._held: list[str] = []
        self.error: str = ""

    def open(self, path: str) -> None:
        """Open ``path``, overwriting it, and write the buffered lines. Raises ``OSError`` if it can't be opened."""
        self._file = open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115 - `close` closes it
        self.write("".join(self._held))

    def write(self, text: str) -> None:
        if self._file is None:
            self._held.append(text)
        elif not self.error:
            try:
                self._file.write(text)
                self._file.flush()
            except OSError as error:
                self.error = error.strerror or str(error)

    def flush(self) -> None:
        """Do nothing: each line is written at once."""

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # the error of the write is kept
                self._file.close()
