"""Shared by the commands that serve: options, and usage errors without secrets."""

from __future__ import annotations

import argparse
from typing import NoReturn

from fake_server.secrecy import is_path, safe_text, shown

__all__ = ["Parser", "PlainParser", "Usage", "path"]


class Usage(Exception):
    """An error that the user can correct, in one sentence, with pasted secrets redacted."""

    def __init__(self, text: str) -> None:
        super().__init__(safe_text(text))


class Parser(argparse.ArgumentParser):
    """Raises :class:`Usage` for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message)


class PlainParser(argparse.ArgumentParser):
    """``argparse.ArgumentParser``, with secrets in its error messages redacted."""

    def error(self, message: str) -> NoReturn:
        super().error(safe_text(message))


def path(text: str) -> str:
    """For ``type=``: the path of a file. Refuses a secret."""
    if not is_path(text):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not the name of a file")
    return text
