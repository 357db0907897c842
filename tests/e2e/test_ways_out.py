"""Ways out by plain http: in a network namespace where the real hosts are somebody who listens and says nothing.

What arrives there would have left the machine, bearer and all. Each client is tried alone first, so that a way which
was never open can't pass for one that is closed.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fake_server.transports import proxy
from pytest_claude_tokens.processes import namespace

LISTEN = Path(__file__).parent / "ways" / "listen.py"
HOST = "api.anthropic.com"
URL = f"http://{HOST}/api/hello"
PATIENCE = 300
RUN = [sys.executable, "-m", "pytest_claude_tokens", "run", "--tokens", "1", "--"]


@functools.cache
def forbidden():
    """Why this machine has no such namespace to give; ``None`` if it has."""
    return namespace.obstacle("--net", "--mount")


def python(code):
    return [sys.executable, "-c", code]


GO = """
package main
import ("io"; "net/http"; "os")
func main() {
    answer, err := http.Get("URL")
    if err != nil { panic(err) }
    io.Copy(os.Stdout, answer.Body)
}
"""
CLIENTS = {
    "curl": ["curl", "-sS", "-m", "5", URL],
    "curl by another port": ["curl", "-sS", "-m", "5", URL.replace(HOST, f"{HOST}:8080")],
    "curl in capitals": ["curl", "-sS", "-m", "5", URL.replace("api", "API", 1)],
    "wget": ["wget", "-qO-", "-T", "5", "-t", "1", URL],
    "urllib": python(f"import urllib.request as u; print(u.urlopen('{URL}', timeout=5).read())"),
    "requests": python(f"import requests; print(requests.get('{URL}', timeout=5).text)"),
    "httpx": python(f"import httpx; print(httpx.get('{URL}', timeout=5).text)"),
    "aiohttp": python(
        "import aiohttp, asyncio\n"
        "async def main():\n"
        "    async with aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(5)) as session:\n"
        f"        print(await (await session.get('{URL}')).text())\n"
        "asyncio.run(main())"
    ),
    "fetch": ["node", "-e", f"fetch('{URL}').then((it) => it.text()).then(console.log)"],
    "node:http": ["node", "-e", f"require('http').get('{URL}', (it) => it.pipe(process.stdout))"],
    "ruby": ["ruby", "-rnet/http", "-e", f"puts Net::HTTP.get(URI('{URL}'))"],
    "perl": ["perl", "-MHTTP::Tiny", "-e", f"print HTTP::Tiny->new(timeout => 5)->get('{URL}')->{{content}}"],
    "go": ["GO"],
}


def tried(folder, *commands):
    """Run these in the namespace; what each has said, and what arrived at the real host meanwhile."""
    place = [*namespace.unshare("--net", "--mount"), sys.executable, str(LISTEN), str(folder), HOST]
    done = subprocess.run(
        place, input=json.dumps(commands), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def command_of(name, folder):
    """The client's command line; skips where the client is not there."""
    command = CLIENTS[name]
    if command == ["GO"]:
        if shutil.which("go") is None:
            pytest.skip("needs go")
        (folder / "way.go").write_text(GO.replace("URL", URL), encoding="utf-8")
        subprocess.run(["go", "build", "-o", folder / "way", folder / "way.go"], check=True, timeout=PATIENCE)
        return [str(folder / "way")]
    if shutil.which(command[0]) is None or (name == "httpx" and importlib.util.find_spec("httpx") is None):
        pytest.skip(f"needs {command[0]}")
    return command


def check(name, folder):
    """Alone the client reaches the real host; under `run` nothing does, and the service answers, or 403 is met."""
    if forbidden():
        pytest.skip(f"needs namespaces: {forbidden()}")
    command = command_of(name, folder)
    alone, under = tried(folder, command, [*RUN, *command])

    assert [arrived for arrived in alone["arrived"] if "/api/hello" in arrived], alone
    assert under["arrived"] == []
    if proxy.available() or name in ("fetch", "node:http"):
        assert (under["status"], "hello" in under["out"]) == (0, True), under
        assert "VALID, 1 request" in under["err"]
    else:
        assert (under["status"], "403" in under["out"] + under["err"]) == (3, True), under


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_plain_http_does_not_leave_the_machine(tmp_path):
    """curl, which reads `http_proxy` in small letters only."""
    check("curl", tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("name", CLIENTS)
def test_no_client_leaves_by_plain_http(name, tmp_path):
    """Each kind of client that there is."""
    check(name, tmp_path)
