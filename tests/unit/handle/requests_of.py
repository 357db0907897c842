"""What a correct client sends, for tests."""

from __future__ import annotations

import threading

import httpx

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"
CALL_URL = "https://api.anthropic.com/v1/messages"


def refresh_body(refresh_token):
    return {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "tests"}


def refresh(refresh_token, url=TOKEN_URL):
    return httpx.post(url, json=refresh_body(refresh_token))


def call(access_token, url=CALL_URL):
    message = {"role": "user", "content": "Reply: A"}
    return httpx.post(
        url,
        headers={"authorization": f"Bearer {access_token}", "anthropic-beta": "oauth-2025-04-20"},
        json={"model": "m", "max_tokens": 1, "messages": [message]},
    )


def waited_in_the_queue(tokens, url):
    """The seconds that one of two calls on a bearer has waited for the other."""
    bearer = tokens.account().access_token
    threads = [threading.Thread(target=call, args=(bearer, url)) for _ in range(2)]
    with tokens.hold("call"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (queued,) = tokens.history.noted("queue")
    return queued.get("waited")


def double_spend(tokens, times=2):
    """Present one refresh token so many times."""
    account = tokens.account(expired=True)
    for _ in range(times):
        refresh(account.refresh_token)
