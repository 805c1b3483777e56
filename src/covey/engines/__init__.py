"""Engines: tokens in, tokens out. Each one passes the contracts of tests/contracts."""

from covey.engines.local import LocalEngine

ENGINES = {"local": LocalEngine}

__all__ = ["ENGINES", "LocalEngine"]
