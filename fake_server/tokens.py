"""Made-up tokens, and the labels that replace them in all output.

A minted token has the prefix, length and alphabet of a real one, and the word FAKE where no real one has it, so that it
can't be mistaken for one in a log or on the wire. Its length does not depend on its number, it ends in ``AA`` as
published samples do, and the same namespace and number give the same token.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from typing import Literal

__all__ = ["LENGTH", "TOKEN", "TokenKind", "label", "mint"]

LENGTH = 108
"""Characters of a token: the prefix of 13 and a tail of 95 (anthropics/claude-code#54999)."""

TokenKind = Literal["access", "refresh"]

_PREFIX: dict[TokenKind, str] = {"access": "sk-ant-oat01-FAKE-", "refresh": "sk-ant-ort01-FAKE-"}
_LABEL: dict[TokenKind, str] = {"access": "at", "refresh": "rt"}

TOKEN = re.compile(r"sk-ant-o[ar]t01-FAKE-[A-Za-z0-9_-]{90}|eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{342}")
"""Matches any complete fake token in a text: one that is opaque, or a JWT with a signature of 256 bytes."""


@functools.lru_cache(maxsize=256)  # each run of a search mints the same tokens
def mint(kind: TokenKind, namespace: str, number: int) -> str:
    """A fake token: unique by ``namespace`` and ``number``, 108 characters of ``[A-Za-z0-9_-]``."""
    head = f"{_PREFIX[kind]}{number}-"
    digest = hashlib.blake2b(f"{kind} {namespace} {number}".encode()).digest()
    tail = base64.urlsafe_b64encode(digest).decode()  # 86 characters, and two of padding that are cut off
    return head + tail[: LENGTH - len(head) - 2] + "AA"


def label(kind: TokenKind, generation: int) -> str:
    """The label that replaces a token in all output: ``at#1``, ``rt#2``."""
    return f"{_LABEL[kind]}#{generation}"
