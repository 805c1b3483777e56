"""Numbers as people read them."""

from __future__ import annotations

import math


def figure(value: float | None) -> str:
    """Three significant digits or so, without jumping between notations as a figure drifts."""
    if value is None:
        return "–"
    size = abs(value)
    if not math.isfinite(size):
        return str(value)
    if 0 < size < 0.001:
        return f"{value:.1e}"
    decimals = 3 if size <= 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:,.{decimals}f}"


def duration(seconds: float) -> str:
    """``0.42s``, ``12.3s``, ``4m 12s``, ``3h 05m``, ``2d 07h``."""
    if seconds < 10:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"
