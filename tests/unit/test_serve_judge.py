"""Which judge ``python -m fake_server`` finds: the installed one, none, or one that it must complain about."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint

import httpx
import pytest

from fake_server import __main__ as module
from fake_server.serve import judging
from fake_server.serve.commandline import Usage
from fake_server.serve.judging import GROUP, Unjudged, find_judge
from pytest_claude_tokens.cli.serve import ServiceJudge
from tests.unit.transports.raw import PATIENCE, token_body

ALONE = """
import importlib.metadata, sys
importlib.metadata.entry_points = lambda **_: ()
from fake_server.__main__ import main
status = main(sys.argv[1:])
assert not [name for name in sys.modules if name.startswith("pytest_claude_tokens")]
sys.exit(status)
"""


@pytest.fixture
def offered(monkeypatch):
    """Say which judges are installed, by their values."""

    def offer(*values):
        entries = [EntryPoint(f"j{number}", value, GROUP) for number, value in enumerate(values)]
        monkeypatch.setattr(judging, "entry_points", lambda *, group: [entry for entry in entries if group == GROUP])

    return offer


def test_the_plugin_offers_its_judge():
    """With the plugin installed a service is judged; nothing but the entry point says by whom."""
    assert isinstance(find_judge(), ServiceJudge)


def test_a_judge_that_is_offered_twice_over_is_one(offered):
    """An editable installation beside an older one lists an entry point two times."""
    offered("fake_server.serve.judging:Unjudged", "fake_server.serve.judging:Unjudged")
    assert isinstance(find_judge(), Unjudged)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (("no_such_module:Judge",), "the judge no_such_module:Judge can't be loaded: No module named"),
        (("fake_server.serve.judging:Nobody",), "can't be loaded: module 'fake_server.serve.judging' has no"),
        (("b:Judge", "a:Judge"), r"several packages offer a judge \(a:Judge, b:Judge\): uninstall all but one"),
    ],
)
def test_a_service_is_never_unjudged_in_silence(offered, capsys, values, says):
    """Where somebody offers a judge, it judges, or nothing is served: exit status 2 and one sentence."""
    offered(*values)
    with pytest.raises(Usage, match=says):
        find_judge()
    assert module.main([]) == 2
    assert capsys.readouterr().err.startswith("python -m fake_server: ")


def test_without_a_judge_the_service_serves_and_says_unknown(tmp_path):
    """A program in any language gets tokens and an address; at the end the verdict is UNKNOWN, status 3."""
    history = tmp_path / "history.jsonl"
    command = [sys.executable, "-c", ALONE, "--history", str(history), "--account", "alice", "ci"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            facts = json.loads(process.stdout.readline())
            alice = facts["accounts"][0]
            with httpx.Client(base_url=alice["env"]["ANTHROPIC_BASE_URL"]) as client:
                refreshed = client.post("/v1/oauth/token", content=token_body(alice["credentials"]["refresh_token"]))
                setup = client.post("/_claude_tokens/accounts", json={"name": "token", "setup_token": True}).json()
                verdict = client.get("/_claude_tokens/verdict").json()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert refreshed.status_code == 200
    assert (verdict["verdict"], setup["credentials"]["refresh_token"]) == ("UNKNOWN", None)
    assert (process.returncode, out) == (3, "")
    assert err == "fake_server: UNKNOWN, not judged: no installed package offers a judge (fake_server.judge)\n"
    assert "sk-ant" not in history.read_text()
