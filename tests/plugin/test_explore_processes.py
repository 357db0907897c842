"""Explored processes under pytest: the section, how often it came again, and the replay."""

from __future__ import annotations

import re

SPEND = '''
import sys
from hypothesis import settings
from pytest_claude_tokens import explore

CLIENT = """
import json, os, pathlib, urllib.error, urllib.request
oauth = json.loads(pathlib.Path(os.environ["CLAUDE_CONFIG_DIR"], ".credentials.json").read_text())["claudeAiOauth"]
body = {"grant_type": "refresh_token", "refresh_token": oauth["refreshToken"], "client_id": "c"}
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/oauth/token"
request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
try:
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
except urllib.error.HTTPError as error:
    error.close()
"""

@settings(max_examples=2, database=None)
@explore(processes=True)
def test_it(claude_tokens, workers):
    folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
    workers([sys.executable, "-I", "-c", CLIENT], config_dir=folder)
'''


def test_a_failure_says_how_often_it_came_again(pytester):
    """Under its own name, with the history that was recorded; and its token goes by the same order.

    Five times, but for those in which a busy machine did not come to the point.
    """
    pytester.makepyfile(test_it=SPEND)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E   claude_tokens.DoubleSpend: rt#1 by w? (#*) and w? (#*)",
            "*- claude-tokens history -*",
            'replay  *"test_it.py::test_it" --claude-tokens-replay=ct1-*',
            "2 workers, 1 grant; policy anthropic; system clock; no faults",
            "schedule 1*; replayed *",
            "claude-tokens: 1 test, * schedule*, 1 violation",
        ]
    )
    token = re.search("ct1-[A-Za-z0-9_-]+", str(result.stdout))[0]
    again = pytester.runpytest_subprocess(f"--claude-tokens-replay={token}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["replay; replayed *"])
    for told in (result, again):
        assert re.search(r"; replayed ([1-5])/\1\b", str(told.stdout))
