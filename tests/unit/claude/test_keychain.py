"""The fake `security`."""

from __future__ import annotations

import io
import json
import stat

import pytest

from pytest_claude_tokens.claude.keychain import main

ADD = ("add-generic-password", "-a", "me", "-s", "Claude Code-credentials")
FIND = ("find-generic-password", "-a", "me", "-s", "Claude Code-credentials")
DELETE = ("delete-generic-password", "-s", "Claude Code-credentials")


@pytest.fixture
def keychain(tmp_path):
    path = tmp_path / "keychain.json"

    def run(*arguments, stdin=""):
        out, err = io.StringIO(), io.StringIO()
        status = main(list(arguments), {"CLAUDE_TOKENS_KEYCHAIN": str(path)}, io.StringIO(stdin), out, err)
        return status, out.getvalue(), err.getvalue()

    run.path = path
    return run


def test_an_item_is_added_found_changed_and_deleted(keychain):
    """With the exit statuses of the real tool, in a file that only its owner can read."""
    assert keychain(*FIND, "-w")[0] == 44
    assert keychain(*ADD, "-w", "secret") == (0, "", "")
    assert keychain(*FIND, "-w") == (0, "secret\n", "")
    assert keychain(*ADD, "-w", "other")[0] == 45
    assert keychain(*ADD, "-U", "-w", "other")[0] == 0
    assert keychain("find-generic-password", "-s", "Claude Code-credentials", "-w", "login.keychain")[1] == "other\n"
    assert stat.S_IMODE(keychain.path.stat().st_mode) == 0o600
    assert keychain(*DELETE)[0] == 0
    assert keychain(*DELETE)[0] == 44


def test_accounts_of_one_service_are_apart(keychain):
    """An item is known by service and account."""
    keychain(*ADD, "-w", "mine")
    keychain("add-generic-password", "-a", "you", "-s", "Claude Code-credentials", "-w", "yours")
    assert keychain(*FIND, "-w")[1] == "mine\n"
    assert len(json.loads(keychain.path.read_text())) == 2


def test_an_item_can_be_looked_at_without_its_password(keychain):
    """-g shows it, on standard error."""
    keychain(*ADD, "-w", "secret")
    status, out, err = keychain(*FIND)
    assert (status, 'svce"<blob>="Claude Code-credentials"' in out, err) == (0, True, "")
    assert "secret" not in out
    assert keychain(*FIND, "-g")[2] == 'password: "secret"\n'


def test_commands_can_come_on_standard_input_and_passwords_in_hexadecimal(keychain):
    """So that no password is in an argv."""
    hexadecimal = b'{"a": 1}'.hex()
    commands = f'add-generic-password -U -a "me" -s "Claude Code-credentials" -X "{hexadecimal}"\n\n'
    assert keychain("-i", stdin=commands)[0] == 0
    assert keychain(*FIND, "-w")[1] == '{"a": 1}\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "unknown command: it knows find-generic-password, add-generic-password, delete-generic-password"),
        (("unlock-keychain",), "unknown command: it knows"),
        ((*ADD, "-w"), "-w needs a value"),
        (("find-generic-password", "-s"), "-s needs a value"),
        ((*ADD, "-X", "zz"), "-X needs hexadecimal digits"),
    ],
)
def test_what_it_does_not_know_is_an_error(keychain, arguments, message):
    """Exit 2 and a sentence."""
    status, out, err = keychain(*arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_without_a_file_there_is_no_keychain():
    """It never touches the real one."""
    err = io.StringIO()
    assert main(["find-generic-password"], {}, io.StringIO(), io.StringIO(), err) == 2
    assert "CLAUDE_TOKENS_KEYCHAIN" in err.getvalue()
