"""``covey resume RUN``."""

from __future__ import annotations

from pathlib import Path

from covey.cli.options import Overrides


def resume(
    run: Path,
    *overrides: Overrides,
    steps: int | None = None,
    changed: bool = False,
    quiet: bool = False,
    json: bool = False,
    plain: bool = False,
) -> None:
    """Go on with a run from its newest good checkpoint, to the very end it would have had.

    Parameters
    ----------
    run
        A run directory.
    overrides
        Keys of the recipe, which are refused unless --changed is given.
    steps
        Train up to so many steps; also a finished run.
    changed
        Go on though the recipe, the data or the model differ: no longer the same run.
    quiet
        Print only the result.
    json
        Print one JSON object a line.
    plain
        One line a step, no live view.
    """
    from covey.build.resume import resume as resume_run
    from covey.view.terminal import make_view

    mode = "json" if json else "quiet" if quiet else "plain" if plain else "auto"
    resume_run(run, steps=steps, overrides=overrides, changed=changed, view=make_view(mode))
