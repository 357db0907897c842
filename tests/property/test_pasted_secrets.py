"""A secret that is pasted where a name is wanted is seen nowhere: no output, history, file, note or frame of ours.

The entries are found by looking: each option of each command, each argument of each public method. A new one is tried
as soon as it is there.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import itertools
import json
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st

from fake_server import Fault, Policy
from fake_server.protocol.actors import actor_of
from fake_server.protocol.wire import Request
from fake_server.serve.admin import PREFIX, Admin
from pytest_claude_tokens import ClaudeTokens, explore, layouts, lease, stateful, strategies
from pytest_claude_tokens.cli import main
from pytest_claude_tokens.plugin import marker
from pytest_claude_tokens.processes import namespace
from pytest_claude_tokens.search.replay import Replay
from tests.pasted import SECRETS, frames, pieces
from tests.unit.core.harness import World, call, code, refresh

each_secret = pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)


def hidden(secret: str, *seen: str) -> None:
    """Nothing of the secret is in what is seen."""
    assert not pieces(secret, *seen)


def refused(secret: str, entry: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether the entry refused it; then neither error nor frame shows it."""
    try:
        entry(*args, **kwargs)
    except Exception as error:
        hidden(secret, str(error), repr(error), *getattr(error, "__notes__", ()), *frames(error))
        return True
    return False


def forms(secret: str) -> Iterator[Any]:
    """How it may be handed over."""
    yield from (secret, [secret], {secret: 1}, secret.encode(), Path(secret))


# The command line.


