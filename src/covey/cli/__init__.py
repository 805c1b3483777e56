"""The command line: parse, call, print. Commands are imported when they are called."""

from __future__ import annotations

import sys

from cyclopts import App

from covey.types import CoveyError

app = App(
    name="covey",
    help="Train language models with GRPO, on what you own, with a record anyone can check.",
    version="0.1.0",
)
for _name, _target, _help in (
    ("train", "covey.cli.train:train", "Train a model as a recipe says."),
    ("eval", "covey.cli.evaluate:evaluate", "Measure a model on held-out problems."),
    ("plan", "covey.cli.inspect:plan", "Show what a recipe resolves to and will cost; train nothing."),
    ("doctor", "covey.cli.inspect:doctor", "Examine the machine and recompute a batch."),
):
    app.command(_target, name=_name, help=_help)


def main() -> None:
    """Run a command. What the user can mend is one line on stderr and exit code 1; Ctrl-C is 130."""
    try:
        result = app()
    except CoveyError as error:
        print(f"covey: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(result if isinstance(result, int) else 0)
