"""The layouts of a login: what is made for each worker, and what is said where a machine can't make one."""

from __future__ import annotations

import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from pytest_claude_tokens import ClaudeTokens, layouts
from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.layouts import LAYOUTS, Place, Unavailable, start
from pytest_claude_tokens.processes import namespace

PLAIN = ["shared-config-dir", "copied-credentials", "symlinked-dir", "symlinked-file"]
MOUNTED = ["container-shared-dir", "container-home", "mounted-file"]


@pytest.fixture
def tokens():
    """A handle whose end is not judged: the layouts are looked at, and nothing runs in most of them."""
    with ClaudeTokens(allow=["lost-rotation"]) as handle:
        yield handle


@pytest.fixture
def able(monkeypatch):
    """A machine that can make every layout, as far as anybody asks."""
    monkeypatch.setattr(namespace.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(namespace.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    layouts._mount_obstacle.cache_clear()
    yield
    layouts._mount_obstacle.cache_clear()


def watched(tokens):
    """The names of the stores that are watched."""
    return [event.get("store") for event in tokens.history if event.f == "store"]


def pairs(place):
    """What is mounted where, in a place of a container."""
    paths = place.prefix[place.prefix.index("mounts") + 1 : -1]
    return list(zip(paths[::2], paths[1::2], strict=True))


def test_every_layout_says_what_it_is_under_its_own_name():
    """The table is keyed by the names, and no two layouts say the same."""
    assert all(name == layout.name for name, layout in LAYOUTS.items())
    assert len({layout.summary for layout in LAYOUTS.values()}) == len(LAYOUTS)
    assert set(PLAIN) | set(MOUNTED) | {"setup-token", "flock-wrapper"} == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_worker_gets_a_place(able, tokens, name):
    """As many as asked for, each of which unpacks into prefix, environment and config directory."""
    places = LAYOUTS[name].prepare(tokens, 3)
    assert len(places) == 3
    for prefix, env, config_dir in places:
        assert not any("sk-ant" in word for word in prefix)
        assert (config_dir is None) == ("CLAUDE_CODE_OAUTH_TOKEN" in env)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_can_be_made_twice_for_one_account(able, tokens, name):
    """The second one has folders of its own, and the same login."""
    account = tokens.account("alice")
    LAYOUTS[name].prepare(tokens, 2, account)
    LAYOUTS[name].prepare(tokens, 2, "alice")
    assert {event.account for event in tokens.history if event.f == "login"} == {"alice"}


@pytest.mark.parametrize("name", [*PLAIN, "flock-wrapper"])
def test_the_login_is_in_every_workers_directory(able, tokens, name):
    """With the account's refresh token, and an access token that has expired."""
    for place in LAYOUTS[name].prepare(tokens, 2):
        login = json.loads((place.config_dir / FILE).read_text())["claudeAiOauth"]
        assert login["refreshToken"].startswith("sk-ant-ort01-FAKE")
        assert login["expiresAt"] <= tokens.clock.now() * 1000


def test_what_is_shared_is_one_file_and_what_is_copied_is_not(able, tokens):
    """Told by the inodes that the workers' paths lead to, and by those of the directories."""
    shared = {}
    for name in [*PLAIN, "flock-wrapper"]:
        folders = [place.config_dir for place in LAYOUTS[name].prepare(tokens, 2)]
        files = {os.stat(folder / FILE).st_ino for folder in folders}
        shared[name] = (len(files), len({os.stat(folder).st_ino for folder in folders}))
    assert shared == {
        "shared-config-dir": (1, 1),
        "flock-wrapper": (1, 1),
        "symlinked-dir": (1, 1),
        "symlinked-file": (1, 2),
        "copied-credentials": (2, 2),
    }


def test_the_stores_are_watched(able, tokens):
    """The shared one once, each copy, and each place where a symlink may become a file."""
    LAYOUTS["shared-config-dir"].prepare(tokens, 2, tokens.account("alice"))
    assert watched(tokens) == ["shared"]
    LAYOUTS["copied-credentials"].prepare(tokens, 2, tokens.account("bob"))
    assert watched(tokens)[1:] == ["w0", "w1"]
    LAYOUTS["symlinked-file"].prepare(tokens, 2, tokens.account("carol"))
    assert watched(tokens)[3:] == ["carol/shared", "carol/w0", "carol/w1"]


def test_a_wrapper_goes_before_the_command(able, tokens):
    """One lock file for all, beside the login."""
    places = LAYOUTS["flock-wrapper"].prepare(tokens, 2)
    lock = str(places[0].config_dir / "session.lock")
    assert places[0] == places[1]
    assert places[0].command(["claude", "-p", "hi"]) == ["flock", "-w", "600", lock, "claude", "-p", "hi"]


def test_containers_see_one_path_and_each_has_a_private_home(able, tokens):
    """The same config directory and HOME for all; what is mounted at HOME differs, and what lies in it is shared."""
    for name, inside in (("container-home", ".claude"), ("mounted-file", f".claude/{FILE}")):
        places = LAYOUTS[name].prepare(tokens, 2)
        assert places[0].config_dir == places[1].config_dir
        home = places[0].env["HOME"]
        mounts = [pairs(place) for place in places]
        assert {target for mounted in mounts for _, target in mounted} == {home, os.path.join(home, inside)}
        assert mounts[0][0][0] != mounts[1][0][0]
        assert mounts[0][1] == mounts[1][1]


def test_the_mounted_folder_is_above_the_config_directory(able, tokens):
    """So that the lock, which lies beside the config directory, is in it."""
    places = LAYOUTS["container-shared-dir"].prepare(tokens, 2, account := tokens.account())
    source, target = pairs(places[0])[1]
    assert source == str(tokens.config_dir(account).parent)
    assert str(places[0].config_dir.parent) == target
    assert os.path.isdir(os.path.join(source, places[0].config_dir.name))


def test_setup_tokens_are_one_for_each_worker_unless_an_account_is_given(tokens):
    """Each of its own account; with an account, its token for all."""
    own = LAYOUTS["setup-token"].prepare(tokens, 2)
    assert own[0].env != own[1].env
    account = tokens.account(setup_token=True)
    assert (
        LAYOUTS["setup-token"].prepare(tokens, 2, account)
        == [Place((), {"CLAUDE_CODE_OAUTH_TOKEN": account.access_token}, None)] * 2
    )


def test_a_command_is_started_in_every_place(tokens):
    """As w0, w1 …, with the place's prefix, directory and environment, and what is added on top."""
    places = [Place(("env", "PREFIX=yes"), {"ONE": "1", "TWO": "2"}, tokens.tmp_path), Place((), {}, None)]
    script = 'echo "$PREFIX $ONE $TWO $CLAUDE_CONFIG_DIR"'
    processes = start(tokens, places, ["sh", "-c", script], {"TWO": "two"})
    assert [process.wait(30) for process in processes] == [0, 0]
    assert [process.worker for process in processes] == ["w0", "w1"]
    assert [process.stdout for process in processes] == [f"yes 1 two {tokens.tmp_path}\n", "  two \n"]


def test_nobody_is_no_worker(tokens):
    """A layout is for one at least."""
    with pytest.raises(ValueError, match="at least 1"):
        LAYOUTS["shared-config-dir"].prepare(tokens, 0)


# Machines that can't.


@pytest.fixture
def forgetful():
    """What this process found out about its machine is forgotten, before and after."""
    layouts._mount_obstacle.cache_clear()
    yield
    layouts._mount_obstacle.cache_clear()


@pytest.mark.parametrize("name", [*MOUNTED, "flock-wrapper"])
def test_missing_programs_are_named(monkeypatch, forgetful, tokens, name):
    """Before anything is made; layouts that need none are not affected."""
    monkeypatch.setattr(namespace.shutil, "which", lambda _: None)
    with pytest.raises(Unavailable, match=rf"{name} can't be made: there is no program `"):
        LAYOUTS[name].prepare(tokens, 2)
    assert not tokens.history.operations
    assert all(LAYOUTS[plain].obstacle is None for plain in PLAIN)


@pytest.mark.parametrize(
    ("stderr", "said"),
    [("mounts: x\nunshare: unshare failed: Operation not permitted\n", "unshare failed: Op"), ("", "exit status 1")],
)
def test_a_machine_that_forbids_namespaces_is_quoted(monkeypatch, forgetful, stderr, said):
    """Its own last words are in the reason, and it is asked once."""
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(namespace.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(namespace.subprocess, "run", run)
    for name in MOUNTED:
        obstacle = LAYOUTS[name].obstacle
        assert "this machine forbids it" in obstacle
        assert said in obstacle
    assert len(asked) == 1
