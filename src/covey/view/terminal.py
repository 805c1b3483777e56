"""Progress in the terminal: live, one line a step, machine-readable, or next to nothing."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from covey.records.files import encode
from covey.records.rows import as_json
from covey.types import CoveyError
from covey.view.figures import duration, figure
from covey.view.live import LiveView
from covey.view.progress import History, Progress, StepReport
from covey.view.text import safe
from covey.view.wording import excluded, health, outcome, told, trained

MODES = ("auto", "live", "plain", "quiet", "json")


def make_view(mode: str = "auto", console: Console | None = None) -> Progress:
    """The viewer for ``mode``. ``auto`` is ``live`` in a terminal and ``plain`` elsewhere.

    ``live`` too is ``plain`` where there is no terminal to draw in. Raises :class:`CoveyError` for
    an unknown mode.
    """
    if mode not in MODES:
        near = difflib.get_close_matches(mode, MODES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise CoveyError(f"unknown view {mode!r}: {hint}The views are {', '.join(MODES)}")
    console = console or Console()
    if isinstance(console.file, io.TextIOWrapper):
        # A character that the terminal's encoding lacks must not end a training run.
        console.file.reconfigure(errors="replace")
    if mode == "json":
        return JsonView(console)
    if mode == "quiet":
        return QuietView(console)
    drawable = console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf")
    return LiveView(console) if drawable and mode != "plain" else PlainView(console)


class QuietView(Progress):
    """Says what needs the user to act, and how it ended."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def message(self, text: str, *, error: bool = False) -> None:
        if error:
            self.line(text)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.line(" · ".join(outcome(summary)))

    def line(self, text: str) -> None:
        """Print exactly one line, however long."""
        self.console.print(Text(safe(text)), soft_wrap=True, highlight=False)


class PlainView(QuietView):
    """One line for each thing that happens: for logs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.history = History()

    def start(self, plan: Mapping[str, Any]) -> None:
        self.line("  ".join(f"{name} {value}" for name, value in plan.items()))

    def step(self, report: StepReport) -> None:
        self.history.add(report)
        groups, left = trained(report), self.history.left()
        parts = [f"step {report.step}/{report.steps}", f"reward {figure(report.metrics.get('reward'))}"]
        parts += [f"{label} {value}" for label, value in health(report)]
        parts += [f"trained {groups} groups"] if groups else []
        parts += [f"{reason} {share}" for reason, share in excluded(report)]
        parts += [f"{figure(report.speed)} tokens/s"] if report.speed is not None else []
        parts += [duration(report.duration)] if report.seconds else []
        parts += [f"{duration(left)} left"] if left else []
        self.line("  ".join(parts))

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        self.line(f"held-out after {step} steps  {told(summary)}")
        for label, part in summary.get("parts", {}).items():
            self.line(f"  {label}  {told(part)}")

    def message(self, text: str, *, error: bool = False) -> None:
        self.line(text)


class JsonView(Progress):
    """One JSON object a line on standard output; ``event`` says which call it is."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def start(self, plan: Mapping[str, Any]) -> None:
        self.write("start", {"plan": plan})

    def step(self, report: StepReport) -> None:
        fields = ("step", "steps", "metrics", "seconds", "excluded")
        self.write("step", {name: getattr(report, name) for name in fields})

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        self.write("evaluation", {"step": step, "summary": summary})

    def message(self, text: str, *, error: bool = False) -> None:
        self.write("message", {"text": text, "error": error})

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.write("finish", {"summary": summary})

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        self.console.file.write(encode(as_json({"event": event, **fields})).decode())
        self.console.file.flush()
