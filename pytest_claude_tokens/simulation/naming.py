"""What an access touches, as a name that two threads share: an attribute of an object, an item, a global, a cell.

The object is found from the source of the access and the frame that is about to make it, by reading dictionaries
only: no property, ``__getattr__`` or other code of the author's runs. What can't be found this way has no name, and
then every access of that kind may be one of the same thing.
"""

from __future__ import annotations

import ast
import builtins
import datetime as dt
import re
import weakref
from collections import OrderedDict, deque
from contextvars import ContextVar
from functools import cached_property
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.tested_code import switches_itself

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from pytest_claude_tokens.simulation.accesses import Access

__all__ = ["ANY", "UNKNOWN", "Names", "Owner", "Touched"]

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "?"})()
"""What an expression is worth that can't be found without running code."""
ANY = "*"
"""The item that stands for all of a container."""

Owner = tuple[int, str]
"""The number of an object, and its class."""
Touched = tuple[Owner | str | None, str, object, bool]
"""The object, or a module's name (``None``: unknown), what of it, which item, and whether it is written."""

_ATOMS = (str, int, bytes, bool, float, type(None))
_CONTAINERS = (list, dict, set, bytearray, deque, OrderedDict)
_READERS = frozenset(
    "get copy count index items keys values issubset issuperset isdisjoint union difference intersection"  # noqa: SIM905 - as names, twice as long
    " symmetric_difference".split()
)
"""Methods of containers that change nothing."""
_KEYED = frozenset({"add", "discard", "remove", "get", "pop", "setdefault"})
"""Methods whose first argument is the only item that they touch; not of lists, where it is a position."""
_WRITERS = frozenset(
    "add append appendleft clear discard extend get_nowait insert pop popitem popleft put put_nowait remove reverse"  # noqa: SIM905 - as names, twice as long
    " setdefault sort update write".split()
)
"""Methods that change their object, where nobody knows what object that is."""
_LOOKERS = frozenset(
    getattr(builtins, name)
    for name in (
        "len list tuple set frozenset dict sorted sum min max any all isinstance issubclass type id repr str bool int"  # noqa: SIM905 - as names, twice as long
        " float hash print callable zip enumerate reversed range iter map filter format bytes".split()
    )
)
"""Functions that change nothing of what they are given."""
_CLOCKS = ("time", "pytest_claude_tokens.simulation.clocks")
_FIXED = (
    FunctionType,
    classmethod,
    staticmethod,
    property,
    MethodDescriptorType,
    WrapperDescriptorType,
    GetSetDescriptorType,
    BuiltinFunctionType,
)
"""What a class has that no instance changes: methods and properties, whose code has accesses if it is the author's."""
_NEVER_SHARED = (
    str,
    int,
    bytes,
    bool,
    float,
    type(None),
    tuple,
    frozenset,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    # What they do besides, they do with files, which are switch points.
    PurePath,
    re.Pattern,
    dt.date,
    dt.time,
    dt.timedelta,
    dt.tzinfo,
    ContextVar,  # each thread has a value of its own
)


