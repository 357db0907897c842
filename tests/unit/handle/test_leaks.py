from __future__ import annotations

import builtins
import logging
import os
import subprocess
import sys

import pytest

from fake_server import genuine
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.violations import TokenLeak
from tests.unit.handle.requests_of import refresh


def leaks(tokens):
    return [
        (event.get("where"), event.get("what"), event.grant, event.get("token"))
        for event in tokens.history.noted("leak")
    ]


def opened(tokens, folder):
    """Let others enter ``folder``, and each above it that is the handle's."""
    for place in (folder, *folder.parents):
        place.chmod(0o755)
        if place == tokens.tmp_path:
            return


def test_a_live_token_in_a_log_is_noted_once(tokens):
    """The logger is named, the token is not; a second message says nothing new."""
    account = tokens.account()

    for _ in range(2):
        logging.getLogger("dispatcher").warning("sent %s", account.refresh_token)
    logging.getLogger("dispatcher").warning("and %s", account.access_token)

    assert leaks(tokens) == [("log", "dispatcher", "g#1", "rt#1"), ("log", "dispatcher", "g#1", "at#1")]
    assert "FAKE" not in "".join(event.to_json() for event in tokens.history)


def test_a_dead_token_in_a_log_is_no_leak(tokens):
    """A spent refresh token and an ended bearer are worth nothing; nor is one that was not minted here."""
    account = tokens.account()
    refresh(account.refresh_token)
    tokens.expire(account)
    foreign = account.access_token[:-4] + "xxAA"

    logging.getLogger().error("%s %s %s", account.refresh_token, account.access_token, foreign)

    assert leaks(tokens) == []


def test_a_token_in_a_logged_exception_is_a_leak(tokens):
    """The traceback is part of what is logged."""
    account = tokens.account()

    try:
        raise ValueError(account.access_token)
    except ValueError:
        logging.getLogger("d").exception("failed")

    assert leaks(tokens) == [("log", "d", "g#1", "at#1")]


def test_a_message_that_cannot_be_formatted_is_left_to_others(tokens, monkeypatch):
    """A bad logging call is reported by logging itself, not by us."""
    monkeypatch.setattr(logging, "raiseExceptions", False)

    logging.getLogger("d").warning("%d", "x")

    assert leaks(tokens) == []


def test_the_log_is_watched_while_the_handle_is_open():
    """The handler goes with the handle."""
    before = list(logging.getLogger().handlers)
    with ClaudeTokens():
        assert len(logging.getLogger().handlers) == len(before) + 1

    assert logging.getLogger().handlers == before


def test_a_log_that_only_caplog_sees_is_watched(tokens, caplog):
    """A logger that does not propagate, to which a test has attached caplog's handler."""
    account = tokens.account()
    logger = logging.getLogger("aloof")
    logger.propagate = False
    logger.addHandler(caplog.handler)
    try:
        logger.warning("sent %s", account.refresh_token)
        logger.warning("sent nothing")
    finally:
        logger.removeHandler(caplog.handler)
        logger.propagate = True

    assert len(caplog.records) == 2
    assert leaks(tokens) == [("log", "aloof", "g#1", "rt#1")]


def test_other_handlers_are_left_as_they_were(caplog):
    """No filter of ours stays on them."""
    before = list(caplog.handler.filters)
    with ClaudeTokens():
        assert len(caplog.handler.filters) == len(before) + 1

    assert caplog.handler.filters == before


def test_a_live_token_in_argv_is_noted(tokens):
    """What a process is started with can be read by every user of the machine."""
    account = tokens.account()

    subprocess.run([sys.executable, "-c", "", f"--token={account.access_token}"], check=True)
    subprocess.run([sys.executable, "-c", ""], env={"T": account.access_token}, check=True)

    tokens._watcher.started([])  # a tracer does not follow an audit hook: called here as the guard does
    tokens._watcher.started(["/bin/x", account.access_token])

    argv = [("argv", program, "g#1", "at#1") for program in (os.path.basename(sys.executable), "x")]
    assert leaks(tokens) == argv


