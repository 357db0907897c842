"""Policies and faults as JSON and back: the one form of history files, replay tokens and admin requests."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_server.core.fault_plan import FaultPlan
from fake_server.faults import Fault, FaultKind
from fake_server.policy import PRESETS, Policy, settings_of
from pytest_claude_tokens.strategies import policies

FAULTS = [
    Fault.LOST_REPLY,
    Fault.RESET,
    Fault.TIMEOUT,
    Fault.GARBAGE,
    Fault.TRUNCATED,
    Fault.BURST,
    Fault.moved(),
    Fault.status(429),
    Fault.status(503, retry_after=1.5),
    Fault.status(503, after_commit=True),
    Fault.status(400, body={"error": "use_dpop_nonce"}, headers={"DPoP-Nonce": "n1"}),
    Fault.status(502, 3, after_commit=True, body="<h1>Bad gateway</h1>"),
    Fault.stall(1.5),
    Fault.stall(1.5, part="body"),
    Fault.delay(0),
    Fault.delay(2.5, after_commit=True),
    Fault.quota(),
    Fault.quota("seven_day"),
    Fault.html(),
    Fault.html(502),
]


def through_json(value: dict[str, Any]) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_comes_back_as_it_was(fault: Fault) -> None:
    """Every field, through JSON."""
    assert Fault.from_dict(through_json(fault.to_dict())) == fault


def test_every_kind_of_fault_is_among_them() -> None:
    """A kind that is added must come back, too."""
    assert {fault.kind for fault in FAULTS} == set(get_args(FaultKind))


@pytest.mark.parametrize(
    ("fault", "written"),
    [
        (Fault.RESET, {"kind": "reset"}),
        (Fault.status(429), {"kind": "status", "code": 429}),
        (Fault.status(429, 3), {"kind": "status", "code": 429, "retry_after": 3}),
        (Fault.delay(1), {"kind": "delay", "seconds": 1}),
        (Fault.quota(), {"kind": "quota"}),
        (
            Fault.status(400, after_commit=True, body={"error": "x"}, headers={"A": "b"}),
            {"kind": "status", "code": 400, "after_commit": True, "body": '{"error":"x"}', "headers": {"A": "b"}},
        ),
        (Fault.stall(2), {"kind": "stall", "seconds": 2}),
        (Fault.stall(2, "body"), {"kind": "stall", "seconds": 2, "part": "body"}),
    ],
)
def test_a_fault_is_written_in_the_words_of_its_constructor(fault: Fault, written: dict[str, Any]) -> None:
    """With the arguments that are not left out in a call either."""
    assert fault.to_dict() == written


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ({}, ValueError, "no fault is named ''; there are lost-reply, reset,"),
        ({"kind": "late"}, ValueError, "no fault is named 'late'"),
        ({"kind": "reset", "code": 1}, ValueError, "the fault reset has no code"),
        ({"kind": "status", "code": 200}, ValueError, "400 to 599"),
        ({"kind": "quota", "window": "year"}, ValueError, "five_hour or seven_day"),
        ({"kind": "status"}, ValueError, "the fault status needs code"),
        ({"kind": "stall", "seconds": 1, "part": "tail"}, ValueError, "head or body"),
        ({"kind": "html", "body": "x"}, ValueError, "the fault html has no body"),
    ],
)
def test_what_is_no_fault_is_refused(value: dict[str, Any], error: type[Exception], says: str) -> None:
    """By the constructor's own checks: a replay token or a request can't make what Python can't."""
    with pytest.raises(error, match=says):
        Fault.from_dict(value)


def test_a_fault_from_json_is_planned_like_any_other() -> None:
    """It is equal in the plan's eyes."""
    plan = FaultPlan()
    plan.add("token", Fault.from_dict({"kind": "lost-reply"}))
    assert plan.take("token", "alice") == Fault.LOST_REPLY


@given(policies())
def test_a_policy_comes_back_as_it_was(policy: Policy) -> None:
    """Presets and whatever the strategies make."""
    assert Policy.from_dict(through_json(policy.to_dict())) == policy


def test_a_policy_with_every_knob_turned_comes_back() -> None:
    """Those that JSON has no word for, too: an infinite window, a set of scopes, a latency for each kind."""
    policy = Policy(
        name="all",
        rotate=False,
        repeat_refresh=True,
        revoke_access=True,
        refresh_slides=True,
        reuse="revoke-family",
        grace_seconds=math.inf,
        grace_mode="idempotent",
        grace_count=3,
        dialect="gateway",
        expires_in=60,
        refresh_expires_in=600,
        scopes=frozenset({"b", "a"}),
        key="account",
        slots=None,
        serialize=0.5,
        queue_limit=2.0,
        latency={"token": 1.0},
    )
    assert Policy.from_dict(through_json(policy.to_dict())) == policy


def test_a_policy_that_asks_one_of_two_at_once_to_retry_comes_back() -> None:
    """The one knob that goes with rotation only."""
    policy = Policy(name="hydra", at_once="retry", grace_seconds=5)
    assert Policy.from_dict(through_json(policy.to_dict())) == policy


@pytest.mark.parametrize("name", PRESETS)
def test_a_mere_name_is_the_preset(name: str) -> None:
    """As text or as an object: histories of other writers say no more."""
    assert Policy.from_dict(name) == Policy.from_dict({"name": name}) == PRESETS[name]
    assert settings_of(name) == settings_of({"name": name}) == PRESETS[name].to_dict()


@pytest.mark.parametrize("name", [*PRESETS, "mine"])
def test_a_policy_that_has_only_its_name_from_a_preset_is_not_taken_for_it(name: str) -> None:
    """It would be judged, and replayed, by rules that did not hold."""
    policy = Policy(name=name)
    assert Policy.from_dict(policy.to_dict()) == policy


@given(st.dictionaries(st.sampled_from(["name", "limit", "rotate"]), st.integers(), min_size=2))
def test_settings_of_another_version_are_kept(settings: dict[str, Any]) -> None:
    """A judge reads files that it can't make a policy of."""
    assert settings_of(settings) == settings


def test_what_is_no_policy_is_refused() -> None:
    """A knob that there is not, and a value that it can't have."""
    with pytest.raises(TypeError, match="Policy has no limit"):
        Policy.from_dict({"name": "x", "limit": 1})
    with pytest.raises(ValueError, match=r"Policy\(slots=0\)"):
        Policy.from_dict({"name": "x", "slots": 0})
