"""Tokens that look real, made up afresh, and the search for any piece of one in what can be seen."""

from __future__ import annotations

import base64
import json
import random
import types
from collections.abc import Callable, Iterator

import fake_server
import pytest_claude_tokens

__all__ = ["KINDS", "SECRETS", "frames", "pieces"]

PIECE = 12
"""Characters of a secret that must not be seen in a row."""

_OURS = tuple(package.__path__[0] + "/" for package in (fake_server, pytest_claude_tokens))


def _letters(source: random.Random, length: int) -> str:
    return base64.urlsafe_b64encode(source.randbytes(length)).decode()[:length]


def _jwt(source: random.Random) -> str:
    head, body = ({"alg": "RS256", "typ": "JWT"}, {"sub": _letters(source, 9), "exp": source.randrange(10**9)})
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, body))
    return ".".join((*parts, _letters(source, 43)))


KINDS: dict[str, Callable[[random.Random], str]] = {
    "access token": lambda source: f"sk-ant-oat01-{_letters(source, 93)}AA",
    "refresh token": lambda source: f"sk-ant-ort01-{_letters(source, 93)}AA",
    "API key": lambda source: f"sk-ant-api03-{_letters(source, 93)}AA",
    "key of another vendor": lambda source: f"sk-proj-{_letters(source, 40)}",
    "JWT": _jwt,
    "hex": lambda source: source.randbytes(source.randint(10, 32)).hex(),
    "base64": lambda source: base64.b64encode(source.randbytes(source.randint(36, 64))).decode(),
    "base64url": lambda source: _letters(source, source.randint(48, 86)),
}

SECRETS = {kind: make(random.Random(f"pasted {kind}")) for kind, make in KINDS.items()}
"""One of each kind, the same in every run."""


def pieces(secret: str, *texts: str) -> list[str]:
    """The pieces of ``secret`` that stand in one of ``texts``, with what is around the first of them."""
    windows = (secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1))
    return [text[max(0, at - 60) : at + 90] for window in windows for text in texts if (at := text.find(window)) >= 0][
        :1
    ]


def _repr(value: object) -> str:
    """As pytest's: what can't be told is not."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(error).__name__}>"


def frames(error: BaseException) -> Iterator[str]:
    """What ``--showlocals`` prints of our own frames, in a chain as pytest follows it."""
    seen: BaseException | None = error
    while seen is not None:
        trace: types.TracebackType | None = seen.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename.startswith(_OURS):
                yield from (
                    f"{code.co_qualname}: {name} = {_repr(value)}" for name, value in trace.tb_frame.f_locals.items()
                )
            trace = trace.tb_next
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
