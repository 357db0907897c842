"""What commands that serve have in common: how they complain, and the file of the history."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import IO, NoReturn

from fake_server.secrecy import is_path, shown, told

__all__ = ["HistoryFile", "Parser", "PlainParser", "Usage", "path"]


class Usage(Exception):
    """What the user can mend, in one sentence, without the secret that was pasted in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__(told(text))


class Parser(argparse.ArgumentParser):
    """Raises :class:`Usage` for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message)


class PlainParser(argparse.ArgumentParser):
    """As argparse's own, but repeats no secret."""

    def error(self, message: str) -> NoReturn:
        super().error(told(message))


def path(text: str) -> str:
    """For ``type=``: the name of a file, and not a secret."""
    if not is_path(text):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not the name of a file")
    return text


class HistoryFile:
    """A text file for the history, each line written at once. Until it is opened it holds what is written.

    A disk that is full must not stop the service: ``error`` says what went wrong.
    """

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._held: list[str] = []
        self.error: str = ""

    def open(self, path: str) -> None:
        """Overwrite ``path``. Raises ``OSError`` where it can't be opened."""
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
        """Each line is written at once anyway."""

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # it was told before
                self._file.close()
