"""Which programs mean the same in monty as in CPython, as far as monty doesn't refuse them itself.

To monty a lazy iterator is the list of its items, made at once. So a function that returns ``map(…)``
would pass a test for a list, and a loop that changes what it runs over would run over a copy. A
program is faithful when every such iterator is read on the spot, and nothing it reads changes meanwhile.
When in doubt it isn't: that costs a start of CPython, and no verdict.
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterable

LAZY = frozenset({"map", "filter", "zip", "enumerate", "reversed", "finditer"})
READERS = LAZY | {
    *("list", "tuple", "set", "frozenset", "dict", "sorted", "sum", "min", "max", "any", "all"),
    *("join", "extend", "update", "Counter", "deque"),
}
BUILT_IN = frozenset(dir(builtins))
CHANGERS = frozenset(
    {
        *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "add", "discard"),
        *("update", "popitem", "setdefault", "appendleft", "popleft", "extendleft", "rotate", "subtract"),
    }
)


@functools.lru_cache(maxsize=1024)
def faithful(program: str) -> bool:
    """Does monty give this program CPython's values, or an error where it can't?"""
    try:
        nodes = list(ast.walk(ast.parse(program)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    read: set[ast.AST] = set()
    for node in nodes:
        match node:
            case ast.For(iter=source, body=body):
                if _lazy(source) and _names([source]) & _changed([node.target, *body], rebound=True):
                    return False
                read.add(source)
            case ast.comprehension(iter=source) | ast.Starred(value=source):
                read.add(source)
            case ast.Assign(targets=[ast.Tuple() | ast.List()], value=source):
                read.add(source)
            case ast.Call(func=function, args=args):
                read.add(function)
                if _called(function) in READERS:
                    read.update(args)
    return all(node in read and _pure(node) for node in nodes if _lazy(node))


def _lazy(node: ast.AST) -> bool:
    match node:
        case ast.GeneratorExp():
            return True
        case ast.Name(id=name):
            return name in LAZY
        case ast.Call(func=function):
            return _called(function) in LAZY
    return False


def _pure(lazy: ast.AST) -> bool:
    """Does what the iterator computes change nothing, as far as one can see?"""
    match lazy:
        case ast.Call(func=ast.Name(id="map" | "filter"), args=[ast.Name(id=name), *_]) if name not in dir(
            builtins
        ):
            return False  # a function of the program's own
    return not _changed([lazy], rebound=False)


def _called(function: ast.expr) -> str | None:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    return {node.id for top in nodes for node in ast.walk(top) if isinstance(node, ast.Name)}


def _changed(nodes: Iterable[ast.AST], *, rebound: bool) -> set[str]:
    """Names whose objects are changed below these nodes, or which are given other objects."""
    changed: set[str] = set()
    for top in nodes:
        for node in ast.walk(top):
            match node:
                case ast.Call(func=ast.Attribute(attr=name, value=owner)) if name in CHANGERS:
                    changed |= _names([owner])
                case ast.Subscript(value=owner, ctx=ast.Store() | ast.Del()):
                    changed |= _names([owner])
                case ast.Name(id=name, ctx=ast.Store()) if rebound:
                    changed.add(name)
                case ast.NamedExpr(target=target):
                    changed |= _names([target])
    return changed
