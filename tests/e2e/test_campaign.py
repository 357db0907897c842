"""What one process of a campaign has found is the first that another one tries: over a Redis that is real."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin.inner import settle

EXAMPLES = Path(__file__).parents[2] / "examples"

redis_server = shutil.which("redis-server")


@pytest.fixture
def redis(tmp_path):
    """The URL of a server of our own, on a socket in a folder."""
    pytest.importorskip("redis")
    if redis_server is None:
        pytest.skip("needs redis-server")
    path = tmp_path / "redis.sock"
    command = [redis_server, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert any("eady to accept connections" in line for line in process.stdout)
        yield f"unix://{path}"
        process.terminate()


def test_a_find_is_shared(redis, pytester, monkeypatch):
    """Two processes with seeds of their own; the second one finds at once what the first had to search for."""
    pytester.makepyfile(test_async=(EXAMPLES / "test_explore_async.py").read_text())
    pytester.makeconftest((EXAMPLES / "campaign" / "conftest.py").read_text())
    settle(monkeypatch, "-p no:cacheprovider")
    monkeypatch.setenv("CAMPAIGN_REDIS", redis)
    found = []
    for seed in (1, 2):
        options = ("-k", "gives_up", "--runxfail", f"--claude-tokens-seed={seed}")
        done = pytester.run(sys.executable, "-m", "pytest", *options)
        done.assert_outcomes(failed=1, deselected=3)
        found.append(int(re.search(r"^schedule (\d+)", str(done.stdout), re.MULTILINE)[1]))
    assert found[0] > 1
    assert found[1] == 1
