"""What is a name, and what is a secret that was pasted where a name is wanted."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fake_server.secrecy import (
    brief,
    clean,
    discreet,
    discreet_class,
    is_name,
    is_path,
    redact,
    safe_sentence,
    safe_text,
    shown,
)
from tests.pasted import KINDS, SECRETS, frames, pieces

REFRESH = SECRETS["refresh token"]

NAMES = [
    "w0",
    "rt#1",
    "work:rt#12",
    "alice@example.com",
    "anthropic-harsh",
    "test_pool_never_double_spends_under_any_schedule",
    "TestPoolNeverDoubleSpends",
    "tests/test_pool.py::TestPool::test_it[grace-2-processes]",
    "checkout-pool-with-a-long-name-in-kebab-case",
    "internationalization",
    "testfinegrainedcache",
    "CLAUDE_CODE_OAUTH_REFRESH_TOKEN",
    "HttpParserInvalidURLError",
    "platform.claude.com",
    "http://127.0.0.1:40123/w/w0/v1/oauth/token",
    "/api/oauth/claude_cli/client_data",
    "/home/alice/projects/pool/tests/.claude-tokens/test_pool.py-test_it/history.jsonl",
    "/tmp/pytest-of-root/pytest-12/popen-gw0/test_it0/.credentials.json",
    "2026-11-30T08-16-07",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "ct1-Jk2xAauOVkrOSM3JyVeyUjI0UNJRKijKTy1OLVGyio6O1VEqS8wpTVWyMqgFAA",
    "task-queue-and-desk-lamp",
    "a" * 19,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name(name: str) -> None:
    """It is repeated as it is."""
    assert is_name(name)
    assert (redact(name), safe_text(name), shown(name)) == (name, name, repr(name))


@settings(derandomize=True, max_examples=200)  # a random text may be a name: about one in 10,000 of these
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 2**64))
def test_a_secret_is_a_secret_alone_and_in_any_text(kind: str, seed: int) -> None:
    """Whatever stands around it; and of the text around it nothing is lost."""
    secret = KINDS[kind](random.Random(seed))
    for text in ("{}", "--policy={}", "'{}'", "/v1/x/{}/y", "https://h:1/a?key={}&b=1", "no policy {!r}, but:\n{}"):
        pasted = text.format(secret, secret)
        assert not is_name(pasted)
        for safe in (redact(pasted), safe_text(pasted), shown(pasted), shown(pasted.encode()), shown([pasted])):
            assert not pieces(secret, safe), safe
            assert " characters]" in safe
    assert redact(f"it was {secret}, alas").startswith("it was ")
    assert redact(f"it was {secret}, alas").endswith(", alas")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (REFRESH, "[a refresh token of 108 characters]"),
        (SECRETS["access token"], "[an access token of 108 characters]"),
        (SECRETS["API key"], "[an API key of 108 characters]"),
        ("sk-proj-abc", "[a secret key of 11 characters]"),
        (SECRETS["JWT"], f"[a JWT of {len(SECRETS['JWT'])} characters]"),
        ("0123456789abcdef0123", "[hex of 20 characters]"),
        ("c3ByaW5nYm9hcmQrL2Zvbw==", "[base64 of 24 characters]"),
        ("QQQQQQQQQQQQQQQQQQQQ", "[base64 of 20 characters]"),
        (f"w0-{REFRESH}", "w0-[a refresh token of 108 characters]"),
        (f"wsk-ant-ort01-{'x' * 95}", "w[a refresh token of 108 characters]"),
        (f"ct1-{REFRESH}", "ct1-[a refresh token of 108 characters]"),
        ("abcdefgh/0a1b2c3d4e5f60718293/k", "abcdefgh/[hex of 20 characters]/k"),
        ("Zm9v/YmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9v+YmFy", "[base64 of 42 characters]"),
        ("aB3dE5fG7hJ9kL1/mN2pQ4rS6tU8vW0", "[base64 of 31 characters]"),
    ],
)
def test_its_kind_and_its_length_are_told_instead(text: str, safe: str) -> None:
    """So that who pasted it knows which one it was."""
    assert redact(text) == safe


def test_kind_and_length_are_no_quotation() -> None:
    """A message that quotes the value reads as if it had been told so."""
    assert safe_text(f"no policy is named {REFRESH!r}") == "no policy is named [a refresh token of 108 characters]"
    assert shown(REFRESH) == "[a refresh token of 108 characters]"
    assert (shown("x y"), shown(b"x"), shown(7), shown(None)) == ("'x y'", "b'x'", "7", "None")


@given(st.text(alphabet="ab c/", min_size=3000, max_size=3000) | st.just("x" * 10_000))
def test_an_argument_is_never_repeated_at_any_length(text: str) -> None:
    """120 characters of a value, or of names; 400 of a sentence about one, and 2,000 of a message; its end included."""
    told = [shown(text), brief(text, text), safe_sentence(f"{text} END"), safe_text(f"{text} END")]
    assert [len(one) <= most for one, most in zip(told, (120, 120, 400, 2000), strict=True)] == [True] * 4
    assert all(one.endswith(" END") for one in told[2:]) or "characters" in safe_text(text)
    assert (shown("y " * 5_000)[:6], shown("y " * 5_000, 7)) == ("'y y y", "'y …y '")
    assert brief("one", "two") == "one, two"


@example("x" * 1000)
@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    """What is redacted stays so: nothing in kind and length looks like a secret."""
    assert redact(redact(text)) == redact(text)


def test_what_is_as_json_is_redacted_whole() -> None:
    """Texts at any depth, names of members too; nothing else is touched."""
    value = {"a": [1, None, REFRESH, {"b": (True, 1.5)}], REFRESH: "w0"}
    kind = "[a refresh token of 108 characters]"
    assert clean(value) == {"a": [1, None, kind, {"b": (True, 1.5)}], kind: "w0"}


@pytest.mark.parametrize("path", ["history.jsonl", "/ci/0123456789abcdef0123456789abcdef/h.jsonl", "deadbeef"])
def test_a_path_may_have_a_checksum_in_it(path: str) -> None:
    """Build folders do."""
    assert is_path(path)


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_path_is_no_secret(secret: str) -> None:
    """Neither alone nor, where it is surely a token, anywhere in it."""
    assert not is_path(secret)
    assert is_path(f"/x/{secret}.d/y") == (not secret.startswith(("sk-", "eyJ")))


class Refusing:
    """Refuses everything, in every way."""

    def __init__(self, *, fine: bool = True, name: str = "") -> None:
        if not fine:
            raise ValueError(f"Refusing(name={name!r})")

    def by_value(self, name: object) -> None:
        raise ValueError(f"no {name!r}")

    def by_number(self, name: object) -> None:
        raise TypeError(7, name)

    def by_file(self, name: str) -> None:
        with open(f"/nowhere/{name}", encoding="utf-8"):
            pass

    def by_two_files(self, name: str) -> None:
        raise OSError(1, "not permitted", name, None, f"{name}2")

    def by_codec(self, name: str) -> None:
        raise UnicodeEncodeError("ascii", name, 0, 1, f"not {name}")

    def with_note(self, name: str) -> None:
        error = ValueError("no")
        error.add_note(f"but {name}")
        raise error from KeyError(name)

    @classmethod
    def of_class(cls, name: str) -> None:
        raise ValueError(name)

    @staticmethod
    def of_none(name: str) -> None:
        raise ValueError(name)

    def _by_itself(self, name: str) -> None:
        raise ValueError(name)

    kind = str


DISCREET: Any = discreet_class(type("DISCREET", (), {**vars(Refusing), "__dict__": None}))
METHODS = ["by_value", "by_number", "by_file", "by_two_files", "by_codec", "with_note", "of_class", "of_none"]


def seen(error: BaseException) -> str:
    """All that is ever printed of an error, but the frames of tests."""
    return "\n".join([str(error), repr(error), *getattr(error, "__notes__", ()), *frames(error)])


@pytest.mark.parametrize("method", METHODS)
def test_an_entry_forgets_a_secret_that_it_was_given(method: str) -> None:
    """In the text, in the notes, in what it came from, in the names of files."""
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        getattr(DISCREET(), method)(REFRESH)
    assert not pieces(REFRESH, seen(caught.value))
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert [entry.name for entry in caught.traceback][1:] == ["entry"]


@pytest.mark.parametrize("value", [[REFRESH], {"a": {REFRESH}}, {REFRESH: 1}, (REFRESH.encode(),), "x " * 5_000])
def test_wherever_it_stands_in_an_argument(value: object) -> None:
    """Within lists and mappings, as bytes; and a text that is too long to be repeated is as bad."""
    with pytest.raises(ValueError, match="no ") as caught:
        DISCREET().by_value(value)
    assert not pieces(REFRESH, seen(caught.value))
    assert len(str(caught.value)) < 2100


def test_the_init_of_a_class_is_an_entry_too() -> None:
    """And what is private or a class stays what it was."""
    with pytest.raises(ValueError, match=r"Refusing\(name=\[a refresh token of 108 characters\]\)"):
        DISCREET(fine=False, name=REFRESH)
    with pytest.raises(ValueError, match="sk-ant-ort01"):
        DISCREET()._by_itself(REFRESH)
    assert DISCREET.kind is str


def test_an_error_that_tells_of_a_secret_loses_its_frames_whatever_was_given() -> None:
    """As where a fixture or a marker brought it."""

    @discreet
    def read() -> None:
        brought = REFRESH
        raise ValueError(f"no {shown(brought)}")

    with pytest.raises(ValueError, match="no ") as caught:
        read()
    assert [entry.name for entry in caught.traceback][1:] == ["entry"]


def test_any_other_error_passes_as_it_is() -> None:
    """With its frames, which say where it comes from, and with what it came from."""
    with pytest.raises(ValueError, match="no 'w0'") as caught:
        DISCREET().by_value("w0")
    assert [entry.name for entry in caught.traceback][1:] == ["entry", "by_value"]
    assert discreet(len)("four") == 4
