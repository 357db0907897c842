"""One prompt: the credential that is presented, the headers, the retries, and the words of each failure."""

from __future__ import annotations

import json

import pytest

from fake_server import Fault
from tests.unit.claude.world import START, answer, no_reply, sse

CALLS = "/v1/messages"
REVOKED = {"type": "error", "error": {"message": "OAuth token has been revoked. Please obtain a new token."}}


def error(message="M", kind="x"):
    return {"type": "error", "error": {"type": kind, "message": message}}


@pytest.fixture
def env_world(make_world):
    """Worlds in which the access token comes from the environment."""

    def make(dialect="2.1.123"):
        world = make_world(dialect)
        grant = world.server.login("bob", setup_token=True)
        world.environ["CLAUDE_CODE_OAUTH_TOKEN"] = grant.access[0].secret
        return world

    return make


# Which credential.


@pytest.mark.parametrize(
    ("given", "key", "bearer"),
    [
        (("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"), "ANTHROPIC_API_KEY", None),
        (("ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"), None, "ANTHROPIC_AUTH_TOKEN"),
        (("CLAUDE_CODE_OAUTH_TOKEN",), None, "CLAUDE_CODE_OAUTH_TOKEN"),
        ((), "helped", "helped"),
    ],
)
def test_the_keys_and_tokens_of_the_environment_beat_one_another_the_helper_and_the_store(world, given, key, bearer):
    """API key over auth token over OAuth token over the helper over the store."""
    world.login(expires=(START + 28800) * 1000)
    world.http.script[CALLS] = [answer(400)]
    world.run("-p", "x", "--settings", '{"apiKeyHelper": "echo helped"}', **{name: name for name in given})
    headers = world.http.calls()[0].headers
    assert headers.get("x-api-key") == key
    assert headers.get("authorization") == (bearer and f"Bearer {bearer}")


def test_with_a_token_in_the_environment_an_expired_store_is_not_refreshed(env_world):
    """The stored login is left alone."""
    world = env_world()
    world.login()
    assert world.run().out == "A\n"
    assert world.http.paths() == [CALLS]


def test_bare_uses_no_login_at_all(env_world):
    """--bare knows API keys and the helper only."""
    world = env_world()
    world.login()
    assert world.run("-p", "x", "--bare").out == "Not logged in · Please run /login\n"
    assert world.http.requests == []
    world.http.script[CALLS] = [answer(400)]
    world.run("-p", "x", "--bare", ANTHROPIC_API_KEY="key")
    assert world.http.calls()[0].headers["x-api-key"] == "key"


def test_nobody_logged_in(any_world):
    """Exit 1, the sentence on standard output, nothing on standard error, no request."""
    done = any_world.run()
    assert (done.status, done.out, done.err) == (1, "Not logged in · Please run /login\n", "")
    assert any_world.http.requests == []


# What is sent.


@pytest.mark.parametrize(
    ("dialect", "agent", "stainless", "sessions"),
    [
        ("1.0", "claude-cli/1.0.100 (external, cli)", "0.60.0", 0),
        ("2.1.123", "claude-cli/2.1.123 (external, sdk-cli)", "0.81.0", 1),
        ("2.1.330", "claude-cli/2.1.330 (external, sdk-cli)", "0.128.0", 1),
    ],
)
def test_a_call_has_the_headers_of_its_release(env_world, dialect, agent, stainless, sessions):
    """User agent, betas, the SDK's headers, and from 2.1 on a session id of the process."""
    world = env_world(dialect)
    world.run()
    call = world.http.calls()[-1]
    assert call.url == "http://127.0.0.1:1/v1/messages?beta=true"
    assert call.headers["user-agent"] == agent
    assert call.headers["x-stainless-package-version"] == stainless
    assert call.headers["x-stainless-retry-count"] == "0"
    assert call.headers["anthropic-version"] == "2023-06-01"
    assert "oauth-2025-04-20" in call.headers["anthropic-beta"].split(",")
    assert len({call.headers.get("x-claude-code-session-id")} - {None}) == sessions
    assert call.timeout == 600
    assert call.json["stream"] is True


