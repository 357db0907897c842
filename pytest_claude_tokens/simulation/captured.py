"""Real functions that code has kept where no name of a module is, before a search began.

Default arguments (``def __init__(self, clock=time.monotonic)``), closures (the default factories of a dataclass),
classes, tables, partials and objects at module level: a dispatcher that is given its clock or its lock in such a way
would wait for real, and be excluded by what the simulation does not see.
"""

from __future__ import annotations

import operator
import sys
from contextlib import contextmanager, suppress
from functools import partial
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_claude_tokens.simulation.lines import is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["captured_replaced"]

_STANDARD = ("sched",)
"""Modules of the standard library that keep a clock for their callers. The others have it for themselves."""
_PLAIN = frozenset({bool, bytes, float, int, str, tuple, type(None)})
"""Types of values in which nothing is looked for: most are of these."""
_LONGEST_TABLE = 200
"""Entries of a table up to which it is looked through."""
_MOST_OBJECTS = 20_000
"""Of one module."""
_DEEPEST = 8
"""Objects within objects."""


class _Place(NamedTuple):
    """Somewhere a value is kept: how to read it there, and how to put another one."""

    get: Callable[[], Any]
    put: Callable[[Any], object]
    value: Any


class _Known(NamedTuple):
    """A module that was looked through when it had so many names. ``roots``: those of its objects and tables."""

    module: ModuleType
    size: int
    places: list[_Place]
    roots: list[str]


_CACHE: dict[str, _Known] = {}
"""What functions and classes keep doesn't change, and a suite has thousands of them."""


@contextmanager
def captured_replaced(stand_in_for: Callable[[Any], Any], spared: Iterable[str]) -> Iterator[None]:
    """In the block, what such places keep is what ``stand_in_for`` gives for it, if that is not ``None``.

    ``stand_in_for`` is called with any object at all. Packages in ``spared`` are left alone.
    """
    replaced: list[tuple[_Place, Any]] = []
    try:
        for place in _places(stand_in_for, frozenset(spared)):
            if place.get() is place.value:
                fake = stand_in_for(place.value)
                with suppress(AttributeError, TypeError):  # a class that refuses to be changed
                    place.put(fake)
                    replaced.append((place, fake))
        yield
    finally:
        for place, fake in reversed(replaced):
            if place.get() is fake:
                place.put(place.value)


def _places(wanted: Callable[[Any], Any], spared: frozenset[str]) -> Iterator[_Place]:
    for name, module in list(sys.modules.items()):
        known = _CACHE.get(name)
        if known is None or known.module is not module or known.size != len(vars(module)):
            package = name.partition(".")[0]
            if package in spared or not isinstance(module, ModuleType):
                continue
            known = _CACHE[name] = _look_through(name, module, wanted)
        yield from known.places
        if known.roots:  # these come and go
            search = _Search(name, wanted, objects=True)
            for root in known.roots:
                yield from search.inside(vars(module).get(root))


def _look_through(name: str, module: ModuleType, wanted: Callable[[Any], Any]) -> _Known:
    package, size = name.partition(".")[0], len(vars(module))
    if package in sys.stdlib_module_names and package not in _STANDARD:
        return _Known(module, size, [], [])
    installed = package in _STANDARD or is_installed(vars(module).get("__file__") or "")
    search = _Search(name, wanted, objects=not installed)
    return _Known(module, size, list(search.module(module)), [] if installed else search.roots(module))


