"""A Python client built on requests, which heeds HTTPS_PROXY and REQUESTS_CA_BUNDLE: a refresh, then a call."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import requests

file = Path(os.environ["CLAUDE_CONFIG_DIR"], ".credentials.json")
login = json.loads(file.read_text(encoding="utf-8"))
asked = {
    "grant_type": "refresh_token",
    "refresh_token": login["claudeAiOauth"]["refreshToken"],
    "client_id": "9d1c250a-e61b-44d9-88ed-5944d1962f5e",
}
with requests.Session() as session:
    token = session.post("https://platform.claude.com/v1/oauth/token", json=asked, timeout=30)
    issued = token.json()
    login["claudeAiOauth"] |= {"accessToken": issued["access_token"], "refreshToken": issued["refresh_token"]}
    new = file.with_name("new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(login), encoding="utf-8")
    new.replace(file)
    call = session.post(
        "https://api.anthropic.com/v1/messages",
        json={"model": "claude-fake-1", "max_tokens": 10, "messages": [{"role": "user", "content": "Reply: A"}]},
        headers={"Authorization": f"Bearer {issued['access_token']}"},
        timeout=30,
    )
sys.stdout.write(f"{token.status_code} {call.status_code} {call.json()['content'][0]['text']}\n")
