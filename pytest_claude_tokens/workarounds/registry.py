"""The workarounds by name, and the decorator that adds one."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from fake_server.faults import Fault
from fake_server.limits import count_refusal
from fake_server.secrecy import discreet, is_name, safe_text, shown

__all__ = ["REGISTRY", "Workaround", "load_plugin", "named", "of_class", "workaround"]

T = TypeVar("T", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workaround:
    """One workaround: its name, and the class of its dispatcher.

    ``accounts``: how many accounts it is given; ``None``: as many as there are workers, and then one fewer. ``faults``
    and ``cancel`` are put in play by the search. ``layout``: where real processes use it, the name of their layout.
    """

    name: str
    dispatcher: type[Any]
    accounts: int | None = None
    faults: tuple[Fault, ...] = ()
    cancel: bool = False
    layout: str | None = None

    @property
    def kind(self) -> Literal["tasks", "threads"]:
        """Whether its workers are tasks or threads: its ``call`` says so."""
        return "tasks" if inspect.iscoroutinefunction(self.dispatcher.call) else "threads"

    @property
    def summary(self) -> str:
        """What it is: the first line of the class's docstring."""
        return (inspect.getdoc(self.dispatcher) or "").partition("\n")[0]


REGISTRY: dict[str, Workaround] = {}
"""Every workaround that was decorated, in that order. Those built in are there once ``catalogue`` is imported."""


@discreet
def workaround(
    name: str,
    *,
    accounts: int | None = None,
    faults: Sequence[Fault] = (),
    cancel: bool = False,
    layout: str | None = None,
) -> Callable[[T], T]:
    """Add the decorated class to the table, as the row ``name``.

    The class has ``__init__(self, accounts)``, which is given logged-in accounts (``.access_token``,
    ``.refresh_token``, ``.expires_at`` in POSIX seconds, ``.credentials`` as Claude Code stores them), and
    ``async def call(self)``, which does one job: it gets hold of a bearer, and asks ``/v1/messages`` with it. Several
    workers call it at once, each several times. With a plain ``def call`` the workers are threads.

    ``accounts``: the number of accounts that it needs. Without it, it is examined with one for each worker, and with
    one fewer. ``faults``: failures of the service that it must survive. ``cancel``: jobs may be cancelled at an await.
    ``layout``: examine real processes in that layout of :mod:`pytest_claude_tokens.layouts` instead.

    Raises ``ValueError`` for a name that is taken or is none, ``TypeError`` for a class without a method ``call``.
    """
    if not (isinstance(name, str) and name and is_name(name)):
        raise ValueError(f"workaround({shown(name)}): must be a name")
    if accounts is not None and (why := count_refusal(accounts, 1)):
        raise ValueError(f"workaround(accounts={shown(accounts)}): {why}")
    wrong = [fault for fault in faults if not isinstance(fault, Fault)]
    if wrong:
        raise TypeError(f"workaround(faults=[{shown(wrong[0])}]): a fault is a value, such as Fault.RESET")

    def decorate(cls: T) -> T:
        call = getattr(cls, "call", None)
        if not inspect.isclass(cls) or not callable(call):
            raise TypeError(f"workaround({name!r}) decorates a class with a method `async def call(self)`")
        if cancel and not inspect.iscoroutinefunction(call):
            raise TypeError(f"workaround({name!r}, cancel=True) cancels tasks: it needs an async def call")
        other = REGISTRY.get(name)
        if other is not None and _identity(other.dispatcher) != _identity(cls):
            raise ValueError(f"workaround({name!r}): that name is taken, by {other.dispatcher.__qualname__}")
        REGISTRY[name] = Workaround(
            name=name, dispatcher=cls, accounts=accounts, faults=tuple(faults), cancel=cancel, layout=layout
        )
        return cls

    return decorate


def _identity(cls: type[Any]) -> tuple[str, str]:
    """Equal for two imports of one class: a plugin file can be imported by the command and by pytest."""
    return cls.__module__.rpartition(".")[2], cls.__qualname__


def named(name: str) -> Workaround:
    """The workaround ``name``. Raises ``ValueError`` that lists all."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise ValueError(f"no workaround is named {shown(name)}; choose of {', '.join(REGISTRY)}") from None


def of_class(cls: type[Any]) -> Workaround:
    """The workaround that ``cls`` is. Raises ``ValueError`` for a class that was not decorated."""
    for one in REGISTRY.values():
        if one.dispatcher is cls:
            return one
    raise ValueError(f"{shown(cls)} is no workaround: decorate it with @workaround(NAME)")


def load_plugin(path: str) -> list[Workaround]:
    """Run the Python file ``path``, and return the workarounds that it adds.

    Raises ``ValueError`` where it can't be read, fails, or adds none.
    """
    before = dict(REGISTRY)
    file = Path(path)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # as dataclasses and pickles expect of any module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(safe_text(f"{path} can't be run: {type(error).__name__}: {error}")) from error
    finally:
        sys.path.pop(0)
    added = [one for name, one in REGISTRY.items() if before.get(name) is not one]
    if not added:
        raise ValueError(f"{path} adds no workaround: decorate a class with @workaround(NAME)")
    return added
