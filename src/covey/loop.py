"""The story: collect groups, learn from them, hand the new weights back.

Everything else is a detail of one of the parts named here. The loop holds no tensor and knows
no room; a test runs it with six fakes.
"""

from __future__ import annotations

from covey.protocols import Engine, Evaluate, Keep, Learner, Recorder, Source, Watch


def reinforce(
    *,
    source: Source,
    learner: Learner,
    engine: Engine,
    recorder: Recorder,
    watch: Watch,
    evaluate: Evaluate,
    keep: Keep,
    steps: int,
    start: int = 0,
) -> None:
    """Run optimizer steps ``start`` to ``steps - 1``.

    What was sampled is recorded before anything is learned from it, and what is watched is recorded
    before it is judged, so that whatever ends a run leaves its cause behind. ``engine.load`` is the
    single arrow that points back.
    """
    weights = learner.weights()
    engine.load(weights)
    watch.loaded(start, weights)
    if start == 0:
        measure(evaluate, recorder, 0)
    for step in range(start, steps):
        groups = source.next(step)
        recorder.groups(step, groups)
        watch.sampled(step, groups)

        update = learner.update(step, groups)
        weights = learner.weights()
        engine.load(weights)
        recorder.update(step, update)
        watch.learned(step, groups, update)
        watch.loaded(step + 1, weights)

        measure(evaluate, recorder, step + 1)
        keep(step + 1)


def measure(evaluate: Evaluate, recorder: Recorder, step: int) -> None:
    """Evaluate the held-out split after ``step`` steps if that is due, and record the result."""
    evaluation = evaluate(step)
    if evaluation is not None:
        recorder.evaluation(evaluation)
