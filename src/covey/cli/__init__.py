"""The command line: parse, call, print. Commands are imported when they are called."""

from __future__ import annotations

import os
import sys

from cyclopts import App

from covey.types import CoveyError

app = App(
    name="covey",
    help="Train language models with GRPO, on what you own, with a record anyone can check.",
    version="0.1.0",
    help_format="plaintext",  # Markdown, the default, swallows <recipe>, and takes a parser to load
    suppress_keyboard_interrupt=False,  # it would exit with 130 whatever the signal
)
for _name, _target, _help in (
    ("init", "covey.cli.init:init", "Write an own task and reward to start from."),
    ("train", "covey.cli.train:train", "Train a model as a recipe says."),
    ("resume", "covey.cli.resume:resume", "Go on with a run that was interrupted or killed."),
    ("eval", "covey.cli.evaluate:evaluate", "Measure a model on held-out problems."),
    ("verify", "covey.cli.audit:verify", "Recompute a run from its record alone."),
    ("replay", "covey.cli.audit:replay", "Do steps of a run again and compare hashes."),
    ("compare", "covey.cli.audit:compare", "Show in what two runs differ, and what came of it."),
    ("sandbox", "covey.cli.sandbox:sandbox", "Run one untrusted Python file behind walls."),
    ("conformance", "covey.cli.conformance:conformance", "Check losses against a file of golden vectors."),
    ("study", "covey.cli.study:study", "Compare several presets over several seeds."),
    ("plan", "covey.cli.inspect:plan", "Show what a recipe resolves to and will cost; train nothing."),
    ("doctor", "covey.cli.inspect:doctor", "Examine the machine and recompute a batch."),
):
    app.command(_target, name=_name, help=_help)

reward = App(name="reward", help="Try a reward before anything is trained with it.")
reward.command("covey.cli.reward:try_reward", name="test", help="Try it on gold and on degenerate replies.")
app.command(reward)


def main() -> None:
    """Run a command. What the user can mend is one line on stderr and exit code 1. A run that a signal
    ends exits with 128 + its number: 130 for Ctrl-C, 143 for SIGTERM."""
    # Two of torch's threads that spin while a neighbour holds their core wait a time slice at every
    # operation: on a busy laptop a step took ten times as long. Idle, the short spin costs nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "8000")
    try:
        result = app(sys.argv[1:])
    except CoveyError as error:
        print(f"covey: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        sys.exit(getattr(interrupt, "exit_code", 130))
    sys.exit(result if isinstance(result, int) else 0)