def test_the_token_request_carries_the_same_session_id(world):
    """So the service can tell whose it is."""
    world.login()
    world.run()
    ids = {asked.headers["x-claude-code-session-id"] for asked in world.http.requests}
    assert len(ids) == 1
    (session,) = ids
    assert [len(part) for part in session.split("-")] == [8, 4, 4, 4, 12]


def test_an_api_key_needs_no_oauth_beta(world):
    """The flag goes with OAuth tokens."""
    world.http.script[CALLS] = [answer(400)]
    world.run(ANTHROPIC_API_KEY="key")
    assert "oauth" not in world.http.calls()[0].headers["anthropic-beta"]


def test_1_0_asks_for_its_quota_first(env_world):
    """A small call to another model, whose outcome changes nothing."""
    world = env_world("1.0")
    world.http.script[CALLS] = [no_reply()]
    assert world.run().out == "A\n"
    probe, call = world.http.calls()
    assert (probe.json["model"], probe.json["max_tokens"], "stream" in probe.json) == (
        "claude-3-5-haiku-20241022",
        1,
        False,
    )
    assert probe.json["messages"][0]["content"] == "quota"
    assert call.json["model"] == "claude-sonnet-4-5"


def test_the_requests_beside_the_point_can_be_had(make_world):
    """HEAD / from 2.1.123, the server list for a stored login, and without a base URL no HEAD."""
    for dialect, expected in (("2.1.123", ["/", "/v1/mcp_servers"]), ("2.1.330", ["/v1/mcp_servers"])):
        world = make_world(dialect)
        world.login(expires=(START + 28800) * 1000)
        world.run(CLAUDE_TOKENS_SIDE_REQUESTS="1")
        assert world.http.paths() == [*expected, CALLS]
    world.http.requests.clear()
    world.run(CLAUDE_TOKENS_SIDE_REQUESTS="1", CLAUDE_TOKENS_DIALECT="2.1.123", ANTHROPIC_BASE_URL=None)
    assert world.http.paths() == ["/v1/mcp_servers", CALLS]
    assert world.http.calls()[-1].host == "api.anthropic.com"
    world.http.requests.clear()
    world.http.script["/"] = [no_reply()]
    world.run(CLAUDE_TOKENS_SIDE_REQUESTS="1", CLAUDE_TOKENS_DIALECT="2.1.123", ANTHROPIC_API_KEY="k")
    assert world.http.paths()[:2] == ["/", CALLS]


def test_the_plain_token_url_takes_the_small_endpoints_to_the_base_url(world):
    """Without a way to the real names, the profile is asked for where the calls go."""
    world.login()
    world.run(CLAUDE_TOKENS_TOKEN_URL="http://127.0.0.1:1/v1/oauth/token")
    assert {asked.host for asked in world.http.requests} == {"127.0.0.1"}
    world.login()
    world.run(CLAUDE_TOKENS_TOKEN_URL="http://127.0.0.1:1/v1/oauth/token", ANTHROPIC_BASE_URL=None)
    assert world.http.requests[-1].host == "api.anthropic.com"


def test_a_profile_that_does_not_answer_is_no_matter(world):
    """Nothing depends on the small endpoints."""
    world.login()
    world.http.script["/api/oauth/profile"] = [no_reply("ETIMEDOUT")]
    assert world.run().out == "A\n"


# 401 with a token from the environment.


@pytest.mark.parametrize("dialect", ["2.1.123", "2.1.330"])
def test_a_401_on_the_environments_token_is_tried_once_more(env_world, dialect):
    """Twice in all, half a second apart; the once refused token may be good again."""
    world = env_world(dialect)
    world.http.script[CALLS] = [answer(401, error())] * 2
    done = world.run()
    detail = json.dumps(error()) if dialect == "2.1.123" else "M"
    assert done.out == f"Failed to authenticate. API Error: 401 {detail}\n"
    assert (done.status, len(world.http.calls()), world.naps) == (1, 2, [0.562])
    world.http.script[CALLS] = [answer(401, error())]
    assert world.run().out == "A\n"


