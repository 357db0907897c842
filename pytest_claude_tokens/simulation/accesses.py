"""The accesses in a piece of code: each instruction that reads or writes what another thread may see.

An access is found by its instruction and told by its place in the source: file, line, column and what is done there.
So a place is the same under each version of Python, whose instructions differ. The syntax tree says more, where there
is one: which expression the accessed object comes from, and whether what was read is tested. Code without source
(``exec``) has accesses all the same, on objects that nobody can name.
"""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from fake_server.genuine import os

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType

__all__ = ["LOOP", "PLACES", "Access", "AccessKind", "accesses_of"]

AccessKind = Literal["attribute", "global", "cell", "item", "call", "next", "yield", "loop"]

_OPERATIONS: dict[str, tuple[AccessKind, bool]] = {
    "LOAD_ATTR": ("attribute", False),
    "LOAD_METHOD": ("attribute", False),
    "LOAD_SUPER_ATTR": ("attribute", False),
    "STORE_ATTR": ("attribute", True),
    "DELETE_ATTR": ("attribute", True),
    "LOAD_GLOBAL": ("global", False),
    "STORE_GLOBAL": ("global", True),
    "DELETE_GLOBAL": ("global", True),
    "LOAD_DEREF": ("cell", False),
    "STORE_DEREF": ("cell", True),
    "DELETE_DEREF": ("cell", True),
    "BINARY_SUBSCR": ("item", False),
    "BINARY_SLICE": ("item", False),
    "CONTAINS_OP": ("item", False),
    "STORE_SUBSCR": ("item", True),
    "STORE_SLICE": ("item", True),
    "DELETE_SUBSCR": ("item", True),
    "FOR_ITER": ("next", False),
    "YIELD_VALUE": ("yield", False),
    "CALL": ("call", True),
    "CALL_KW": ("call", True),
    "CALL_FUNCTION_EX": ("call", True),
}
"""What an instruction does, and whether it writes; for a call, that is known only when it is made."""
_BACKWARD = "JUMP_BACKWARD"
_SWITCHING = ("CALL", "RESUME", "SEND", "YIELD", "BEFORE_", "WITH_", "LOAD_SPECIAL", "IMPORT_NAME", "FOR_ITER")
"""How the names of instructions begin at which CPython may hand its interpreter lock on, or in what they call; the
other ones are jumps backward.
"""
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NODES: dict[AccessKind, tuple[type[ast.AST], ...]] = {
    "attribute": (ast.Attribute,),
    "global": (ast.Name,),
    "cell": (ast.Name,),
    "item": (ast.Subscript, ast.Compare, ast.AugAssign),
    "call": (ast.Call,),
    "yield": (ast.Yield,),
    "next": (ast.For, ast.AsyncFor, *_COMPREHENSIONS),
}
_BY_NAME = ("setattr", "getattr", "delattr", "hasattr")
_VIEWS = ("items", "keys", "values")
_WRAPPERS = ("enumerate", "reversed", "iter", "zip")
LOOP: AccessKind = "loop"
"""The kind of a jump back to the top of a ``while``: no access, but a place where one who spins comes by."""
_LOOKING = frozenset(
    ("all", "any", "bool", "count", "copy", "get", "index", "int", "isinstance", "len", "max", "min", "str")
)
"""Calls in a loop that do nothing but look at values."""
_LONGEST_WORDS = 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Access:
    """One access in the source. ``place`` names it; ``words`` are ``pool.py:32 self.busy.add(a.name)``.

    ``base``: the expression for the object that is accessed, ``key`` that for the item, or none where there is no
    source. ``name``: of the attribute, global, cell or method. ``tests``: what is read here decides which way to go.
    ``always``: not only if a global is anything but a function, class or module. ``names``: the local ones of the code;
    ``inner``: it is a comprehension's. ``function``: the one that it is in. ``spins``: a loop whose rounds do not call.
    ``calls``: a loop that does not only look. ``generates``: it is in a generator. ``offset``: of its instruction;
    ``stretch``: how many instructions before it in the code are such that the interpreter lock may be handed on there;
    ``rounds``: where the loops of the code begin and end, as it may be there, too.
    """

    place: str
    kind: AccessKind
    write: bool
    name: str
    line: str
    words: str
    base: ast.expr | None = None
    key: ast.expr | None = None
    arguments: tuple[ast.expr, ...] = ()
    tests: bool = False
    always: bool = True
    names: frozenset[str] = frozenset()
    inner: bool = False
    function: str = ""
    spins: bool = False
    calls: bool = False
    generates: bool = False
    offset: int = 0
    stretch: int = 0
    rounds: tuple[tuple[int, int], ...] = ()


PLACES: dict[str, Access] = {}
"""Each access that has been seen in this process, by its place, for whoever tells it."""


