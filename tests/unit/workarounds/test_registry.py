"""The decorator, and plugin files: a class becomes a row, and what is no class with a `call` is refused."""

from __future__ import annotations

import pytest

from fake_server import Fault
from pytest_claude_tokens import workarounds
from pytest_claude_tokens.workarounds import workaround
from pytest_claude_tokens.workarounds.catalogue import BUILT_IN, all_workarounds
from pytest_claude_tokens.workarounds.explored import as_test
from pytest_claude_tokens.workarounds.registry import REGISTRY, load_plugin, named, of_class


class Pool:
    """Does nothing."""

    def __init__(self, accounts):
        pass

    async def call(self):
        pass


class Threads:
    """Does nothing in threads."""

    def call(self):
        pass


def test_a_decorated_class_is_a_row_and_stays_what_it_is():
    """Its name, its docstring, and whether its workers are tasks or threads, become those of the row."""
    assert workaround("pool", accounts=2)(Pool) is Pool
    assert workaround("threads")(Threads) is Threads
    assert (named("pool").summary, named("pool").kind, named("pool").accounts) == ("Does nothing.", "tasks", 2)
    assert (named("threads").kind, of_class(Threads).name) == ("threads", "threads")
    names = [one.name for one in all_workarounds()]
    assert (names[: len(BUILT_IN)], names[-2:]) == ([*BUILT_IN], ["pool", "threads"])


def test_a_class_may_be_decorated_twice_and_another_one_may_not_take_its_name():
    """A plugin file can be imported by the command and by pytest."""
    workaround("pool")(Pool)
    workaround("pool")(Pool)
    with pytest.raises(ValueError, match=r"workaround\('pool'\): that name is taken, by Pool"):
        workaround("pool")(Threads)
    with pytest.raises(ValueError, match="that name is taken, by Nothing"):
        workaround("none")(Pool)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": "sk-ant-oat01-FAKEFAKEFAKEFAKEFAKEFAKE"}, ValueError, "must be a name"),
        ({"name": ""}, ValueError, "must be a name"),
        ({"name": "pool", "accounts": 0}, ValueError, "accounts=0"),
        ({"name": "pool", "faults": ["reset"]}, TypeError, "a fault is a value"),
    ],
)
def test_wrong_arguments_are_refused_without_a_secret(arguments, error, says):
    """At the decorator's line, before any class is there."""
    with pytest.raises(error, match=says) as caught:
        workaround(**arguments)
    assert "FAKEFAKE" not in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "options", "says"),
    [
        (object, {}, "a class with a method"),
        (lambda accounts: None, {}, "a class with a method"),
        (Threads, {"cancel": True}, "needs an async def call"),
    ],
)
def test_what_is_no_dispatcher_is_refused(cls, options, says):
    """A function, a class without `call`, threads that would be cancelled."""
    with pytest.raises(TypeError, match=says):
        workaround("pool", faults=[Fault.RESET], **options)(cls)
    assert "pool" not in REGISTRY


def test_unknown_names_and_classes_are_named():
    """The message lists what there is."""
    with pytest.raises(ValueError, match="no workaround is named 'nine'; choose of none, round-robin-tokens, "):
        named("nine")
    with pytest.raises(ValueError, match="is no workaround: decorate it"):
        as_test(Pool)
    with pytest.raises(AttributeError, match="no attribute 'nine'"):
        _ = workarounds.nine
    assert workarounds.as_test is as_test


@pytest.mark.parametrize(
    ("source", "says"),
    [(None, "is no Python file"), ("1 / 0\n", "can't be run: ZeroDivisionError"), ("x = 1\n", "adds no workaround")],
)
def test_a_plugin_that_adds_nothing_is_refused(tmp_path, source, says):
    """So that nobody takes the table without his row for its verdict."""
    file = tmp_path / "mine.py"
    if source is not None:
        file.write_text(source)
    with pytest.raises(ValueError, match=says):
        load_plugin(str(file))
    with pytest.raises(ValueError, match="is no Python file"):
        load_plugin(str(tmp_path))