class _Search:
    """Looks through what belongs to one module. ``objects``: also through its objects and tables, as in the user's."""

    def __init__(self, name: str, wanted: Callable[[Any], Any], *, objects: bool) -> None:
        self._objects = objects
        self._name = name
        self._wanted = wanted
        self._seen: set[int] = set()
        self._depth = 0

    def module(self, module: ModuleType) -> Iterator[_Place]:
        """All places in it, but for its own names."""
        for name, value in list(vars(module).items()):
            if name != "__builtins__":
                yield from self.inside(value)

    def roots(self, module: ModuleType) -> list[str]:
        """The names of its objects and tables."""
        fixed = (self._in_function, self._in_class, None)
        named = [name for name, value in list(vars(module).items()) if self._way(type(value)) not in fixed]
        return [name for name in named if name != "__builtins__"]

    def inside(self, value: Any) -> Iterator[_Place]:
        """The places in a value, if it is the module's."""
        if id(value) in self._seen or self._depth == _DEEPEST or len(self._seen) == _MOST_OBJECTS:
            return
        look = self._way(type(value))
        if look is not None:
            self._seen.add(id(value))
            self._depth += 1
            yield from look(value)
            self._depth -= 1

    def _way(self, kind: type) -> Callable[[Any], Iterator[_Place]] | None:
        """How to look into a value of that type, if at all."""
        if kind is FunctionType:
            return self._in_function
        if issubclass(kind, type):
            return self._in_class
        if kind is partial:
            return self._in_partial
        if not self._objects:
            return None
        if kind is dict:
            return self._in_table
        if kind is list:
            return self._in_list
        return self._in_object if kind.__module__ == self._name else None

    def _kept(self, value: Any, get: Callable[[], Any], put: Callable[[Any], object]) -> Iterator[_Place]:
        """The place of a value if it is wanted, else those inside of it."""
        if self._wanted(value) is not None:
            yield _Place(get, put, value)
        else:
            yield from self.inside(value)

    def _in_table(self, table: dict[Any, Any]) -> Iterator[_Place]:
        for key, value in list(table.items())[:_LONGEST_TABLE]:
            if type(value) not in _PLAIN:
                yield from self._kept(value, partial(_entry, table, key), partial(operator.setitem, table, key))

    def _in_list(self, values: list[Any]) -> Iterator[_Place]:
        for index, value in enumerate(values[:_LONGEST_TABLE]):
            if type(value) not in _PLAIN:
                yield from self._kept(value, partial(_entry, values, index), partial(operator.setitem, values, index))

    def _in_partial(self, kept: partial[Any]) -> Iterator[_Place]:
        yield from self._kept(kept.func, partial(getattr, kept, "func"), partial(_put_function, kept))

    def _in_object(self, value: Any) -> Iterator[_Place]:
        try:
            attributes = object.__getattribute__(value, "__dict__")  # its own one may do anything
        except AttributeError:
            return
        yield from self._in_table(attributes)

    def _in_function(self, function: FunctionType) -> Iterator[_Place]:
        if function.__module__ != self._name:
            return
        for index, value in enumerate(function.__defaults__ or ()):
            get = partial(_default, function, index)
            yield from self._kept(value, get, partial(_put_default, function, index))
        if function.__kwdefaults__:
            yield from self._in_table(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            if (content := _content(cell)) is not None:
                yield from self._kept(content, partial(_content, cell), partial(setattr, cell, "cell_contents"))
        of_module = getattr(sys.modules.get(function.__globals__.get("__name__", "")), "__dict__", None)
        if function.__globals__ is not of_module:  # those that attrs gives to the methods it makes
            yield from self._in_table(function.__globals__)
        if "__wrapped__" in vars(function):
            yield from self.inside(vars(function)["__wrapped__"])

    def _in_class(self, cls: type) -> Iterator[_Place]:
        if vars(cls).get("__module__") != self._name:
            return
        for name, value in list(vars(cls).items()):
            if type(value) in (staticmethod, classmethod):
                wrap = type(value)
                yield from self._kept(
                    value.__func__, partial(_function_of, cls, name), partial(_put_wrapped, cls, name, wrap)
                )
            elif type(value) is property:
                for function in filter(None, (value.fget, value.fset)):
                    yield from self.inside(function)
            else:
                yield from self._kept(value, partial(_attribute, cls, name), partial(setattr, cls, name))


def _entry(table: Any, key: Any) -> Any:
    try:
        return table[key]
    except LookupError:  # it has been taken out meanwhile
        return None


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has none yet
        return None


def _default(function: FunctionType, index: int) -> Any:
    return _entry(function.__defaults__ or (), index)


def _put_default(function: FunctionType, index: int, value: Any) -> None:
    defaults = list(function.__defaults__ or ())
    defaults[index] = value
    function.__defaults__ = tuple(defaults)


def _put_function(kept: partial[Any], function: Any) -> None:
    kept.__setstate__((function, kept.args, kept.keywords, vars(kept)))  # type: ignore[attr-defined]


def _attribute(cls: type, name: str) -> Any:
    return vars(cls).get(name)


def _function_of(cls: type, name: str) -> Any:
    return getattr(vars(cls).get(name), "__func__", None)


def _put_wrapped(cls: type, name: str, wrap: type, function: Any) -> None:
    setattr(cls, name, wrap(function))