def test_a_file_that_others_may_read_is_noted_at_the_end(tokens):
    """Below the handle's folders, by its mode; a private file, a link and a closed file are passed by."""
    account = tokens.account()
    folder = tokens.config_dir(account)
    opened(tokens, folder)
    for name, mode in (("copy", 0o644), ("group", 0o640), ("private", 0o600), ("empty", 0o644)):
        path = folder / name
        path.write_text("" if name == "empty" else account.refresh_token)
        path.chmod(mode)
    (folder / "link").symlink_to(folder / "copy")
    (folder / "lost").symlink_to(folder / "nothing")

    tokens.finish()

    assert leaks(tokens) == [("file", f"config/a1/shared/{name}", "g#1", "rt#1") for name in ("copy", "group")]


@pytest.mark.parametrize(
    ("closed", "mode", "leaks_through"),
    [
        ("", 0o700, False),
        ("config", 0o700, False),
        ("config/a1", 0o700, False),
        ("config/a1/shared", 0o700, False),
        ("config/a1/shared", 0o744, False),  # whoever may list a folder can't reach what is in it
        ("config/a1/shared", 0o711, True),
        ("config/a1", 0o701, True),
        ("config/a1/shared", 0o710, True),
    ],
)
def test_a_file_in_a_folder_that_nobody_else_can_enter_is_no_leak(tokens, closed, mode, leaks_through):
    """Whatever its own mode: each folder on the way counts, that of the handle included."""
    account = tokens.account()
    folder = tokens.config_dir(account)
    opened(tokens, folder)
    (folder / "copy").write_text(account.refresh_token)
    (folder / "copy").chmod(0o644)
    (tokens.tmp_path / closed).chmod(mode)

    tokens.finish()

    assert bool(leaks(tokens)) is leaks_through


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o710, 0o604), (0o701, 0o640)])
def test_who_may_enter_must_be_the_one_who_may_read(tokens, folder_mode, file_mode):
    """The group can reach it and all others could read it, or the other way round: nobody does both."""
    account = tokens.account()
    folder = tokens.config_dir(account)
    opened(tokens, folder)
    (folder / "copy").write_text(account.refresh_token)
    (folder / "copy").chmod(file_mode)
    folder.chmod(folder_mode)

    tokens.finish()

    assert leaks(tokens) == []


def test_by_default_all_folders_of_a_handle_are_its_owners_alone(tokens):
    """A file of the umask's mode in them is none of anybody's business."""
    account = tokens.account()
    for folder in (tokens.config_dir(account), tokens.tmp_path):
        (folder / "copy").write_text(account.refresh_token)
        (folder / "copy").chmod(0o666)

    tokens.finish()

    assert leaks(tokens) == []


@pytest.mark.parametrize("call", ["lstat", "open"])
def test_a_file_that_vanishes_is_passed_by(tokens, monkeypatch, call):
    """A lock file that is gone before it is looked at, or read, is no reason to fail."""
    opened(tokens, tokens.tmp_path)
    (tokens.tmp_path / "file").write_text("x")
    (tokens.tmp_path / "file").chmod(0o644)
    where = genuine.os if call == "lstat" else builtins
    real = getattr(where, call)

    def gone(path, *args, **options):
        if str(path).endswith("file"):
            raise FileNotFoundError
        return real(path, *args, **options)

    monkeypatch.setattr(where, call, gone)

    tokens.finish()

    assert leaks(tokens) == []


def test_a_leak_fails_the_test_that_leaks():
    """The planted bug is caught; without it the same test passes."""
    with pytest.raises(TokenLeak), ClaudeTokens() as tokens:
        logging.getLogger("d").warning(tokens.account().access_token)
    with ClaudeTokens() as tokens:
        tokens.account()
        logging.getLogger("d").warning("nothing")
