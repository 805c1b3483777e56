"""Covey trains language models with GRPO: real, small, readable, and open to anyone who checks.

import covey
result = covey.train(model="smollm2-135m", task="arithmetic", run="runs/mine", steps=20)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covey.build import Result
    from covey.config import Recipe

__version__ = "0.1.0"
__all__ = ["resume", "train"]


def train(
    recipe: str | Path | Recipe | None = None,
    *,
    run: str | Path,
    model: Any = None,
    task: Any = None,
    reward: Any = None,
    view: str = "auto",
    **sections: Any,
) -> Result:
    """Train a model and return where it is and what it came to.

    recipe: a TOML file or a `Recipe`, or None to say everything here. ``model`` is a name or a
    section; ``task`` and ``reward`` are a name, a section, an object, or, for a reward, a plain
    function with TRL's signature ``f(completions, **columns) -> list[float | None]``. Further
    keywords are keys of the recipe: ``steps=20``, ``rollout={"group_size": 4}``. ``view`` is one
    of auto, live, plain, quiet, json.

    Raises CoveyError for anything the caller can mend.
    """
    # nothing heavy is imported before a run is asked for
    from covey.build.call import train_call

    return train_call(recipe, Path(run), model, task, reward, view, sections)


def resume(
    run: str | Path,
    *,
    steps: int | None = None,
    task: Any = None,
    reward: Any = None,
    view: str = "auto",
) -> Result:
    """Go on with a run that was interrupted or killed, to the very end it would have had.

    steps: train up to so many steps instead; also a finished run. ``task`` and ``reward`` are the
    objects that `train` was given, if it was given objects. Raises CoveyError for anything the
    caller can mend.
    """
    from covey.build.call import resume_call

    return resume_call(Path(run), steps, task, reward, view)
