"""A policy is a frozen value: presets by name, variants by ``but``, and an early refusal of what makes no sense."""

from __future__ import annotations

import json
import math
from fnmatch import fnmatchcase
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest

from fake_server import Policy as Exported
from fake_server.policy import PRESETS, SCOPE, SETUP_SCOPE, Policy

NAMES = ["anthropic", "anthropic-harsh", "rfc9700-floor", "grace", "keycloak", "no-rotation", "gateway", "oauth"]


def test_the_presets_have_their_documented_names() -> None:
    """These names are used on command lines and in markers."""
    assert list(PRESETS) == NAMES
    assert [Policy.preset(name).name for name in NAMES] == NAMES
    assert Policy.preset("anthropic") == Policy() == Exported()


def test_an_unknown_preset_is_refused_with_the_names() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match="no policy is named 'antropic'; choose one of anthropic, anthropic-harsh"):
        Policy.preset("antropic")


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("anthropic", {"reuse": "refuse", "rotate": True, "dialect": "json"}),
        ("anthropic-harsh", {"reuse": "revoke-family"}),
        ("rfc9700-floor", {"reuse": "revoke-successor"}),
        ("grace", {"grace_seconds": 30, "grace_mode": "sibling", "grace_count": None, "reuse": "revoke-family"}),
        ("keycloak", {"grace_seconds": 0, "grace_count": 0, "reuse": "revoke-family"}),
        ("no-rotation", {"rotate": False}),
        ("gateway", {"dialect": "gateway", "reuse": "refuse"}),
    ],
)
def test_a_preset_is_a_set_of_knobs(name: str, facts: dict[str, Any]) -> None:
    """What each name stands for; all of them serialize calls by bearer, one at a time, for ten seconds at most."""
    policy = Policy.preset(name)

    assert {knob: getattr(policy, knob) for knob in facts} == facts
    assert (policy.key, policy.slots, policy.serialize, policy.queue_limit) == ("bearer", 1, None, 10)
    assert (policy.expires_in, policy.refresh_expires_in) == (28800, 2592000)


def test_keycloak_counts_and_does_not_time() -> None:
    """Any time later, so many times."""
    policy = Policy.keycloak(max_reuse=2)
    assert (policy.grace_seconds, policy.grace_count, policy.grace_mode) == (math.inf, 2, "previous-only")


def test_a_variant_changes_only_what_it_names() -> None:
    """``but`` gives a copy; an unknown name is refused with the names that there are."""
    policy = Policy()
    variant = policy.but(serialize=4.0, key="account")

    assert (variant.serialize, variant.key, variant.slots) == (4.0, "account", policy.slots)
    assert policy == Policy()
    with pytest.raises(TypeError, match=r"Policy has no serialise; it has .*serialize"):
        policy.but(serialise=4.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reuse": "explode"},
        {"grace_mode": "cousin"},
        {"dialect": "xml"},
        {"key": "worker"},
        {"slots": 0},
        {"grace_count": -1},
        {"grace_seconds": -1},
        {"grace_seconds": math.nan},
        {"expires_in": -1},
        {"expires_in": math.inf},
        {"refresh_expires_in": math.inf},
        {"queue_limit": math.inf},
        {"serialize": -0.1},
        {"latency": -1},
        {"latency": {"token": math.nan}},
        {"latency": {"tokens": 1}},
        {"latency": {1: 1}},
        {"latency": {"token": "1"}},
        {"latency": "x"},
        {"latency": None},
        {"serialize": "4"},
        {"serialize": True},
        {"queue_limit": None},
        {"expires_in": [1]},
        {"grace_seconds": "30"},
        {"grace_count": 1.5},
        {"slots": "1"},
        {"rotate": "no"},
        {"name": ""},
        {"scopes": "user:inference"},
        {"scopes": [1]},
        {"scopes": 5},
    ],
    ids=str,
)
def test_a_value_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """At once, and the message names the field."""
    with pytest.raises(ValueError, match=rf"^Policy\({next(iter(wrong))}="):
        Policy(**wrong)
    with pytest.raises(ValueError, match=rf"^Policy\({next(iter(wrong))}="):
        Policy().but(**wrong)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"serialize": "4"}, "Policy(serialize='4'): must be seconds, 0 or more, and not infinite, or None *"),
        ({"queue_limit": None}, "Policy(queue_limit=None): must be seconds, 0 or more, and not infinite"),
        ({"latency": "x"}, "Policy(latency='x'): must be seconds, 0 or more, and not infinite, or a mapping *"),
        ({"slots": 1.5}, "Policy(slots=1.5): must be a whole number, 1 or more, or None for no limit"),
    ],
    ids=str,
)
def test_a_refusal_says_what_is_allowed(wrong: dict[str, Any], sentence: str) -> None:
    """In a sentence with the field, the value, and what it may be."""
    with pytest.raises(ValueError, match=r"^Policy") as refused:
        Policy().but(**wrong)
    assert fnmatchcase(str(refused.value), sentence)