def test_2_1_123_replaces_a_refused_token_by_the_stored_one(env_world):
    """Even an expired one, which it does not refresh; 2.1.330 stays with the environment's."""
    for dialect, replaced in (("2.1.123", True), ("2.1.330", False)):
        world = env_world(dialect)
        grant = world.login()
        world.http.script[CALLS] = [answer(401, error())] * 2
        world.run()
        second = world.http.calls()[1].headers["authorization"]
        assert (second == f"Bearer {grant.access[0].secret}") is replaced
        assert world.http.posts() == []
        assert ("401_recovered_from_disk" in world.events()) is replaced


def test_a_refused_api_key_is_not_tried_again(world):
    """There is nothing to get a new one from."""
    done = world.run(ANTHROPIC_API_KEY="key", ANTHROPIC_AUTH_TOKEN="x")
    assert done.out == "Invalid API key · Fix external API key\n"
    assert len(world.http.calls()) == 1


def test_without_retries_a_401_is_final(world):
    """CLAUDE_CODE_MAX_RETRIES=0 means one attempt."""
    world.login(refreshToken="")
    world.run(CLAUDE_CODE_MAX_RETRIES="0")
    assert len(world.http.calls()) == 1


def test_a_revoked_token_is_as_good_as_a_401(make_world):
    """403 with these words makes a refresh; where that doesn't help, each release says it in its own way."""
    for dialect, text in (
        ("2.1.123", "Your account does not have access to Claude. Please login again or contact your administrator."),
        (
            "2.1.330",
            "Failed to authenticate: OAuth token revoked. Please log in again or contact your administrator.",
        ),
    ):
        world = make_world(dialect)
        world.login(expires=(START + 28800) * 1000)
        world.http.script[CALLS] = [answer(403, REVOKED)]
        assert world.run().out == "A\n"
        world.http.script[CALLS] = [answer(403, REVOKED)] * 3
        assert world.run(CLAUDE_CODE_MAX_RETRIES="2").out == f"{text}\n"


# Other statuses.


@pytest.mark.parametrize(
    "case",
    [
        ("2.1.123", 400, error(), {}, 1, f"API Error: 400 {json.dumps(error())}"),
        ("2.1.330", 400, error(), {}, 6, "API Error: 400 M"),
        ("2.1.123", 403, error(), {}, 1, f"Failed to authenticate. API Error: 403 {json.dumps(error())}"),
        ("2.1.330", 403, b"<html>", {}, 1, "Failed to authenticate. API Error: 403 <html>"),
        ("2.1.123", 404, error(), {}, 2, "There's an issue with the selected model (claude-sonnet-4-5)."),
        ("2.1.123", 413, error(), {}, 1, "Request too large (max 32MB)"),
        (
            "2.1.123",
            429,
            error(),
            {},
            1,
            "API Error: Server is temporarily limiting requests (not your usage limit) · M",
        ),
        (
            "2.1.330",
            429,
            error(),
            {},
            3,
            "API Error: Server is temporarily limiting requests (not your usage limit) · M",
        ),
        ("2.1.330", 429, error(), {"x_should_retry": "false"}, 1, "API Error: Server is temporarily limiting"),
        ("1.0", 429, error(), {}, 3, "Claude AI usage limit reached|0"),
        ("2.1.123", 408, error(), {}, 3, "API Error: 408"),
        ("2.1.123", 529, error(), {}, 3, "API Error: 529 M. This is a server-side issue, usually temporary — "),
        ("2.1.330", 500, b"", {}, 3, "API Error: 500"),
        ("2.1.123", 503, {"error": "odd"}, {}, 3, "API Error: 503 odd."),
        ("2.1.123", 503, {"error": {"message": 3}}, {}, 3, 'API Error: 503 {"error"'),
    ],
)
def test_each_status_has_its_tries_and_its_words(env_world, case):
    """All failure text goes to standard output, and the exit status is 1."""
    dialect, status, body, headers, tries, text = case
    world = env_world(dialect)
    world.http.script[CALLS] = [answer(status, body, **headers)] * 20
    done = world.run(CLAUDE_CODE_MAX_RETRIES="2")
    assert (done.status, done.err) == (1, "")
    assert done.out.startswith(text)
    assert len(world.http.calls()) - (dialect == "1.0") == tries