class _Source:
    """What the syntax tree of one file says. Without source, nothing."""

    def __init__(self, filename: str) -> None:
        self.lines: list[str] = linecache.getlines(filename)
        self._by_end: dict[tuple[type[ast.AST], int, int], ast.AST] = {}
        self._parents: dict[ast.AST, ast.AST] = {}
        self.globals: set[str] = set()
        self._loops: list[tuple[int, int, ast.For | ast.While]] = []
        try:
            tree = ast.parse("".join(self.lines))
        except (SyntaxError, ValueError):  # a template's file, say
            tree = ast.Module([], [])
        self.known = bool(tree.body)
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                self._parents[child] = node
            if isinstance(node, ast.Global):
                self.globals.update(node.names)
            if isinstance(node, ast.While | ast.For):
                self._loops.append((node.lineno, node.end_lineno or node.lineno, node))
            end: Any = getattr(node, "end_lineno", None), getattr(node, "end_col_offset", None)
            if end[0] is not None:
                self._by_end.setdefault((type(node), *end), node)

    def at(self, kinds: tuple[type[ast.AST], ...], end: tuple[int, int]) -> ast.AST | None:
        """The node of one of these kinds that ends there."""
        for kind in kinds:
            node = self._by_end.get((kind, *end))
            if node is not None:
                return node
        return None

    def statement(self, node: ast.AST) -> ast.AST:
        """The statement that the node is in."""
        while not isinstance(node, ast.stmt) and node in self._parents:
            node = self._parents[node]
        return node

    def tests(self, node: ast.AST) -> bool:
        """Whether what the node is worth decides which way to go."""
        while node in self._parents and not isinstance(node, ast.stmt):
            parent = self._parents[node]
            if isinstance(parent, ast.If | ast.While | ast.IfExp | ast.Assert) and parent.test is node:
                return True
            if isinstance(parent, ast.comprehension) and node in parent.ifs:
                return True
            node = parent
        return False

    def loop(self, line: int) -> ast.For | ast.While | None:
        """The innermost loop around the line."""
        around = [(start, -end, node) for start, end, node in self._loops if start <= line <= end]
        return max(around, key=lambda one: one[:2])[2] if around else None


@lru_cache(maxsize=256)
def _source(filename: str) -> _Source:
    return _Source(filename)


def accesses_of(code: CodeType) -> Mapping[int, Access]:
    """The accesses in ``code``, by the offset of the instruction before which they have not happened yet."""
    source = _source(code.co_filename)
    found: dict[int, Access] = {}
    start, stretch = None, 0
    instructions = list(dis.get_instructions(code))
    rounds = tuple((int(one.argval), one.offset) for one in instructions if _BACKWARD in one.opname)
    for instruction in instructions:
        start = instruction.offset if start is None else start
        if instruction.opname == "EXTENDED_ARG":
            continue
        access = _access(code, source, instruction)
        if access is not None:
            found[start] = PLACES.setdefault(
                access.place, replace(access, offset=start, stretch=stretch, rounds=rounds)
            )
        stretch += instruction.opname.startswith(_SWITCHING)
        start = None
    return found


def _access(code: CodeType, source: _Source, instruction: dis.Instruction) -> Access | None:
    name, positions = instruction.opname, instruction.positions
    if positions is None or positions.end_lineno is None or positions.end_col_offset is None:
        return None if name not in _OPERATIONS else _anonymous(code, instruction)
    end = (positions.end_lineno, positions.end_col_offset)
    if _BACKWARD in name:
        return _loop(code, source, positions.lineno or 0)
    if name == "BINARY_OP":
        return _binary(code, source, instruction, end)
    operation = _OPERATIONS.get(name)
    if operation is None:
        return None
    kind, write = operation
    if kind == "yield" and not code.co_flags & inspect.CO_GENERATOR:
        return None
    if kind in ("global", "cell", "attribute"):
        return _made(code, source, end, kind, write=write, name=str(instruction.argval))
    return _made(code, source, end, kind, write=write)


def _loop(code: CodeType, source: _Source, line: int) -> Access | None:
    """The end of a round of the ``while`` around the line; without source, that of any loop."""
    loop = source.loop(line)
    if source.known and not isinstance(loop, ast.While):
        return None
    file = os.path.basename(code.co_filename)
    calls = loop is None or any(isinstance(node, ast.Call) for part in loop.body for node in ast.walk(part))
    does = loop is None or any(isinstance(node, ast.Call) and not _only_looks(node) for node in ast.walk(loop))
    at = line if loop is None else loop.lineno
    return Access(
        place=f"{file}:{at}:{LOOP}",
        kind=LOOP,
        write=False,
        name="",
        line=f"{file}:{at}",
        words=f"{file}:{at}",
        spins=not calls,
        calls=does,
    )


def _only_looks(call: ast.Call) -> bool:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name in _LOOKING or name in _BY_NAME or name in _VIEWS


def _binary(code: CodeType, source: _Source, instruction: dis.Instruction, end: tuple[int, int]) -> Access | None:
    """``a[b]``, which is a binary operation from Python 3.14 on, and ``a += b``, which may change ``a`` in place."""
    if instruction.argrepr == "[]":
        return _made(code, source, end, "item", write=False)
    return _made(code, source, end, "item", write=True) if instruction.argrepr.endswith("=") else None