def parser_of(command: main.Command) -> argparse.ArgumentParser:
    """The parser that the command makes for itself."""

    class Made(BaseException):
        pass

    def made(self: argparse.ArgumentParser, *_: Any) -> None:
        raise Made(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", made)
        with pytest.raises(Made) as caught:
            importlib.import_module(command.module).main([], prog=command.name)
    parser: argparse.ArgumentParser = caught.value.args[0]
    return parser


def lines_of(command: main.Command, secret: str) -> Iterator[list[str]]:
    """Command lines with the secret in each place where one can be put."""
    for action in parser_of(command)._actions:
        for option in action.option_strings:
            if not isinstance(action, argparse._HelpAction):
                yield from ([option, secret], [f"{option}={secret}"], [f"{option}{secret}"])
    yield from ([secret], ["--", secret], [f"--{secret}"], [f"--{secret}=1"], [f"-{secret}"], ["x.jsonl", secret])


COMMANDS = pytest.mark.parametrize("command", main.COMMANDS, ids=lambda command: command.name)


@each_secret
@COMMANDS
def test_no_command_repeats_it(
    command: main.Command,
    secret: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an option's value, an option, a file, a word too many; on neither stream, and in no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(namespace, "isolated", lambda: True)  # else `run --real-claude` becomes another process
    for line in lines_of(command, secret):
        rest = ["--", "true"] if command.name == "run" and line[0].startswith("-") and line[0] != "--" else []
        try:
            status = main.main([command.name, *line, *rest])
        except SystemExit as end:
            status = int(end.code or 0)
        said = capfd.readouterr()
        hidden(secret, said.out, said.err)
        assert status == 2, (line[0][:12], said.err)
    assert not list(tmp_path.iterdir())


@each_secret
def test_nor_does_the_command_line_itself(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In place of a command, and of an option before it."""
    for line in ([secret], [f"--{secret}"], [f"--version={secret}"]):
        try:
            status = main.main(line)
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        hidden(secret, said.out, said.err)
        assert status == 2


def test_each_command_was_tried_in_many_places() -> None:
    """What is introspected may change; then an empty list would prove nothing."""
    tried = {command.name: len(list(lines_of(command, "x"))) for command in main.COMMANDS}
    assert tried["run"] > 20
    assert tried["serve"] > 20
    assert min(tried.values()) >= 6


# The handle.


def methods(cls: type) -> dict[str, list[str]]:
    """The public methods of a class and their arguments, ``__init__`` as the class itself."""
    found = {}
    for name, member in inspect.getmembers(cls, inspect.isroutine):
        if not name.startswith("_") or name == "__init__":
            found[name] = [argument for argument in inspect.signature(member).parameters if argument != "self"]
    return found


HANDLE = [(name, argument) for name, arguments in methods(ClaudeTokens).items() for argument in arguments]
SENSIBLE: dict[str, Any] = {
    "target": "call",
    "fault": Fault.RESET,
    "name": "w0",
    "count": 1,
    "seconds": 1.0,
    "arguments": ["true"],
    "path_or_callable": "/nowhere",
    "path": "/nowhere/page.html",
}
TAKEN = {"to_raise", "started"}
"""What the plugin and the guard call; nobody pastes there."""


def test_the_handle_was_tried_whole() -> None:
    """By its signatures: these are in it, however it is built."""
    assert {"account", "worker", "fail_next", "hold", "env", "config_dir", "watch_store"} <= {
        name for name, _ in HANDLE
    }
    assert len(HANDLE) > 30


@each_secret
def test_no_method_of_the_handle_repeats_it(secret: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither its error nor a frame of ours; nor the history, the handle itself, or what is printed."""
    with ClaudeTokens() as tokens:
        account = tokens.account()
        for name, argument in HANDLE:
            if name == "__init__" or name in TAKEN:
                continue
            method = getattr(tokens, name)
            needed = {
                other.name: account if other.name == "account" else SENSIBLE[other.name]
                for other in inspect.signature(method).parameters.values()
                if other.default is other.empty
            }
            for value in forms(secret):
                was = refused(secret, method, **{**needed, argument: value})
                if isinstance(value, str) and argument in ("name", "account", "worker", "target", "fault"):
                    assert was, (name, argument)
        assert refused(secret, tokens.env, **{secret: 1})
        journal = tokens.server.journal
        texts = [event.to_json() for event in (journal.header, *journal.events)]
        hidden(secret, *texts, repr(tokens), repr(tokens.violations()), repr(tokens.history))
    said = capfd.readouterr()
    hidden(secret, said.out, said.err)


@each_secret
def test_no_argument_of_a_new_handle_repeats_it(secret: str, tmp_path: Path) -> None:
    """It is refused when the handle is made, or opened; or it is never told."""
    for argument in inspect.signature(ClaudeTokens).parameters:
        for value in forms(secret):
            with open(tmp_path / "history", "w", encoding="utf-8") as sink:

                def use(**settings: Any) -> None:
                    with ClaudeTokens(**settings) as tokens:
                        hidden(secret, repr(tokens), *(event.to_json() for event in tokens.history))

                was = refused(secret, use, **{"sink": sink, argument: value})
                assert was or argument not in ("policy", "allow", "limit", "latency", "accounts", "hosts")
            hidden(secret, (tmp_path / "history").read_text())


NEEDED: dict[tuple[type, str], dict[str, Any]] = {
    (Fault, "__init__"): {"kind": "reset"},
    (Fault, "status"): {"code": 500},
    (Fault, "delay"): {"seconds": 1.0},
    (Policy, "grace"): {"seconds": 1.0},
}
"""What a constructor can't do without."""


@each_secret
@pytest.mark.parametrize("cls", [Policy, Fault])
def test_no_policy_and_no_fault_repeats_it(cls: type, secret: str) -> None:
    """Each field, each constructor, and the changes of ``but``."""
    for name, arguments in methods(cls).items():
        entry = cls if name == "__init__" else getattr(cls() if cls is Policy else Fault.RESET, name)
        bound = [argument for argument in inspect.signature(entry).parameters if argument in arguments]
        for argument in bound:
            for value in forms(secret):
                made = {**NEEDED.get((cls, name), {}), argument: value}
                if argument != "changes" and not refused(secret, entry, **made):
                    hidden(secret, repr(made := entry(**made)), str(made))
    if cls is Policy:
        for field in inspect.signature(Policy).parameters:
            for value in forms(secret):
                assert refused(secret, Policy().but, **{field: value})
        assert refused(secret, Policy().but, **{secret: 1})


def _sound(claude_tokens: Any, workers: Any) -> None:
    """A body that is decorated, and never run."""


@each_secret
def test_explore_repeats_it_nowhere(secret: str) -> None:
    """Each keyword, a strategy, a strategy's name."""
    names = [name for name in inspect.signature(explore).parameters if name not in ("bare", "strategies")]
    for name in (*names, "number"):
        for value in forms(secret):
            for more in ({}, {"processes": True}):
                assert refused(secret, lambda settings: explore(**settings)(_sound), {**more, name: value}), name
    untyped: Any = explore
    assert refused(secret, lambda: untyped(**{secret: st.just(1)})(_sound))
    assert refused(secret, lambda: untyped(secret))


@each_secret
def test_a_secret_is_no_replay_token(secret: str) -> None:
    """One that is damaged is quoted, one that is none is not."""
    assert refused(secret, Replay.read, secret)
    if secret.startswith("sk-"):
        assert refused(secret, Replay.read, f"ct1-{secret}")
    with pytest.raises(ValueError, match="'ct1-abc_def-0123456789abcdefgh' is damaged"):
        Replay.read("ct1-abc_def-0123456789abcdefgh")


# The flat modules.


def functions(module: types.ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions of a module, and the public methods of its classes."""
    for name in module.__all__:
        member = getattr(module, name)
        if inspect.isroutine(member):
            yield name, member
        elif inspect.isclass(member) and not issubclass(member, BaseException):
            for method in methods(member):
                if method in vars(member) and callable(vars(member)[method]):
                    yield f"{name}.{method}", vars(member)[method]


MODULES = {
    module.__name__: sorted(functions(module), key=lambda pair: pair[0])
    for module in (lease, layouts, strategies, stateful)
}
RAISING = {"Lease.__init__": {"path", "lock_path"}, "flock": {"path"}, "Layout.prepare": {"workers", "account"}}
"""Arguments in whose place a secret is always refused."""


def needed_by(name: str, tokens: ClaudeTokens, folder: Path) -> dict[str, Any]:
    """What a function of a flat module can't do without."""
    place = layouts.Place((), {}, None)
    made: dict[str, dict[str, Any]] = {
        "Lease.__init__": {"self": object.__new__(lease.Lease), "path": str(folder / "x")},
        "Lease.acquire": {"self": lease.Lease(folder, heartbeat=False)},
        "flock": {"path": str(folder / "x")},
        "Place.command": {"self": place, "arguments": ["true"]},
        "Layout.prepare": {"self": layouts.LAYOUTS["copied-credentials"], "tokens": tokens, "workers": 1},
        "start": {"tokens": tokens, "places": [place], "arguments": ["true"]},
        "TokenMachine.refresh_tokens": {"self": SimpleNamespace(pairs={}), "name": "a1"},
        "TokenMachine.call_once": {"self": SimpleNamespace(pairs={}), "name": "a1"},
    }
    return made.get(name, {})


OBJECTS = {"self", "tokens", "places", "data", "pause", "sleep", "now"}
"""Arguments that are no name, and no number."""
RULES = {"log_in_first", "log_in", "refresh", "call", "expire", "advance", "nothing_is_broken", "teardown", "__init__"}
"""What Hypothesis calls of a state machine, with what it has drawn."""


@each_secret
def test_no_function_of_a_flat_module_repeats_it(secret: str, tmp_path: Path) -> None:
    """Each argument, in each form: neither the error nor a frame of ours."""
    tried = set()
    with ClaudeTokens() as tokens:
        tokens.account("a1")
        for name, function in itertools.chain(*MODULES.values()):
            if name.startswith("TokenMachine.") and name.partition(".")[2] in RULES:
                continue
            for argument in set(inspect.signature(function).parameters) - OBJECTS:
                for value in forms(secret):
                    made = {**needed_by(name, tokens, tmp_path), argument: value}
                    was = refused(secret, function, **made)
                    assert was or not (isinstance(value, str) and argument in RAISING.get(name, ())), (name, argument)
                tried.add(f"{name}({argument})")
    assert tried >= {"flock(path)", "Layout.prepare(account)", "accounts(most)", "TokenMachine.call_once(name)"}


def test_a_path_is_not_refused_for_its_folders(tmp_path: Path) -> None:
    """Relative or absolute; with a checksum in it."""
    for path in ("x/login", tmp_path / "0123456789abcdef0123456789abcdef" / "x", f"/x/{'ab' * 20}"):
        assert repr(lease.Lease(path)) == f"<Lease {os.fsdecode(path)}: not held>"


# The marker.


@each_secret
def test_the_marker_repeats_it_nowhere(secret: str) -> None:
    """Each keyword, in each form; a word too many, and an unknown one."""

    class Item:
        nodeid = "test_it.py::test_it"

        def __init__(self, mark: pytest.MarkDecorator) -> None:
            self._mark = mark.mark

        def iter_markers(self, _: str) -> Iterator[pytest.Mark]:
            yield self._mark

    def read(mark: pytest.MarkDecorator) -> None:
        item: Any = Item(mark)
        marker.check_markers([item])

    for keyword in marker.KEYWORDS:
        for value in forms(secret):
            assert refused(secret, read, pytest.mark.claude_tokens(**{keyword: value})), keyword
    assert refused(secret, read, pytest.mark.claude_tokens(secret))
    assert refused(secret, read, pytest.mark.claude_tokens(**{secret: 1}))


# The service.


ADMIN = ["name", "expired", "expires_in", "setup_token", "target", "fault", "count", "account", "window", "seconds"]


@each_secret
def test_the_admin_endpoints_repeat_it_nowhere(secret: str) -> None:
    """As a member, a member's value, a body that is no JSON, a path, a method; and the history stays clean."""
    world = World()
    admin = Admin(world.server, dict, lambda **asked: {**asked, "grant": world.server.login(**asked).name})
    bodies = [secret.encode(), json.dumps(secret).encode(), json.dumps({secret: 1}).encode()]
    for member in ADMIN:
        bodies += [json.dumps({"fault": "reset", **more, member: secret}).encode() for more in ({}, {"fault": "quota"})]
        bodies.append(json.dumps({member: secret}).encode())
    for body in bodies:
        for name in ("accounts", "faults", "history", "verdict", secret):
            for method in ("GET", "POST", secret):
                if name == "accounts" and method == "POST" and b'"name"' in body:
                    continue  # names are checked by who logs in: the service's own login, below
                reply = admin(Request(method, PREFIX + name, (), body, "127.0.0.1"))
                assert reply is not None
                hidden(secret, (reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)).decode())
    hidden(secret, world.sink.getvalue())


@each_secret
def test_no_request_brings_it_into_the_journal(secret: str) -> None:
    """In the path, the query, the host, the method, a header, the worker's prefix, the body."""
    world = World()
    _, token = world.login()
    for target in (f"/{secret}", f"/v1/{secret}/x?key={secret}", f"/w/{secret}/v1/messages", f"/w/w0/{secret}"):
        world.send(Request.parse("POST", target, (), b"", secret))
        world.send(Request.parse(secret, target, (), b"", f"{secret}.example.com:1"))
    for header in ("x-claude-code-session-id", "user-agent", "authorization", "x-api-key", "cookie", secret):
        for value in (secret, f"Bearer {secret}"):
            asked = Request("POST", "/v1/messages", ((header, value),), b"{}")
            world.send(asked, actor_of(asked, f"thread {secret}"))
    for asked in (
        refresh(secret),
        refresh(token, client_id=secret),
        refresh(token, scope=secret),
        refresh(token, grant_type=secret),
        code(secret),
        code(f"{secret}#state"),
        call(secret),
    ):
        world.send(asked, secret)
    hidden(secret, world.sink.getvalue(), repr(world.events))


def test_two_secrets_in_place_of_names_stay_two_workers() -> None:
    """The judge would see one worker in them, and no two at once."""
    world = World()
    first, second = SECRETS["access token"], SECRETS["access token"][::-1].replace("-", "x")
    tokens = [first, first[:-3] + "xyz", second, first]
    for secret in tokens:
        world.send(Request.parse("POST", f"/w/{secret}/v1/messages", (), b"{}"), secret)
    actors = [event.actor for event in world.events if event.type == "invoke"]
    assert actors == [
        "[an access token of 108 characters]",
        "[an access token of 108 characters] 2",
        "[base64 of 108 characters]",
        "[an access token of 108 characters]",
    ]


@each_secret
def test_check_repeats_nothing_of_a_foreign_history(
    secret: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who wrote it may not have looked: actors, accounts, labels, paths, settings, and what can't be read."""
    world = World()
    _, token = world.login()
    world.refresh(token, "w0")
    world.refresh(token, "w1")
    lines = [json.loads(line) for line in world.lines]
    for line in lines:
        for name in ("account", "path", "host", "grant", "refresh", "error"):
            if isinstance(line.get(name), str):
                line[name] = secret
        line.update({"x": [secret], secret: {"y": secret}} if line["type"] != "header" else {"policy": secret})
    file = tmp_path / "h.jsonl"
    for damage in ({}, {"actor": secret}, {"type": secret}, {"op": secret}, {"t": secret}, {"issued": secret}):
        file.write_text("".join(json.dumps({**line, **damage} if line["seq"] else line) + "\n" for line in lines))
        for more in ([], ["--json"]):
            main.main(["check", str(file), *more])
            said = capsys.readouterr()
            hidden(secret, said.out, said.err)
    file.write_text(secret)
    assert main.main(["check", str(file)]) == 2
    hidden(secret, *capsys.readouterr())
