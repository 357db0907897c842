"""What is accepted from outside: numbers (seconds and counts, in JSON, in options and in calls), JSON, and headers.

A number is checked before anything is changed. NaN and Infinity are none that JSON could hold in a history; a number of
seconds beyond :data:`MOST_SECONDS` overflows when it is told in milliseconds or as a date.
"""

from __future__ import annotations

import math
import re
from numbers import Integral, Real
from typing import Any, NoReturn

from fake_server.genuine import json
from fake_server.secrecy import shown

__all__ = [
    "MOST_COUNT",
    "MOST_SECONDS",
    "OF_THE_CONNECTION",
    "checked_count",
    "checked_seconds",
    "count_refusal",
    "header_refusal",
    "plain",
    "read_json",
    "refuse_constant",
    "seconds_refusal",
]

MOST_SECONDS = 1e11
"""Some 3,000 years: the longest time that is accepted, in seconds."""
MOST_COUNT = 2**63 - 1
"""The largest count that is accepted, ``sys.maxsize`` of the usual machine: what a user writes for "always"."""


def seconds_refusal(value: Any, least: float = 0) -> str:
    """Why ``value`` is no number of seconds from ``least`` on; ``""`` if it is one."""
    if not _is_a(Real, value) or not least <= value < math.inf:
        return f"must be seconds, {least:,g} or more, and not infinite"
    return f"must be seconds, at most {MOST_SECONDS:,.0f}" if value > MOST_SECONDS else ""


def count_refusal(value: Any, least: int = 1, most: int = MOST_COUNT) -> str:
    """Why ``value`` is no whole number from ``least`` to ``most``; ``""`` if it is one."""
    if not _is_a(Integral, value) or value < least:
        return f"must be a whole number, {least:,} or more"
    return f"must be a whole number, at most {most:,}" if value > most else ""


def checked_seconds(what: str, value: Any, least: float = 0, *, instead: str = "") -> float:
    """``value`` as a number of seconds. Raises ``ValueError``: ``what``, the value, what is right, and ``instead``."""
    if why := seconds_refusal(value, least):
        raise ValueError(f"{what}={shown(value)}: {why}{instead}")
    return plain(value)


def checked_count(what: str, value: Any, least: int = 1, most: int = MOST_COUNT) -> int:
    """``value`` as a plain whole number. Raises ``ValueError`` that begins with ``what``."""
    if why := count_refusal(value, least, most):
        raise ValueError(f"{what}={shown(value)}: {why}")
    return int(value)


def plain(value: Any) -> float:
    """An accepted number as one of Python's own, which JSON can hold: those of numpy and fractions can't be.

    Zero has no sign.
    """
    return int(value) if isinstance(value, Integral) else float(value) + 0.0


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
OF_THE_CONNECTION = ("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
"""The headers that a transport sets itself."""


def header_refusal(name: Any, value: Any) -> str:
    """Why these can't be a header of a reply; ``""`` if they can."""
    if not (isinstance(name, str) and _HEADER_NAME.fullmatch(name)):
        return f"{shown(name)} is not the name of a header"
    if not (isinstance(value, str) and _HEADER_VALUE.fullmatch(value)):
        return f"{shown(name)} must be a line of text, in latin-1"
    return ""


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text as RFC 8259 has it, so that it can be sent back as JSON.

    Raises ``ValueError``: also for NaN, for a number that is infinite when it is read, and for one nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError("this is nested too deeply") from None


def refuse_constant(name: str) -> NoReturn:
    """For ``parse_constant`` of a decoder: what Python would take, as ``NaN``, no other reader of JSON does.

    Raises ``ValueError``.
    """
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else refuse_constant(text)


_decode = json.JSONDecoder(parse_constant=refuse_constant, parse_float=_finite).decode


def _is_a(kind: type, value: Any) -> bool:
    """Whether ``value`` is a number of that kind, and not a ``bool``."""
    return isinstance(value, kind) and not isinstance(value, bool)
