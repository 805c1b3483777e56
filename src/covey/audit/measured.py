"""The evaluations, run again on their recorded tokens, and the summary that follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covey.audit.findings import Check, Place, first_difference
from covey.audit.meaning import Meaning, Meanings, there
from covey.audit.recorded import Record
from covey.audit.sampled import compare_scores, ending
from covey.build import assemble
from covey.config import part_labels
from covey.evals.outcome import outcome
from covey.records import hash_file
from covey.records.numbers import spell
from covey.types import Answer, Completion, Evaluation, Request, StopReason

FREE = ("run", "train_seconds")
"""What the summary says that nothing else in the record implies."""


class RecordedAnswers:
    """A sampler that gives each request the tokens which an evaluation recorded for it."""

    def __init__(self, evaluation: Evaluation, meaning: Meaning) -> None:
        self.meaning = meaning
        self.answers = {
            draw: {answer.problem_id: answer for answer in getattr(evaluation, draw)}
            for draw in ("greedy", "sampled")
        }

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        words = there(self.meaning.words)
        for index, request in enumerate(requests):
            draw = "sampled" if request.sampling.temperature else "greedy"
            answer = self.answers[draw][request.key.problem_id]
            sample, turn = request.key.sample, request.key.turn
            ids, stop = answer.token_ids[sample], answer.stops[sample]
            earlier = answer.earlier[sample] if answer.earlier else ()
            if turn > len(earlier):
                raise IndexError("a conversation goes on where its record ends")
            if turn < len(earlier):
                ids, stop = earlier[turn], StopReason.END
            text = words.chat.text(ids)
            yield index, Completion(ids, None, stop, 0, text)


def measured_checks(record: Record, meanings: Meanings) -> Iterator[Check]:
    """Which evaluations there are, what they answered, and what the summary makes of them."""
    yield taken(record, meanings)
    yield answered(record, meanings)
    yield summarized(record)


def taken(record: Record, meanings: Meanings) -> Check:
    """Evaluations were made when they were due, of the problems held out."""
    check = Check("evaluations", "evaluations when they were due, of the problems held out")
    check.skipped = meanings.without("task")
    if check.skipped:
        return check
    done = len(record.metrics)
    found = [evaluation.step for evaluation in record.evaluations]
    for step in sorted(_due(record, meanings).symmetric_difference(found)):
        if step in found:
            check.fault({"evaluation": step}, "none was due then")
        elif step < done or record.summary is not None:  # the last may have been under way
            check.fault({"evaluation": step}, "it was due and isn't there")
    for evaluation in record.evaluations:
        check.count += 1
        meaning = meanings.at(max(evaluation.step - 1, 0))
        for draw, samples in (("greedy", 1), ("sampled", meaning.recipe.eval.samples)):
            place = {"evaluation": evaluation.step, "draw": draw}
            answers: Sequence[Answer] = getattr(evaluation, draw)
            wanted = [problem.id for problem in meaning.heldout]
            check.same(place, "problems", [answer.problem_id for answer in answers], wanted)
            for answer in answers:
                sizes = {len(answer.scores), len(answer.texts), len(answer.token_ids), len(answer.stops)}
                check.same({**place, "problem": answer.problem_id}, "completions", sorted(sizes), [samples])
    return check


def _due(record: Record, meanings: Meanings) -> set[int]:
    """The numbers of steps after which an evaluation was due: the first, those its recipe asks for
    between, and the last of every recipe that reached its end."""
    done = len(record.metrics)
    due = {0}
    for step in range(1, done + 1):
        recipe = meanings.at(step - 1).recipe
        if step == recipe.steps or (recipe.eval.every and step % recipe.eval.every == 0):
            due.add(step)
    return {step for step in due if meanings.at(max(step - 1, 0)).heldout}


def answered(record: Record, meanings: Meanings) -> Check:
    """The evaluator, given the recorded tokens, reads the same texts and gives the same scores."""
    check = Check("evaluation scores", "held-out completions decoded and graded again")
    check.skipped = meanings.without("task", "reward", "tokenizer")
    for evaluation in () if check.skipped else record.evaluations:
        meaning = meanings.at(max(evaluation.step - 1, 0))
        if (again := _again(check, evaluation, meaning)) is None:
            continue
        for draw in ("greedy", "sampled"):
            for answer, wanted in zip(getattr(evaluation, draw), getattr(again, draw), strict=False):
                _compare(check, {"evaluation": evaluation.step, "draw": draw}, answer, wanted, meaning)
    return check


def _again(check: Check, evaluation: Evaluation, meaning: Meaning) -> Evaluation | None:
    sampler = RecordedAnswers(evaluation, meaning)
    evaluator = assemble.evaluator_of(there(meaning.parts), there(meaning.words), sampler)
    try:
        return None if evaluator is None else evaluator.measure(evaluation.step)
    except (KeyError, IndexError, OverflowError) as error:
        message = f"its answers can't be read again: {type(error).__name__} {error}"
        check.fault({"evaluation": evaluation.step}, message)
        return None


def _compare(check: Check, place: Place, answer: Answer, wanted: Answer, meaning: Meaning) -> None:
    check.same({**place, "problem": answer.problem_id}, "earlier replies", answer.earlier, wanted.earlier)
    for sample in range(len(wanted.texts)):
        at = {**place, "problem": answer.problem_id, "sample": sample}
        check.count += 1
        check.same(at, "text", answer.texts[sample], wanted.texts[sample])
        compare_scores(check, at, answer.scores[sample], wanted.scores[sample])
        ids, stop = answer.token_ids[sample], answer.stops[sample]
        check.same(at, "stop", str(stop), ending(ids, stop, meaning))


def summarized(record: Record) -> Check:
    """Means, intervals and differences of ``summary.json``, from the recorded scores."""
    check = Check("summary", "figures of summary.json recomputed")
    if record.summary is None:
        check.skipped = "the run has no summary.json: it didn't reach its end"
        return check
    place = {"file": "summary.json"}
    labels = part_labels(record.recipes[0][1].task)
    wanted = spell(outcome(record.evaluations, labels))  # of one problem alone, an interval has no end
    wanted["evaluations"] = {str(step): hash_file(path) for step, path in record.layout.evaluations().items()}
    wanted["chain"] = record.chain[-1].get("hash") if record.chain else None
    for name in [n for n in wanted if n not in record.summary]:
        check.fault(place, f"{name} is missing")
    for name, recorded in record.summary.items():
        if name == "steps":
            check.same(place, name, recorded, len(record.metrics))
        elif name not in FREE:
            check.count += 1
            if found := first_difference(recorded, wanted.get(name, "nothing"), name):
                check.differs(place, *found)
    return check