class Names:
    """The numbers of the objects that one run has touched, in the order in which it did.

    ``is_tested`` tells whether a class or function is the author's: its own code is looked at, so that calling it is no
    access by itself.
    """

    def __init__(self, is_tested: Callable[[CodeType], bool]) -> None:
        self._is_tested = is_tested
        self._known: dict[int, tuple[Owner, Any]] = {}
        self._count = 0
        self.opaque: bool = False
        """Set where a function is called that may do anything."""
        self._generators: dict[Owner, weakref.ref[GeneratorType[Any, Any, Any]]] = {}
        """Those that somebody has asked for the next item, by a name that another may have, too."""

    def touched(self, access: Access, frame: FrameType) -> tuple[Touched, ...]:
        """What the access is about to touch. In a generator that is also the generator itself, which runs only once."""
        touched = self._touched(access, frame)
        if access.generates and self._generators:
            for number, generator in self._generators.items():
                running = generator()
                if running is not None and running.gi_frame is frame:
                    return (*touched, (number, "[]", ANY, True))
        return touched

    def _touched(self, access: Access, frame: FrameType) -> tuple[Touched, ...]:
        kind = access.kind
        if kind == "yield":
            return ()
        if kind == "attribute":
            return self._attribute(access, frame)
        if kind == "global":
            module = frame.f_globals.get("__name__")
            if not access.always and _is_fixed(frame.f_globals.get(access.name, len)):
                return ()
            return ((module, access.name, ANY, access.write),)
        if kind == "cell":
            return (("cell", access.name, ANY, access.write),)
        if kind == "call":
            return self._call(access, frame)
        owner = UNKNOWN if access.base is None else _value(access.base, frame, access)
        if owner is UNKNOWN:
            return ((None, "[]", ANY, access.write),)
        if isinstance(owner, _NEVER_SHARED):
            return ()
        write = access.write or (kind == "next" and hasattr(type(owner), "__next__"))
        return ((self.number(owner), "[]", self._key(access, owner, frame), write),)

    def number(self, owner: Any) -> Owner:
        """The object as a value. It is kept alive where its identity could not be told from a later object's."""
        known = self._known.get(id(owner))
        if known is not None:
            held = known[1]
            if (held() if type(held) is weakref.ref else held) is owner:
                return known[0]
        try:
            held = weakref.ref(owner)
        except TypeError:
            held = owner
        self._count += 1
        number = (self._count, owner.__name__ if isinstance(owner, type) else type(owner).__name__)
        self._known[id(owner)] = (number, held)
        if isinstance(owner, GeneratorType):
            self._generators[number] = weakref.ref(owner)
        return number

    def _key(self, access: Access, owner: Any, frame: FrameType) -> object:
        """The one item that is touched, if it is known: in a list every other one moves."""
        if access.key is None or isinstance(owner, list | deque | bytearray):
            return ANY
        key = _value(access.key, frame, access)
        return key if type(key) in _ATOMS else ANY

    def _attribute(self, access: Access, frame: FrameType) -> tuple[Touched, ...]:
        owner = UNKNOWN if access.base is None else _value(access.base, frame, access)
        if owner is UNKNOWN:
            return ((None, access.name, ANY, access.write),)
        if isinstance(owner, _NEVER_SHARED):
            return ()
        if isinstance(owner, ModuleType):
            if not access.write and _is_fixed(vars(owner).get(access.name)):
                return ()
            return ((owner.__name__, access.name, ANY, access.write),)
        found, holder = _found(owner, access.name)
        if holder is not owner and isinstance(found, _FIXED):
            return ()
        write = access.write or (type(found) is cached_property and holder is not owner)
        mine = (self.number(owner), access.name, ANY, write)
        if access.write or holder is owner or holder is None or isinstance(found, MemberDescriptorType):
            return (mine,)
        return (mine, (self.number(holder), access.name, ANY, False))

    def _call(self, access: Access, frame: FrameType) -> tuple[Touched, ...]:
        if access.base is None:
            return ((None, "[]", ANY, True),)
        owner = _value(access.base, frame, access)
        if not access.name:
            return self._function(owner, access, frame)
        if owner is UNKNOWN:
            return ((None, "[]", ANY, access.name in _WRITERS),)
        if isinstance(owner, _NEVER_SHARED):
            return ()
        if isinstance(owner, ModuleType):
            return self._function(vars(owner).get(access.name, UNKNOWN), access, frame)
        if isinstance(owner, _CONTAINERS):
            key = self._key(access, owner, frame) if access.name in _KEYED else ANY
            return ((self.number(owner), "[]", key, access.name not in _READERS),)
        method, _ = _found(owner, access.name)
        function = getattr(method, "__func__", method) if isinstance(method, classmethod | staticmethod) else method
        if self._is_authors(function) or isinstance(owner, type) or switches_itself(type(owner)):
            return ()
        return ((self.number(owner), "()", ANY, True),)

    def _function(self, function: Any, access: Access, frame: FrameType) -> tuple[Touched, ...]:
        """A call of a function: one that nobody can look into may change what it is given."""
        if any(function is one for one in (setattr, delattr, getattr, hasattr)):
            return self._by_name(access, frame, write=function is setattr or function is delattr)
        looks = any(function is one for one in _LOOKERS)
        if self._is_authors(function) or (isinstance(function, type) and not looks):
            return ()
        self.opaque = self.opaque or not (looks or getattr(function, "__module__", "") in _CLOCKS)
        given = [_value(argument, frame, access) for argument in access.arguments]
        return tuple(
            (self.number(value), "[]", ANY, not looks)
            for value in given
            if value is not UNKNOWN and not isinstance(value, (*_NEVER_SHARED, type, ModuleType))
        )

    def _by_name(self, access: Access, frame: FrameType, *, write: bool) -> tuple[Touched, ...]:
        """``getattr`` and its kin."""
        name = UNKNOWN if access.key is None else _value(access.key, frame, access)
        if type(name) is not str:
            return ()
        owner = _value(access.arguments[0], frame, access) if access.arguments else UNKNOWN
        if isinstance(owner, ModuleType):
            return ((owner.__name__, name, ANY, write),)
        return ((None if owner is UNKNOWN else self.number(owner), name, ANY, write),)

    def _is_authors(self, function: Any) -> bool:
        code = getattr(function, "__code__", None)
        return code is not None and self._is_tested(code)


