"""``covey reward test REWARD``: does it reward what it should?"""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING

from covey.cli.options import Overrides
from covey.view.text import safe

if TYPE_CHECKING:
    from covey.build.probing import Findings


def try_reward(
    reward: str,
    /,
    *overrides: Overrides,
    data: Path | None = None,
    problems: int = 8,
    full: float | None = None,
    partial: bool = False,
    json: bool = False,
) -> int:
    """Try a reward on gold and on degenerate replies; exit code 1 when it is wrong about one.

    Parameters
    ----------
    reward
        A reward's name, file.py:function, or a recipe, of which the reward is taken.
    overrides
        The reward's parameters, as --reward.tag answer, and other keys of a recipe.
    data
        Problems to try it on: JSON Lines with prompt and answer, and if you like good and bad, replies
        that should and shouldn't get full marks. A few of Covey's own when absent.
    problems
        How many of the data's problems.
    full
        What full marks are; the best that a gold reply gets when absent.
    partial
        It gives partial credit on purpose: a degenerate reply fails at full marks, not at half of them.
        Rewards of Covey's say so themselves.
    json
        Print one JSON object.
    """
    from covey.build.probing import probe_reward

    found = probe_reward(reward, data, overrides, problems, full, partial=partial)
    if json:
        print(jsonlib.dumps(found.as_json()))
    else:
        _print(found)
    return 1 if found.faults else 0


def _print(found: Findings) -> None:
    times = found.milliseconds
    print(f"tried     {found.replies} replies to {found.problems} problems, each twice")
    print(f"time      p50 {times['p50']:g} ms, p95 {times['p95']:g} ms, max {times['max']:g} ms a call")
    accepted = ", ".join(
        form if share == 1 else f"{form} ({share:.0%})" for form, share in found.accepted.items()
    )
    print(
        f"accepts   gold answers as: {safe(accepted) or 'nothing tried here'}; full marks are {found.full:g}"
    )
    for reason, count in list(found.unscored.items())[:3]:
        print(f"unscored  {count} degenerate replies: {safe(reason)}")
    if found.shaping:
        print("note      it shapes and doesn't grade: combine it with a reward that knows the answer")
    if found.partial:
        print(
            "note      it gives partial credit: a degenerate reply fails at full marks, not at half of them"
        )
    if found.partial and found.most:
        print(f"note      {safe(found.most.line())}")
    first = {(fault.what, fault.kind): fault for fault in reversed(found.faults)}
    for key, fault in reversed(first.items()):
        alike = sum((other.what, other.kind) == key for other in found.faults)
        print(f"FAILED    {safe(fault.line())}" + (f", and {alike - 1} like it" if alike > 1 else ""))
    print(f"{len(found.faults)} FAILED; --json shows them all" if found.faults else "ok")
