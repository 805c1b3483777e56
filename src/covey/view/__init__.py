"""Looking at a run. Training tells a :class:`Progress` what happens; all else is read from its record."""

from covey.view.progress import Progress, StepReport
from covey.view.terminal import MODES, make_view

__all__ = ["MODES", "Progress", "StepReport", "make_view"]