def test_any_collection_of_scopes_will_do() -> None:
    """It is kept as a set that cannot change."""
    assert Policy(scopes=["a", "b"]).scopes == frozenset(("a", "b"))  # type: ignore[arg-type]  # a list is no set


def test_any_kind_of_real_number_is_seconds() -> None:
    """Nobody has to convert a fraction or an integer."""
    policy = Policy(serialize=Fraction(1, 2), latency={"call": 1}, queue_limit=3)  # type: ignore[arg-type]  # for the type checker only floats are
    assert (policy.serialize, policy.latency_of("call"), policy.queue_limit) == (0.5, 1, 3)


@pytest.mark.parametrize(
    ("latency", "seconds"),
    [(2, {"token": 2, "call": 2, "other": 2}), ({"token": 0.5, "call": 3}, {"token": 0.5, "call": 3, "other": 0})],
)
def test_latency_is_for_all_or_by_kind(latency: Any, seconds: dict[str, float]) -> None:
    """One number counts for every request; in a mapping, a kind that is not named takes no time."""
    policy = Policy(latency=latency)
    assert {kind: policy.latency_of(kind) for kind in seconds} == seconds


def test_a_policy_is_a_value() -> None:
    """It can be a key, with a mapping in it, too, and no later change of that mapping reaches it."""
    latency = {"token": 1.0}
    policy = Policy(latency=latency)
    latency["token"] = 9.0

    assert policy.latency_of("token") == 1.0
    assert policy == Policy(latency=MappingProxyType({"token": 1.0}))
    assert len({policy, policy.but(), Policy()}) == 2


@pytest.mark.parametrize(
    ("scopes", "asked", "known"),
    [
        (None, "anything at:all", True),
        (frozenset({"user:inference"}), None, True),
        (frozenset({"user:inference"}), "user:inference", True),
        (frozenset({"user:inference"}), "user:inference user:profile", False),
        (frozenset(SCOPE.split()), SETUP_SCOPE, True),
    ],
)
def test_a_scope_is_known_word_by_word(scopes: frozenset[str] | None, asked: str | None, known: bool) -> None:
    """A request that names no scope, or a service that knows any, is never refused."""
    assert Policy(scopes=scopes).knows(asked) is known


def test_a_header_tells_what_differs_from_the_default() -> None:
    """And is JSON, whatever the policy."""
    assert Policy().to_dict() == {"name": "anthropic"}
    policy = Policy.keycloak(1).but(scopes=frozenset({"b", "a"}), latency={"call": 1})
    told = json.loads(json.dumps(policy.to_dict(), allow_nan=False))

    assert told == {
        "name": "keycloak",
        "reuse": "revoke-family",
        "grace_seconds": "inf",
        "grace_mode": "previous-only",
        "grace_count": 1,
        "scopes": ["a", "b"],
        "latency": {"call": 1},
    }
