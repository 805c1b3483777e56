"""The run directory: all that a run leaves behind, and the only thing its readers need.

::

    runs/<name>/manifest.json          written once: recipe, code, packages, machine, seeds, hashes
                attempts/0001.json     when it started, the step it resumed from, why it ended
                rollouts/000000.jsonl  one file a step: what was sampled, its scores, what was trained
                metrics.jsonl          one row a step; equal runs have equal bytes
                chain.jsonl            a hash a step over weights, optimizer, rollouts and the hash before
                checkpoints/000010/    all that is needed to go on after so many steps
                timings.jsonl          wall-clock figures, which no two runs share
                events.jsonl           what happened, over all attempts
                evals/000000.jsonl     held-out answers after so many steps
                summary.json           the result of a run that reached its end

A file of step ``s`` holds the optimizer step with index ``s``, counted from 0 as the loop does; an
evaluation's number is that of completed steps.
"""

from covey.records.atomic import disk_errors, write_atomic
from covey.records.chain import origin
from covey.records.checkpoints import Checkpoints
from covey.records.manifest import code_version, environment, hash_file, hash_tree
from covey.records.reader import RunReader
from covey.records.writer import RunWriter

__all__ = [
    "Checkpoints",
    "RunReader",
    "RunWriter",
    "code_version",
    "disk_errors",
    "environment",
    "hash_file",
    "hash_tree",
    "origin",
    "write_atomic",
]