def _is_fixed(value: object) -> bool:
    """Whether a global is what a module has for good: a function, a class, another module."""
    return isinstance(value, FunctionType | type | ModuleType | BuiltinFunctionType)


def _value(node: ast.expr, frame: FrameType, access: Access) -> Any:
    """What an expression of names, attributes and constant items is worth in ``frame``."""
    if isinstance(node, ast.Name):
        return _named(node.id, frame, access)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame, access)
        if owner is UNKNOWN:
            return owner
        if isinstance(owner, ModuleType):
            return vars(owner).get(node.attr, UNKNOWN)
        found, holder = _found(owner, node.attr)
        if isinstance(found, MemberDescriptorType):
            try:
                return found.__get__(owner)
            except AttributeError:
                return UNKNOWN
        has_get = holder is not owner and hasattr(type(found), "__get__")
        return UNKNOWN if holder is None or has_get else found
    if isinstance(node, ast.Subscript):
        owner, key = _value(node.value, frame, access), _value(node.slice, frame, access)
        if type(owner) in (dict, list, tuple) and type(key) in _ATOMS:
            try:
                return owner[key]
            except (LookupError, TypeError):
                return UNKNOWN
    return UNKNOWN


def _named(name: str, frame: FrameType, access: Access) -> Any:
    if name in access.names:
        return frame.f_locals.get(name, UNKNOWN)
    outer = frame.f_back
    if access.inner and outer is not None and name in outer.f_locals:  # a comprehension, before Python 3.12
        return outer.f_locals[name]
    builtins = frame.f_builtins
    return frame.f_globals.get(name, builtins.get(name, UNKNOWN))


def _found(owner: Any, name: str) -> tuple[Any, Any]:
    """The value of an attribute, and whose it is: the object's own, that of one of its classes, or nobody's."""
    if isinstance(owner, type):
        classes = owner.__mro__
    else:
        try:
            own = object.__getattribute__(owner, "__dict__")
        except AttributeError:
            own = {}
        if name in own:
            return own[name], owner
        classes = type(owner).__mro__
    for cls in classes:
        if name in cls.__dict__:
            return cls.__dict__[name], cls
    return UNKNOWN, None
