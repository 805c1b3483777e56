"""The live view: a picture of the run that redraws itself in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from covey.view.dashboard import dashboard
from covey.view.progress import History, Progress, StepReport
from covey.view.text import safe
from covey.view.wording import outcome

REDRAWS_PER_SECOND = 2


class LiveView(Progress):
    """Draws the run so far, twice a second, so that the clock shows it is alive."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.history = History()
        self.clock = clock
        self.began = clock()
        self.live = Live(console=console, get_renderable=self.picture, refresh_per_second=REDRAWS_PER_SECOND)

    def picture(self) -> RenderableType:
        size = self.console.size
        return dashboard(self.history, size.width, size.height, self.clock() - self.began)

    def start(self, plan: Mapping[str, Any]) -> None:
        self.history.plan = plan
        self.began = self.clock()
        self.live.start(refresh=True)

    def step(self, report: StepReport) -> None:
        self.history.add(report)
        self.live.refresh()

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        self.history.evaluations.append((step, summary))
        self.live.refresh()

    def message(self, text: str, *, error: bool = False) -> None:
        """Printed above the picture, where it stays."""
        self.console.print(Text(safe(text), style="bold" if error else ""))

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.close()
        for part in outcome(summary):
            self.console.print(Text(safe(part)))

    def close(self) -> None:
        """Leave the last picture where it is and give the terminal back."""
        self.live.stop()
