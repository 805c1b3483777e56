"""Which programs monty may speak for: those where a lazy iterator and its list are the same."""

from __future__ import annotations

import pytest

from covey import sandbox
from covey.sandbox.backends import missing
from covey.sandbox.faithful import faithful


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return list(map(str, x))",
        "def f(x): return sum(a for a in x)",
        "def f(x): return max((len(a) for a in x), default=0)",
        "def f(x): return ' '.join(w[::-1] for w in x.split())",
        "def f(x): return list(zip(x, x[1:]))",
        "def f(x): return sorted(enumerate(x), key=lambda p: p[1])",
        "def f(x): return [a for a in reversed(x)]",
        "def f(x):\n    a, b = map(int, x.split())\n    return a",
        "def f(x): return print(*map(str, x))",
        "def f(x):\n    r = []\n    for i, a in enumerate(x):\n        r.append(a)\n    return r",
        "def f(x):\n    for i in range(3): x.pop()",
        "def f(x):\n    return [g.group() for g in re.finditer('a', x)]",
        "def f(x): return {k: v for k, v in zip(x, range(3))}",
    ],
)
def test_what_is_read_on_the_spot(program: str) -> None:
    assert faithful(program)


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return map(str, x)",
        "def f(x): return (a for a in x)",
        "def f(x): return [zip(x, x)]",
        "def f(x): return len(map(str, x))",
        "def f(x): return next(a for a in x)",
        "def f(x): return 3 in (a for a in x)",
        "def f(x): return reversed(x)[0]",
        "def f(x): return filter(None, x) == [1]",
        "def f(x):\n    it = map(int, x)\n    return list(it) + list(it)",
        "m = map\ndef f(x): return list(m(int, x))",
        "def f(x): return re.finditer('a', x)",
        # it computes later than it seems
        "def f(x):\n    for i, a in enumerate(x):\n        x.remove(a)\n    return x",
        "def f(x):\n    for a in reversed(x):\n        x[0] = 1\n    return x",
        "def f(x, s):\n    for a in filter(lambda q: q not in s, x):\n        s.add(a)\n    return s",
        "def f(x):\n    b = 0\n    for a in (y for y in x if y > b):\n        b = a\n    return b",
        "def f(x):\n    return any(x.append(a) for a in [1, 2])",
        "def f(x):\n    return sum((last := a) for a in x)",
        "def g(a): return a\ndef f(x): return list(map(g, x))",
        "def f(:",
        "def f(x): return " + "(" * 300 + ")" * 300,
        "\0",
    ],
)
def test_what_isnt(program: str) -> None:
    assert not faithful(program)


@pytest.mark.parametrize(
    ("program", "value"),
    [
        # each gives something else when its iterator is a list
        ("def f(x):\n    for i, a in enumerate(x):\n        x.remove(a)\n    return x", [2, 4]),
        ("def f(x):\n    it = map(int, x)\n    return list(it) + list(it)", [1, 2, 3, 4]),
        (
            "def f(x, b=0):\n  for a in (y for y in x if y > b):\n    b = a + 1; x = x + [a]\n  return x",
            [1, 2, 3, 4, 1, 3],
        ),
    ],
)
def test_cpythons_values_come_back(program: str, value: list[int]) -> None:
    if missing("bubblewrap") and missing("landlock"):
        pytest.skip(f"bubblewrap: {missing('bubblewrap')}; landlock: {missing('landlock')}")
    assert sandbox.call(program, "f", [[[1, 2, 3, 4]]]) == [value]
