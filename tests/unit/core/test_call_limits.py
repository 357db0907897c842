"""Calls that a policy refuses for their number: bursts, usage windows, a fan-out; always by account."""

from __future__ import annotations

from fake_server.core.call_limits import MASKED
from fake_server.policy import Policy
from tests.unit.core.harness import START, World, call


def test_a_burst_is_refused_without_usage_headers_and_forgotten() -> None:
    """By account, whatever the bearer; what was refused does not prolong it."""
    world = World(burst=2, burst_seconds=10)
    grant = world.server.login("alice")
    bearers = [grant.access[0].secret, world.login("alice")[0]]
    other, _ = world.login("bob")
    for number, status in enumerate((200, 200, 429, 429)):
        assert world.call(bearers[number % 2]).status == status
    refused = world.call(bearers[0])
    assert not {name for name in refused.header_names if "unified" in name}
    assert world.last().get("fault") is not None
    assert world.call(other).status == 200
    world.time = START + 10
    assert world.call(bearers[0]).status == 200


def test_a_quota_is_refused_with_its_window_until_that_ends() -> None:
    """The window begins with the first call."""
    world = World(quota=1, quota_window="seven_day")
    bearer, _ = world.login(expires_in=10_000_000)
    assert world.call(bearer).status == 200
    refused = world.call(bearer)
    assert (refused.status, refused.header("retry-after")) == (429, "604800")
    assert refused.header("anthropic-ratelimit-unified-representative-claim") == "seven_day"
    world.time = START + 604_800
    assert [world.call(bearer).status, world.call(bearer).status] == [200, 429]


def test_each_call_of_a_window_counts_once() -> None:
    """The third is let in, the fourth is not."""
    world = World(quota=3)
    bearer, _ = world.login()
    assert [world.call(bearer).status for _ in range(5)] == [200, 200, 200, 429, 429]


def test_a_fan_out_is_refused_with_a_mask() -> None:
    """400 and the credit balance; those that are open go on, and later ones are let in."""
    world = World(fan_out=1)
    bearer, _ = world.login()
    first = world.begin(call(bearer))
    first.step()
    refused = world.call(bearer, "w1")
    assert refused.status == 400
    error = {"type": "invalid_request_error", "message": MASKED}
    assert refused.json.items() >= {"type": "error", "error": error}.items()
    assert world.run(first).status == 200
    assert world.call(bearer, "w1").status == 200


def test_who_has_no_account_or_a_dead_bearer_is_not_counted() -> None:
    """They are refused for what they are."""
    world = World(burst=0)
    expired, _ = world.login(expires_in=-1)
    assert [world.call(None).status, world.call("sk-ant-oat01-FAKE").status, world.call(expired).status] == [401] * 3
    live, _ = world.login("bob")
    assert world.call(live).status == 429


def test_without_limits_nothing_is_counted() -> None:
    """The service of a search makes no counters."""
    assert World().server.call_limits is None
    assert not Policy().limits_calls
