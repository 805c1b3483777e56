"""Sentinels: what makes an experiment invalid, found while it runs. One invariant a file.

Each has a page in docs/sentinels.
"""

from covey.sentinels.guard import Guard, Report, Stopped
from covey.sentinels.sentinel import Finding, Level, Sentinel, Setting
from covey.sentinels.table import SENTINELS, Chosen, choose

__all__ = [
    "SENTINELS",
    "Chosen",
    "Finding",
    "Guard",
    "Level",
    "Report",
    "Sentinel",
    "Setting",
    "Stopped",
    "choose",
]