def test_2_1_330_drops_one_beta_after_the_other(env_world):
    """A 400 may be the fault of one of them."""
    world = env_world("2.1.330")
    world.http.script[CALLS] = [answer(400, error())] * 6
    world.run(CLAUDE_CODE_MAX_RETRIES="0")
    counts = [len(call.headers["anthropic-beta"].split(",")) for call in world.http.calls()]
    assert counts == [10, 9, 8, 7, 6, 5]


def test_a_404_is_tried_again_without_a_stream(env_world):
    """The second request may do."""
    world = env_world()
    world.http.script[CALLS] = [answer(404)]
    assert world.run("-p", "Reply: A", "--model", "m").out == "A\n"
    assert [call.json["stream"] for call in world.http.calls()] == [True, False]


@pytest.mark.parametrize(
    ("dialect", "claim", "reset", "text"),
    [
        ("2.1.123", "five_hour", "15540", "You've hit your session limit · resets 4:19am (UTC)"),
        ("2.1.330", "five_hour", "15540", "You've hit your 5-hour limit · resets 4:19am (UTC)"),
        ("2.1.123", "seven_day", "43200", "You've hit your weekly limit · resets 12pm (UTC)"),
        ("2.1.330", "overage", "soon", "You've hit your usage limit · resets 12am (UTC)"),
    ],
)
def test_a_used_up_quota_says_when_it_ends(env_world, dialect, claim, reset, text):
    """The unified headers tell a quota from a burst: one try."""
    world = env_world(dialect)
    headers = {"status": "rejected", "reset": reset, "representative-claim": claim}
    named = {f"anthropic-ratelimit-unified-{name}": value for name, value in headers.items()}
    world.http.script[CALLS] = [answer(429, error(), **named)]
    assert world.run().out == f"{text}\n"
    assert len(world.http.calls()) == 1


def test_server_errors_are_retried_ten_times_with_growing_pauses(env_world):
    """Half a second, doubled each time, at most 32 s, and up to a quarter more."""
    world = env_world()
    world.server.faults.add("call", Fault.status(529), count=11)
    assert world.run().status == 1
    assert len(world.http.calls()) == 11
    expected = [round(seconds * 1.125, 3) for seconds in (0.5, 1, 2, 4, 8, 16, 32, 32, 32, 32)]
    assert [nap for nap in world.naps if nap > 0.1] == pytest.approx(expected, abs=0.001)


def test_only_2_1_330_reads_retry_after(env_world):
    """2.1.123 waits as long as it always does."""
    for dialect, nap in (("2.1.123", 0.562), ("2.1.330", 7.0)):
        world = env_world(dialect)
        world.http.script[CALLS] = [answer(503, error(), retry_after="7")]
        assert world.run().out == "A\n"
        assert world.naps == [nap]


def test_a_number_that_is_none_is_not_taken(env_world):
    """A bad CLAUDE_CODE_MAX_RETRIES, or one below zero, leaves the default."""
    for value in ("many", "-1", "inf"):
        world = env_world()
        world.http.script[CALLS] = [answer(529)] * 10
        assert world.run(CLAUDE_CODE_MAX_RETRIES=value).out == "A\n"


# No reply.


@pytest.mark.parametrize(
    ("dialect", "code", "tries", "text"),
    [
        ("2.1.123", "ECONNRESET", 3, "API Error: Unable to connect to API (ECONNRESET)"),
        ("2.1.330", "ECONNRESET", 3, "API Error: Connection dropped (ECONNRESET)"),
        ("2.1.330", "ETIMEDOUT", 3, "API Error: Unable to connect to API (ETIMEDOUT)"),
        ("2.1.123", "ECERT", 3, "API Error: SSL certificate verification failed"),
        ("2.1.330", "ECERT", 1, "API Error: SSL certificate verification failed"),
    ],
)
def test_a_lost_connection_is_retried_like_a_server_error(env_world, dialect, code, tries, text):
    """But for a certificate that 2.1.330 does not trust."""
    world = env_world(dialect)
    world.http.script[CALLS] = [no_reply(code)] * 3
    assert world.run(CLAUDE_CODE_MAX_RETRIES="2").out.startswith(text)
    assert len(world.http.calls()) == tries


