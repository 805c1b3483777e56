"""The sandbox: untrusted code computes values, and the verdict is made where it can't reach."""

from __future__ import annotations

from covey.sandbox.backends import chosen, describe
from covey.sandbox.calls import call, check, run
from covey.sandbox.outcome import Failure, Limits, Outcome, Value

__all__ = ["Failure", "Limits", "Outcome", "Value", "call", "check", "chosen", "describe", "run"]
