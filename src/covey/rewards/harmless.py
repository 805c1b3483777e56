"""Which answers may be handed to a grader that evaluates them as Python: literals, and plain arithmetic."""

from __future__ import annotations

import ast
import math

MAX_CHARACTERS = 2000
MAX_DEGREE = 1000
FUNCTIONS = {
    *("sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
    *("exp", "log", "ln", "sqrt", "Abs"),
}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)


def literal(text: str) -> bool:
    """Whether the text is a Python literal, such as a list of lists of numbers."""
    if len(text) > MAX_CHARACTERS:
        return False
    try:
        ast.literal_eval(text)
    # whatever the parser makes of a stranger's text, from a stray indent to nesting without end: no literal
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def arithmetic(text: str, functions: bool = False) -> bool:
    """Whether the text is numbers and one-letter names under + - * / and ** (or ^), and of bounded size.

    An exponent is a number, and powers of powers multiply to at most 1,000: no tower is ever worked out. With
    ``functions`` the elementary ones may be called, and an exponent may be any such expression of a name.
    """
    if len(text) > MAX_CHARACTERS:
        return False
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
        return _degree(tree.body, functions) <= MAX_DEGREE
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def _degree(node: ast.expr, functions: bool) -> float:
    """How many factors it multiplies out to at most. Raises ValueError for anything else."""
    if isinstance(node, ast.Constant) and _size(node.value) < 1e50:
        return 1
    if isinstance(node, ast.Name) and (len(node.id) == 1 or (functions and node.id == "pi")):
        return 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        return _degree(node.operand, functions)
    if isinstance(node, ast.BinOp) and isinstance(node.op, _ARITHMETIC):
        left, right = _degree(node.left, functions), _degree(node.right, functions)
        return left + right if isinstance(node.op, ast.Mult | ast.Div) else max(left, right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _degree(node.left, functions) * _exponent(node, functions)
    if functions and isinstance(node, ast.Call) and _elementary(node):
        return _degree(node.args[0], functions)
    raise ValueError("no plain arithmetic")


def _elementary(node: ast.Call) -> bool:
    named = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
    return named and len(node.args) == 1 and not node.keywords


def _size(value: object) -> float:
    """A number's absolute value; of all else that may stand in an expression, infinity."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value)
    return math.inf


def _exponent(node: ast.BinOp, functions: bool) -> float:
    exponent = node.right
    while isinstance(exponent, ast.UnaryOp) and isinstance(exponent.op, ast.UAdd | ast.USub):
        exponent = exponent.operand
    if isinstance(exponent, ast.Constant) and _size(exponent.value) <= MAX_DEGREE:
        return max(1.0, _size(exponent.value))
    if isinstance(exponent, ast.BinOp) and isinstance(exponent.op, ast.Div):  # x**(1/2)
        sides = (exponent.left, exponent.right)
        if all(isinstance(side, ast.Constant) and type(side.value) is int and side.value for side in sides):
            return max(1.0, abs(ast.literal_eval(exponent.left)))
    if functions and isinstance(node.left, ast.Name):
        return _degree(exponent, functions)
    raise ValueError("an exponent that isn't a number")
