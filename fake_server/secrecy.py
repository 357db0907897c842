"""Tells names from secrets that were pasted in place of a name. No other module decides this.

A *secret* is, anywhere in a text:

* a text that begins with ``sk-``: tokens and keys of Anthropic and others;
* a JWT (RFC 7519): ``eyJ…``, a dot, and more base64url;
* 20 or more characters in a row of hex, or of base64 (RFC 4648, either alphabet), without a word in them.

*A word* is four or more letters in one case (the first may be a capital), with a vowel and a consonant and no five
consonants in a row; any other character ends it, so that ``testPool_neverSpends`` has four. Random letters contain a
word by chance, and names contain more than words. So every 20 consecutive characters are examined. They count as random
if words make up less than three quarters of their letters and digits, and the rest changes three times or more between
lower case, capital and digit, which names rarely do; and also if words make up less than two fifths, and no separator
is among them. Random base64 is missed about once in 100 at 20 characters, in 1,000 at 28, in 10,000 at 40; hex never.

Exceptions, which count as names: a UUID (an identifier of sessions and requests), and a replay token ``ct1-…``, which
holds a schedule and no secret.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

__all__ = [
    "brief",
    "clean",
    "cleaned",
    "discreet",
    "discreet_class",
    "is_name",
    "is_path",
    "printable",
    "redact",
    "safe_sentence",
    "safe_text",
    "shown",
]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

SHORTEST = 20
"""Characters of the shortest run of hex or base64 that counts as a secret."""

_WORDS_SHARE = 0.75
_FEW_WORDS = 0.4
_SEAMS = 3
_SHOWN_LENGTH = 120
"""Characters of one value that an error quotes: of a long one, as much as tells which it was."""
_SENTENCE_LENGTH = 400
"""Characters of an error about arguments that are delicate, or of a command line."""
_MESSAGE_LENGTH = 2000
"""Characters of a whole message."""

_TOKEN = re.compile(r"(?:(?<![A-Za-z0-9])sk-|sk-ant-(?=[a-z]{3}\d\d-))[\w+=-]+")
_JWT = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*){1,4}")
_RUN = re.compile(r"(?:(?<![\w-])ct1-[\w-]*)|[A-Za-z0-9+/_=%-]{20,}")
_SUSPICIOUS = re.compile(r"sk-|eyJ|[A-Za-z0-9+/_=%-]{20}")
_HEX = re.compile(r"[0-9a-fA-F]{20,}")
_SLASHED = re.compile(r"(?<![\w%-])[A-Za-z0-9+]*/[A-Za-z0-9+/]+={0,2}(?![\w%-])")
_FOLDER = re.compile(r"[a-z]+[0-9]*|[A-Z][a-z]{4,}")
_UUID = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9a-fA-F])")
_PIECE = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}(?![a-z])")
_VOWEL = re.compile(r"[aeiouy]", re.IGNORECASE)
_CONSONANT = re.compile(r"[^aeiou]", re.IGNORECASE)
_MUMBLE = re.compile(r"[^aeiouy]{5}", re.IGNORECASE)
_SEAM = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")
_REPLACEMENT = re.compile(r"\[[^\]'\"]+ of \d+ characters\]")
_QUOTED = re.compile(rf"""(['"])({_REPLACEMENT.pattern})\1""")
_KINDS = (
    ("sk-ant-ort", "a refresh token"),
    ("sk-ant-oat", "an access token"),
    ("sk-ant-api", "an API key"),
    ("sk-", "a secret key"),
    ("eyJ", "a JWT"),
)


def redact(text: str) -> str:
    """``text`` with each secret replaced by its kind and length: ``[a refresh token of 108 characters]``."""
    if len(text) < SHORTEST and "sk-" not in text and "eyJ" not in text:
        return text  # fast path for labels and workers' names, which the journal checks for each event
    if _SUSPICIOUS.search(text) is None:
        return text
    text = _TOKEN.sub(_named, text)
    text = _JWT.sub(_named, text)
    text = _SLASHED.sub(_without_slashed, text)
    return _RUN.sub(_without_opaque, text)


def is_name(text: str) -> bool:
    """Whether ``text`` contains no secret, so that it may be printed and journalled."""
    return redact(text) == text


def is_path(text: str) -> bool:
    """Whether ``text`` may be a file's path: it contains no token, and does not consist of a single secret.

    Folders are often named by a checksum. So hex or base64 within a longer path is not refused, but it is not printed
    either.
    """
    return not (_TOKEN.search(text) or _JWT.search(text) or _REPLACEMENT.fullmatch(redact(text)))


def shown(value: object, length: int = _SHOWN_LENGTH) -> str:
    """``value`` for quoting in an error: its ``repr``, at most that many characters, or a secret's kind and length."""
    return _clipped(_unquoted(redact(_text(value))), length)


def brief(*names: object) -> str:
    """Names that the user gave, for an error, without quotes; of many or long ones the beginning and the end."""
    return safe_text(", ".join(map(str, names)), _SHOWN_LENGTH)


def safe_text(text: str, length: int = _MESSAGE_LENGTH) -> str:
    """``text`` with its secrets redacted; of more than that many characters, the beginning and the end.

    No character of it, a line break aside, is one that a terminal might obey.
    """
    return _clipped(_unquoted(redact(printable(text, keep="\n"))), length)


def safe_sentence(text: str) -> str:
    """:func:`safe_text` for one sentence about an argument, which may quote that whole: of a long one both ends."""
    return safe_text(text, _SENTENCE_LENGTH)


def printable(text: str, *, keep: str = "") -> str:
    """``text`` with all characters escaped that have no shape of their own, except those in ``keep``.

    A terminal obeys some (ESC, BEL), others let a line look as if it were another one (CR, right-to-left override). A
    name may hold them: whoever names a thread or sends a request has chosen it.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


def clean(value: Any) -> Any:
    """A JSON ``value`` with every string in it redacted, names of members included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(name): clean(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):  # a union would be made anew for each value
        return type(value)(map(clean, value))
    return value


def _text(value: object) -> str:
    if isinstance(value, bytes):
        text = value.decode("latin-1")
        return repr(value) if is_name(text) else repr(redact(text))
    if isinstance(value, str):
        return repr(redact(value))
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a number of more than 4,300 digits, or an object of a user's
        return f"<{type(value).__name__}>"


def _clipped(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    left = (length - 1) // 2
    return f"{text[:left]}…{text[-left:]}"


def _unquoted(text: str) -> str:
    """Remove the quotes around a redacted secret: kind and length are no quotation."""
    return _QUOTED.sub(r"\2", text)


def _named(found: re.Match[str]) -> str:
    text = found.group()
    kind = next(kind for begin, kind in _KINDS if text.startswith(begin))
    return f"[{kind} of {len(text)} characters]"


def _without_opaque(found: re.Match[str]) -> str:
    text = found.group()
    if text.startswith("ct1-"):
        return text
    return "/".join(_opaque(part) or part for part in text.split("/"))


def _without_slashed(found: re.Match[str]) -> str:
    """Redact base64 with slashes: one character in 64 is a slash, so neighbours of a secret part belong to it, unless
    they are names.
    """
    safe: list[str] = []
    for named, group in itertools.groupby(found.group().split("/"), _is_folder):
        parts = list(group)
        joined = "/".join(parts)
        dense = len(joined) > 6 * (len(parts) - 1)  # a path has more slashes
        if named or any(map(_HEX.fullmatch, parts)) or not (dense or any(map(_opaque, parts))):
            safe.append(joined)
        else:
            safe.append(_opaque(joined) or joined)
    return "/".join(safe)


def _is_folder(part: str) -> bool:
    return _FOLDER.fullmatch(part) is not None and sum(_worded(part)) >= _WORDS_SHARE * len(part)


@functools.lru_cache(maxsize=512)
def _opaque(text: str) -> str:
    """Kind and length of ``text`` if it is hex or base64 without a word; else ``""``."""
    if len(text) < SHORTEST:
        return ""
    if _HEX.search(text) is None and not _wordless(text):
        return ""
    kind = "hex" if _HEX.fullmatch(text) else "base64"
    return f"[{kind} of {len(text)} characters]"


def _wordless(text: str) -> bool:
    worded, seams = _worded(text), bytearray(len(text))
    for uuid in _UUID.finditer(text):
        worded[uuid.start() : uuid.end()] = b"\1" * len(uuid.group())
    for seam in _SEAM.finditer(text):
        seams[seam.start()] = not worded[seam.start()]
    for at in range(len(text) - SHORTEST + 1):
        window = slice(at, at + SHORTEST)
        share, changes = sum(worded[window]) / max(1, sum(map(str.isalnum, text[window]))), sum(seams[window])
        if (share < _WORDS_SHARE and changes >= _SEAMS) or (share < _FEW_WORDS and text[window].isalnum()):
            return True
    return False


def _worded(text: str) -> bytearray:
    """For each character of ``text``, whether it is part of a word."""
    worded = bytearray(len(text))
    for piece in _PIECE.finditer(text):
        letters = piece.group()
        if _VOWEL.search(letters) and _CONSONANT.search(letters) and not _MUMBLE.search(letters):
            worded[piece.start() : piece.end()] = b"\1" * len(letters)
    return worded


# Entry points.


def discreet(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a public entry point: if it is passed a secret, no error text and no frame of a traceback shows the secret.

    ``pytest --showlocals`` prints the arguments and locals of every frame of a traceback. If an argument holds a
    secret (or is so long that it would be clipped), or the error's text does, the frames below the entry point are
    removed from the error, its text is redacted, and the entry point's own frame has deleted its arguments. Other
    errors pass unchanged.
    """

    @functools.wraps(function)
    def entry(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except Exception as error:
            refused = cleaned(error, [*args, kwargs])
            if refused is None:
                raise
        del args, kwargs
        raise refused from None

    return entry


def cleaned(error: Exception, arguments: list[object], always: tuple[type[Exception], ...] = ()) -> Exception | None:
    """The error that an entry point raises in place of ``error``; ``None``: it passes unchanged.

    Errors in ``always`` lose their frames in any case: these may hold secrets that were not passed as arguments.
    """
    text = str(error)
    too_long = len(text) > _MESSAGE_LENGTH and not isinstance(error, AssertionError)  # those tell what was found
    if too_long or isinstance(error, always) or _delicate(arguments) or _REPLACEMENT.search(text):
        return _without_secrets(error)
    return None


def discreet_class(cls: type[C]) -> type[C]:
    """Apply :func:`discreet` to ``__init__`` and each public method of a class."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, classmethod | staticmethod):
            setattr(cls, name, type(member)(discreet(member.__func__)))
        elif callable(member) and not isinstance(member, type):
            setattr(cls, name, discreet(member))
    return cls


def _delicate(value: object, depth: int = 3) -> bool:
    """Whether ``value`` is or contains a secret, or a text that is too long to be quoted."""
    if hasattr(value, "__fspath__"):
        value = value.__fspath__()
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return len(value) > _SHOWN_LENGTH or not is_name(value)
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    return (
        depth > 0 and isinstance(value, list | tuple | set | frozenset) and any(_delicate(v, depth - 1) for v in value)
    )


def _without_secrets(error: Exception) -> Exception:
    """The same error without frames, cause and context, and with a text that may be printed."""
    error.args = tuple(safe_sentence(value) if isinstance(value, str) else value for value in error.args)
    if isinstance(error, OSError):
        for name in ("filename", "filename2"):
            if isinstance(value := getattr(error, name), str):
                setattr(error, name, brief(value))
    if not is_name(str(error)):  # its `__str__` uses more than its arguments
        error = ValueError(safe_sentence(str(error)))
    notes = getattr(error, "__notes__", None)
    if notes is not None:
        notes[:] = map(safe_sentence, notes)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