# Streams.

START_EVENT = ("message_start", {"message": {"role": "assistant", "content": []}})
BLOCK = ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": "kept out"}})
DELTA = ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "hi"}})
STOP = ("content_block_stop", {"index": 0})
END = "message_stop"


@pytest.mark.parametrize(
    ("events", "out"),
    [
        ((START_EVENT, BLOCK, DELTA, STOP, END), "hi\n"),
        ((START_EVENT, "ping", BLOCK, DELTA, STOP, ("message_delta", {"usage": {"output_tokens": 1}})), "hi\n"),
        ((START_EVENT, BLOCK, DELTA, END), "\n"),
        ((START_EVENT, BLOCK, STOP, END), "\n"),
        ((START_EVENT, BLOCK, ("content_block_delta", {"index": 1, "delta": {"text": "x"}}), STOP, END), "\n"),
        ((START_EVENT, BLOCK, ("content_block_delta", {"index": 0, "delta": 3}), STOP, END), "\n"),
    ],
)
def test_a_stream_prints_the_blocks_that_were_begun_and_ended(env_world, events, out):
    """Nothing but the deltas of complete blocks is text."""
    world = env_world()
    world.http.script[CALLS] = [answer(200, sse(*events))]
    done = world.run()
    assert (done.status, done.out) == (0, out)
    assert len(world.http.calls()) == 1


def test_a_stream_without_an_end_is_lost_for_2_1_330_only(env_world):
    """Neither message_delta nor message_stop."""
    for dialect, status in (("2.1.123", 0), ("2.1.330", 1)):
        world = env_world(dialect)
        world.http.script[CALLS] = [answer(200, sse(START_EVENT, BLOCK, DELTA, STOP))]
        done = world.run()
        assert done.status == status
        assert ("Connection lost mid-response" in done.out) is bool(status)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        sse(BLOCK, DELTA, STOP, END),
        sse(START_EVENT, END),
        b'data: {"type":"message_start"}\n\n',
        b"event: message_start\ndata: {not json\n\n",
        b"event: message_start\ndata: []\n\n",
    ],
)
def test_a_stream_that_is_none_is_followed_by_a_request_for_the_whole(env_world, body):
    """No message, no block, no event line, no JSON: once more without a stream."""
    world = env_world()
    world.http.script[CALLS] = [answer(200, body)]
    assert world.run().out == "A\n"
    assert [call.json["stream"] for call in world.http.calls()] == [True, False]


def test_a_whole_reply_that_is_no_message_is_an_error(env_world):
    """There is nothing left to fall back to."""
    world = env_world()
    world.http.script[CALLS] = [answer(200), answer(200, {"content": 3})]
    assert world.run().out == "API Error: the reply is not a message\n"


def test_odd_blocks_of_a_whole_reply_are_skipped(env_world):
    """Only texts are text."""
    content = [3, {"type": "tool_use"}, {"type": "text", "text": None}, {"type": "text", "text": "ok"}]
    world = env_world()
    world.http.script[CALLS] = [answer(200), answer(200, {"content": content})]
    assert world.run().out == "ok\n"


def test_an_error_inside_a_stream(env_world):
    """2.1.123 asks for the whole at once; 2.1.330 first tries the stream again, as often as it may."""
    for dialect, streams in (("2.1.123", [True, False]), ("2.1.330", [True, True, False])):
        world = env_world(dialect)
        body = sse(START_EVENT, ("error", {"error": {"type": "overloaded_error"}}))
        world.http.script[CALLS] = [answer(200, body), answer(200, sse(("error", {"error": 3})))][: len(streams) - 1]
        assert world.run(CLAUDE_CODE_MAX_RETRIES="1" if dialect == "2.1.330" else "2").out == "A\n"
        assert [call.json["stream"] for call in world.http.calls()] == streams