def _anonymous(code: CodeType, instruction: dis.Instruction) -> Access | None:
    """An access in code without positions (``-X no_debug_ranges``): only its number says where it is."""
    kind, write = _OPERATIONS[instruction.opname]
    if kind in ("global", "call"):
        return None
    base = os.path.basename(code.co_filename)
    return Access(
        place=f"{base}:{code.co_qualname}+{instruction.offset}:{kind}",
        kind=kind,
        write=write,
        name=str(instruction.argval) if kind in ("attribute", "cell") else "",
        line=f"{base}:{code.co_firstlineno}",
        words=f"{base}:{code.co_firstlineno} {code.co_qualname}",
    )


def _made(
    code: CodeType, source: _Source, end: tuple[int, int], kind: AccessKind, *, write: bool, name: str = ""
) -> Access | None:
    node: Any = source.at(_NODES.get(kind, ()), end)
    base: ast.expr | None = None
    key: ast.expr | None = None
    arguments: tuple[ast.expr, ...] = ()
    if kind == "next":
        iterated = node or source.at((ast.Attribute, ast.Name, ast.Call, ast.Subscript), end)
        iterated = _iterated(iterated)
        if iterated is None and source.known:
            return None
        base = node = iterated
    elif kind == "call":
        if node is None and source.known:  # the end of a `with` block, a decorator: no call of the author's
            return None
        if node is not None:
            base, name, arguments = _called(node)
            number = isinstance(node.func, ast.Name) and node.func.id in _BY_NAME
            key = node.args[number] if len(node.args) > number else None
    elif kind == "item" and isinstance(node, ast.Compare):
        base, key = node.comparators[-1], node.left
    elif kind == "item" and isinstance(node, ast.AugAssign):
        base = node.target if isinstance(node.target, ast.Name | ast.Attribute | ast.Subscript) else None
    elif kind in ("attribute", "item") and node is not None:
        base, key = node.value, getattr(node, "slice", None)
    file = os.path.basename(code.co_filename)
    if node is not None:
        end = (node.end_lineno, node.end_col_offset)
    at = _line(node, end)
    return Access(
        place=f"{file}:{end[0]}:{end[1]}:{kind}{'=' if write else ''}{_told(name)}",
        kind=kind,
        write=write,
        name=name,
        line=f"{file}:{at}",
        words=f"{file}:{at} {_text(source, node, at)}".rstrip(),
        base=base,
        key=key,
        arguments=arguments,
        tests=node is not None and source.tests(node),
        names=_local_names(code),
        function=code.co_qualname,
        generates=bool(code.co_flags & inspect.CO_GENERATOR),
        inner=code.co_name.startswith("<"),
        always=kind != "global" or write or name in source.globals or not source.known,
    )


def _local_names(code: CodeType) -> frozenset[str]:
    return frozenset((*code.co_varnames, *code.co_freevars, *code.co_cellvars))


def _told(name: str) -> str:
    return f".{name}" if name else ""


def _line(node: Any, end: tuple[int, int]) -> int:
    """The line to name for a node: that of the method's name for a call over several lines."""
    if isinstance(node, ast.Call):
        return node.func.end_lineno or end[0]
    return end[0] if node is None or isinstance(node, ast.Attribute) else int(node.lineno)


def _text(source: _Source, node: Any, line: int) -> str:
    """The source of the statement, or of its line where it has several."""
    statement = None if node is None else source.statement(node)
    if statement is not None and isinstance(statement, ast.stmt):
        line = statement.lineno if statement.lineno == getattr(statement, "end_lineno", 0) else line
    text = source.lines[line - 1].strip() if 0 < line <= len(source.lines) else ""
    return text if len(text) <= _LONGEST_WORDS else f"{text[: _LONGEST_WORDS - 3]}..."


def _iterated(node: Any) -> ast.expr | None:
    """The expression whose items a loop takes, unless that is a copy, which is nobody else's."""
    if isinstance(node, ast.For | ast.AsyncFor):
        node = node.iter
    elif isinstance(node, _COMPREHENSIONS):
        node = node.generators[0].iter
    if not isinstance(node, ast.Call):
        return node if isinstance(node, ast.Attribute | ast.Name | ast.Subscript) else None
    if isinstance(node.func, ast.Attribute):
        return node.func.value if node.func.attr in _VIEWS and not node.args else None
    if isinstance(node.func, ast.Name) and node.func.id in _WRAPPERS and node.args:
        return _iterated(node.args[0])
    return None


def _called(node: ast.Call) -> tuple[ast.expr, str, tuple[ast.expr, ...]]:
    """Whose method is called and which one, and the arguments; for a function, the function."""
    given = tuple(_plain(node.args))
    if isinstance(node.func, ast.Attribute):
        return node.func.value, node.func.attr, given
    return node.func, "", given


def _plain(arguments: list[ast.expr]) -> Iterator[ast.expr]:
    for argument in arguments:
        if isinstance(argument, ast.Starred):
            argument = argument.value
        if isinstance(argument, ast.Name | ast.Attribute | ast.Subscript):
            yield argument
