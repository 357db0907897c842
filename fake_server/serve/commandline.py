"""Shared by the commands that serve: options, and usage errors without secrets."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, NoReturn

from fake_server.limits import seconds_refusal
from fake_server.secrecy import is_path, safe_sentence, shown
from fake_server.service import SERVICES, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.policy import Policy

__all__ = [
    "SERVICE_HELP",
    "Parser",
    "PlainParser",
    "Usage",
    "add_waits",
    "latency",
    "path",
    "seconds",
    "service",
    "whole_number",
    "with_waits",
]

KINDS = ("token", "call", "other")
"""The kinds of requests, each of which may have a latency of its own."""
_SECONDS = "must be a number of seconds, 0 or more"
_DIGITS = 20


class Usage(Exception):
    """An error that the user can correct, in one sentence, with pasted secrets redacted."""

    def __init__(self, text: str) -> None:
        super().__init__(safe_sentence(text))


class Parser(argparse.ArgumentParser):
    """Raises :class:`Usage` for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message)


class PlainParser(argparse.ArgumentParser):
    """``argparse.ArgumentParser``, with secrets in its error messages redacted."""

    def error(self, message: str) -> NoReturn:
        super().error(safe_sentence(message))


def path(text: str) -> str:
    """For ``type=``: the path of a file. Refuses a secret, and no text at all."""
    if not text or not is_path(text):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not the name of a file")
    return text


SERVICE_HELP = f"which service it is: {', '.join(SERVICES)}, or a TOML file (default: claude)"


def service(text: str) -> Service:
    """For ``type=``: a service by the name of a preset, or by a TOML file with the keys of ``Service``."""
    if text in SERVICES:
        return SERVICES[text]
    if not text.endswith(".toml"):
        raise argparse.ArgumentTypeError(
            f"no service is named {shown(text)}; choose one of {', '.join(SERVICES)}, or name a file that ends in .toml"
        )
    try:
        with open(path(text), encoding="utf-8") as file:
            return Service.from_toml(file.read())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)}: {error}") from None


def seconds(text: str) -> float:
    """For ``type=``: seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if why := seconds_refusal(value):
        raise argparse.ArgumentTypeError(f"{shown(text)} {_SECONDS if 'infinite' in why else why}")
    return value


def latency(text: str) -> float | dict[str, float]:
    """For ``type=``: the seconds that each request takes, or ``token=0.5,call=2``."""
    if "=" not in text:
        return seconds(text)
    found: dict[str, float] = {}
    for part in text.split(","):
        kind, _, value = (word.strip() for word in part.partition("="))
        if kind not in KINDS or kind in found:
            raise argparse.ArgumentTypeError(
                f"{shown(text)} must be seconds, or some of {', '.join(KINDS)} with theirs, such as token=0.5,call=2"
            )
        found[kind] = seconds(value)
    return found


def whole_number(most: int) -> Callable[[str], int]:
    """For ``type=``: a whole number from 0 to ``most``."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else -1
        if number < 0:
            raise argparse.ArgumentTypeError(f"{shown(text)} must be a whole number, 0 or more")
        if number > most:
            raise argparse.ArgumentTypeError(f"{shown(text)} must be a whole number, at most {most:,}")
        return number

    return read


def add_waits(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how long requests take: without any, two calls hardly ever overlap."""
    parser.add_argument(
        "--latency",
        type=latency,
        metavar="SECONDS",
        help="seconds that a request takes, or token=SECONDS,call=SECONDS by its kind",
    )
    parser.add_argument(
        "--serialize", type=seconds, metavar="SECONDS", help="seconds between the starts of two calls on one bearer"
    )


def with_waits(policy: Policy, options: argparse.Namespace) -> Policy:
    """``policy`` with the waits that the options of :func:`add_waits` ask for."""
    if options.latency is not None:
        policy = policy.but(latency=options.latency)
    if options.serialize is not None:
        policy = policy.but(serialize=options.serialize, queue_limit=max(policy.queue_limit, 3 * options.serialize))
    return policy
