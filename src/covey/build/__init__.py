"""The composition root: recipe in, run out. The only room that knows every other."""

from covey.build.run import Result, train

__all__ = ["Result", "train"]
