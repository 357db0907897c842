"""What one process of a campaign has found is the first that another one tries: over a Redis that is real."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.plugin.inner import settle

CONFTEST = Path(__file__).parents[2] / "examples" / "campaign" / "conftest.py"
EXAMPLE = CONFTEST.with_name("test_campaign.py")
IMPATIENT = """
        try:
            async with asyncio.timeout(30):
                await self.lock.acquire()
        except TimeoutError:
            return await self.renew()
        try:
            return await self.renew()
        finally:
            self.lock.release()

    async def renew(self) -> str:
        if True:
"""
"""In place of the example's lock: a worker that waits for half a minute, and goes on without it."""

redis_server = shutil.which("redis-server")


@pytest.fixture
def redis(tmp_path):
    """The URL of a server of our own, on a socket in a folder."""
    pytest.importorskip("redis")
    if redis_server is None:
        pytest.skip("needs redis-server")
    path = tmp_path / "redis.sock"
    command = [redis_server, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not path.exists() and process.poll() is None:
            time.sleep(0.01)
        yield f"unix://{path}"
        process.terminate()


def test_a_find_is_shared(redis, pytester, monkeypatch):
    """Two processes with seeds of their own; the second one finds at once what the first had to search for."""
    planted = EXAMPLE.read_text().replace("\n        async with self.lock:\n", IMPATIENT)
    pytester.makepyfile(test_planted=planted.replace("workers=4", "workers=2"))
    pytester.makeconftest(CONFTEST.read_text())
    settle(monkeypatch, "-p no:cacheprovider")
    monkeypatch.setenv("CAMPAIGN_REDIS", redis)
    found = []
    for seed in (1, 2):
        done = pytester.run(sys.executable, "-m", "pytest", f"--claude-tokens-seed={seed}")
        done.assert_outcomes(failed=1)
        found.append(int(re.search(r"^schedule (\d+)", str(done.stdout), re.MULTILINE)[1]))
    assert found[0] > 1
    assert found[1] == 1
