"""Answers that are made to keep a grader of mathematics busy; its tests take them from here, too."""

HOSTILE = (
    "9**9**9**9",
    r"\boxed{9^{9^{9^{9}}}}",
    r"$(10^{10})!$",
    r"$\binom{10^9}{5 \cdot 10^8}$",
    r"$\sum_{i=1}^{10^{12}} 1/i^2$",
    r"$\prod_{i=1}^{10^8} i$",
    r"$\int_0^1 x^{x^{x^x}} dx$",
    "$" + "(" * 3000 + "1" + ")" * 3000 + "$",
    "$" + " + ".join(f"x^{{{i}}}" for i in range(3000)) + "$",
    "$" + "a" * 200_000 + "$",
    r"$\{" + ",".join(map(str, range(3000))) + r"\}$",
    "$" + r"\frac{1}{" * 400 + "2" + "}" * 400 + "$",
    r"$1" + ",000" * 5000 + "$",
    "$0." + "123" * 1667 + r"\ldots$",
    r"\boxed{" * 500 + "1" + "}" * 500,
    "$" * 4000,
    r"\boxed{" + "1 + " * 900 + "1}",
    "{" * 2000 + r"\boxed{" + "[" * 2000,
    "$" + "^".join("9" * 12) + "$",
    "$9" + "!" * 60 + "$",
    "$" + r"\sqrt{" * 15 + "2" + "}" * 15 + "^{10^{9}}$",
    "$(" + "+".join(f"x_{i}" for i in range(40)) + ")^{400}$",
    "1," * 2000 + "x",
    "$" + r"\ " * 1500 + "1$",
)
"""Towers of powers, giant factorials, deep nesting, and what makes regular expressions go back and forth."""
